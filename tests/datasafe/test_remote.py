"""Datasets over HTTP when the connection is bad, and when the server is: resumed, looked up, never half done."""

import fcntl
import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from pacifica.common.errors import ServiceError
from pacifica.datasafe import exchange, manifest
from pacifica.datasafe.remote import HttpClient
from pacifica.tests.system.datasets import manifest_of
from pacifica.tests.system.faulty import FaultProxy
from pacifica.tests.system.suite import Suite

SERIES = "42.1001/ds/exp/sa/42/cwepr"
LOI = f"{SERIES}/1"
FILES = {"a.dat": bytes(range(256)) * 10_000, "sub/b.dat": b"more", "x.info": b"meta"}


class Proxy(FaultProxy):
    """Passes on what datasets need."""

    ASKED = ("Content-Type", "Range", "If-Range", "Accept", "Idempotency-Key")
    TOLD = ("X-", "ETag", "Etag", "Content-Range", "Warning")


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    suite = Suite(tmp_path_factory.mktemp("remote") / "data")
    try:
        yield suite.start()
    finally:
        suite.kill()


@pytest.fixture(scope="module")
def proxy(suite: Suite) -> Proxy:
    return Proxy(suite.urls["datasafe"])


@pytest.fixture
def client(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpClient]:
    proxy.heal()
    monkeypatch.setattr(exchange.time, "sleep", lambda seconds: None)  # waits are the clock's
    with HttpClient(proxy.url) as client:
        yield client


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        (tmp_path / "measured" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "measured" / name).write_bytes(content)
    return tmp_path / "measured"


def failed(call: Callable[[], object]) -> str:
    with pytest.raises(ServiceError) as caught:
        call()
    return caught.value.code


def asked(proxy: Proxy, method: str) -> int:
    return sum(found == method for found, _ in proxy.seen)


# ---- a bad connection ----------------------------------------------------------------------------------------------


def test_a_download_goes_on_where_it_broke_off(client: HttpClient, proxy: Proxy, folder: Path, tmp_path: Path) -> None:
    loi = client.create(SERIES)
    client.upload(loi, folder)
    for how in ("half", "reset", "503", "half"):
        proxy.fail("GET", "?version=1", how)
    proxy.faults.insert(0, ["GET", "?version=1", ""])  # the first one asks for the length alone
    client.download(loi, tmp_path / "back")
    assert (tmp_path / "back" / "a.dat").read_bytes() == FILES["a.dat"]
    assert proxy.faults == [] and list(tmp_path.glob(".*")) == []


def half_fetched(client: HttpClient, proxy: Proxy, folder: Path, tmp_path: Path) -> tuple[str, Path]:
    """Upload ``folder``, fetch half of it before the server is away, and return (LOI, the bytes that wait)."""
    loi = client.create(SERIES)
    client.upload(loi, folder)
    proxy.faults = [["GET", "?version=1", ""], ["GET", "?version=1", "half"]]
    proxy.fail("GET", "?version=1", "reset", exchange.TRIES**2)
    assert failed(lambda: client.download(loi, tmp_path / "back")) == "neighbour_away"
    (waiting,) = tmp_path.glob(".back.*.partial")
    return loi, waiting


def test_the_next_call_goes_on_where_the_last_one_was_killed(
    client: HttpClient, proxy: Proxy, folder: Path, tmp_path: Path
) -> None:
    loi, waiting = half_fetched(client, proxy, folder, tmp_path)
    had = waiting.stat().st_size
    assert had > 1_000_000 and not (tmp_path / "back").exists() and not list(tmp_path.glob(".back.*.part"))
    with waiting.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        proxy.heal()
        assert failed(lambda: client.download(loi, tmp_path / "back")) == "conflict"
    (tmp_path / ".back.0123456789abcdef.partial").write_bytes(b"of another version")
    client.download(loi, tmp_path / "back")
    assert (tmp_path / "back" / "a.dat").read_bytes() == FILES["a.dat"] and list(tmp_path.glob(".*")) == []


def test_bytes_that_waited_and_rotted_are_noticed_and_fetched_again(
    client: HttpClient, proxy: Proxy, folder: Path, tmp_path: Path
) -> None:
    loi, waiting = half_fetched(client, proxy, folder, tmp_path)
    content = bytearray(waiting.read_bytes())
    content[500_000] ^= 1
    waiting.write_bytes(content)
    proxy.heal()
    assert failed(lambda: client.download(loi, tmp_path / "back")) == "damaged"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["measured"]
    client.download(loi, tmp_path / "back")


def test_an_upload_whose_answer_was_lost_is_not_sent_again(client: HttpClient, proxy: Proxy, folder: Path) -> None:
    loi = client.create(SERIES)
    proxy.fail("PUT", loi, "lost")
    assert client.upload(loi, folder).version == 1
    proxy.fail("PATCH", loi, "lost")
    assert client.update(loi, folder, message="again").version == 2
    assert (asked(proxy, "PUT"), asked(proxy, "PATCH"), len(client.versions(loi))) == (1, 1, 2)


def test_an_upload_that_did_not_arrive_is_sent_again(client: HttpClient, proxy: Proxy, folder: Path) -> None:
    loi = client.create(SERIES)
    for how in ("reset", "503"):
        proxy.fail("PUT", loi, how)
    assert client.upload(loi, folder).version == 1
    assert (asked(proxy, "PUT"), len(client.versions(loi))) == (3, 1)
    proxy.fail("PATCH", loi, "reset", exchange.TRIES)
    assert failed(lambda: client.update(loi, folder)) == "neighbour_away"
    assert len(client.versions(loi)) == 1


def test_a_number_whose_answer_was_lost_is_given_once(client: HttpClient, proxy: Proxy) -> None:
    before = client.create(SERIES)
    proxy.fail("POST", SERIES, "lost", 2)
    given = client.create(SERIES)
    assert asked(proxy, "POST") == 4
    assert [int(loi.rpartition("/")[2]) for loi in (given, client.create(SERIES))] == [
        int(before.rpartition("/")[2]) + more for more in (1, 2)
    ]


def test_single_files_of_a_bag_go_on_too(client: HttpClient, proxy: Proxy, folder: Path, tmp_path: Path) -> None:
    loi = client.create(SERIES)
    client.upload(loi, folder)
    proxy.fail("GET", "file=a.dat", "half", 3)
    proxy.fail("GET", "file=a.dat", "reset")
    client.export(loi, tmp_path / "bag")
    assert (tmp_path / "bag" / "data" / "a.dat").read_bytes() == FILES["a.dat"]
    proxy.fail("GET", "file=sub", "flipped")
    assert failed(lambda: client.export(loi, tmp_path / "other")) == "checksum_mismatch"
    proxy.fail("GET", "file=sub", "flipped")
    assert [(one.kind, one.file) for one in client.verify(loi).findings] == [("changed", "sub/b.dat")]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bag", "measured"]


def test_a_file_that_changes_while_it_is_sent_is_refused(
    client: HttpClient, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loi = client.create(SERIES)
    newest = client._newest

    def meanwhile(name: Any) -> int:  # between the sums and the sending
        (folder / "sub" / "b.dat").write_bytes(b"less")
        return newest(name)

    monkeypatch.setattr(client, "_newest", meanwhile)
    assert failed(lambda: client.upload(loi, folder)) == "dataset_refused"
    (folder / "sub" / "b.dat").write_bytes(b"more")
    monkeypatch.setattr(client, "_newest", lambda name: (folder / "sub" / "b.dat").write_bytes(b"") or newest(name))
    assert failed(lambda: client.upload(loi, folder)) == "file_changed"
    assert client.versions(loi) == []


# ---- a hostile server ----------------------------------------------------------------------------------------------


class Hostile:
    """A server that answers as it likes: files by name as it lists them, and the zip as it sends it."""

    def __init__(self) -> None:
        self.listed: Any = None
        self.zip = b""
        self.status, self.body, self.headers = 0, b"", {}  # type: ignore[var-annotated]
        hostile = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
                status, headers, body = hostile.answer(query, self.headers.get("Range"))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, query: dict[str, list[str]], asked: str | None) -> tuple[int, dict[str, str], bytes]:
        if self.status:
            return self.status, self.headers, self.body
        if "versions" in query:
            return (
                200,
                {},
                json.dumps({"versions": [{"version": 1, "created": "", "author": "", "message": ""}]}).encode(),
            )
        if "files" in query:
            return 200, {}, json.dumps(self.listed).encode()
        start, _, last = (asked or "bytes=0-").removeprefix("bytes=").partition("-")
        body = self.zip[int(start) : int(last) + 1 if last else None]
        return 206, {"ETag": '"x"', "Content-Range": f"bytes {start}-{last}/{len(self.zip)}"}, body

    def holds(
        self, files: dict[str, bytes], archive: dict[str, bytes] | None = None, told: dict[str, int] | None = None
    ) -> None:
        """List ``files`` and send ``archive``, with ``told`` sizes in the list."""
        everything = {manifest.NAME: manifest_of(files)} | files
        self.listed = {"version": 1, "loi": LOI, "files": [
            {"name": name, "size": (told or {}).get(name, len(content)), "sha512": hashlib.sha512(content).hexdigest(),
             "md5": hashlib.md5(content).hexdigest()} for name, content in everything.items()
        ]}  # fmt: skip
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as out:
            for name, content in ({manifest.NAME: manifest_of(files)} | files if archive is None else archive).items():
                out.writestr(name, content)
        self.zip = buffer.getvalue()


@pytest.fixture
def hostile() -> Iterator[Hostile]:
    server = Hostile()
    yield server
    server.server.shutdown()
    server.server.server_close()


GOOD = {"a.dat": b"data", "x.info": b"meta"}
WHOLE = GOOD | {manifest.NAME: manifest_of(GOOD)}


@pytest.mark.parametrize(
    "name", ["../x.dat", "/etc/x.dat", "a/../../x", "a\\..\\x", "C:/x", "A.dat", "a.dat/b", "n\nx"]
)
def test_names_that_lead_elsewhere_are_refused_whoever_tells_them(
    hostile: Hostile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(exchange.time, "sleep", lambda seconds: None)
    evil = GOOD | {name: b"owned"}
    for files, archive in (
        (evil, None),
        (GOOD, evil | {manifest.NAME: manifest_of(evil)}),
        (GOOD, WHOLE | {name: b"o"}),
    ):
        hostile.holds(files, archive)
        with HttpClient(hostile.url) as client:
            for call in (client.download, client.export) if files is evil else (client.download,):
                assert failed(lambda call=call: call(LOI, tmp_path / "in" / "back")) in ("bad_answer", "damaged")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert not (tmp_path / "in" / "back").exists()


def test_what_is_not_what_was_promised_is_never_written(
    hostile: Hostile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange.time, "sleep", lambda seconds: None)
    other = GOOD | {"a.dat": b"date"}
    with HttpClient(hostile.url) as client:
        for archive, told in (
            (other | {manifest.NAME: manifest_of(other)}, {}),  # sound in itself, and another dataset
            (GOOD, {}), ({}, {}), (WHOLE, {"a.dat": 3}),
            (GOOD | {"a.dat": bytes(100 << 20), manifest.NAME: manifest_of(GOOD)}, {}),  # a bomb
        ):  # fmt: skip
            hostile.holds(GOOD, archive, told)
            assert failed(lambda: client.download(LOI, tmp_path / "back")) == "damaged"
        hostile.zip = b"no zip at all"
        assert failed(lambda: client.download(LOI, tmp_path / "back")) == "damaged"
        for listed in (
            [],
            {"version": 1},
            {"version": "x", "files": []},
            {"version": 1, "files": [{"name": 1}]},
            "text",
        ):
            hostile.listed = listed
            assert failed(lambda: client.download(LOI, tmp_path / "back")) == "bad_answer"
        hostile.holds(GOOD, WHOLE, {"a.dat": 1 << 60})
        assert failed(lambda: client.download(LOI, tmp_path / "back")) == "no_space"
    assert list(tmp_path.iterdir()) == []


def test_credentials_follow_no_redirection_and_answers_end(hostile: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange.time, "sleep", lambda seconds: None)
    hostile.status, hostile.headers = 302, {"Location": "http://127.0.0.1:1/"}
    with HttpClient(hostile.url, token="secret") as client:
        with pytest.raises(ServiceError, match="sends elsewhere") as caught:
            client.create(SERIES)
        assert "secret" not in str(caught.value)
        hostile.status, hostile.body = 201, b"42.1001/ds/../../etc"
        assert failed(lambda: client.create(SERIES)) == "bad_answer"
        hostile.status, hostile.body = 200, json.dumps({"datasets": [], "next": 1}).encode()
        assert failed(lambda: list(client.ls())) == "bad_answer"
        hostile.body = b"[" * 100_000
        assert failed(lambda: list(client.ls())) == "bad_answer"
    for url in ("file:///etc/passwd", "http://", "http://a/?x=1", "127.0.0.1:8080"):
        assert failed(lambda url=url: HttpClient(url)) == "bad_url"
    assert failed(lambda: HttpClient(hostile.url, token="a\nb")) == "bad_request"
