"""``pacifica-flow-cmd trigger``: what an administrator can do with registered triggers (docs/flow.md#triggers)."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from ..common import orm
from ..common.commands import Subparsers
from ..common.errors import NotFound
from . import firing
from .orm import Firing, TriggerRow
from .trigger import restore


def extend(commands: Subparsers) -> None:
    """Add ``trigger`` with list, show, enable, disable, try."""
    parts = commands.add_parser("trigger", help="list, switch and try triggers").add_subparsers(
        required=True, metavar="WHAT"
    )
    listed = parts.add_parser("list", help="what is registered")
    listed.add_argument("--json", action="store_true", help="one JSON object a trigger")
    listed.set_defaults(command=_list)
    for name, command, text in (
        ("show", _show, "show a trigger and what it made of the newest events"),
        ("enable", _enable, "let it work"),
        ("disable", _disable, "let it pass over events from now on"),
        ("try", _try, "say what it would run for an event, and run nothing"),
    ):
        one = parts.add_parser(name, help=text)
        one.add_argument("slug")
        if name == "try":
            one.add_argument("event", type=Path, help="file with the CloudEvent's JSON")
        one.set_defaults(command=command)


def described(row: TriggerRow) -> dict[str, Any]:
    """Return a trigger as JSON has it."""
    return json.loads(row.document) | {"enabled": row.enabled, "source": row.source, "contributor": row.contributor}


def firings(slug: str, limit: int = 100, owner: str | None = None) -> list[dict[str, Any]]:
    """Return what a trigger made of the newest events, those of ``owner`` alone where one is given."""
    rows = Firing.select().where(Firing.trigger == slug).order_by(Firing.id.desc()).limit(limit)
    if owner is not None:
        rows = rows.where(Firing.owner == owner)
    names = ("event", "type", "subject", "owner", "data", "error", "created")
    return [{name: getattr(row, name) for name in names} for row in rows]


def find(slug: str) -> TriggerRow:
    """Return the trigger ``slug``, or raise NotFound."""
    row: TriggerRow | None = TriggerRow.get_or_none(TriggerRow.slug == slug)
    if row is None:
        raise NotFound(f"There is no trigger {slug!r:.120}.", trigger=slug[:120])
    return row


def _list(arguments: argparse.Namespace) -> int:
    for row in TriggerRow.select().order_by(TriggerRow.slug):
        said = described(row)
        if arguments.json:
            sys.stdout.write(json.dumps(said) + "\n")
        else:
            state = "on " if row.enabled else "off"
            sys.stdout.write(f"{state} {row.slug}: {row.event} -> {said['process']}\n")
    return 0


def _show(arguments: argparse.Namespace) -> int:
    row = find(arguments.slug)
    sys.stdout.write(json.dumps(described(row) | {"firings": firings(row.slug)}, indent=2) + "\n")
    return 0


def _enable(arguments: argparse.Namespace) -> int:
    return _switch(arguments.slug, True)


def _disable(arguments: argparse.Namespace) -> int:
    return _switch(arguments.slug, False)


def _switch(slug: str, enabled: bool) -> int:
    with orm.transaction():
        TriggerRow.update(enabled=enabled).where(TriggerRow.id == find(slug).id).execute()
        firing.subscribe()
    return 0


def _try(arguments: argparse.Namespace) -> int:
    """Print the inputs and return 0; 1 where the trigger would do nothing."""
    trigger = restore(json.loads(find(arguments.slug).document))
    event = firing.read(arguments.event.read_bytes())
    if not firing.trusted(event):
        sys.stdout.write(f"the source {event.source!r} is not trusted ([flow] trusted_sources)\n")
        return 1
    if not firing.fits(trigger, event):
        sys.stdout.write("does not fit\n")
        return 1
    sys.stdout.write(json.dumps({"process": trigger.process, "input": firing.inputs(trigger, event)}) + "\n")
    return 0
