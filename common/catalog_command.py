"""``pacifica catalog``: load and list who works on what with which instrument (docs/ingest-neighbours.md)."""

import argparse
import json
import sys
from pathlib import Path

from .config import embed
from .curation import TABLES, BadCatalogue, listed, load
from .documents import loads
from .errors import BadJson
from .service import services
from .tables import COMMON


def extend(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``catalog load`` and ``catalog list``."""
    parser = commands.add_parser("catalog", help="load and list people, projects, instruments and their relations")
    ways = parser.add_subparsers(required=True, metavar="load|list")
    entering = ways.add_parser("load", help="enter what the files say; what is there already is changed")
    entering.add_argument("files", type=Path, nargs="+", metavar="FILE.json", help="an object of tables; - is stdin")
    entering.add_argument("--replace", action="store_true", help="remove from a named table what the file lacks")
    entering.set_defaults(command=_load)
    showing = ways.add_parser("list", help="print tables as JSON that `load` reads")
    showing.add_argument("tables", nargs="*", choices=[*TABLES, []], metavar="TABLE", help=", ".join(TABLES))
    showing.set_defaults(command=_list)
    for sub in (entering, showing):
        sub.add_argument("--data", type=Path, help="as of `pacifica up`; default: the configured database")


def _load(arguments: argparse.Namespace) -> int:
    documents = [_read(path) for path in arguments.files]
    _connect(arguments.data, create=True)
    for document in documents:
        counts = load(document, replace=arguments.replace)
        sys.stdout.writelines(f"{name}: {count}\n" for name, count in counts.items())
    return 0


def _list(arguments: argparse.Namespace) -> int:
    _connect(arguments.data, create=False)
    shown = {name: listed(name) for name in arguments.tables or TABLES}
    sys.stdout.write(json.dumps(shown, indent=2) + "\n")
    return 0


def _read(path: Path) -> object:
    try:
        data = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
        return loads(data)
    except OSError as error:
        raise BadCatalogue(f"{path} cannot be read: {error.strerror}") from error
    except BadJson as error:
        raise BadCatalogue(f"{path} is not JSON: {error.detail['reason']} at {error.detail['where']}") from error


def _connect(data: Path | None, *, create: bool) -> None:
    """Connect to the database that all services share, its common tables at this version."""
    if data is not None:
        embed(data)
    services()[0].connect(create=create)
    COMMON.sync()
