"""A PostgreSQL that stands still is noticed, and whoever waits for it hears of it in time.

The kernel of a frozen server goes on acknowledging what it is sent, so that neither keepalives nor TCP's own timeouts
end the wait, and the server's ``statement_timeout`` stands still with the rest.  A statement that takes long is no such
thing: then the server still greets whoever comes.  So it is asked for a greeting, by a connection of its own, when
somebody has waited for ten seconds; without one, all who wait lose their connections.
"""

import logging
import math
import os
import socket
import threading
import time
from typing import Any
from weakref import WeakSet

import psycopg

from . import fork

PATIENCE_SECONDS = 10.0
GREETING_SECONDS = 5
LOOK_SECONDS = 1.0  # between two looks; who has waited for less when the server turns out to stand still waits on

logger = logging.getLogger(__name__)


class Connection(psycopg.Connection[Any]):
    """A connection that says since when it waits for the server."""

    waits_since = math.inf

    def wait(self, *args: Any, **options: Any) -> Any:
        """As psycopg's; OperationalError as well when the server was found to stand still meanwhile."""
        self.waits_since = time.monotonic()
        try:
            return super().wait(*args, **options)
        finally:
            with _lock:  # from here on its descriptor may become another's
                self.waits_since = math.inf


def connect(**params: Any) -> Connection:
    """Connect as psycopg does, and look after the connection.

    A server that did not greet a moment ago is not asked: peewee's pool makes one connection after the other, and those
    who wait for their turn would each wait for as long again.
    """
    if time.monotonic() < _watch.silent_until:
        raise psycopg.errors.ConnectionTimeout("the server did not greet a moment ago")
    try:
        connection: Connection = Connection.connect(**params)
    except psycopg.errors.ConnectionTimeout:
        _watch.silent_until = time.monotonic() + LOOK_SECONDS
        raise
    _watch.add(connection, params)
    return connection


class _Watch:
    """The connections of this process, and the thread that looks after them."""

    def __init__(self) -> None:
        self._connections: WeakSet[Connection] = WeakSet()
        self._thread: threading.Thread | None = None
        self._gate = fork.Gate()
        self._params: dict[str, Any] = {}
        self._stands = False  # when last asked
        self.silent_until = 0.0  # connections are refused up to this time

    def add(self, connection: Connection, params: dict[str, Any]) -> None:
        """Look after it, too; the thread starts with the first."""
        with _lock:
            self._connections.add(connection)
            self._params = params
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="pacifica-pulse", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            time.sleep(LOOK_SECONDS)
            with self._gate:
                if self._waiting(LOOK_SECONDS if self._stands else PATIENCE_SECONDS):
                    self._stands = not self._greets()
                if self._stands:
                    for connection in self._waiting(LOOK_SECONDS):
                        logger.warning("the database stands still: who waits for it is told")
                        _end(connection)

    def _waiting(self, seconds: float) -> list[Connection]:
        """Return those who have waited for so long."""
        with _lock:
            before = time.monotonic() - seconds
            return [connection for connection in self._connections if connection.waits_since < before]

    def _greets(self) -> bool:
        """Tell whether the server still speaks to who comes; that it refuses is an answer as well."""
        try:
            psycopg.connect(**self._params | {"connect_timeout": GREETING_SECONDS}).close()
        except psycopg.errors.ConnectionTimeout:
            return False
        except psycopg.Error:
            return True
        return True


def _end(connection: Connection) -> None:
    """Shut down a connection under the thread that waits at it, unless it waits no more."""
    with _lock:
        if connection.waits_since == math.inf or connection.closed:
            return
        with socket.socket(fileno=os.dup(connection.fileno())) as held:
            held.shutdown(socket.SHUT_RDWR)


@fork.in_child
def _forked() -> None:
    global _lock, _watch
    _lock, _watch = threading.Lock(), _Watch()  # the thread stayed in the parent, and with it maybe the held lock


_lock = threading.Lock()
_watch = _Watch()
