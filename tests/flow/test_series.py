"""One doorbell, many runs: who is at work takes on what waits in its queue, and rings for who must go on."""

import json

import pytest

from pacifica.common import orm
from pacifica.flow import series
from pacifica.flow.dispatch import QUEUE, QUICK
from pacifica.flow.orm import SCHEMA, Data, State


@pytest.fixture
def waiting(database):
    """Make an object that waits for a worker."""
    SCHEMA.sync()

    def make(state=State.WT, **columns):
        return Data.start(state=state, process=1, type="data:a:", **columns).id

    return make


@pytest.fixture(autouse=True)
def plenty_of_time(monkeypatch):
    """The machine may have other work: a turn ends where a test says so."""
    monkeypatch.setattr(series, "SECONDS", 600.0)


@pytest.fixture
def ran():
    return []


@pytest.fixture
def run(ran):
    """Run an object: it has ended then, and all went well."""

    def run(id, attempt):
        assert Data.get_by_id(id).attempt == attempt
        orm.execute("UPDATE data SET state = 'OK' WHERE id = ?", id)
        ran.append(id)
        return True

    return run


def rung():
    """Return what was rung for: (queue, id)."""
    return [(queue, json.loads(body)["args"][0]) for queue, body in orm.rows("SELECT routing_key, body FROM outbox")]


def test_all_that_may_run_now_in_the_queue_is_run_once(waiting, run, ran):
    ids = [waiting(attempt=number % 3) for number in range(40)]
    now = orm.clock()
    for state in State:
        if state != State.WT:
            waiting(state)
    for columns in (
        {"interactive": True},
        {"not_before": now + 600},
        {"lease_until": now + 600},
        {"cancel": "ann"},
    ):
        waiting(**columns)
    lost = waiting(lease_until=now - 1, leased_by="who died")
    series.through(ids[0], 0, run)
    assert ran[0] == ids[0]
    assert sorted(ran) == [*ids, lost]
    assert rung() == []


@pytest.mark.parametrize(("interactive", "queue"), [(False, QUEUE), (True, QUICK)])
def test_when_its_time_is_up_it_rings_once_for_one_that_waits(waiting, run, ran, monkeypatch, interactive, queue):
    monkeypatch.setattr(series, "SECONDS", 0.0)
    ids = [waiting(interactive=interactive) for _ in range(5)]
    waiting(interactive=not interactive)
    series.through(ids[0], 0, run)
    assert ran == ids[:1]
    ((where, id),) = rung()
    assert where == queue
    assert id in ids[1:]


def test_after_a_run_that_went_wrong_somebody_else_is_rung_for(waiting, run, ran):
    first, second = waiting(), waiting()
    series.through(first, 0, lambda id, attempt: not run(id, attempt))
    assert ran == [first]
    assert rung() == [(QUEUE, second)]


def test_where_nothing_waits_nobody_is_rung_for(waiting, run, ran):
    alone = waiting()
    series.through(alone, 0, lambda id, attempt: not run(id, attempt))
    series.through(4711, 0, lambda *_: True)  # it was deleted
    assert (ran, rung()) == ([alone], [])
