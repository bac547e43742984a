"""A bundle's files sent to a remote archive, one by one, each read back; taken back when their job did not succeed.

What is at the archive on a job's behalf stands in ``Shipped`` before the first byte is sent: whoever comes after a
crash knows it.  The files are listed here under an unpublished pack of kind ``remote``, visible with the job's last
move.
"""

import logging
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from ..common import orm
from ..common.archive import is_remote
from ..common.errors import ArchiveUnavailable, ServiceError
from ..common.interface import Incoming
from ..common.ledger import batches
from ..common.remote import RemoteArchive
from .config import Settings
from .declared import Bundle
from .orm import Job, State
from .registry import DUTY_SECONDS, may_be_there
from .shipment import SENDING, SOUND, TAKING_BACK, Shipped

log = logging.getLogger(__name__)

BATCH = 50  # files that are announced in one commit
REST_SECONDS = 10.0


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
            for row in batch:
                job.heed()
                _send(archive, file, row, job.owner)
            done += len(batch)
            with orm.transaction():
                job.fence()
                Shipped.update(state=SOUND).where(Shipped.id.in_([row[0] for row in batch])).execute()
            job.progress(files_done=done)


def settle(job: Job) -> None:
    """Forget what was sent: it is the archive's now; in the transaction of the job's last move."""
    Shipped.delete().where(Shipped.job == job.id).execute()


def take_back(settings: Settings) -> int:
    """Delete from the archive what jobs that failed or were cancelled have left there; the sweeper's duty."""
    if not is_remote(settings.archiveinterface.url) or time.monotonic() < _rest.until:
        return 0
    taken = 0
    over = Job.state.in_([State.FAILED, State.CANCELLED])
    left = Job.id.in_(Shipped.select(Shipped.job).distinct())
    pending = Job.id.in_(Shipped.select(Shipped.job).where(Shipped.state == TAKING_BACK).distinct())
    for job in list(Job.select().where((over & left) | pending).limit(BATCH)):
        try:
            taken += _take_back(job, settings)
        except ServiceError as error:  # it is away, and the sweeper has other duties
            log.warning("job %s: files remain in the archive for now: %s", job.id, error)
            _rest.until = time.monotonic() + REST_SECONDS
            break
    return taken


class _Rest:
    """Until when this process leaves an archive alone that did not answer."""

    until = 0.0


_rest = _Rest()


def _take_back(job: Job, settings: Settings) -> int:
    mine = Shipped.job == job.id
    if may_be_there(job.id, settings):
        log.error("job %s failed, but the metadata service lists it: its files stay; `retry` completes it", job.id)
        return 0
    with orm.transaction():
        held = Job.select().where((Job.id == job.id) & Job.state.in_([State.FAILED, State.CANCELLED]))
        if list(held.for_update() if orm.is_postgres() else held):
            Shipped.update(state=TAKING_BACK).where(mine).execute()  # from now on no retry sends them
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


def _send(archive: RemoteArchive, file: BinaryIO, row: tuple[Any, ...], owner: str) -> None:
    id, offset, size, _, hashtype, hashsum, *_, mtime = row

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

    archive.neighbour.again(put)


def elsewhere(rows: Iterator[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """Yield ledger rows that name no place in a pack."""
    for id, _, size, _, *rest in rows:
        yield (id, 0, size, 0, *rest)


@lru_cache(maxsize=8)
def _archive(settings: Settings) -> RemoteArchive:
    return RemoteArchive(settings.archiveinterface.url, settings.neighbours)
