"""What a ready cart gives out: its tar, one of its files, and the list of them."""

import logging
from collections.abc import Iterator
from functools import partial
from typing import Any

import msgspec

from ..common import ledger
from ..common.errors import Damaged, ServiceError
from ..common.pack import discard
from ..common.ranges import Produce
from . import reading
from .orm import Cart, File
from .plan import Plan
from .shelf import Shelf
from .stream import stream

LISTED = 1000  # entries of one piece of a listing

log = logging.getLogger(__name__)


def tar_of(cart: Cart, plan: Plan, shelf: Shelf) -> Produce:
    """Return what makes any range of the cart's tar."""
    return partial(_read, cart, plan, shelf, 0)


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


def _read(cart: Cart, plan: Plan, shelf: Shelf, base: int, start: int, stop: int) -> Iterator[bytes | memoryview]:
    with reading.held(cart):
        try:
            yield from stream(plan, shelf.readers(cart), base + start, base + stop)
        except Damaged as error:
            log.error("cart %s: the download met damage: %s", cart.id, error.detail)
            if "file_id" in error.detail:  # else the damaged bytes are another file's, or a header's
                _mark(cart, shelf, error)
            raise


def _mark(cart: Cart, shelf: Shelf, error: Damaged) -> None:
    """Note the damage at the file and at the cart; the client hears of it whatever the database says."""
    id = error.detail["file_id"]
    try:
        if cart.staged:  # the copy is bad, not the archive: `fixit` fetches it again
            discard(shelf.staged(cart.id), error.detail["pack"])
            File.update(status="error", error=error.message).where(_here(cart, id)).execute()
        else:
            ledger.mark_damaged(id)
        cart.failed(error)
    except ServiceError as trouble:  # another download met it first, the cart was deleted, or the database is away
        log.warning("cart %s: its damage could not be noted: %s", cart.id, trouble)


def _here(cart: Cart, id: int) -> Any:
    return (File.cart == cart.id) & (File.file_name == id)
