"""The built-in server: starting, ending, and what it refuses before an application sees it."""

import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests

from pacifica.common import rest
from pacifica.common.config import Auth, Server
from pacifica.common.server import HttpServer
from pacifica.tests.system.suite import until

ROOT = Path(__file__).parents[2]


class Settings:
    auth = Auth()


class Root:
    exposed = True

    def __init__(self, name: str = "") -> None:
        self.name, self.release = name, threading.Event()
        self.entered = threading.Event()

    def GET(self) -> dict[str, Any]:
        return {"name": self.name, "headers": rest.cherrypy.request.wsgi_environ.get("HTTP_X_A")}

    def POST(self) -> dict[str, str]:
        self.entered.set()
        self.release.wait(20)
        return {"name": "late"}

    def PUT(self) -> Any:
        self.entered.set()
        return (b"x" * (1 << 20) for _ in range(1000))


def serve(root: Root, threads: int = 4) -> HttpServer:
    server = HttpServer(rest.application(root, Settings(), service=root.name), settings=Server(threads=threads))
    server.start()
    return server


@pytest.fixture
def server():
    root = Root("one")
    server = serve(root)
    server.root = root
    yield server
    root.release.set()
    server.stop(1)


def port_of(server: HttpServer) -> int:
    return int(server.url.rpartition(":")[2])


def raw(server: HttpServer, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port_of(server)), timeout=5) as connection:
        connection.sendall(data)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        return answer


# ---- starting and ending -----------------------------------------------------------------------------------------


def test_many_applications_live_in_one_process_each_on_its_port():
    servers = [serve(Root(name)) for name in ("ingest", "cartd", "datasafe", "flow")]
    try:
        assert [requests.get(server.url, timeout=5).json()["name"] for server in servers] == [
            "ingest",
            "cartd",
            "datasafe",
            "flow",
        ]
    finally:
        for server in servers:
            server.stop(1)


def test_a_port_that_is_taken_is_an_error_at_the_start(server):
    second = HttpServer(lambda *_: [], "127.0.0.1", port_of(server))
    with pytest.raises(OSError, match="in use"):
        second.start()


def test_a_stopped_server_takes_no_connection_and_its_port_is_free_again(server):
    port = port_of(server)
    server.stop(1)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)
    again = HttpServer(rest.application(Root(), Settings(), service="again"), "127.0.0.1", port, Server(threads=2))
    again.start()
    again.stop(1)


def test_running_requests_are_finished_before_the_end(server):
    answers = []
    client = threading.Thread(target=lambda: answers.append(requests.post(server.url, timeout=60).json()))
    client.start()
    assert server.root.entered.wait(30)
    ender = threading.Thread(target=server.stop, args=(30,))
    ender.start()
    server.root.release.set()
    client.join(60)
    ender.join(60)
    assert answers == [{"name": "late"}]
    assert not ender.is_alive()


def test_a_download_without_end_is_cut_off_after_the_bound(server):
    with socket.create_connection(("127.0.0.1", port_of(server)), timeout=10) as reader:
        reader.sendall(b"PUT / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert reader.recv(1)
        begun = time.monotonic()
        server.stop(0.5)
        assert time.monotonic() - begun < 20  # nobody reads on, so without the bound it would not return at all
        with pytest.raises((ConnectionError, EOFError)):
            tail = b""
            while piece := reader.recv(1 << 20):
                tail = (tail + piece)[-5:]
            if tail != b"0\r\n\r\n":
                raise EOFError


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_serve_forever_cleanly_and_lets_a_request_finish(number, tmp_path):
    script = tmp_path / "serve.py"
    script.write_text(
        "import logging, time\n"
        "from pacifica.common import rest, server\n"
        "from pacifica.common.config import Auth, Server\n"
        "class Settings: auth = Auth()\n"
        "class Root:\n"
        "    exposed = True\n"
        "    def GET(self):\n"
        "        print('entered', flush=True)\n"
        "        time.sleep(0.5)\n"
        "        return {'message': 'whole'}\n"
        "app = rest.application(Root(), Settings(), service='x')\n"
        "logging.basicConfig(level=logging.INFO)\n"
        "server.serve_forever(app, '127.0.0.1', 0, Server(threads=2))\n"
    )
    environment = {"PYTHONPATH": str(ROOT / ".namespace")}
    log = tmp_path / "log"
    with log.open("wb") as said:
        process = subprocess.Popen([sys.executable, script], env=environment, stdout=subprocess.PIPE, stderr=said)
    try:
        until(lambda: "listening on " in log.read_text(), 60, "the start")
        url = log.read_text().partition("listening on ")[2].split()[0]
        answers = []
        client = threading.Thread(target=lambda: answers.append(requests.get(url, timeout=60).json()))
        client.start()
        assert process.stdout.readline() == b"entered\n"
        process.send_signal(number)
        assert process.wait(60) == 0
        client.join(60)
        assert answers == [{"message": "whole"}]
        assert "Traceback" not in log.read_text()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


# ---- connections and headers -------------------------------------------------------------------------------------


def test_idle_connections_hold_no_threads():
    server = serve(Root("few"), threads=2)
    idle = [socket.create_connection(("127.0.0.1", port_of(server)), timeout=5) for _ in range(20)]
    try:
        assert requests.get(server.url, timeout=5).status_code == 200
    finally:
        for connection in idle:
            connection.close()
        server.stop(1)


@pytest.mark.parametrize(
    "begun",
    [b"G", b"GET / HTTP/1.1\r\nHost: x\r\nX-", b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost"],
    ids=["a letter", "a header", "behind a whole request"],
)
def test_heads_that_do_not_end_hold_no_threads(begun):
    server = serve(Root("few"), threads=2)
    slow = [socket.create_connection(("127.0.0.1", port_of(server)), timeout=5) for _ in range(50)]
    try:
        for connection in slow:
            connection.sendall(begun)
        assert [requests.get(server.url, timeout=5).status_code for _ in range(10)] == [200] * 10
        for connection in slow:
            connection.sendall(b"ET / HTTP/1.1\r\nHost: x\r\n\r\n" if begun == b"G" else b": x\r\n\r\n")
        assert all(connection.recv(65536).startswith(b"HTTP/1.1 200") for connection in slow)
    finally:
        for connection in slow:
            connection.close()
        server.stop(1)


def test_a_head_that_drips_is_408_however_it_is_drawn_out():
    root = Root("few")
    app = rest.application(root, Settings(), service=root.name)
    server = HttpServer(app, settings=Server(threads=2, socket_timeout=1.0))
    server.start()
    try:
        with socket.create_connection(("127.0.0.1", port_of(server)), timeout=0.2) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-A: ")
            answer, end = b"", time.monotonic() + 30
            while not answer:
                assert time.monotonic() < end
                connection.send(b"a")
                with suppress(TimeoutError):
                    answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\nContent-Type: application/json\r\n")
        assert b'"code": "body_too_slow"' in answer
    finally:
        server.stop(1)


def test_a_head_in_pieces_is_read_whole_and_so_is_a_long_one(server):
    with socket.create_connection(("127.0.0.1", port_of(server)), timeout=5) as connection:
        for piece in (b"GET / HT", b"TP/1.1\r\nHost: x\r", b"\nX-A: " + b"a" * 20_000, b"b" * 20_000, b"\r\n\r", b"\n"):
            connection.sendall(piece)
            time.sleep(0.05)  # so that it is a piece of its own on its way
        answer = b""
        while not answer.endswith(b"}"):
            answer += connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 200") and b"a" * 20_000 + b"b" * 20_000 in answer


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nX-A : b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-A: b\r\n c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-A: a\r\nX-A: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-A: a\x00b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-A: a\rb\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\nX-A: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nnonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n",
        b"GET / HTTP/x.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
    ],
)
def test_what_is_not_strict_http_is_400_in_the_shape_of_every_error(server, head):
    answer = raw(server, head)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n")
    assert b'"code": "bad_request"' in answer


def test_a_version_of_http_that_is_not_spoken_is_505_and_no_fault_of_ours(server, caplog):
    with caplog.at_level("INFO"):
        answer = raw(server, b"GET / HTTP/2.0\r\nHost: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 505 HTTP Version Not Supported\r\nContent-Type: application/json\r\n")
    assert b'"code": "unknown_http_version"' in answer
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


def test_headers_without_end_are_413(server):
    answer = raw(
        server, b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: a\r\n" % n for n in range(10_000)) + b"\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_a_name_with_an_underscore_cannot_pass_for_one_with_a_hyphen(server):
    answer = raw(server, b"GET / HTTP/1.1\r\nHost: x\r\nX_A: forged\r\nConnection: close\r\n\r\n")
    assert b'"headers": null' in answer


def test_lists_may_be_given_twice(server):
    twice = b"Accept: a\r\nAccept: b\r\nCookie: a=1\r\nCookie: b=2\r\nVia: x\r\nVia: y\r\n"
    assert raw(server, b"GET / HTTP/1.1\r\nHost: x\r\n" + twice + b"Connection: close\r\n\r\n").startswith(
        b"HTTP/1.1 200 OK"
    )
