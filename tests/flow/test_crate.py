"""Provenance: what the crate of an object says is true, and roc-validator finds it sound."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from pacifica.tests.system import apart
from pacifica.tests.system.flows import PROCESSES, Flow
from pacifica.tests.system.suite import Suite

# What the terms of our crates mean in the published contexts, which the validator would otherwise fetch from the web.
TERMS = {
    "@vocab": "http://schema.org/",
    "File": "http://schema.org/MediaObject",
    "conformsTo": "http://purl.org/dc/terms/conformsTo",
    "ComputationalWorkflow": "https://bioschemas.org/ComputationalWorkflow",
    "FormalParameter": "https://bioschemas.org/FormalParameter",
    "input": "https://bioschemas.org/ComputationalWorkflow#input",
    "output": "https://bioschemas.org/ComputationalWorkflow#output",
    "sha256": "https://w3id.org/ro/terms/workflow-run#sha256",
}


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flow]:
    """A suite with the processes of the tests."""
    suite = Suite(tmp_path_factory.mktemp("crate") / "data").start()
    suite.register(PROCESSES)
    yield Flow(suite)
    suite.stop()


def crate(flow: Flow, id: int) -> dict[str, dict[str, Any]]:
    """Return the entities of an object's crate by their ids."""
    answer = requests.get(f"{flow.url}/data/{id}/crate", timeout=30)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/ld+json"), answer.text
    graph = answer.json()["@graph"]
    found = {entity["@id"]: entity for entity in graph}
    assert len(found) == len(graph)
    return found


def judged(flow: Flow, id: int, profile: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Let roc-validator judge an object's crate."""
    found = requests.get(f"{flow.url}/data/{id}/crate", timeout=30).json()
    assert found["@context"][0] == "https://w3id.org/ro/crate/1.1/context"
    (folder / "ro-crate-metadata.json").write_text(json.dumps(found | {"@context": TERMS}))
    words = ["validate", "--metadata-only", "--skip-availability-check", "--no-paging", "-p", profile, str(folder)]
    command = [apart.programs("judges") / "rocrate-validator", "--no-interactive", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)


@pytest.mark.parametrize("slug", ["increment", "twice", "fail"])
def test_a_crate_is_valid(flow: Flow, slug: str, tmp_path: Path):
    given = {} if slug == "fail" else {"source": flow.create("number")}
    id = flow.create(slug, given)
    flow.ended(id)
    done = judged(flow, id, "workflow-run-crate" if slug == "twice" else "process-run-crate", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_crate_without_its_instruments_is_not(flow: Flow, tmp_path: Path):
    id = flow.create("number")
    flow.ended(id)
    found = requests.get(f"{flow.url}/data/{id}/crate", timeout=30).json()
    for entity in found["@graph"]:
        entity.pop("instrument", None)
    (tmp_path / "ro-crate-metadata.json").write_text(json.dumps(found | {"@context": TERMS}))
    words = ["validate", "--metadata-only", "--skip-availability-check", "--no-paging", "-p", "process-run-crate"]
    command = [apart.programs("judges") / "rocrate-validator", "--no-interactive", *words, str(tmp_path)]
    assert subprocess.run(command, capture_output=True, timeout=110, check=False).returncode == 1


def test_a_crate_says_what_ran_on_what_and_what_came_of_it(flow: Flow):
    first = flow.create("number", {"value": 41}, name='"}<a>')
    second = flow.create("increment", {"source": first})
    data = flow.ended(second)
    found = crate(flow, second)
    action, earlier = found[f"#data-{second}"], found[f"#data-{first}"]
    assert found["./"]["mentions"] == [{"@id": f"#data-{first}"}, {"@id": f"#data-{second}"}]
    assert action["actionStatus"] == {"@id": "http://schema.org/CompletedActionStatus"}
    assert action["startTime"] <= action["endTime"]
    assert found[action["instrument"]["@id"]]["identifier"] == "increment"
    assert found[action["agent"]["@id"]]["name"] == data["contributor"]
    (file,) = flow.get(second, "/files")
    results = [found[one["@id"]] for one in action["result"]]
    assert [one["sha256"] for one in results if one["@type"] == "File"] == [file["sha256"]]
    assert [(one["name"], one["value"]) for one in results if one["@type"] == "PropertyValue"] == [("value", 42)]
    assert {one["@id"] for one in earlier["result"]} <= {one["@id"] for one in action["object"]}
    assert earlier["name"] == '"}<a>'


def test_a_failure_is_told_and_what_runs_has_no_crate_yet(flow: Flow):
    failed = flow.create("fail")
    flow.ended(failed)
    action = crate(flow, failed)[f"#data-{failed}"]
    assert action["actionStatus"] == {"@id": "http://schema.org/FailedActionStatus"}
    assert action["error"] == "It went wrong"
    waiting = flow.create("wait")
    assert requests.get(f"{flow.url}/data/{waiting}/crate", timeout=30).status_code == 409
    requests.post(f"{flow.url}/data/{waiting}/cancel", json={}, timeout=30)
    flow.ended(waiting)
    assert crate(flow, waiting)[f"#data-{waiting}"]["error"] == "Processing was cancelled."
