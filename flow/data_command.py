"""``pacifica-flow-cmd run|ls|show|tail|restart|cancel``: data objects from the command line (docs/flow.md#commands)."""

import argparse
import getpass
import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ..common import outbox
from ..common.commands import Subparsers
from ..common.errors import BadRequest, Conflict, NotFound
from ..common.ledger import ArchivedFile
from . import arguments, creation, dispatch, given, lists, logs, shown
from .hydrate import URLS
from .orm import Data, Process
from .query import project
from .restart import restart
from .sending import send
from .service import SERVICE
from .versions import newest
from .world import archived_id

OF_FILES = {"project": "flow", "instrument": "flow"}
FAILED, LATE = 3, 4  # exit codes: the object ended in ER; it had not ended in time
POLL_SECONDS = 0.1


def extend(commands: Subparsers) -> None:
    """Add run, ls, show, tail, restart, cancel."""
    run = commands.add_parser("run", help="run a process on inputs")
    run.add_argument("process", metavar="SLUG", help="its newest version")
    run.add_argument("words", nargs="*", metavar="KEY=VALUE", help="inputs; @PATH for what a file holds, or a file")
    run.add_argument("--input", default="{}", metavar="JSON|@PATH", help="inputs as one object, below KEY=VALUE")
    run.add_argument("--name", help="name of the object")
    run.add_argument("--slug", help="slug of the object")
    run.add_argument("--tag", action="append", default=[], dest="tags")
    run.add_argument("--no-reuse", action="store_true", help="run it although an equal result is there")
    run.add_argument("--user", help="whose it is (default: default_user, or with a proxy who you are)")
    run.add_argument("--ingest", metavar="URL", default="http://127.0.0.1:8066", help="where files go (%(default)s)")
    for name in ("submitter", "project", "instrument"):
        run.add_argument(f"--{name}", help=f"{name} of files that are sent (default: {OF_FILES.get(name, 'the user')})")
    run.add_argument("--token-file", type=Path, help="whose content is sent to ingest as Bearer")
    run.add_argument("--wait", action="store_true", help="until it ends; exit code 3 when it failed")
    run.add_argument("--tail", action="store_true", help="wait, and print what the program prints")
    run.add_argument("--timeout", type=float, metavar="SECONDS", help="of waiting; then exit code 4")
    run.add_argument("--json", action="store_true", help="print the object instead of its id")
    run.set_defaults(command=_run)
    listed = commands.add_parser("ls", help="list data objects, the newest first")
    listed.add_argument("filters", nargs="*", metavar="FILTER=VALUE", help="as of GET /api/data: status=ER")
    listed.add_argument("--user", help="of this user only")
    listed.add_argument("--json", action="store_true", help="one JSON object a line")
    listed.set_defaults(command=_ls)
    show = _of_one(commands, "show", _show, "all that is known of an object, as JSON")
    show.add_argument("--fields", default="", help="only these: output,process__slug")
    tail = _of_one(commands, "tail", _tail, "print what its program has printed")
    tail.add_argument("--follow", "-f", action="store_true", help="until it ends; exit code 3 when it failed")
    again = _of_one(commands, "restart", _restart, "send a failed object and all that depends on it through again")
    for resource, unit in (("cores", "N"), ("memory", "MB"), ("storage", "GIB")):
        again.add_argument(f"--{resource}", type=int, metavar=unit, help="for this object from now on")
    cancel = _of_one(commands, "cancel", _cancel, "end an object")
    cancel.add_argument("--graph", action="store_true", help="its steps and all that depends on it too")


def _of_one(
    commands: Subparsers, name: str, command: Callable[[argparse.Namespace], int], text: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text)
    parser.add_argument("object", metavar="ID|SLUG")
    parser.set_defaults(command=command)
    return parser


def _run(asked: argparse.Namespace) -> int:
    _reach_workers()
    auth = SERVICE.settings().auth
    owner = creation.Owner(asked.user or (auth.default_user if auth.mode == "none" else getpass.getuser()))
    process = newest(asked.process)
    base = arguments.document(asked.input)

    def file(text: str) -> dict[str, str]:
        if not text.startswith("@"):
            return _file(text)
        about = {name: getattr(asked, name) or OF_FILES.get(name, owner.name) for name in ("submitter", *OF_FILES)}
        token = asked.token_file.read_text("utf-8").strip() if asked.token_file else ""
        path = Path(text.removeprefix("@"))
        return {"file": path.name, "file_temp": f"archive:{send(path, asked.ingest, about, token)}"}

    def inputs(file: Callable[[str], dict[str, str]]) -> dict[str, Any]:
        fields = process.definition.input
        return arguments.inputs(fields, asked.words, base, lambda slug: int(_find(slug).id), file)

    options = given.options({"name": asked.name, "slug": asked.slug, "tags": asked.tags, "reuse": not asked.no_reuse})
    creation.checked(process, inputs(_stand_in), owner)  # what is refused is refused before a file is sent
    values = inputs(file)
    data = creation.create(process, values, owner, **options)
    if not (asked.wait or asked.tail):
        _say(shown.data(data, process) if asked.json else data.id)
        return 0
    try:
        code = _follow(data.id, aloud=asked.tail, seconds=asked.timeout)
    except KeyboardInterrupt:
        sys.stderr.write(f"{data.id} goes on; `pacifica-flow-cmd cancel {data.id}` ends it\n")
        return 130
    ended = shown.data(_find(str(data.id)), process)
    _say(ended if asked.json else data.id)
    sys.stderr.write("".join(f"{ended['status']} {text}\n" for text in ended["process_error"] or [""]))
    return code


def _stand_in(text: str) -> dict[str, str]:
    """Return a value like that of the file that will be sent."""
    if not text.startswith("@"):
        return _file(text)
    return {"file": Path(text.removeprefix("@")).name, "file_temp": f"{URLS[0]}to.be.sent"}


def _ls(asked: argparse.Namespace) -> int:
    parameters: dict[str, Any] = {"limit": "50"}
    for word in asked.filters:
        name, equals, value = word.partition("=")
        if not equals:
            raise BadRequest(f"A filter is given as name=value, not {word!r:.80}.")
        parameters[name] = value
    rows = lists.data(parameters, asked.user, SERVICE.settings().flow.list_rows)
    processes = {
        process.id: process for process in Process.select().where(Process.id.in_({row.process for row in rows}))
    }
    line = "{id:>8}  {status}  {process_progress:>3}%  {created:.19}  {process[slug]:<24}  {name}\n"
    for row in rows:
        said = shown.data(row, processes[row.process])
        sys.stdout.write(json.dumps(said) + "\n" if asked.json else line.format(**said))
    return 0


def _show(asked: argparse.Namespace) -> int:
    data = _find(asked.object)
    _say(project(shown.data(data, Process.get_by_id(data.process)), asked.fields))
    return 0


def _tail(asked: argparse.Namespace) -> int:
    data = _find(asked.object)
    if asked.follow:
        return _follow(data.id, aloud=True)
    file = logs.opened(SERVICE.volume, data)
    if file is not None:
        with file:
            sys.stdout.write(file.read().decode("utf-8", "replace"))
    return 0


def _restart(asked: argparse.Namespace) -> int:
    _reach_workers()
    data = _find(asked.object)
    named = {name: getattr(asked, name) for name in ("cores", "memory", "storage")}
    wanted = {name: amount for name, amount in named.items() if amount is not None}
    overrides = {int(data.id): given.resources(wanted)} if wanted else {}
    _tell("restarted", restart(data, getpass.getuser(), SERVICE.volume, overrides))
    return 0


def _cancel(asked: argparse.Namespace) -> int:
    _reach_workers()
    data = _find(asked.object)
    if data.state in Data.FINAL and not asked.graph:
        raise Conflict("The object has ended already.", status=data.state)
    _tell("cancelled", dispatch.cancel(data, getpass.getuser(), graph=asked.graph))
    return 0


def _follow(id: int, *, aloud: bool, seconds: float | None = None) -> int:
    """Wait for the end of an object, printing meanwhile what its program prints; return the exit code."""
    end = None if seconds is None else time.monotonic() + seconds
    written = 0
    while True:
        data = _find(str(id))
        if aloud:
            written += _print(data, written)
        if data.state in Data.FINAL:
            return 0 if data.state == "OK" else FAILED
        if end is not None and time.monotonic() > end:
            return LATE
        time.sleep(POLL_SECONDS)


def _print(data: Data, offset: int) -> int:
    """Print what the program of ``data`` has printed from ``offset`` on; return how many bytes that was."""
    log = logs.opened(SERVICE.volume, data)
    if log is None:
        return 0
    with log:
        log.seek(offset)
        text = log.read()
    sys.stdout.buffer.write(text)
    sys.stdout.flush()
    return len(text)


def _find(name: str) -> Data:
    """Return the object whose id or slug is ``name``; NotFound without one."""
    wanted = Data.id == int(name) if name.isdecimal() and len(name) < 19 else Data.slug == name
    data: Data | None = Data.get_or_none(wanted)
    if data is None:
        raise NotFound(f"There is no data object {name!r:.120}.")
    return data


def _file(temporary: str) -> dict[str, str]:
    """Return the value of a file input: the archived file under the name that it has."""
    try:
        held = ArchivedFile.get_or_none(ArchivedFile.id == archived_id(temporary))
    except ValueError as error:
        raise BadRequest(f"{temporary!r:.80}: {error}.") from error
    if held is None:
        raise NotFound(f"There is no file {temporary} in the archive.")
    return {"file": held.name, "file_temp": temporary}


def _reach_workers() -> None:
    """Have what is created rung for at once, where the broker is not inside another process."""
    broker = SERVICE.settings().celery.broker_url
    if not broker.startswith("memory:"):
        outbox.configure(broker)


def _say(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def _tell(word: str, ids: Iterable[int]) -> None:
    sys.stdout.write(f"{word}: {', '.join(map(str, ids))}\n")
