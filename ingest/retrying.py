"""A failed job's second chance: its bytes are there still, or an administrator brings them."""

from pathlib import Path
from typing import Any

from ..common import draft, orm
from ..common.errors import NotFound
from ..common.outbox import ring
from ..common.spool import receive
from ..common.state import RING_SECONDS
from ..common.volume import Volume, new_name
from .orm import Job, Kind, State, Task
from .shipping import doubt, withdraw
from .spooled import Spooled

CALLER_SECONDS = 60.0  # the caller runs it; the sweeper only if the caller dies


def take_back(job: Job, volume: Volume, who: str, path: Path | None = None, failed_only: bool = False) -> None:
    """Put the FAILED ``job`` back to RECEIVED, its bundle copied from ``path`` where that is given, for the caller.

    Of a move, ``path`` is the JSON list.  ``failed_only`` spares what a remote archive was found to keep.
    NotFound when neither the spool nor ``path`` has the bundle; IllegalMove when the job is not FAILED.
    """
    if path is not None:
        name, moves = new_name(), job.kind == Kind.MOVE
        spooled = Spooled(volume, name)
        try:
            with path.open("rb", buffering=0) as file:
                size = receive(file.readinto, spooled.request if moves else spooled.path).size
        except FileNotFoundError:
            raise NotFound(f"There is no file {path}.") from None
        before = job.spool
        sizes = {} if moves else {"bytes_total": size, "bytes_done": size}
        with orm.transaction():  # the ids were given for the files of the other bundle
            _reopen(job, who, CALLER_SECONDS, spool=name, first_id=None, files_done=0, **sizes)
            withdraw(job)
        if before is not None:  # nobody would look for these files under the new name
            draft.drop_unpublished([job.id], volume)
            Spooled(volume, before).discard()
    else:
        _require_bundle(job, volume)
        with orm.transaction():
            _reopen_as_it_was(job, who, CALLER_SECONDS, failed_only)


def ring_for(job: Job, volume: Volume, who: str, failed_only: bool = False) -> None:
    """Put the FAILED ``job`` back to RECEIVED and call a worker; NotFound or IllegalMove as ``take_back``."""
    _require_bundle(job, volume)
    with orm.transaction():
        _reopen_as_it_was(job, who, RING_SECONDS, failed_only)
        ring("pacifica.ingest", "pacifica.ingest.ingest", job.id, job.attempt)


def _require_bundle(job: Job, volume: Volume) -> None:
    if job.state == State.FAILED and not (job.spool and Spooled(volume, job.spool).is_there()):
        raise NotFound("The bundle of this job is no longer in the spool; give it with `retry --path`.", job_id=job.id)


def _reopen_as_it_was(job: Job, who: str, ring_seconds: float, failed_only: bool) -> None:
    _reopen(job, who, ring_seconds, **({} if failed_only else {"files_done": 0}))
    if not failed_only:
        doubt(job)


def _reopen(job: Job, who: str, ring_seconds: float, **columns: Any) -> None:
    job.move(
        State.RECEIVED,
        who=who,
        reason="retry",
        keep_until=None,
        exception="",
        code=None,
        faults=None,
        cancel=None,
        not_before=0.0,
        ring_at=orm.clock() + ring_seconds,
        task=Task.UPLOADING,
        task_percent=100.0,
        **columns,
    )
