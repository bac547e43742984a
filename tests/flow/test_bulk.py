"""Many objects at once: all of them or none, once, and each as if it had been created alone."""

from collections.abc import Iterator
from typing import Any

import pytest
import requests

from pacifica.tests.system.flows import PROCESSES, Flow
from pacifica.tests.system.suite import Suite, until


@pytest.fixture(scope="module")
def flow(deployment: Suite) -> Iterator[Flow]:
    """The shared deployment, with the processes of the tests."""
    deployment.register(PROCESSES)
    yield Flow(deployment)
    going_on = "SELECT 1 FROM data WHERE state NOT IN ('OK', 'ER')"
    until(lambda: not deployment.query(going_on), 60, "the end of all that was created")  # it writes to the archive


def number(value: Any = 1, **more: Any) -> dict[str, Any]:
    return {"process": {"slug": "number"}, "input": {"value": value}, **more}


def increment(source: int) -> dict[str, Any]:
    return {"process": {"slug": "increment"}, "input": {"source": source}}


def post(flow: Flow, document: Any, key: str | None = None, route: str = "data/bulk") -> requests.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    return requests.post(f"{flow.url}/{route}", json=document, headers=headers, timeout=60)


def count(flow: Flow) -> int:
    return int(flow.suite.query("SELECT count(*) FROM data")[0][0])


def test_each_is_what_it_would_be_alone(flow: Flow):
    source = flow.create("number", {"value": 5})
    alone = flow.create("number", {"value": 7}, tags=["x"])
    wanted = [
        number(7, tags=["x"]),
        {"process": {"slug": "increment"}, "input": {"source": source}},
        number(3, name="n"),
    ]
    answer = post(flow, wanted)
    assert answer.status_code == 201, answer.text
    ids = answer.json()["ids"]
    assert ids == sorted(ids)
    ended = [flow.ended(id) for id in ids]
    assert [(one["status"], one["output"]["value"], one["attempt"]) for one in ended] == [
        ("OK", 7, 1),
        ("OK", 6, 1),
        ("OK", 3, 1),
    ]
    twin, first = flow.ended(alone), ended[0]
    differing = {key for key in twin if twin[key] != first[key]}
    assert differing <= {"id", "slug", "created", "modified", "started", "finished", "output", "run", "size"}
    assert first["slug"] == f"number-{ids[0]}"
    assert ended[2]["name"] == "n"
    assert [parent["id"] for parent in flow.get(ids[1], "/parents")] == [source]
    sql = "SELECT source, target FROM statechange WHERE kind = 'data' AND \"row\" = ? ORDER BY id"
    logs = [flow.suite.query(sql, str(id)) for id in (alone, ids[0])]
    assert logs[0] == logs[1]


def test_a_bulk_may_mix_scheduling_classes_and_both_queues_are_worked_on(flow: Flow):
    ids = post(flow, [number(1), {"process": {"slug": "quick"}}, {"process": {"slug": "quick"}}]).json()["ids"]
    assert [flow.ended(id)["status"] for id in [*ids, flow.create("quick")]] == ["OK"] * 4
    held = flow.suite.query("SELECT interactive FROM data WHERE id >= ? ORDER BY id", ids[0])
    assert [bool(interactive) for (interactive,) in held] == [False, True, True, True]


def test_one_that_is_wrong_refuses_all_and_each_is_named_by_its_index(flow: Flow):
    before = count(flow)
    slug = {"slug": "bulk-twice"}
    wrong = [
        number(),
        number("x"),
        {"process": {"slug": "nothing"}},
        3,
        number(**slug),
        number(**slug),
        number(other=1),
    ]
    wrong += [increment(10**9), number()]
    answer = post(flow, wrong)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_bulk")
    told = {fault["index"]: fault["code"] for fault in answer.json()["faults"]}
    assert told == {
        1: "bad_value", 2: "not_found", 3: "bad_request", 5: "bad_request", 6: "bad_request", 7: "bad_value"
    }  # fmt: skip
    assert all(fault["message"] for fault in answer.json()["faults"])
    assert count(flow) == before


@pytest.mark.parametrize("document", [{}, "x", [number()] * 10_001])
def test_what_is_no_list_or_too_long_is_refused(flow: Flow, document: Any):
    before = count(flow)
    assert post(flow, document).status_code == 400
    assert count(flow) == before


def test_children_of_what_failed_or_waits_end_as_they_do_alone(flow: Flow):
    failed = flow.ended(flow.create("fail"))["id"]
    waiting = flow.create("number")
    ids = post(flow, [{"process": {"slug": "increment"}, "input": {"source": id}} for id in (failed, waiting)]).json()[
        "ids"
    ]
    assert [flow.ended(id)["status"] for id in ids] == ["ER", "OK"]


@pytest.mark.parametrize("route", ["data/bulk", "data"])
def test_a_request_that_is_sent_again_under_its_key_creates_nothing_more(flow: Flow, route: str):
    document, other = ([number(1), number(2)], [number(9)]) if route == "data/bulk" else (number(1), number(9))
    first = post(flow, document, f"key of {route}".join('""'), route)
    again = post(flow, document, f"key of {route}".join('""'), route)
    assert (first.status_code, again.status_code) == (201, 200)
    ids = [answer.json()["ids"] if route == "data/bulk" else answer.json()["id"] for answer in (first, again)]
    assert ids[0] == ids[1]
    reused = post(flow, other, f"key of {route}".join('""'), route)
    assert (reused.status_code, reused.json()["code"]) == (422, "key_reused")
    assert post(flow, [number("x")], f"bad {route}".replace(" ", "-"), "data/bulk").status_code == 400
    assert (
        post(flow, [number()], f"bad {route}".replace(" ", "-"), "data/bulk").status_code == 201
    )  # what was refused keeps no key
