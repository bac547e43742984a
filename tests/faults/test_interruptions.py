"""Fifty times the connection breaks, anywhere; curl and wget take the download up again, and have every byte right."""

import hashlib
import random
import socket
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from pacifica.tests.system.bundles import bundle
from pacifica.tests.system.suite import Suite, wanted

BREAKS = 50
NOISE = random.Random(50).randbytes(1 << 20)
FILES = {
    "größe/€.txt": b"names",
    "long/" + "/".join(["n" * 60] * 5): b"beyond ustar",
    **{f"small/{number:04}": NOISE[number : number * 3] for number in range(1000)},
    "large": NOISE * 12,
}


class Breaking:
    """A way to ``place`` that breaks once for each of ``lengths``: after so many bytes of the answer's body."""

    def __init__(self, place: str, lengths: list[int]) -> None:
        split = urlsplit(place)
        self.place, self.lengths, self.broken = (split.hostname, split.port), lengths, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}{split.path}"
        self.thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> "Breaking":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(30)

    def _serve(self) -> None:
        with suppress(OSError):  # the listener was shut
            while True:
                client, _ = self.listener.accept()
                with client, socket.create_connection(self.place, 30) as server:
                    client.settimeout(30)
                    with suppress(ConnectionError):
                        self._pass(client, server)

    def _pass(self, client: socket.socket, server: socket.socket) -> None:
        """Pass one request and its answer on, as much of that as is due."""
        request = b""
        while b"\r\n\r\n" not in request and (some := client.recv(65536)):
            request += some
        # one answer a connection: where it ends is then plain to see
        server.sendall(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        reader = server.makefile("rb")
        while (line := reader.readline()) not in (b"\r\n", b""):
            client.sendall(line)
        client.sendall(line)
        left = self.lengths.pop(0) if self.lengths else None
        while left != 0 and (some := reader.read1(65536 if left is None else min(left, 65536))):
            client.sendall(some)
            left = None if left is None else left - len(some)
        self.broken += left == 0


@pytest.fixture(scope="module")
def cart(deployment: Suite) -> str:
    """The URL of a download."""
    job = deployment.upload(bundle(FILES))
    assert deployment.finished(job["job_id"], 60)["state"] == "OK"
    return deployment.cart(deployment.fill_cart(wanted(deployment.files(job["job_id"])))) + "?filename=run.tar"


@pytest.fixture(scope="module")
def whole(cart: str) -> tuple[int, str]:
    """Size and digest of the download that was not interrupted."""
    content = requests.get(cart, timeout=60).content
    return len(content), hashlib.sha256(content).hexdigest()


def lengths(size: int) -> list[int]:
    """Return where the download breaks: anywhere, also before its first byte, and never so that it is over too soon."""
    chance = random.Random(size)
    return [0, 1, 511, *(chance.randrange(0, 2 * size // BREAKS * 9 // 10) for _ in range(BREAKS - 3))]


def test_curl_has_every_byte_after_fifty_breaks(cart: str, whole: tuple[int, str], tmp_path: Path) -> None:
    target, due = tmp_path / "run.tar", lengths(whole[0])
    assert sum(due) < whole[0]
    with Breaking(cart.partition("?")[0], due) as way:
        command = ["curl", "-sS", "-C", "-", "-o", str(target), f"{way.url}?filename=run.tar"]
        codes = [
            subprocess.run(command, capture_output=True, timeout=60, check=False).returncode for _ in range(BREAKS)
        ]
        assert set(codes) == {18}  # partial file
        assert subprocess.run(command, timeout=60, check=False).returncode == 0
        assert (way.broken, way.lengths) == (BREAKS, [])
    assert (target.stat().st_size, hashlib.sha256(target.read_bytes()).hexdigest()) == whole


def test_wget_has_every_byte_after_fifty_breaks(cart: str, whole: tuple[int, str], tmp_path: Path) -> None:
    target = tmp_path / "run.tar"
    with Breaking(cart.partition("?")[0], lengths(whole[0])) as way:
        command = ["wget", "-q", "-c", "--tries=100", "--waitretry=0", "-O", str(target), f"{way.url}?filename=run.tar"]
        assert subprocess.run(command, timeout=120, check=False).returncode == 0
        assert (way.broken, way.lengths) == (BREAKS, [])
    assert (target.stat().st_size, hashlib.sha256(target.read_bytes()).hexdigest()) == whole
