"""What SQL knows of datasets: numbers, owners, versions, ends; the bytes and their history lie in the volume.

All of it can be made anew from there (``rebuilding``): reservations and ends stand in the ``register`` too.
"""

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import ClassVar

import peewee

from ..common import entry, orm, schema
from ..common.errors import Gone
from ..common.ledger import DAMAGED, SOUND
from ..common.outbox import announce
from ..common.state import Work
from ..common.tables import COMMON
from .loi import Loi
from .loi import Series as SeriesName

SOURCE = "/datasafe"  # of this service's events


class Series(orm.Model):
    """What numbers are counted in; ``last`` was given last and never goes down."""

    name = peewee.CharField(255, primary_key=True)  # such as 42.1001/ds/exp/sa/42/cwepr
    last = peewee.BigIntegerField()


class Dataset(orm.Model):
    """A LOI that was given; ``version`` is its newest (0: reserved, empty), ``files`` and ``size`` are that one's."""

    loi = peewee.CharField(255, unique=True)
    owner = peewee.TextField(index=True)
    created = peewee.DoubleField()
    version = peewee.IntegerField(default=0)
    stored = peewee.DoubleField(null=True)
    files = peewee.IntegerField(default=0)
    size = peewee.BigIntegerField(default=0)


class DatasetFile(orm.Model):
    """A file of a dataset's newest version, for searches: the inventory is what counts."""

    dataset = peewee.BigIntegerField()
    subdir = peewee.TextField()
    name = peewee.TextField()
    sha512 = peewee.CharField(128)
    md5 = peewee.CharField(32)
    size = peewee.BigIntegerField()

    class Meta:
        """Asked for by dataset and name."""

        indexes = ((("dataset", "name"), False),)


class DatasetKeyValue(orm.Model):
    """One thing that the manifest of a dataset's newest version says, for searches."""

    dataset = peewee.BigIntegerField(index=True)
    key = peewee.TextField()
    value = peewee.TextField()


class Pending(orm.Model):
    """A version that may be visible while ``Dataset`` does not say so; ``stage`` is the folder that it comes from."""

    loi = peewee.CharField(255)
    stage = peewee.CharField(32)


class RequestKey(orm.Model):
    """What ``owner`` asked under an Idempotency-Key: ``request`` is method and LOI, or series.

    Of an upload: ``since``, the newest version at that time, and ``content``, the digest of what was to be stored, once
    it is known.  Of a reservation: ``content`` is the LOI that was given.
    """

    owner = peewee.TextField()
    key = peewee.CharField(255)
    request = peewee.TextField()
    since = peewee.IntegerField()
    content = peewee.TextField(null=True)
    created = peewee.DoubleField(index=True)

    class Meta:
        """A key is its owner's."""

        indexes = ((("owner", "key"), True),)


class DatasetTombstone(orm.Model):
    """What is left of a deleted dataset; ``settled`` once the register says so too and the bytes are gone."""

    loi = peewee.CharField(255, unique=True)
    owner = peewee.TextField()
    at = peewee.DoubleField()
    who = peewee.TextField()
    reason = peewee.TextField()
    version = peewee.IntegerField()
    settled = peewee.BooleanField(default=False, index=True)


class Inspection(orm.Model):
    """When a thing was read whole for the last time, and what came of it.

    ``kind`` is pack, dataset or volume, ``name`` the pack's name or the LOI; ``verdict`` is the ledger's SOUND or
    DAMAGED; ``suspected``: a reader met damage and asks for a check before its turn.
    """

    kind = peewee.CharField(8)
    name = peewee.CharField(255)
    owner = peewee.TextField(default="")
    verdict = peewee.SmallIntegerField(null=True)
    checked = peewee.DoubleField(null=True)
    suspected = peewee.DoubleField(null=True)
    size = peewee.BigIntegerField(default=0)
    misread = peewee.IntegerField(default=0)  # first reads that a second one did not confirm, in all

    class Meta:
        """One row a thing."""

        indexes = ((("kind", "name"), True),)


class Finding(orm.Model):
    """One thing that the last inspection found wrong (docs/audit.md); gone when the next does not find it."""

    inspection = peewee.BigIntegerField(index=True)
    kind = peewee.CharField(10)  # missing, changed, short, unexpected
    path = peewee.TextField()
    files = peewee.TextField(default="[]")  # JSON list: the files that have these bytes
    expected = peewee.TextField(default="")
    found = peewee.TextField(default="")
    since = peewee.DoubleField()


class State(StrEnum):
    """The one state of the one auditor."""

    WATCHING = "WATCHING"
    ENDED = "ENDED"  # never entered


class Auditor(Work):
    """The one row whose lease says which worker audits."""

    KIND = "auditor"
    MOVES: ClassVar[Mapping[str, set[str]]] = {}
    FINAL = frozenset({State.ENDED})

    def failed(self, error: Exception) -> None:
        """Go on later: an audit never ends."""
        self.progress(tries=0, not_before=orm.clock() + 60.0)


class DatasafeSystem(schema.System):
    """The version of datasafe's schema."""


def queue_datasets() -> None:
    """Queue every dataset for the catalogue's index, which older versions did not have."""
    sql = "INSERT INTO unentered (kind, subject, after, due) SELECT ?, id, 0, 0 FROM dataset WHERE version > 0"
    orm.execute(sql, entry.DATASET)


SCHEMA = schema.Schema(
    system=DatasafeSystem,
    models=[
        Series,
        Dataset,
        DatasetFile,
        DatasetKeyValue,
        Pending,
        RequestKey,
        DatasetTombstone,
        Inspection,
        Finding,
        Auditor,
    ],
    version=(3, 0),
    steps={(1, 0): queue_datasets, (1, 1): queue_datasets, (2, 0): lambda: None},  # the last: a table more
    requires=(COMMON,),
)


class DatasetGone(Gone):
    """LOI was deleted."""

    code = "dataset_gone"


def give(series: SeriesName, owner: str) -> Loi:
    """Give the next number of ``series`` to ``owner``: gapless, and of two that ask at once none gets the other's."""
    with orm.transaction():
        loi = series.loi(orm.rows(_NEXT, str(series))[0][0])
        Dataset.insert(loi=str(loi), owner=owner, created=orm.now()).execute()
    return loi


def reserve(loi: Loi, owner: str, at: float) -> bool:
    """Give exactly this LOI to ``owner``, and its number to nobody else; False when it is known, or was deleted."""
    with orm.transaction():
        orm.execute(_BEYOND, str(loi.series), loi.number)
        if DatasetTombstone.get_or_none(DatasetTombstone.loi == str(loi)):
            return False
        return bool(orm.execute(_ENTER, str(loi), owner, at))


def note_version(loi: str, facts: list[tuple[int, int, int, str, float]]) -> bool:
    """Enter versions (number, files, bytes, author, time), each announced once; False when the LOI has no row.

    ``facts`` end with the newest; those that are known already are passed over.
    """
    with orm.transaction():
        held = orm.rows("UPDATE dataset SET version = version WHERE loi = ? RETURNING version, owner, id", loi)
        if not held:
            return False
        known, owner, id = held[0]
        for number, files, size, author, at in facts:
            if number > known:
                data = {"loi": loi, "version": number, "owner": owner, "by": author, "files": files, "bytes": size}
                announce("pacifica.dataset.stored", f"datasets/{loi}", data, source=SOURCE)
                orm.execute(
                    "UPDATE dataset SET version = ?, files = ?, size = ?, stored = ? WHERE loi = ?",
                    number, files, size, at, loi,
                )  # fmt: skip
                entry.queue(entry.DATASET, id)
    return True


def bury(dataset: Dataset, who: str, reason: str) -> None:
    """Leave a tombstone in place of ``dataset``, in one commit."""
    with orm.transaction():
        facts = {"loi": dataset.loi, "owner": dataset.owner, "version": dataset.version}
        DatasetTombstone.insert(**facts, at=orm.now(), who=who, reason=reason).execute()
        Dataset.delete().where(Dataset.loi == dataset.loi).execute()
        entry.queue(entry.DATASET, dataset.id)
        forget("dataset", dataset.loi)


def forget(kind: str, name: str) -> None:
    """Delete the inspection of a thing that is no more, with its findings."""
    for row in list(Inspection.select().where((Inspection.kind == kind) & (Inspection.name == name))):
        Finding.delete().where(Finding.inspection == row.id).execute()
        row.delete_instance()


def suspect(kind: str, name: str, owner: str) -> None:
    """Ask the audit to look at a thing next."""
    orm.execute(
        f"INSERT INTO inspection (kind, name, owner, suspected, size, misread) VALUES (?, ?, ?, {orm.now().sql}, 0, 0) "
        "ON CONFLICT (kind, name) DO UPDATE SET suspected = excluded.suspected",
        kind, name, owner,
    )  # fmt: skip
    orm.execute("UPDATE auditor SET not_before = 0, ring_at = 0")


def verdict_of(kind: str, name: str) -> str:
    """Return ``sound``, ``damaged`` or ``unchecked``: what the last inspection of a thing said."""
    found = orm.rows("SELECT verdict FROM inspection WHERE kind = ? AND name = ?", kind, name)
    return VERDICTS[found[0][0] if found else None]


def damaged_files(loi: str, version: int) -> list[str]:
    """Return the names of the files of a version that the last inspection found damaged."""
    told = orm.rows(
        "SELECT f.files FROM finding f JOIN inspection i ON i.id = f.inspection "
        "WHERE i.kind = 'dataset' AND i.name = ?",
        loi,
    )
    names = (name for (files,) in told for name in json.loads(files))
    return sorted({name.partition(" ")[2] for name in names if name.startswith(f"v{version} ")})


VERDICTS = {None: "unchecked", SOUND: "sound", DAMAGED: "damaged"}

_NEXT = (
    'INSERT INTO series (name, "last") VALUES (?, 1) ON CONFLICT (name) '
    'DO UPDATE SET "last" = series."last" + 1 RETURNING "last"'
)
_BEYOND = (
    'INSERT INTO series (name, "last") VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET "last" = '
    'CASE WHEN series."last" < excluded."last" THEN excluded."last" ELSE series."last" END'
)
_ENTER = (
    'INSERT INTO dataset (loi, owner, created, version, files, "size") VALUES (?, ?, ?, 0, 0, 0) '
    "ON CONFLICT (loi) DO NOTHING"
)
