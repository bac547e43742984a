"""What only the scaled deployment can get wrong: forks, pools, brokers that come and go."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from pacifica.tests.system.bundles import bundle
from pacifica.tests.system.scaled import Scaled
from pacifica.tests.system.suite import until


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


def test_plain_uwsgi_gives_each_process_connections_of_its_own(plain: Scaled) -> None:
    job = plain.upload(bundle({"a.txt": b"a"}))["job_id"]
    plain.finished(job)

    def ask(number: int) -> tuple[int, int]:
        answer = requests.get(f"{plain.urls['ingest']}/get_state", {"job_id": job + number % 2}, timeout=30)
        return number % 2, answer.status_code

    def have_both_answered() -> bool:  # one after the other, so that no check of ours notices a shared connection
        ask(0)
        return len(set(re.findall(r"\[pid: (\d+)\|", plain.logged("web-ingest")))) == 2

    until(have_both_answered, 30, "an answer of each process")
    asked = "query LIKE '%FROM job WHERE id = %' AND datname = current_database() AND pid <> pg_backend_pid()"
    assert plain.query(f"SELECT count(*) FROM pg_stat_activity WHERE {asked}") == [(2,)]
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(300))) == {(0, 200), (1, 404)}
    assert "Traceback" not in plain.logged("web-ingest")


def test_what_is_shipped_for_flow_serves(given: tuple[Path, str, str]) -> None:
    scaled = Scaled(*given, services=("flow",))
    try:
        scaled.start()
        answer = requests.get(f"{scaled.urls['flow']}/readyz", timeout=30)
        assert (answer.status_code, answer.json()["status"]) == (200, "ok")
        scaled.stop()
    finally:
        scaled.kill()
