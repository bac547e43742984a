"""Results used again: hits, joins and misses, each with its reason, in the real suite."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests

sys.path.insert(0, str(Path(__file__).parents[1] / "system"))
from bundles import bundle
from flows import PROCESSES


def made_by(data):
    """A run of its own prints a number of its own."""
    return data["process_info"]


def test_an_equal_run_is_answered_at_once_and_its_files_outlive_the_first(flow):
    first = flow.ended(flow.create("cached", {"factor": 3}))
    again = flow.get(flow.create("cached", {"factor": 3}))
    assert (again["status"], again["reused_from"], again["attempt"]) == ("OK", first["id"], 0)
    assert (again["output"], made_by(again)) == (first["output"], made_by(first))
    assert flow.get(again["id"], "/files") == flow.get(first["id"], "/files")
    assert "working" in flow.get(again["id"], "/stdout")
    told = flow.get(again["id"], "/reuse")
    assert (told["reuse"], told["from"]) == ("hit", first["id"])
    (kept,) = flow.get(again["id"], "/files")
    assert requests.delete(f"{flow.url}/data/{first['id']}").status_code == 204
    assert flow.suite.content(kept["file_id"]) == b"3\n"
    assert "working" in flow.get(again["id"], "/stdout")
    third = flow.get(flow.create("cached", {"factor": 3}))
    assert (third["status"], made_by(third)) == ("OK", made_by(first))
    for id in (again["id"], third["id"]):
        assert requests.delete(f"{flow.url}/data/{id}").status_code == 204
    assert requests.get(f"{flow.suite.urls['archive']}/{kept['file_id']}").status_code == 404
    fresh = flow.ended(flow.create("cached", {"factor": 3}))
    assert fresh["reused_from"] is None


def test_inputs_count_by_their_content_and_a_miss_names_the_part_that_differs(flow):
    sources = [flow.ended(flow.create("number", {"value": value}))["id"] for value in (5, 5, 6)]
    runs = [flow.ended(flow.create("cached", {"source": source})) for source in sources]
    assert [run["reused_from"] for run in runs] == [None, runs[0]["id"], None]
    told = flow.get(runs[2]["id"], "/reuse")
    assert (told["reuse"], told["nearest"], list(told["differs"])) == ("miss", runs[1]["id"], ["input.source"])
    raw = flow.get(sources[1], "/reuse")
    assert raw["reuse"] == "never"
    assert "RAW" in raw["reason"]
    own = flow.ended(flow.create("cached", {"source": sources[0]}, reuse=False))
    assert (own["reused_from"], flow.get(own["id"], "/reuse")["reuse"]) == (None, "never")


def test_archived_files_count_by_their_digest(flow):
    content = b"the same bytes, twice"
    jobs = [flow.suite.finished(flow.suite.upload(bundle({"a.dat": content}))["job_id"]) for _ in range(2)]
    ids = [flow.suite.files(job["job_id"])[0]["_id"] for job in jobs]
    given = [{"file": {"file": "a.dat", "file_temp": f"archive:{id}"}} for id in ids]
    assert ids[0] != ids[1]
    first = flow.ended(flow.create("sum-cached", given[0]))
    assert flow.ended(flow.create("sum-cached", given[1]))["reused_from"] == first["id"]


def test_equal_runs_at_once_run_once(flow):
    slow = {"factor": 11, "seconds": 1}
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda _: flow.create("cached", slow), range(8)))
    runs = [flow.ended(id) for id in ids]
    assert [run["status"] for run in runs] == ["OK"] * 8
    assert sorted(run["attempt"] for run in runs) == [0] * 7 + [1]
    assert len({tuple(made_by(run)) for run in runs}) == 1


def test_who_joined_a_run_that_is_cancelled_runs_itself(flow):
    given = {"factor": 12, "stuck": flow.create("number") + 1}
    first, joined = (flow.create("cached", given) for _ in range(2))
    assert first == given["stuck"]
    told = flow.get(joined, "/reuse")
    assert (told["reuse"], told["from"], flow.get(joined)["status"]) == ("joined", first, "RE")
    assert requests.post(f"{flow.url}/data/{first}/cancel", json={}).status_code == 200
    assert flow.ended(first)["status"] == "ER"
    data = flow.ended(joined)
    assert (data["status"], data["reused_from"], data["attempt"]) == ("OK", None, 1)


def test_a_failed_run_and_an_invalidated_one_are_not_used(flow):
    failed = flow.ended(flow.create("cached", {"factor": 13, "fails": True}))
    assert failed["status"] == "ER"
    again = flow.ended(flow.create("cached", {"factor": 13, "fails": True}))
    assert (again["attempt"], flow.get(again["id"], "/reuse")["reason"]) == (1, "the equal run failed")
    first = flow.ended(flow.create("cached", {"factor": 14}))
    second = flow.ended(flow.create("cached", {"factor": 14}))
    child = flow.ended(flow.create("cached", {"source": second["id"], "factor": 14}))
    answer = requests.post(f"{flow.url}/data/{first['id']}/invalidate", json={"graph": True})
    assert sorted(answer.json()["invalidated"]) == [first["id"], second["id"], child["id"]]
    third = flow.ended(flow.create("cached", {"factor": 14}))
    assert third["reused_from"] is None
    assert "invalidated" in flow.get(third["id"], "/reuse")["reason"]
    assert flow.ended(flow.create("cached", {"factor": 14}))["reused_from"] == third["id"]


def test_the_steps_of_a_workflow_are_reused(flow):
    first, second = (flow.ended(flow.create("cached-twice", {"factor": 21})) for _ in range(2))
    assert (second["status"], second["process_progress"]) == ("OK", 100)
    assert first["output"]["steps"] != second["output"]["steps"]
    steps = [flow.get(step) for step in second["output"]["steps"]]
    assert [step["reused_from"] for step in steps] == first["output"]["steps"]
    assert [step["output"]["value"] for step in steps] == [21, 42]
    assert "steps are" in flow.get(second["id"], "/reuse")["reason"]


def test_a_program_that_prints_who_its_inputs_are_is_reused_for_these_alone(flow):
    one, other = (flow.ended(flow.create("number", {"value": 8}, name=name))["id"] for name in ("one", "other"))
    assert flow.ended(flow.create("named", {"source": one}))["output"] == {"said": "one"}
    assert flow.ended(flow.create("named", {"source": other}))["output"] == {"said": "other"}
    assert flow.ended(flow.create("named", {"source": one}))["reused_from"] is not None


def test_get_or_create_finds_what_will_be_or_has_the_result(flow):
    def ask(factor, **more):
        body = {"process": {"slug": "cached"}, "input": {"factor": factor, **more}}
        answer = requests.post(f"{flow.url}/data/get_or_create", json=body)
        return answer.status_code, answer.json()

    status, first = ask(31)
    assert status == 201
    assert ask(31)[1]["id"] == first["id"]
    flow.ended(first["id"])
    status, found = ask(31)
    assert (status, found["id"], found["checksum"]) == (200, first["id"], first["checksum"])
    failed = flow.ended(ask(32, fails=True)[1]["id"])
    status, another = ask(32, fails=True)
    assert (status, another["id"] == failed["id"]) == (201, False)
    body = {"process": {"slug": "number"}, "input": {"value": 1}}
    assert [requests.post(f"{flow.url}/data/get_or_create", json=body).status_code for _ in "12"] == [201, 201]
    bad = {"process": {"slug": "cached"}, "input": {"factor": "x"}}
    assert requests.post(f"{flow.url}/data/get_or_create", json=bad).status_code == 400


def test_a_definition_that_was_overwritten_is_another(flow, tmp_path):
    changed = (PROCESSES / "reuse.yml").read_text()
    first = flow.ended(flow.create("cached", {"factor": 41}))
    (tmp_path / "reuse.yml").write_text(changed.replace("echo working", "echo changed"))
    flow.suite.register(tmp_path, "--force")
    try:
        second = flow.ended(flow.create("cached", {"factor": 41}))
        assert second["reused_from"] is None
        told = flow.get(second["id"], "/reuse")
        assert (told["nearest"], list(told["differs"])) == (first["id"], ["process"])
    finally:
        flow.suite.register(PROCESSES, "--force")
    assert flow.get(flow.create("cached", {"factor": 41}))["reused_from"] == first["id"]
