"""Room in memory for the selections that are posted: bounded for all of them together, not only for each."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ..common.errors import Overloaded

SMALL = 1 << 20  # bytes; a selection up to here waits for nobody
WAIT_SECONDS = 10.0


class Intake:
    """``max_bytes`` of large selections at once in this process."""

    def __init__(self, max_bytes: int) -> None:
        self._left, self._changed = max_bytes, threading.Condition()

    @contextmanager
    def room(self, size: int) -> Iterator[None]:
        """Have room for ``size`` bytes during the block; Overloaded when others take it for too long."""
        if size <= SMALL:
            yield
            return
        with self._changed:
            if not self._changed.wait_for(lambda: self._left >= size, WAIT_SECONDS):
                raise Overloaded("Too many large selections are being stored.", max_bytes=size)
            self._left -= size
        try:
            yield
        finally:
            with self._changed:
                self._left += size
                self._changed.notify_all()
