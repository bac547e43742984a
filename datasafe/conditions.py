"""The conditions of a search in SQL: what a dataset, a transaction, a file or an entry must be to be what is asked."""

from typing import Any

from ..common import entry
from ..common.catalog import Reader, readable
from ..common.fulltext import matching
from ..common.words import words
from .criteria import Criteria, Name


class Where:
    """Conditions of a query, joined by AND, and their parameters in order."""

    def __init__(self) -> None:
        self.tests: list[str] = []
        self.values: list[Any] = []

    def add(self, sql: str, *values: Any) -> None:
        """Add a condition with ``?`` for each of ``values``."""
        self.tests.append(sql)
        self.values.extend(values)

    def __str__(self) -> str:
        return " AND ".join(self.tests) or "1 = 1"


def dataset_file(asked: Criteria) -> Where:
    """Return what a file x of a dataset must be."""
    where = Where()
    if asked.name is not None:
        _named(where, "x", asked.name)
    if asked.hashsum is not None:
        kinds = [kind for kind in ("sha512", "md5") if asked.hashtype in (None, kind)]
        tests = " OR ".join(f"x.{kind} = ?" for kind in kinds)
        where.add(f"({tests})" if kinds else "1 = 0", *[asked.hashsum] * len(kinds))
    return where


def of_manifest(asked: Criteria) -> list[tuple[str, str]]:
    """Return what the manifest of a dataset must say (key, value) that belongs to a project or an instrument."""
    wanted = {"dataset.project": asked.project, "dataset.instrument": asked.instrument}
    return [(key, value) for key, value in wanted.items() if value is not None]


def transaction(asked: Criteria) -> Where:
    """Return what transaction t must be."""
    where = Where()
    for column in ("project", "instrument"):
        if getattr(asked, column) is not None:
            where.add(f"t.{column} = ?", getattr(asked, column))
    if asked.submitter is not None:
        own = 'SELECT u.id FROM "user" u WHERE u.network_id = ?'
        where.add(f"(t.submitter = ? OR t.submitter IN ({own}))", asked.submitter, asked.submitter)
    if asked.transaction is not None:
        where.add("t.id = ?", asked.transaction)
    return where


def file(asked: Criteria, reader: Reader) -> Where:
    """Return what file f, of pack p and transaction t (which may be none), must be."""
    where = transaction(asked)
    _mine(where, reader)
    between(where, "p.created", asked)
    if asked.name is not None:
        _named(where, "f", asked.name)
    if asked.hashsum is not None:
        where.add("f.hashsum = ?", asked.hashsum)
        if asked.hashtype is not None:
            where.add("f.hashtype = ?", asked.hashtype)
    for key, value in asked.pairs:
        said, values = saying(key, value)
        own = f"EXISTS (SELECT 1 FROM filekeyvalue k WHERE k.file = f.id AND {said})"
        whole = f'EXISTS (SELECT 1 FROM transactionkeyvalue k WHERE k."transaction" = f."transaction" AND {said})'
        where.add(f"({own} OR {whole})", *values, *values)
    return where


def run(asked: Criteria, reader: Reader) -> Where:
    """Return which entries e, of pack p and transaction t (which may be none), can have such files."""
    where = transaction(asked)
    where.add("e.kind = 'pack'")
    if asked.transaction is not None:
        where.add('e."transaction" = ?', asked.transaction)
    _mine(where, reader)
    between(where, "p.created", asked)
    heard, begun = set(asked.words), set(asked.beginnings)
    if asked.name is not None:
        whole, beginnings = asked.name.narrowed()
        heard |= whole
        begun |= beginnings
    for key, value in asked.pairs:
        heard.update(words(f"{key}\n{value or ''}"))
    if heard or begun:
        sql, values = matching(heard, begun)
        where.add(f"e.id IN ({sql})", values)
    return where


def _mine(where: Where, reader: Reader) -> None:
    """Add that ``reader`` may read files of transaction t that came in pack p."""
    sql, values = readable(reader)
    if values:
        where.add(f"({sql} OR (p.owner = ? AND p.owner <> ''))", *values, reader.name)


def between(where: Where, column: str, asked: Criteria) -> None:
    """Add that the time in ``column`` is the one asked for."""
    if asked.since is not None:
        where.add(f"{column} >= ?", asked.since)
    if asked.until is not None:
        where.add(f"{column} < ?", asked.until)


def saying(key: str, value: str | None) -> tuple[str, tuple[str, ...]]:
    """Return what a key-value k must be."""
    if value is None:
        return "k.key = ?", (key,)
    return "substr(k.value, 1, 100) = ? AND k.key = ? AND k.value = ?", (value[:100], key, value)


def _named(where: Where, file: str, name: Name) -> None:
    if name.subdir is not None:
        where.add(f"{file}.subdir = ?", name.subdir)
    if not name.is_beginning:
        where.add(f"{file}.name = ?", name.name)
    elif name.name:
        where.add(f"substr({file}.name, 1, ?) = ?", len(name.name), name.name)


def prefix(asked: Criteria) -> int:
    """Return what the digest asked for is entered under."""
    found = entry.prefix(asked.hashsum or "")
    assert found is not None
    return found
