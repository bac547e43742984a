"""The schema's version, and the way from an older one: ``dbsync`` and ``dbchk``.

A version is (major, minor), kept in a table of two rows in Pacifica's layout.  A database of the same major version
is safe to use; another one is not, until ``dbsync`` has taken it there.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import peewee

from . import orm
from .errors import SchemaMismatch

Version = tuple[int, int]
NONE: Version = (0, 0)  # what a database without a version table counts as

_LOCK = 0x70616369666963  # PostgreSQL's advisory lock of dbsync

logger = logging.getLogger(__name__)


class System(orm.Model):
    """Base of the version tables; one subclass, and so one table, for each Schema."""

    part = peewee.CharField(primary_key=True)
    value = peewee.IntegerField(default=-1)

    VERSION: ClassVar[Version] = NONE  # what the code needs; its Schema sets it

    @classmethod
    def get_version(cls) -> Version:
        """Return the version of the database; (0, 0) without the table or its rows."""
        if not cls.table_exists():
            return NONE
        parts = dict(cls.select(cls.part, cls.value).tuples())
        return parts.get("major", 0), parts.get("minor", 0)

    @classmethod
    def is_equal(cls) -> bool:
        """Tell whether the database has exactly the version of the code."""
        return cls.get_version() == cls.VERSION

    @classmethod
    def is_safe(cls) -> bool:
        """Tell whether the database can be used: its major version is the code's."""
        return cls.get_version()[0] == cls.VERSION[0]

    @classmethod
    def set_version(cls, version: Version) -> None:
        """Write ``version``, creating the table where there is none."""
        cls.create_table(safe=True)
        for part, value in zip(("major", "minor"), version, strict=True):
            cls.insert(part=part, value=value).on_conflict(
                conflict_target=[cls.part], update={cls.value: value}
            ).execute()


class Schema:
    """The tables of one package, their version, and the steps that lead there.

    ``steps`` maps a version to the function that turns a database of that version into one of the next version in
    the map (the last into ``version``).  A step runs in a transaction with its version row, so that one which was
    killed starts afresh; it may use models, ``orm.execute`` and playhouse.migrate.  New tables need no step.
    """

    def __init__(
        self,
        *,
        system: type[System],
        models: Sequence[type[peewee.Model]],
        version: Version,
        steps: Mapping[Version, Callable[[], None]] | None = None,
        requires: Sequence["Schema"] = (),
    ) -> None:
        self.system = system
        self.models = tuple(models)
        self.version = version
        self.steps = dict(steps or {})
        self.requires = tuple(requires)
        system.VERSION = version

    def sync(self) -> None:
        """Bring the database to ``version``, from nothing or step by step; what it requires comes first.

        Safe to run again, by two processes at once, and after a kill at any point.  Leaves a newer minor version
        alone; SchemaMismatch for a newer major one, and for an old one that no step knows.
        """
        for schema in self.requires:
            schema.sync()
        while not self._advance():
            pass

    def check(self, equal: bool = False) -> bool:
        """Tell whether the database, and what it requires, is safe to use, or with ``equal`` exactly up to date."""
        here = self.system.is_equal() if equal else self.system.is_safe()
        return here and all(schema.check(equal) for schema in self.requires)

    def _advance(self) -> bool:
        # One step in one transaction; True when there is nothing left to do.
        with orm.transaction():
            if orm.is_postgres():
                orm.rows("SELECT pg_advisory_xact_lock(?)", _LOCK)  # SQLite: every transaction is alone anyway
            here = self.system.get_version()
            if here == self.version:
                self._create()
                return True
            if here[0] > self.version[0]:
                raise self._mismatch("The database is newer than this version.", here)
            if here > self.version:
                return True
            step, target = self._next(here)
            if step is None:
                self._create()
            else:
                logger.info("%s: from %s to %s", self.system.__name__, _text(here), _text(target))
                step()
            self.system.set_version(target)
        return False

    def _next(self, here: Version) -> tuple[Callable[[], None] | None, Version]:
        known = sorted(version for version in self.steps if version >= here)
        fresh = here == NONE and not any(model.table_exists() for model in self.models)
        if fresh or (not known and here[0] == self.version[0]):
            return None, self.version  # nothing there yet, or only tables are new
        if here not in self.steps:
            raise self._mismatch("No step leads from the database's version.", here)
        return self.steps[here], known[1] if len(known) > 1 else self.version

    def _mismatch(self, message: str, here: Version) -> SchemaMismatch:
        table = self.system._meta.table_name
        return SchemaMismatch(message, table=table, found=_text(here), needed=_text(self.version))

    def _create(self) -> None:
        present = set(orm.database.get_tables())
        for model in self.models:
            if model._meta.table_name not in present:
                model.create_table(safe=True)


def _text(version: Version) -> str:
    return ".".join(map(str, version))
