"""No byte or no inode left, below the archive or below SQLite: refused or kept for later, never half done."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
import requests

from pacifica.tests.system import disks
from pacifica.tests.system.bundles import bundle
from pacifica.tests.system.crash import OPEN, QUICK, Inspected
from pacifica.tests.system.datasets import unzipped, zipped
from pacifica.tests.system.suite import until

SIZE, INODES = 48 << 20, 4000
TUS = {"Tus-Resumable": "1.0.0"}
CONTENTS = {"a": b"alpha", "sub/b": bytes(300_000)}
DATASET = {f"f{number}.dat": b"%d" % number * 1000 for number in range(5)} | {"x.info": b"meta"}
LEFT = [
    *({"inodes": left} for left in (0, 1, 2, 3, 4, 5, 6, 8, 11, 15)),
    *({"size": left << 10} for left in (0, 4, 16, 128, 256, 296, 304, 312, 320, 340, 620)),
]


@pytest.fixture(scope="module", params=["archive", "database"])
def short(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Inspected, Path]]:
    """A suite of which one part is on a small disk of its own, and that disk; no watermark keeps any of it free."""
    folder = tmp_path_factory.mktemp("short")
    with disks.small(folder / "disk", SIZE, INODES) as disk:
        on = {True: disk, False: folder}
        archive = on[request.param == "archive"] / "archive"
        environment = QUICK | {
            "PACIFICA_ARCHIVE_PATH": str(archive),
            "PACIFICA_ARCHIVE_MIN_FREE_BYTES": "0",
            "PACIFICA_AUDIT_PERIOD_DAYS": "0",
        }
        suite = Short(on[request.param == "database"] / "data", archive, environment)
        suite.log = folder / "log"
        try:
            yield suite.start(), disk  # type: ignore[misc]
        finally:
            suite.kill()


class Short(Inspected):
    """A suite whose archive lies apart from its database."""

    def __init__(self, data: Path, archive: Path, environment: dict[str, str]) -> None:
        super().__init__(data, environment)
        self._archive = archive

    @property
    def archive(self) -> Path:
        """The root of the archive volume."""
        return self._archive


@contextmanager
def growing(suite: Inspected) -> Iterator[None]:
    """Let each commit of a block make the database's log longer: beside a reader nothing of it is used again."""
    with closing(sqlite3.connect(suite.data / "pacifica.db", timeout=30, isolation_level=None)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM job").fetchall()
        yield


def is_refusal(answer: requests.Response) -> bool:
    told = answer.json()
    if (answer.status_code, told["code"]) == (507, "no_space"):
        assert int(answer.headers["Retry-After"]) > 0
        assert str(Path("/")) not in told["message"]
        return True
    return False


@pytest.mark.timeout(600)
def test_what_finds_no_room_is_refused_or_waits_and_room_that_comes_back_is_used(short: tuple[Inspected, Path]) -> None:
    suite, disk = short
    posted, outcomes = bundle(CONTENTS), set()
    first = suite.finished(suite.upload(posted)["job_id"], 60)["job_id"]
    ids = [file["_id"] for file in suite.files(first)]
    for left in LEFT:
        before, chunked = suite.newest_job(), len(outcomes) % 2
        loi = requests.post(f"{suite.urls['datasets']}/42.1001/ds/exp/sa/42/cwepr", timeout=60).text
        with growing(suite), disks.filled(disk, **left):
            uploaded = requests.post(
                f"{suite.urls['ingest']}/upload", data=iter([posted]) if chunked else posted, timeout=60
            )
            opened = requests.post(
                f"{suite.urls['ingest']}/files/", headers=TUS | {"Upload-Length": str(40 << 20)}, timeout=60
            )
            put = requests.put(f"{suite.urls['datasets']}/{loi}", data=zipped(DATASET), timeout=60)
            assert [suite.content(id) for id in ids] == list(CONTENTS.values()), left
            assert requests.get(f"{suite.urls['ingest']}/readyz", timeout=60).status_code in (200, 503)
            if "size" in left and left["size"] < 16 << 20 and disk in suite.archive.parents:
                assert is_refusal(opened), (left, opened.text)
        if opened.status_code == 201:
            requests.delete(urljoin(opened.url, opened.headers["Location"]), headers=TUS, timeout=60)
        outcomes.add(("upload", kept(suite, uploaded, before)))
        outcomes.add(("dataset", stored(suite, put, loi)))
    for what in ("upload", "dataset"):
        assert (what, True) in outcomes, outcomes
        assert (what, False) in outcomes, outcomes
    assert suite.finished(suite.upload(posted)["job_id"], 60)["state"] == "OK"
    until(lambda: not suite.spooled(), 60, f"an empty spool instead of {suite.spooled()}")


def kept(suite: Inspected, answer: requests.Response, before: int) -> bool:
    """See that an upload was refused and is nowhere, or that it is archived once there is room; tell which."""
    marks = ", ".join("?" * len(OPEN))
    until(lambda: not suite.query(f"SELECT 1 FROM job WHERE state IN ({marks})", *OPEN), 60, "the end of every job")
    if answer.status_code != 200:
        assert is_refusal(answer), answer.text
        for (job,) in suite.query("SELECT id FROM job WHERE id > ?", before):
            suite.is_absent(job)
        return False
    job = answer.json()["job_id"]
    state = suite.state(job)
    if state["state"] != "OK":
        assert state["exception"].endswith("[no_space]"), state
        suite.is_absent(job)
        suite.command("ingest", "retry", "--job-id", job)
        assert suite.finished(job, 60)["state"] == "OK"
    suite.is_archived(job, CONTENTS)
    return True


def stored(suite: Inspected, answer: requests.Response, loi: Any) -> bool:
    """See that a dataset was refused and is empty, or that it is whole; tell which."""
    url = f"{suite.urls['datasets']}/{loi}"
    if answer.status_code != 200:
        assert is_refusal(answer), answer.text
        assert requests.get(url, timeout=60).status_code == 204
        assert requests.put(url, data=zipped(DATASET), timeout=60).status_code == 200
    assert unzipped(requests.get(url, timeout=60).content) == DATASET
    assert answer.status_code in (200, 507)
    return answer.status_code == 200
