"""The job: one bundle on its way into the archive, and Pacifica's words for it.

A job's id is also the id of the transaction it becomes.  ``Job`` is the truth; ``IngestState`` reads the view
``ingeststate``, which shows each job as Pacifica's table of that name did (``docs/ingest.md#states``).
"""

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, ClassVar

import peewee

from ..common import orm, schema
from ..common.errors import Cancelled, ServiceError
from ..common.state import Work
from ..common.tables import COMMON
from .account import account, faults_of
from .config import settings
from .events import announce_failed
from .ids import given
from .notice import Notice
from .shipment import Shipped
from .takeover import take_over


class State(StrEnum):
    """Where a job stands; the moves between are ``Job.MOVES``."""

    RECEIVING = "RECEIVING"  # the body is arriving
    RECEIVED = "RECEIVED"  # the bundle is durable in the spool
    VERIFIED = "VERIFIED"  # every member agrees with metadata.txt
    ARCHIVING = "ARCHIVING"  # file ids are given, rows and bytes move into the archive
    ARCHIVED = "ARCHIVED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class Task(StrEnum):
    """Pacifica's names of the steps, as clients see them in ``task``."""

    UPLOADING = "UPLOADING"
    OPEN = "open tar"
    METADATA = "load metadata"
    POLICY = "Policy Validation"
    FILES = "ingest files"
    MOVE = "move files"  # in the place of FILES for a job of POST /move
    CATALOG = "ingest metadata"


class Kind(StrEnum):
    """How the files come to us."""

    UPLOAD = "upload"  # in the request's body
    MOVE = "move"  # from folders of this machine that the body lists


class Job(Work):
    """One ingest.  ``spool`` names its files in the spool and its pack; None once nothing can be left in the spool."""

    KIND = "job"
    MOVES: ClassVar[Mapping[str, set[str]]] = {
        State.RECEIVING: {State.RECEIVED, State.FAILED, State.CANCELLED},
        State.RECEIVED: {State.VERIFIED, State.FAILED, State.CANCELLED},
        State.VERIFIED: {State.ARCHIVING, State.FAILED, State.CANCELLED},
        State.ARCHIVING: {State.ARCHIVED, State.FAILED, State.CANCELLED},
        State.FAILED: {State.RECEIVED},  # an administrator's retry
    }
    FINAL = frozenset({State.ARCHIVED, State.FAILED, State.CANCELLED})
    CLAIMABLE = frozenset({State.RECEIVED, State.VERIFIED, State.ARCHIVING})

    id = peewee.BigIntegerField(primary_key=True)
    kind = peewee.CharField(10, default=Kind.UPLOAD)
    task = peewee.CharField(default=Task.UPLOADING)
    task_percent = peewee.DoubleField(default=0.0)
    spool = peewee.CharField(32, null=True)
    keep_until = peewee.DoubleField(null=True)  # of a FAILED job: its spool is of no use after this time
    bytes_total = peewee.BigIntegerField(null=True)  # Content-Length; None while a chunked body arrives
    bytes_done = peewee.BigIntegerField(default=0)
    files_total = peewee.IntegerField(null=True)
    files_done = peewee.IntegerField(default=0)
    first_id = peewee.BigIntegerField(null=True)  # of the contiguous file ids given to this bundle
    faults = peewee.TextField(null=True)  # JSON list of {file, code, message}

    class Meta:
        """The reaper asks for jobs that are over and have a spool, users for their own, newest first."""

        indexes = ((("state", "spool"), False), (("owner", "id"), False))

    def failed(self, error: Exception) -> None:
        """Enter FAILED and announce it.  A bundle that came whole and failed by a fault of ours is kept for `retry`."""
        told: dict[str, Any] = {}
        if isinstance(error, ServiceError):
            told = {"exception": account(error), "faults": json.dumps(faults_of(error))}
        clients = isinstance(error, ServiceError) and error.status < 500 and not error.retryable
        useless = clients or self.state == State.RECEIVING
        with orm.transaction():
            self.fail(error, keep_until=orm.now() if useless else None, **told)
            announce_failed(self)

    def cancelled(self, who: str) -> None:
        """Enter CANCELLED and announce that nothing came of it; nothing of its bytes is kept."""
        text = f"Cancelled by {who}."
        with orm.transaction():
            self.move(
                State.CANCELLED, reason=text, who=who, exception=text, code=Cancelled.code, keep_until=orm.clock()
            )
            announce_failed(self)

    @property
    def files_task(self) -> Task:
        """What Pacifica calls the step in which this job's bytes move."""
        return Task.MOVE if self.kind == Kind.MOVE else Task.FILES

    def step(self, task: Task, percent: float, **columns: Any) -> None:
        """Show that ``task`` has come to ``percent``; IllegalMove when this attempt is stale."""
        self.progress(task=task, task_percent=percent, **columns)


class UploadState(StrEnum):
    """Where a resumable upload stands; the moves between are ``Upload.MOVES``."""

    OPENED = "OPENED"  # bytes may come
    FINISHED = "FINISHED"  # all came, and are a job's now
    EXPIRED = "EXPIRED"  # nobody went on with it
    TERMINATED = "TERMINATED"  # its owner gave it up
    FAILED = "FAILED"  # the disk lost bytes of it


class Upload(Work):
    """One resumable upload.  ``attempt`` counts the requests that took it over: only the last one may write.

    Its offset stands nowhere but on disk: the size of the file that ``spool`` names.
    """

    KIND = "upload"
    MOVES: ClassVar[Mapping[str, set[str]]] = {
        UploadState.OPENED: {
            UploadState.FINISHED,
            UploadState.EXPIRED,
            UploadState.TERMINATED,
            UploadState.FAILED,
        }
    }
    FINAL = frozenset(set(UploadState) - {UploadState.OPENED})
    CLAIMABLE = frozenset()

    id = peewee.CharField(32, primary_key=True)
    spool = peewee.CharField(32, null=True)  # as a job's; None once the file is the job's, or removed
    length = peewee.BigIntegerField()
    metadata = peewee.TextField(default="")  # Upload-Metadata as it was sent
    unproven_from = peewee.BigIntegerField(null=True)  # what lies behind came with a digest that was not compared yet
    job = peewee.BigIntegerField(null=True)


class IdempotencyKey(orm.Model):
    """What a client's Idempotency-Key stands for: a request, and once that is ``done``, what it made."""

    owner = peewee.TextField()
    key = peewee.TextField()
    kind = peewee.CharField(max_length=20)  # which route: upload, files, ...
    length = peewee.BigIntegerField(null=True)  # of the body; None of a chunked one
    digests = peewee.TextField(default="{}")  # JSON: what was declared of the body, hex by algorithm
    content = peewee.TextField(null=True)  # what the body turned out to be, to tell it from another one
    subject = peewee.TextField(null=True)  # the id of the job or upload
    done = peewee.BooleanField(default=False)
    created = peewee.DoubleField(index=True)
    lease_until = peewee.DoubleField(null=True)  # of the request that is at it
    leased_by = peewee.TextField(null=True)

    class Meta:
        indexes = ((("owner", "key"), True),)


class IngestState(orm.Model):
    """A job in the columns of Pacifica's table (schema 2.0); read only, a view of ``Job``."""

    job_id = peewee.BigIntegerField(primary_key=True, column_name="id")
    state = peewee.CharField()
    task = peewee.CharField()
    task_percent = peewee.DecimalField(max_digits=10, decimal_places=5)
    exception = peewee.TextField()
    complete = peewee.BooleanField()
    created = peewee.DateTimeField()
    updated = peewee.DateTimeField()

    @classmethod
    def create_table(cls, safe: bool = True, **options: Any) -> None:
        """Make the view anew."""
        utc = (
            "to_timestamp({}) AT TIME ZONE 'UTC'"
            if orm.is_postgres()
            else "strftime('%Y-%m-%d %H:%M:%f', {}, 'unixepoch')"
        )
        orm.execute("DROP VIEW IF EXISTS ingeststate")
        orm.execute(
            "CREATE VIEW ingeststate AS SELECT id, "
            "CASE WHEN state IN ('FAILED', 'CANCELLED') THEN 'FAILED' ELSE 'OK' END AS state, task, "
            "CAST(task_percent AS DECIMAL(10, 5)) AS task_percent, exception, "
            "(state IN ('ARCHIVED', 'FAILED', 'CANCELLED')) AS complete, "
            f"{utc.format('created')} AS created, {utc.format('updated')} AS updated FROM job"
        )


class IngestStateSystem(schema.System):
    """The version of ingest's schema, in Pacifica's layout."""


def open_job(
    owner: str, spool: str, length: int | None, idle_seconds: float, trace: str | None, number: int | None = None
) -> Job:
    """Insert and return a new job of ``owner`` whose body of ``length`` bytes (None: unknown) begins to arrive.

    ``number`` is its id, where uniqueid gave one.
    """
    with orm.transaction():
        return Job.start(
            id=given("upload_job", number),
            state=State.RECEIVING,
            owner=owner,
            trace=trace,
            spool=spool,
            bytes_total=length,
            deadline=orm.now() + idle_seconds,
        )


def _take_over() -> None:
    take_over(Job, settings().auth.default_user)


SCHEMA = schema.Schema(
    system=IngestStateSystem,
    models=[Job, Upload, IdempotencyKey, Notice, Shipped, IngestState],
    version=(3, 0),
    steps=dict.fromkeys([(0, 0), (1, 0), (2, 0)], _take_over),  # Pacifica's; the first of them does it all
    requires=(COMMON,),
)
