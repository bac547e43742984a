"""A pack, from draft to published: file rows are written in batches that nobody sees, and appear all at once."""

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from . import orm, statement
from .batch import BATCH
from .counter import reserve_beyond
from .entry import PACK, queue
from .errors import IllegalMove, ServiceError
from .ledger import ARCHIVED_FILE_COLUMNS, ArchivedFile, Pack, lock
from .pack import discard
from .sidecar import Sidecar
from .spool import Received
from .volume import Volume, keep, new_name

BATCH_POSTGRES = 50_000  # rows of one transaction: there nobody else waits, and each commit does, for the disk

log = logging.getLogger(__name__)


def begin_pack(
    name: str, kind: str, job: int | None, attempt: int, first_id: int, count: int, size: int, owner: str
) -> Pack:
    """Draft a pack: an unpublished row for add_files to fill.

    File rows that an older attempt of ``job`` (or this attempt, under this name) left behind are deleted first; the
    older attempt's pack row stays when its name is another, so that the reaper finds its bytes (``abandon``).
    IllegalMove when a newer attempt is at work or the job's pack is published already.
    """
    column, value = ("job", job) if job is not None else ("name", name)
    older = statement.select(Pack, f"{column} = ?", value)
    if any(pack.published or pack.attempt > attempt for pack in older):
        raise IllegalMove("another attempt archives this job", job=job)
    for pack in older:
        if pack.name == name or pack.attempt < attempt:
            _empty(pack)
    facts = {"name": name, "kind": kind, "job": job, "attempt": attempt, "owner": owner}
    with orm.transaction():
        if older:
            orm.execute("DELETE FROM pack WHERE name = ? AND NOT published", name)
        facts |= {"first_id": first_id, "count": count, "size": size, "created": orm.now()}
        return statement.insert(Pack, facts)


def add_files(pack: Pack, rows: Iterable[Sequence[Any]], fence: Callable[[], None]) -> int:
    """Write file rows (``ARCHIVED_FILE_COLUMNS``) under the unpublished ``pack`` and return how many.

    Each batch is one transaction, which ``fence`` opens: what it raises (a stale attempt) stops the writing, and the
    rows written so far stay, invisible, for the next attempt or the reaper to delete.
    """
    columns = ("pack", "transaction", *ARCHIVED_FILE_COLUMNS)
    head, rest = (pack.id, pack.job), iter(rows)
    size = BATCH_POSTGRES if orm.is_postgres() else BATCH
    written, batch = 0, size
    while batch == size:
        with orm.transaction():
            fence()
            # as they are made, so that PostgreSQL is at work meanwhile
            batch = orm.insert_rows(ArchivedFile, columns, ((*head, *row) for row in islice(rest, size)))
        written += batch
    return written


def publish(pack: Pack, held: int | None = None) -> None:
    """Make ``pack`` and its files visible, at the commit of the caller's transaction.

    ``held`` is how many rows that has written for it, where it has written them all.  IllegalMove when another did it,
    when the draft is gone, or when its rows are not as many as it declares.
    """
    if held is None:
        where = "id >= ? AND id < ? AND pack = ?"
        held = orm.rows(f"SELECT count(*) FROM archivedfile WHERE {where}", *_ids(pack), pack.id)[0][0]
    if held != pack.count:
        raise IllegalMove("the pack's rows are not complete", held=held, count=pack.count)
    if not orm.execute("UPDATE pack SET published = ? WHERE id = ? AND NOT published", True, pack.id):
        raise IllegalMove("another worker published or dropped the pack first", job=pack.job)
    queue(PACK, pack.id)
    pack.published = True


def abandon(pack: Pack, volume: Volume | None = None) -> None:
    """Take back an unpublished ``pack``: its file rows, its bytes and sidecar on ``volume`` (if given), its row last.

    Killed in between, the row remains and a second call ends what the first began.  IllegalMove when it is published.
    """
    if orm.rows("SELECT id FROM pack WHERE id = ? AND published", pack.id):
        raise IllegalMove("a published pack is not abandoned", job=pack.job)
    _empty(pack)
    if volume is not None:
        discard(volume, pack.name)
    orm.execute("DELETE FROM pack WHERE id = ? AND NOT published", pack.id)


def drop_unpublished(jobs: Collection[int], volume: Volume | None = None) -> int:
    """Abandon every unpublished pack of ``jobs`` and return how many; safe to repeat."""
    drafts = list(Pack.select().where(Pack.job.in_(jobs) & ~Pack.published))
    for pack in drafts:
        abandon(pack, volume)
    return len(drafts)


def orphans(older_than_seconds: float) -> list[Pack]:
    """Return the unpublished packs of no job that nobody can still be at work on, for ``abandon``."""
    old = Pack.created < orm.now() - older_than_seconds
    return list(Pack.select().where(Pack.job.is_null() & ~Pack.published & old))


def put_file(
    volume: Volume,
    spooled: Path,
    received: Received,
    id: int,
    *,
    hashtype: str,
    hashsum: str,
    mtime: float,
    ctime: float | None = None,
    subdir: str = "",
    name: str = "",
    mimetype: str = "application/octet-stream",
    owner: str = "",
    job: int | None = None,
    attempt: int = 0,
    fence: Callable[[], None] | None = None,
) -> Pack:
    """Archive the file ``spooled`` (as ``receive`` left it) under ``id``, in a pack of its own, and return that.

    An older holder of the id loses its row to the new pack in one commit; its bytes stay where they are.  A tombstone
    of the id is lifted.  ``fence`` opens that commit: what it raises (a stale attempt) is a failure.  On failure
    nothing is left; IllegalMove while an unfinished job holds the id.
    """
    pack = begin_pack(new_name(), "file", job, attempt, id, 1, received.size, owner)
    ctime = mtime if ctime is None else ctime
    row = (id, 0, received.size, 0, hashtype, hashsum, subdir, name, mimetype, ctime, mtime)
    try:
        Sidecar.of(pack, received.blocks, extra=dict(zip(ARCHIVED_FILE_COLUMNS, row, strict=True))).write(volume)
        keep(spooled, volume.pack_path(pack.name))
        with orm.transaction():
            if fence is not None:
                fence()
            reserve_beyond("file", id)
            _refuse_promised(id)
            hold(pack, row)
            publish(pack)
    except Exception:
        try:
            abandon(pack, volume)
        except ServiceError as error:  # the first failure is the one to tell; orphans() finds what is left
            log.warning("pack %s waits for the reaper: %s", pack.name, error)
        raise
    return pack


def hold(pack: Pack, row: Sequence[Any]) -> None:
    """Give the id in ``row`` to ``pack``, from whichever published pack had it; inside the caller's transaction."""
    columns = ("pack", "transaction", *ARCHIVED_FILE_COLUMNS)
    names = ", ".join(f'"{name}"' for name in columns)
    # a file keeps its transaction when a put that belongs to none supersedes it
    taken = ", ".join(f'"{name}" = {_TAKEN.get(name, "?")}' for name in columns)
    insert = f"INSERT INTO archivedfile ({names}) VALUES ({', '.join('?' * len(columns))}) ON CONFLICT (id) DO NOTHING"
    # a statement of its own, behind the lock: PostgreSQL would otherwise judge the holder by an older snapshot
    update = (
        f"UPDATE archivedfile SET {taken}, verdict = NULL, checked = NULL"
        " WHERE id = ? AND EXISTS (SELECT 1 FROM pack WHERE pack.id = archivedfile.pack AND pack.published)"
    )
    values = (pack.id, pack.job, *row)
    while not orm.execute(insert, *values):
        if lock(row[0]):
            if not orm.execute(update, *values, row[0]):
                raise IllegalMove("an unfinished job holds this id", id=row[0])
            break
    orm.execute("DELETE FROM tombstone WHERE id = ?", row[0])


_TAKEN = {"transaction": 'COALESCE(?, "transaction")'}


def _refuse_promised(id: int) -> None:
    """Raise IllegalMove when ``id`` was given to a job that is still at work, whether its row is written yet or not."""
    sql = "SELECT first_id + count, published FROM pack WHERE kind = ? AND first_id <= ? ORDER BY first_id DESC LIMIT 1"
    for kind in ("bundle", "remote"):
        for end, published in orm.rows(sql, kind, id):
            if id < end and not published:
                raise IllegalMove("an unfinished job holds this id", id=id)


def _empty(pack: Pack) -> None:
    """Delete the file rows of an unpublished ``pack``, in short transactions."""
    sql = (
        "DELETE FROM archivedfile WHERE id >= ? AND id < ? AND pack = ?"
        " AND EXISTS (SELECT 1 FROM pack WHERE pack.id = archivedfile.pack AND NOT pack.published)"
    )
    first, last = _ids(pack)
    for start in range(first, last, BATCH):
        with orm.transaction():
            orm.execute(sql, start, min(start + BATCH, last), pack.id)


def _ids(pack: Pack) -> tuple[int, int]:
    """Return the first id that a file of ``pack`` can have, and the one behind the last."""
    return pack.first_id, pack.first_id + pack.count
