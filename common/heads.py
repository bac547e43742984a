"""Requests whose head has not come whole: they wait here and hold no thread of the server.

Who sends the first line and nothing more would else hold a thread for as long as it is silent, who sends a byte now
and then for ever, and a few dozen of them the whole server.
"""

import os
import re
import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

LONG_BYTES = 32 << 10  # a longer head is for a thread to read: more may not fit where the kernel keeps what is unread
LOOK_SECONDS = 0.5

_END = re.compile(rb"\r\n\r\n|(?<!\r)\n")  # a bare line feed, too: it will be refused


class Heads:
    """cheroot's connections that have begun a request; each goes to ``ready`` when its head is there."""

    def __init__(self, ready: Callable[[Any], None], seconds: float, late: bytes) -> None:
        """Answer ``late`` to whose head takes more than ``seconds``, and hang up."""
        self._ready, self._seconds, self._late = ready, seconds, late
        self._waiting: dict[int, tuple[Any, float]] = {}  # connection and deadline, by descriptor
        self._epoll, self._lock, self._ended = select.epoll(), threading.Lock(), threading.Event()
        self._bell = os.eventfd(0, os.EFD_CLOEXEC)  # rung once, by close(), so that nobody waits for the next look
        self._epoll.register(self._bell, select.EPOLLIN)
        self._thread = threading.Thread(target=self._run, name="http heads", daemon=True)
        self._thread.start()

    def put(self, connection: Any) -> None:
        """Take a connection on which something has come."""
        if _is_whole(connection):
            self._ready(connection)
            return
        with self._lock:
            self._waiting[connection.socket.fileno()] = connection, time.monotonic() + self._seconds
            # edge-triggered: what lies there already is told once, and then each time that more comes
            self._epoll.register(connection.socket.fileno(), select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET)

    def close(self) -> None:
        """Hang up on all that wait; once is enough, and more does no harm."""
        if self._ended.is_set():
            return
        self._ended.set()
        os.eventfd_write(self._bell, 1)
        self._thread.join(2 * LOOK_SECONDS)
        for descriptor in list(self._waiting):
            if (connection := self._take(descriptor)) is not None:
                connection.close()
        self._epoll.close()
        os.close(self._bell)

    def _run(self) -> None:
        while not self._ended.is_set():
            for descriptor, _ in self._epoll.poll(LOOK_SECONDS):
                held = self._waiting.get(descriptor)
                if held is not None and _is_whole(held[0]):
                    self._take(descriptor)
                    self._ready(held[0])
            now = time.monotonic()
            for descriptor in [known for known, (_, due) in list(self._waiting.items()) if due < now]:
                if (connection := self._take(descriptor)) is not None:
                    self._refuse(connection)

    def _take(self, descriptor: int) -> Any:
        with self._lock:
            connection, _ = self._waiting.pop(descriptor, (None, 0.0))
            if connection is not None:
                self._epoll.unregister(descriptor)
        return connection

    def _refuse(self, connection: Any) -> None:
        with suppress(OSError):
            connection.socket.settimeout(0)
            connection.socket.send(self._late)
            connection.socket.shutdown(socket.SHUT_WR)
        connection.close()


def _is_whole(connection: Any) -> bool:
    """Tell whether a thread has no more to wait for; nothing is taken out of the connection."""
    seconds = connection.socket.gettimeout()
    begun = bytes(connection.rfile.peek(1)) if connection.rfile.has_data() else b""  # behind an earlier request
    connection.socket.settimeout(0)
    try:
        more = connection.socket.recv(LONG_BYTES, socket.MSG_PEEK)
    except BlockingIOError:
        return _END.search(begun) is not None
    except OSError:
        return True  # the thread meets it again
    finally:
        connection.socket.settimeout(seconds)
    head = begun + more
    return not more or len(head) >= LONG_BYTES or _END.search(head) is not None
