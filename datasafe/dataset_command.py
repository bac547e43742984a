"""``pacifica dataset``: the verbs of datasets on the command line, here or behind a URL (docs/datasafe.md#command)."""

import argparse
import json
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ..common.errors import BadRequest, Damaged, SchemaMismatch, ServiceError
from ..common.moment import zulu
from . import takeover
from .client import Client
from .faults import Refused
from .local import connect
from .parcel import Sent
from .remote import HttpClient

DONE, FAILED, DIFFERENT, LEFT, INTERRUPTED = 0, 1, 3, 5, 130  # exit codes; 2 is argparse's

Run = Callable[[Client, argparse.Namespace], int]


class FileRefused(ServiceError):
    """A file or folder of this host cannot be read or made."""

    code = "file_refused"


def extend(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``dataset`` and its verbs."""
    parser = commands.add_parser("dataset", help="store, fetch and check datasets by LOI")
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    create = _verb(verbs, "create", _create, "reserve the next LOI of a series and print it")
    create.add_argument("series", metavar="SERIES", help="such as 42.1001/ds/exp/sa/42/cwepr")

    for name, run, text in (
        ("upload", _upload, "store a folder as the first version"),
        ("update", _update, "store a folder as one version more; the old ones stay"),
    ):
        sending = _verb(verbs, name, run, text)
        _loi(sending)
        sending.add_argument("folder", type=Path, metavar="FOLDER", help="MANIFEST.yaml is made where it has none")
        sending.add_argument("--name", default="", help="only NAME.* of the folder, described afresh")
        sending.add_argument("--message", default="", help="why, for the version's record")

    for name, run, text in (
        ("download", _download, "write a version as a folder, every byte checked"),
        ("export", _export, "write a version as a bag (BagIt, RFC 8493)"),
    ):
        fetching = _verb(verbs, name, run, text)
        _loi(fetching)
        fetching.add_argument("target", type=Path, metavar="FOLDER", help="must not exist; appears whole or not at all")
        _version(fetching)

    verify = _verb(verbs, "verify", _verify, "compare a folder with a version, or read the version again")
    _loi(verify)
    verify.add_argument("folder", type=Path, nargs="?", metavar="FOLDER")
    _version(verify)

    ls = _verb(verbs, "ls", _ls, "list datasets, or with --files the files of one")
    ls.add_argument("prefix", nargs="?", default="", metavar="LOI", help="the beginning of their LOIs")
    ls.add_argument("--files", action="store_true")
    _version(ls)

    versions = _verb(verbs, "versions", _versions, "list who stored what, when and why")
    _loi(versions)

    taking = _verb(verbs, "import", _import, "take over the datasets of a LabInform datasafe, with their LOIs")
    taking.add_argument("root", type=Path, metavar="DATASAFE_ROOT", help="its folder, which is only read")
    taking.add_argument("--issuer", required=True, help="the number behind 42. in its LOIs")
    taking.add_argument("--owner", help="whose the datasets will be; default: who imports")


def _verb(verbs: Any, name: str, run: Run, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(
        name,
        help=text,
        description=text,
        epilog="exit codes: 0 done, 1 failed, nothing changed, 2 wrong usage, 3 damaged or different, 5 some were left",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--url", help="of a datasafe; without it the datasets of this host are used, in process")
    where.add_argument("--data", type=Path, help="those of `pacifica up --data DATA`")
    where.add_argument("-c", "--config", help="those of this INI file (default: ~/.pacifica-datasafe/config.ini)")
    parser.add_argument(
        "--token-file",
        type=Path,
        help="for --url: sent as Bearer to a proxy that asks for one (datasafe itself knows no tokens); else .netrc",
    )
    parser.add_argument("--username", default="", help="who does this, without --url (default: you)")
    parser.add_argument("--json", action="store_true", help="JSON in place of lines of text, errors too")
    parser.set_defaults(command=lambda arguments: _run(run, arguments))
    return parser


def _loi(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("loi", metavar="LOI")


def _version(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--version", type=int, help="default: the newest")


def _run(run: Run, arguments: argparse.Namespace) -> int:
    """Do it and return the exit code; what fails is told in a sentence, or as JSON.  SIGTERM ends it as Ctrl-C does."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with _client(arguments) as client:
            return run(client, arguments)
    except Refused as error:
        told = [f"{_plain(fault.message)} {_plain(fault.shown().get('file', ''))}".strip() for fault in error.faults]
        return _failed(arguments, error, told)
    except ServiceError as error:
        return _failed(arguments, error, [_plain(error.message)])
    except OSError as error:
        text = f"{error.strerror or type(error).__name__}: {error.filename}" if error.filename else str(error)
        return _failed(arguments, FileRefused(text), [_plain(text)])
    except KeyboardInterrupt:
        return INTERRUPTED


def _failed(arguments: argparse.Namespace, error: ServiceError, told: list[str]) -> int:
    if arguments.json:
        _print({"code": error.code, "message": error.message, "retryable": error.retryable, **error.detail})
    sys.stderr.writelines(f"pacifica dataset: {line}\n" for line in told)
    return DIFFERENT if isinstance(error, Damaged) else FAILED


def _client(arguments: argparse.Namespace) -> Client:
    if arguments.url is None:
        if arguments.token_file is not None:
            raise BadRequest("--token-file is for --url.")
        try:
            return connect(arguments.data, arguments.config, arguments.username)
        except SchemaMismatch as error:
            raise SchemaMismatch(f"{error.message} (For a server's datasets, give its --url.)") from error
    if arguments.username:
        raise BadRequest("--username is for the datasets of this host; with --url the server knows who asks.")
    token = arguments.token_file.read_text("utf-8").strip() if arguments.token_file is not None else ""
    return HttpClient(arguments.url, token)


# ---- the verbs -----------------------------------------------------------------------------------------------------


def _create(client: Client, arguments: argparse.Namespace) -> int:
    given = client.create(arguments.series)
    _tell(arguments, {"loi": given}, given)
    return DONE


def _upload(client: Client, arguments: argparse.Namespace) -> int:
    sent = client.upload(arguments.loi, arguments.folder, pattern=arguments.name, message=arguments.message)
    return _stored(arguments, sent)


def _update(client: Client, arguments: argparse.Namespace) -> int:
    sent = client.update(arguments.loi, arguments.folder, pattern=arguments.name, message=arguments.message)
    return _stored(arguments, sent)


def _stored(arguments: argparse.Namespace, sent: Sent) -> int:
    _tell(arguments, sent._asdict(), _counted(sent))
    if not arguments.json:
        sys.stderr.writelines(f"warning: {_plain(line)}\n" for line in sent.warnings)
        sys.stderr.writelines(f"left behind: {_plain(name)}\n" for name in sent.left)
    return DONE


def _download(client: Client, arguments: argparse.Namespace) -> int:
    fetched = client.download(arguments.loi, arguments.target, arguments.version)
    _tell(arguments, fetched._asdict(), f"{_counted(fetched)}, in {fetched.path}")
    return DONE


def _export(client: Client, arguments: argparse.Namespace) -> int:
    fetched = client.export(arguments.loi, arguments.target, arguments.version)
    _tell(arguments, fetched._asdict(), f"{_counted(fetched)}, a bag in {fetched.path}")
    return DONE


def _verify(client: Client, arguments: argparse.Namespace) -> int:
    checked = client.verify(arguments.loi, arguments.folder, arguments.version)
    if arguments.json:
        _print(checked._asdict() | {"findings": [found._asdict() for found in checked.findings]})
    else:
        sys.stdout.writelines(f"{found.kind} {_plain(found.file)}\n" for found in checked.findings)
        sys.stdout.write(f"{_counted(checked)}, {'sound' if not checked.findings else 'not sound'}\n")
    return DIFFERENT if checked.findings else DONE


def _ls(client: Client, arguments: argparse.Namespace) -> int:
    if arguments.files:
        for file in client.files(arguments.prefix, arguments.version):
            _tell(arguments, file, f"{file['sha512']}  {file['size']:>12}  {_plain(file['name'])}")
        return DONE
    if arguments.version is not None:
        raise BadRequest("--version is for --files.")
    for one in client.ls(arguments.prefix):
        stored = zulu(one.stored) if one.stored else None
        line = f"{one.loi}  {one.version}  {one.files}  {one.bytes}  {stored or '-'}  {_plain(one.owner)}"
        _tell(arguments, one._asdict() | {"stored": stored}, line)
    return DONE


def _versions(client: Client, arguments: argparse.Namespace) -> int:
    for one in client.versions(arguments.loi):
        words = (one["version"], one["created"], one["author"], one["message"])
        _tell(arguments, one, "  ".join(_plain(str(word)) for word in words))
    return DONE


def _import(client: Client, arguments: argparse.Namespace) -> int:
    if not arguments.root.is_dir():
        raise BadRequest(f"{arguments.root} is no folder.")
    owner = arguments.owner or arguments.username or client.username
    return report(client.take_over(arguments.root, arguments.issuer, owner), as_json=arguments.json)


def report(outcomes: Iterable[takeover.Outcome], *, as_json: bool) -> int:
    """Print what became of each dataset of a takeover as it is known, and return the exit code."""
    states = set()
    for outcome in outcomes:
        states.add(outcome.state)
        line = f"{outcome.state} {_plain(outcome.name)} {_plain(outcome.reason)}".rstrip()
        sys.stdout.write((json.dumps(outcome._asdict()) if as_json else line) + "\n")
    return DIFFERENT if takeover.DAMAGED in states else LEFT if takeover.LEFT in states else DONE


# ---- words ---------------------------------------------------------------------------------------------------------


def _counted(one: Any) -> str:
    return f"{one.loi} version {one.version}: {one.files} files, {one.bytes} bytes"


def _tell(arguments: argparse.Namespace, told: Any, line: str) -> None:
    if arguments.json:
        _print(told)
    else:
        sys.stdout.write(f"{line}\n")


def _print(told: Any) -> None:
    sys.stdout.write(json.dumps(told, default=str) + "\n")


def _plain(text: str) -> str:
    """Return text of a server or a file system with nothing in it that a terminal would obey."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
