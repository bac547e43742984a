"""``pacifica-flow-cmd`` beside a running suite, and its worker beside RabbitMQ."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from pacifica.tests.system.bundles import bundle
from pacifica.tests.system.flows import PROCESSES
from pacifica.tests.system.scaled import Scaled
from pacifica.tests.system.suite import until

COMMAND = Path(sys.executable).with_name("pacifica-flow-cmd")


@pytest.fixture
def command(flow):
    return lambda *words, code=0: flow.suite.command("flow", *words, code=code)


def test_a_process_is_run_and_waited_for(flow, command):
    id = int(command("run", "number", "value=41", "--name", "mine", "--tag", "cli", "--wait").stdout)
    data = flow.get(id)
    assert (data["status"], data["name"], data["tags"], data["output"]["value"]) == ("OK", "mine", ["cli"], 41)
    told = command("run", "increment", f"source={id}", "--tail").stdout
    assert "re-save-file text number.txt" in told
    ended = json.loads(command("run", "increment", f"source={data['slug']}", "--wait", "--json").stdout)
    assert (ended["status"], ended["output"]["value"]) == ("OK", 42)
    later = int(command("run", "number", "--input", json.dumps({"value": 5})).stdout)
    assert flow.ended(later)["output"]["value"] == 5


def test_an_archived_file_is_named_by_its_id(flow, command):
    job = flow.suite.finished(flow.suite.upload(bundle({"a.dat": b"some bytes"}))["job_id"])
    (file,) = flow.suite.files(job["job_id"])
    ended = json.loads(command("run", "sum", f"file=archive:{file['_id']}", "--wait", "--json").stdout)
    assert ended["input"]["file"] == {"file": "a.dat", "file_temp": f"archive:{file['_id']}"}
    assert len(ended["output"]["sha256"]) == 64


def test_a_local_file_is_archived_on_the_way(flow, command, tmp_path):
    for name, content in (("raw data.dat", b"some bytes" * 200_000), ("empty", b"")):
        (tmp_path / name).write_bytes(content)
        words = ["run", "sum", f"file=@{tmp_path / name}", "--ingest", flow.suite.urls["ingest"], "--project", "1234a"]
        ended = json.loads(command(*words, "--wait", "--json").stdout)
        assert ended["output"] == {"sha256": hashlib.sha256(content).hexdigest()}
        assert ended["input"]["file"]["file"] == name
        held = int(ended["input"]["file"]["file_temp"].removeprefix("archive:"))
        assert flow.suite.content(held) == content
    assert flow.suite.query('SELECT project, instrument FROM "transaction" ORDER BY id')[-1] == ("1234a", "flow")
    words = words[:3]
    assert "does not answer" in command(*words, "--ingest", "http://127.0.0.1:9", code=1).stderr
    assert "answers 404" in command(*words, "--ingest", flow.suite.urls["flow"], code=1).stderr
    assert "cannot be read" in command("run", "sum", "file=@/nowhere", code=1).stderr
    for wrong in ("unknown=1", "--tag="):  # refused before anything is sent to where nobody answers
        assert "does not answer" not in command(*words, wrong, "--ingest", "http://127.0.0.1:9", code=1).stderr
    (tmp_path / "line\nbreak").write_bytes(b"")
    refused = command("run", "sum", f"file=@{tmp_path}/line\nbreak", "--ingest", flow.suite.urls["ingest"], code=1)
    assert "was not archived" in refused.stderr


def test_the_exit_code_says_how_it_ended(flow, command):
    failed = command("run", "fail", "--wait", code=3)
    assert failed.stderr == "ER It went wrong\n"
    assert command("tail", failed.stdout.strip(), "--follow", code=3).stdout
    late = int(command("run", "wait", "--wait", "--timeout", "0.1", code=4).stdout)
    assert command("cancel", late).stdout == f"cancelled: {late}\n"
    assert flow.ended(late)["process_error"] == ["Processing was cancelled."]
    again = command("cancel", late, code=1)
    assert (again.stdout, "has ended already" in again.stderr) == ("", True)
    assert command("cancel", late, "--graph").stdout == "cancelled: \n"
    for words in (
        ["run", "nothing"],
        ["run", "number", "value=x"],
        ["run", "number", "other=1"],
        ["run", "increment", "source=nothing"],
        ["run", "sum", "file=archive:999999"],
        ["run", "number", "--slug", "x" * 101],
        ["restart", int(command("run", "number", "--wait").stdout)],
        ["ls", "nonsense=1"],
    ):
        refused = command(*words, code=1)
        assert refused.stderr.startswith("pacifica-flow-cmd: "), words
        assert "Traceback" not in refused.stderr
    command("run", code=2)


def test_objects_are_another_users_business(flow, command):
    mine = int(command("run", "number", "--wait").stdout)
    theirs = int(command("run", "number", "--user", "ada", "--wait").stdout)
    assert requests.get(f"{flow.url}/data/{theirs}", timeout=30).status_code == 404
    assert "does not exist" in command("run", "increment", f"source={mine}", "--user", "ada", code=1).stderr
    assert [json.loads(line)["id"] for line in command("ls", "--user", "ada", "--json").stdout.splitlines()] == [theirs]


def test_objects_are_listed_shown_and_restarted(flow, command):
    failed = int(command("run", "fail", "--tag", "listed", "--wait", code=3).stdout)
    lines = command("ls", "status=ER", "tags=listed", "limit=1").stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [[str(failed), "ER"]]
    assert json.loads(command("show", failed, "--fields", "id,process__slug").stdout) == {
        "id": failed,
        "process": {"slug": "fail"},
    }
    assert command("restart", failed, "--memory", "64").stdout == f"restarted: {failed}\n"
    until(lambda: flow.get(failed)["attempt"] == 2, what="the second attempt")
    assert flow.ended(failed)["run"]["resources"]["memory"] == 64


def test_the_worker_takes_what_waits_and_ends_with_sigterm(tmp_path_factory, postgres, rabbitmq):
    data = tmp_path_factory.mktemp("worker") / "data"
    suite = Scaled(data, postgres.create_database(), rabbitmq.create_vhost(), services=())
    data.mkdir()
    environment = os.environ | suite.environment

    def run(*words):
        done = subprocess.run(
            [COMMAND, *words], env=environment, cwd=data, capture_output=True, text=True, timeout=90, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    log = data / "worker.log"
    run("dbsync")
    run("register", PROCESSES)
    first = json.loads(run("run", "number", "value=1"))

    def start(*options):
        with log.open("ab") as output:
            return subprocess.Popen(
                [COMMAND, "worker", "--concurrency", "1", *options],
                env=environment, stdout=output, stderr=output, cwd=data,
            )  # fmt: skip

    worker = start("--queue", "interactive")
    try:
        quick = json.loads(run("run", "quick", "--wait", "--json", "--timeout", "80"))
        assert (quick["status"], json.loads(run("show", str(first)))["status"]) == ("OK", "WT")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0
        worker = start()
        second = json.loads(run("run", "increment", f"source={first}", "--wait", "--json", "--timeout", "80"))
        assert (second["status"], second["output"]["value"]) == ("OK", 2), log.read_text()
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0
    finally:
        worker.kill()
        worker.wait(30)


def test_a_worker_needs_a_broker_that_others_reach(command):
    assert "broker" in command("worker", code=1).stderr
