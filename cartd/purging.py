"""The end of carts: deleted by their owners, or unused for too long."""

import peewee

from ..common import orm
from ..common.errors import ClientAborted, IllegalMove
from ..common.state import free
from .orm import LIVE, Cart, File, State
from .shelf import Shelf

BATCH = 100  # carts of one pass
RACES_MAX = 10  # moves by others that one deletion gives way to


def delete(cart: Cart, shelf: Shelf, who: str, reason: str = "") -> None:
    """Take ``cart`` away, whatever state it is in or moves to meanwhile: its files' rows and its folder.

    Archived files are not touched, a worker stops at its next step, and a download under way ends undisturbed: what
    that reads, or a worker still writes, is cleared after it.
    """
    for race in range(RACES_MAX):
        try:
            with orm.transaction():
                _take_away(cart, who, reason)
            break
        except IllegalMove:
            fresh = Cart.get_by_id(cart.id)
            if fresh.state == State.DELETED:
                return
            if race == RACES_MAX - 1:
                raise
            cart = fresh
    clear(shelf, cart.id)


def evict(cart: Cart, shelf: Shelf, reason: str, unused_seconds: float = 0.0) -> bool:
    """Delete ``cart``, which nobody has touched for ``unused_seconds``; False when somebody uses it after all."""
    now = orm.now().sql
    unused = f"UPDATE cart SET read_until = read_until WHERE id = ? AND read_until < {now} AND updated <= {now} - ?"
    try:
        with orm.transaction():
            if not orm.execute(unused, cart.id, unused_seconds):  # and from here on a download cannot begin
                return False
            _take_away(cart, "pacifica-cartd", reason)
    except IllegalMove:
        return False
    clear(shelf, cart.id)
    return True


def clear(shelf: Shelf, cart_id: int | None = None) -> int:
    """Remove the folders of deleted carts, of all or of one; return how many.

    A folder that somebody still downloads from, or pulls files into, is left for later, except when it holds nothing
    but plans.
    """
    unused = (Cart.read_until < orm.now()) & peewee.SQL(free())
    chosen = (Cart.state == State.DELETED) & ~Cart.cleared & (unused | ~Cart.staged)
    if cart_id is not None:
        chosen &= Cart.id == cart_id
    found = [id for (id,) in Cart.select(Cart.id).where(chosen).limit(BATCH).tuples()]
    gone = [id for id in found if shelf.clear(id)]
    for id in gone:
        orm.execute("UPDATE cart SET cleared = ? WHERE id = ?", True, id)
    return len(gone)


def purge(shelf: Shelf, unused_seconds: float) -> int:
    """Delete carts that nobody has touched for ``unused_seconds``, some at a time; return how many went."""
    states = Cart.state.in_([str(state) for state in LIVE])
    unused = (Cart.updated < orm.now() - unused_seconds) & (Cart.read_until < orm.now())
    old = list(Cart.select().where(states & unused).order_by(Cart.id).limit(BATCH))
    return sum(evict(cart, shelf, "unused for too long", unused_seconds) for cart in old)


def end_silent() -> int:
    """Give up each cart in FILLING whose deadline has passed: its POST died before all of it was stored."""
    ended = 0
    for cart in list(Cart.select().where((Cart.state == State.FILLING) & (Cart.deadline < orm.now())).limit(BATCH)):
        cart.failed(ClientAborted("The cart's selection was not stored to its end.", cart=cart.cart_uid))
        ended += 1
    return ended


def _take_away(cart: Cart, who: str, reason: str) -> None:
    # the lease stays: it says that a worker may still write, until he ends it or it runs out
    kept = {"lease_until": peewee.SQL("lease_until"), "leased_by": peewee.SQL("leased_by")}
    cart.move(State.DELETED, who=who, reason=reason, deadline=None, **kept)
    File.delete().where(File.cart == cart.id).execute()
