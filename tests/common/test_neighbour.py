"""How often another service is asked again, and when: by what it says, else later and later."""

import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import pytest

from pacifica.common.neighbour import Neighbour, NeighbourAway
from pacifica.common.sections import Neighbours


class Busy(ThreadingHTTPServer):
    """Answers 503 with the Retry-After of each of ``waits`` (None: without one), then 200; keeps when it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.waits: list[str | None] = []
        self.asked: list[float] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def gaps(self) -> list[float]:
        return [after - before for before, after in pairwise(self.asked)]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Busy

    def do_GET(self) -> None:
        self.server.asked.append(time.monotonic())
        wait = self.server.waits.pop(0) if self.server.waits else ""
        self.send_response(200 if wait == "" else 503)
        if wait:
            self.send_header("Retry-After", wait)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def busy() -> Iterator[Busy]:
    server = Busy()
    yield server
    server.shutdown()
    server.server_close()


def neighbour(busy: Busy, **settings: float) -> Neighbour:
    return Neighbour("It", f"http://127.0.0.1:{busy.server_port}", Neighbours(**settings))


@pytest.mark.parametrize("in_date", [False, True])
def test_it_is_asked_again_no_sooner_than_it_says(busy: Busy, in_date: bool) -> None:
    busy.waits = [formatdate(time.time() + 2, usegmt=True) if in_date else "1"]
    assert neighbour(busy, retry_seconds=0.001).ask("GET").status == 200
    (gap,) = busy.gaps()
    assert gap >= 0.9  # a date has no parts of a second


def test_where_it_says_nothing_each_wait_is_longer_than_the_one_before(busy: Busy) -> None:
    busy.waits = [None, "nonsense", "inf", "nan"]
    assert neighbour(busy, retry_seconds=0.1, tries=5).ask("GET").status == 200
    assert all(gap >= 0.075 * 2**number for number, gap in enumerate(busy.gaps()))
    assert len(busy.asked) == 5


def test_a_wait_that_is_too_long_is_the_callers_matter(busy: Busy) -> None:
    busy.waits = ["100000"]
    with pytest.raises(NeighbourAway):
        neighbour(busy, retry_seconds=0.001).ask("GET")
    assert len(busy.asked) == 1
