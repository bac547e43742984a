"""An exchange with another server ends in time, however it is drawn out.

The timeout of a socket bounds the silence between two bytes: a server that sends one byte before each timeout is waited
for without end.  Here the whole exchange has a deadline; when it passes, the connection is shut down under the thread
that waits at it.
"""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from . import fork

AGAIN_SECONDS = 0.5  # between two attempts to shut down: a connection may not have been there yet


class Exchange:
    """A question and its answer, or a part of it; ``expired`` once the deadline has ended it."""

    def __init__(self, seconds: float, connection: Any = None) -> None:
        self.due, self.expired, self.connection = time.monotonic() + seconds, False, connection

    def expire(self) -> None:
        """Shut the connection down, for both directions."""
        self.expired, self.due = True, time.monotonic() + AGAIN_SECONDS
        for each in (getattr(self.connection, "sock", None), getattr(self.connection, "opened", None)):
            if isinstance(each, socket.socket):
                with suppress(OSError):  # it is closed already
                    socket.socket.shutdown(each, socket.SHUT_RDWR)  # TLS, too: its own method is not for two threads


@contextmanager
def within(seconds: float, connection: Any = None) -> Iterator[Exchange]:
    """End what this thread does over ``connection`` (None: over the one that it asks with) after ``seconds``.

    Whoever waits then meets an OSError, or the end of the stream: look at ``expired``.
    """
    exchange, outer = Exchange(seconds, connection), getattr(_mine, "exchange", None)
    _mine.exchange = exchange
    _clock.add(exchange)
    try:
        yield exchange
    finally:
        _clock.remove(exchange)
        _mine.exchange = outer


def pool(connections: int, **options: Any) -> urllib3.PoolManager:
    """Return a pool whose connections know the exchange that they serve."""
    manager = urllib3.PoolManager(1, maxsize=connections, **options)
    manager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}
    return manager


class _Watched:
    opened: Any = None  # an answer that ends with its connection outlives the latter's name for it

    def connect(self) -> None:
        self._serve()
        super().connect()  # type: ignore[misc]
        self.opened = self.sock  # type: ignore[attr-defined]

    def request(self, *args: Any, **options: Any) -> None:
        self._serve()
        super().request(*args, **options)  # type: ignore[misc]

    def _serve(self) -> None:
        exchange = getattr(_mine, "exchange", None)
        if exchange is not None:
            exchange.connection = self


class _HttpConnection(_Watched, HTTPConnection):
    pass


class _HttpsConnection(_Watched, HTTPSConnection):
    pass


class _HttpPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _HttpConnection


class _HttpsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _HttpsConnection


class _Clock:
    """The exchanges of this process that go on, and the thread that ends those whose time is over."""

    def __init__(self) -> None:
        self._exchanges: set[Exchange] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def add(self, exchange: Exchange) -> None:
        """Watch it; the thread starts with the first."""
        with self._changed:
            self._exchanges.add(exchange)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="pacifica-deadlines", daemon=True)
                self._thread.start()
            self._changed.notify()

    def remove(self, exchange: Exchange) -> None:
        """Watch it no more; from here on its connection may be another's."""
        with self._changed:
            self._exchanges.discard(exchange)

    def _run(self) -> None:
        with self._changed:
            while True:
                now = time.monotonic()
                for exchange in self._exchanges:
                    if exchange.due <= now:
                        exchange.expire()
                first = min((exchange.due for exchange in self._exchanges), default=None)
                self._changed.wait(None if first is None else max(0.0, first - time.monotonic()))


@fork.in_child
def _forked() -> None:
    global _clock
    _clock = _Clock()  # the thread stayed in the parent, and with it maybe a held lock


_clock = _Clock()
_mine = threading.local()
