"""Room for staged files: promised by size before the first byte comes, made by evicting the carts unused longest."""

from ..common import orm
from ..common.errors import NoSpace
from ..common.state import free
from . import part
from .orm import Cart, State
from .purging import evict
from .shelf import Shelf

_LOCK = 0x63617274726F6F6D  # PostgreSQL's advisory lock of those who ask for room


def admit(cart: Cart, shelf: Shelf, needed: int, *, min_free: int, purge: bool, buffer_seconds: float) -> None:
    """Promise ``needed`` bytes to ``cart``; NoSpace, in Pacifica's words, when even eviction could not make room.

    Evicted are, with ``purge``, carts that nobody has used for ``buffer_seconds``, the longest unused first: never one
    that is staged, leased or downloaded from, and none when all of them together would not be enough.
    """
    cart.heed()
    while not _promised(cart, shelf, needed, min_free):
        idle = _idle(cart, shelf, buffer_seconds) if purge else []
        lacking = needed - _room(cart, shelf, min_free)
        if lacking > sum(size for _, size in idle):
            raise NoSpace("Not enough space to download file", needed=needed, lacking=lacking)
        for id, size in idle:
            if lacking <= 0:
                break
            if evict(Cart.get_by_id(id), shelf, f"evicted: room for cart {cart.id}"):
                lacking -= size


def _promised(cart: Cart, shelf: Shelf, needed: int, min_free: int) -> bool:
    with orm.transaction():
        if orm.is_postgres():
            orm.rows("SELECT pg_advisory_xact_lock(?)", _LOCK)  # SQLite: every transaction is alone anyway
        if _room(cart, shelf, min_free) < needed:
            return False
        cart.progress(pending_bytes=needed)
        return True


def _room(cart: Cart, shelf: Shelf, min_free: int) -> int:
    """Return the bytes that nobody has and nobody else was promised."""
    sql = "SELECT coalesce(sum(pending_bytes), 0) FROM cart WHERE state = ? AND id <> ?"
    return shelf.free() - min_free - int(orm.rows(sql, State.STAGING, cart.id)[0][0])


def _idle(cart: Cart, shelf: Shelf, buffer_seconds: float) -> list[tuple[int, int]]:
    """Return (id, bytes) of the carts that may be evicted, the longest unused first."""
    now = orm.now().sql
    return [
        (id, size + (part.room_of(shelf.staged(id)) if state == State.ERROR else 0))  # what had come of its files
        for id, size, state in orm.rows(
            "SELECT id, bytes_total, state FROM cart WHERE state IN (?, ?) AND staged AND id <> ?"
            f" AND read_until < {now} AND updated <= {now} - ? AND {free()}"
            " ORDER BY updated, id",
            State.READY, State.ERROR, cart.id, buffer_seconds,
        )
    ]  # fmt: skip
