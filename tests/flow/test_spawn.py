"""What one run starts, what it leaves behind, and what becomes of that when it is run again."""

import json
import stat

import pytest
import requests

from pacifica.tests.system.flows import PROCESSES, Flow
from pacifica.tests.system.suite import Suite, until


def children(flow, id):
    return flow.get(id, "/children")


def test_exported_files_are_the_inputs_of_what_a_program_starts(flow):
    parent = flow.ended(flow.create("spawn", tags=["lot 7"]))
    assert (parent["status"], parent["process_error"]) == ("OK", [])
    made = [flow.ended(child["id"]) for child in children(flow, parent["id"])]
    assert [(one["process_error"], one["output"]["said"]) for one in made] == [([], "first"), ([], "second")]
    assert [one["name"] for one in made] == ["part 1 one.txt", "part 2 two.txt"]
    assert {(tuple(one["tags"]), one["contributor"]) for one in made} == {(("lot 7",), parent["contributor"])}
    edges = flow.get(parent["id"], "/graph")["edges"]
    assert {(edge["child"], edge["kind"]) for edge in edges} == {(one["id"], "subprocess") for one in made}


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"forgets": True}, "Use 're-export' to prepare the file for spawned process: deep/one.txt"),
        ({"input": "no JSON"}, "The input of 're-run read-part' must be a JSON object."),
        ({"input": '{"part": "/etc/shadow", "number": 1}'}, "Use 're-export' to prepare the file for spawned"),
        ({"input": '{"part": "../../two.txt", "number": 1}'}, "Use 're-export' to prepare the file for spawned"),
        ({"input": '{"number": "x"}'}, "Value of field 'number' is not"),
        ({"input": '{"number": 3}'}, 'Required fields "part" not given.'),
        ({"input": '{"part": "two.txt", "number": 1, "other": 2}'}, "Field definition (other) missing in schema"),
    ],
    ids=str,
)
def test_what_cannot_be_started_is_an_error_of_the_run(flow, given, error):
    data = flow.ended(flow.create("spawn", given))
    assert data["status"] == "ER"
    assert any(said.startswith(error) for said in data["process_error"]), data["process_error"]


def test_a_restart_deletes_what_the_run_had_started_with_its_files(flow):
    failed = flow.ended(flow.create("spawn", {"fails": True}))
    assert failed["process_error"] == ["It went wrong"]
    before = [flow.ended(child["id"])["id"] for child in children(flow, failed["id"])]
    assert len(before) == 2
    files = [file["file_id"] for file in flow.get(failed["id"], "/files")]
    assert requests.post(f"{flow.url}/data/{failed['id']}/restart", timeout=30).status_code == 200
    again = flow.ended(failed["id"])
    assert again["attempt"] == failed["attempt"] + 1
    after = [flow.ended(child["id"])["id"] for child in children(flow, failed["id"])]
    assert len(after) == 2
    assert not set(before) & set(after)
    for id in before:
        assert requests.get(f"{flow.url}/data/{id}", timeout=30).status_code == 404
    for file in files:
        assert requests.get(f"{flow.suite.urls['archive']}/{file}", timeout=30).status_code == 404


def test_a_restart_may_give_other_resources_and_refuses_what_is_none(flow):
    failed = flow.ended(flow.create("fail"))
    url = f"{flow.url}/data/{failed['id']}/restart"
    for wrong in ({"cores": 2}, {"resource_overrides": {"x": {}}}, {"resource_overrides": {"1": {"cores": 0}}}):
        assert requests.post(url, json=wrong, timeout=30).status_code == 400
    given = {"resource_overrides": {str(failed["id"]): {"memory": 64, "cores": 500}}}
    assert requests.post(url, json=given, timeout=30).status_code == 200
    until(lambda: flow.get(failed["id"])["attempt"] == 2, what="the second attempt")
    assert flow.ended(failed["id"])["run"]["resources"] == {"cores": 64, "memory": 64, "storage": 10}


def test_a_run_says_how_it_ran_and_keeps_every_message(flow):
    data = flow.ended(flow.create("number", {"value": 41}))
    assert data["run"]["executor"] == "bubblewrap"
    assert data["run"]["ended"] == "exited"
    assert any(said.startswith("disk:") for said in data["run"]["not_enforced"])
    lines = requests.get(f"{flow.url}/data/{data['id']}/jsonout", timeout=30).text.splitlines()
    said = [json.loads(line) for line in lines]
    assert [one["type_data"] for one in said] == ["progress", "update_output", "update_output"]
    assert said[1] == {"type": "COMMAND", "type_data": "update_output", "data": {"value": 41}}
    stdout = flow.get(data["id"], "/stdout")
    assert data["size"] == len("41\n") + len(stdout.encode()) + sum(len(line) + 1 for line in lines)


def test_what_is_saved_after_the_first_error_is_refused_and_not_kept(flow):
    data = flow.ended(flow.create("saves-late"))
    assert data["output"]["file"]["file"] == "early.txt"
    assert [file["name"] for file in flow.get(data["id"], "/files")] == ["early.txt"]
    assert data["process_warning"] == ["1 later messages of the program were refused because of the error above"]


def test_a_name_that_tells_of_inputs_is_told_when_they_are_there(flow):
    source = flow.create("number", {"value": 6})
    named = flow.create("named-by-parent", {"source": source})
    own = flow.create("named-by-parent", {"source": source}, name="mine")
    assert flow.ended(named)["name"] == "of 6"
    assert flow.ended(own)["name"] == "mine"


def test_the_local_executor_works_as_the_settings_say_for_root_too(open_folder):
    environment = {
        "PACIFICA_FLOW_EXECUTOR": "local",
        "PACIFICA_FLOW_ENVIRONMENT": "SITE=here",
        "PACIFICA_FLOW_HOST_URL": "https://pacifica.example",
        "PACIFICA_FLOW_RESOURCES": "read-part.cores=2",
        "PACIFICA_FLOW_PROGRAM_USER": "daemon",
    }
    suite = Suite(open_folder / "local" / "data", environment)
    suite.data.parent.mkdir()
    suite.data.parent.chmod(0o755)
    suite.start()
    try:
        suite.register(PROCESSES)
        flow = Flow(suite)
        parent = flow.ended(flow.create("spawn"))
        assert parent["process_error"] == []
        made = [flow.ended(child["id"]) for child in children(flow, parent["id"])]
        assert [(one["process_error"], one["output"].get("said")) for one in made] == [([], "first"), ([], "second")]
        assert {one["output"]["cores"] for one in made} == {2}
        assert 0 not in {one["output"]["uid"] for one in made}
        assert made[0]["process_info"] == ["here https://pacifica.example"]
        assert any(said.startswith("isolation:") for said in made[0]["run"]["not_enforced"])
        for folder in (suite.archive, suite.archive / "work"):
            assert not folder.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH)
    finally:
        suite.stop()
