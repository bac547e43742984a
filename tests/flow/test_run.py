"""Flow as a whole: the real suite, real programs, real files."""

import hashlib
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from xml.etree import ElementTree

import pytest
import requests

sys.path.insert(0, str(Path(__file__).parents[1] / "system"))
from bundles import bundle
from flows import PROCESSES, Flow
from suite import Suite, until


def test_a_chain_passes_files_from_run_to_run_and_archives_each(flow):
    first = flow.create("number", {"value": 41})
    second = flow.create("increment", {"source": first})
    data = flow.ended(second)
    assert (data["status"], data["process_error"]) == ("OK", [])
    assert data["output"]["value"] == 42
    assert data["output"]["text"]["file"] == "number.txt"
    (kept,) = flow.get(second, "/files")
    assert flow.suite.content(kept["file_id"]) == b"42\n"
    assert kept["sha256"] == hashlib.sha256(b"42\n").hexdigest()
    assert flow.get(first)["name"] == "number 41"
    assert [parent["id"] for parent in flow.get(second, "/parents")] == [first]
    assert [child["id"] for child in flow.get(first, "/children")] == [second]
    assert "re-save-file text number.txt" in flow.get(second, "/stdout")


def test_a_failure_ends_what_depends_on_it_and_a_restart_tries_again(flow):
    failed = flow.create("fail")
    child = flow.create("increment", {"source": failed})
    assert flow.ended(failed)["process_error"] == ["It went wrong"]
    data = flow.ended(child)
    assert (data["status"], data["process_rc"]) == ("ER", 1)
    assert data["process_error"] == ["One or more inputs have status ERROR"]
    assert requests.post(f"{flow.url}/data/{child}/restart").status_code == 409
    answer = requests.post(f"{flow.url}/data/{failed}/restart")
    assert sorted(answer.json()["restarted"]) == [failed, child]
    assert flow.ended(failed)["attempt"] == 2
    assert flow.ended(child)["status"] == "ER"


def test_a_workflow_follows_its_steps(flow):
    source = flow.create("number", {"value": 1})
    workflow = flow.create("twice", {"source": source})
    data = flow.ended(workflow)
    assert (data["status"], data["process_progress"], data["process_error"]) == ("OK", 100, [])
    assert [flow.get(step)["output"]["value"] for step in data["output"]["steps"]] == [2, 3]
    broken = flow.ended(flow.create("twice", {"source": flow.create("fail")}))
    assert broken["status"] == "ER"


def test_a_running_program_is_cancelled(flow):
    waiting = flow.create("wait")
    until(lambda: "begun" in flow.get(waiting, "/stdout"), what="the program's first line")
    assert requests.post(f"{flow.url}/data/{waiting}/cancel", json={}).json() == {"cancelled": [waiting]}
    data = flow.ended(waiting, 10)
    assert (data["status"], data["process_error"]) == ("ER", ["Processing was cancelled."])


def test_an_interactive_run_does_not_wait_behind_batch_ones(flow):
    waiting = [flow.create("wait") for _ in range(4)]  # twice as many as run at once
    until(lambda: [flow.get(id)["status"] for id in waiting].count("PR") == 2, what="programs in every place")
    assert flow.ended(flow.create("quick"))["status"] == "OK"
    assert [flow.get(id)["status"] for id in waiting].count("WT") == 2
    for id in waiting:
        assert requests.post(f"{flow.url}/data/{id}/cancel", json={}).status_code == 200
    until(lambda: all(flow.get(id)["status"] == "ER" for id in waiting), what="their end")


def test_an_archived_file_is_an_input(flow):
    content = b"some instrument wrote this" * 1000
    job = flow.suite.finished(flow.suite.upload(bundle({"a.dat": content}))["job_id"])
    (file,) = flow.suite.files(job["job_id"])
    given = {"file": {"file": "a.dat", "file_temp": f"archive:{file['_id']}"}}
    data = flow.ended(flow.create("sum", given))
    assert data["process_error"] == []
    assert data["output"] == {"sha256": hashlib.sha256(content).hexdigest()}


def test_an_output_is_fetched_in_a_cart_by_curl_and_read_by_the_next_process(flow, tmp_path):
    made = flow.ended(flow.create("number", {"value": 41}))
    (kept,) = flow.get(made["id"], "/files")
    entry = {"id": kept["file_id"], "path": "out/number.txt", "hashtype": "sha256", "hashsum": kept["sha256"]}
    url = flow.suite.cart(flow.suite.fill_cart([entry]))
    subprocess.run(["curl", "-sSf", "-O", "-J", f"{url}?filename=mine.tar"], cwd=tmp_path, check=True, timeout=60)
    with tarfile.open(tmp_path / "mine.tar") as tar:
        (name,) = [member.name for member in tar if member.isfile()]
        assert name.endswith("out/number.txt")
        content = tar.extractfile(name).read()
    assert content == b"41\n"
    again = {"file": {"file": "number.txt", "file_temp": f"archive:{kept['file_id']}"}}
    assert flow.ended(flow.create("sum", again))["output"] == {"sha256": hashlib.sha256(content).hexdigest()}
    assert flow.ended(flow.create("increment", {"source": made["id"]}))["output"]["value"] == 42


@pytest.mark.parametrize(
    ("document", "status"),
    [
        ({"process": {"slug": "nothing"}}, 404),
        ({"process": 3}, 400),
        ({"process": {"slug": "number"}, "input": {"value": "x"}}, 400),
        ({"process": {"slug": "number"}, "input": {"other": 1}}, 400),
        ({"process": {"slug": "increment"}, "input": {"source": 10**6}}, 400),
        ({"process": {"slug": "sum"}, "input": {"file": {"file": "x", "file_temp": "/etc/shadow"}}}, 400),
        ({"process": {"slug": "sum"}, "input": {"file": {"file": "x", "file_temp": "archive:999999"}}}, 404),
        ({"process": {"slug": "number"}, "resources": {"cores": True}}, 400),
        ({"process": {"slug": "number"}, "slug": "a b"}, 400),
        ({"process": {"slug": "number"}, "unknown": 1}, 400),
        ([], 400),
    ],
)
def test_a_bad_request_is_refused_and_stores_nothing(flow, document, status):
    before = len(requests.get(f"{flow.url}/data?fields=id").json())
    answer = requests.post(f"{flow.url}/data", json=document)
    assert answer.status_code == status, answer.text
    assert answer.json()["traceback"] == ""
    assert len(requests.get(f"{flow.url}/data?fields=id").json()) == before


def test_lists_are_filtered_ordered_cut_and_projected(flow):
    ids = [flow.create("number", {"value": number}, name=f"item {number}", tags=["t"]) for number in (7, 8, 9)]
    listed = requests.get(f"{flow.url}/data?name__startswith=item&ordering=-id&limit=2&fields=id,process__slug").json()
    assert listed == [{"id": id, "process": {"slug": "number"}} for id in sorted(ids, reverse=True)[:2]]
    exact = requests.get(f"{flow.url}/data?type__exact=data:number:&fields=type").json()
    assert len(exact) >= 3
    assert all(row == {"type": "data:number:"} for row in exact)
    refused = requests.get(f"{flow.url}/data?nonsense=1")
    assert refused.status_code == 400
    assert "nonsense" in refused.json()["message"]
    for asked in (f"data/{ids[0]}", f"data/{ids[0]}/children", f"data/{ids[0]}/graph", "process/1"):
        assert requests.get(f"{flow.url}/{asked}?nonsense=1").json()["parameter"] == "nonsense", asked
    child = flow.create("increment", {"source": ids[0]})
    assert flow.get(ids[0], "/children?fields=id") == [{"id": child}]
    slugs = {row["slug"] for row in requests.get(f"{flow.url}/process").json()}
    assert {"number", "increment", "twice"} <= slugs


def test_a_killed_suite_ends_what_it_had_begun(tmp_path):
    suite = Suite(tmp_path / "data").start()
    suite.register(PROCESSES)
    flow = Flow(suite)
    number = flow.create("number", {"value": 5})
    chain = [number]
    for _ in range(10):
        chain.append(flow.create("increment", {"source": chain[-1]}))
    suite.kill()
    flow = Flow(suite.start())
    assert flow.ended(chain[-1])["output"]["value"] == 15
    assert [flow.get(id)["status"] for id in chain] == ["OK"] * 11
    files = [file["file_id"] for id in chain for file in flow.get(id, "/files")]
    assert len(files) == len(set(files)) == 11
    suite.stop()


def test_the_graph_is_told_whole_and_hostile_names_stay_names(flow):
    name = '"];x<script>alert(1)</script>&\\'
    first = flow.create("number", {"value": 1}, name=name)
    second = flow.create("increment", {"source": first})
    for id in (first, second):
        told = flow.get(id, "/graph")
        assert [node["id"] for node in told["nodes"]] == [first, second]
        assert told["edges"] == [{"parent": first, "child": second, "kind": "io"}]
    picture = requests.get(f"{flow.url}/data/{first}/graph?format=svg")
    assert picture.headers["Content-Type"].startswith("image/svg+xml")
    assert ElementTree.fromstring(picture.text).tag.endswith("svg")
    assert "<script" not in picture.text
    text = requests.get(f"{flow.url}/data/{first}/graph?format=dot").text
    assert f"{first} -> {second};" in text
    assert '\\"];x<script>' in text
    assert requests.get(f"{flow.url}/data/{first}/graph?format=png").status_code == 400


def test_a_change_leaves_what_can_never_change(flow):
    data = flow.ended(flow.create("number", {"value": 7}, tags=["old"]))
    url = f"{flow.url}/data/{data['id']}"
    fixed = {"input": {"value": 8}, "process": {"slug": "fail"}, "contributor": "eve", "output": {}, "status": "ER"}
    assert requests.patch(url, json=fixed).status_code == 204
    changed = requests.patch(url, json=fixed | {"name": "mine", "slug": "my-seven", "tags": ["new", "newer"]})
    assert (changed.status_code, changed.json()["name"], changed.json()["slug"]) == (200, "mine", "my-seven")
    after = flow.get(data["id"])
    same = ("input", "output", "status", "contributor", "process", "process_progress", "checksum", "size")
    assert {key: after[key] for key in same} == {key: data[key] for key in same}
    assert after["tags"] == ["new", "newer"]
    assert [one["id"] for one in requests.get(f"{flow.url}/data?tags=newer&fields=id").json()] == [data["id"]]
    other = flow.create("number")
    assert requests.patch(f"{flow.url}/data/{other}", json={"slug": "my-seven"}).status_code == 400
    assert requests.delete(url).status_code == 204
    assert requests.get(url).status_code == 404


def test_nobody_can_take_the_slugs_of_objects_to_come(flow):
    process, last = {"slug": "number"}, flow.create("number")
    coming = [{"process": process, "slug": f"number-{last + ahead}"} for ahead in range(10, 30)]
    made = requests.post(f"{flow.url}/data/bulk", json=[*coming, *[{"process": process}] * 5])
    assert made.status_code == 201, made.text
    ids = [*made.json()["ids"], *(flow.create("number") for _ in range(10))]
    slugs = {id: flow.get(id)["slug"] for id in ids}
    assert len(set(slugs.values())) == len(ids)
    lengthened = [id for id in ids[20:] if re.fullmatch(f"number-{id}-[0-9a-f]{{32}}", slugs[id])]
    assert lengthened == [id for id in ids[20:] if last + 10 <= id < last + 30] != []


def test_a_stored_document_is_read_and_projected(flow):
    data = flow.ended(flow.create("cached", {"factor": 3}))
    url = f"{flow.url}/storage/{data['output']['made']}"
    assert requests.get(url).json()["json"] == {"factor": 3}
    assert requests.get(f"{url}?fields=json__factor").json() == {"json": {"factor": 3}}
    assert requests.get(f"{url}?fields=").json()["id"] == data["output"]["made"]
    assert requests.get(f"{flow.url}/storage/999999").status_code == 404
    assert requests.get(f"{flow.url}/storage").status_code in (400, 404)


def test_an_interactive_run_has_little_time(flow):
    data = flow.ended(flow.create("busy"))
    assert data["status"] == "ER"
    assert "CPU" in data["process_error"][0]
    assert data["run"]["ended"] != "cancelled"


def test_an_id_in_the_query_filters_the_list(flow):
    data = flow.get(flow.create("number"))
    for kind, id in (("data", data["id"]), ("process", data["process"]["id"])):
        assert [one["id"] for one in requests.get(f"{flow.url}/{kind}", {"id": id}).json()] == [id]
        assert requests.get(f"{flow.url}/{kind}", {"id": 999_999}).json() == []


def test_whether_a_slug_is_taken_can_be_asked(flow):
    slug = flow.get(flow.create("number"))["slug"]
    for kind, taken in (("data", slug), ("process", "number")):
        asked = f"{flow.url}/{kind}/slug_exists"
        assert [requests.get(asked, {"name": name}).json() for name in (taken, "nobody-has-this")] == [True, False]
        assert requests.get(asked).status_code == 400
