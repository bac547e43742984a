"""What a ready cart gives out: its tar, one of its files, and the list of them."""

from collections.abc import Generator, Iterator
from functools import partial
from typing import Any

import msgspec

from ..common.errors import Damaged
from ..common.pace import Pace
from ..common.ranges import Produce
from . import reading
from .blame import blame
from .digest import computed
from .orm import Cart
from .plan import Plan
from .shelf import Shelf
from .stream import stream

LISTED = 1000  # entries of one piece of a listing


def tar_of(cart: Cart, plan: Plan, shelf: Shelf, *, digest: bool = False) -> Produce:
    """Return what makes any range of the cart's tar; the whole also yields its ``digest``, where that is asked for."""
    read = partial(_read, cart, plan, shelf, 0)

    def produce(start: int, stop: int) -> Iterator[bytes | memoryview]:
        pieces = read(start, stop)
        return computed(pieces, shelf, cart, plan) if digest and (start, stop) == (0, plan.size) else pieces

    return produce


def file_of(cart: Cart, plan: Plan, shelf: Shelf, index: int) -> Produce:
    """Return what makes any range of the file at ``index``."""
    return partial(_read, cart, plan, shelf, plan.data(index))


def listing(plan: Plan) -> Iterator[bytes]:
    """Yield the JSON object that lists the files, in pieces: 100,000 entries are never held at once."""
    batch: list[dict[str, Any]] = []
    before = b'{"files": ['
    for member in plan.members():
        batch.append(
            {
                "id": member.id,
                "path": member.path,
                "size": member.size,
                "mtime": member.mtime,
                "hashtype": member.hashtype,
                "hashsum": member.hashsum,
            }
        )
        if len(batch) == LISTED:
            yield before + msgspec.json.encode(batch)[1:-1]
            batch.clear()
            before = b","
    rest = msgspec.json.encode(batch)[1:-1]
    yield (before if rest or before != b"," else b"") + rest + b"]}"


def _read(
    cart: Cart, plan: Plan, shelf: Shelf, base: int, start: int, stop: int
) -> Generator[bytes | memoryview, None, None]:
    with reading.held(cart):
        try:
            yield from stream(plan, shelf.readers(cart, Pace()), base + start, base + stop)
        except Damaged as error:
            blame(cart, plan, shelf, error)
            raise
