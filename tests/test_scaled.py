"""What only the scaled deployment can get wrong: forks, pools, brokers that come and go."""

import json
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from pacifica.tests.system.bundles import bundle
from pacifica.tests.system.scaled import Scaled
from pacifica.tests.system.suite import until

UWSGIS_OWN_PATIENCE = 4  # seconds: its socket-timeout where nobody says otherwise


@pytest.fixture
def given(postgres: Any, rabbitmq: Any, tmp_path: Path) -> Iterator[tuple[Path, str, str]]:
    """A data folder, an empty database and a broker for a deployment."""
    url = postgres.create_database()
    yield tmp_path / "data", url, rabbitmq.create_vhost()
    postgres.drop_database(url)


@pytest.fixture
def plain(given: tuple[Path, str, str]) -> Iterator[Scaled]:
    """uWSGI without our ini files and with two processes, which it forks off once the application is loaded."""
    scaled = Scaled(*given, {"UWSGI_PROCESSES": "2"}, plain=True)
    try:
        yield scaled.start()
    finally:
        scaled.kill()


@pytest.fixture(scope="module")
def lone(postgres: Any, rabbitmq: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scaled]:
    """uWSGI by the very line that Pacifica documents: one process, one thread, its own timeouts."""
    data = tmp_path_factory.mktemp("lone") / "data"
    services = ("ingest", "datasafe")
    scaled = Scaled(data, postgres.create_database(), rabbitmq.create_vhost(), services=services, plain=True)
    try:
        yield scaled.start()
    finally:
        scaled.kill()


def test_plain_uwsgi_gives_each_process_connections_of_its_own(plain: Scaled) -> None:
    job = plain.upload(bundle({"a.txt": b"a"}))["job_id"]
    plain.finished(job)

    def ask(number: int) -> tuple[int, int]:
        answer = requests.get(f"{plain.urls['ingest']}/get_state", {"job_id": job + number % 2}, timeout=30)
        return number % 2, answer.status_code

    def have_both_answered() -> bool:  # one after the other, so that no check of ours notices a shared connection
        ask(0)
        return len(set(re.findall(r"\[pid: (\d+)\|.*GET /get_state", plain.logged("web-ingest")))) == 2

    until(have_both_answered, 30, "an answer of each process")
    asked = "query LIKE '%FROM job WHERE id = %' AND datname = current_database() AND pid <> pg_backend_pid()"
    assert plain.query(f"SELECT count(*) FROM pg_stat_activity WHERE {asked}") == [(2,)]
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(300))) == {(0, 200), (1, 404)}
    assert "Traceback" not in plain.logged("web-ingest")


@pytest.mark.parametrize("how", ["length", "chunks", "expect", "slow"])
def test_plain_uwsgi_reads_bodies_whole_however_they_come(lone: Scaled, tmp_path: Path, how: str) -> None:
    content = bytes(range(256)) * 8000
    posted, url = bundle({"x": content}), f"{lone.urls['ingest']}/upload"
    if how == "slow":
        place = urlsplit(url)
        with socket.create_connection((place.hostname, place.port), timeout=60) as client:
            client.sendall(b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(posted))
            for start in (0, len(posted) // 2):
                time.sleep(UWSGIS_OWN_PATIENCE + 1)  # the silence is what is tested
                client.sendall(posted[start : start + len(posted) // 2])
            client.sendall(posted[len(posted) // 2 * 2 :])
            told = b"".join(iter(lambda: client.recv(100_000), b""))
        job = json.loads(told.partition(b"\r\n\r\n")[2])["job_id"]
    else:
        (tmp_path / "bundle.tar").write_bytes(posted)
        more = {"length": ["-H", "Expect:"], "chunks": ["-H", "Transfer-Encoding: chunked"], "expect": []}[how]
        more += ["-H", "Expect: 100-continue"] if how == "expect" else []
        command = ["curl", "-fsS", "-X", "POST", "-T", str(tmp_path / "bundle.tar"), *more, url]
        job = json.loads(subprocess.run(command, capture_output=True, timeout=60, check=True).stdout)["job_id"]
    assert lone.finished(job, 60)["state"] == "OK"
    (file,) = lone.files(job)
    assert lone.content(file["_id"]) == content


def test_what_is_shipped_for_flow_serves(given: tuple[Path, str, str]) -> None:
    scaled = Scaled(*given, services=("flow",))
    try:
        scaled.start()
        answer = requests.get(f"{scaled.urls['flow']}/readyz", timeout=30)
        assert (answer.status_code, answer.json()["status"]) == (200, "ok")
        scaled.stop()
    finally:
        scaled.kill()
