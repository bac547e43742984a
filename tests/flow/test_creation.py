"""Who may be asked to run: a process by slug or id, as long as it is active."""

import json

import pytest

from pacifica.common.errors import BadRequest, NotFound
from pacifica.flow import bulk
from pacifica.flow.creation import Owner, create, process_of
from pacifica.flow.orm import SCHEMA, Data, Process
from pacifica.flow.versions import newest


@pytest.fixture
def processes(sqlite):
    """Three versions, the newest of them retired; and a process of which nothing is active."""
    SCHEMA.sync()
    for order, (slug, active) in enumerate([("a", True), ("a", True), ("a", False), ("gone", False)]):
        run = {"language": "bash", "program": ""}
        document = {"slug": slug, "name": slug, "type": "data:a:", "version": f"{order}.0.0", "run": run}
        Process.create(
            slug=slug, version=f"{order}.0.0", order=order, name=slug, type="data:a:", category="Other:",
            persistence="RAW", scheduling_class="batch", is_active=active, document=json.dumps(document), digest="",
        )  # fmt: skip
    return {(row.slug, row.order): row.id for row in Process.select()}


def test_a_slug_is_its_newest_active_version_and_an_id_any_active_one(processes):
    assert process_of({"slug": "a"}, newest).order == 1
    assert process_of({"id": processes["a", 0]}, newest).order == 0


def test_what_was_retired_makes_no_new_data(processes):
    for wanted in ({"slug": "gone"}, {"id": processes["gone", 3]}, {"id": processes["a", 2]}):
        with pytest.raises(BadRequest, match="no longer active"):
            process_of(wanted, newest)


def test_many_whose_names_take_too_long_to_make_are_refused_and_none_is_stored(processes, monkeypatch):
    given = [{"process": {"slug": "a"}, "input": {}}] * 3
    assert len(bulk.create(given, Owner("ann"))) == 3
    monkeypatch.setattr(bulk, "MAKING_SECONDS", 0.0)
    with pytest.raises(BadRequest, match="take more than 0 s"):
        bulk.create(given, Owner("ann"))
    assert Data.select().count() == 3


def test_of_two_that_take_a_slug_at_once_the_second_is_refused(database):
    SCHEMA.sync()
    document = {
        "slug": "a",
        "name": "a",
        "type": "data:a:",
        "version": "1.0.0",
        "run": {"program": "", "language": "bash"},
    }
    process = Process.create(
        slug="a", version="1.0.0", order=1, name="a", type="data:a:", category="Other:",
        persistence="RAW", scheduling_class="batch", document=json.dumps(document), digest="",
    )  # fmt: skip
    create(process, {}, Owner("ann"), slug="same")  # after both have seen that it is free
    with pytest.raises(BadRequest, match="The slug same is taken"):
        create(process, {}, Owner("bob"), slug="same")
    assert [row.owner for row in Data.select()] == ["ann"]


@pytest.mark.parametrize("wanted", [{"slug": "none"}, {"id": 999}, {"id": 1 << 70}, {"id": -1}])
def test_what_never_was_is_not_found(processes, wanted):
    with pytest.raises(NotFound):
        process_of(wanted, newest)


@pytest.mark.parametrize("wanted", [None, "a", {}, {"id": "1"}, {"id": True}, {"slug": 1}])
def test_anything_else_is_refused(processes, wanted):
    with pytest.raises(BadRequest, match="process must be"):
        process_of(wanted, newest)
