"""The plans of a cart on disk: one for each name it is downloaded under, made on demand and made again when lost."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path

from ..common import orm
from ..common.batch import windows
from ..common.errors import Gone
from .orm import Cart, State
from .plan import Member, Plan, build
from .shelf import Shelf, by_age, pack_name
from .table import BadPlan

MAX_PLANS = 4  # of one cart: more names than that take turns
LARGE = 5000  # files; of 100,000 a plan takes a second and 15 MB to make
PAGE = 4000  # members that are asked for at a time: some 1 KB each
_turns = threading.BoundedSemaphore(2)  # large plans that are made at once, whatever names are asked for
_MEMBERS = (
    'SELECT f.id, f.bundle_path, a.size, a.mtime, p.name, a."offset", a.header, a.id, a.hashtype, a.hashsum'
    " FROM file f JOIN archivedfile a ON a.id = f.file_name AND a.hashtype = f.hash_type AND a.hashsum = f.hash_value"
    " JOIN pack p ON p.id = a.pack AND p.published"
    " WHERE f.cart_id + 0 = ? AND f.id >= ? AND f.id < ? ORDER BY f.id"
)
_FIRST_MEMBER = "SELECT min(id + 0) FROM file WHERE cart_id = ? AND id >= ?"
_COPIES = (
    "SELECT id, bundle_path, size, mtime, file_name, hash_type, hash_value FROM file"
    " WHERE cart_id + 0 = ? AND id >= ? AND id < ? AND status = 'staged' ORDER BY id"
)


def plan_of(shelf: Shelf, cart: Cart, folder: str) -> Plan:
    """Return the plan of ``cart`` below the top folder ``folder``.

    Gone when one of its files was deleted or replaced since, or the cart itself meanwhile.
    """
    home = shelf.home(cart.id)
    path = home / f"{hashlib.sha256(folder.encode()).hexdigest()[:32]}.plan"
    with suppress(BadPlan, FileNotFoundError):  # the remedy for both is to build it
        return Plan.open(path)
    with _turns if cart.files_total > LARGE else nullcontext():
        with suppress(BadPlan, FileNotFoundError):
            return Plan.open(path)  # made while we waited
        return _made(shelf, cart, folder, path)


def _made(shelf: Shelf, cart: Cart, folder: str, path: Path) -> Plan:
    """Build the plan of ``cart`` and put it to ``path``; errors as of ``plan_of``."""
    home = path.parent
    try:
        home.mkdir(parents=True, exist_ok=True)
        _make_room(home)
        plan = build(_members(cart), folder, path, shelf.readers(cart))
    except (FileNotFoundError, FileExistsError):
        _require_kept(shelf, cart)  # whoever deleted it has cleared the folder under our hands
        raise
    if len(plan) != cart.files_total:
        path.unlink(missing_ok=True)
        raise Gone("A file of this cart is no longer in the archive as it was.", cart=cart.cart_uid)
    _require_kept(shelf, cart)  # whoever deleted it may have cleared before the plan was there
    return plan


def _require_kept(shelf: Shelf, cart: Cart) -> None:
    """Raise Gone, and leave nothing of it, where ``cart`` was deleted meanwhile."""
    if not orm.rows("SELECT 1 FROM cart WHERE id = ? AND state <> ?", cart.id, State.DELETED):
        shelf.clear(cart.id)
        raise Gone("The cart was deleted meanwhile.", cart=cart.cart_uid)


def drop_plans(shelf: Shelf, cart: Cart) -> None:
    """Have every plan of ``cart`` made anew; a download under way keeps the one that it has mapped."""
    for plan in by_age(shelf.home(cart.id), "*.plan"):
        plan.unlink(missing_ok=True)


def _make_room(home: Path) -> None:
    plans = by_age(home, "*.plan")
    for plan in plans[: max(0, len(plans) - MAX_PLANS + 1)]:
        plan.unlink(missing_ok=True)


def _members(cart: Cart) -> Iterator[Member]:
    for page in windows(_FIRST_MEMBER, _COPIES if cart.staged else _MEMBERS, cart.id, PAGE):
        for row in page:
            yield _copy(cart.id, *row) if cart.staged else Member._make(row[1:])


def _copy(cart: int, row: int, path: str, size: int, mtime: float, id: int, hashtype: str, hashsum: str) -> Member:
    """Return the member whose bytes are a copy in the cart's own folder."""
    return Member(path, size, mtime, pack_name(cart, row), 0, 0, id, hashtype, hashsum)
