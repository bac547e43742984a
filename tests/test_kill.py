"""Killed with -9 at each step of a job, it ends exactly once in effect, and nothing is left over."""

import json
import socket
from collections.abc import Iterator

import pytest

from pacifica.tests.system.bundles import bundle
from pacifica.tests.system.crash import CONTENTS, Mortal
from pacifica.tests.system.steps import EMBEDDED, calls, matrix
from pacifica.tests.system.suite import until

# With web and worker in one process, also those of their steps that have a name in common.
STEPS = [
    *matrix(EMBEDDED),
    "pacifica.common.state:Work.move after 2",
    "pacifica.ingest.ids:allocate after 2",
    "pacifica.common.state:Work.move after 3",
    "pacifica.common.volume:fsync_directory before 1",
    "pacifica.common.state:Work.move after 4",
]


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mortal]:
    """A suite that dies in each test and lives on in the next, with all that it archived before."""
    suite = Mortal(tmp_path_factory.mktemp("mortal") / "data", calls(STEPS))
    try:
        yield suite.start()
    finally:
        suite.kill()


@pytest.fixture
def alive(mortal: Mortal) -> Mortal:
    return mortal if not mortal.is_dead else mortal.start()


@pytest.mark.parametrize("step", STEPS)
def test_a_job_that_was_killed_at_any_step_ends_once(alive: Mortal, step: str) -> None:
    before = alive.newest_job()
    answered = alive.dies(f"call {step}")
    alive.start()
    alive.settled(before)
    if answered is not None:
        assert alive.state(answered)["state"] == "OK"


def test_a_job_that_kills_every_worker_is_given_up(alive: Mortal) -> None:
    step, before = "call pacifica.ingest.archiving:check after 1", alive.newest_job()
    job = alive.dies(step) or before + 1
    for _ in range(4):
        alive.start(armed=step).died(step)
    alive.start()
    state = alive.finished(job)
    assert (state["state"], state["exception"]) == ("FAILED", "Given up after 5 attempts. [attempts_exhausted]")
    assert alive.files(job) == []
    assert alive.spooled()  # kept for an administrator, who has mended what the workers died of
    shown = json.loads(alive.command("ingest", "retry", "--job-id", job).stdout)
    assert (shown["job_id"], shown["state"], shown["complete"]) == (job, "OK", True)
    until(lambda: not alive.spooled(), 30, "an empty spool")
    assert {f["name"]: alive.content(f["_id"]) for f in alive.files(job)}["a"] == CONTENTS["a"]


def test_killed_while_bodies_arrive_no_part_of_them_stays(alive: Mortal) -> None:
    posted, before = bundle({"x": bytes(3 << 20)}), alive.newest_job()
    host, port = alive.urls["ingest"].removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as long, socket.create_connection((host, int(port))) as short:
        long.sendall(
            b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(posted) + posted[: 2 << 20]
        )
        short.sendall(b"POST /upload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n100\r\n" + posted[:256])
        until(lambda: alive.newest_job() == before + 2, 30, "both jobs")
        alive.kill()
    alive.start()
    alive.settled(before)
    for job in (before + 1, before + 2):
        state = alive.state(job)
        assert (state["state"], state["exception"]) == ("FAILED", "The upload stopped before its end. [client_aborted]")
