"""A posted bundle: from the request's body to a durable, scanned file in the spool.

Nothing here belongs to a worker and nothing reads a whole body into memory.  Every way out leaves either a job in
RECEIVED with its bytes on disk, or a job in FAILED that says why and no bytes (docs/architecture.md).
"""

import logging
import math
import time
from contextlib import suppress

from ..common import orm
from ..common.errors import Cancelled, ClientAborted, DatabaseAway, IllegalMove, ServiceError
from ..common.integrity import Integrity
from ..common.outbox import ring
from ..common.spool import receive
from ..common.state import RING_SECONDS
from ..common.streams import Body
from ..common.volume import BLOCK, Reservation, Volume, new_name
from .allowance import ahead, allow, beyond
from .bundle import BundleError, Limits, Scanner
from .config import Ingest
from .idempotency import Claim
from .ids import job_id
from .index import Index
from .orm import Job, State, Task, open_job
from .spooled import Spooled

log = logging.getLogger(__name__)

PROGRESS_SECONDS = 1.0  # the row is touched no more often while a body arrives


def take(
    body: Body,
    owner: str,
    volume: Volume,
    settings: Ingest,
    trace: str | None = None,
    sent: Integrity | None = None,
    claim: Claim | None = None,
) -> Job:
    """Receive ``body`` as a new job of ``owner`` and return the job: RECEIVED, or FAILED for a fault in the bundle.

    Bytes that are not what the client ``sent`` fail the job and raise ChecksumMismatch.  Where ``claim`` stands for an
    earlier request of the same body, the job is that one's, and the body is read only to make sure (KeyReused).
    Raises ServiceError when the fault is not the bundle's (ClientAborted, TooLarge, NoSpace, DatabaseAway); its detail
    names the job, which is then FAILED.  Of what is refused before the first byte there is none.
    """
    sent, claim = sent or Integrity(), claim or Claim()
    if claim.same is not None:
        return Job.get_by_id(int(claim.same))
    if claim.unsure:
        return Job.get_by_id(int(claim.compare(_content(body, sent, settings))))
    with volume.reserve(body.length) as reservation:
        number = job_id()  # not in the transaction: uniqueid takes its time, and SQLite has one writer
        with orm.transaction():
            allow(owner, body.length, settings.max_unfinished_bytes)
            job = open_job(owner, new_name(), body.length, settings.idle_seconds, trace, number)
            claim.begin(job.id)
        spooled = Spooled(volume, job.spool)
        try:
            _receive(body, job, spooled, settings, reservation, sent, claim)
        except BundleError as error:
            _refuse(job, spooled, error, claim)
        except ServiceError as error:
            error.detail.setdefault("job_id", job.id)
            _refuse(job, spooled, error)
            raise
    return job


def abandon(job_id: int) -> None:
    """Fail a job whose request died with its server, for the same request has come again."""
    job = Job.get_or_none((Job.id == job_id) & (Job.state == State.RECEIVING))
    if job is not None:
        with suppress(IllegalMove):  # the reaper was faster
            job.failed(ClientAborted("The upload was sent again.", job_id=job_id))


def _receive(
    body: Body, job: Job, spooled: Spooled, settings: Ingest, room: Reservation, sent: Integrity, claim: Claim
) -> None:
    judge = _Judge(body, settings, sent)
    received = receive(body.readinto, spooled.path, judge.feed, on_progress=_Progress(job, settings, room))
    index = judge.close()
    spooled.save(index, received.blocks)
    with orm.transaction():
        job.move(
            State.RECEIVED,
            task=Task.UPLOADING,
            task_percent=100.0,
            bytes_done=received.size,
            bytes_total=received.size,
            files_total=index.count,
            deadline=None,
            ring_at=orm.now() + RING_SECONDS,
        )
        if claim.given:
            claim.keep(job.id, index.fingerprint())
        ring("pacifica.ingest", "pacifica.ingest.ingest", job.id, job.attempt)


def _refuse(job: Job, spooled: Spooled, error: ServiceError, claim: Claim | None = None) -> None:
    """Fail the job for what the client did or the world did to its body; its bytes are of no use either way.

    Cancelled when somebody ended the job while its body arrived.
    """
    log.info("job %s refused: %s", job.id, error)
    if isinstance(error, IllegalMove):
        ended = Job.get_by_id(job.id)
        if ended.state in Job.FINAL:
            spooled.discard()
        raise Cancelled(ended.exception or error.message, job_id=job.id) from error
    with orm.transaction():
        if job.state != State.FAILED:
            job.failed(error)
        if claim is not None:
            claim.keep(job.id, error.code)
    with suppress(OSError):  # what a broken disk does not let go the reaper removes
        spooled.discard()  # last: if the job cannot be failed, it may have been committed, and the bytes are owed


def _content(body: Body, sent: Integrity, settings: Ingest) -> str:
    """Read a body without keeping it; return what tells its content: the members' fingerprint, or why it has none."""
    judge = _Judge(body, settings, sent)
    block, count = memoryview(bytearray(BLOCK)), -1
    try:
        while count:
            count = body.readinto(block)
            judge.feed(block[:count])
        return judge.close().fingerprint()
    except BundleError as error:
        return error.code


class _Judge:
    """Scans the body and holds it to what was declared of it.

    A body with a declared digest is read on behind a fault: bytes that were damaged on their way break rules too, and
    that is then what the client has to hear.
    """

    def __init__(self, body: Body, settings: Ingest, sent: Integrity) -> None:
        self._scanner = Scanner(Limits.of(settings), settings.hashtype, length=body.length)
        self._sent = sent
        self._fault: BundleError | None = None

    def feed(self, view: memoryview) -> None:
        """Take the next bytes."""
        self._sent.update(view)
        if self._fault is None:
            try:
                self._scanner.feed(view)
            except BundleError as error:
                if not self._sent:
                    raise
                self._fault = error

    def close(self) -> Index:
        """Return the index, or raise ChecksumMismatch before any BundleError."""
        self._sent.check()
        if self._fault is not None:
            raise self._fault
        return self._scanner.close()


class _Progress:
    """Writes how far the body has come into the job's row, at most once a second, and so defers its deadline.

    A body in chunks asks for room, of what its owner may have, before it takes it; for the disk's asks ``room`` itself.
    """

    def __init__(self, job: Job, settings: Ingest, room: Reservation) -> None:
        self.job, self.idle_seconds, self.room = job, settings.idle_seconds, room
        self.most, self.ahead = settings.max_unfinished_bytes, ahead(settings.max_unfinished_bytes)
        self.allowed = math.inf if job.bytes_total is not None else self.ahead
        self.next = time.monotonic() + PROGRESS_SECONDS

    def __call__(self, received: int) -> None:
        self.room.written(received)
        if time.monotonic() < self.next and received + BLOCK <= self.allowed:
            return
        self.next = time.monotonic() + PROGRESS_SECONDS
        if self.job.bytes_total is None:
            self.allowed = received + max(self.ahead, BLOCK)
        try:
            self._write(received)
        except DatabaseAway as error:  # a body under way outlives a database restart; the last move decides
            log.warning("job %s: progress not recorded: %s", self.job.id, error)

    def _write(self, received: int) -> None:
        total = self.job.bytes_total
        percent = min(99.99999, 100.0 * received / total) if total else 0.0
        with orm.transaction():
            self.job.step(Task.UPLOADING, percent, bytes_done=received, deadline=orm.now() + self.idle_seconds)
            excess = beyond(self.job.owner, self.most) if total is None else None
            if excess is not None:
                self.job.failed(excess)  # in this commit, so that the next who asks has the room
        if excess is not None:
            raise excess
