"""The ledger: which archived file (id) lies where, in rows that appear all at once.

File rows are written in batches under an *unpublished* pack, invisible to every reader here; one update of that pack
publishes them.  Ids are contiguous in a pack (``pack.first_id`` + position) and come from ``Counter``.
"""

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from peewee import (
    BigIntegerField,
    BooleanField,
    CharField,
    DoubleField,
    IntegerField,
    SmallIntegerField,
    TextField,
)

from . import orm
from .errors import Gone, IllegalMove, NotFound, ServiceError
from .pack import Sidecar, discard
from .spool import Received
from .volume import Volume, keep, new_name

log = logging.getLogger(__name__)

SOUND, DAMAGED = 1, 2  # a verdict; None is: not yet checked
BATCH = 10_000  # rows of one transaction, ids of one query: SQLite's only writer is never held for long

# What one file row of add_files holds, in this order; pack and transaction are the ledger's to know.
ARCHIVED_FILE_COLUMNS = (
    "id",
    "offset",
    "size",
    "header",
    "hashtype",
    "hashsum",
    "subdir",
    "name",
    "mimetype",
    "ctime",
    "mtime",
)


class Pack(orm.Model):
    """One file of the volume.  ``job`` is also the transaction of its files (null: archived outside of any job)."""

    name = CharField(max_length=32, unique=True)
    kind = CharField(max_length=10)  # bundle, file; remote: its bytes are in another archive
    job = BigIntegerField(null=True, index=True)
    attempt = IntegerField(default=0)
    first_id = BigIntegerField()
    count = BigIntegerField()
    size = BigIntegerField()
    published = BooleanField(default=False)
    created = DoubleField()
    owner = TextField(default="")

    class Meta:
        indexes = ((("kind", "first_id"), False),)


class ArchivedFile(orm.Model):
    """One archived file: bytes ``offset`` to ``offset + size`` of its pack."""

    id = BigIntegerField(primary_key=True)
    pack = BigIntegerField(index=True)  # Pack.id by value: a foreign key would cost a look-up for each of 100,000 rows
    transaction = BigIntegerField(null=True, index=True)
    offset = BigIntegerField()
    size = BigIntegerField()
    header = IntegerField(default=0)  # bytes of tar header directly before offset that belong to this member
    hashtype = CharField(max_length=20)
    hashsum = TextField()
    subdir = TextField(default="")
    name = TextField(default="")
    mimetype = TextField(default="application/octet-stream")
    ctime = DoubleField()
    mtime = DoubleField()
    verdict = SmallIntegerField(null=True)
    checked = DoubleField(null=True)


class Counter(orm.Model):
    """The next id of each mode (``file``, ``upload_job``, ...)."""

    mode = CharField(max_length=64, primary_key=True)
    next = BigIntegerField()


class Tombstone(orm.Model):
    """What is left of a deleted file: who took it away, when and why."""

    id = BigIntegerField(primary_key=True)
    at = DoubleField()
    who = TextField()
    reason = TextField(default="")
    pack = TextField()
    size = BigIntegerField()
    hashtype = CharField(max_length=20)
    hashsum = TextField()


class Located(NamedTuple):
    """Where a published file lies, and what is known of it; ``pack`` is the pack's name, ``owner`` the pack's."""

    id: int
    pack: str
    offset: int
    size: int
    header: int
    hashtype: str
    hashsum: str
    mtime: float
    subdir: str
    name: str
    owner: str
    transaction: int | None
    mimetype: str
    ctime: float
    verdict: int | None
    kind: str


# ---- ids -----------------------------------------------------------------------------------------------------------


def allocate(mode: str, count: int = 1) -> int:
    """Take ``count`` consecutive ids of ``mode`` and return the first; the very first is 1, and none comes twice.

    Inside a caller's transaction the counter stays locked until that ends, so keep it short.
    """
    if count < 1:
        raise ValueError("at least one id has to be taken")
    with orm.transaction():
        return int(orm.rows(_TAKE, mode, count, count)[0][0])


_TAKE = (
    'INSERT INTO counter (mode, "next") VALUES (?, 1 + CAST(? AS BIGINT)) ON CONFLICT (mode) '
    'DO UPDATE SET "next" = counter."next" + excluded."next" - 1 RETURNING "next" - CAST(? AS BIGINT)'
)


def reserve_beyond(mode: str, id: int) -> None:
    """See to it that ``allocate`` never gives ``id``, which somebody else chose; inside the caller's transaction.

    The counter stays locked until that ends, so whoever allocates and drafts a pack in one transaction is seen by it.
    """
    orm.execute(_BEYOND, mode, id + 1)


_BEYOND = (
    'INSERT INTO counter (mode, "next") VALUES (?, ?) ON CONFLICT (mode) DO UPDATE SET "next" = '
    'CASE WHEN counter."next" < excluded."next" THEN excluded."next" ELSE counter."next" END'
)


# ---- look-up -------------------------------------------------------------------------------------------------------


def locate_rows(ids: Iterable[int]) -> Iterator[tuple[Any, ...]]:
    """Yield one tuple in ``Located``'s order for each published file of ``ids``, in no promised order, each once.

    Unknown, deleted and unpublished ids are left out.  One query for each 10,000 ids: 100,000 are no burden.
    """
    return _rows_of(ids, _LOCATED)


def owners(ids: Iterable[int]) -> Iterator[tuple[int, str, int | None]]:
    """Yield (id, owner of the pack, transaction) for each published file of ``ids``, as ``locate_rows`` does."""
    return _rows_of(ids, 'f.id, p.owner, f."transaction"')


def locate(ids: Iterable[int]) -> dict[int, Located]:
    """Return the published files of ``ids`` by id, in the order of ``ids``; what is not there is left out."""
    wanted = list(ids)
    found = {row[0]: Located._make(row) for row in locate_rows(wanted)}
    return {id: found[id] for id in wanted if id in found}


def find(id: int) -> Located:
    """Return where file ``id`` lies; Gone when it was deleted, NotFound when it never was or is not published yet."""
    for row in locate_rows((id,)):
        return Located._make(row)
    if is_id(id) and orm.rows("SELECT id FROM tombstone WHERE id = ?", id):
        raise Gone("this file was deleted", id=id)
    raise NotFound("there is no such file", id=id)


def is_id(number: int) -> bool:
    """Tell whether ``number`` can be an id at all: positive, 63 bits."""
    return 0 < number < 1 << 63


def overlapping(pack: str, start: int, stop: int) -> list[int]:
    """Return the ids of the files that hold any byte of ``start`` to ``stop`` of the pack named ``pack``."""
    sql = (
        'SELECT f.id FROM archivedfile f JOIN pack p ON p.id = f.pack WHERE p.name = ? AND f."offset" < ?'
        ' AND f."offset" + f."size" > ? ORDER BY f."offset"'
    )
    return [row[0] for row in orm.rows(sql, pack, stop, start)]


_LOCATED = (
    'f.id, p.name, f."offset", f."size", f.header, f.hashtype, f.hashsum, f.mtime, f.subdir, f.name, p.owner,'
    ' f."transaction", f.mimetype, f.ctime, f.verdict, p.kind'
)


# ---- a pack, from draft to published -------------------------------------------------------------------------------


def begin_pack(
    name: str, kind: str, job: int | None, attempt: int, first_id: int, count: int, size: int, owner: str
) -> Pack:
    """Draft a pack: an unpublished row for add_files to fill.

    File rows that an older attempt of ``job`` (or this attempt, under this name) left behind are deleted first; the
    older attempt's pack row stays when its name is another, so that the reaper finds its bytes (``abandon``).
    IllegalMove when a newer attempt is at work or the job's pack is published already.
    """
    older = list(Pack.select().where((Pack.job == job) if job is not None else (Pack.name == name)))
    if any(pack.published or pack.attempt > attempt for pack in older):
        raise IllegalMove("another attempt archives this job", job=job)
    for pack in older:
        if pack.name == name or pack.attempt < attempt:
            _empty(pack)
    with orm.transaction():
        Pack.delete().where((Pack.name == name) & ~Pack.published).execute()
        facts = {"name": name, "kind": kind, "job": job, "attempt": attempt, "owner": owner}
        id = Pack.insert(**facts, first_id=first_id, count=count, size=size, created=orm.now()).execute()
        draft: Pack = Pack.get_by_id(id)
    return draft


def add_files(pack: Pack, rows: Iterable[Sequence[Any]], fence: Callable[[], None]) -> int:
    """Write file rows (``ARCHIVED_FILE_COLUMNS``) under the unpublished ``pack`` and return how many.

    Each 10,000 are one transaction, which ``fence`` opens: what it raises (a stale attempt) stops the writing, and
    the rows written so far stay, invisible, for the next attempt or the reaper to delete.
    """
    columns = ("pack", "transaction", *ARCHIVED_FILE_COLUMNS)
    head = (pack.id, pack.job)
    written = 0
    for batch in batches(rows, BATCH):
        with orm.transaction():
            fence()
            written += orm.insert_rows(ArchivedFile, columns, [(*head, *row) for row in batch])
    return written


def publish(pack: Pack) -> None:
    """Make ``pack`` and its files visible, at the commit of the caller's transaction.

    IllegalMove when another did it, when the draft is gone, or when its rows are not as many as it declares.
    """
    held = orm.rows("SELECT count(*) FROM archivedfile WHERE pack = ?", pack.id)[0][0]
    if held != pack.count:
        raise IllegalMove("the pack's rows are not complete", held=held, count=pack.count)
    if not Pack.update(published=True).where((Pack.id == pack.id) & ~Pack.published).execute():
        raise IllegalMove("another worker published or dropped the pack first", job=pack.job)
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


def drop_unpublished(job: int, volume: Volume | None = None) -> int:
    """Abandon every unpublished pack of ``job`` and return how many; safe to repeat."""
    drafts = list(Pack.select().where((Pack.job == job) & ~Pack.published))
    for pack in drafts:
        abandon(pack, volume)
    return len(drafts)


def orphans(older_than_seconds: float) -> list[Pack]:
    """Return the unpublished packs of no job that nobody can still be at work on, for ``abandon``."""
    old = Pack.created < orm.now() - older_than_seconds
    return list(Pack.select().where(Pack.job.is_null() & ~Pack.published & old))


# ---- single files --------------------------------------------------------------------------------------------------


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
) -> Pack:
    """Archive the file ``spooled`` (as ``receive`` left it) under ``id``, in a pack of its own, and return that.

    An older holder of the id loses its row to the new pack in one commit; its bytes stay where they are.  A tombstone
    of the id is lifted.  On failure nothing is left; IllegalMove while an unfinished job holds the id.
    """
    pack = begin_pack(new_name(), "file", job, attempt, id, 1, received.size, owner)
    ctime = mtime if ctime is None else ctime
    row = (id, 0, received.size, 0, hashtype, hashsum, subdir, name, mimetype, ctime, mtime)
    try:
        Sidecar.of(pack, received.blocks, extra=dict(zip(ARCHIVED_FILE_COLUMNS, row, strict=True))).write(volume)
        keep(spooled, volume.pack_path(pack.name))
        with orm.transaction():
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


def delete_file(id: int, who: str, reason: str = "") -> None:
    """Take file ``id`` out of the ledger and leave a tombstone; its bytes stay until their pack is compacted.

    Gone when that was done before, NotFound when there is no such file.
    """
    with orm.transaction():
        _lock(id)
        held = find(id)
        orm.execute("DELETE FROM archivedfile WHERE id = ?", id)
        facts = {"pack": held.pack, "size": held.size, "hashtype": held.hashtype, "hashsum": held.hashsum}
        Tombstone.insert(id=id, at=orm.now(), who=who, reason=reason, **facts).execute()


def attach(transaction: int, rows: Iterable[Mapping[str, Any]]) -> int:
    """Give published files that belong to no transaction to ``transaction``; inside the caller's transaction.

    Each row has the file's ``id`` and the columns that change.  Returns how many there were.
    """
    attached = 0
    for row in rows:
        columns = {name: value for name, value in row.items() if name != "id"}
        free = (ArchivedFile.id == row["id"]) & ArchivedFile.transaction.is_null()
        attached += ArchivedFile.update(transaction=transaction, **columns).where(free).execute()
    return attached


def mark(ids: Iterable[int], verdict: int) -> None:
    """Note that the files ``ids`` were checked now and found SOUND or DAMAGED."""
    with orm.transaction():
        for batch in batches(ids, 500):
            ArchivedFile.update(verdict=verdict, checked=orm.now()).where(ArchivedFile.id.in_(batch)).execute()


def mark_damaged(id: int) -> None:
    """Note that the bytes of file ``id`` are no longer what they were."""
    mark((id,), DAMAGED)


def windows(first: str, page: str, key: int) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the rows of ``page`` by windows of 10,000 ids, skipping gaps; for rows whose ids lie close together.

    ``first`` takes (key, least id) and answers the first id from there on, or null; ``page`` takes (key, first id, id
    after the last one).  Pages by ORDER BY and LIMIT would cost PostgreSQL a sort of all rows that are left, each time;
    and both write ``+ 0`` where its planner, which takes all rows of a new table for few, would choose a worse index.
    """
    at = 0
    while (found := orm.rows(first, key, at)[0][0]) is not None:
        at, rows = found, None
        while rows is None or rows:
            rows = orm.rows(page, key, at, at + BATCH)
            at += BATCH
            if rows:
                yield rows


def batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Cut ``items`` into lists of ``size``, the last one shorter."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def _rows_of(ids: Iterable[int], columns: str) -> Iterator[Any]:
    """Yield ``columns`` of the published files f, with their packs p, of ``ids``."""
    distinct = sorted(set(filter(is_id, ids)))  # in order: a third quicker, since neighbours share pages
    for batch in batches(distinct, BATCH):
        if orm.is_postgres():
            yield from orm.rows(_KNOWN_POSTGRES.format(columns), batch, batch[0], batch[-1])
        else:
            yield from orm.rows(_KNOWN_SQLITE.format(columns), json.dumps(batch))


# SQLite keeps to the order of a CROSS JOIN.  PostgreSQL would read the whole table for 10,000 ids, were it not told
# that they lie in a range.
_KNOWN_SQLITE = (
    "SELECT {} FROM json_each(?) AS w CROSS JOIN archivedfile f ON f.id = w.value CROSS JOIN pack p ON p.id = f.pack"
    " WHERE p.published"
)
_KNOWN_POSTGRES = (
    "SELECT {} FROM unnest(CAST(? AS BIGINT[])) AS w (value) JOIN archivedfile f ON f.id = w.value"
    " JOIN pack p ON p.id = f.pack WHERE p.published AND f.id BETWEEN ? AND ?"
)


def _refuse_promised(id: int) -> None:
    """Raise IllegalMove when ``id`` was given to a job that is still at work, whether its row is written yet or not."""
    sql = "SELECT first_id + count, published FROM pack WHERE kind = ? AND first_id <= ? ORDER BY first_id DESC LIMIT 1"
    for kind in ("bundle", "remote"):
        for end, published in orm.rows(sql, kind, id):
            if id < end and not published:
                raise IllegalMove("an unfinished job holds this id", id=id)


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
        if _lock(row[0]):
            if not orm.execute(update, *values, row[0]):
                raise IllegalMove("an unfinished job holds this id", id=row[0])
            break
    orm.execute("DELETE FROM tombstone WHERE id = ?", row[0])


_TAKEN = {"transaction": 'COALESCE(?, "transaction")'}


def _lock(id: int) -> bool:
    """Keep others from changing the row of file ``id`` until the transaction ends; return whether there is one."""
    return bool(orm.execute("UPDATE archivedfile SET checked = checked WHERE id = ?", id))


def _empty(pack: Pack) -> None:
    """Delete the file rows of an unpublished ``pack``, in short transactions."""
    sql = (
        "DELETE FROM archivedfile WHERE id IN (SELECT f.id FROM archivedfile f JOIN pack p ON p.id = f.pack"
        " WHERE p.id = ? AND NOT p.published LIMIT ?)"
    )
    deleted = BATCH
    while deleted == BATCH:
        with orm.transaction():
            deleted = orm.execute(sql, pack.id, BATCH)


MODELS = (Pack, ArchivedFile, Counter, Tombstone)
