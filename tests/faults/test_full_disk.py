"""A disk at its watermark: uploads are refused before their body, reads go on, and room that comes back is used."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from pacifica.tests.system import disks
from pacifica.tests.system.bundles import bundle
from pacifica.tests.system.suite import Suite, until

SIZE, WATERMARK = 96 << 20, 32 << 20


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Suite]:
    """A suite whose whole disk is a small tmpfs."""
    with disks.small(tmp_path / "disk", SIZE) as disk:
        suite = Suite(disk / "data", {"PACIFICA_ARCHIVE_MIN_FREE_BYTES": str(WATERMARK)})
        try:
            yield suite.start()
        finally:
            suite.kill()


def fill(suite: Suite, left: int) -> Path:
    """Leave ``left`` bytes of the disk free; return the file that takes the rest."""
    filler = suite.data / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(suite.data).free - left)
    return filler


def test_at_the_watermark_uploads_are_refused_before_their_body_and_reads_go_on(small: Suite) -> None:
    job = small.finished(small.upload(bundle({"a": b"alpha"}))["job_id"], 60)["job_id"]
    posted, jobs = bundle({"b": bytes(1 << 20)}), small.query("SELECT count(*) FROM job")
    filler = fill(small, WATERMARK - (1 << 20))

    for body in (posted, iter([posted])):
        answer = requests.post(f"{small.urls['ingest']}/upload", data=body, timeout=60)
        assert (answer.status_code, answer.json()["code"]) == (507, "no_space")
        assert int(answer.headers["Retry-After"]) > 0
    assert small.query("SELECT count(*) FROM job") == jobs
    assert small.spooled() == []
    assert [small.content(file["_id"]) for file in small.files(job)] == [b"alpha"]
    assert requests.get(f"{small.urls['ingest']}/readyz", timeout=30).status_code == 503
    assert "507" in small.command("ingest", "disk").stdout
    filler.unlink()
    until(lambda: requests.get(f"{small.urls['ingest']}/readyz", timeout=30).status_code == 200, 30, "readiness")
    assert small.finished(small.upload(posted)["job_id"], 60)["state"] == "OK"


def test_a_body_that_cannot_fit_is_refused_by_its_length(small: Suite) -> None:
    fill(small, WATERMARK + (4 << 20))
    answer = requests.post(f"{small.urls['ingest']}/upload", data=bytes(8 << 20), timeout=60)
    assert (answer.status_code, answer.json()["code"]) == (507, "no_space")
    assert small.finished(small.upload(bundle({"b": bytes(1 << 20)}))["job_id"], 60)["state"] == "OK"
