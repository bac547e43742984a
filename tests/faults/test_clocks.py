"""Clocks that jump, ahead and back, under load, over a crash, or in a worker alone: no job is lost or done twice."""

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from pacifica.tests.system.bundles import bundle
from pacifica.tests.system.clock import Clock
from pacifica.tests.system.crash import CONTENTS, QUICK, STEADY, Inspected, Mortal
from pacifica.tests.system.scaled import Scaled
from pacifica.tests.system.suite import until

DAY = 86400
STEP = "pacifica.ingest.archiving:check after 1"


def test_jumps_under_load_lose_nothing_and_do_nothing_twice(tmp_path: Path) -> None:
    clock = Clock(tmp_path / "clock")
    suite = Inspected(tmp_path / "data", QUICK | {"PACIFICA_INGEST_IDLE_SECONDS": "30"} | clock.environment)
    jobs: list[int] = []
    ended = threading.Event()

    def load() -> None:
        while not ended.wait(0.02):
            answer = requests.post(f"{suite.urls['ingest']}/upload", data=bundle(CONTENTS), timeout=60)
            if answer.status_code == 200:
                jobs.append(answer.json()["job_id"])
            else:  # the silence that the reaper believes in has come with the jump
                assert answer.status_code in (409, 503), answer.text

    try:
        suite.start()
        clients = [threading.Thread(target=load) for _ in range(2)]
        for client in clients:
            client.start()
        try:
            for seconds in (3 * DAY, -3 * DAY, 3600, -7, 0, -3600):
                seen = len(jobs)
                until(lambda seen=seen: len(jobs) >= seen + 5, 60, "some uploads")  # type: ignore[misc]
                clock.jump(seconds)
                until(lambda s=seconds: abs(told(suite) - time.time() - s) < 60, 30, "the jump")  # type: ignore[misc]
            seen = len(jobs)
            until(lambda: len(jobs) >= seen + 5, 60, "some uploads")
        finally:
            ended.set()
            for client in clients:
                client.join(60)
        for job in jobs:
            assert suite.finished(job, 60)["state"] == "OK"
        suite.settled()
    finally:
        suite.kill()


def told(suite: Inspected) -> float:
    """Upload, and return what the database believed that the time was, in seconds since 1970."""
    job = suite.upload(bundle(CONTENTS))["job_id"]
    return float(suite.query("SELECT created FROM job WHERE id = ?", job)[0][0])


@pytest.mark.parametrize("seconds", [-3 * DAY, 3 * DAY])
def test_a_job_whose_suite_died_before_a_jump_is_done_after_it(tmp_path: Path, seconds: int) -> None:
    clock = Clock(tmp_path / "clock")
    environment = clock.environment | {"PACIFICA_WORKER_LEASE_SECONDS": "2"}
    mortal = Mortal(tmp_path / "data", [STEP.split()[0]], environment)
    try:
        mortal.start()
        before = mortal.newest_job()
        answered = mortal.dies(f"call {STEP}")
        clock.jump(seconds)
        mortal.start()
        assert mortal.finished(answered or before + 1, 60)["state"] == "OK"
        mortal.settled(before)
    finally:
        mortal.kill()


class Skewed(Scaled, Inspected):
    """The scaled deployment; the clock of each worker is another one."""

    clocks: dict[str, Clock]

    def _spawn(self, name: str, command: list[Any], **environment: str) -> Any:
        clock = self.clocks.get(name)
        return super()._spawn(name, command, **environment, **(clock.environment if clock else {}))


@pytest.fixture
def skewed(postgres: Any, rabbitmq: Any, tmp_path: Path) -> Iterator[Skewed]:
    clocks = {name: Clock(tmp_path / name) for name in ("worker-ingest", "web-datasafe")}
    for clock, seconds in zip(clocks.values(), itertools.cycle((-3 * DAY, 3 * DAY)), strict=False):
        clock.jump(seconds)
    services, steady = ("ingest", "datasafe"), QUICK | STEADY
    suite = Skewed(tmp_path / "data", postgres.create_database(), rabbitmq.create_vhost(), steady, services=services)
    suite.clocks = clocks
    try:
        yield suite.start()  # type: ignore[misc]
    finally:
        suite.kill()


def test_hosts_that_disagree_by_days_work_together(skewed: Skewed) -> None:
    jobs = [skewed.upload(bundle(CONTENTS))["job_id"] for _ in range(10)]
    for clock in skewed.clocks.values():
        clock.jump(0)
    jobs += [skewed.upload(bundle(CONTENTS))["job_id"] for _ in range(10)]
    for job in jobs:
        assert skewed.finished(job, 60)["state"] == "OK"
    skewed.settled()
    assert skewed.query("SELECT count(*) FROM job WHERE attempt > 1") == [(0,)]
