"""Processes, data objects and what hangs on them.

A process is a registered definition in one version; a data object is one run of it; ``Dependency`` is the graph.
JSON columns hold text: they are read as a whole or not at all.
"""

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, ClassVar

import peewee

from ..common import orm, schema
from ..common.kept import kept
from ..common.outbox import announce
from ..common.state import Work, describe
from ..common.tables import COMMON
from .definition import Definition, restore
from .parts import DataLetter
from .words import DataTag, DataText

SOURCE = "/flow"  # of this service's events
CANCELLED = "Processing was cancelled."
MAX_TEXT = 255


class State(StrEnum):
    """Where a data object stands (the original's words; FO is shown as PR)."""

    RE = "RE"  # resolving: waits for its parents
    WT = "WT"  # waiting for a worker
    PP = "PP"  # preparing: inputs are laid out
    PR = "PR"  # processing
    FO = "FO"  # a workflow that follows its steps
    OK = "OK"
    ER = "ER"


class Registered(orm.Model):
    """Base of what an administrator registers from a file: its text, and where and when it came from."""

    document = peewee.TextField()
    digest = peewee.CharField(64)
    source = peewee.TextField(default="")
    contributor = peewee.TextField(default="")
    created = peewee.DoubleField(default=orm.clock)
    modified = peewee.DoubleField(default=orm.clock)


class Process(Registered):
    """One definition in one version."""

    slug = peewee.CharField(100)
    version = peewee.CharField(11)
    order = peewee.IntegerField()  # the version as one number
    name = peewee.CharField(100)
    type = peewee.CharField(100, index=True)
    category = peewee.CharField(200)
    persistence = peewee.CharField(6)
    scheduling_class = peewee.CharField(11)
    is_active = peewee.BooleanField(default=True)

    class Meta:
        """A slug has each version once."""

        indexes = ((("slug", "order"), True),)

    @kept
    def definition(self) -> Definition:
        """The definition, as it was registered; read once for each row that was fetched."""
        return restore(json.loads(self.document))


class Data(Work):
    """One run of a process: its inputs and, at the end, its outputs."""

    KIND = "data"
    MOVES: ClassVar[Mapping[str, set[str]]] = {
        State.RE: {State.WT, State.OK, State.ER},  # OK: by an earlier result
        State.WT: {State.PP, State.PR, State.ER},  # PR: there is nothing to prepare
        State.PP: {State.PR, State.OK, State.ER},
        State.PR: {State.FO, State.OK, State.ER},
        State.FO: {State.OK, State.ER},
        State.ER: {State.RE},
    }
    FINAL = frozenset({State.OK, State.ER})
    FAILED = State.ER
    CANCELLED = State.ER
    CLAIMABLE = frozenset({State.WT, State.PP, State.PR})
    FORGETTABLE = True  # whatever lasts comes in a later commit, which asks whose the object is
    ALSO = '(SELECT r.modified FROM process r WHERE r.id = "data".process)'

    process = peewee.BigIntegerField()
    type = peewee.CharField(100, index=True)
    slug = peewee.CharField(200, null=True, unique=True)
    name = peewee.CharField(100, default="")
    interactive = peewee.BooleanField(default=False)  # by its process, when it was made: its queue
    named_by_user = peewee.BooleanField(default=False)
    tags = peewee.TextField(default="[]")
    input = peewee.TextField(default="{}")
    output = peewee.TextField(default="{}")
    resources = peewee.TextField(default="{}")  # overrides of cores, memory, storage
    run = peewee.TextField(default="{}")  # how its program ran: executor, seconds, memory, what was not enforced
    process_info = peewee.TextField(default="[]")
    process_warning = peewee.TextField(default="[]")
    process_error = peewee.TextField(default="[]")
    process_rc = peewee.IntegerField(null=True)
    process_progress = peewee.IntegerField(default=0)
    started = peewee.DoubleField(null=True)
    finished = peewee.DoubleField(null=True)
    size = peewee.BigIntegerField(default=0)
    checksum = peewee.CharField(64, default="", index=True)  # of the completed input, as ``get_or_create`` has it
    content = peewee.CharField(64, null=True)  # digest of what an OK run has made
    reuse = peewee.BooleanField(default=True)  # may be answered by an earlier result
    reuse_key = peewee.CharField(64, null=True, index=True)
    reuse_parts = peewee.TextField(default="{}")
    origin = peewee.BigIntegerField(null=True, index=True)  # whose result this is
    twin = peewee.BigIntegerField(null=True, index=True)  # the equal run that this one waits for
    invalidated = peewee.BooleanField(default=False)  # its result is not used again

    class Meta:
        """What lists are filtered and ordered by."""

        indexes = (
            (("owner", "created"), False),
            (("owner", "state", "created"), False),
            (("owner", "type", "created"), False),
            (("owner", "name"), False),
            (("process", "owner"), False),
            (("created",), False),
            *(((*whose, column), False) for column in ("started", "finished", "updated") for whose in ((), ("owner",))),
            (("owner", "id"), False),
            (("name",), False),
        )

    def failed(self, error: Exception) -> None:
        """Enter ER with what may be told of ``error``, and announce it."""
        self.end_badly(describe(error)[0])

    def cancelled(self, who: str) -> None:
        """Enter ER because ``who`` asked for it."""
        self.end_badly(CANCELLED, who=who, cancel=None)

    def end_badly(self, text: str, *, who: str | None = None, **columns: Any) -> None:
        """Enter ER with the error ``text`` beside those that are there."""
        errors = json.loads(self.process_error)
        text = text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 3] + "..."
        if text not in errors:
            errors.append(text)
        self.end(State.ER, reason=text, who=who, process_error=json.dumps(errors), **columns)

    def end(self, state: State, *, reason: str = "", who: str | None = None, **columns: Any) -> None:
        """Enter OK or ER, and announce it in the same commit."""
        with orm.transaction():
            self.move(state, reason=reason, who=who, finished=orm.now(), **columns)
            facts = {"data": self.id, "type": self.type, "owner": self.owner, "rc": self.process_rc}
            facts |= {"reused_from": self.origin}
            errors = json.loads(self.process_error)
            word = "done" if state == State.OK else "failed"
            announce(f"pacifica.flow.{word}", f"data/{self.id}", facts | {"errors": errors}, source=SOURCE,
                     moment=self.finished)  # fmt: skip


class Dependency(orm.Model):
    """``child`` needs ``parent`` (io), or was started by it (subprocess); a deleted parent is null."""

    parent = peewee.BigIntegerField(null=True, index=True)
    child = peewee.BigIntegerField(index=True)
    kind = peewee.CharField(10)


class Storage(orm.Model):
    """A document of a ``basic:json:`` value."""

    owner = peewee.TextField(index=True)
    json = peewee.TextField()


class DataFile(orm.Model):
    """A file that a run saved, and the archived file that holds it; written before its bytes, by attempt."""

    data = peewee.BigIntegerField(index=True)
    attempt = peewee.IntegerField()
    name = peewee.TextField()
    file_id = peewee.BigIntegerField(index=True)  # shared by objects that reuse a result
    size = peewee.BigIntegerField()
    sha256 = peewee.CharField(64)


class Annotation(orm.Model):
    """A key-value of the catalogue (``entry``) that the run ``data`` has entered."""

    data = peewee.BigIntegerField(index=True)
    transaction = peewee.BigIntegerField()
    key = peewee.TextField()
    entry = peewee.BigIntegerField()

    class Meta:
        """Looked for by transaction and key."""

        indexes = ((("transaction", "key"), False),)


class TriggerRow(Registered):
    """A registered trigger; ``enabled`` is the administrator's last word."""

    slug = peewee.CharField(100, unique=True)
    event = peewee.CharField(100)
    enabled = peewee.BooleanField(default=True)

    class Meta:
        """The word is PostgreSQL's own."""

        table_name = "flowtrigger"


class Firing(orm.Model):
    """What a trigger made of one event: a run (``data``), or an ``error``; ``lineage`` are the triggers before it."""

    trigger = peewee.CharField(100)
    event = peewee.CharField(200)
    type = peewee.CharField(100)
    subject = peewee.TextField(default="")
    owner = peewee.TextField(default="")
    data = peewee.BigIntegerField(null=True, index=True)
    error = peewee.TextField(default="")
    lineage = peewee.TextField(default="[]")
    created = peewee.DoubleField(default=orm.clock)

    class Meta:
        """One event fires a trigger once."""

        indexes = ((("trigger", "event"), True),)


class Creation(orm.Model):
    """What ``owner`` created under the Idempotency-Key ``key`` by a document of the SHA-256 ``digest``: ``made``."""

    owner = peewee.TextField()
    key = peewee.CharField(255)
    digest = peewee.CharField(64)
    made = peewee.TextField(default="[]")  # ids
    created = peewee.DoubleField(default=orm.clock, index=True)

    class Meta:
        """A key is its owner's."""

        indexes = ((("owner", "key"), True),)


class FlowSystem(schema.System):
    """The version of flow's schema."""


def _index_lists() -> None:
    """Add the indexes by which lists stay quick; one of them takes another's place."""
    Data._schema.create_indexes(safe=True)
    orm.execute("DROP INDEX IF EXISTS data_process")


def _add_run() -> None:
    orm.execute("ALTER TABLE data ADD COLUMN run TEXT NOT NULL DEFAULT '{}'")


def _add_interactive() -> None:
    orm.execute("ALTER TABLE data ADD COLUMN interactive BOOLEAN NOT NULL DEFAULT FALSE")
    quick = "SELECT id FROM process WHERE scheduling_class = 'interactive'"
    orm.execute(f"UPDATE data SET interactive = TRUE WHERE process IN ({quick}) AND state NOT IN ('OK', 'ER')")


def _index_orders() -> None:
    """Add an index for each order, and drop what found words and parts of names before."""
    Data._schema.create_indexes(safe=True)
    for name in ("data_words", "data_parts") if orm.is_postgres() else ():
        orm.execute(f"DROP INDEX IF EXISTS {name}")
    if not orm.is_postgres():
        for name in ("insert", "update", "delete"):
            orm.execute(f"DROP TRIGGER IF EXISTS datapart_{name}")
        orm.execute("DROP TABLE IF EXISTS datapart")


SCHEMA = schema.Schema(
    system=FlowSystem,
    models=[
        Process,
        Data,
        Dependency,
        Storage,
        DataFile,
        Annotation,
        TriggerRow,
        Firing,
        Creation,
        DataTag,
        DataText,
        DataLetter,
    ],
    version=(1, 5),
    steps={
        (1, 0): _index_lists,
        (1, 1): _add_run,
        (1, 2): _add_interactive,
        (1, 3): lambda: None,  # a table came, which needs no step
        (1, 4): _index_orders,
    },
    requires=(COMMON,),
)
