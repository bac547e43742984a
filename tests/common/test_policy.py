"""The embedded policy, and the catalogue that it asks."""

from typing import Any

import pytest

from pacifica.common.curation import TABLES, BadCatalogue, listed, load
from pacifica.common.errors import BadRequest
from pacifica.common.policy import PolicyRefused, admit, select

pytestmark = pytest.mark.usefixtures("database")

CATALOGUE: dict[str, list[dict[str, Any]]] = {
    "users": [{"_id": 10, "network_id": "Ann", "first_name": "Ann"}, {"_id": 11, "network_id": "bob"}, {"_id": 12}],
    "projects": [{"_id": "1234a", "title": "One"}, {"_id": "5b", "title": "Two"}],
    "instruments": [{"_id": 54, "name": "nmr", "active": True}, {"_id": 55, "name": "tof"}],
    "project_user": [{"project": "1234a", "user": 10}, {"project": "5b", "user": 12, "relationship": "principal"}],
    "instrument_user": [{"instrument": 54, "user": 11}],
    "project_instrument": [{"project": "1234a", "instrument": 54}, {"project": "5b", "instrument": 55}],
}


def about(submitter: object, project: object, instrument: object) -> dict[str, object]:
    return {"submitter": submitter, "project": project, "instrument": instrument}


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        (about(10, "1234a", 54), None),
        (about("10", "1234a", "54"), None),
        (about(11, "1234a", 54), None),  # the instrument's custodian
        (about(99, "1234a", 54), "submitter"),
        (about(10, "x", 99), "project, instrument"),
        (about(10, "5b", 55), "project (5b) not in user instrument list"),
        (about(12, "5b", 55), "project (5b) not in user instrument list"),  # related, but no member
        (about(10, "1234a", 55), "project (1234a) not in user instrument list"),
    ],
)
def test_in_mode_catalog_all_are_known_and_related(said: dict[str, object], wrong: str | None):
    load(CATALOGUE)
    admit("open", said)
    if wrong is None:
        admit("catalog", said)
        return
    with pytest.raises(PolicyRefused) as refused:
        admit("catalog", said)
    assert refused.value.message == f"Precondition Failed: Invalid values for {wrong}"
    assert refused.value.status == 412


def test_mode_open_still_wants_all_three():
    with pytest.raises(PolicyRefused):
        admit("open", {"submitter": 1, "project": "x"})


def ask(mode: str, source: str, user: object = 10, **where: object) -> list[Any]:
    return [row["_id"] for row in select(mode, {"user": user, "from": source, "columns": ["_id"], "where": where})]


def test_an_uploader_is_offered_what_it_may_choose():
    load(CATALOGUE)
    assert ask("catalog", "users", -1, network_id="ANN") == [10]
    assert ask("catalog", "users", -1, network_id="nobody") == []
    assert ask("catalog", "users", project_id="1234a") == [10]
    assert ask("catalog", "projects") == ask("catalog", "projects", instrument_id=54) == ["1234a"]
    assert ask("catalog", "projects", 11, instrument_id=54) == ["1234a"]
    assert ask("catalog", "instruments", 11) == ask("catalog", "instruments", project_id="1234a") == [54]
    assert ask("open", "projects") == ["1234a", "5b"]
    assert ask("open", "users", -1, network_id="nobody") == ["nobody"]
    assert ask("open", "projects", _id="new") == ["new"]


@pytest.mark.parametrize("query", [[], {}, {"user": 1, "from": "groups", "columns": []}, {"user": 1, "from": []}])
def test_a_query_that_is_none_is_refused(query: Any):
    with pytest.raises(BadRequest):
        select("open", query)


def test_what_is_listed_can_be_loaded_and_loading_again_changes():
    load(CATALOGUE)
    shown = {name: listed(name) for name in TABLES}
    load(shown, replace=True)
    assert {name: listed(name) for name in TABLES} == shown
    load({"projects": [{"_id": "5b", "title": "Changed"}]})
    assert [row["title"] for row in listed("projects")] == ["One", "Changed"]
    load({"project_user": []}, replace=True)
    assert listed("project_user") == []


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"groups": []},
        {"users": {}},
        {"users": [{"network_id": "x"}]},
        {"users": [{"_id": 1, "first_name": 5}]},
        {"users": [{"_id": 1, "first_name": "a\0"}]},
        {"projects": [{"_id": "new"}], "project_user": [{"project": "new", "user": 99}]},
    ],
)
def test_a_catalogue_with_a_fault_is_refused_whole(document: Any):
    with pytest.raises(BadCatalogue):
        load(document)
    assert not any(listed(name) for name in TABLES)
