"""Searches of the catalogue: datasets, transactions and files that have all that is asked, the newest first.

The index says where to look; what is told was held against the rows.  A page ends where its cursor says, whatever
comes or goes meanwhile, and after a bounded amount of work: it may hold less than was asked for and not be the last.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ..common import orm
from ..common.catalog import Reader, readable
from ..common.fulltext import matching
from ..common.moment import zulu
from ..common.words import words
from . import conditions, wording
from .conditions import Where
from .criteria import DATASET, FILE, MOST, TOP, TRANSACTION, Criteria

WORK = 50_000  # rows looked at for one page, about
RANGE = 20  # rows that a range of ids without any is worth
RUNS = 200  # ranges asked for at once
TOLD = 100  # key-values of a transaction, names of a dataset's files, in one answer

Thing = dict[str, Any]


class Found(NamedTuple):
    """Some things, and the cursor of the page behind them; None where there is none."""

    things: list[Thing]
    next: str | None


class _Page:
    """A page in the making, and the work that may still be done for it."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.things: list[Thing] = []
        self.work = WORK

    @property
    def room(self) -> int:
        """How many things more it takes; none when enough was looked at."""
        return self.limit - len(self.things) if self.work > 0 else 0


def search(asked: Criteria, reader: Reader) -> Found:
    """Return a page of what ``reader`` may see of what is ``asked``."""
    page = _Page(asked.limit)
    kinds = list(asked.kinds)
    below = TOP
    if asked.begin is not None:
        kinds = [kind for kind in kinds if _RANK[kind] >= _RANK[asked.begin[0]]]
        below = asked.begin[1] if kinds and kinds[0] == asked.begin[0] else TOP
    for kind in kinds:
        if not page.room:
            return Found(page.things, f"{kind}-{below}")
        left = _SEARCHES[kind](asked, reader, below, page)
        if left is not None:
            return Found(page.things, f"{kind}-{left}")
        below = TOP
    return Found(page.things, None)


# ---- datasets ------------------------------------------------------------------------------------------------------


def _datasets(asked: Criteria, reader: Reader, below: int, page: _Page) -> int | None:
    where = Where()
    where.add("d.version > 0")
    if not (reader.administrator or reader.service):
        where.add("d.owner = ?", reader.name)
    if asked.submitter is not None:
        where.add("d.owner = ?", asked.submitter)
    if asked.loi is not None:
        where.add("d.loi LIKE ?", f"%{asked.loi}%")  # of a LOI's letters, which mean nothing to LIKE
    conditions.between(where, "d.stored", asked)
    if asked.words or asked.beginnings:
        sql, value = matching(asked.words, asked.beginnings)
        where.add(f"d.id IN (SELECT subject FROM entry WHERE kind = 'dataset' AND id IN ({sql}))", value)
    for key, wanted in (*asked.pairs, *conditions.of_manifest(asked)):
        said, values = conditions.saying(key, wanted)
        where.add(f"EXISTS (SELECT 1 FROM datasetkeyvalue k WHERE k.dataset = d.id AND {said})", *values)
    holds = conditions.dataset_file(asked)
    if holds.tests:
        where.add(f"EXISTS (SELECT 1 FROM datasetfile x WHERE x.dataset = d.id AND {holds})", *holds.values)
    if asked.hashsum is not None:
        where.add("d.id IN (SELECT -place FROM contentdigest WHERE prefix = ? AND place < 0)", conditions.prefix(asked))
    columns = 'd.id, d.loi, d.owner, d.version, d.files, d."size", d.stored'

    def tell(row: tuple[Any, ...]) -> Thing | None:
        id, loi, owner, version, files, size, stored = row
        if not _heard(asked, id, page):
            return None
        told = {"kind": DATASET, "loi": loi, "owner": owner, "version": version, "files": files, "bytes": size}
        if holds.tests:
            sql = f"SELECT subdir, name FROM datasetfile x WHERE x.dataset = ? AND {holds} ORDER BY id LIMIT ?"
            told["matches"] = ["/".join(filter(None, row)) for row in orm.rows(sql, id, *holds.values, TOLD)]
        sql = "SELECT key, value FROM datasetkeyvalue WHERE dataset = ? ORDER BY id LIMIT ?"
        said = [{"key": key, "value": value} for key, value in orm.rows(sql, id, TOLD)]
        return told | {"key_values": said, "stored": zulu(stored)}

    return _walk(f"SELECT {columns} FROM dataset d WHERE {where} AND d.id < ? ORDER BY d.id DESC LIMIT ?",
                 where.values, below, page, tell)  # fmt: skip


def _heard(asked: Criteria, dataset: int, page: _Page) -> bool:
    """Tell whether the words asked for are said of a dataset, or of it and one of its files together."""
    if not (asked.words or asked.beginnings):
        return True
    heads = orm.rows("SELECT head FROM entry WHERE kind = 'dataset' AND subject = ? LIMIT 1", dataset)
    head = set(words(heads[0][0])) if heads else set()
    if asked.hears(head):
        return True
    names = orm.rows("SELECT subdir, name FROM datasetfile WHERE dataset = ?", dataset)
    page.work -= len(names)
    return any(asked.hears(head.union(words(f"{subdir}\n{name}"))) for subdir, name in names)


# ---- transactions --------------------------------------------------------------------------------------------------


def _transactions(asked: Criteria, reader: Reader, below: int, page: _Page) -> int | None:
    where = conditions.transaction(asked)
    sql, values = readable(reader)
    where.add(sql, *values)
    conditions.between(where, "t.created", asked)
    for key, value in asked.pairs:
        said, said_values = conditions.saying(key, value)
        where.add(
            f't.id IN (SELECT k."transaction" FROM transactionkeyvalue k WHERE substr(k.key, 1, 100) = ? AND {said})',
            *(key[:100], *said_values),
        )
    if asked.words or asked.beginnings:
        sql, value = matching(asked.words, asked.beginnings)
        where.add(f"t.id IN (SELECT subject FROM entry WHERE kind = 'transaction' AND id IN ({sql}))", value)
    columns = "t.id, t.owner, t.submitter, t.project, t.instrument, t.created, t.extra"

    def tell(row: tuple[Any, ...]) -> Thing | None:
        id, owner, submitter, project, instrument, created, extra = row
        if (asked.words or asked.beginnings) and not asked.hears(wording.of_transactions([id]).get(id, set())):
            return None
        sql = 'SELECT key, value FROM transactionkeyvalue WHERE "transaction" = ? ORDER BY id LIMIT ?'
        said = [{"key": key, "value": value} for key, value in orm.rows(sql, id, TOLD)]
        about = {"submitter": submitter, "project": project, "instrument": instrument, "extra": json.loads(extra)}
        who = {"kind": TRANSACTION, "transaction": id, "owner": owner}
        return {**who, **about, "key_values": said, "created": zulu(created)}

    return _walk(f'SELECT {columns} FROM "transaction" t WHERE {where} AND t.id < ? ORDER BY t.id DESC LIMIT ?',
                 where.values, below, page, tell)  # fmt: skip


# ---- files ---------------------------------------------------------------------------------------------------------


def _files(asked: Criteria, reader: Reader, below: int, page: _Page) -> int | None:
    where = conditions.file(asked, reader)
    hears = _Hearing(asked)
    for first, last in _places(asked, reader, below):
        while page.room and (low := min(below, last + 1)) > first:
            most = MOST if hears.anything else page.room
            rows = orm.rows(_FILES.format(where), *where.values, first, low, most)
            for row, is_heard in zip(rows, hears(rows), strict=True):
                if not page.room:
                    return below
                page.work -= 1
                below = int(row[0])
                if is_heard:
                    page.things.append(_told(row))
            if len(rows) < most:
                below = min(below, first)
        page.work -= RANGE
        if not page.room:
            return below
    return None


class _Hearing:
    """Whether the words that are asked for are said of files, or of a file and its transaction together."""

    def __init__(self, asked: Criteria) -> None:
        self.asked = asked
        self.anything = bool(asked.words or asked.beginnings)
        self._about: dict[int, set[str]] = {}

    def __call__(self, rows: list[tuple[Any, ...]]) -> list[bool]:
        """Tell it of each of ``rows``, which stand from the highest id down."""
        if not rows or not self.anything:
            return [True] * len(rows)
        self._about |= wording.of_transactions({row[1] for row in rows if row[1] is not None} - self._about.keys())
        said = wording.of_files(rows[-1][0], rows[0][0])
        return [self._is_heard(row, said.get(row[0], "")) for row in rows]

    def _is_heard(self, row: tuple[Any, ...], said: str) -> bool:
        about = self._about.get(row[1], set())
        text = f"{row[2]}\n{row[3]}\n{said}"
        if text.isascii():
            lower = text.lower()
            if any(word not in lower for word in self.asked.words - about):
                return False  # as most are: to cut them into words is ten times the work
        return self.asked.hears(about.union(words(text)))


_FILES = (
    'SELECT f.id, f."transaction", f.subdir, f.name, f."size", f.mimetype, f.hashtype, f.hashsum, f.mtime, p.created,'
    " t.submitter, t.project, t.instrument FROM archivedfile f JOIN pack p ON p.id = f.pack"
    ' LEFT JOIN "transaction" t ON t.id = f."transaction"'
    " WHERE p.published AND {} AND f.id >= ? AND f.id < ? ORDER BY f.id DESC LIMIT ?"
)


def _told(row: tuple[Any, ...]) -> Thing:
    names = ("id", "transaction", "subdir", "name", "size", "mimetype", "hashtype", "hashsum")
    times = {"mtime": zulu(row[8]), "created": zulu(row[9])}
    about = dict(zip(("submitter", "project", "instrument"), row[10:], strict=True))
    return {"kind": FILE, **dict(zip(names, row, strict=False)), **times, **about}


def _places(asked: Criteria, reader: Reader, below: int) -> Iterator[tuple[int, int]]:
    """Yield ranges of ids (first, last) in which to look, from the highest down; one may lie within an earlier one."""
    if asked.hashsum is not None:
        sql = "SELECT place, place FROM contentdigest WHERE prefix = ? AND place > 0 AND place < ?"
        values: list[Any] = [conditions.prefix(asked)]
    else:
        where = conditions.run(asked, reader)
        sql = (
            "SELECT e.first, e.last FROM entry e JOIN pack p ON p.id = e.subject"
            ' LEFT JOIN "transaction" t ON t.id = e."transaction"'
            f" WHERE {where} AND e.first < ?"
        )
        values = where.values
    while True:
        found = orm.rows(f"{sql} ORDER BY 2 DESC, 1 LIMIT ?", *values, below, RUNS)
        yield from found
        if len(found) < RUNS:
            return
        below = found[-1][0]


# ---- parts ---------------------------------------------------------------------------------------------------------


def _walk(
    sql: str, values: list[Any], below: int, page: _Page, tell: Callable[[tuple[Any, ...]], Thing | None]
) -> int | None:
    """Tell the rows of ``sql`` from id ``below`` down until the page is full; return where, or None at the end."""
    while page.room:
        size = page.room
        rows = orm.rows(sql, *values, below, size + 1)
        for row in rows[:size]:
            if not page.room:
                return below
            page.work -= 1
            below = row[0]
            told = tell(row)
            if told is not None:
                page.things.append(told)
        if len(rows) <= size:
            return None
    return below


_RANK = {DATASET: 0, TRANSACTION: 1, FILE: 2}
_SEARCHES = {DATASET: _datasets, TRANSACTION: _transactions, FILE: _files}
