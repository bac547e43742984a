"""The ledger: which archived file (id) lies where.

File rows are written under an *unpublished* pack (``draft``), invisible to every reader here, until one update of
that pack publishes them.  Ids are contiguous in a pack (``pack.first_id`` + position) and come from ``counter``.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
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
from .batch import BATCH, batches, spelled
from .counter import is_id
from .entry import PACK, queue
from .errors import Gone, NotFound

SOUND, DAMAGED = 1, 2  # a verdict; None is: not yet checked

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
    # Pack.id by value: a foreign key would cost a look-up for each of 100,000 rows.  Not indexed: the ids of a pack's
    # files lie between its first_id and count, so who wants them asks for that range.
    pack = BigIntegerField()
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


class Vouched(NamedTuple):
    """What is known of a published file's content, and whose it is; ``owner`` is the pack's."""

    id: int
    owner: str
    transaction: int | None
    size: int
    hashtype: str
    hashsum: str
    verdict: int | None


def locate_rows(ids: Iterable[int]) -> Iterator[tuple[Any, ...]]:
    """Yield one tuple in ``Located``'s order for each published file of ``ids``, in no promised order, each once.

    Unknown, deleted and unpublished ids are left out.  One query for each 10,000 ids: 100,000 are no burden.
    """
    return _rows_of(ids, _LOCATED)


def owners(ids: Iterable[int]) -> Iterator[tuple[int, str, int | None]]:
    """Yield (id, owner of the pack, transaction) for each published file of ``ids``, as ``locate_rows`` does."""
    return _rows_of(ids, 'f.id, p.owner, f."transaction"')


def vouched(ids: Iterable[int]) -> dict[int, Vouched]:
    """Return what is known of the published files of ``ids``, by id: half of what ``locate`` costs."""
    columns = 'f.id, p.owner, f."transaction", f."size", f.hashtype, f.hashsum, f.verdict'
    return {row[0]: Vouched._make(row) for row in _rows_of(ids, columns)}


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


def overlapping(pack: str, start: int, stop: int) -> list[int]:
    """Return the ids of the files that hold any byte of ``start`` to ``stop`` of the pack named ``pack``."""
    sql = (
        "SELECT f.id FROM pack p JOIN archivedfile f ON f.id >= p.first_id AND f.id < p.first_id + p.count"
        ' AND f.pack = p.id WHERE p.name = ? AND f."offset" < ? AND f."offset" + f."size" > ? ORDER BY f."offset"'
    )
    return [row[0] for row in orm.rows(sql, pack, stop, start)]


_LOCATED = (
    'f.id, p.name, f."offset", f."size", f.header, f.hashtype, f.hashsum, f.mtime, f.subdir, f.name, p.owner,'
    ' f."transaction", f.mimetype, f.ctime, f.verdict, p.kind'
)


def delete_file(id: int, who: str, reason: str = "") -> None:
    """Take file ``id`` out of the ledger and leave a tombstone; its bytes stay until their pack is compacted.

    Gone when that was done before, NotFound when there is no such file.
    """
    with orm.transaction():
        lock(id)
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
        if ArchivedFile.update(transaction=transaction, **columns).where(free).execute():
            attached += 1
            queue(PACK, orm.rows("SELECT pack FROM archivedfile WHERE id = ?", row["id"])[0][0])
    return attached


def mark(ids: Iterable[int], verdict: int) -> None:
    """Note that the files ``ids`` were checked now and found SOUND or DAMAGED."""
    with orm.transaction():
        for batch in batches(ids, 500):
            ArchivedFile.update(verdict=verdict, checked=orm.now()).where(ArchivedFile.id.in_(batch)).execute()


def mark_damaged(id: int) -> None:
    """Note that the bytes of file ``id`` are no longer what they were."""
    mark((id,), DAMAGED)


def _rows_of(ids: Iterable[int], columns: str) -> Iterator[Any]:
    """Yield ``columns`` of the published files f, with their packs p, of ``ids``."""
    distinct = sorted(set(filter(is_id, ids)))  # in order: a third quicker, since neighbours share pages
    for batch in batches(distinct, BATCH):
        if orm.is_postgres():
            yield from orm.rows(_KNOWN_POSTGRES.format(columns), spelled(batch), batch[0], batch[-1])
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


def lock(id: int) -> bool:
    """Keep others from changing the row of file ``id`` until the transaction ends; return whether there is one."""
    return bool(orm.execute("UPDATE archivedfile SET checked = checked WHERE id = ?", id))


MODELS = (Pack, ArchivedFile, Tombstone)
