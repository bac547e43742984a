"""Ingest with external neighbours, which another suite's datasafe plays, behind a proxy that fails as it is told to."""

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
import requests

from pacifica.tests.system.bundles import bundle
from pacifica.tests.system.faulty import FaultProxy, external
from pacifica.tests.system.suite import Suite, until

FILES = {"a.txt": b"alpha\n", "run/b.bin": bytes(range(256)) * 5000, "run/empty": b"", "run/c.txt": b"gamma"}
DONE = ("lost", "drip")  # the service did what it was asked to


@pytest.fixture(scope="module")
def suite(proxy: FaultProxy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    folder = tmp_path_factory.mktemp("external")
    suite = Suite(
        folder / "data",
        external(proxy.url, folder / "volume")
        | {
            "PACIFICA_NEIGHBOURS_TIMEOUT": "2",
            "PACIFICA_NEIGHBOURS_ANSWER_SECONDS": "2.5",
            "PACIFICA_NEIGHBOURS_MIN_RATE": "10 MiB",
            "PACIFICA_NEIGHBOURS_REQUEST_SECONDS": "4",
            "PACIFICA_WORKER_MAX_ATTEMPTS": "3",
        },
    )
    try:
        yield suite.start()
    finally:
        suite.stop()


@pytest.fixture(autouse=True)
def no_faults(proxy: FaultProxy) -> None:
    proxy.heal()


def archived(suite: Suite, other: Suite, files: dict[str, bytes] = FILES, job: int = 0) -> int:
    """Upload, if there is no ``job`` yet, and hold what the neighbours have against it; return the job."""
    job = job or int(suite.upload(bundle(files))["job_id"])
    state = suite.finished(job, 60)
    assert (state["state"], state["task"], state["task_percent"]) == ("OK", "ingest metadata", "100.00000"), state
    there, here = other.files(job), suite.files(job)
    assert [file["_id"] for file in there] == [file["_id"] for file in here]
    assert {f"{file['subdir']}/{file['name']}".lstrip("/"): other.content(file["_id"]) for file in there} == files
    spool = Path(suite.environment["VOLUME_PATH"]) / "spool"
    until(lambda: not list(spool.iterdir()), 20, "the spool's emptiness")
    return job


def test_a_bundle_goes_to_external_neighbours_in_pacificas_order(suite: Suite, other: Suite, proxy: FaultProxy):
    archived(suite, other)
    order = [f"{method} {path.split('?')[0].rpartition('/')[0]}" for method, path in proxy.seen]
    put = ["PUT /archive", "GET /archive"] * 2 + ["PUT /archive"] + ["PUT /archive", "GET /archive"]  # one is empty
    assert order == ["GET /uniqueid", "GET /uniqueid", "POST /policy", *put, "PUT /metadata"]
    assert "range=1&mode=upload_job" in proxy.seen[0][1]
    assert f"range={len(FILES)}&mode=file" in proxy.seen[1][1]


def half_sent(suite: Suite, proxy: FaultProxy) -> tuple[int, set[int], set[int]]:
    """Upload to an archive that keeps two files as they are and no more; return the job, and the ids of both kinds."""
    proxy.fail("PUT", "/archive/", "pass", times=2)
    proxy.fail("PUT", "/archive/", "wrong", times=1000)
    job = suite.upload(bundle(FILES))["job_id"]
    state = suite.finished(job, 60)
    assert (state["state"], state["task"]) == ("FAILED", "ingest files"), state
    ids = sorted(set(proxy.put()))
    assert len(ids) == 3
    return job, set(ids[:2]), set(ids[2:])


@pytest.mark.parametrize(
    ("method", "part", "how"),
    [
        ("GET", "mode=file", "reset"),
        ("POST", "/policy/", "503"),
        ("POST", "/policy/", "drip"),
        ("PUT", "/archive/", "500"),
        ("PUT", "/archive/", "503"),
        ("PUT", "/archive/", "slow"),
        ("PUT", "/archive/", "stall"),
        ("PUT", "/archive/", "drip"),
        ("PUT", "/archive/", "drip body"),
        ("PUT", "/archive/", "reset"),
        ("PUT", "/archive/", "lost"),
        ("GET", "/archive/", "500"),
        ("GET", "/archive/", "503"),
        ("GET", "/archive/", "slow"),
        ("GET", "/archive/", "stall"),
        ("GET", "/archive/", "drip"),
        ("GET", "/archive/", "drip body"),
        ("GET", "/archive/", "reset"),
        ("PUT", "/metadata/", "503"),
        ("PUT", "/metadata/", "reset"),
        ("PUT", "/metadata/", "lost"),
        ("PUT", "/metadata/", "drip"),
    ],
)
def test_what_passes_is_waited_for(suite: Suite, other: Suite, proxy: FaultProxy, method: str, part: str, how: str):
    # what the metadata service did is asked for, and so its PUT is not repeated
    proxy.fail(method, part, how, times=1 if part == "/metadata/" and how in DONE else 2)
    archived(suite, other)
    assert not proxy.faults


@pytest.mark.parametrize(("method", "how"), [("PUT", "wrong"), ("PUT", "cut"), ("GET", "flipped"), ("GET", "short")])
def test_bytes_that_the_archive_does_not_keep_are_sent_again(
    suite: Suite, other: Suite, proxy: FaultProxy, method: str, how: str
):
    proxy.fail(method, "/archive/", how)
    archived(suite, other)


def test_when_a_job_fails_what_is_not_sound_goes_at_once_and_a_retry_of_the_failed_files_spares_the_rest(
    suite: Suite, other: Suite, proxy: FaultProxy
):
    job, good, bad = half_sent(suite, proxy)
    until(lambda: all(_gone(other, id) for id in bad), 20, "the deletion of what was not kept")
    assert not any(_gone(other, id) for id in good)
    assert suite.files(job) == other.files(job) == []
    about = requests.get(f"{suite.urls['ingest']}/jobs/{job}", timeout=20).json()
    assert [fault["file"] for fault in about["faults"]] == ["data/run/empty"]
    assert about["files"] == {"done": 2, "total": 4}
    assert "with --failed, 2 files that the archive was found to keep are not sent again" in about["next"]["what"]
    proxy.heal()
    suite.command("ingest", "job", "retry", "--failed", job)
    archived(suite, other, job=job)
    assert sorted(proxy.put()) == [max(good) + 1, max(good) + 2]


def test_a_retry_of_all_files_sends_every_file_again(suite: Suite, other: Suite, proxy: FaultProxy):
    job, good, _ = half_sent(suite, proxy)
    proxy.heal()
    suite.command("ingest", "job", "retry", job)
    archived(suite, other, job=job)
    assert sorted(proxy.put()) == list(range(min(good), min(good) + len(FILES)))


def test_a_retry_with_another_bundle_withdraws_what_was_sent_of_the_first(
    suite: Suite, other: Suite, proxy: FaultProxy, tmp_path: Path
):
    job, good, _ = half_sent(suite, proxy)
    proxy.heal()
    files = {"another": b"bundle", "of": b"more", "files": b"", "than": b"it", "had": b"before"}
    (tmp_path / "bundle.tar").write_bytes(bundle(files))
    suite.command("ingest", "retry", "--failed", "--job-id", job, "--path", tmp_path / "bundle.tar")
    archived(suite, other, files, job)
    assert all(_gone(other, id) for id in good)
    assert not good & {file["_id"] for file in suite.files(job)}


def test_what_a_failed_job_has_at_the_archive_goes_in_the_end(suite: Suite, other: Suite, proxy: FaultProxy):
    job, good, _ = half_sent(suite, proxy)
    proxy.heal()
    suite.stop()
    suite.environment["PACIFICA_INGEST_KEEP_SENT_HOURS"] = "0"
    suite.start()
    until(lambda: all(_gone(other, id) for id in good), 20, "the deletion of what was put")
    suite.stop()
    del suite.environment["PACIFICA_INGEST_KEEP_SENT_HOURS"]
    suite.start()
    proxy.seen.clear()
    suite.command("ingest", "job", "retry", "--failed", job)
    archived(suite, other, job=job)
    assert len(proxy.put()) == len(FILES)


def test_what_a_cancelled_job_has_at_the_archive_goes_at_once(suite: Suite, other: Suite, proxy: FaultProxy):
    proxy.fail("PUT", "/archive/", "pass", times=2)
    proxy.fail("PUT", "/archive/", "hold", times=1)
    job = suite.upload(bundle(FILES))["job_id"]
    assert proxy.held.wait(30)
    asked = requests.delete(f"{suite.urls['ingest']}/jobs/{job}", timeout=20)
    assert (asked.status_code, asked.json()["state"]) == (202, "ARCHIVING")
    assert suite.finished(job, 60)["exception"] == "Cancelled by root."
    until(lambda: all(_gone(other, id) for id in proxy.put()), 20, "the deletion of what was put")
    assert suite.files(job) == other.files(job) == []


def test_a_policy_that_refuses_fails_the_job_before_anything_is_put(suite: Suite, other: Suite, proxy: FaultProxy):
    proxy.fail("POST", "/policy/", "refuse")
    state = suite.finished(suite.upload(bundle(FILES))["job_id"], 60)
    assert (state["state"], state["task"]) == ("FAILED", "Policy Validation"), state
    assert "Precondition Failed: Invalid values for project" in state["exception"]
    assert not [path for method, path in proxy.seen if method == "PUT"]


def test_a_uniqueid_that_is_away_is_told_before_the_body(suite: Suite, proxy: FaultProxy):
    proxy.fail("GET", "mode=upload_job", "500", times=100)
    answer = requests.post(f"{suite.urls['ingest']}/upload", data=bundle(FILES), timeout=20)
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.json()["code"] == "neighbour_away"


def test_while_uniqueid_is_asked_others_write_to_the_database(suite: Suite, proxy: FaultProxy):
    proxy.fail("GET", "mode=upload_job", "hold")
    with ThreadPoolExecutor(1) as pool:
        posted = pool.submit(requests.post, f"{suite.urls['ingest']}/upload", data=bundle(FILES), timeout=20)
        assert proxy.held.wait(30)
        with closing(sqlite3.connect(suite.data / "pacifica.db", timeout=2, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")  # OperationalError where the request has its transaction open
            connection.execute("ROLLBACK")
        assert not posted.done()
        proxy.heal()
        assert posted.result().status_code in (200, 503)


@pytest.mark.parametrize(("method", "part"), [("GET", "/archive/"), ("PUT", "/metadata/")])
def test_a_kill_while_a_neighbour_is_asked_leaves_one_transaction(
    suite: Suite, other: Suite, proxy: FaultProxy, method: str, part: str
):
    proxy.fail(method, part, "hold")
    job = suite.upload(bundle(FILES))["job_id"]
    assert proxy.held.wait(30)
    suite.kill()
    suite.start()
    state = suite.finished(job, 60)
    assert (state["state"], state["task_percent"]) == ("OK", "100.00000"), state
    there = other.files(job)
    assert len(there) == len(FILES) == len({file["_id"] for file in there})
    assert [file["_id"] for file in there] == [file["_id"] for file in suite.files(job)]


def _gone(other: Suite, id: int) -> bool:
    return requests.get(f"{other.urls['archive']}/{id}", timeout=10).status_code == 404
