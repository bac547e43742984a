"""Events become runs, in both deployments: once each, for the bundle's owner, whatever was lost on the way."""

import json
import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kombu
import pytest
import requests

from pacifica.tests.system.bundles import bundle
from pacifica.tests.system.flows import PROCESSES, Flow
from pacifica.tests.system.scaled import Scaled
from pacifica.tests.system.suite import Suite, until

TRUST = {"PACIFICA_FLOW_TRUSTED_SOURCES": "/ingest, /flow, /cr*"}


@pytest.fixture(scope="module", params=["embedded", "scaled"])
def flow(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flow]:
    """A suite with the triggers of the tests and of the library."""
    data = tmp_path_factory.mktemp("triggers") / "data"
    if request.param == "embedded":
        suite = Suite(data, TRUST)
    else:
        postgres, rabbitmq = request.getfixturevalue("postgres"), request.getfixturevalue("rabbitmq")
        suite = Scaled(data, postgres.create_database(), rabbitmq.create_vhost(), TRUST)
    try:
        suite.start()
        command(suite, "register", PROCESSES, "--shipped")
        yield Flow(suite)
    finally:
        suite.kill()


def command(suite: Suite, *words: object, code: int = 0) -> str:
    return suite.command("flow", *words, code=code).stdout


def archived(suite: Suite, files: dict[str, bytes]) -> int:
    return int(suite.finished(suite.upload(bundle(files))["job_id"])["job_id"])


def fired(flow: Flow, slug: str, transaction: int) -> dict[str, Any]:
    """Wait for what a trigger made of a transaction's event."""

    def ask() -> dict[str, Any] | None:
        found = requests.get(f"{flow.url}/trigger/{slug}", timeout=30).json()["firings"]
        return next((one for one in found if one["subject"] == f"transactions/{transaction}"), None)

    return until(ask, 60, f"{slug} for {transaction}") or {}


def test_an_archived_transaction_gets_a_manifest_and_is_annotated(flow: Flow):
    files = {"a/one.csv": b"x,y\n1,2\n", "a/two words.txt": b"text", "b.h5": b"\x89HDF\r\n\x1a\n" + b"\0" * 50}
    transaction = archived(flow.suite, files)
    made = flow.ended(fired(flow, "checksum-manifest", transaction)["data"])
    assert (made["status"], made["process_error"], made["tags"]) == ("OK", [], ["checksums"])
    assert (made["output"]["files"], made["output"]["bytes"]) == (3, sum(map(len, files.values())))
    (kept,) = flow.get(made["id"], "/files")
    lines = flow.suite.content(kept["file_id"]).decode().splitlines()
    assert [line[66:] for line in lines] == ["a/one.csv", "a/two words.txt", "b.h5"]
    made = flow.ended(fired(flow, "detect-formats", transaction)["data"])
    assert (made["status"], made["process_error"], made["process_warning"]) == ("OK", [], [])
    said = dict(flow.suite.query('SELECT key, value FROM transactionkeyvalue WHERE "transaction" = ?', transaction))
    assert said == {"format.CSV": "1", "format.HDF5": "1", "format.text": "1", "formats": "CSV HDF5 text"}


def test_a_trigger_fires_for_what_fits_and_only_once(flow: Flow):
    other = archived(flow.suite, {"a.txt": b"1"})
    transaction = archived(flow.suite, {"x/a.raw": b"12345", "deep/b.bin": b"67", "c.txt": b"no"})
    firing = fired(flow, "count-raw", transaction)
    data = flow.ended(firing["data"])
    assert (data["status"], data["output"]) == ("OK", {"count": 2, "bytes": 7})
    assert data["contributor"] == firing["owner"]
    assert data["name"] == f"of {firing['owner']} in transactions/{transaction}"
    fired(flow, "detect-formats", other)
    if flow.suite.log.exists():  # embedded: at the first try, though others write meanwhile
        assert "could not be dealt with" not in flow.suite.log.read_text()
    listed = requests.get(f"{flow.url}/trigger/count-raw", timeout=30).json()["firings"]
    assert [one["subject"] for one in listed] == [f"transactions/{transaction}"]
    assert requests.get(f"{flow.url}/trigger?slug=count-raw&fields=slug,process", timeout=30).json() == [
        {"slug": "count-raw", "process": "count-files"}
    ]
    assert requests.get(f"{flow.url}/trigger/nothing", timeout=30).status_code == 404
    for asked, found in {"text=raw": ["count-raw"], "text=count fi": ["count-raw"], "text=nowhere": []}.items():
        assert [one["slug"] for one in requests.get(f"{flow.url}/trigger?{asked}", timeout=30).json()] == found, asked
    for asked in ("text=raw&ordering=slug", "process=x"):
        assert requests.get(f"{flow.url}/trigger?{asked}", timeout=30).status_code == 400, asked


def test_triggers_are_listed_switched_and_tried(flow: Flow, tmp_path: Path):
    event = tmp_path / "event.json"
    data = {"owner": "ada", "data": 12, "type": "data:number:"}
    event.write_text(json.dumps({"id": "1", "source": "/flow", "type": "pacifica.flow.done", "data": data}))
    assert json.loads(command(flow.suite, "trigger", "try", "echo-ends", event)) == {
        "process": "echo-end",
        "input": {"source": 12},
    }
    assert command(flow.suite, "trigger", "try", "count-raw", event, code=1) == "does not fit\n"
    assert "off echo-ends: pacifica.flow.done -> echo-end" in command(flow.suite, "trigger", "list").splitlines()
    command(flow.suite, "trigger", "enable", "echo-ends")
    command(flow.suite, "register", PROCESSES)
    listed = [json.loads(line) for line in command(flow.suite, "trigger", "list", "--json").splitlines()]
    assert {one["slug"]: one["enabled"] for one in listed}["echo-ends"]
    number = flow.ended(flow.create("number"))["id"]
    echo = until(lambda: flow.get(number, "/children"), 60, "the run of the trigger")
    assert [one["process"]["slug"] for one in echo] == ["echo-end"]
    # its own end is such an event too
    flow.ended(echo[0]["id"])
    refused = f"data/{echo[0]['id']}"
    sql = "SELECT 1 FROM firing WHERE \"trigger\" = 'echo-ends' AND subject = ?"
    until(lambda: flow.suite.query(sql, refused), 60, "the refusal")
    firings = json.loads(command(flow.suite, "trigger", "show", "echo-ends"))["firings"]
    shown = [one for one in firings if one["subject"] == refused]
    assert shown[0]["data"] is None
    assert "this trigger started" in shown[0]["error"]
    command(flow.suite, "trigger", "disable", "echo-ends")
    command(flow.suite, "trigger", "enable", "nothing", code=1)


def test_a_foreign_event_that_comes_again_and_again_starts_one_run(flow: Flow, tmp_path: Path):
    if not isinstance(flow.suite, Scaled):
        return  # the broker of one process has no other programs
    (tmp_path / "site.yml").write_text(
        "- trigger: site\n  event: site.crane.*\n  process: number\n  input: {value: '{{ data.load }}'}\n"
    )
    command(flow.suite, "register", tmp_path)
    event = {"id": str(uuid.uuid4()), "source": "/crane", "type": "site.crane.stopped", "subject": "crane/1"}
    body = json.dumps(event | {"data": {"load": 17, "owner": "ada"}}).encode()
    nobody = json.dumps(event | {"id": "2", "subject": "crane/2", "data": {"load": 17}}).encode()
    wrong = json.dumps(event | {"id": "3", "subject": "crane/3", "data": {"load": "x", "owner": "ada"}}).encode()
    stranger = json.dumps(event | {"id": "5", "source": "/stranger", "data": {"load": 3, "owner": "ada"}}).encode()
    exchange = kombu.Exchange("pacifica", type="topic", durable=True)

    def subjects() -> set[str]:
        return {subject for (subject,) in flow.suite.query("SELECT subject FROM firing WHERE \"trigger\" = 'site'")}

    def send(*events: bytes) -> None:
        for one in events:
            producer.publish(one, exchange=exchange, routing_key="site.crane.stopped", serializer=None)

    with kombu.Connection(flow.suite.environment["PACIFICA_CELERY_BROKER_URL"]) as connection:
        producer = connection.Producer()
        until(lambda: send(body) or subjects(), 60, "the first firing")
        for _ in range(2):
            send(b"no event", stranger, body, body, nobody, wrong)
        fence = json.dumps(event | {"id": "4", "subject": "crane/4", "data": {"load": 1, "owner": "ada"}}).encode()
        send(fence)
    until(lambda: "crane/4" in subjects(), 60, "the last event")
    listed = json.loads(command(flow.suite, "trigger", "show", "site"))["firings"]
    found = {one["subject"]: one for one in listed}
    assert len(listed) == len(found) == 4
    assert flow.suite.query("SELECT count(*) FROM data WHERE owner = 'ada'")[0][0] == 2
    assert "no owner" in found["crane/2"]["error"]
    assert "basic:integer" in found["crane/3"]["error"]
    assert found["crane/1"]["owner"] == "ada"
    untrusted = tmp_path / "untrusted.json"
    untrusted.write_bytes(stranger)
    assert "not trusted" in command(flow.suite, "trigger", "try", "site", untrusted, code=1)


def test_events_of_a_time_without_flow_are_dealt_with_when_it_is_back(flow: Flow):
    if isinstance(flow.suite, Scaled):
        worker = flow.suite.workers["flow"]
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait(30)
        transaction = archived(flow.suite, {"late.raw": b"123"})
        flow.suite.start_worker("flow", wait=False)
    else:
        # killed as soon as the transaction is there: in one process, the message about it dies with the broker
        transaction = archived(flow.suite, {"late.raw": b"123"})
        flow.suite.kill()
        flow.suite.start()
        flow = Flow(flow.suite)
    data = flow.ended(fired(flow, "count-raw", transaction)["data"])
    assert (data["status"], data["output"]["bytes"]) == ("OK", 3)
    assert until(lambda: not flow.suite.query("SELECT 1 FROM inbox"), 30, "an empty inbox") is True
    assert len(flow.suite.query("SELECT 1 FROM firing WHERE subject = ?", f"transactions/{transaction}")) == 3
