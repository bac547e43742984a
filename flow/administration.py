"""What an administrator can do from the command line (docs/flow.md#operating)."""

import argparse
import getpass
import json
import sys
from pathlib import Path

from ..common.errors import BadConfiguration, NotFound
from . import dispatch, trigger_command
from .doctor import examine
from .orm import Data
from .register import LIBRARY
from .registry import register, retire
from .running import live_log, log_path
from .service import SERVICE


def extend(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add register, show, tail, restart, cancel, trigger, doctor."""
    found = commands.add_parser("register", help="register the process definitions in folders")
    found.add_argument("folders", type=Path, nargs="*", metavar="DIR", help="default: [flow] process_dirs")
    found.add_argument("--shipped", action="store_true", help="also the processes and triggers that come with flow")
    found.add_argument("--force", action="store_true", help="overwrite a version that is there")
    found.add_argument("--retire", action="store_true", help="take back processes that the folders no longer hold")
    found.add_argument("--json", action="store_true", help="one JSON object a definition")
    found.set_defaults(command=_register)
    for name, command, text in (
        ("show", _show, "show a data object"),
        ("tail", _tail, "print what its program has printed"),
        ("restart", _restart, "restart a failed object and all that depends on it"),
        ("cancel", _cancel, "cancel an object; --graph: its steps and all that depends on it too"),
    ):
        one = commands.add_parser(name, help=text)
        one.add_argument("id", type=int)
        if name == "cancel":
            one.add_argument("--graph", action="store_true")
        one.set_defaults(command=command)
    trigger_command.extend(commands)
    doctor = commands.add_parser("doctor", help="try what this host can enforce")
    doctor.set_defaults(command=_doctor)


def _register(arguments: argparse.Namespace) -> int:
    folders = arguments.folders or [Path(folder) for folder in SERVICE.settings().flow.process_dirs]
    folders += [LIBRARY] if arguments.shipped else []
    if not folders:
        raise BadConfiguration("Name a folder, or set process_dirs.", section="flow", key="process_dirs")
    refused = 0
    slugs: dict[str, set[str]] = {"process": set(), "trigger": set()}
    for verdict in register(folders, getpass.getuser(), force=arguments.force):
        refused += verdict.action == "refuse"
        slugs[verdict.found.kind].add(verdict.found.slug)
        place = f"{verdict.found.file}:{verdict.found.line}"
        said = [verdict.message, *(f"note: {note}" for note in verdict.notes)]
        lines = [json.dumps(verdict.as_json())] if arguments.json else [f"{place}: {text}" for text in said]
        sys.stdout.writelines(f"{line}\n" for line in lines)
    if arguments.retire:
        deleted, deactivated = retire(slugs["process"], slugs["trigger"])
        sys.stdout.writelines(f"Deleted {label}\n" for label in deleted)
        sys.stdout.writelines(f"Deactivated {label}\n" for label in deactivated)
    return 1 if refused else 0


def _show(arguments: argparse.Namespace) -> int:
    data = _get(arguments.id)
    columns = {name: value for name, value in data.__data__.items() if value is not None}
    sys.stdout.write(json.dumps(columns, indent=2) + "\n")
    return 0


def _tail(arguments: argparse.Namespace) -> int:
    data = _get(arguments.id)
    volume = SERVICE.volume
    path = log_path(volume, data.id) if data.state in Data.FINAL else live_log(volume, data)
    sys.stdout.write(path.read_text("utf-8", "replace") if path.is_file() else "")
    return 0


def _restart(arguments: argparse.Namespace) -> int:
    again = dispatch.restart(_get(arguments.id), getpass.getuser())
    sys.stdout.write(f"restarted: {', '.join(map(str, again))}\n")
    return 0


def _cancel(arguments: argparse.Namespace) -> int:
    asked = dispatch.cancel(_get(arguments.id), getpass.getuser(), graph=arguments.graph)
    sys.stdout.write(f"cancelled: {', '.join(map(str, asked))}\n")
    return 0


def _doctor(_: argparse.Namespace) -> int:
    findings = examine(SERVICE.volume.work)
    sys.stdout.writelines(f"{'ok  ' if one.ok else 'NO  '}{one.name}: {one.text}\n" for one in findings)
    return 0 if all(one.ok for one in findings) else 1


def _get(id: int) -> Data:
    data: Data | None = Data.get_or_none(Data.id == id)
    if data is None:
        raise NotFound(f"There is no data object {id}.", id=id)
    return data
