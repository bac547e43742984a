"""Objects by a part of their name, of one letter or many: the letters and pairs of letters of all names in an index.

On PostgreSQL they are among the keys of ``words``, on SQLite in a full-text index (FTS5) whose words are their bytes in
hexadecimal.  Capitals count, and names that have some are entered in small letters too.
"""

from itertools import product
from typing import Any

from ..common import letters, orm
from ..common.letters import small
from .words import KEYS

MOST_PAIRS = 30  # of a part are asked for


class DataLetter(orm.Model):
    """The index of parts of names on SQLite."""

    @classmethod
    def create_table(cls, safe: bool = True, **options: Any) -> None:
        """Create the index, with the names that are there."""
        for statement in () if orm.is_postgres() else _SQLITE:
            orm.execute(statement)


def candidates(part: str, capitals: bool, most: int) -> list[int] | None:
    """Return the ids of the objects, anybody's, in whose name ``part`` is; None beyond ``most``.

    ``capitals`` tells whether they count.
    """
    if not capitals:  # PostgreSQL has its own idea of them
        part = orm.rows("SELECT lower(CAST(? AS text))", part)[0][0] if orm.is_postgres() else small(part) or ""
    last = max(len(part) - 2, 0)
    places = [*range(0, last, 2), last]  # each letter is in one pair: more of them find little less, and take longer
    pairs = list(dict.fromkeys(part[at : at + 2] for at in places))[:MOST_PAIRS]
    name = "name" if capitals else "lower(name)"
    if orm.is_postgres():
        keys = [f"n{pair}" for pair in pairs]
        asked: list[Any] = [keys] if capitals else [[f"n{pair}", f"l{pair}"] for pair in pairs]
        conditions = " AND ".join(f"{KEYS} {'@>' if capitals else '&&'} ?::text[]" for _ in asked)
        sql = f"SELECT data FROM datatext t WHERE {conditions} AND strpos({name}, ?) > 0"
    else:
        name = "name" if capitals else "small(name)"
        asked = [" AND ".join(f'"{_word(pair)}"' if capitals else _either(pair) for pair in pairs)]
        held = "dataletter t CROSS JOIN data d ON d.id = t.rowid"
        sql = f"SELECT d.id FROM {held} WHERE dataletter MATCH ? AND instr({name}, ?) > 0"
    found = orm.rows(f"{sql} LIMIT {most + 1}", *asked, part)
    return None if len(found) > most else [id for (id,) in found]


def _word(pair: str) -> str:
    return pair.encode().hex().upper()


def _either(pair: str) -> str:
    """Return what finds ``pair``, in small letters, however it is written: the index has small ones of ASCII alone."""
    written = map("".join, product(*(letter + letters.capitals().get(letter, "") for letter in pair)))
    return "(" + " OR ".join(f'"{mark}{_word(one)}"' for one in written for mark in ("", "l")) + ")"


def _letters(row: str) -> str:
    """Return the SQL that makes of the name of ``row`` what is entered."""
    pairs = [f"substr({row}.name, at, {length})" for length in (1, 2)]
    plain = " || ' ' || ".join(f"hex({pair})" for pair in pairs)
    small = " || ' ' || ".join(f"'l' || hex(lower({pair}))" for pair in pairs)
    return (
        f"(WITH RECURSIVE letters(at) AS (SELECT 1 UNION ALL SELECT at + 1 FROM letters WHERE at < length({row}.name))"
        f" SELECT group_concat({plain} || CASE lower({row}.name) WHEN {row}.name THEN '' ELSE ' ' || {small} END, ' ')"
        " FROM letters)"
    )


_ENTER = f"INSERT INTO dataletter (rowid, letters) VALUES (new.id, {_letters('new')})"
_FORGET = f"INSERT INTO dataletter (dataletter, rowid, letters) VALUES ('delete', old.id, {_letters('old')})"
_SQLITE = (
    "CREATE VIRTUAL TABLE dataletter USING fts5(letters, content='', detail=none)",
    f"CREATE TRIGGER dataletter_insert AFTER INSERT ON data BEGIN {_ENTER}; END",
    "CREATE TRIGGER dataletter_update AFTER UPDATE OF name ON data WHEN old.name <> new.name BEGIN"
    f" {_FORGET}; {_ENTER}; END",
    f"CREATE TRIGGER dataletter_delete AFTER DELETE ON data BEGIN {_FORGET}; END",
    f"INSERT INTO dataletter (rowid, letters) SELECT d.id, {_letters('d')} FROM data d",
)
