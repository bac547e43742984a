"""Ingest with external neighbours, which another suite's datasafe plays, behind a proxy that fails as it is told to."""

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from pacifica.tests.system.bundles import bundle
from pacifica.tests.system.suite import Suite, until

pytestmark = pytest.mark.timeout(300)

REFUSAL = b'{"status": "412", "message": "Precondition Failed: Invalid values for project", "traceback": ""}'
FILES = {"a.txt": b"alpha\n", "run/b.bin": bytes(range(256)) * 5000, "run/empty": b"", "run/c.txt": b"gamma"}


class FaultProxy:
    """Passes requests on to ``target``; ``faults`` says what happens to the next ones whose (method, path) match."""

    def __init__(self, target: str) -> None:
        self.target, self.seen, self.faults = target, [], []  # type: ignore[var-annotated]
        self.held = threading.Event()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                proxy.handle(self)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = do_PATCH = handle_any

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def fail(self, method: str, part: str, how: str, times: int = 1) -> None:
        self.faults += [[method, part, how] for _ in range(times)]

    def handle(self, request: Any) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        self.seen.append((request.command, request.path))
        how = None
        for fault in self.faults:
            if fault[0] == request.command and fault[1] in request.path:
                how = fault[2]
                self.faults.remove(fault)
                break
        if how == "hold":
            self.held.set()
            time.sleep(30)
        if how == "reset":
            request.connection.shutdown(socket.SHUT_RDWR)
            return
        if how in ("500", "503"):
            self.answer(request, int(how), b'{"status": "error"}', {"Retry-After": "0"} if how == "503" else {})
            return
        if how == "wrong" and request.command == "PUT":
            body = b"X" + body[1:]
        if how == "refuse":
            self.answer(request, 412, REFUSAL, {})
            return
        headers = {name: request.headers[name] for name in ("Last-Modified", "Content-Type") if name in request.headers}
        found = requests.request(request.command, self.target + request.path, data=body, headers=headers, timeout=30)
        if how == "lost":  # done, but nobody hears of it
            request.connection.shutdown(socket.SHUT_RDWR)
            return
        content = found.content[:-1] if how == "short" else found.content
        if how == "flipped":
            content = b"X" + content[1:]
        kept = {name: value for name, value in found.headers.items() if name.startswith(("X-", "Last-M"))}
        self.answer(request, found.status_code, content, kept, len(found.content))

    def answer(
        self, request: Any, status: int, body: bytes, headers: dict[str, str], length: int | None = None
    ) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Type", "application/json")
        if status != 204:
            request.send_header("Content-Length", str(len(body) if length is None else length))
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body)
        if length is not None and length != len(body):
            request.connection.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    suite = Suite(tmp_path_factory.mktemp("other") / "data")
    try:
        yield suite.start()
    finally:
        suite.stop()


@pytest.fixture(scope="module")
def proxy(other: Suite) -> Iterator[FaultProxy]:
    proxy = FaultProxy(other.urls["datasafe"])
    yield proxy
    proxy.server.shutdown()


@pytest.fixture(scope="module")
def suite(proxy: FaultProxy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    folder = tmp_path_factory.mktemp("external")
    suite = Suite(
        folder / "data",
        {
            "UNIQUEID_URL": f"{proxy.url}/uniqueid",
            "POLICY_INGEST_URL": f"{proxy.url}/policy/ingest",
            "METADATA_INGEST_URL": f"{proxy.url}/metadata/ingest",
            "ARCHIVEINTERFACE_URL": f"{proxy.url}/archive",
            "VOLUME_PATH": str(folder / "volume"),
            "PACIFICA_NEIGHBOURS_RETRY_SECONDS": "0.02",
            "PACIFICA_NEIGHBOURS_TIMEOUT": "5",
            "PACIFICA_NEIGHBOURS_REQUEST_SECONDS": "1",
            "PACIFICA_WORKER_MAX_ATTEMPTS": "3",
        },
    )
    try:
        yield suite.start()
    finally:
        suite.stop()


@pytest.fixture(autouse=True)
def no_faults(proxy: FaultProxy) -> None:
    proxy.faults.clear()
    proxy.seen.clear()
    proxy.held.clear()


def archived(suite: Suite, other: Suite, files: dict[str, bytes] = FILES) -> int:
    """Upload, and hold what the neighbours have against it; return the job."""
    job = int(suite.upload(bundle(files))["job_id"])
    state = suite.finished(job, 60)
    assert (state["state"], state["task"], state["task_percent"]) == ("OK", "ingest metadata", "100.00000"), state
    there, here = other.files(job), suite.files(job)
    assert [file["_id"] for file in there] == [file["_id"] for file in here]
    assert {f"{file['subdir']}/{file['name']}".lstrip("/"): other.content(file["_id"]) for file in there} == files
    spool = Path(suite.environment["VOLUME_PATH"]) / "spool"
    until(lambda: not list(spool.iterdir()), 20, "the spool's emptiness")
    return job


def test_a_bundle_goes_to_external_neighbours_in_pacificas_order(suite: Suite, other: Suite, proxy: FaultProxy):
    archived(suite, other)
    order = [f"{method} {path.split('?')[0].rpartition('/')[0]}" for method, path in proxy.seen]
    put = ["PUT /archive", "GET /archive"] * 2 + ["PUT /archive"] + ["PUT /archive", "GET /archive"]  # one is empty
    assert order == ["GET /uniqueid", "GET /uniqueid", "POST /policy", *put, "PUT /metadata"]
    assert "range=1&mode=upload_job" in proxy.seen[0][1]
    assert f"range={len(FILES)}&mode=file" in proxy.seen[1][1]


@pytest.mark.parametrize(
    ("method", "part", "how"),
    [
        ("GET", "mode=file", "reset"),
        ("POST", "/policy/", "503"),
        ("PUT", "/archive/", "503"),
        ("PUT", "/archive/", "reset"),
        ("PUT", "/archive/", "lost"),
        ("GET", "/archive/", "503"),
        ("GET", "/archive/", "reset"),
        ("PUT", "/metadata/", "503"),
        ("PUT", "/metadata/", "reset"),
        ("PUT", "/metadata/", "lost"),
    ],
)
def test_what_passes_is_waited_for(suite: Suite, other: Suite, proxy: FaultProxy, method: str, part: str, how: str):
    # what the metadata service did is asked for, and so its PUT is not repeated
    proxy.fail(method, part, how, times=1 if (part, how) == ("/metadata/", "lost") else 2)
    archived(suite, other)
    assert not proxy.faults


@pytest.mark.parametrize(("method", "how"), [("PUT", "wrong"), ("GET", "flipped"), ("GET", "short")])
def test_bytes_that_the_archive_does_not_keep_are_sent_again(
    suite: Suite, other: Suite, proxy: FaultProxy, method: str, how: str
):
    proxy.fail(method, "/archive/", how)
    archived(suite, other)


def test_an_archive_that_never_keeps_what_it_is_sent_fails_the_job_and_nothing_stays(
    suite: Suite, other: Suite, proxy: FaultProxy
):
    proxy.fail("PUT", "/archive/", "pass", times=2)
    proxy.fail("PUT", "/archive/", "wrong", times=1000)
    job = suite.upload(bundle(FILES))["job_id"]
    state = suite.finished(job, 60)
    assert (state["state"], state["task"]) == ("FAILED", "ingest files"), state
    ids = {int(path.rpartition("/")[2]) for method, path in proxy.seen if (method, path[:9]) == ("PUT", "/archive/")}
    until(lambda: all(_gone(other, id) for id in ids), 20, "the deletion of what was put")
    assert suite.files(job) == other.files(job) == []


def test_a_policy_that_refuses_fails_the_job_before_anything_is_put(suite: Suite, other: Suite, proxy: FaultProxy):
    proxy.fail("POST", "/policy/", "refuse")
    state = suite.finished(suite.upload(bundle(FILES))["job_id"], 60)
    assert (state["state"], state["task"]) == ("FAILED", "Policy Validation"), state
    assert "Precondition Failed: Invalid values for project" in state["exception"]
    assert not [path for method, path in proxy.seen if method == "PUT"]


def test_a_uniqueid_that_is_away_is_told_before_the_body(suite: Suite, proxy: FaultProxy):
    proxy.fail("GET", "mode=upload_job", "500", times=100)
    answer = requests.post(f"{suite.urls['ingest']}/upload", data=bundle(FILES), timeout=20)
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.json()["code"] == "neighbour_away"


@pytest.mark.parametrize(("method", "part"), [("GET", "/archive/"), ("PUT", "/metadata/")])
def test_a_kill_while_a_neighbour_is_asked_leaves_one_transaction(
    suite: Suite, other: Suite, proxy: FaultProxy, method: str, part: str
):
    proxy.fail(method, part, "hold")
    job = suite.upload(bundle(FILES))["job_id"]
    assert proxy.held.wait(30)
    suite.kill()
    suite.start()
    state = suite.finished(job, 60)
    assert (state["state"], state["task_percent"]) == ("OK", "100.00000"), state
    there = other.files(job)
    assert len(there) == len(FILES) == len({file["_id"] for file in there})
    assert [file["_id"] for file in there] == [file["_id"] for file in suite.files(job)]


def _gone(other: Suite, id: int) -> bool:
    return requests.get(f"{other.urls['archive']}/{id}", timeout=10).status_code == 404
