"""Room is made again and again while two carts are downloaded: neither loses a byte, and neither is what goes."""

import hashlib
import random
import socket
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from pacifica.tests.system import disks
from pacifica.tests.system.suite import Suite
from pacifica.tests.system.tape import RemoteArchive

SIZE = 16 << 20
ROUNDS = 5
CONTENT = {id: random.Random(id).randbytes(SIZE) for id in (1, 2, 3)}
HUGE = 4  # more than everything that may be evicted


@pytest.fixture
def small(own_suite: Suite, tmp_path: Path) -> Iterator[Suite]:
    """A suite with a remote archive, whose copies have room for three carts and a half."""
    with ExitStack() as stack:
        archive = stack.enter_context(RemoteArchive(CONTENT | {HUGE: bytes(3 * SIZE)}))
        disk = stack.enter_context(disks.small(tmp_path / "disk", 7 * SIZE // 2))
        own_suite.environment |= {
            "ARCHIVE_INTERFACE_URL": archive.url,
            "PACIFICA_CARTD_VOLUME_PATH": str(disk),
            "PACIFICA_ARCHIVE_MIN_FREE_BYTES": "0",
            "PACIFICA_WORKER_MAX_ATTEMPTS": "1",
        }
        own_suite.services = ("cartd",)
        yield own_suite.start()
        own_suite.kill()


class Reader:
    """A download that takes what it is asked to take."""

    def __init__(self, url: str, stack: ExitStack) -> None:
        place = urlsplit(url)
        self.socket = stack.enter_context(socket.socket())
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        self.socket.settimeout(60)
        self.socket.connect((place.hostname, place.port))
        self.socket.sendall(f"GET {place.path}?filename=d HTTP/1.1\r\nHost: {place.netloc}\r\n\r\n".encode())
        self.stream = stack.enter_context(self.socket.makefile("rb"))
        assert b" 200 " in self.stream.readline()
        self.left = 0
        while line := self.stream.readline().strip():
            name, _, value = line.partition(b":")
            self.left = int(value) if name.lower() == b"content-length" else self.left
        self.got = bytearray()

    def take(self, size: int) -> None:
        """Read ``size`` bytes more, or the rest."""
        self.got += self.stream.read(min(size, self.left - len(self.got)))


def post(suite: Suite, id: int, content: bytes) -> str:
    """Make a cart of one file, and return its uid once it is ready, or in error."""
    digest = hashlib.sha1(content).hexdigest()
    return suite.fill_cart([{"id": id, "path": "f", "hashtype": "sha1", "hashsum": digest}])


def told(suite: Suite, uid: str) -> tuple[int, str]:
    head = requests.head(suite.cart(uid), timeout=10)
    return head.status_code, head.headers["X-Pacifica-Message"]


def test_no_cart_that_is_downloaded_is_evicted_and_each_download_is_whole(small: Suite) -> None:
    read = {id: post(small, id, CONTENT[id]) for id in (1, 2)}  # the oldest: the first to go, were they not read
    with ExitStack() as stack:
        readers: dict[int, Any] = {id: Reader(small.cart(uid), stack) for id, uid in read.items()}
        before, gone = str(uuid.uuid4()), []
        for _ in range(ROUNDS):
            uid = post(small, 3, CONTENT[3])
            assert told(small, uid) == (204, "")
            assert told(small, before)[0] == 404
            for reader in readers.values():
                reader.take(1 << 20)
            before = uid
            gone.append(uid)
        refused = post(small, HUGE, bytes(3 * SIZE))
        assert told(small, refused) == (500, "Not enough space to download file")
        for id, reader in readers.items():
            assert len(reader.got) < reader.left, "it has been under way all the time"
            reader.take(reader.left)
            assert len(reader.got) == reader.left
            assert bytes(reader.got[512 : 512 + SIZE]) == CONTENT[id]
    assert [told(small, uid)[0] for uid in (*read.values(), before, *gone[:-1])] == [204] * 3 + [404] * (ROUNDS - 1)
