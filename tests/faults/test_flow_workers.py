"""Flow without workers, with workers that die again and again, and with a broker that is not patient."""

import signal
from pathlib import Path

import amqp
import pytest
import requests

from pacifica.tests.system.flows import Flow
from pacifica.tests.system.graphs import Graph, House
from pacifica.tests.system.nodes import PostgresNode, RabbitNode
from pacifica.tests.system.scaled import Scaled
from pacifica.tests.system.suite import until

pytestmark = pytest.mark.xdist_group("restarts")


def test_a_run_that_kills_each_worker_is_given_up_and_the_others_go_on(house: House):
    flow, suite = Flow(house.suite), house.suite
    poison = flow.create("wait")
    for attempt in range(1, 6):

        def is_at_work(attempt: int = attempt) -> bool:
            row = flow.get(poison)
            return (row["status"], row["attempt"]) == ("PR", attempt)

        until(is_at_work, 60, f"attempt {attempt}")
        house.kill(*house.worker()[:-1])
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
    house.kill(*house.worker())
    suite.workers["flow"].wait(30)
    ids = Graph(suite, "cancelled").create().ids
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


def test_a_worker_whose_pool_stands_still_ends_and_the_next_one_does_its_work(house: House, tmp_path: Path):
    suite, main = house.suite, house.suite.workers["flow"]
    house.kill(main.pid)
    main.wait(30)
    (tmp_path / "sitecustomize.py").write_text(HASTY)
    suite.environment["PYTHONPATH"] = str(tmp_path)  # it rings for one row every ten seconds else
    still: list[int] = []
    try:
        suite.start_worker("flow")
        still += house.pool()
        for pid in still:
            house.signal(pid, signal.SIGSTOP)
        number = Flow(suite).create("number")
        assert suite.workers["flow"].wait(60) == 1
        assert "this worker hears no message of pacifica.flow" in suite.logged("worker-flow")
    finally:
        house.kill(*still)  # who stands still does not notice that its parent has ended
        del suite.environment["PYTHONPATH"]
        suite.restart()
    ended = Flow(suite).ended(number)
    assert (ended["status"], ended["attempt"]) == ("OK", 1)


@pytest.mark.parametrize("is_taken_on", [False, True], ids=["rung for", "taken on"])
def test_a_child_that_stands_still_with_a_run_is_replaced_and_the_run_is_done(
    house: House, tmp_path: Path, is_taken_on: bool
):
    suite, main = house.suite, house.suite.workers["flow"]
    house.kill(main.pid)
    main.wait(30)
    (tmp_path / "sitecustomize.py").write_text(HASTY)
    suite.environment["PYTHONPATH"] = str(tmp_path)
    flow = Flow(suite)
    try:
        held = flow.create("wait", {"after": flow.create("number")} if is_taken_on else {})
        suite.start_worker("flow")
        until(lambda: flow.get(held)["status"] == "PR", 60, "the run")
        (holder,) = suite.query("SELECT leased_by FROM data WHERE id = ?", str(held))[0]
        still = int(holder.split(":")[1])
        assert still in house.pool()
        house.signal(still, signal.SIGSTOP)
        until(lambda: flow.get(held)["attempt"] == 2, 60, "another attempt")
        until(lambda: "hangs with a row that it has lost" in suite.logged("worker-flow"), 60, "the watchdog")
        until(lambda: still not in house.pool(), 30, "the end of the child")
        requests.post(f"{flow.url}/data/{held}/cancel", json={}, timeout=60)
        assert flow.ended(held)["status"] == "ER"
        assert flow.ended(flow.create("number"))["status"] == "OK"
        assert suite.workers["flow"].poll() is None
    finally:
        del suite.environment["PYTHONPATH"]
        suite.restart()


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

HASTY = """
from pacifica.common import watchdog, worker
worker.RING_SECONDS = 0.5  # it rings for one row every ten seconds else
watchdog.UNHEARD_SECONDS, watchdog.HANGING_SECONDS = 3.0, 2.0
"""
