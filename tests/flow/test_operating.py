"""Flow as it is operated, in both deployments: once in effect, cancelled and restarted, whoever is at work."""

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from pacifica.tests.system.flows import PROCESSES, Flow
from pacifica.tests.system.suite import Suite


@pytest.fixture(scope="module")
def flow(deployment: Suite) -> Iterator[Flow]:
    """The shared deployment, with the processes of the tests."""
    deployment.register(PROCESSES)
    yield Flow(deployment)


def chain(flow: Flow, length: int, **more: Any) -> list[int]:
    """Create a number and ``length`` increments, each of the one before."""
    made = [flow.create("number", {"value": 1}, **more)]
    for _ in range(length):
        made.append(flow.create("increment", {"source": made[-1]}, **more))
    return made


def test_a_chain_and_a_workflow_run_to_their_end(flow: Flow):
    made = chain(flow, 3)
    workflow = flow.create("twice", {"source": made[-1]})
    ended = flow.ended(workflow)
    assert (ended["status"], ended["process_error"], ended["process_progress"]) == ("OK", [], 100)
    assert [flow.get(step)["output"]["value"] for step in ended["output"]["steps"]] == [5, 6]
    assert [flow.get(id)["output"]["value"] for id in made] == [1, 2, 3, 4]
    assert [flow.get(id)["attempt"] for id in [*made, *ended["output"]["steps"]]] == [1] * 6
    (file,) = flow.get(ended["output"]["steps"][-1], "/files")
    assert flow.suite.content(file["file_id"]) == b"6\n"
    assert requests.get(f"{flow.suite.urls['flow']}/readyz", timeout=30).status_code == 200
