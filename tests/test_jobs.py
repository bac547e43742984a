"""Jobs to look at, over real HTTP and from the command line; ended at will, whoever is alive."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from pacifica.tests.system.bundles import bundle, entry
from pacifica.tests.system.suite import Suite, until

PROXY = {"PACIFICA_AUTH_MODE": "proxy", "PACIFICA_AUTH_ADMINISTRATORS": "boss"}


def told(suite: Suite, job_id: int, user: str = "root") -> dict[str, Any]:
    answer = requests.get(f"{suite.urls['ingest']}/jobs/{job_id}", headers=as_(user), timeout=30)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def as_(user: str) -> dict[str, str]:
    return {"X-Http-Authed-User": user}


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Suite]:
    """An embedded suite of the test's own, not started yet."""
    suite = Suite(tmp_path / "data")
    try:
        yield suite
    finally:
        if suite.process is not None:
            suite.kill()


class HalfSent:
    """An upload that stands still after its first bytes."""

    def __init__(self, suite: Suite, posted: bytes) -> None:
        url = urlsplit(suite.urls["ingest"])
        before = {id for (id,) in suite.query("SELECT id FROM job")}
        self.socket = socket.create_connection((url.hostname, url.port), timeout=30)
        head = f"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: {len(posted)}\r\n\r\n"
        self.socket.sendall(head.encode() + posted[:1000])
        self.rest = posted[1000:]
        self.job_id = until(lambda: [id for (id,) in suite.query("SELECT id FROM job") if id not in before])[0]

    def answer(self) -> bytes:
        """Send the rest and return what is answered."""
        self.socket.sendall(self.rest)
        with self.socket:
            return self.socket.recv(65536)


# ---- one job -------------------------------------------------------------------------------------------------------


def test_an_archived_job_tells_its_bytes_files_log_and_trace(deployment: Suite) -> None:
    posted = bundle({"a.txt": b"alpha", "b.txt": b"beta"})
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    job = deployment.finished(deployment.upload(posted, headers={"traceparent": parent})["job_id"])["job_id"]
    found = told(deployment, job)
    assert (found["state"], found["complete"], found["kind"], found["transaction"]) == ("ARCHIVED", True, "upload", job)
    assert found["bytes"] == {"done": len(posted), "total": len(posted)}
    assert found["files"] == {"done": 2, "total": 2}
    assert found["first_file_id"] == deployment.files(job)[0]["_id"]
    assert found["rate_bytes_per_second"] > 0
    assert (found["faults"], found["code"], found["exception"]) == ([], None, "")
    assert found["trace"] == "0af7651916cd43dd8448eb211c80319c"
    moves = [(step["from"], step["to"]) for step in found["events"] if step["from"] != step["to"]]
    assert moves == [
        (None, "RECEIVING"), ("RECEIVING", "RECEIVED"), ("RECEIVED", "VERIFIED"), ("VERIFIED", "ARCHIVING"),
        ("ARCHIVING", "ARCHIVED"),
    ]  # fmt: skip
    assert {step["trace"] for step in found["events"]} == {found["trace"]}
    assert found["next"] == {
        "who": "nobody",
        "what": f"Its files are in the archive, as transaction {job}.",
        "at": None,
    }


def test_a_failed_job_gives_the_verdict_on_each_bad_file_and_says_what_to_do(deployment: Suite) -> None:
    files = {"good": b"good", "bad": b"bad", "short": b"short"}
    lies = [entry("good", b"good"), entry("bad", b"other", size=3), entry("short", b"short", size=4)]
    metadata = [*json.loads(_transaction()), *lies]
    job = deployment.finished(deployment.upload(bundle(files, metadata))["job_id"])["job_id"]
    found = told(deployment, job)
    assert (found["state"], found["code"], found["transaction"]) == ("FAILED", "checksum_mismatch", None)
    assert [(fault["file"], fault["code"]) for fault in found["faults"]] == [
        ("data/bad", "checksum_mismatch"), ("data/short", "size_mismatch"),
    ]  # fmt: skip
    assert found["next"]["who"] == "client"
    assert "faults" in found["next"]["what"]


def _transaction() -> str:
    names = {"submitter": 10, "project": "1234a", "instrument": 54}
    return json.dumps([{"destinationTable": f"Transactions.{name}", "value": value} for name, value in names.items()])


@pytest.mark.parametrize("path", ["/jobs/0", "/jobs/999999999", "/jobs/x", "/jobs/-1", "/jobs/1/2", "/jobs/%20"])
def test_a_job_that_is_not_there_is_not_found(deployment: Suite, path: str) -> None:
    for method in ("GET", "DELETE"):
        assert requests.request(method, deployment.urls["ingest"] + path, timeout=30).status_code == 404


# ---- lists ---------------------------------------------------------------------------------------------------------


def test_lists_page_backwards_from_the_newest_and_new_jobs_move_nothing(deployment: Suite) -> None:
    url = f"{deployment.urls['ingest']}/jobs"
    made = [deployment.upload(bundle({"a": b"%d" % number}))["job_id"] for number in range(5)]
    first = requests.get(url, {"limit": "2"}, timeout=30).json()
    assert [job["job_id"] for job in first["jobs"]] == [made[4], made[3]]
    made.append(deployment.upload(bundle({"a": b"newer"}))["job_id"])
    second = requests.get(url, {"limit": "2", "cursor": first["next"]}, timeout=30).json()
    assert [job["job_id"] for job in second["jobs"]] == [made[2], made[1]]
    everything = []
    page = requests.get(url, {"limit": "3"}, timeout=30).json()
    while True:
        everything += [job["job_id"] for job in page["jobs"]]
        if page["next"] is None:
            break
        page = requests.get(url, {"limit": "3", "cursor": page["next"]}, timeout=30).json()
    assert everything == [id for (id,) in deployment.query("SELECT id FROM job ORDER BY id DESC")]
    for job in made:
        assert deployment.finished(job)["state"] == "OK"


def test_lists_are_filtered_by_state_and_time(deployment: Suite) -> None:
    url = f"{deployment.urls['ingest']}/jobs"
    good = deployment.finished(deployment.upload(bundle({"a": b"a"}))["job_id"])["job_id"]
    bad = deployment.finished(deployment.upload(b"no tar")["job_id"])["job_id"]

    def ids(**query: str) -> list[int]:
        return [job["job_id"] for job in requests.get(url, query, timeout=30).json()["jobs"]]

    assert bad in ids(state="FAILED")
    assert good not in ids(state="FAILED")
    assert {good, bad} <= set(ids(state="FAILED,ARCHIVED"))
    created = told(deployment, bad)["created"]
    assert ids(since=created.replace(" ", "T") + "Z")[-1] == bad
    assert bad not in ids(until=created)
    assert good in ids(until=created)
    assert ids(since="2100-01-01T00:00:00Z") == []


@pytest.mark.parametrize(
    "query",
    ["state=OK", "limit=0", "limit=x", "cursor=-1", "since=yesterday", "until=1e9", "colour=red", "limit=1&limit=2"],
)
def test_a_filter_that_means_nothing_is_refused(deployment: Suite, query: str) -> None:
    answer = requests.get(f"{deployment.urls['ingest']}/jobs?{query}", timeout=30)
    assert answer.status_code == 400, answer.text


def test_each_user_sees_his_own_jobs_and_an_administrator_all(alone: Suite) -> None:
    alone.environment |= PROXY
    url = f"{alone.start().urls['ingest']}/jobs"
    made = {user: alone.upload(bundle({"a": b"a"}), headers=as_(user))["job_id"] for user in ("ann", "bob")}

    def ids(user: str, **query: str) -> list[int]:
        return [job["job_id"] for job in requests.get(url, query, headers=as_(user), timeout=30).json()["jobs"]]

    assert ids("ann") == ids("ann", owner="ann") == [made["ann"]]
    assert ids("boss") == [made["bob"], made["ann"]]
    assert ids("boss", owner="bob") == [made["bob"]]
    assert requests.get(url, {"owner": "bob"}, headers=as_("ann"), timeout=30).status_code == 403
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel")):
        answer = requests.request(method, f"{url}/{made['bob']}{path}", headers=as_("ann"), timeout=30)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert told(alone, made["bob"], "boss")["owner"] == "bob"
    assert requests.get(url, timeout=30).status_code == 401


# ---- cancel --------------------------------------------------------------------------------------------------------


def test_an_upload_under_way_is_cancelled_and_its_client_told(deployment: Suite) -> None:
    sent = HalfSent(deployment, bundle({"big": os.urandom(100_000)}))
    found = told(deployment, sent.job_id)
    assert (found["state"], found["next"]["who"]) == ("RECEIVING", "client")
    answer = requests.delete(f"{deployment.urls['ingest']}/jobs/{sent.job_id}", timeout=30)
    assert (answer.status_code, answer.json()["state"]) == (200, "CANCELLED")
    assert b" 409 " in sent.answer().partition(b"\r\n")[0]
    state = deployment.state(sent.job_id)
    assert (state["state"], state["complete"], state["exception"]) == ("FAILED", True, "Cancelled by root.")
    until(lambda: not deployment.spooled(), 30, "a clean spool")
    again = requests.post(f"{deployment.urls['ingest']}/jobs/{sent.job_id}/cancel", timeout=30)
    assert (again.status_code, again.json()["code"]) == (409, "illegal_move")


def test_a_job_is_cancelled_with_no_worker_alive_from_the_command_line(alone: Suite) -> None:
    sent = HalfSent(alone.start(), bundle({"big": os.urandom(100_000)}))
    alone.kill()
    assert alone.command("ingest", "job", "cancel", sent.job_id).stdout == f"job {sent.job_id}: CANCELLED\n"
    alone.start()
    assert alone.state(sent.job_id)["exception"].startswith("Cancelled by ")
    until(lambda: not alone.spooled(), 30, "a clean spool")


# ---- the command line ----------------------------------------------------------------------------------------------


def test_the_command_line_lists_shows_and_retries(alone: Suite) -> None:
    job = alone.start().finished(alone.upload(bundle({"a": b"alpha"}))["job_id"])["job_id"]
    bad = alone.finished(alone.upload(b"no tar")["job_id"])["job_id"]
    listed = json.loads(alone.command("ingest", "job", "list", "--json").stdout)
    assert [(row["job_id"], row["state"]) for row in listed["jobs"]] == [(bad, "FAILED"), (job, "ARCHIVED")]
    lines = alone.command("ingest", "job", "list", "--state", "FAILED").stdout.splitlines()
    assert len(lines) == 1
    assert lines[0].split()[:2] == [str(bad), "FAILED"]
    shown = json.loads(alone.command("ingest", "job", "show", job).stdout)
    assert shown == told(alone, job)
    pacificas = json.loads(alone.command("ingest", "job", "--job_id", job).stdout)
    assert (pacificas["job_id"], pacificas["state"], pacificas["step"]) == (job, "OK", "ARCHIVED")
    refused = alone.command("ingest", "job", "retry", bad, code=1)
    assert "no longer in the spool" in refused.stderr
    path = alone.data.parent / "bundle.tar"
    path.write_bytes(bundle({"a": b"brought"}))
    done = alone.command("ingest", "retry", "--job_id", bad, "--path", path, "--username", "helper")
    assert json.loads(done.stdout)["state"] == "OK"
    assert alone.content(alone.files(bad)[0]["_id"]) == b"brought"
    assert "helper" in {step["who"] for step in told(alone, bad)["events"]}


def test_a_job_that_failed_for_our_fault_is_retried_by_the_workers(alone: Suite) -> None:
    alone.environment |= {"PACIFICA_WORKER_MAX_ATTEMPTS": "1"}
    code = "import sys; from pacifica.ingest import archiving; archiving.record = None; " + Suite.CODE
    job = alone.start(code).finished(alone.upload(bundle({"a": b"alpha"}))["job_id"])
    assert (job["state"], job["exception"]) == ("FAILED", "Internal error (TypeError).")
    found = told(alone, job["job_id"])
    assert found["next"]["who"] == "administrator"
    assert f"job retry {job['job_id']}" in found["next"]["what"]
    alone.stop()
    alone.command("ingest", "job", "retry", job["job_id"])
    alone.start()
    assert alone.finished(job["job_id"])["state"] == "OK"
    assert [alone.content(file["_id"]) for file in alone.files(job["job_id"])] == [b"alpha"]


def test_the_disk_report_tells_whose_bytes_wait_and_what_is_promised(alone: Suite) -> None:
    posted = bundle({"big": os.urandom(3 << 20)})
    sent = HalfSent(alone.start(), posted)
    threading.Thread(target=lambda: sent.socket.sendall(sent.rest[:1_500_000]), daemon=True).start()
    (alone.archive / "spool" / ("0" * 32)).write_bytes(b"x" * 5000)
    creation = {"Tus-Resumable": "1.0.0", "Upload-Length": "9000", "Content-Type": "application/offset+octet-stream"}
    begun = requests.post(f"{alone.urls['ingest']}/files/", data=b"y" * 6000, headers=creation, timeout=30)
    assert begun.status_code == 201
    found: dict[str, Any] = until(
        lambda: (
            (report := json.loads(alone.command("ingest", "disk", "--json").stdout))["spool"].get("RECEIVING")
            and report
        )
    )
    assert found["spool"]["RECEIVING"]["jobs"] == 1
    assert found["spool"]["no job"]["files"] == 1
    assert found["spool"]["no job"]["bytes"] >= 5000
    assert (found["spool"]["upload"]["files"], found["spool"]["upload"]["jobs"]) == (1, 0)
    assert found["spool"]["upload"]["bytes"] >= 6000
    assert 0 < found["reserved_bytes"] <= len(posted)
    assert found["takes_uploads"] is (found["free_bytes"] - found["reserved_bytes"] > found["watermark_bytes"])
    assert found["oldest"]["age_seconds"] < 600
    text = alone.command("ingest", "disk").stdout
    assert "RECEIVING" in text
    assert "watermark" in text
    sent.socket.close()
