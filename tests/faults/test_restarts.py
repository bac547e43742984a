"""The broker or the database goes away under load and comes back: nothing is lost, and clients are told to wait."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from pacifica.tests.system.bundles import bundle
from pacifica.tests.system.load import Load
from pacifica.tests.system.nodes import PostgresNode, RabbitNode
from pacifica.tests.system.scaled import Scaled
from pacifica.tests.system.suite import until

pytestmark = pytest.mark.xdist_group("restarts")


@pytest.fixture(scope="module")
def nodes() -> Iterator[tuple[PostgresNode, RabbitNode]]:
    """Servers that these tests may stop."""
    started = PostgresNode(), RabbitNode()
    try:
        yield started[0].start(), started[1].start()
    finally:
        for node in started:
            node.remove()


@pytest.fixture(scope="module")
def scaled(nodes: tuple[PostgresNode, RabbitNode], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scaled]:
    """A deployment on them, which is never restarted itself."""
    postgres, rabbit = nodes
    data = tmp_path_factory.mktemp("restarts") / "data"
    idle = {"PACIFICA_INGEST_IDLE_SECONDS": "15"}  # a job whose request met the end of the database is reaped then
    suite = Scaled(data, postgres.create_database(), rabbit.create_vhost(), idle)
    try:
        yield suite.start()
    finally:
        suite.kill()


class Uploaders(Load):
    """Uploads one after the other from several threads, and what became of them."""

    def __init__(self, suite: Scaled, clients: int = 3) -> None:
        super().__init__(*[self.run] * clients)
        self.suite = suite
        self.posted = bundle({"a": b"a" * 100_000, "b/c": b"c"})
        self.jobs: list[int] = []
        self.refused: list[requests.Response] = []

    def run(self) -> None:
        while not self.ended.is_set():
            answer = requests.post(f"{self.suite.urls['ingest']}/upload", data=self.posted, timeout=60)
            if answer.status_code == 200:
                self.jobs.append(answer.json()["job_id"])
            else:
                self.refused.append(answer)
            self.ended.wait(0.05)  # a load, not a flood: what is queued has to be worked off

    def has_come(self, count: int) -> bool:
        return len(self.jobs) >= count


def finish_all(suite: Scaled, jobs: list[int], seconds: float = 60.0) -> None:
    """See each of the jobs, which were answered with 200, archived once."""
    assert len(set(jobs)) == len(jobs)
    states = Counter(suite.finished(job, seconds)["state"] for job in jobs)
    assert states == {"OK": len(jobs)}
    rows = suite.query("SELECT job FROM pack WHERE published GROUP BY job HAVING count(*) > 1")
    assert rows == []


def test_uploads_are_accepted_while_the_broker_is_away_and_finish_when_it_is_back(
    scaled: Scaled, nodes: tuple[PostgresNode, RabbitNode]
) -> None:
    finish_all(scaled, [scaled.upload(bundle({"x": b"before"}))["job_id"]])
    nodes[1].stop()
    jobs = [scaled.upload(bundle({"x": b"%d" % number}))["job_id"] for number in range(20)]
    assert not any(scaled.state(job)["complete"] for job in jobs)
    nodes[1].start()
    finish_all(scaled, jobs)
    until(lambda: not scaled.query("SELECT 1 FROM outbox"), 30, "an empty outbox")


def test_a_broker_that_restarts_under_load_loses_nothing(
    scaled: Scaled, nodes: tuple[PostgresNode, RabbitNode]
) -> None:
    with Uploaders(scaled) as load:
        until(lambda: load.has_come(5), 60, "some uploads")
        nodes[1].kill()
        seen = len(load.jobs)
        until(lambda: load.has_come(seen + 5), 60, "uploads without a broker")
        nodes[1].start()
        seen = len(load.jobs)
        until(lambda: load.has_come(seen + 5), 60, "uploads with the broker back")
    assert load.refused == []
    finish_all(scaled, load.jobs)


@pytest.mark.parametrize("node", [0, 1], ids=["database", "broker"])
def test_a_server_that_stands_still_under_load_costs_nothing_but_time(
    scaled: Scaled, nodes: tuple[PostgresNode, RabbitNode], node: int
) -> None:
    with Uploaders(scaled) as load:
        until(lambda: load.has_come(5), 60, "some uploads")
        nodes[node].freeze()
        try:
            seen = len(load.jobs)
            if node:
                until(lambda: load.has_come(seen + 5), 60, "uploads beside a frozen broker")
            else:
                load.ended.wait(4)  # nobody is answered, so there is nothing to poll for
        finally:
            nodes[node].thaw()
        seen = len(load.jobs)
        until(lambda: load.has_come(seen + 5), 60, "uploads when it goes on")
    assert [answer.text for answer in load.refused if answer.status_code != 503] == []
    assert node == 0 or load.refused == []
    finish_all(scaled, load.jobs)


def test_a_database_that_stands_still_for_good_is_told_to_each_within_half_a_minute(
    scaled: Scaled, nodes: tuple[PostgresNode, RabbitNode]
) -> None:
    before = scaled.upload(bundle({"x": b"before"}))["job_id"]
    finish_all(scaled, [before])
    held = scaled.query("SELECT count(*) FROM pack WHERE published")
    ingest, posted = scaled.urls["ingest"], bundle({"x": os.urandom(100_000)})
    asks: list[Callable[[], requests.Response]] = [
        lambda: requests.post(f"{ingest}/upload", data=posted, timeout=120),
        lambda: requests.get(f"{ingest}/get_state", {"job_id": before}, timeout=120),
        lambda: requests.get(f"{ingest}/readyz", timeout=120),
        lambda: requests.get(f"{scaled.urls['archive']}/1", timeout=120),
    ]

    def asked(number: int) -> tuple[int, float]:
        begun = time.monotonic()
        return asks[number % len(asks)]().status_code, time.monotonic() - begun

    nodes[0].freeze()
    try:
        with ThreadPoolExecutor(16) as pool:
            told = list(pool.map(asked, range(24)))  # more than there are connections, and some when it is known
    finally:
        nodes[0].thaw()
    assert {status for status, _ in told} == {503}
    assert max(seconds for _, seconds in told) < 30, told
    jobs = [until(lambda: _taken(ingest, posted), 60, "an upload when it goes on") for _ in range(3)]
    finish_all(scaled, jobs)
    open_jobs = "SELECT id, state FROM job WHERE state NOT IN ('ARCHIVED', 'FAILED', 'CANCELLED')"
    until(lambda: not scaled.query(open_jobs) and not scaled.spooled(), 90, "the end of every job, and of its bytes")
    assert scaled.query("SELECT count(*) FROM pack WHERE published") == [(held[0][0] + 3,)]


def _taken(ingest: str, posted: bytes) -> int:
    answer = requests.post(f"{ingest}/upload", data=posted, timeout=60)
    return int(answer.json()["job_id"]) if answer.status_code == 200 else 0


def test_every_message_that_was_purged_is_rung_for_again(
    scaled: Scaled, nodes: tuple[PostgresNode, RabbitNode]
) -> None:
    scaled.workers["ingest"].kill()
    scaled.workers["ingest"].wait(30)
    jobs = [scaled.upload(bundle({"x": b"%d" % number}))["job_id"] for number in range(100)]
    queue = "pacifica.ingest"
    with nodes[1].channel(scaled.environment["PACIFICA_CELERY_BROKER_URL"]) as channel:
        until(lambda: channel.queue_declare(queue, passive=True).message_count >= 100, 60, "the messages in the queue")
        assert channel.queue_purge(queue) >= 100
    scaled.restart()
    finish_all(scaled, jobs, 90)


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_database_that_restarts_under_load_costs_a_pause(
    scaled: Scaled, nodes: tuple[PostgresNode, RabbitNode], mode: str
) -> None:
    with Uploaders(scaled) as load:
        until(lambda: load.has_come(5), 60, "some uploads")
        nodes[0].stop(mode)
        until(lambda: len(load.refused) >= 10, 60, "refusals")
        nodes[0].start()
        seen = len(load.jobs)
        until(lambda: load.has_come(seen + 5), 60, "uploads with the database back")
    told = [(answer.status_code, answer.json()["code"], answer.headers.get("Retry-After")) for answer in load.refused]
    assert set(told) == {(503, "database_away", "5")}
    finish_all(scaled, load.jobs)
    open_jobs = "SELECT id, state FROM job WHERE state NOT IN ('ARCHIVED', 'FAILED', 'CANCELLED')"
    until(lambda: not scaled.query(open_jobs), 90, "the end of every job")
    until(lambda: not scaled.spooled(), 90, f"an empty spool instead of {scaled.spooled()}")
    until(lambda: not scaled.query("SELECT 1 FROM unentered"), 90, "the catalogue's index")
    for kind, held in (("transaction", '"transaction"'), ("pack", "pack WHERE published")):
        entered = scaled.query("SELECT subject FROM entry WHERE kind = ? ORDER BY subject", kind)
        assert entered == scaled.query(f"SELECT id FROM {held} ORDER BY id"), kind


def test_without_a_database_a_body_is_refused_before_it_is_sent(
    scaled: Scaled, nodes: tuple[PostgresNode, RabbitNode], tmp_path: Path
) -> None:
    nodes[0].stop("fast")
    try:
        sent = 0

        def body() -> Iterator[bytes]:
            nonlocal sent
            for _ in range(64):
                sent += 1 << 20
                yield bytes(1 << 20)

        try:
            answer = requests.post(f"{scaled.urls['ingest']}/upload", data=body(), timeout=60)
            assert (answer.status_code, answer.json()["code"]) == (503, "database_away")
        except requests.ConnectionError:
            assert sent < 64 << 20
        ready = requests.get(f"{scaled.urls['ingest']}/readyz", timeout=60)
        assert (ready.status_code, ready.headers["Retry-After"]) == (503, "5")
        assert requests.get(f"{scaled.urls['ingest']}/healthz", timeout=60).status_code == 200
    finally:
        nodes[0].start()
    until(lambda: requests.get(f"{scaled.urls['ingest']}/readyz", timeout=60).status_code == 200, 60, "readiness")
    finish_all(scaled, [scaled.upload(bundle({"x": b"after"}))["job_id"]])
