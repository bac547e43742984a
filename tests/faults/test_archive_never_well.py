"""An external archive that never gets well, each in its way: the job fails in the end, and nothing of it stays."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from pacifica.tests.system.bundles import bundle
from pacifica.tests.system.faulty import FaultProxy, external
from pacifica.tests.system.suite import Suite, until

FILES = {"a.txt": b"alpha\n", "run/b.bin": bytes(range(256)) * 400, "run/c.txt": b"gamma"}
WAYS = [
    *(("PUT", how) for how in ("500", "503", "reset", "lost", "stall", "drip", "drip body", "wrong", "cut")),
    *(("GET", how) for how in ("500", "reset", "stall", "drip", "drip body", "short", "flipped")),
]


@pytest.fixture(scope="module")
def suite(proxy: FaultProxy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    folder = tmp_path_factory.mktemp("unwell")
    brief = {
        "PACIFICA_NEIGHBOURS_TIMEOUT": "2",
        "PACIFICA_NEIGHBOURS_ANSWER_SECONDS": "3",
        "PACIFICA_NEIGHBOURS_MIN_RATE": "10 MiB",
        "PACIFICA_NEIGHBOURS_TRIES": "1",
        "PACIFICA_WORKER_MAX_ATTEMPTS": "2",
        "PACIFICA_INGEST_KEEP_SENT_HOURS": "0",
    }
    suite = Suite(folder / "data", external(proxy.url, Path(folder / "volume")) | brief)
    try:
        yield suite.start()
    finally:
        suite.stop()


@pytest.mark.parametrize(("method", "how"), WAYS)
def test_an_archive_that_never_gets_well_fails_the_job_and_nothing_stays(
    suite: Suite, other: Suite, proxy: FaultProxy, method: str, how: str
) -> None:
    proxy.heal()
    proxy.fail(method, "/archive/", how, times=1000)
    job = suite.upload(bundle(FILES))["job_id"]
    state = suite.finished(job, 90)
    assert (state["state"], state["task"]) == ("FAILED", "ingest files"), state
    assert "[archive_unavailable]" in state["exception"]
    ids = set(proxy.put())
    assert ids
    until(lambda: all(gone(other, id) for id in ids), 30, "the deletion of what was put")
    assert suite.files(job) == other.files(job) == []
    assert not suite.query("SELECT 1 FROM pack WHERE job = ? AND published", job)


def gone(other: Suite, id: int) -> bool:
    return requests.get(f"{other.urls['archive']}/{id}", timeout=10).status_code == 404
