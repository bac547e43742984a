"""Two web servers of one deployment: what one of them began, the other goes on with, as if it had begun it itself."""

import os
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from pacifica.tests.ingest.test_tus import PIECE, TUS, Client, HalfOpen, size_of
from pacifica.tests.system.bundles import bundle
from pacifica.tests.system.scaled import Scaled
from pacifica.tests.system.suite import until

CONTENT = os.urandom(2_000_000)
POSTED = bundle({"a": CONTENT})


@pytest.fixture(scope="module")
def twins(postgres: Any, rabbitmq: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Scaled, str]]:
    """A deployment, and the URL of its second ingest."""
    data, quick = tmp_path_factory.mktemp("twins") / "data", {"PACIFICA_WORKER_LEASE_SECONDS": "2"}
    suite = Scaled(data, postgres.create_database(), rabbitmq.create_vhost(), quick, services=("ingest", "datasafe"))
    try:
        suite.start()
        yield suite, suite.start_twin("ingest")
    finally:
        suite.kill()


def at(server: str, url: str) -> str:
    """Return ``url`` as ``server`` has it."""
    return server + urlsplit(url).path


def jobs(suite: Scaled) -> int:
    return int(suite.query("SELECT count(*) FROM job")[0][0])


def test_a_newer_request_at_another_server_takes_over_from_a_half_open_one(twins: tuple[Scaled, str]) -> None:
    suite, twin = twins
    client = Client(suite)
    url = client.open(len(POSTED))
    old = HalfOpen(url, 0, len(POSTED))
    old.send(POSTED[: PIECE + 1000])
    until(lambda: size_of(suite, url) >= PIECE, 30, "the first bytes of the old request")
    offset = client.offset(at(twin, url))
    assert PIECE <= offset <= PIECE + 1000
    assert client.patch(at(twin, url), offset, POSTED[offset:1_000_000]).status_code == 204
    old.send(b"\0" * (len(POSTED) - PIECE - 1000))
    assert old.status() == 409
    assert client.offset(url) == 1_000_000
    last = client.patch(at(twin, url), 1_000_000, POSTED[1_000_000:])
    job = last.headers["X-Pacifica-Job-Id"]
    repeated = client.patch(url, 1_000_000, POSTED[1_000_000:])
    assert (repeated.status_code, repeated.headers["X-Pacifica-Job-Id"]) == (409, job)
    assert client.ask("HEAD", url).headers["X-Pacifica-Job-Id"] == job
    assert client.archived(job)["state"] == "OK"
    assert suite.content(suite.files(int(job))[0]["_id"]) == CONTENT


def test_of_requests_to_two_servers_that_finish_an_upload_at_once_one_makes_the_job(twins: tuple[Scaled, str]) -> None:
    suite, twin = twins
    client, before, barrier = Client(suite), jobs(suite), threading.Barrier(4)
    url = client.open(len(POSTED))
    assert client.patch(url, 0, POSTED[:-5000]).status_code == 204
    answers: list[requests.Response] = []

    def finish(server: str) -> None:
        own = Client(suite)
        barrier.wait()
        answers.append(own.patch(at(server, url), len(POSTED) - 5000, POSTED[-5000:]))

    threads = [threading.Thread(target=finish, args=(server,)) for server in (suite.urls["ingest"], twin) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} <= {204, 409}
    assert len({job for answer in answers if (job := answer.headers.get("X-Pacifica-Job-Id"))}) == 1
    assert jobs(suite) == before + 1


def test_a_key_that_is_in_use_at_one_server_is_in_use_at_the_other(twins: tuple[Scaled, str]) -> None:
    suite, twin = twins
    gate, answers, before = threading.Event(), [], jobs(suite)  # type: ignore[var-annotated]

    def slowly() -> Iterator[bytes]:
        yield POSTED[:1000]
        gate.wait(60)
        yield POSTED[1000:]

    def post(server: str, body: Any, key: str) -> requests.Response:
        return requests.post(f"{server}/upload", data=body, headers={"Idempotency-Key": key}, timeout=60)

    thread = threading.Thread(target=lambda: answers.append(post(twin, slowly(), "one")))
    thread.start()
    until(lambda: jobs(suite) > before, 30, "the first request")
    busy = post(suite.urls["ingest"], POSTED, "one")
    gate.set()
    thread.join()
    assert (busy.status_code, busy.json()["code"]) == (409, "key_in_use")
    assert post(suite.urls["ingest"], POSTED, "one").json()["job_id"] == answers[0].json()["job_id"]
    assert jobs(suite) == before + 1


def test_creations_at_two_servers_under_one_key_open_one_upload(twins: tuple[Scaled, str]) -> None:
    suite, twin = twins
    headers = {**TUS, "Upload-Length": "1000", "Idempotency-Key": "two"}
    places = set()
    for server in (twin, suite.urls["ingest"], twin):
        answer = requests.post(f"{server}/files/", headers=headers, timeout=60)
        assert answer.status_code == 201, answer.text
        places.add(answer.headers["Location"])
    assert len(places) == 1
