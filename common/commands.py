"""The commands that every service has: ``pacifica-<name>`` serves, ``pacifica-<name>-cmd`` administers."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import peewee

from . import log
from .config import embed
from .errors import SchemaMismatch, ServiceError
from .server import serve_forever
from .service import Service

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def serve(service: Service, argv: Sequence[str] | None = None) -> int:
    """Run ``pacifica-<name>``: serve until SIGTERM or SIGINT.  Returns 0, or 1 with a sentence on stderr."""
    parser = argparse.ArgumentParser(prog=f"pacifica-{service.name}")
    _add_config(parser)
    parser.add_argument("-p", "--port", type=int, default=service.port, help="port to listen on (%(default)s)")
    parser.add_argument("-a", "--address", default=service.address, help="address to listen on (%(default)s)")
    parser.add_argument(
        "--cp-config", "--cpconfig", help="accepted for Pacifica's sake and not read: the server is set up in [server]"
    )
    arguments = parser.parse_args(argv)
    service.settings.use(arguments.config)

    def run() -> int:
        _configure_log(service)
        serve_forever(service.application(), arguments.address, arguments.port, service.settings().server)
        return 0

    return reported(parser.prog, run)


def administer(
    service: Service, argv: Sequence[str] | None = None, *, extend: Callable[[Subparsers], None] | None = None
) -> int:
    """Run ``pacifica-<name>-cmd``: dbsync, dbchk and what ``extend`` adds (each sets ``command(arguments) -> int``).

    Only dbsync makes a database; a command that needs none sets ``connects`` to False.

    The exit code is the command's, 1 for a ServiceError (its sentence on stderr), 2 for bad usage.
    """
    parser = argparse.ArgumentParser(prog=f"pacifica-{service.name}-cmd")
    _add_config(parser)
    parser.add_argument("--data", type=Path, help="administer what `pacifica up --data` keeps there")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    dbsync = commands.add_parser("dbsync", help="create or update the database schema")
    dbsync.set_defaults(command=lambda _: _synced(service), creates=True)

    dbchk = commands.add_parser("dbchk", help="exit 0 when the schema fits this version, 255 otherwise")
    dbchk.add_argument("--equal", action="store_true", help="major and minor must be equal, not the major alone")
    dbchk.set_defaults(command=lambda found: _checked(service, found.equal), connects=False)

    if extend is not None:
        extend(commands)
    arguments = parser.parse_args(argv)
    if arguments.data is not None:
        embed(arguments.data)
    service.settings.use(arguments.config)

    def run() -> int:
        _configure_log(service)
        if getattr(arguments, "connects", True):
            service.connect(create=getattr(arguments, "creates", False))
        return int(arguments.command(arguments))

    return reported(parser.prog, run)


def reported(prog: str, run: Callable[[], int]) -> int:
    """Return what ``run`` returns; 1, with a sentence on stderr, for what the administrator has to mend."""
    try:
        return run()
    except ServiceError as error:
        said = error.message
    except (
        OSError,
        peewee.DatabaseError,
    ) as error:  # a port in use, a file that is no database
        said = str(error)
    sys.stderr.write(f"{prog}: {said}\n")
    return 1


def _synced(service: Service) -> int:
    service.schema.sync()
    return 0


def _checked(service: Service, equal: bool) -> int:
    try:
        service.connect()
    except SchemaMismatch as error:
        sys.stderr.write(f"{error.message}\n")
        return 255
    return 0 if service.schema.check(equal=equal) else 255


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-c", "--config", help="INI file (default: ~/.pacifica-<service>/config.ini)")


def _configure_log(service: Service) -> None:
    wanted = service.settings().log
    log.configure(wanted.level, wanted.json)
