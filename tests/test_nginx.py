"""Behind nginx: large bodies both ways, ranges, clients that vanish, and a user's name that only nginx can set."""

import hashlib
import io
import json
import os
import socket
import subprocess
import tarfile
import uuid
from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests

from pacifica.tests.system.bundles import TRANSACTION, bundle, entry
from pacifica.tests.system.fronted import Fronted
from pacifica.tests.system.suite import until, wanted

ALICE, BOB = ("alice", "alice"), ("bob", "bob")
LARGE = 256 << 20


@pytest.fixture(scope="module")
def fronted(postgres: Any, rabbitmq: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fronted]:
    """The deployment, with nginx in front of it."""
    data = tmp_path_factory.mktemp("fronted") / "data"
    suite = Fronted(data, postgres.create_database(), rabbitmq.create_vhost())
    try:
        yield suite.start()
    finally:
        suite.kill()


def curl(*words: object, user: str = "alice") -> bytes:
    """Run curl as ``user``, which has to succeed, and return what it prints."""
    done = subprocess.run(
        ["curl", "-fsS", "-u", f"{user}:{user}", *map(str, words)], capture_output=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def finished(fronted: Fronted, job_id: int, who: tuple[str, str] = ALICE) -> dict[str, Any]:
    """Wait for the end of a job and return its state object."""

    def state() -> dict[str, Any] | None:
        answer = requests.get(f"{fronted.urls['ingest']}/get_state", {"job_id": job_id}, auth=who, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json() if answer.json()["complete"] else None

    found = until(state, 60, f"the end of job {job_id}")
    assert found is not None
    return found


def archived(fronted: Fronted, job_id: int) -> list[dict[str, Any]]:
    """See a job of alice's archived and return its files."""
    assert finished(fronted, job_id)["state"] == "OK"
    answer = requests.get(f"{fronted.urls['metadata']}/files", {"transaction": job_id}, auth=ALICE, timeout=30)
    return list(answer.json())


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A bundle of one file of 256 MiB, and the SHA-1 of that file."""
    path, piece, digest = tmp_path_factory.mktemp("large") / "large.tar", os.urandom(1 << 20), hashlib.sha1()
    for _ in range(LARGE >> 20):
        digest.update(piece)
    said = json.dumps([*TRANSACTION, entry("large.bin", b"", size=LARGE, hashsum=digest.hexdigest())]).encode()
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo("data/large.bin")
        member.size = LARGE
        tar.addfile(member, _Again(piece))  # type: ignore[arg-type]
        member = tarfile.TarInfo("metadata.txt")
        member.size = len(said)
        tar.addfile(member, io.BytesIO(said))
    return path, digest.hexdigest()


class _Again:
    def __init__(self, piece: bytes) -> None:
        self.rest, self.piece = b"", piece

    def read(self, size: int) -> bytes:
        while len(self.rest) < size:
            self.rest += self.piece
        found, self.rest = self.rest[:size], self.rest[size:]
        return found


@pytest.fixture(scope="module")
def cart(fronted: Fronted, large: tuple[Path, str]) -> str:
    """The URL of a cart that holds the large file, which was uploaded through nginx."""
    posted = curl("-X", "POST", "-T", large[0], f"{fronted.urls['ingest']}/upload")
    files = archived(fronted, json.loads(posted)["job_id"])
    assert [(file["size"], file["hashsum"]) for file in files] == [(LARGE, large[1])]
    url = f"{fronted.urls['cartd']}/{uuid.uuid4()}"
    assert requests.post(url, json={"fileids": wanted(files)}, auth=ALICE, timeout=60).status_code == 201
    return f"{url}?filename=t"


@pytest.fixture(scope="module")
def whole(cart: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cart, downloaded through nginx."""
    path = tmp_path_factory.mktemp("whole") / "t.tar"
    curl("-o", path, cart)
    return path


def sha1(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha1").hexdigest()


# ---- bytes ---------------------------------------------------------------------------------------------------------


def test_a_large_file_comes_back_as_it_went_in(whole: Path, large: tuple[Path, str]) -> None:
    with tarfile.open(whole) as tar:
        member = tar.extractfile("t/large.bin")
        assert member is not None
        assert hashlib.file_digest(member, "sha1").hexdigest() == large[1]  # type: ignore[arg-type]


def test_a_download_that_broke_off_is_resumed(cart: str, whole: Path) -> None:
    before = sha1(whole)
    with whole.open("r+b") as file:
        file.truncate((200 << 20) + 77)
    curl("-C", "-", "-o", whole, cart)
    assert sha1(whole) == before


def test_a_range_is_the_same_part_as_without_nginx(cart: str) -> None:
    head = requests.get(cart, headers={"Range": "bytes=0-1023"}, auth=ALICE, timeout=30)
    assert (head.status_code, len(head.content)) == (206, 1024)
    assert head.headers["Content-Range"] == f"bytes 0-1023/{LARGE + 512 + 1024}"
    same = {"Range": "bytes=512-1535", "If-Range": head.headers["ETag"]}
    part = requests.get(cart, headers=same, auth=ALICE, timeout=30)
    assert part.status_code == 206
    assert part.content[:512] == head.content[512:]
    beyond = requests.get(cart, headers={"Range": f"bytes={LARGE * 2}-"}, auth=ALICE, timeout=30)
    assert (beyond.status_code, beyond.json()["code"]) == (416, "range_not_satisfiable")


def test_a_body_in_chunks_goes_through(fronted: Fronted, tmp_path: Path) -> None:
    (tmp_path / "bundle.tar").write_bytes(bundle({"x": b"x" * 3_000_000}))
    url = f"{fronted.urls['ingest']}/upload"
    posted = curl("-X", "POST", "-H", "Transfer-Encoding: chunked", "-T", tmp_path / "bundle.tar", url)
    assert [file["size"] for file in archived(fronted, json.loads(posted)["job_id"])] == [3_000_000]


def test_a_refusal_is_read_by_a_client_that_still_sends(fronted: Fronted) -> None:
    last = newest_job(fronted)
    with connection(fronted, "ingest") as client:
        client.sendall(request("POST /upload", f"Content-Length: {1 << 50}", "Connection: close") + bytes(4 << 20))
        with client.makefile("rb") as answer:
            told = answer.read()
    assert told.startswith(b"HTTP/1.1 413 ")
    assert b'"code": "too_large"' in told
    assert newest_job(fronted) == last


# ---- clients that vanish -------------------------------------------------------------------------------------------


def connection(fronted: Fronted, service: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", fronted.published[service]), timeout=30)


def request(line: str, *headers: str) -> bytes:
    user = b64encode(b"alice:alice").decode()
    return "\r\n".join([f"{line} HTTP/1.1", "Host: x", f"Authorization: Basic {user}", *headers, "", ""]).encode()


def newest_job(fronted: Fronted) -> int:
    return int(fronted.query("SELECT coalesce(max(id), 0) FROM job")[0][0])


@pytest.mark.parametrize("framing", ["Content-Length: 100000000", "Transfer-Encoding: chunked"])
def test_a_client_that_vanishes_in_its_body_leaves_a_failed_job(fronted: Fronted, framing: str) -> None:
    last = newest_job(fronted)
    with connection(fronted, "ingest") as client:
        client.sendall(request("POST /upload", framing) + (b"" if framing[0] == "C" else b"5f5e100\r\n"))
        client.sendall(bytes(1 << 20))
        until(lambda: newest_job(fronted) > last, 30, "the job")
    assert finished(fronted, last + 1)["state"] == "FAILED"
    until(lambda: not fronted.spooled(), 30, "an empty spool")


def test_clients_that_vanish_while_they_are_served_hold_no_thread(fronted: Fronted, cart: str) -> None:
    path = "/" + cart.partition("//")[2].partition("/")[2]
    for _ in range(40):  # more than uWSGI has threads
        with connection(fronted, "cartd") as client:
            client.sendall(request(f"GET {path}"))
            assert client.recv(100_000)
    head = requests.get(cart, headers={"Range": "bytes=0-9"}, auth=ALICE, timeout=30)
    assert (head.status_code, len(head.content)) == (206, 10)


# ---- who -----------------------------------------------------------------------------------------------------------


def test_nobody_gets_in_without_nginx_knowing_him(fronted: Fronted) -> None:
    url = f"{fronted.urls['ingest']}/get_state?job_id=1"
    forged = {"X-Http-Authed-User": "alice"}
    for options in ({}, {"headers": forged}, {"auth": ("alice", "bob"), "headers": forged}):
        assert requests.get(url, timeout=30, **options).status_code == 401  # type: ignore[arg-type]
    assert requests.get(f"{fronted.urls['ingest']}/readyz", timeout=30).status_code == 200


@pytest.mark.parametrize("name", ["X-Http-Authed-User", "x-http-authed-user", "X_Http_Authed_User"])
def test_a_user_cannot_name_himself_another(fronted: Fronted, name: str) -> None:
    answer = requests.post(
        f"{fronted.urls['ingest']}/upload", data=bundle({"x": b"x"}), headers={name: "alice"}, auth=BOB, timeout=30
    )
    job = answer.json()["job_id"]
    assert fronted.query("SELECT owner FROM job WHERE id = ?", job) == [("bob",)]
    assert finished(fronted, job, BOB)["state"] == "OK"
    url = f"{fronted.urls['ingest']}/get_state?job_id={job}"
    assert requests.get(url, auth=ALICE, timeout=30).status_code == 404


def test_nothing_of_the_clients_credentials_or_proxies_goes_further(fronted: Fronted) -> None:
    said = {"X-Forwarded-For": "10.0.0.1", "Forwarded": "for=10.0.0.1"}
    answer = requests.get(f"{fronted.urls['ingest']}/get_state?job_id=1", headers=said, auth=ALICE, timeout=30)
    assert answer.status_code in (200, 404)
    assert "emerg" not in fronted.errors()
    assert "a client request body is buffered" not in fronted.errors()
    assert "an upstream response is buffered" not in fronted.errors()


# ---- requests that two readers read differently --------------------------------------------------------------------

SMUGGLED = bundle({"x": b"smuggled"})
HIDDEN = (
    b"POST /upload HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Http-Authed-User: mallory\r\n"
    b"Content-Length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED
)
CHUNK = b"5\r\nalpha\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        (["Content-Length: 5", "Transfer-Encoding: chunked"], True),
        (["Transfer-Encoding: chunked", f"Content-Length: {len(CHUNK)}"], True),
        (["Content-Length: 5", f"Content-Length: {len(CHUNK) + len(HIDDEN)}"], True),
        (["Content-Length: 5", "Content-Length: 5"], True),
        (["Content-Length: 5, 5"], True),
        (["Content-Length: +5"], True),
        (["Content-Length: 0x5"], True),
        (["Content-Length : 5"], True),
        (["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"], True),
        (["Transfer-Encoding: chunked", "Transfer-Encoding: identity"], True),
        (["Transfer-Encoding: xchunked"], True),
        (["Transfer-Encoding: identity, chunked"], True),
        (["Transfer-Encoding : chunked"], True),
        (["Transfer-Encoding:\x0bchunked"], True),
        (["Transfer_Encoding: chunked", "Content-Length: 5"], False),
        (["Content_Length: 100000", "Content-Length: 5"], False),
        (["X: x\nTransfer-Encoding: chunked", "Content-Length: 5"], False),
        (["X: x\rTransfer-Encoding: chunked", "Content-Length: 5"], False),
        (["Transfer-Encoding: chunked"], False),
        (["Content-Length: 5"], False),
    ],
)
def test_no_request_is_smuggled_past_nginx(fronted: Fronted, headers: list[str], refused: bool) -> None:
    for body in (CHUNK + HIDDEN, b"0\r\n\r\n" + HIDDEN, b"5;\nx\r\nalpha\r\n0\r\n\r\n" + HIDDEN):
        told = b""
        with connection(fronted, "ingest") as client, suppress(ConnectionResetError):
            client.sendall(request("POST /upload", *headers) + body)
            while piece := client.recv(100_000):
                told += piece
        statuses = [int(line[9:12]) for line in told.split(b"\r\n") if line.startswith(b"HTTP/1.")]
        assert statuses, headers
        if refused:
            assert statuses[0] in (400, 501), (headers, statuses)
            assert len(statuses) == 1, (headers, statuses)
        assert set(statuses[1:]) <= {400, 401}, (headers, statuses)  # to nginx it was one more request, of nobody
    assert fronted.query("SELECT count(*) FROM job WHERE owner = 'mallory'") == [(0,)]


def test_what_is_hidden_there_would_be_believed_behind_nginx(fronted: Fronted) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(fronted.listen("ingest"))
        client.sendall(HIDDEN)
        assert client.recv(12) == b"HTTP/1.1 200"
    until(lambda: fronted.query("SELECT count(*) FROM job WHERE owner = 'mallory'") == [(1,)], 30, "the job")
    fronted.query("UPDATE job SET owner = 'nobody' WHERE owner = 'mallory' RETURNING id")
