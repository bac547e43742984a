"""A bundle's files sent to a remote archive, one by one, each read back; taken back when their job did not succeed.

What is at the archive on a job's behalf stands in ``Shipped`` before the first byte is sent: whoever comes after a
crash knows it.  The files are listed here under an unpublished pack of kind ``remote``, visible with the job's last
move.  Of a job that failed and may be retried, those that were found sound stay for a while (docs/ingest.md#retry).
"""

import logging
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from ..common import orm
from ..common.archive import is_remote
from ..common.batch import batches
from ..common.errors import ArchiveUnavailable, ServiceError
from ..common.interface import Incoming
from ..common.remote import RemoteArchive
from .config import Settings
from .declared import Bundle
from .fault import shown
from .orm import Job, State
from .registry import DUTY_SECONDS, may_be_there
from .shipment import SENDING, SOUND, TAKING_BACK, Shipped

log = logging.getLogger(__name__)

BATCH = 50  # files that are announced in one commit
REST_SECONDS = 10.0
LISTED_SECONDS = 60.0


def ship(job: Job, bundle: Bundle, path: Path, settings: Settings) -> None:
    """Send the files of ``bundle``, at ``path``, that no earlier attempt has brought there.

    Raises ArchiveUnavailable when the archive cannot be had or does not keep what it is sent.
    """
    archive = _archive(settings)
    _require_settled(job)
    sound = {row.id for row in Shipped.select().where((Shipped.job == job.id) & (Shipped.state == SOUND))}
    done = len(sound)
    with path.open("rb", buffering=0) as file:
        for batch in batches((row for row in bundle.rows(job.first_id) if row[0] not in sound), BATCH):
            _announce(job, [row[0] for row in batch])
            sent: list[int] = []
            try:
                for row in batch:
                    job.heed()
                    _send(archive, file, row, job.owner)
                    sent.append(row[0])
            finally:  # what is sound need not be sent again, whatever became of the next one
                done += len(sent)
                _found_sound(job, sent, done)


def settle(job: Job) -> None:
    """Forget what was sent: it is the archive's now; in the transaction of the job's last move."""
    Shipped.delete().where(Shipped.job == job.id).execute()


def doubt(job: Job) -> None:
    """Let the next attempt send every file, also those that were found sound; in the transaction that retries."""
    Shipped.update(state=SENDING).where((Shipped.job == job.id) & (Shipped.state == SOUND)).execute()


def withdraw(job: Job) -> None:
    """Have everything deleted that was sent: the job gets another bundle; in the transaction that gives it."""
    Shipped.update(state=TAKING_BACK).where(Shipped.job == job.id).execute()


def spared(job: Job) -> int:
    """Count the files of ``job`` that need not be sent again."""
    return int(Shipped.select().where((Shipped.job == job.id) & (Shipped.state == SOUND)).count())


def take_back(settings: Settings) -> int:
    """Delete from the archive what jobs that failed or were cancelled have left there; the sweeper's duty.

    At once, but for what is sound of a job that may be retried: that stays for ``[ingest] keep_sent_hours``.
    """
    if not is_remote(settings.archiveinterface.url) or time.monotonic() < _rest.until:
        return 0
    taken = 0
    owes = _owner(Shipped.state == TAKING_BACK)
    owes |= (_given_up(settings) & _owner(Shipped.state == SOUND)) | (_OVER & _owner(Shipped.state == SENDING))
    for job in list(Job.select().where(owes & Job.id.not_in(_rest.listed())).limit(BATCH)):
        try:
            taken += _take_back(job, settings)
        except ServiceError as error:  # it is away, and the sweeper has other duties
            log.warning("job %s: files remain in the archive for now: %s", job.id, error)
            _rest.until = time.monotonic() + REST_SECONDS
            break
    return taken


_OVER = Job.state.in_([State.FAILED, State.CANCELLED])


def _given_up(settings: Settings) -> Any:
    """Tell of a job whether nothing that was sent for it is of use to a retry any more."""
    late = Job.updated < orm.now() - settings.ingest.keep_sent_hours * 3600
    return (Job.state == State.CANCELLED) | (
        (Job.state == State.FAILED) & (late | Job.spool.is_null() | Job.keep_until.is_null(False))
    )


def _owner(test: Any) -> Any:
    return Job.id.in_(Shipped.select(Shipped.job).where(test).distinct())


class _Rest:
    """Until when this process leaves alone an archive that did not answer, and jobs that the catalogue lists."""

    def __init__(self) -> None:
        self.until = 0.0
        self.jobs: dict[int, float] = {}

    def listed(self) -> list[int]:
        """Return the jobs whose files have to stay for now."""
        self.jobs = {job: until for job, until in self.jobs.items() if until > time.monotonic()}
        return list(self.jobs)


_rest = _Rest()


def _take_back(job: Job, settings: Settings) -> int:
    mine = Shipped.job == job.id
    if may_be_there(job.id, settings):
        log.error("job %s failed, but the metadata service lists it: its files stay; `retry` completes it", job.id)
        _rest.jobs[job.id] = time.monotonic() + LISTED_SECONDS
        return 0
    with orm.transaction():
        held = Job.select().where((Job.id == job.id) & _OVER)
        if list(held.for_update() if orm.is_postgres() else held):
            given_up = Job.select().where((Job.id == job.id) & _given_up(settings)).exists()
            of_no_use = mine if given_up else mine & (Shipped.state == SENDING)
            Shipped.update(state=TAKING_BACK).where(of_no_use).execute()  # from now on no retry sends them
    archive, taken = _archive(settings), 0
    for row in list(Shipped.select().where(mine & (Shipped.state == TAKING_BACK)).limit(BATCH)):
        archive.discard(row.id, DUTY_SECONDS)
        Shipped.delete().where((Shipped.id == row.id) & (Shipped.state == TAKING_BACK)).execute()
        taken += 1
    return taken


def _require_settled(job: Job) -> None:
    if Shipped.select().where((Shipped.job == job.id) & (Shipped.state == TAKING_BACK)).exists():
        raise ArchiveUnavailable("What an earlier attempt has sent is still being taken back.")


def _announce(job: Job, ids: list[int]) -> None:
    with orm.transaction():
        job.fence()
        Shipped.delete().where(Shipped.id.in_(ids)).execute()
        orm.insert_rows(Shipped, ("id", "job", "attempt", "state"), [(id, job.id, job.attempt, SENDING) for id in ids])


def _found_sound(job: Job, ids: list[int], done: int) -> None:
    if ids:
        with orm.transaction():
            job.fence()
            Shipped.update(state=SOUND).where(Shipped.id.in_(ids)).execute()
        job.progress(files_done=done)


def _send(archive: RemoteArchive, file: BinaryIO, row: tuple[Any, ...], owner: str) -> None:
    id, offset, size, _, hashtype, hashsum, subdir, name, *_, mtime = row

    def put(_: float | None) -> None:
        left = size
        file.seek(offset)

        def fill(view: memoryview) -> int:
            nonlocal left
            count = file.readinto(view[:left])  # type: ignore[attr-defined]
            left -= count
            return int(count)

        incoming = Incoming(fill=fill, length=size, mtime=mtime, owner=owner, hashtype=hashtype, hashsum=hashsum)
        archive.put(id, incoming)

    try:
        archive.neighbour.again(put)
    except ServiceError as error:
        error.detail.setdefault("file", shown(f"data/{subdir}/{name}" if subdir else f"data/{name}"))
        raise


def elsewhere(rows: Iterator[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """Yield ledger rows that name no place in a pack."""
    for id, _, size, _, *rest in rows:
        yield (id, 0, size, 0, *rest)


@lru_cache(maxsize=8)
def _archive(settings: Settings) -> RemoteArchive:
    return RemoteArchive(settings.archiveinterface.url, settings.neighbours)
