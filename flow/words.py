"""What data objects are found by besides their columns: their tags and the words in what they are called.

The database itself keeps both, by triggers, so that they are right whichever way a row came or changed: tags in a
table, words in the full-text index of SQLite (FTS5), on PostgreSQL in a table of its own, since every change of an
object's state would enter all its words anew.  Its index (GIN) has for each object the beginnings of its words and its
owner, each with the block of ids that it is in, so that the newest are found first, and the letters and pairs of
letters of its name: whole keys alone, which are found together without collecting all that have one of them.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import peewee

from ..common import orm

RANKED = 1000  # the newest objects that a text fits are put in order, and no more
LONGEST = 16  # letters of a word that PostgreSQL's index knows
BLOCK = 8192  # ids that follow each other have keys of their own
KEYS = "datatext_keys(t.data, t.name, t.slug, t.tags, t.owner)"

_WORD = re.compile(r"[^\W_]+")
_SEARCHED = ("name", "slug", "tags", "owner")


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
    """What data objects are called: the full-text index of SQLite, on PostgreSQL a table with an index of its keys."""

    @classmethod
    def create_table(cls, safe: bool = True, **options: Any) -> None:
        """Create the index and the triggers that keep it, and enter the objects that are there."""
        for statement in _TEXT_POSTGRES if orm.is_postgres() else _TEXT_SQLITE:
            orm.execute(statement)


def _searched(row: str) -> str:
    """Return the SQL of what is searched of ``row``."""
    return ", ".join(f"{row}.{name}" for name in _SEARCHED)


def words_of(text: str) -> list[str]:
    """Return the words of ``text`` in lower case."""
    return [word.lower() for word in _WORD.findall(text)]


def found(words: Sequence[str], owner: str | None, also: tuple[str, Sequence[Any]] | None) -> list[tuple[Any, ...]]:
    """Return the newest ``RANKED`` objects of ``owner`` (None: anybody) in which each word may begin a word.

    Each comes as id, name, slug, tags and owner, in which it is searched.  ``also`` is a query, with its values, that
    finds the object ``t.data`` where it fits what else is asked.
    """
    condition, values = ("", ()) if also is None else (f" AND EXISTS ({also[0]})", also[1])
    if orm.is_postgres():
        asked = [*(f"w{word[:LONGEST]}" for word in words), *([] if owner is None else [f"o{owner}"])]
        keys = "ARRAY(SELECT b.at || key FROM unnest(?::text[]) key)"
        said = f"t.data, {_searched('t')}"
        fitting = f"SELECT {said} FROM datatext t WHERE {KEYS} @> {keys}{condition} ORDER BY t.data DESC"
        blocks = f"generate_series((SELECT max(data) / {BLOCK} FROM datatext), 0, -1) b(at)"
        sql = f"SELECT {said} FROM {blocks} CROSS JOIN LATERAL ({fitting}) t LIMIT {RANKED}"
        return orm.rows(sql, asked, *values)
    mine, names = ("", ()) if owner is None else (" AND d.owner = ?", (owner,))
    sql = (
        f"SELECT d.id, {_searched('d')}"
        " FROM (SELECT rowid AS data FROM datatext WHERE datatext MATCH ? ORDER BY rowid DESC) t"
        f" CROSS JOIN data d ON d.id = t.data WHERE TRUE{mine}{condition} LIMIT {RANKED}"
    )
    held: list[tuple[Any, ...]] = []
    for end in ("", "*"):  # whole words rank first, and are found without collecting all that begin so
        if len(held) < RANKED:
            held = orm.rows(sql, " AND ".join(f'"{word}"{end}' for word in words), *names, *values)
    return held


def rank(words: Iterable[str], texts: Iterable[str], beside: str = "") -> int | None:
    """Tell how well ``texts``, the weightiest last, answer to ``words``: a whole word counts more than a beginning.

    None where one of them begins no word of theirs, nor of ``beside``, which has no weight.
    """
    held = [words_of(text) for text in texts]
    score = 0
    for word in words:
        worth = 0
        for weight, said in enumerate(held, start=1):
            best = 2 if word in said else 1 if any(one.startswith(word) for one in said) else 0
            worth += best * 4**weight
        if not worth and not any(one.startswith(word) for one in words_of(beside)):
            return None
        score += worth
    return score


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

_OLD, _NEW = _searched("old"), _searched("new")
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

_NAMED = ", ".join(f"{name} text{'' if name == 'slug' else ' NOT NULL'}" for name in _SEARCHED)
_SET = ", ".join(f"{name} = NEW.{name}" for name in _SEARCHED)
_TEXT_POSTGRES = (
    "CREATE OR REPLACE FUNCTION datatext_keys(data bigint, name text, slug text, tags text, owner text)"
    " RETURNS text[] LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$"
    f" DECLARE block text := data / {BLOCK}; keys text[] := ARRAY[block || 'o' || owner];"
    " low text := lower(name); word text; BEGIN"
    " FOREACH word IN ARRAY"
    " regexp_split_to_array(lower(concat_ws(' ', name, slug, tags, owner)), '[^[:alnum:]]+') LOOP"
    f" FOR n IN 1 .. least(length(word), {LONGEST}) LOOP keys := keys || (block || 'w' || left(word, n)); END LOOP;"
    " END LOOP;"
    " FOR at IN 1 .. greatest(length(name), length(low)) LOOP"
    " keys := keys || ('n' || substr(name, at, 1)) || ('n' || substr(name, at, 2));"
    " IF low <> name THEN keys := keys || ('l' || substr(low, at, 1)) || ('l' || substr(low, at, 2)); END IF; END LOOP;"
    " RETURN keys; END $$",
    f"CREATE TABLE IF NOT EXISTS datatext (data bigint PRIMARY KEY, {_NAMED})",
    f"INSERT INTO datatext (data, {_COLUMNS}) SELECT id, {_COLUMNS} FROM data ON CONFLICT DO NOTHING",
    f"CREATE INDEX IF NOT EXISTS datatext_found ON datatext USING gin (datatext_keys(data, {_COLUMNS}))"
    " WITH (gin_pending_list_limit = 256)",
    "CREATE OR REPLACE FUNCTION datatext_enter() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
    f" INSERT INTO datatext (data, {_COLUMNS}) SELECT id, {_COLUMNS} FROM made; RETURN NULL; END $$",
    "CREATE OR REPLACE FUNCTION datatext_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
    f" UPDATE datatext SET {_SET} WHERE data = NEW.id; RETURN NULL; END $$",
    "CREATE OR REPLACE FUNCTION datatext_forget() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
    " DELETE FROM datatext WHERE data = OLD.id; RETURN NULL; END $$",
    *(f"DROP TRIGGER IF EXISTS datatext_{name} ON data" for name in ("insert", "update", "delete")),
    "CREATE TRIGGER datatext_insert AFTER INSERT ON data REFERENCING NEW TABLE AS made FOR EACH STATEMENT"
    " EXECUTE FUNCTION datatext_enter()",
    f"CREATE TRIGGER datatext_update AFTER UPDATE OF {_COLUMNS} ON data FOR EACH ROW"
    f" WHEN ({_CHANGED.replace(' IS NOT ', ' IS DISTINCT FROM ')}) EXECUTE FUNCTION datatext_change()",
    "CREATE TRIGGER datatext_delete AFTER DELETE ON data FOR EACH ROW EXECUTE FUNCTION datatext_forget()",
)
