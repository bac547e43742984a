"""Rules of ``common.deadline``: no way of answering holds whoever asked beyond the time that was set."""

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from pacifica.common.config import Neighbours
from pacifica.common.errors import ArchiveUnavailable, NeighbourAway
from pacifica.common.neighbour import Neighbour
from pacifica.common.remote import RemoteArchive

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
ENDLESS = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"  # the body ends where the connection does
BRIEF = Neighbours(timeout=5.0, tries=1, answer_seconds=0.5, min_rate=1 << 30)


class Dripping:
    """A server that sends ``at_once``, then a byte each tenth of a second, until it is hung up on."""

    def __init__(self, at_once: bytes, drops: bytes) -> None:
        self.at_once, self.drops, self.hung_up = at_once, drops, threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        connection, _ = self.listener.accept()
        with connection:
            while b"\r\n\r\n" not in connection.recv(65536):
                pass
            try:
                connection.sendall(self.at_once)
                for number in range(600):
                    time.sleep(0.1)
                    connection.sendall(self.drops[number % len(self.drops) :][:1])
            except OSError:
                self.hung_up.set()


@pytest.fixture(params=[(b"", HEAD), (HEAD, b"x"), (ENDLESS, b"x")], ids=["head", "body", "body without end"])
def dripping(request: pytest.FixtureRequest) -> Iterator[Dripping]:
    server = Dripping(*request.param)
    yield server
    server.listener.close()


def test_an_answer_that_drips_is_hung_up_on(dripping: Dripping) -> None:
    with pytest.raises(NeighbourAway, match="TooSlow"):
        Neighbour("It", dripping.url, BRIEF).ask("GET")
    assert dripping.hung_up.wait(20)


def test_a_file_that_drips_is_hung_up_on(dripping: Dripping) -> None:
    def read() -> None:
        with RemoteArchive(dripping.url, BRIEF).body(1) as body:
            while body.readinto(memoryview(bytearray(1 << 20))):
                pass

    with pytest.raises(ArchiveUnavailable, match="TooSlow"):
        read()
    assert dripping.hung_up.wait(20)


def test_a_short_time_for_one_exchange_is_no_time_for_the_next() -> None:
    server = Dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", b" ")
    neighbour = Neighbour("It", server.url, replace(BRIEF, answer_seconds=2.0))  # keeps the connection
    assert neighbour.ask("GET").data == b"[]"
    server.listener.close()
    assert not server.hung_up.wait(2.5), "the connection was given back, and is nobody's to end"
