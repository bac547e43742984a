"""What an administrator can do from the command line (docs/flow.md#operating)."""

import argparse
import getpass
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from ..common.commands import Subparsers
from ..common.errors import BadConfiguration
from . import data_command, dispatch, trigger_command
from .doctor import examine
from .register import LIBRARY
from .registry import register, retire
from .service import SERVICE
from .tasks import app


def extend(commands: Subparsers) -> None:
    """Add register, run, ls, show, tail, restart, cancel, trigger, worker, doctor."""
    found = commands.add_parser("register", help="register the process definitions in folders")
    found.add_argument("folders", type=Path, nargs="*", metavar="DIR", help="default: [flow] process_dirs")
    found.add_argument("--shipped", action="store_true", help="also the processes and triggers that come with flow")
    found.add_argument("--force", action="store_true", help="overwrite a version that is there")
    found.add_argument("--retire", action="store_true", help="take back processes that the folders no longer hold")
    found.add_argument("--json", action="store_true", help="one JSON object a definition")
    found.set_defaults(command=_register)
    data_command.extend(commands)
    trigger_command.extend(commands)
    worker = commands.add_parser("worker", help="as `celery -A pacifica.flow.tasks worker`: run what waits")
    queues = {"batch": dispatch.QUEUE, "interactive": dispatch.QUICK}
    worker.add_argument("--queue", choices=queues, help="only runs of this scheduling class (default: of both)")
    worker.add_argument("--concurrency", type=int, metavar="N", help="runs at once (default: [celery] concurrency)")
    worker.set_defaults(command=lambda arguments: _worker(arguments, queues))
    doctor = commands.add_parser("doctor", help="try what this host can enforce")
    doctor.set_defaults(command=_doctor, connects=False)


def _register(arguments: argparse.Namespace) -> int:
    folders = arguments.folders or [Path(folder) for folder in SERVICE.settings().flow.process_dirs]
    folders += [LIBRARY] if arguments.shipped else []
    if not folders:
        raise BadConfiguration("Name a folder, or set process_dirs.", section="flow", key="process_dirs")
    refused = unread = 0
    slugs: dict[str, set[str]] = {"process": set(), "trigger": set()}
    for verdict in register(folders, getpass.getuser(), force=arguments.force):
        refused += verdict.action == "refuse"
        unread += not verdict.found.slug
        slugs[verdict.found.kind].add(verdict.found.slug)
        place = f"{verdict.found.file}:{verdict.found.line}"
        said = [verdict.message, *(f"note: {note}" for note in verdict.notes)]
        lines = [json.dumps(verdict.as_json())] if arguments.json else [f"{place}: {text}" for text in said]
        sys.stdout.writelines(f"{line}\n" for line in lines)
    if arguments.retire and unread:
        sys.stderr.write("Nothing is taken back: what cannot be read may hold any process.\n")
    elif arguments.retire:
        for one in retire(slugs["process"], slugs["trigger"]):
            sys.stdout.write(f"{json.dumps(one._asdict()) if arguments.json else one}\n")
    return 1 if refused else 0


def _worker(arguments: argparse.Namespace, queues: Mapping[str, str]) -> int:
    """Work until SIGTERM."""
    settings = SERVICE.settings()
    if settings.celery.broker_url.startswith("memory:"):
        raise BadConfiguration(
            "`pacifica up` works itself; a worker of its own needs a broker that others reach.",
            section="celery", key="broker_url",
        )  # fmt: skip
    SERVICE.require_schema()
    options = ["--concurrency", str(arguments.concurrency)] if arguments.concurrency else []
    options += ["--queues", queues[arguments.queue]] if arguments.queue else []
    words = ["worker", "--loglevel", settings.log.level, *options]
    return int(app.worker_main(words) or 0)


def _doctor(_: argparse.Namespace) -> int:
    findings = examine(SERVICE.volume.work)
    sys.stdout.writelines(f"{'ok  ' if one.ok else 'NO  '}{one.name}: {one.text}\n" for one in findings)
    return 0 if all(one.ok for one in findings) else 1
