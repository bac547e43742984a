"""Objects by a part of their name: the trigrams of all names in an index (FTS5, or PostgreSQL's pg_trgm).

The index only leads to candidates; whoever asks compares the names.  A part shorter than three letters has no trigram,
and on a PostgreSQL where the extension cannot be made there is no index: both are answered along the list's order.
"""

import logging
from functools import cache
from typing import Any

import peewee

from ..common import orm

SHORTEST = 3  # letters

logger = logging.getLogger(__name__)


class DataPart(orm.Model):
    """The index of parts of names; no table on PostgreSQL, and made where it is missing."""

    @classmethod
    def create_table(cls, safe: bool = True, **options: Any) -> None:
        """Create the index, with the names that are there."""
        if not orm.is_postgres():
            for statement in _SQLITE:
                orm.execute(statement)
            return
        if orm.rows("SELECT 1 FROM pg_available_extensions WHERE name = 'pg_trgm'"):
            try:
                with orm.savepoint():
                    orm.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
                    orm.execute("CREATE INDEX IF NOT EXISTS data_parts ON data USING gin (name gin_trgm_ops)")
                return
            except peewee.ProgrammingError as error:  # it takes a right, and a schema that the search path names
                logger.info("pg_trgm: %s", error)
        logger.warning("parts of names stay without an index: the extension pg_trgm cannot be made")


def candidates(part: str, most: int) -> list[int] | None:
    """Return the ids of the objects, anybody's, in whose name ``part`` may be; None beyond ``most``.

    Capitals do not count.  None too where no index can tell.
    """
    if len(part) < SHORTEST or (orm.is_postgres() and not _indexed(orm.database.database)):
        return None
    if orm.is_postgres():
        escaped = part.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        sql, asked = "SELECT id FROM data WHERE name ILIKE ?", f"%{escaped}%"
    else:
        trigrams = dict.fromkeys(part[at : at + SHORTEST] for at in range(len(part) - SHORTEST + 1))
        asked = " AND ".join(f'"{one}"' for one in (text.replace('"', '""') for text in trigrams))
        sql = "SELECT rowid FROM datapart WHERE datapart MATCH ?"
    found = orm.rows(f"{sql} LIMIT {most + 1}", asked)
    return None if len(found) > most else [id for (id,) in found]


@cache
def _indexed(database: str) -> bool:
    return bool(orm.rows("SELECT 1 FROM pg_indexes WHERE indexname = 'data_parts'"))


_SQLITE = (
    "CREATE VIRTUAL TABLE datapart USING fts5(name, content='data', content_rowid='id', detail=none,"
    " tokenize='trigram')",
    "CREATE TRIGGER datapart_insert AFTER INSERT ON data BEGIN"
    " INSERT INTO datapart (rowid, name) VALUES (new.id, new.name); END",
    "CREATE TRIGGER datapart_update AFTER UPDATE OF name ON data WHEN old.name <> new.name BEGIN"
    " INSERT INTO datapart (datapart, rowid, name) VALUES ('delete', old.id, old.name);"
    " INSERT INTO datapart (rowid, name) VALUES (new.id, new.name); END",
    "CREATE TRIGGER datapart_delete AFTER DELETE ON data BEGIN"
    " INSERT INTO datapart (datapart, rowid, name) VALUES ('delete', old.id, old.name); END",
    "INSERT INTO datapart (datapart) VALUES ('rebuild')",
)
