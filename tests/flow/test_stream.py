"""Events of state changes: each once and in order, resumed where they ended, and never more than others can bear."""

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest
import requests

from pacifica.common import orm
from pacifica.common.errors import DatabaseAway, Overloaded
from pacifica.common.state import StateChange
from pacifica.flow import stream
from pacifica.flow.orm import SCHEMA, Data, State
from pacifica.flow.stream import OfOwner
from pacifica.tests.system.flows import PROCESSES, Flow
from pacifica.tests.system.suite import Suite, until

MOST = 3


@pytest.fixture(scope="module")
def flow(new_suite: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flow]:
    """A suite whose web processes carry few streams."""
    suite: Suite = new_suite(tmp_path_factory.mktemp("stream") / "data", {
        "PACIFICA_FLOW_MAX_STREAMS": str(MOST), "PACIFICA_FLOW_HEARTBEAT_SECONDS": "0.2",
    })  # fmt: skip
    try:
        suite.start()
        suite.register(PROCESSES)
        yield Flow(suite)
    finally:
        suite.kill()


def listen(flow: Flow, part: str, last: int | None = None) -> requests.Response:
    headers = {} if last is None else {"Last-Event-ID": str(last)}
    return requests.get(f"{flow.url}/data/{part}", headers=headers, stream=True, timeout=30)


def events(answer: requests.Response) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield each event with the place that the client would resume from after it, as an EventSource reads them."""
    place, data = 0, ""
    for line in answer.iter_lines(chunk_size=1, decode_unicode=True):
        name, _, value = line.partition(": ")
        if name == "id":
            place = int(value)
        elif name == "data":
            data = value
        elif not line and data:
            yield json.loads(data), place
            data = ""


def test_one_object_is_told_from_its_creation_to_its_end(flow: Flow):
    id = flow.create("increment", {"source": flow.create("number")})
    with closing(listen(flow, f"{id}/events")) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        told = [event for event, _ in events(answer)]
    assert (told[0]["was"], told[-1]["status"]) == (None, "OK")
    assert all(earlier["status"] == later["was"] for earlier, later in pairwise(told))
    assert {event["data"] for event in told} == {id}
    with closing(listen(flow, f"{id}/events", told[1]["change"])) as answer:
        assert [event for event, _ in events(answer)] == told[2:]
    assert listen(flow, f"{id}/events", told[-1]["change"]).status_code == 204  # an EventSource stops asking
    assert listen(flow, "999999999/events").status_code == 404
    assert requests.get(f"{flow.url}/data/events", headers={"Last-Event-ID": "x"}, timeout=30).status_code == 400


def test_all_objects_are_told_and_a_stream_that_broke_is_resumed(flow: Flow):
    with closing(listen(flow, "events")) as answer:
        heard = events(answer)
        first = flow.create("number")
        seen, place = {}, 0
        for event, place in heard:  # noqa: B007 - resumed from, below
            seen[event["change"]] = (event["data"], event["status"])
            if event["data"] == first and event["status"] == "OK":
                break
    second = flow.create("twice", {"source": first})
    steps = flow.ended(second)["output"]["steps"]
    with closing(listen(flow, "events", place)) as answer:
        for event, _ in events(answer):
            seen[event["change"]] = (event["data"], event["status"])
            if event["data"] == second and event["status"] == "OK":
                break
    # A stream that is resumed may begin with changes of before, where another transaction had a number and no commit.
    ended = [id for id, status in seen.values() if status == "OK" and id >= first]
    assert sorted(ended) == sorted([first, *steps, second])


def test_silence_is_told_by_comments_that_move_the_place_on(flow: Flow):
    waiting = flow.create("wait")
    until(lambda: flow.get(waiting)["status"] == "PR", 30, "the run")
    with closing(listen(flow, f"{waiting}/events")) as answer:
        lines = answer.iter_lines(chunk_size=1, decode_unicode=True)
        beats = [line for line in islice(lines, 40) if line.startswith((":", "id: "))]
    assert beats.count(": still here") >= 3
    places = [int(line.removeprefix("id: ")) for line in beats if line.startswith("id: ")]
    assert places == sorted(places)
    assert places[-1] > 0
    with closing(listen(flow, f"{waiting}/events", places[-1])) as answer:
        assert requests.post(f"{flow.url}/data/{waiting}/cancel", json={}, timeout=30).status_code == 200
        assert [event["status"] for event, _ in events(answer)] == ["ER"]


def test_streams_beyond_the_bound_are_refused_and_starve_nobody(flow: Flow):
    waiting = flow.create("wait")
    with ExitStack() as stack:
        answers = [stack.enter_context(closing(listen(flow, f"{waiting}/events"))) for _ in range(2 * MOST + 1)]
        refused = [answer for answer in answers if answer.status_code != 200]
        assert {(answer.status_code, answer.headers["Retry-After"]) for answer in refused} == {(503, "5")}
        assert len(answers) - len(refused) <= 2 * MOST  # uWSGI has two processes
        assert flow.get(waiting)["id"] == waiting

    def is_free() -> bool:
        with closing(listen(flow, f"{waiting}/events")) as answer:
            return answer.status_code == 200

    until(is_free, 30, "the places of those who went away")
    requests.post(f"{flow.url}/data/{waiting}/cancel", json={}, timeout=30)


def test_a_change_that_commits_late_is_told_late_and_not_lost(postgresql: Any):
    SCHEMA.sync()
    data = Data.start(state=State.RE, process=1, type="data:", owner="me")
    log = OfOwner("me", None)
    numbered, committed = threading.Event(), threading.Event()

    def note(id: int) -> None:
        StateChange.insert(kind="data", row=str(id), at=orm.now(), target="WT", attempt=0).execute()

    def write_slowly() -> None:
        with orm.transaction():
            note(data.id)
            numbered.set()
            committed.wait(30)

    thread = threading.Thread(target=write_slowly)
    thread.start()
    assert numbered.wait(30)
    note(data.id)
    (later,) = log.read()
    assert log.place < later.id - 1  # a resumed stream would begin before the one that is missing
    assert log.read() == []
    committed.set()
    thread.join(30)
    (earlier,) = log.read()
    assert earlier.id == later.id - 1
    until(lambda: log.read() == [] and log.place == later.id, 10, "the end of the gap")


class Silent:
    """A log in which nothing happens."""

    place = 7

    def read(self) -> list[Any]:
        return []

    def is_over(self) -> bool:
        return False


class Away(Silent):
    """A log whose database is away."""

    def read(self) -> list[Any]:
        raise DatabaseAway


def test_a_stream_ends_by_itself_and_gives_its_place_back(monkeypatch: pytest.MonkeyPatch):
    places = stream.Places(1)
    with closing(stream.Stream(Away(), places, 5.0)) as told:
        assert list(told) == [b"retry: 1000\nid: 7\n\n", b": database_away\n\n"]
        with pytest.raises(Overloaded):
            stream.Stream(Silent(), places, 5.0)
    monkeypatch.setattr(stream, "STREAM_SECONDS", 0.0)
    assert list(stream.Stream(Silent(), places, 0.0)) == [b"retry: 1000\nid: 7\n\n"]
    assert stream.Stream(Silent(), places, 5.0)  # the one before was never closed, and its time is over


def test_a_server_that_carries_streams_stops(tmp_path: Path):
    suite = Suite(tmp_path / "data").start()
    suite.register(PROCESSES)
    flow = Flow(suite)
    with closing(listen(flow, "events")) as answer:
        assert next(answer.iter_lines(chunk_size=1))
        assert suite.stop() == 0
