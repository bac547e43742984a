"""What is told of jobs: lists of them, and of one everything that its owner may know (docs/ingest.md#jobs).

A job is told in the words of this suite; ``get_state`` tells it in Pacifica's.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

from ..common import orm
from ..common.errors import BadRequest, NotFound
from ..common.moment import asked, epoch, utc
from ..common.repetition import of_job
from ..common.state import StateChange
from .orm import Job, State
from .outlook import next_step
from .shipping import spared

MAX_LIMIT = 1000
TOLD_SECONDS = 1e-6  # to which times are told: the time that was told of a job finds it

_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)
_SECONDS = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?", re.ASCII)
_NAMES = (
    "id",
    "kind",
    "state",
    "task",
    "task_percent",
    "owner",
    "created",
    "updated",
    "bytes_done",
    "bytes_total",
    "files_done",
    "files_total",
    "code",
    "exception",
)


def page(
    owner: str | None = None,
    *,
    state: str = "",
    since: str = "",
    until: str = "",
    limit: str = "",
    cursor: str = "",
) -> dict[str, Any]:
    """Return ``{"jobs": [...], "next": cursor or null}``, the newest first; jobs of ``owner`` only, unless it is None.

    ``state`` is one state or several with commas between; ``since`` (included) and ``until`` (not included) judge the
    time of creation, in ISO 8601 (UTC where no offset is named) or epoch seconds.  Hand ``next`` back as ``cursor`` for
    the page that follows: jobs that came meanwhile move nothing.  BadRequest for what cannot be understood.
    """
    tests: list[str] = []
    values: list[Any] = []

    def test(sql: str, *more: Any) -> None:
        tests.append(sql)
        values.extend(more)

    if owner is not None:
        test("owner = ?", owner)
    if state:
        wanted = [_state(word.strip()) for word in state.split(",")]
        test(f"state IN ({', '.join('?' * len(wanted))})", *wanted)
    if since:
        test("created >= ?", asked("since", since, _SECONDS) - TOLD_SECONDS)
    if until:
        test("created < ?", asked("until", until, _SECONDS) - TOLD_SECONDS)
    if cursor:
        test("id < ?", _number("cursor", cursor))
    size = min(_number("limit", limit), MAX_LIMIT) if limit else 100
    if size < 1:
        raise BadRequest("limit must be at least 1.", parameter="limit")
    where = f" WHERE {' AND '.join(tests)}" if tests else ""
    found = orm.rows(f"SELECT {', '.join(_NAMES)} FROM job{where} ORDER BY id DESC LIMIT ?", *values, size + 1)
    jobs = [_row(row) for row in found[:size]]
    return {"jobs": jobs, "next": str(jobs[-1]["job_id"]) if len(found) > size else None}


def find(job_id: int, owner: str | None = None) -> Job:
    """Return a job; NotFound when there is none, or when it is not ``owner``'s (None: anybody's will do)."""
    job: Job | None = Job.get_or_none(Job.id == job_id) if 0 < job_id < 1 << 63 else None
    if job is None or owner not in (None, job.owner):
        raise NotFound(f"job ID {job_id} does not exist.", job_id=job_id)
    return job


def about(job: Job, keep_failed_days: float) -> dict[str, Any]:
    """Return everything that is told of ``job``: the row of a list, and why it stands where it stands."""
    log = events(job.id)
    now = orm.clock()
    return _row([getattr(job, name) for name in _NAMES]) | {
        "rate_bytes_per_second": _rate(job, log, now),
        "attempt": job.attempt,
        "transaction": job.id if job.state == State.ARCHIVED else None,
        "first_file_id": job.first_id if job.state == State.ARCHIVED else None,
        "faults": json.loads(job.faults or "[]"),
        "same_content": of_job(job.id),
        "cancel_asked_by": job.cancel,
        "trace": job.trace,
        "next": _outlook(job, now, keep_failed_days),
        "events": log,
    }


def events(job_id: int) -> list[dict[str, Any]]:
    """Return the event log of a job, oldest first; ``from`` is null for its creation, equal to ``to`` for a note."""
    log = StateChange.select().where((StateChange.kind == Job.KIND) & (StateChange.row == str(job_id)))
    return [
        {
            "at": utc(entry.at),
            "who": entry.who,
            "from": entry.source,
            "to": entry.target,
            "attempt": entry.attempt,
            "reason": entry.reason,
            "trace": entry.trace,
        }
        for entry in log.order_by(StateChange.id)
    ]


def _row(row: Sequence[Any]) -> dict[str, Any]:
    told = dict(zip(_NAMES, row, strict=True))
    return {
        "job_id": told["id"],
        "kind": str(told["kind"]),
        "state": str(told["state"]),
        "task": str(told["task"]),
        "percent": told["task_percent"],
        "complete": told["state"] in Job.FINAL,
        "owner": told["owner"],
        "created": utc(told["created"]),
        "updated": utc(told["updated"]),
        "bytes": {"done": told["bytes_done"], "total": told["bytes_total"]},
        "files": {"done": told["files_done"], "total": told["files_total"]},
        "code": told["code"],
        "exception": told["exception"],
    }


def _outlook(job: Job, now: float, keep_failed_days: float) -> dict[str, Any]:
    step = next_step(job, now, keep_failed_days, spared(job) if job.state == State.FAILED else 0)
    return step if step["at"] is None else step | {"at": utc(step["at"])}


def _rate(job: Job, log: list[dict[str, Any]], now: float) -> float | None:
    """Return how fast the bytes came, or come: from the first to the last of them, or to now."""
    if job.state == State.RECEIVING:
        seconds = now - job.created
    else:
        came = [entry["at"] for entry in log if entry["to"] == State.RECEIVED]
        if not came:
            return None
        seconds = epoch(came[0]) - job.created
    return round(job.bytes_done / max(seconds, 0.001), 1)


def _state(word: str) -> str:
    if word not in list(State):
        raise BadRequest(f"state is one of {', '.join(State)}.", parameter="state")
    return word


def _number(name: str, text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise BadRequest(f"{name} must be a whole number.", parameter=name)
    return int(text)
