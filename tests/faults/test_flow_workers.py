"""Flow without workers, with workers that die again and again, and with a broker that is not patient."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import amqp
import pytest
import requests

from pacifica.tests.system.flows import PROCESSES, Flow
from pacifica.tests.system.nodes import PostgresNode, RabbitNode, descendants
from pacifica.tests.system.scaled import Scaled
from pacifica.tests.system.suite import until

pytestmark = pytest.mark.xdist_group("restarts")
OBJECTS = 50
SAVING = {1, 2}  # places of objects that save a file, as the first does
FAILING = {20, 33}  # places of objects that end in ER, and with them what is made from them


class House:
    """What serves flow, and what can happen to it."""

    def __init__(self, folder: Path) -> None:
        self.postgres, self.rabbit = PostgresNode(), RabbitNode()
        self.postgres.start()
        self.rabbit.start()
        database, vhost = self.postgres.create_database(), self.rabbit.create_vhost()
        self.suite = Scaled(folder / "data", database, vhost, services=("flow",))

    def worker(self) -> list[int]:
        """Return the processes of the worker, its children first."""
        return descendants(self.suite.workers["flow"].pid)

    def signal(self, pid: int, number: int) -> None:
        """Send a signal."""
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return  # it has ended by itself: workers replace their children now and then


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Flow on servers of its own, which lives through all rounds."""
    house = House(tmp_path_factory.mktemp("rounds"))
    try:
        house.suite.start()
        house.suite.register(PROCESSES)
        folder = tmp_path_factory.mktemp("processes")
        (folder / "plus.yml").write_text(PLUS)
        house.suite.register(folder)
        yield house
    finally:
        if house.suite.urls:
            house.suite.kill()
        house.postgres.remove()
        house.rabbit.remove()


def create(suite: Scaled, key: str, documents: list[Any]) -> list[int]:
    """Create objects, again and again until an answer comes, once."""

    def ask() -> list[int] | None:
        try:
            url, headers = f"{Flow(suite).url}/data/bulk", {"Idempotency-Key": key}
            answer = requests.post(url, json=documents, headers=headers, timeout=60)
        except requests.RequestException:
            return None
        assert answer.status_code in (200, 201, 503), answer.text
        return list(answer.json()["ids"]) if answer.status_code < 300 else None

    return until(ask, 90, "a creation") or []


def document(place: int, made: list[int]) -> dict[str, Any]:
    """Return what is asked for: each object but the first is made from the one at half its place."""
    if not made:
        return {"process": {"slug": "number"}, "input": {"value": 1}}
    slug = "fail" if place in FAILING else "increment" if place in SAVING else "plus"
    return {"process": {"slug": slug}, "input": {"source": made[(place - 1) // 2]}}


def graph(suite: Scaled, name: str) -> list[int]:
    """Create a tree of objects, a generation at a time."""
    made: list[int] = []
    while len(made) < OBJECTS:
        places = range(len(made), min(2 * len(made) + 1, OBJECTS))
        made += create(suite, f"{name}-{len(made)}", [document(place, made) for place in places])
    return made


def test_a_run_that_kills_each_worker_is_given_up_and_the_others_go_on(house: House):
    flow, suite = Flow(house.suite), house.suite
    poison = flow.create("wait")
    for attempt in range(1, 6):

        def is_at_work(attempt: int = attempt) -> bool:
            row = flow.get(poison)
            return (row["status"], row["attempt"]) == ("PR", attempt)

        until(is_at_work, 60, f"attempt {attempt}")
        for pid in house.worker()[:-1]:
            house.signal(pid, signal.SIGKILL)
    ended = flow.ended(poison)
    assert (ended["status"], ended["process_error"]) == ("ER", ["Given up after 5 attempts."])
    number = flow.ended(flow.create("number"))
    assert (number["status"], number["attempt"]) == ("OK", 1)
    assert suite.query("SELECT count(*) FROM statechange WHERE kind = 'data' AND \"row\" = ? AND target = 'ER'",
                       str(poison)) == [(1,)]  # fmt: skip


def test_a_graph_is_cancelled_where_no_worker_is_alive(house: House):
    flow, suite = Flow(house.suite), house.suite
    running = flow.create("wait")
    until(lambda: flow.get(running)["status"] == "PR", 60, "the run")
    for pid in house.worker():
        house.signal(pid, signal.SIGKILL)
    suite.workers["flow"].wait(30)
    ids = graph(suite, "cancelled")
    other = flow.create("number")
    try:
        answer = requests.post(f"{flow.url}/data/{ids[0]}/cancel", json={"graph": True}, timeout=60)
        assert sorted(answer.json()["cancelled"]) == sorted(ids)
        assert {flow.get(id)["status"] for id in ids} == {"ER"}
        assert flow.get(ids[0])["process_error"] == ["Processing was cancelled."]
        assert flow.get(other)["status"] == "WT"
        requests.post(f"{flow.url}/data/{running}/cancel", json={}, timeout=60)
        until(lambda: cancelled(flow, running), 30, "the end of a run whose worker is dead")
    finally:
        suite.start_worker("flow")
    assert flow.ended(other)["status"] == "OK"
    assert {flow.get(id)["attempt"] for id in ids} == {0}


def cancelled(flow: Flow, id: int) -> bool:
    """Ask again for the end of a run; tell whether it has come."""
    answer = requests.post(f"{flow.url}/data/{id}/cancel", json={}, timeout=60)
    assert answer.status_code in (200, 409), answer.text
    return bool(flow.get(id)["process_error"] == ["Processing was cancelled."])


def is_cut_off(node: RabbitNode) -> bool:
    """Take a message, do not acknowledge it, and tell whether the broker closes the channel for that."""
    with amqp.Connection(f"127.0.0.1:{node.port}") as connection:
        channel = connection.channel()
        channel.queue_declare("control", auto_delete=False)
        channel.basic_consume("control", callback=lambda _: None)
        channel.basic_publish(amqp.Message("x"), routing_key="control")
        try:
            for _ in range(10):
                connection.drain_events(timeout=5)
        except amqp.PreconditionFailed:
            return True
        except TimeoutError:
            return False
    return False


def test_a_job_beyond_the_brokers_patience_runs_once(tmp_path: Path):
    node = RabbitNode()
    postgres = PostgresNode()
    try:
        postgres.start()
        node.start()
        for name, milliseconds in (("consumer_timeout", 1000), ("channel_tick_interval", 500)):
            node.evaluate(f"application:set_env(rabbit, {name}, {milliseconds}).")
        until(lambda: is_cut_off(node), 60, "the end of who acknowledges late")  # which is the control
        suite = Scaled(tmp_path / "data", postgres.create_database(), node.create_vhost(), services=("flow",))
        try:
            suite.start()
            (tmp_path / "processes").mkdir()
            (tmp_path / "processes" / "long.yml").write_text(LONG)
            suite.register(tmp_path / "processes")
            flow = Flow(suite)
            ended = flow.ended(flow.create("long"))
            assert (ended["status"], ended["attempt"], ended["process_info"]) == ("OK", 1, ["run"])
            assert flow.ended(flow.create("long"))["attempt"] == 1  # the worker still consumes
        finally:
            suite.kill()
    finally:
        node.remove()
        postgres.remove()


PLUS = """
- slug: plus
  name: Plus
  version: 1.0.0
  type: data:number:plus
  requirements:
    expression-engine: jinja
  input:
    - name: source
      label: Source
      type: data:number
  output:
    - name: value
      label: Value
      type: basic:integer
    - name: text
      label: As text
      type: basic:file
      required: false
  run:
    language: bash
    program: |
      re-save value {{ source.value + 1 }}
"""
LONG = """
- slug: long
  name: Long
  version: 1.0.0
  type: data:long
  run:
    language: bash
    program: |
      re-info run
      sleep 8
"""
