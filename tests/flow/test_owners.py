"""Two users of one flow: neither sees, uses or moves what the other's is."""

import pytest
import requests

from pacifica.tests.system.bundles import bundle
from pacifica.tests.system.flows import PROCESSES
from pacifica.tests.system.suite import Suite, until

ADA, BOB, ROOT = ({"X-Http-Authed-User": name} for name in ("ada", "bob", "root"))


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    environment = {"PACIFICA_AUTH_MODE": "proxy", "PACIFICA_AUTH_ADMINISTRATORS": "root"}
    suite = Suite(tmp_path_factory.mktemp("owners") / "data", environment).start()
    suite.register(PROCESSES)
    yield suite
    suite.stop()


@pytest.fixture(scope="module")
def ask(suite):
    """Ask flow as somebody: ``ask(who, verb, path, json)``."""

    def ask(who, verb, path, json=None):
        return requests.request(verb, f"{suite.urls['flow']}/api{path}", json=json, headers=who, timeout=60)

    return ask


@pytest.fixture(scope="module")
def ended(ask):
    """Run a process as somebody and return the object when it has ended."""

    def ended(who, slug, values):
        id = ask(who, "POST", "/data", {"process": {"slug": slug}, "input": values}).json()["id"]
        return until(
            lambda: (one := ask(who, "GET", f"/data/{id}").json())["status"] in ("OK", "ER") and one, 60, "its end"
        )

    return ended


PARTS = ("", "/parents", "/children", "/stdout", "/jsonout", "/files", "/reuse", "/graph")


def test_what_is_anothers_is_not_there(ask, ended):
    theirs = ended(ADA, "number", {"value": 3})
    made = ended(ADA, "cached", {"factor": 3})
    here, document = f"/data/{theirs['id']}", f"/storage/{made['output']['made']}"
    for path in (*(here + part for part in PARTS), document):
        assert ask(BOB, "GET", path).status_code == 404, path
        assert ask(ADA, "GET", path).status_code == ask(ROOT, "GET", path).status_code == 200, path
        assert requests.get(ask(ADA, "GET", path).url, timeout=60).status_code == 401, path
    for verb, path in (
        ("POST", f"{here}/restart"),
        ("POST", f"{here}/cancel"),
        ("POST", f"{here}/invalidate"),
        ("PATCH", here),
        ("DELETE", here),
    ):
        assert ask(BOB, verb, path, {}).status_code == 404, path
    assert ask(ADA, "GET", here).json() == theirs
    assert theirs["id"] not in {one["id"] for one in ask(BOB, "GET", "/data").json()}
    assert ask(BOB, "GET", "/data?contributor=ada").json() == ask(BOB, "GET", "/data?text=number").json() == []
    assert {theirs["id"], made["id"]} <= {one["id"] for one in ask(ROOT, "GET", "/data").json()}


def test_what_is_anothers_is_no_input(suite, ask, ended):
    theirs = ended(ADA, "number", {"value": 3})
    posted = requests.post(
        f"{suite.urls['ingest']}/upload", data=bundle({"a.txt": b"secret"}), headers=ADA, timeout=60
    ).json()
    state = f"{suite.urls['ingest']}/get_state?job_id={posted['job_id']}"
    until(lambda: requests.get(state, headers=ADA, timeout=60).json()["complete"], 60, "the end of the upload")
    files = ask(ADA, "GET", f"/data/{theirs['id']}/files").json()
    listed = f"{suite.urls['metadata']}/files?transaction={posted['job_id']}"
    uploaded = requests.get(listed, headers=ADA, timeout=60).json()[0]["_id"]
    assert ended(ADA, "sum", {"file": {"file": "a.txt", "file_temp": f"archive:{uploaded}"}})["status"] == "OK"
    for slug, values, status in (
        ("increment", {"source": theirs["id"]}, 400),
        ("sum", {"file": {"file": "a.txt", "file_temp": f"archive:{uploaded}"}}, 404),
        ("sum", {"file": {"file": "a.txt", "file_temp": f"archive:{files[0]['file_id']}"}}, 404),
        ("increment", {}, 400),
        ("increment", {"source": None}, 400),
        ("increment", {"source": True}, 400),
        ("increment", {"source": "1"}, 400),
        ("increment", {"source": 2**70}, 400),
        ("number", {"value": 1, "other": 2}, 400),
        ("number", {"value": 1.5}, 400),
        ("number", [], 400),
        ("sum", {"file": {"file": "../../etc/passwd", "file_temp": "archive:0"}}, 404),
    ):
        answer = ask(BOB, "POST", "/data", {"process": {"slug": slug}, "input": values})
        assert answer.status_code == status, (slug, values, answer.text)
        assert answer.json()["traceback"] == ""
    assert ask(BOB, "GET", "/data").json() == []


def test_a_result_of_anothers_is_not_reused_and_its_slug_stays_taken(ask, ended):
    first = ended(ADA, "cached", {"factor": 17})
    own = ended(BOB, "cached", {"factor": 17})
    assert (own["status"], own["reused_from"]) == ("OK", None)
    assert own["process_info"] != first["process_info"] or own["id"] != first["id"]
    again = {"process": {"slug": "cached"}, "input": {"factor": 17}}
    assert ask(BOB, "POST", "/data/get_or_create", again).json()["id"] == own["id"]
    assert ask(BOB, "POST", "/data", {**again, "slug": first["slug"]}).status_code == 400
