"""The full text of the catalogue: which entry holds which words, in FTS5 or in a tsvector.

Both get words that are cut already (``words``) and are asked for whole words and beginnings, joined by AND, so that
both find the same.  An entry is written once; where it is superseded, its words stay and lead nowhere.
"""

from collections.abc import Collection
from typing import Any

from peewee import BigIntegerField, TextField

from . import orm

MOST_BYTES = 256 << 10  # of the words of one entry: a tsvector ends at 1 MiB


class FullText(orm.Model):
    """The words of entry ``id``."""

    id = BigIntegerField(primary_key=True)
    words = TextField()

    @classmethod
    def create_table(cls, safe: bool = True, **options: Any) -> None:
        """Make the table of the database's own kind."""
        if orm.is_postgres():
            orm.execute("CREATE TABLE IF NOT EXISTS fulltext (id BIGINT PRIMARY KEY, words TSVECTOR NOT NULL)")
            orm.execute(
                "CREATE INDEX IF NOT EXISTS fulltext_words ON fulltext USING gin (words)"
                " WITH (gin_pending_list_limit = 32768)"  # KiB: many entries are merged at once, off the ingest's path
            )
        else:
            orm.execute(
                "CREATE VIRTUAL TABLE IF NOT EXISTS fulltext USING fts5"
                "(words, content='', detail=none, columnsize=0, tokenize='ascii')"
            )


def enter(id: int, words: Collection[str]) -> None:
    """Write the ``words`` of entry ``id``; in the caller's transaction."""
    if orm.is_postgres():
        sql = "INSERT INTO fulltext (id, words) VALUES (?, array_to_tsvector(CAST(? AS TEXT[])))"
        orm.execute(sql, id, list(words))
    else:
        orm.execute("INSERT INTO fulltext (rowid, words) VALUES (?, ?)", id, " ".join(words))


def matching(words: Collection[str], beginnings: Collection[str]) -> tuple[str, str]:
    """Return a subquery for the ids of the entries that hold all ``words`` and words with all ``beginnings``.

    And its one parameter.  Words have letters and digits only, so nothing in them means anything to a database.
    """
    if orm.is_postgres():
        wanted = [f"'{word}'" for word in words] + [f"'{word}':*" for word in beginnings]
        return "SELECT id FROM fulltext WHERE words @@ CAST(? AS tsquery)", " & ".join(wanted)
    wanted = [f'"{word}"' for word in words] + [f'"{word}"*' for word in beginnings]
    return "SELECT rowid FROM fulltext WHERE fulltext MATCH ?", " ".join(wanted)
