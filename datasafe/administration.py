"""What an administrator can do with the archive from the command line (docs/audit.md, docs/datasafe.md)."""

import argparse
import getpass
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..common.errors import BadRequest, ServiceError
from ..common.values import Seconds, parse
from . import audit, loi
from .audit import Outcome, Thing
from .config import settings
from .dataset_command import report
from .entering import enter
from .local import LocalClient
from .pace import Pace, TimeUp
from .rebuilding import rebuild
from .tasks import safe

SOUND, DAMAGED, UNFINISHED, UNREADABLE = 0, 3, 4, 5  # exit codes of `audit`


def extend(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``audit``, ``rebuild``, ``delete``, ``import`` and ``export``."""
    check = commands.add_parser(
        "audit",
        help="read everything again, or a part of it, the oldest check first",
        epilog="exit codes: 0 all sound, 3 damage found, 4 time was up first, 5 something could not be checked",
    )
    check.add_argument("--subset", type=_share, default=1.0, metavar="5%", help="as many bytes of all there are")
    check.add_argument("--max-duration", type=_seconds, metavar="2h", help="stop then; the next run goes on")
    check.add_argument("--loi", action="append", default=[], help="only this dataset; may be repeated")
    check.add_argument("--json", action="store_true", help="one JSON object in place of lines of text")
    check.set_defaults(command=_audit)

    again = commands.add_parser("rebuild", help="add to the database what the volume has and it has not")
    again.set_defaults(command=_rebuild)

    delete = commands.add_parser("delete", help="delete a dataset for good; what stays is a tombstone")
    delete.add_argument("--loi", required=True)
    delete.add_argument("--reason", required=True, help="for all to read")
    delete.add_argument("--username", default=getpass.getuser(), help="who deletes (%(default)s)")
    delete.set_defaults(command=_delete)

    taking = commands.add_parser(
        "import",
        help="take over the datasets of a LabInform datasafe, with their LOIs",
        epilog="exit codes: 0 all are held now, 3 some are damaged, 5 some were left for another reason",
    )
    taking.add_argument("root", type=Path, metavar="DATASAFE_ROOT", help="its folder, which is only read")
    taking.add_argument("--issuer", required=True, help="the number behind 42. in its LOIs")
    taking.add_argument("--username", default=getpass.getuser(), help="whose the datasets will be (%(default)s)")
    taking.add_argument("--json", action="store_true", help="one JSON object a dataset in place of a line of text")
    taking.set_defaults(command=_import)

    giving = commands.add_parser(
        "export",
        help="write a version of a dataset as a bag (BagIt, RFC 8493)",
        epilog="exit codes: 0 written, 1 failed, nothing written",
    )
    giving.add_argument("--loi", required=True)
    giving.add_argument("--version", type=int, help="default: the newest")
    giving.add_argument("target", type=Path, help="folder to make")
    giving.set_defaults(command=_export)


class _Round:
    """One run of the command and what came of it."""

    def __init__(self, chosen: Sequence[Thing], seconds: float | None, say: bool) -> None:
        self.chosen, self._say = chosen, say
        self._pace = Pace(settings().audit.rate, seconds)
        self.sound = self.damaged = self.unreadable = 0
        self.found: list[dict[str, Any]] = []

    def run(self) -> int:
        """Check one thing after the other, whatever comes, and return the exit code."""
        archive = safe()
        done = 0
        try:
            for thing in self.chosen:
                self._pace.check()
                try:
                    self._note(thing, audit.check(archive, thing, self._pace))
                except (OSError, ServiceError) as error:
                    self.unreadable += 1
                    self._tell(f"unchecked {thing.kind} {thing.name}: {type(error).__name__}: {error}")
                done += 1
        except TimeUp:
            self._tell(f"time is up: {done} of {len(self.chosen)} checked")
        if self.damaged:
            return DAMAGED
        return UNREADABLE if self.unreadable else UNFINISHED if done < len(self.chosen) else SOUND

    def summary(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        left = len(self.chosen) - self.sound - self.damaged - self.unreadable
        return {
            "sound": self.sound, "damaged": self.damaged, "unreadable": self.unreadable, "left": left,
            "bytes": self._pace.bytes, "findings": self.found,
        }  # fmt: skip

    def _note(self, thing: Thing, outcome: Outcome | None) -> None:
        if outcome is None or not outcome.findings:
            self.sound += 1
            return
        self.damaged += 1
        for told in audit.told(outcome.findings):
            self.found.append({"thing": thing.kind, "name": thing.name, **told})
            files = ", ".join(told.get("files", ()))
            self._tell(f"{told['kind']} {thing.kind} {thing.name}: {told['path']}" + (f" ({files})" if files else ""))

    def _tell(self, line: str) -> None:
        if self._say:
            sys.stdout.write(f"{line}\n")


def _audit(arguments: argparse.Namespace) -> int:
    audit.prepare()
    chosen = _choose(arguments.loi, arguments.subset)
    turn = _Round(chosen, arguments.max_duration, not arguments.json)
    code = turn.run()
    told = turn.summary()
    if arguments.json:
        sys.stdout.write(json.dumps(told) + "\n")
    else:
        sys.stdout.write("{sound} sound, {damaged} damaged, {unreadable} unreadable, {left} left\n".format(**told))
    return code


def _choose(lois: Sequence[str], share: float) -> list[Thing]:
    """Return what to check: the datasets named, or the oldest checks up to a share of all bytes."""
    found = audit.things(None, 1 << 62)
    if lois:
        names = {str(loi.dataset(text)) for text in lois}
        for name in names:
            safe().find(loi.dataset(name))
        return [thing for thing in found if thing.kind == "dataset" and thing.name in names]
    wanted = sum(thing.size for thing in found) * share
    chosen: list[Thing] = []
    for thing in found:
        if share < 1.0 and chosen and wanted <= 0:
            break
        chosen.append(thing)
        wanted -= thing.size
    return chosen


def _rebuild(arguments: argparse.Namespace) -> int:
    complaints = []

    def complain(text: str) -> None:
        complaints.append(text)
        sys.stderr.write(f"{text}\n")

    for what, count in sorted(rebuild(safe(), complain).items()):
        sys.stdout.write(f"{count} {what} added\n")
    safe().settle()
    while enter(safe()):
        pass
    return UNREADABLE if complaints else SOUND


def _delete(arguments: argparse.Namespace) -> int:
    end = safe().delete(loi.dataset(arguments.loi), arguments.username, arguments.reason)
    sys.stdout.write(f"{end.loi} is deleted; its number is never given again\n")
    return 0


def _import(arguments: argparse.Namespace) -> int:
    if not arguments.root.is_dir():
        raise BadRequest(f"{arguments.root} is no folder.")
    safe().settle()  # what a run that was killed has left
    outcomes = LocalClient(safe()).take_over(arguments.root, arguments.issuer, arguments.username)
    return report(outcomes, as_json=arguments.json)


def _export(arguments: argparse.Namespace) -> int:
    LocalClient(safe()).export(arguments.loi, arguments.target, arguments.version)
    return 0


def _share(text: str) -> float:
    number = float(text.removesuffix("%"))
    if not text.endswith("%") or not 0 < number <= 100:
        raise argparse.ArgumentTypeError('expected a share such as "5%"')
    return number / 100


def _seconds(text: str) -> float:
    try:
        return float(parse(Seconds, text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected {error}") from error
