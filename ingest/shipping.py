"""A bundle's files sent to a remote archive, one by one, each read back; ``recall`` where their job did not succeed.

What is at the archive on a job's behalf stands in ``Shipped`` before the first byte is sent: whoever comes after a
crash knows it.  The files are listed here under an unpublished pack of kind ``remote``, visible with the job's last
move.  Of a job that failed and may be retried, those that were found sound stay for a while (docs/ingest.md#retry).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ..common import orm
from ..common.batch import batches
from ..common.errors import ArchiveUnavailable, IllegalMove, ServiceError
from ..common.interface import Incoming
from ..common.remote import RemoteArchive
from .account import shown
from .config import Settings
from .declared import Bundle
from .orm import Job
from .recall import watch
from .shipment import SENDING, SOUND, TAKING_BACK, TO_DELETE, WATCHED, Shipped, archive_of

BATCH = 50  # files that are announced in one commit


def ship(job: Job, bundle: Bundle, path: Path, settings: Settings) -> None:
    """Send the files of ``bundle``, at ``path``, that no earlier attempt has brought there.

    Raises ArchiveUnavailable when the archive cannot be had or does not keep what it is sent.
    """
    archive = archive_of(settings)
    _require_settled(job)
    sound = {row.id for row in Shipped.select().where((Shipped.job == job.id) & (Shipped.state == SOUND))}
    done = len(sound)
    with path.open("rb", buffering=0) as file:
        for batch in batches((row for row in bundle.rows(job.first_id) if row[0] not in sound), BATCH):
            _announce(job, [row[0] for row in batch])
            begun: list[int] = []
            sent: list[int] = []
            try:
                for row in batch:
                    job.heed()
                    begun.append(row[0])
                    _send(archive, file, row, job.owner)
                    sent.append(row[0])
            finally:  # what is sound need not be sent again, whatever became of the next one
                done += len(sent)
                try:
                    _found_sound(job, sent, done)
                except IllegalMove:  # the job was ended, or is another's, and what was sent perhaps deleted before
                    watch(job, begun)
                    raise


def settle(job: Job) -> None:
    """Forget what was sent: it is the archive's now; in the transaction of the job's last move."""
    Shipped.delete().where((Shipped.job == job.id) & (Shipped.state != WATCHED)).execute()


def doubt(job: Job) -> None:
    """Let the next attempt send every file, also those that were found sound; in the transaction that retries."""
    Shipped.update(state=SENDING).where((Shipped.job == job.id) & (Shipped.state == SOUND)).execute()


def withdraw(job: Job) -> None:
    """Have everything deleted that was sent: the job gets another bundle; in the transaction that gives it."""
    Shipped.update(state=TAKING_BACK).where(Shipped.job == job.id).execute()


def spared(job: Job) -> int:
    """Count the files of ``job`` that need not be sent again."""
    return int(Shipped.select().where((Shipped.job == job.id) & (Shipped.state == SOUND)).count())


def _require_settled(job: Job) -> None:
    if Shipped.select().where((Shipped.job == job.id) & Shipped.state.in_(TO_DELETE)).exists():
        raise ArchiveUnavailable("What an earlier attempt has sent is still being taken back.")


def _announce(job: Job, ids: list[int]) -> None:
    with orm.transaction():
        job.fence()
        Shipped.delete().where(Shipped.id.in_(ids)).execute()
        orm.insert_rows(Shipped, ("id", "job", "attempt", "state"), [(id, job.id, job.attempt, SENDING) for id in ids])


def _found_sound(job: Job, ids: list[int], done: int) -> None:
    with orm.transaction():
        job.fence()
        Shipped.update(state=SOUND).where(Shipped.id.in_(ids)).execute()
    if ids:
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
