"""Resumable uploads: opened with a length, filled by any number of requests, finished as a job (docs/ingest.md).

The offset is the size of the file, read after an fsync, so that record and bytes cannot disagree.  Each request takes
the upload over by raising its ``attempt``; what an older one still holds is never written.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

from ..common import orm
from ..common.auth import Principal
from ..common.errors import ChecksumMismatch, Conflict, Gone, IllegalMove, NotFound, ServiceError
from ..common.integrity import Integrity
from ..common.outbox import ring
from ..common.spool import READ
from ..common.state import RING_SECONDS
from ..common.streams import Body
from ..common.volume import BLOCK, Volume, new_name
from .allowance import allow
from .config import Ingest
from .idempotency import Claim
from .ids import given, job_id
from .orm import Job, State, Task, Upload, UploadState
from .part import Part, lay

log = logging.getLogger(__name__)

RENEW_SECONDS = 60.0  # a long request puts the expiry off no more often
BATCH = 100  # rows of one pass

_GONE = {
    UploadState.EXPIRED: "This upload has expired.",
    UploadState.TERMINATED: "This upload was terminated.",
    UploadState.FAILED: "The bytes of this upload were lost; send it again.",
}


class Preempted(Conflict):
    """A newer request for this upload has taken over."""

    code = "preempted"
    retryable = True


class DiskFailed(ServiceError):
    """The disk could not keep what it was given."""

    code = "disk_failed"


def create(
    owner: str, length: int, metadata: str, volume: Volume, settings: Ingest, claim: Claim, trace: str | None = None
) -> Upload:
    """Open an upload of ``length`` bytes and keep room for it; the one that ``claim`` stands for, where it does.

    NoSpace when there is no such room, TooMuchUnfinished when its owner has too much already.
    """
    if claim.same is not None:
        return find(claim.same, None)
    name = new_name()
    with volume.reserve(length), orm.transaction():
        allow(owner, length, settings.max_unfinished_bytes)
        upload = Upload.start(
            id=name,
            spool=name,
            state=UploadState.OPENED,
            owner=owner,
            trace=trace,
            length=length,
            metadata=metadata,
            deadline=orm.clock() + settings.tus_expire_seconds,
        )
        claim.begin(name)
    try:
        lay(volume.spool / name, length, volume)  # after the row, so that no file is there without its row
    except ServiceError:
        upload.move(UploadState.TERMINATED, deadline=None, spool=None, reason="no room")
        raise
    claim.keep(name)
    return upload


def find(id: str, principal: Principal | None) -> Upload:
    """Return the upload; NotFound when it is not the ``principal``'s (None: whoever asks), Gone when it has ended."""
    upload: Upload | None = Upload.get_or_none(Upload.id == id)
    if upload is None or (principal is not None and not principal.owns(upload.owner)):
        raise NotFound("There is no such upload.")
    if upload.state in _GONE:
        raise Gone(_GONE[upload.state])
    return upload


@contextmanager
def taken_over(upload: Upload, volume: Volume, settings: Ingest, late: bool = False) -> Iterator["Receiver"]:
    """Take an OPENED upload over for a block: from now on nobody else writes to it, until a newer request does so.

    What turns out to be complete is finished.  Preempted when a newer request came, Gone when the upload has ended;
    with ``late``, Preempted as well when its deadline has not passed.
    """
    here = (Upload.id == upload.id) & (Upload.state == UploadState.OPENED)
    changes: dict[Any, Any] = {Upload.attempt: Upload.attempt + 1, Upload.updated: orm.now()}
    if late:
        here &= Upload.deadline < orm.now()
    else:
        changes[Upload.deadline] = orm.now() + settings.tus_expire_seconds
    taken = list(Upload.update(changes).where(here).returning(Upload).execute())
    if not taken:
        upload = find(upload.id, None)  # raises where it has ended
        if upload.state == UploadState.OPENED:
            raise Preempted()
        yield Receiver(upload, None, settings)
        return
    upload = taken[0]
    with _named():
        part = Part(volume.spool / upload.spool, upload.heed)
        try:
            receiver = Receiver(upload, part, settings)
            receiver.settle()
            yield receiver
        except OSError as error:  # clients' and databases' have names of their own
            upload.fail(DiskFailed(), deadline=None)
            clear(upload, volume)
            raise DiskFailed() from error
        finally:
            part.close()


class Receiver:
    """The one request that an upload belongs to.  ``part`` is None of a FINISHED upload."""

    def __init__(self, upload: Upload, part: Part | None, settings: Ingest) -> None:
        self.upload, self._part, self._settings = upload, part, settings
        self.offset = upload.length  # bytes that are on disk
        self._renew_at = time.monotonic() + min(RENEW_SECONDS, settings.tus_expire_seconds / 4)

    def settle(self) -> None:
        """Learn the offset: drop what was never proven, put the rest on disk, finish what is complete."""
        assert self._part is not None
        if self.upload.unproven_from is not None:
            self._drop(self.upload.unproven_from)
        self.offset = self._part.settle()
        self._finish_if_complete()

    def append(self, body: Body, sent: Integrity, volume: Volume) -> None:
        """Append ``body``, as much of it as comes; finish the upload when that was the last of it.

        ChecksumMismatch when the bytes are not those that were ``sent``: then none of them counts.  With nothing
        declared, all that came before a failure counts.
        """
        if self._part is None:
            return
        start = self.offset
        if sent:
            self.upload.progress(unproven_from=start)
        missing = self._part.missing_room(self.upload.length)
        try:
            with volume.reserve(missing) if missing else nullcontext():  # kept room is ours below the watermark too
                self._fill(body, sent)
        finally:
            self._part.sync()
            self.offset = self._part.size
        if sent:
            try:
                sent.check()
            except ChecksumMismatch:
                self._drop(start)
                raise
            self.upload.progress(unproven_from=None)
        self._finish_if_complete()

    def _fill(self, body: Body, sent: Integrity) -> None:
        assert self._part is not None
        block = memoryview(bytearray(min(BLOCK, self.upload.length - self.offset + 1)))
        ended = False
        while not ended:
            count, got, asked = 0, READ, READ
            try:
                while got == asked and count < len(block):  # a short read: nothing more is here, so write what is
                    asked = min(READ, len(block) - count)
                    got = body.readinto(block[count : count + asked])
                    count, ended = count + got, not got
            finally:  # what came before the client went away counts as well
                if count:
                    sent.update(block[:count])
                    self._part.append(block[:count])
            self._renew()

    def _drop(self, size: int) -> None:
        assert self._part is not None
        self._part.cut(size, self.upload.length)
        self.upload.progress(unproven_from=None)
        self.offset = size

    def _renew(self) -> None:
        if time.monotonic() >= self._renew_at:
            self._renew_at = time.monotonic() + min(RENEW_SECONDS, self._settings.tus_expire_seconds / 4)
            self.upload.progress(deadline=orm.now() + self._settings.tus_expire_seconds)

    def _finish_if_complete(self) -> None:
        if self.offset == self.upload.length and self.upload.state == UploadState.OPENED:
            finish(self.upload)


def finish(upload: Upload) -> None:
    """Make a job of an upload whose bytes are all on disk; IllegalMove when another was faster."""
    number = job_id()
    with orm.transaction():
        job = Job.start(
            id=given("upload_job", number),
            state=State.RECEIVED,
            reason=f"upload {upload.id}",
            owner=upload.owner,
            trace=upload.trace,
            spool=upload.spool,
            bytes_done=upload.length,
            bytes_total=upload.length,
            task=Task.UPLOADING,
            task_percent=100.0,
            ring_at=orm.clock() + RING_SECONDS,
        )
        upload.move(UploadState.FINISHED, job=job.id, spool=None, deadline=None)
        ring("pacifica.ingest", "pacifica.ingest.ingest", job.id, job.attempt)


def terminate(upload: Upload, volume: Volume) -> None:
    """End an OPENED upload and give its room back; Conflict when it is a job by now."""
    while upload.state == UploadState.OPENED:
        try:
            upload.move(UploadState.TERMINATED, deadline=None)
        except IllegalMove:  # a request has taken it over meanwhile, or ended it
            upload = find(upload.id, None)
        else:
            clear(upload, volume)
    if upload.state == UploadState.FINISHED:
        raise Conflict("This upload is finished: what it became is a job.", job_id=upload.job)


def expire(volume: Volume, settings: Ingest) -> int:
    """End the uploads that nobody went on with; what is complete becomes a job all the same.

    Removes as well what uploads that have ended left on disk when their server died.
    """
    ended = 0
    late = (Upload.state == UploadState.OPENED) & (Upload.deadline < orm.now())
    for upload in list(Upload.select().where(late).limit(BATCH)):
        try:
            with taken_over(upload, volume, settings, late=True) as receiver:
                if receiver.upload.state == UploadState.OPENED:
                    receiver.upload.move(UploadState.EXPIRED, deadline=None)
        except Preempted:
            continue  # it went on after all
        except Gone:  # it has no file any more, or has just ended
            with suppress(IllegalMove):
                Upload.get_by_id(upload.id).move(UploadState.EXPIRED, deadline=None)
        ended += 1
    left = Upload.spool.is_null(False) & Upload.state.in_(list(_GONE))
    for upload in list(Upload.select().where(left).limit(BATCH)):
        clear(upload, volume)
    return ended


def clear(upload: Upload, volume: Volume) -> None:
    """Remove the file of an upload that has ended; its name goes last, so that a pass that was killed is made again."""
    if upload.spool is not None:
        (volume.spool / upload.spool).unlink(missing_ok=True)
        upload.progress(spool=None)


def forget(days: float) -> int:
    """Remove the rows of uploads that ended ``days`` ago."""
    old = Upload.state.in_(list(Upload.FINAL)) & Upload.spool.is_null() & (Upload.updated < orm.now() - days * 86400)
    found = [id for (id,) in Upload.select(Upload.id).where(old).limit(BATCH).tuples()]
    return int(Upload.delete().where(Upload.id.in_(found)).execute()) if found else 0


@contextmanager
def _named() -> Iterator[None]:
    """Name what IllegalMove means here."""
    try:
        yield
    except IllegalMove as error:
        raise Preempted() from error
