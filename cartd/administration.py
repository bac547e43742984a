"""What an administrator can do to carts from the command line (docs/cartd.md#administration)."""

import argparse
import getpass
import json
import re
import sys
from collections.abc import Iterator
from typing import Any

import yaml

from ..common import orm
from ..common.errors import BadRequest, Conflict, NotFound
from ..common.moment import utc
from .orm import LIVE, Cart, File, State, carts_of
from .purging import purge
from .tasks import shelf, stage

_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}
_AGO = re.compile(r"(\d{1,6}) (second|minute|hour|day|week)s? ago", re.IGNORECASE)
_SHOWN = {State.READY: "ready", State.ERROR: "error"}


def extend(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``fixit``, ``dump`` and ``purge``, with Pacifica's flags."""
    fixit = commands.add_parser("fixit", help="stage carts again, in this process; only files that are not staged yet")
    fixit.add_argument("--cartid", nargs="+", required=True, metavar="UID", help="carts, by their uids")
    fixit.set_defaults(command=_fixit)

    dump = commands.add_parser("dump", help="print the carts that are not deleted, with their files, as YAML")
    dump.add_argument("--json", action="store_true", help="as JSON")
    dump.set_defaults(command=_dump)

    remove = commands.add_parser("purge", help="delete carts that nobody has used for a time")
    remove.add_argument("--time-ago", type=seconds_ago, default="180 days ago", help='as "7 days ago" (%(default)s)')
    remove.set_defaults(command=_purge)


def seconds_ago(text: str) -> float:
    """Return the seconds that ``7 days ago`` says."""
    found = _AGO.fullmatch(text.strip())
    if not found:
        raise argparse.ArgumentTypeError(f"expected as in '7 days ago', not {text!r}")
    return float(found[1]) * _SECONDS[found[2].lower()]


def fix(cart: Cart, who: str) -> None:
    """Stage ``cart`` again, in this process; Conflict when its selection was never stored whole."""
    if cart.state == State.FILLING or File.select().where(File.cart == cart.id).count() != (cart.files_total or None):
        raise Conflict(
            "This cart's selection was not stored to its end: it has to be posted again.", cart=cart.cart_uid
        )
    with orm.transaction():
        cart.fence()
        File.update(status="waiting", error="").where((File.cart == cart.id) & (File.status != "staged")).execute()
        if cart.state != State.STAGING:
            watch = orm.clock() + 60.0  # the caller runs it; the sweeper only if the caller dies
            cart.move(State.STAGING, who=who, reason="fixit", exception="", code=None, not_before=0.0, ring_at=watch)
    stage(cart.id, cart.attempt)


def dump() -> Iterator[dict[str, Any]]:
    """Yield each cart that is not deleted, with its files, every value as text."""
    for cart in Cart.select().where(Cart.state.in_([str(state) for state in LIVE])).order_by(Cart.id).iterator():
        files = File.select().where(File.cart == cart.id).order_by(File.id)
        names = ("file_name", "bundle_path", "hash_type", "hash_value", "status", "error")
        yield {
            "id": str(cart.id),
            "cart_uid": cart.cart_uid,
            "bundle": str(cart.bundle),
            "creation_date": utc(cart.created),
            "updated_date": utc(cart.updated),
            "status": _SHOWN.get(cart.state, "staging"),
            "error": cart.exception,
            "owner": cart.owner,
            "files": [{name: str(getattr(file, name)) for name in names} for file in files.iterator()],
        }


def _fixit(arguments: argparse.Namespace) -> int:
    failed = 0
    for uid in arguments.cartid:
        carts = carts_of(uid)
        if not carts:
            raise NotFound(f"No cart with uid {uid} found")
        fix(carts[0], getpass.getuser())
        cart = Cart.get_by_id(carts[0].id)
        failed += cart.state != State.READY
        sys.stdout.write(f"{uid}: {_SHOWN.get(cart.state, 'staging')} {cart.exception}".rstrip() + "\n")
    return 1 if failed else 0


def _dump(arguments: argparse.Namespace) -> int:
    before = "["
    for cart in dump():
        if arguments.json:
            sys.stdout.write(before + json.dumps(cart, indent=2))
            before = ",\n"
        else:
            sys.stdout.write(yaml.safe_dump([cart], sort_keys=False, allow_unicode=True))
            before = ""
    if arguments.json:
        sys.stdout.write("]\n" if before != "[" else "[]\n")
    elif before == "[":
        sys.stdout.write("[]\n")
    return 0


def _purge(arguments: argparse.Namespace) -> int:
    if arguments.time_ago < 1:
        raise BadRequest("Give an age of at least a second.")
    gone = 0
    while some := purge(shelf(), arguments.time_ago):
        gone += some
    sys.stdout.write(f"{gone} carts purged\n")
    return 0
