"""Kombu's in-memory broker, heard at once: who waits for a message sleeps until there is one.

Kombu looks into its dictionary of queues at intervals, for which an idle process pays with a few hundred wakings a
second and every message with half an interval.  ``broker`` puts this in its place.
"""

import threading
import time
from queue import Empty
from typing import Any

from kombu.transport import memory

from . import fork

LOOK_SECONDS = 1.0  # how often it is looked into anyway


class Bell:
    """Counts what may be news to somebody who waits."""

    def __init__(self) -> None:
        """Nothing was rung yet."""
        self.count = 0
        self._changed = threading.Condition(threading.Lock())

    def ring(self) -> None:
        """Wake everybody who waits."""
        with self._changed:
            self.count += 1
            self._changed.notify_all()

    def wait(self, heard: int, seconds: float) -> None:
        """Sleep until the count is no longer ``heard``, ``seconds`` at most."""
        with self._changed:
            self._changed.wait_for(lambda: self.count != heard, seconds)


_bell = Bell()


@fork.in_child
def _forked() -> None:
    global _bell
    _bell = Bell()  # the lock of the other may be held by a thread that is not here


class Channel(memory.Channel):
    """Rings for each message, and for each acknowledgement: it makes room where as many as may be are taken."""

    def _put(self, queue: str, message: Any, **kwargs: Any) -> None:
        super()._put(queue, message, **kwargs)
        _bell.ring()

    def basic_ack(self, delivery_tag: Any, multiple: bool = False) -> None:
        """Take a message for dealt with."""
        super().basic_ack(delivery_tag, multiple)
        _bell.ring()

    def basic_reject(self, delivery_tag: Any, requeue: bool = False) -> None:
        """Give a message up, or back."""
        super().basic_reject(delivery_tag, requeue)
        _bell.ring()


class Transport(memory.Transport):
    """Waits where the original sleeps."""

    Channel = Channel

    def drain_events(self, connection: Any, timeout: float | None = None) -> None:
        """Deliver one message; TimeoutError when none came within ``timeout`` seconds (None: wait for ever)."""
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            heard = _bell.count
            try:
                self.cycle.get(self._deliver, timeout=timeout)
            except Empty:
                left = LOOK_SECONDS if until is None else min(LOOK_SECONDS, until - time.monotonic())
                if left <= 0:
                    raise TimeoutError("no message came") from None
                _bell.wait(heard, left)
            else:
                return
