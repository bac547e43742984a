"""The dispatcher's sweep: one object that cannot be looked at keeps no other from its turn, and ends with a reason."""

import json

import pytest

from pacifica.common import orm
from pacifica.common.config import Worker
from pacifica.flow import dispatch
from pacifica.flow.config import Settings
from pacifica.flow.orm import SCHEMA, Data, Dependency, Process, State

TRIES = Worker().max_attempts


@pytest.fixture
def objects(database, monkeypatch):
    """Make a data object in a state, waiting for those it is made from."""
    SCHEMA.sync()
    monkeypatch.setattr(dispatch, "settings", lambda: Settings(worker=Worker(retry_seconds=0.0)))
    facts = {"type": "data:a:", "document": "{}", "digest": "", "category": "", "scheduling_class": "batch"}
    made = Process.create(slug="a", version="1.0.0", order=1, name="A", persistence="RAW", **facts)

    def make(state, *parents, process=made.id, **columns):
        data = Data.start(state=state, process=process, type="data:a:", **columns)
        for parent in parents:
            Dependency.create(parent=parent.id, child=data.id, kind="io")
        return data

    return make


def test_an_object_that_cannot_be_looked_at_keeps_no_other_from_its_turn_and_ends(objects):
    parent = objects(State.OK)
    broken = objects(State.RE, parent, process=4711)  # its process is gone
    lost = objects(State.FO, output="no JSON")
    waiting = objects(State.RE, parent)
    follower = objects(State.FO, output=json.dumps({"steps": []}))
    for _ in range(TRIES - 1):
        dispatch.sweep()
        states = dict(Data.select(Data.id, Data.state).tuples())
        assert (states[waiting.id], states[follower.id]) == (State.WT, State.OK)
        assert (states[broken.id], states[lost.id]) == (State.RE, State.FO)
    dispatch.sweep()
    for row in (broken, lost):
        ended = Data.get_by_id(row.id)
        assert ended.state == State.ER
        assert json.loads(ended.process_error)[0].startswith("Internal error (")
    assert dispatch.sweep() == 0


def test_an_object_that_was_put_off_waits_and_the_end_of_a_parent_is_heard_at_once(objects, monkeypatch):
    monkeypatch.setattr(dispatch, "settings", lambda: Settings(worker=Worker(retry_seconds=600.0)))
    broken = objects(State.RE, objects(State.OK), process=4711)
    dispatch.sweep()
    row = Data.get_by_id(broken.id)
    assert (row.tries, row.state) == (1, State.RE)
    assert row.not_before > orm.clock() + 600
    dispatch.sweep()
    assert Data.get_by_id(broken.id).tries == 1


@pytest.mark.parametrize(("classes", "rung"), [([False, False, False], 2), ([True, False], 1), ([True, True], 2)])
def test_an_end_rings_for_all_children_but_the_one_that_its_worker_takes_on(objects, classes, rung):
    parent = objects(State.OK)
    waiting = [objects(State.RE, parent, interactive=interactive) for interactive in classes]
    orm.execute("DELETE FROM outbox")
    with orm.transaction():
        assert dispatch.lead_on(parent)
    assert {Data.get_by_id(row.id).state for row in waiting} == {State.WT}
    assert orm.rows("SELECT count(*) FROM outbox") == [(rung,)]
