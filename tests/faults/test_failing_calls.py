"""fsync, rename and write fail below the spool, the volume and the database: no answer says more than is on disk."""

import errno
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from pacifica.tests.system.bundles import bundle
from pacifica.tests.system.crash import CONTENTS, OPEN, QUICK, STEADY, Inspected
from pacifica.tests.system.datasets import zipped
from pacifica.tests.system.fiu import Fiu
from pacifica.tests.system.nodes import descendants
from pacifica.tests.system.scaled import Scaled
from pacifica.tests.system.suite import Suite, until

TUS = {"Tus-Resumable": "1.0.0"}
FSYNC, RENAME, WRITE = "posix/io/sync/fsync", "posix/io/dir/rename", "posix/io/rw/pwrite"
SQLITE = "posix/io/sync/fdatasync"  # the database's way; everything else of ours calls fsync
QUIET = {"PACIFICA_AUDIT_PERIOD_DAYS": "0"}


@pytest.fixture(scope="module")
def fiu(tmp_path_factory: pytest.TempPathFactory) -> Fiu:
    return Fiu(tmp_path_factory.mktemp("fiu"))


@pytest.fixture(scope="module")
def suite(fiu: Fiu, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inspected]:
    """A suite whose calls can be made to fail."""
    suite = Inspected(tmp_path_factory.mktemp("failing") / "data", QUICK | STEADY | QUIET | fiu.environment)
    try:
        yield suite.start()  # type: ignore[misc]
    finally:
        suite.kill()


def pids_of(suite: Suite) -> list[int]:
    assert suite.process is not None
    return [suite.process.pid]


def have_ended(suite: Suite) -> None:
    """Wait until no job is under way and the spool keeps only what an administrator may want tried again."""
    marks = ", ".join("?" * len(OPEN))
    until(lambda: not suite.query(f"SELECT 1 FROM job WHERE state IN ({marks})", *OPEN), 60, "the end of every job")
    kept = "SELECT spool FROM job WHERE state = 'FAILED' UNION SELECT spool FROM upload WHERE state = 'OPENED'"

    def strays() -> list[str]:
        known = {name for (name,) in suite.query(kept)}
        return [name for name in suite.spooled() if name[:32] not in known]

    until(lambda: not strays(), 60, f"an empty spool instead of {strays()}")


@pytest.mark.parametrize(
    ("call", "number"), [(FSYNC, errno.EIO), (SQLITE, errno.EIO), (WRITE, errno.ENOSPC), (WRITE, errno.EIO)]
)
def test_what_cannot_be_put_on_disk_is_never_answered_with_success(
    suite: Inspected, fiu: Fiu, call: str, number: int
) -> None:
    job = suite.finished(suite.upload(bundle(CONTENTS))["job_id"])["job_id"]
    (first, *_), before, packs = suite.files(job), suite.newest_job(), suite.packs()
    loi = requests.post(f"{suite.urls['datasets']}/42.1001/ds/exp/sa/42/cwepr", timeout=60).text
    posted = bundle(CONTENTS)
    opened = requests.post(
        f"{suite.urls['ingest']}/files/", headers=TUS | {"Upload-Length": str(len(posted))}, timeout=60
    )
    patch = TUS | {"Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}
    upload, dataset = f"{suite.urls['ingest']}/upload", f"{suite.urls['datasets']}/{loi}"
    requested: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", upload, {"data": posted}),
        ("POST", upload, {"data": bundle({"large": bytes(3 << 20)})}),
        ("POST", upload, {"data": iter([posted])}),
        ("PATCH", f"{upload[: -len('/upload')]}/files/{opened.headers['Location'].rpartition('/')[2]}",
         {"data": posted, "headers": patch}),
        ("PUT", f"{suite.urls['archive']}/{1_000_000 + number}", {"data": b"x" * 5000}),
        ("PUT", dataset, {"data": zipped({"a.dat": b"a", "x.info": b"meta"})}),
    ]  # fmt: skip
    with fiu.failing(pids_of(suite), [call], number):
        for method, url, options in requested:
            answer = requests.request(method, url, timeout=60, **options)
            told = (answer.status_code, answer.json()["code"])
            if method == "PATCH" and number == errno.EIO and call != SQLITE:  # nobody knows what is left of its bytes
                assert told in ((500, "disk_failed"), (503, "database_away")), answer.text
                continue
            assert told in ((503, "volume_away"), (503, "database_away"), (507, "no_space")), (method, url, answer.text)
            assert int(answer.headers["Retry-After"]) > 0
        assert suite.content(first["_id"]) in CONTENTS.values()
        assert suite.state(job)["state"] == "OK"
    assert suite.packs() == packs
    assert requests.get(f"{suite.urls['archive']}/{1_000_000 + number}", timeout=60).status_code == 404
    assert requests.get(dataset, timeout=60).status_code == 204
    have_ended(suite)
    assert not suite.query("SELECT 1 FROM job WHERE id > ? AND state = 'ARCHIVED'", before)
    assert suite.finished(suite.upload(posted)["job_id"])["state"] == "OK"
    assert requests.put(dataset, data=requested[-1][2]["data"], timeout=60).status_code == 200
    have_ended(suite)


def test_what_is_answered_while_calls_fail_now_and_then_is_whole(suite: Inspected, fiu: Fiu) -> None:
    posted, before = bundle(CONTENTS), suite.newest_job()
    answered: list[int] = []
    refused: list[tuple[int, str]] = []

    def upload() -> None:
        for _ in range(40):
            answer = requests.post(f"{suite.urls['ingest']}/upload", data=posted, timeout=60)
            if answer.status_code == 200:
                answered.append(answer.json()["job_id"])
            else:
                refused.append((answer.status_code, answer.json()["code"]))

    clients = [threading.Thread(target=upload) for _ in range(3)]
    with fiu.failing(pids_of(suite), [FSYNC, SQLITE, RENAME, WRITE], errno.EIO, 0.02):
        for client in clients:
            client.start()
        for client in clients:
            client.join(200)
    assert set(refused) <= {(503, "volume_away"), (503, "database_away")}
    assert len(answered) > 10 and len(refused) > 10, (len(answered), len(refused))
    have_ended(suite)
    ended = {job: (state, code) for job, state, code in suite.query("SELECT id, state, code FROM job")}
    for job in [job for job in ended if job > before]:
        if ended[job][0] == "ARCHIVED":
            suite.is_archived(job, CONTENTS)
        else:
            assert ended[job] in (("FAILED", "volume_away"), ("FAILED", "database_away"), ("FAILED", "client_aborted"))
            suite.is_absent(job)
    assert {ended[job] for job in answered} <= {("ARCHIVED", None), ("FAILED", "volume_away")}
    assert not suite.query("SELECT 1 FROM pack WHERE NOT published")


class Undermined(Scaled, Inspected):
    """The scaled deployment; the calls of its workers can be made to fail."""

    fiu: Fiu

    def _spawn(self, name: str, command: list[Any], **environment: str) -> Any:
        more = self.fiu.environment if name == "worker-ingest" else {}
        return super()._spawn(name, command, **environment, **more)


@pytest.fixture(scope="module")
def undermined(
    fiu: Fiu, postgres: Any, rabbitmq: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Undermined]:
    data = tmp_path_factory.mktemp("undermined") / "data"
    suite = Undermined(
        data, postgres.create_database(), rabbitmq.create_vhost(), QUICK | STEADY, services=("ingest", "datasafe")
    )
    suite.fiu = fiu
    try:
        yield suite.start()  # type: ignore[misc]
    finally:
        suite.kill()


@pytest.mark.parametrize(("call", "number"), [(FSYNC, errno.EIO), (RENAME, errno.EIO), (FSYNC, errno.ENOSPC)])
def test_a_worker_that_cannot_put_on_disk_what_it_archives_archives_nothing(
    undermined: Undermined, fiu: Fiu, call: str, number: int
) -> None:
    before = undermined.newest_job()
    failures = "SELECT 1 FROM statechange WHERE kind = 'job' AND \"row\" = ? AND reason LIKE 'Retry%'"
    with fiu.failing(descendants(undermined.workers["ingest"].pid), [call], number):
        jobs = [undermined.upload(bundle(CONTENTS))["job_id"] for _ in range(3)]
        for job in jobs:
            until(lambda job=job: undermined.query(failures, str(job)), 60, "a failure")  # type: ignore[misc]
            assert undermined.files(job) == []
    for job in jobs:
        assert undermined.finished(job, 60)["state"] == "OK"
    undermined.settled(before)
