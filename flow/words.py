"""What data objects are found by besides their columns: their tags and the words in what they are called.

The database itself keeps both, by triggers, so that they are right whichever way a row came or changed: tags in a
table, words in the full-text index of SQLite (FTS5) or PostgreSQL (GIN).
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import peewee

from ..common import orm

RANKED = 1000  # the newest objects that a text fits are put in order, and no more
MINE = 2000  # objects that are looked through one by one

_WORD = re.compile(r"[^\W_]+")
_SEARCHED = ("name", "slug", "tags", "owner")
_VECTOR = (
    "to_tsvector('simple', regexp_replace(name || ' ' || coalesce(slug, '') || ' ' || tags || ' ' || owner, "
    "'[^[:alnum:]]+', ' ', 'g'))"
)


class DataTag(orm.Model):
    """One tag of a data object; written by triggers."""

    data = peewee.BigIntegerField(index=True)
    tag = peewee.TextField()

    class Meta:
        """Looked for by tag."""

        indexes = ((("tag", "data"), True),)

    @classmethod
    def create_table(cls, safe: bool = True, **options: Any) -> None:
        """Create the table and its triggers, and enter the tags of the objects that are there."""
        super().create_table(safe=safe, **options)
        statements = _TAGS_POSTGRES if orm.is_postgres() else _TAGS_SQLITE
        for statement in statements:
            orm.execute(statement)


class DataText(orm.Model):
    """The full-text index of data objects; on PostgreSQL it is no table, and made where it is missing."""

    @classmethod
    def create_table(cls, safe: bool = True, **options: Any) -> None:
        """Create the index, and the triggers that keep it on SQLite, and enter the objects that are there."""
        if orm.is_postgres():
            orm.execute(f"CREATE INDEX IF NOT EXISTS data_words ON data USING gin ({_VECTOR})")
            return
        for statement in _TEXT_SQLITE:
            orm.execute(statement)


def words_of(text: str) -> list[str]:
    """Return the words of ``text`` in lower case."""
    return [word.lower() for word in _WORD.findall(text)]


def found(words: Sequence[str], owner: str | None) -> list[int]:
    """Return the ids of the newest ``RANKED`` objects of ``owner`` (None: anybody) in which each word begins a word.

    Searched are name, slug, tags and owner.
    """
    mine, names = ("", ()) if owner is None else (" AND d.owner = ?", (owner,))
    if orm.is_postgres():
        asked = " & ".join(f"'{word}':*" for word in words)
        return _found_postgres(asked, f"{_VECTOR} @@ to_tsquery('simple', ?){mine}", names)
    own = [] if owner is None else orm.rows(f"{_SAID} WHERE owner = ? LIMIT {MINE + 1}", owner)
    if owner is not None and len(own) <= MINE:  # SQLite would look at what fits of everybody's
        fitting = [id for id, *texts in own if all(rank([word], *texts) for word in words)]
        return sorted(fitting, reverse=True)[:RANKED]
    asked = " AND ".join(f'"{word}"*' for word in words)
    sql = (
        "SELECT d.id FROM datatext t CROSS JOIN data d ON d.id = t.rowid"
        f" WHERE datatext MATCH ?{mine} ORDER BY t.rowid DESC LIMIT {RANKED}"
    )
    return [id for (id,) in orm.rows(sql, asked, *names)]


def _found_postgres(asked: str, where: str, names: tuple[str, ...]) -> list[int]:
    """Answer as ``found``: from the newest objects, where most fit, else by the index.

    Left to itself, with an order and a limit, PostgreSQL takes rare words for frequent ones and cuts every name anew.
    """
    order = f"ORDER BY id DESC LIMIT {RANKED}"
    newest = f"id > (SELECT max(id) FROM data) - {2 * RANKED}"
    held = orm.rows(f"SELECT id FROM data d WHERE {newest} AND {where} {order}", asked, *names)
    if len(held) < RANKED:
        every = f"WITH every AS MATERIALIZED (SELECT id FROM data d WHERE {where})"
        held = orm.rows(f"{every} SELECT id FROM every {order}", asked, *names)
    return [id for (id,) in held]


def rank(words: Iterable[str], *texts: str) -> int:
    """Tell how well ``texts``, the weightiest first, answer to ``words``: a whole word counts more than a beginning."""
    held = [words_of(text) for text in texts]
    score = 0
    for word in words:
        for weight, said in enumerate(reversed(held), start=1):
            best = 2 if word in said else 1 if any(one.startswith(word) for one in said) else 0
            score += best * 4**weight
    return score


_SAID = "SELECT id, name, coalesce(slug, ''), tags, owner FROM data"
_TAGS_SQLITE = (
    "CREATE TRIGGER IF NOT EXISTS datatag_insert AFTER INSERT ON data WHEN new.tags <> '[]' BEGIN"
    " INSERT OR IGNORE INTO datatag (data, tag) SELECT new.id, value FROM json_each(new.tags); END",
    "CREATE TRIGGER IF NOT EXISTS datatag_update AFTER UPDATE OF tags ON data WHEN old.tags <> new.tags BEGIN"
    " DELETE FROM datatag WHERE data = old.id;"
    " INSERT OR IGNORE INTO datatag (data, tag) SELECT new.id, value FROM json_each(new.tags); END",
    "CREATE TRIGGER IF NOT EXISTS datatag_delete AFTER DELETE ON data WHEN old.tags <> '[]' BEGIN"
    " DELETE FROM datatag WHERE data = old.id; END",
    "INSERT OR IGNORE INTO datatag (data, tag) SELECT d.id, t.value FROM data d, json_each(d.tags) t",
)
_TAGS_POSTGRES = (
    "CREATE OR REPLACE FUNCTION datatag_keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
    " IF TG_OP <> 'INSERT' THEN DELETE FROM datatag WHERE data = OLD.id; END IF;"
    " IF TG_OP <> 'DELETE' THEN INSERT INTO datatag (data, tag)"
    " SELECT DISTINCT NEW.id, value FROM jsonb_array_elements_text(NEW.tags::jsonb); END IF;"
    " RETURN NULL; END $$",
    "CREATE TRIGGER datatag_insert AFTER INSERT ON data FOR EACH ROW WHEN (NEW.tags <> '[]')"
    " EXECUTE FUNCTION datatag_keep()",
    "CREATE TRIGGER datatag_update AFTER UPDATE OF tags ON data FOR EACH ROW WHEN (OLD.tags <> NEW.tags)"
    " EXECUTE FUNCTION datatag_keep()",
    "CREATE TRIGGER datatag_delete AFTER DELETE ON data FOR EACH ROW WHEN (OLD.tags <> '[]')"
    " EXECUTE FUNCTION datatag_keep()",
    "INSERT INTO datatag (data, tag)"
    " SELECT DISTINCT d.id, t.value FROM data d, jsonb_array_elements_text(d.tags::jsonb) t",
)

_OLD, _NEW = (", ".join(f"{row}.{name}" for name in _SEARCHED) for row in ("old", "new"))
_COLUMNS = ", ".join(_SEARCHED)
_FORGET = f"INSERT INTO datatext (datatext, rowid, {_COLUMNS}) VALUES ('delete', old.id, {_OLD})"
_ENTER = f"INSERT INTO datatext (rowid, {_COLUMNS}) VALUES (new.id, {_NEW})"
_CHANGED = " OR ".join(f"old.{name} IS NOT new.{name}" for name in _SEARCHED)
_TEXT_SQLITE = (
    f"CREATE VIRTUAL TABLE datatext USING fts5({_COLUMNS}, content='data', content_rowid='id',"
    " tokenize='unicode61 remove_diacritics 0')",
    f"CREATE TRIGGER datatext_insert AFTER INSERT ON data BEGIN {_ENTER}; END",
    f"CREATE TRIGGER datatext_update AFTER UPDATE OF {_COLUMNS} ON data WHEN {_CHANGED} BEGIN {_FORGET}; {_ENTER}; END",
    f"CREATE TRIGGER datatext_delete AFTER DELETE ON data BEGIN {_FORGET}; END",
    "INSERT INTO datatext (datatext) VALUES ('rebuild')",
)
