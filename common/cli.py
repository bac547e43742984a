"""The command ``pacifica``: the suite as a whole.  The services' own commands are in their ``__main__``.

What a service adds for its users it lists under the entry-point group ``pacifica.commands``: a function that adds a
sub-command, which sets ``command(arguments) -> int``.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path

from . import catalog_command
from .commands import reported
from .config import effective, embed
from .service import services
from .up import run


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``pacifica`` with ``argv`` and return its exit code: 0 done, 1 failed with a message, 2 bad usage."""
    arguments = _parser().parse_args(argv)
    return reported("pacifica", lambda: int(arguments.command(arguments)))


def _up(arguments: argparse.Namespace) -> int:
    return run(arguments.data, auto_ports=arguments.ports == "auto", as_json=arguments.json)


def _dbsync(arguments: argparse.Namespace) -> int:
    _embed(arguments)
    for service in services():
        service.connect(create=True)
        service.schema.sync()
    return 0


def _config(arguments: argparse.Namespace) -> int:
    _embed(arguments)
    for service in services():
        sys.stdout.write(f"# {service.name}\n")
        sys.stdout.writelines(f"{key} = {value}\n" for key, value in effective(service.settings()))
    return 0


def _embed(arguments: argparse.Namespace) -> None:
    if arguments.data is not None:
        embed(arguments.data)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pacifica", description="Takes research data in, keeps it, gives it back.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    up = commands.add_parser("up", help="run all services in this process, on SQLite, until SIGTERM or Ctrl-C")
    up.add_argument(
        "--data", type=Path, default=Path("pacifica-data"), help="folder of database and archive (%(default)s)"
    )
    up.add_argument("--ports", choices=("fixed", "auto"), default="fixed", help="auto: free ports chosen by the system")
    up.add_argument("--json", action="store_true", help="one line on stdout with every URL once all services answer")
    up.set_defaults(command=_up)

    for name, command, text in (
        ("dbsync", _dbsync, "create or update the schema of every service"),
        ("config", _config, "print the configuration in force, secrets masked"),
    ):
        sub = commands.add_parser(name, help=text)
        sub.add_argument("--data", type=Path, help="as of `pacifica up`; default: the configured database")
        sub.set_defaults(command=command)
    catalog_command.extend(commands)
    for point in sorted(entry_points(group="pacifica.commands"), key=lambda point: point.name):
        point.load()(commands)
    return parser
