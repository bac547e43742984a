"""What an administrator can do to jobs from the command line (docs/ingest.md#commands)."""

import argparse
import getpass
import json
import sys
from pathlib import Path
from typing import Any

from ..common.errors import BadRequest
from .config import settings
from .disk import report
from .jobs import about, events, find, page
from .orm import SCHEMA, Job, Kind, State, Task
from .rest import state_object
from .retrying import ring_for, take_back
from .takeover import read_in
from .tasks import ingest, volume

Parser = argparse.ArgumentParser


def extend(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``job``, ``retry`` and ``disk``; Pacifica's flags keep their meaning, in both spellings."""
    job = commands.add_parser("job", help="list, show, retry or cancel jobs; with flags alone: show or overwrite one")
    _add_job_id(job)
    job.add_argument("--state", help="OK or FAILED")
    job.add_argument("--task", help="one of: " + ", ".join(Task))
    job.add_argument("--task-percent", "--task_percent", type=_percent)
    job.add_argument("--exception", help="why it failed, for clients to read")
    job.set_defaults(command=_job)
    _add_actions(job)

    retry = commands.add_parser("retry", help="run a failed job again, in this process")
    _add_job_id(retry, required=True)
    retry.add_argument("--move", action="store_true", help="it is a job of POST /move; --path is then its JSON list")
    retry.add_argument("--path", type=Path, help="the bundle, where the spool no longer has it; the file is copied")
    retry.add_argument("--username", default=getpass.getuser(), help="who asks, for the event log (%(default)s)")
    _add_failed(retry)
    retry.set_defaults(command=_retry)

    dbsync = commands.choices["dbsync"]
    dbsync.add_argument("--from", dest="source", metavar="URL", help="then read in jobs and ids of a Pacifica database")
    dbsync.set_defaults(command=_dbsync)

    disk = commands.add_parser("disk", help="what lies in the spool, for which jobs, and how much room is left")
    disk.add_argument("--json", action="store_true", help="for programs; sizes in bytes, ages in seconds")
    disk.set_defaults(command=_disk)


def overwrite(job: Job, who: str, state: str | None, exception: str | None, **columns: Any) -> None:
    """Fail ``job``, or change what clients see of it; BadRequest for a state that only work can lead to."""
    if state == "FAILED":
        job.move(State.FAILED, who=who, reason=exception or "", exception=exception or "", **columns)
    elif state not in (None, "OK") or (state == "OK" and job.state in (State.FAILED, State.CANCELLED)):
        raise BadRequest(f"A job of state {job.state} cannot be made {state} by hand; see `retry`.")
    elif columns or exception is not None:
        job.progress(**columns, **({} if exception is None else {"exception": exception}))
        job.note(f"overwritten: {', '.join(columns)}", who=who)


def _dbsync(arguments: argparse.Namespace) -> int:
    SCHEMA.sync()
    if arguments.source is not None:
        counts = read_in(arguments.source, Job, settings().auth.default_user)
        sys.stdout.writelines(f"{what} read in: {count}\n" for what, count in counts.items())
    return 0


def _add_actions(job: Parser) -> None:
    actions = job.add_subparsers(metavar="list|show|retry|cancel")
    listed = actions.add_parser("list", help="the newest first")
    listed.add_argument("--state", default="", help="one of, or several with commas: " + ", ".join(State))
    listed.add_argument("--owner", help="of this user only")
    listed.add_argument("--since", default="", help="made at this time or later: ISO 8601 in UTC, or epoch seconds")
    listed.add_argument("--until", default="", help="made before this time")
    listed.add_argument("--limit", default="100", help="at most so many (%(default)s)")
    listed.add_argument("--cursor", default="", help="go on where the last list ended")
    listed.add_argument("--json", action="store_true", help="for programs")
    listed.set_defaults(command=_list)
    for name, command, text in (
        ("show", _show, "everything that is known of one, as JSON"),
        ("retry", _queue, "give failed ones to the workers again"),
        ("cancel", _cancel, "end ones that are not over; works when no worker runs"),
    ):
        action = actions.add_parser(name, help=text)
        action.add_argument("jobs", type=int, nargs="+", metavar="JOB_ID")
        action.set_defaults(command=command)
        if name == "retry":
            _add_failed(action)


def _job(arguments: argparse.Namespace) -> int:
    if arguments.job_id is None:
        raise BadRequest("Say what to do (list, show, retry, cancel), or name a job with --job-id.")
    job = find(arguments.job_id)
    columns = {"task": arguments.task, "task_percent": arguments.task_percent}
    given = {name: value for name, value in columns.items() if value is not None}
    overwrite(job, getpass.getuser(), arguments.state, arguments.exception, **given)
    more = {"owner": job.owner, "step": str(job.state), "attempt": job.attempt, "events": events(job.id)}
    return _print(state_object(job.id) | more)


def _list(arguments: argparse.Namespace) -> int:
    filters = {name: getattr(arguments, name) for name in ("state", "since", "until", "limit", "cursor")}
    found = page(arguments.owner, **filters)
    if arguments.json:
        return _print(found)
    line = "{job_id:>10}  {state:<9}  {task:<17}  {percent:>5.1f}%  {created:.19}  {owner:<12}  {told}\n"
    for job in found["jobs"]:
        sys.stdout.write(line.format(**job, told=job["exception"].partition("\n")[0]))
    if found["next"]:
        sys.stdout.write(f"There are more: --cursor {found['next']}\n")
    return 0


def _show(arguments: argparse.Namespace) -> int:
    told = [about(find(id), settings().ingest.keep_failed_days) for id in arguments.jobs]
    return _print(told[0] if len(told) == 1 else told)


def _queue(arguments: argparse.Namespace) -> int:
    for job in map(find, arguments.jobs):
        ring_for(job, volume(), getpass.getuser(), arguments.failed)
        sys.stdout.write(f"job {job.id}: {job.state}\n")
    return 0


def _cancel(arguments: argparse.Namespace) -> int:
    for job in map(find, arguments.jobs):
        job.ask_cancel(getpass.getuser())
        sys.stdout.write(f"job {job.id}: {job.state if job.state in Job.FINAL else 'asked of its worker'}\n")
    return 0


def _retry(arguments: argparse.Namespace) -> int:
    job = find(arguments.job_id)
    if arguments.move and job.kind != Kind.MOVE:
        raise BadRequest(f"job {job.id} is no move: its files came in a bundle.")
    take_back(job, volume(), arguments.username, arguments.path, arguments.failed)
    ingest(job.id, job.attempt)
    shown = state_object(job.id)
    _print(shown)
    return 0 if shown["state"] == "OK" else 1


def _disk(arguments: argparse.Namespace) -> int:
    found = report(volume())
    if arguments.json:
        return _print(found)
    for name in ("free", "watermark", "reserved"):
        sys.stdout.write(f"{name:<12} {_size(found[f'{name}_bytes']):>12}\n")
    for state, entry in sorted(found["spool"].items()):
        told = f"{entry['files']} files of {entry['jobs']} jobs"
        sys.stdout.write(f"{state:<12} {_size(entry['bytes']):>12}  {told}\n")
    if found["oldest"]:
        sys.stdout.write(f"The oldest is {found['oldest']['age_seconds']} s old: {found['oldest']['file']}\n")
    if not found["takes_uploads"]:
        sys.stdout.write("The volume is at its watermark: uploads are refused with 507.\n")
    return 0


def _size(count: int) -> str:
    return f"{count / (1 << 20):.1f} MiB"


def _print(told: Any) -> int:
    sys.stdout.write(json.dumps(told, indent=2) + "\n")
    return 0


def _add_failed(parser: Parser) -> None:
    text = "send only files that a remote archive has not been found to keep; without it every file again"
    parser.add_argument("--failed", "--failed-only", action="store_true", help=text)


def _percent(text: str) -> float:
    """Return a number from 0 to 100; JSON and the databases have no others that argparse's float would let pass."""
    number = float(text)
    if not 0 <= number <= 100:
        raise argparse.ArgumentTypeError(f"{text} is no number from 0 to 100")
    return number


def _add_job_id(parser: Parser, required: bool = False) -> None:
    parser.add_argument("--job-id", "--job_id", type=int, required=required)
