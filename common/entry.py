"""What the catalogue is searched by: entries of the full text, content digests, and what waits to be entered.

An entry stands for a transaction, for a run of at most 1,000 files of a pack, or for a dataset.  It says where to
look: what is found there is held against the rows themselves.  Whoever changes what is held queues it here, in the
commit of the change; datasafe's worker enters it a moment later.
"""

import json
from collections.abc import Collection, Iterable

from peewee import BigIntegerField, DoubleField, TextField

from . import orm
from .batch import spelled

TRANSACTION, PACK, DATASET = "transaction", "pack", "dataset"  # kinds of what is entered

# What PostgreSQL would refuse to index whole.
KEY_VALUE_INDEX = (
    "CREATE INDEX IF NOT EXISTS transactionkeyvalue_said"
    " ON transactionkeyvalue (substr(key, 1, 100), substr(value, 1, 100))"
)


class Entry(orm.Model):
    """One entry.  ``subject`` is the id of a transaction, pack or dataset, ``owner`` whose pack or dataset it is.

    Of a run of files: ``first`` and ``last`` id, and their ``transaction``.  Of a dataset: its LOI in ``name``, and
    ``head``, the text that all its files share.
    """

    kind = TextField()
    subject = BigIntegerField()
    first = BigIntegerField(default=0)
    last = BigIntegerField(default=0)
    transaction = BigIntegerField(null=True, index=True)
    owner = TextField(default="")
    name = TextField(default="")
    head = TextField(default="")

    class Meta:
        """Found by what they stand for, and runs from the highest id down."""

        indexes = ((("kind", "subject"), False), (("kind", "last"), False))


class ContentDigest(orm.Model):
    """Content that is held: the first 60 bits of a digest; ``place`` is a file's id, or a dataset's with a minus."""

    prefix = BigIntegerField()
    place = BigIntegerField()

    class Meta:
        """No id: the two are the key."""

        primary_key = False

    @classmethod
    def create_table(cls, safe: bool = True, **options: object) -> None:
        """Make it a tree of its keys and nothing else, where a database has such."""
        ignore, bare = ("", "") if orm.is_postgres() else (" ON CONFLICT IGNORE", " WITHOUT ROWID")
        orm.execute(
            "CREATE TABLE IF NOT EXISTS contentdigest (prefix BIGINT NOT NULL, place BIGINT NOT NULL,"
            f" PRIMARY KEY (prefix, place){ignore}){bare}"
        )


class Unentered(orm.Model):
    """Something that waits to be entered, anew where it was before; ``after`` says how far that has come."""

    kind = TextField()
    subject = BigIntegerField()
    after = BigIntegerField(default=0)
    due = DoubleField(default=0.0)  # epoch seconds: put off where it failed


def queue(kind: str, subject: int) -> None:
    """Have ``subject`` entered, or taken out where it is no more; in the transaction that changes it."""
    orm.execute("INSERT INTO unentered (kind, subject, after, due) VALUES (?, ?, 0, 0)", kind, subject)


def waiting() -> int:
    """Return how much waits, up to 1,000."""
    return int(orm.rows("SELECT count(*) FROM (SELECT 1 FROM unentered LIMIT 1000) AS w")[0][0])


def queue_all() -> None:
    """Queue every transaction and pack: the step from a database that had no full text."""
    for model in (Entry, ContentDigest, Unentered):
        model.create_table(safe=True)
    for kind, source in ((TRANSACTION, '"transaction"'), (PACK, "pack WHERE published")):
        orm.execute(
            f"INSERT INTO unentered (kind, subject, after, due) SELECT ?, id, 0, 0 FROM {source} ORDER BY id", kind
        )
    orm.execute(KEY_VALUE_INDEX)


# ---- digests -------------------------------------------------------------------------------------------------------


def prefix(digest: str) -> int | None:
    """Return the first 60 bits of a digest in lower-case hex, None where it is none."""
    try:
        return int(digest[:15], 16)
    except ValueError:
        return None


def enter_digests(pairs: Iterable[tuple[int, int]]) -> None:
    """Enter (prefix, place) pairs, those that are known too; in the caller's transaction."""
    wanted = sorted(set(pairs))  # in order: neighbours share pages
    if orm.is_postgres():
        orm.execute(
            "INSERT INTO contentdigest (prefix, place) SELECT * FROM unnest(CAST(? AS BIGINT[]), CAST(? AS BIGINT[]))"
            " ON CONFLICT DO NOTHING",
            spelled(one for one, _ in wanted),
            spelled(place for _, place in wanted),
        )
    elif wanted:
        orm.insert_rows(ContentDigest, ("prefix", "place"), wanted)


def places(prefixes: Collection[int], each: int) -> list[tuple[int, int]]:
    """Return (prefix, place) for those of ``prefixes`` that are known, the newest ``each`` files of one."""
    wanted = sorted(prefixes)  # in order, as above
    if orm.is_postgres():
        return orm.rows(_PLACES_POSTGRES, spelled(wanted), each)
    return orm.rows(_PLACES_SQLITE, json.dumps(wanted), each)


_PLACES_SQLITE = (
    "SELECT w.value, d.place FROM json_each(?) w CROSS JOIN contentdigest d ON d.prefix = w.value AND d.place IN"
    " (SELECT place FROM contentdigest WHERE prefix = w.value ORDER BY place DESC LIMIT ?)"
)
_PLACES_POSTGRES = (
    "SELECT w.value, d.place FROM unnest(CAST(? AS BIGINT[])) AS w (value) CROSS JOIN LATERAL"
    " (SELECT place FROM contentdigest WHERE prefix = w.value ORDER BY place DESC LIMIT ?) d"
)

MODELS = (Entry, ContentDigest, Unentered)
