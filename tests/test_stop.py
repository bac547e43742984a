"""SIGTERM and Ctrl-C end the suite in order and in time; the next start finishes what was begun."""

import hashlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import requests

from pacifica.tests.system.bundles import bundle
from pacifica.tests.system.suite import UP, Suite, until, wanted

PATIENCE = 50.0  # seconds that an orderly end may take while a client keeps it waiting
LARGE = bundle({f"f{n}": hashlib.shake_128(b"%d" % n).digest(8 << 20) for n in range(4)})
HEAD = b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(LARGE)
SHORT = "from pacifica.common.server import HttpServer; HttpServer.stop.__defaults__ = (2.0,); " + UP
BOTH = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


@pytest.fixture
def own_suite(tmp_path: Path) -> Iterator[Suite]:
    """`pacifica up`: how uWSGI and Celery end is theirs to say."""
    suite = Suite(tmp_path / "data")
    try:
        yield suite
    finally:
        if suite.urls:
            suite.kill()


def ended(suite: Suite, number: int = signal.SIGTERM) -> float:
    """End ``suite``, see that it was in order, and return the seconds that it took."""
    started = time.monotonic()
    assert suite.stop(number) == 0
    said = suite.log.read_text(errors="replace")
    assert "Traceback" not in said, said
    return time.monotonic() - started


def connect(suite: Suite, service: str) -> socket.socket:
    host, port = suite.urls[service].removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=60)


@BOTH
def test_an_idle_suite_ends_at_once(own_suite: Suite, number: int) -> None:
    own_suite.start()
    with requests.Session() as kept:  # a connection that is kept alive keeps nobody waiting
        kept.get(f"{own_suite.urls['ingest']}/get_state?job_id=1", timeout=10)
        assert ended(own_suite, number) < 30
    assert " WARNING " not in own_suite.log.read_text()


@BOTH
def test_an_upload_under_way_is_cut_off_in_time_and_fails(own_suite: Suite, number: int) -> None:
    own_suite.environment["PACIFICA_INGEST_IDLE_SECONDS"] = "5"
    own_suite.start(SHORT)
    with connect(own_suite, "ingest") as connection:
        connection.sendall(HEAD + LARGE[: 3 << 20])
        until(own_suite.spooled, 30, "a spool file")
        assert ended(own_suite, number) < PATIENCE
    own_suite.start()
    state = own_suite.finished(1)
    assert (state["state"], state["exception"].rpartition(" ")[2]) == ("FAILED", "[client_aborted]")
    until(lambda: not own_suite.spooled(), 30, "an empty spool")


def test_an_upload_that_goes_on_may_end(own_suite: Suite) -> None:
    own_suite.start()
    with connect(own_suite, "ingest") as connection:
        connection.sendall(
            b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(LARGE) + LARGE[:9999]
        )
        until(own_suite.spooled, 30, "a spool file")
        assert own_suite.process is not None
        own_suite.process.send_signal(signal.SIGTERM)
        connection.sendall(LARGE[9999:])
        assert connection.recv(12) == b"HTTP/1.1 200"
    assert ended(own_suite) < PATIENCE
    own_suite.start()
    assert own_suite.finished(1)["state"] == "OK"
    assert len(own_suite.files(1)) == 4


def test_a_download_that_nobody_reads_is_cut_off_in_time(own_suite: Suite) -> None:
    own_suite.start(SHORT)
    files = own_suite.files(own_suite.finished(own_suite.upload(LARGE)["job_id"])["job_id"])
    uid = own_suite.fill_cart(wanted(files))
    with connect(own_suite, "cartd") as connection:
        connection.sendall(f"GET /{uid} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert connection.recv(1000)
        assert ended(own_suite) < PATIENCE
    again = requests.get(own_suite.start().cart(uid), timeout=30)
    assert again.status_code == 200


def test_jobs_that_wait_for_a_worker_are_finished_after_the_next_start(own_suite: Suite) -> None:
    own_suite.start()
    jobs = [own_suite.upload(bundle({f"{n}/{i}": b"x" * 99 for i in range(300)}))["job_id"] for n in range(8)]
    assert ended(own_suite) < PATIENCE
    own_suite.start()
    assert {own_suite.finished(job, 60)["state"] for job in jobs} == {"OK"}
    assert [len(own_suite.files(job)) for job in jobs] == [300] * 8


# ---- starts that cannot be -----------------------------------------------------------------------------------------


def told(program: str, *words: object) -> str:
    """Run a program that cannot start, and return the sentence that it says."""
    path = Path(sys.executable).with_name(program)
    done = subprocess.run([path, *map(str, words)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr, done.stderr
    return done.stderr.splitlines()[-1]


def test_a_data_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a folder")
    assert "data" in told("pacifica", "up", "--data", tmp_path / "data", "--ports", "auto")


def test_a_database_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "pacifica.db").write_bytes(b"this is no database" * 1000)
    assert "not a database" in told("pacifica", "up", "--data", tmp_path, "--ports", "auto")


def test_a_busy_port_is_told(tmp_path: Path) -> None:
    config = tmp_path / "config.ini"
    config.write_text(f"[database]\npeewee_url = sqlite:///{tmp_path}/x.db\n[archive]\npath = {tmp_path}/archive\n")
    assert "dbsync" in told("pacifica-ingest", "-c", config)  # it reads the file, and finds no schema
    subprocess.run([Path(sys.executable).with_name("pacifica-ingest-cmd"), "-c", config, "dbsync"], check=True)
    with socket.create_server(("127.0.0.1", 0)) as server:
        said = told("pacifica-ingest", "--config", config, "-a", "127.0.0.1", "-p", server.getsockname()[1])
    assert "in use" in said


def test_a_configuration_that_is_not_there_is_told(tmp_path: Path) -> None:
    assert "nowhere.ini" in told("pacifica-ingest", "-c", tmp_path / "nowhere.ini")
    assert "nowhere.ini" in told("pacifica-cartd-cmd", "-c", tmp_path / "nowhere.ini", "dbchk")


@pytest.mark.parametrize("service", ["ingest", "cartd", "datasafe", "flow"])
def test_a_configuration_that_cannot_be_used_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, service: str
) -> None:
    (tmp_path / "config.ini").write_text("[nonsense]\nx = 1\n")
    monkeypatch.setenv(f"{service.upper()}_CONFIG", str(tmp_path / "config.ini"))
    assert "nonsense" in told(f"pacifica-{service}-cmd", "dbchk")
    assert "nonsense" in told("pacifica", "up", "--data", tmp_path / "data", "--ports", "auto")


MORTAL = """
import os, pathlib
from pacifica.common import embedded
loop = embedded._Consumer.loop
def until_it_is_told(self, obj, connection, *more, **options):
    drain = connection.drain_events
    def drained(**given):
        if pathlib.Path(os.environ["MARK"]).exists():
            raise OSError(22, "no broker does that")
        return drain(**given)
    connection.drain_events = drained
    return loop(self, obj, connection, *more, **options)
embedded._Consumer.loop = until_it_is_told
"""


def test_a_worker_that_dies_by_itself_ends_the_suite_and_the_next_start_does_its_work(
    own_suite: Suite, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    own_suite.environment["MARK"] = str(mark)
    own_suite.start(f"exec({MORTAL!r}); {UP}")
    mark.touch()
    job = 0
    with suppress(requests.ConnectionError):
        job = own_suite.upload(bundle({"x": b"x"}))["job_id"]
    process = own_suite.process
    assert process is not None
    until(lambda: process.poll() is not None, 60, "the end of the suite")
    assert own_suite.stop() == 1
    assert "a worker has died" in own_suite.log.read_text()
    own_suite.start()
    job = job or own_suite.upload(bundle({"x": b"x"}))["job_id"]
    assert own_suite.finished(job, 60)["state"] == "OK"
