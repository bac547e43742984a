"""Whose bytes are bad: damage that a download met, noted at the files it is proven of, and at the cart."""

import logging
from contextlib import suppress

from ..common import ledger
from ..common.errors import Damaged, ServiceError
from ..common.pack import PackReader, discard
from ..common.volume import BLOCK, Volume
from .orm import Cart, File
from .plan import Plan
from .plans import drop_plans
from .shelf import Shelf

READ_MAX = 1 << 30  # bytes that are read again to find out; of a larger file the audit has to judge

log = logging.getLogger(__name__)


def blame(cart: Cart, plan: Plan, shelf: Shelf, error: Damaged) -> None:
    """Note what ``error`` proves at files and cart; the client hears of it whatever the database says.

    Where only headers of a pack are bad, which ``plan`` passes through, the cart stays as it is: plans made from now
    on have headers of our own there.
    """
    log.error("cart %s: the download met damage: %s", cart.id, error.detail)
    try:
        if cart.staged:  # the copy is bad, not the archive: `fixit` fetches it again
            discard(shelf.staged(cart.id), error.detail["pack"])
            here = (File.cart == cart.id) & (File.file_name == error.detail["file_id"])
            File.update(status="error", error=error.message).where(here).execute()
        else:
            bad = [error.detail["file_id"]] if "file_id" in error.detail else _suspects(shelf.volume, error)
            ledger.mark(bad, ledger.DAMAGED)
            if not bad and plan.table.adopted:
                drop_plans(shelf, cart)
                return
        cart.failed(error)
    except ServiceError as trouble:  # another download met it first, the cart was deleted, or the database is away
        log.warning("cart %s: its damage could not be noted: %s", cart.id, trouble)


def _suspects(volume: Volume, error: Damaged) -> list[int]:
    """Return the ids of the files over a bad block whose own bytes are not what they were."""
    block = error.detail.get("block")
    if block is None:
        return []
    pack, left, bad = error.detail["pack"], READ_MAX, []
    held = ledger.locate(ledger.overlapping(pack, block * BLOCK, (block + 1) * BLOCK)).values()
    for file in sorted(held, key=lambda file: file.size):
        left -= file.size
        if left < 0:
            break
        with suppress(Damaged), PackReader(volume, pack) as reader:
            if reader.hash(file.offset, file.size, file.hashtype) == file.hashsum:
                continue
        bad.append(file.id)
    return bad
