"""Downloads under way: what they are read from is not taken away, and a cart in use is not an unused one.

A download says in the cart's row until when it holds it, and one thread of the process says so again for as long as it
lasts.  A process that dies lets go within a minute.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from ..common import orm
from ..common.errors import NotFound, ServiceError
from .orm import Cart, State

HOLD_SECONDS = 60.0
RENEW_SECONDS = HOLD_SECONDS / 3
MAX_KNOWN = 10_000  # carts whose last touch this process remembers

log = logging.getLogger(__name__)

_lock = threading.Lock()
_held: Counter[int] = Counter()  # downloads under way in this process, by cart
_touched: dict[int, float] = {}  # monotonic
_ended = threading.Event()
_thread: threading.Thread | None = None


def touch(cart: Cart) -> None:
    """Note that ``cart`` is used now, and hold it for a minute; NotFound when it is not ready any more.

    Writes at most three times a minute, however many ranges are asked for.
    """
    moment = time.monotonic()
    if moment - _touched.get(cart.id, -HOLD_SECONDS) < RENEW_SECONDS:
        return
    held = orm.execute(
        f"UPDATE cart SET updated = {orm.now().sql}, read_until = {orm.now().sql} + ? WHERE id = ? AND state = ?",
        HOLD_SECONDS, cart.id, State.READY,
    )  # fmt: skip
    if not held:
        raise NotFound("The cart does not exist or has already been deleted")
    with _lock:
        if len(_touched) >= MAX_KNOWN:
            _touched.clear()
        _touched[cart.id] = moment


@contextmanager
def held(cart: Cart) -> Iterator[None]:
    """Hold ``cart``, which was touched before, for as long as the block runs."""
    global _thread
    with _lock:
        _held[cart.id] += 1
        if _thread is None or not _thread.is_alive():
            _thread = threading.Thread(target=_renew, name="pacifica-downloads", daemon=True)
            _thread.start()
    try:
        yield
    finally:
        with _lock:
            _held[cart.id] -= 1
            if not _held[cart.id]:
                del _held[cart.id]


def _renew() -> None:
    while not _ended.wait(RENEW_SECONDS):
        with _lock:
            ids = list(_held)
        try:
            if ids:
                now = orm.now().sql
                marks = ", ".join("?" * len(ids))
                orm.execute(
                    f"UPDATE cart SET updated = {now}, read_until = {now} + ? WHERE id IN ({marks})", HOLD_SECONDS, *ids
                )
        except ServiceError as error:  # two more rounds may fail before a hold runs out
            log.warning("%d downloads could not be noted: %s", len(ids), error)
        except Exception:  # a thread that dies here would let go of every download
            log.exception("%d downloads could not be noted", len(ids))
