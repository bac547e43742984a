"""A disk that the kernel has made read-only: reads go on, writes get 503, and all is well when it is writable again."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from pacifica.tests.system.bundles import bundle
from pacifica.tests.system.disks import Disk
from pacifica.tests.system.suite import Suite, until, wanted

TUS = {"Tus-Resumable": "1.0.0"}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk for the archive, apart from that of the database."""
    with Disk(tmp_path / "disk.img", tmp_path / "disk", 256 << 20).mounted() as mounted:
        yield mounted


def test_a_read_only_disk_takes_no_writes_and_gives_all_it_has(disk: Disk, tmp_path: Path) -> None:
    suite = Suite(tmp_path / "data", {"PACIFICA_ARCHIVE_PATH": str(disk.folder / "archive")})
    posted = bundle({"x/a": b"alpha"})
    try:
        suite.start()
        job = suite.finished(suite.upload(posted)["job_id"], 60)["job_id"]
        (file,) = suite.files(job)
        uid = suite.fill_cart(wanted([file]))
        disk.remount("ro")

        for body in (posted, iter([posted]), bundle({"large": bytes(3 << 20)})):
            answer = requests.post(f"{suite.urls['ingest']}/upload", data=body, timeout=60)
            assert answer.status_code == 503, answer.text
            assert int(answer.headers["Retry-After"]) > 0
        opened = requests.post(
            f"{suite.urls['ingest']}/files/", headers={**TUS, "Upload-Length": str(len(posted))}, timeout=60
        )
        assert opened.status_code == 503, opened.text
        put = requests.put(f"{suite.urls['archive']}/{file['_id'] + 1000}", data=b"x", timeout=60)
        assert put.status_code == 503, put.text
        ready = requests.get(f"{suite.urls['ingest']}/readyz", timeout=60)
        assert ready.status_code == 503, ready.text
        assert ready.json()["reasons"] == {"volume_has_room": "volume_away"}
        created = requests.post(f"{suite.urls['datasets']}/42.1001/ds/exp/sa/1/cwepr", timeout=60)
        assert created.status_code == 503, created.text
        assert suite.content(file["_id"]) == b"alpha"
        assert suite.state(job)["state"] == "OK"
        assert b"alpha" in requests.get(suite.cart(uid), timeout=60).content

        disk.remount("rw")
        until(lambda: requests.get(f"{suite.urls['ingest']}/readyz", timeout=30).status_code == 200, 30, "readiness")
        assert suite.finished(suite.upload(posted)["job_id"], 60)["state"] == "OK"
        until(lambda: not suite.spooled(), 60, f"an empty spool instead of {suite.spooled()}")
        states = [state for (state,) in suite.query("SELECT state FROM job")]
        assert set(states) <= {"ARCHIVED", "FAILED"}
    finally:
        suite.kill()
