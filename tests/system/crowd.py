"""Many who read slowly: downloads under way that take a few KiB a second each."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

READERS = 50
SIP, PAUSE_SECONDS = 1024, 0.2


@contextmanager
def slow_readers(url: str) -> Iterator[list[socket.socket]]:
    """Have 50 downloads of ``url`` be under way, each begun, for a block that gets their connections."""
    place, ended = urlsplit(url), threading.Event()
    request = f"GET {place.path}?{place.query} HTTP/1.1\r\nHost: {place.netloc}\r\n\r\n"
    with ExitStack() as stack:
        connections = []
        for _ in range(READERS):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            connection.settimeout(60)
            connection.connect((place.hostname, place.port))
            connection.sendall(request.encode())
            connections.append(connection)
        for connection in connections:
            if not connection.recv(SIP).startswith((b"HTTP/1.1 200", b"HTTP/1.0 200")):
                raise RuntimeError("a slow reader was refused")

        def sip() -> None:
            while not ended.wait(PAUSE_SECONDS):
                for connection in connections:
                    connection.recv(SIP)

        thread = threading.Thread(target=sip)
        thread.start()
        try:
            yield connections
        finally:
            ended.set()
            thread.join()
