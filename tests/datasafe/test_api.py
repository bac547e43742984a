"""LabInform's API over real HTTP: statuses, phrases and headers to the letter, and what is ours beside them."""

import base64
import hashlib
import itertools
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from pacifica.datasafe import manifest
from pacifica.tests.system.datasets import unzipped, zipped
from pacifica.tests.system.suite import Suite, until

ONE = {"a.dat": b"one" * 1000, "sub/b.dat": bytes(range(256)) * 5000, "test.info": b"meta"}
TWO = ONE | {"a.dat": b"two"}
SOUND = b'{"all":true,"data":true}\n'
_subjects = itertools.count(1)


@pytest.fixture
def api(deployment: Suite) -> str:
    return deployment.urls["datasets"]


@pytest.fixture
def series(api: str) -> str:
    """The URL of a series that nobody has used yet."""
    return f"{api}/42.1001/ds/exp/sa/{next(_subjects)}/cwepr"


@pytest.fixture
def url(api: str, series: str) -> str:
    """The URL of a LOI that was just given."""
    return f"{api}/{created(series)}"


@pytest.fixture
def held(url: str) -> str:
    """The URL of a dataset that holds ONE."""
    assert requests.put(url, zipped(ONE), timeout=60).content == SOUND
    return url


def created(series: str) -> str:
    answer = requests.post(series, timeout=60)
    assert answer.status_code == 201, answer.text
    return answer.text


def raw(api: str, method: str, path: str) -> tuple[int, bytes]:
    """Send a path as it is, which requests would tidy."""
    parts = urlsplit(api)
    connection = HTTPConnection(parts.hostname or "", parts.port or 0, timeout=60)
    connection.request(method, path, headers={"Content-Length": "0"})
    answer = connection.getresponse()
    try:
        return answer.status, answer.read()
    finally:
        connection.close()


# ---- the original's wire -----------------------------------------------------------------------------------------


def test_a_normal_run_is_answered_as_the_original_does(api: str, series: str) -> None:
    loi = series.removeprefix(f"{api}/")
    first = requests.post(f"{series}/", timeout=60)
    assert (first.status_code, first.text, first.headers["Content-Type"]) == (
        201, f"{loi}/1", "text/html; charset=utf-8",
    )  # fmt: skip
    assert created(f"{series}/77") == f"{loi}/2"
    url = f"{series}/1"
    assert (requests.get(url, timeout=60).status_code, requests.get(url, timeout=60).content) == (204, b"")
    early = requests.patch(url, zipped(ONE), timeout=60)
    assert (early.status_code, early.text, early.headers["Allow"]) == (405, "Directory empty", "PUT")
    stored = requests.put(url, zipped(ONE), timeout=60)
    assert (stored.status_code, stored.content) == (200, SOUND)
    assert stored.headers["Content-Type"] == "application/json"
    again = requests.put(url, zipped(TWO), timeout=60)
    assert (again.status_code, again.text, again.headers["Allow"]) == (405, "Directory not empty.", "PATCH")
    assert unzipped(requests.get(url, timeout=60).content) == ONE
    changed = requests.patch(url, zipped(TWO), timeout=60)
    assert (changed.status_code, changed.content, changed.headers["X-Pacifica-Version"]) == (200, SOUND, "2")
    assert unzipped(requests.get(url, timeout=60).content) == TWO


@pytest.mark.parametrize(("method", "status"), [("GET", 404), ("PUT", 400), ("PATCH", 400)])
def test_what_was_never_given_does_not_exist(series: str, method: str, status: int) -> None:
    answer = requests.request(method, f"{series}/999", data=b"x", timeout=60)
    assert (answer.status_code, answer.text) == (status, "LOI does not exist.")
    told = requests.request(method, f"{series}/999", data=b"x", headers={"Accept": "application/json"}, timeout=60)
    assert (told.status_code, told.json()["code"]) == (status, "no_such_dataset")


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH"])
def test_an_invalid_loi_is_told_by_its_phrase(api: str, method: str) -> None:
    for loi, phrase in (
        ("42.1001/ds/exp/sa/42/cwepr/abc", "String is not a valid LOI."),
        ("42.1001/ds/exp/sa/42/cwepr/007", "String is not a valid LOI."),
        ("42.1001/ds/exp/sa/42/cwepr/1/", "String is not a valid LOI."),
        ("42.1001/rec/42", "LOI is not a datasafe LOI."),
    ):
        answer = requests.request(method, f"{api}/{loi}", data=b"x", timeout=60)
        assert (answer.status_code, answer.text) == (404, phrase), loi


def test_a_creation_names_an_experiment(api: str) -> None:
    for loi, phrase in (
        ("42.1001/rec/42", "LOI is not a datasafe LOI."),
        ("42.1001/ds/calc/geo/1", "Loi ist not a valid experiment LOI."),
        ("42.1001/ds/exp/sa/42/nmr", "String is not a valid LOI."),
    ):
        answer = requests.post(f"{api}/{loi}", timeout=60)
        assert (answer.status_code, answer.text) == (404, phrase)


def test_an_empty_body_is_told_after_what_the_state_forbids(url: str) -> None:
    for body in (b"", iter([b""])):
        answer = requests.put(url, body, timeout=60)
        assert (answer.status_code, answer.text) == (400, "No content provided to deposit.")
    assert requests.patch(url, b"", timeout=60).text == "Directory empty"
    assert requests.put(url, zipped(ONE), timeout=60).content == SOUND
    assert requests.patch(url, b"", timeout=60).text == "No content provided to deposit."
    assert requests.put(url, b"", timeout=60).text == "Directory not empty."


def test_greetings_and_methods(api: str, url: str) -> None:
    root = api.removesuffix("/api")
    assert requests.get(f"{root}/heartbeat", timeout=60).text == requests.get(f"{api}/", timeout=60).text == "alive"
    assert raw(api, "GET", "/api")[0] == 308
    allowed = requests.options(url, timeout=60)
    assert (allowed.status_code, allowed.headers["Allow"]) == (200, "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT")


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain"])
def test_any_content_type_and_chunks_are_taken(url: str, kind: str) -> None:
    content = zipped(ONE)
    pieces = (content[at : at + 1000] for at in range(0, len(content), 1000))
    assert requests.put(url, pieces, headers={"Content-Type": kind}, timeout=60).content == SOUND
    assert unzipped(requests.get(url, timeout=60).content) == ONE


# ---- taking in -----------------------------------------------------------------------------------------------------


def test_a_refused_upload_says_why_and_changes_nothing(url: str, deployment: Suite) -> None:
    wrong = zipped(
        ONE,
        manifest.write(
            manifest.create("", ["a.dat"], [("test.info", "x", "1")], {"a.dat": "0" * 32, "test.info": "0" * 32})
        ),
    )
    for body, code in (
        (b"no zip", "zip_bad"),
        (zipped(ONE)[:-30], "zip_bad"),
        (wrong, "file_unlisted"),
        (zipped({"../x": b"", "a.dat": b"", "x.info": b""}), "name_traversal"),
        (zipped({"zero": bytes(200 << 20), "x.info": b""}), "ratio"),
    ):
        answer = requests.put(url, body, timeout=60)
        told = answer.json()
        assert (answer.status_code, told["data"], told["all"]) == (422, False, False)
        assert told["faults"][0]["code"] == code and told["count"] >= 1
        assert requests.get(url, timeout=60).status_code == 204
    assert requests.put(url, zipped(ONE), timeout=60).content == SOUND
    assert requests.patch(url, b"no zip", timeout=60).status_code == 422
    assert unzipped(requests.get(url, timeout=60).content) == ONE
    assert {path.name for path in (deployment.archive / "work" / "datasets").iterdir()} <= {"locks"}


def test_a_loi_leads_nowhere_else(api: str, held: str) -> None:
    path = urlsplit(held).path
    for way in (f"{path}/../../x", f"{path}/%2e%2e", f"{path}/..%2f..", f"/api/42.1001//ds{path[15:]}", f"{path}%00",
                f"{path}%0a", "/api/../../../etc/passwd", f"{path}/.."):  # fmt: skip
        for method in ("GET", "PUT", "PATCH", "DELETE"):
            status, body = raw(api, method, way)
            assert status in (400, 404), (method, way, status, body)
    assert unzipped(requests.get(held, timeout=60).content) == ONE


def test_a_manifest_of_another_loi_is_taken_with_a_warning(url: str) -> None:
    md5 = {
        "a": hashlib.md5(b"", usedforsecurity=False).hexdigest(),
        "x.info": hashlib.md5(b"", usedforsecurity=False).hexdigest(),
    }
    listing = manifest.write(manifest.create("42.1001/ds/exp/sa/1/cwepr/7", ["a"], [("x.info", "test", "1")], md5))
    answer = requests.put(url, zipped({"a": b"", "x.info": b""}, listing), timeout=60)
    assert answer.content == SOUND and "another LOI" in answer.headers["Warning"]


@pytest.mark.parametrize("message", ["a\x1b[2J", "\0", "x" * 1001])
def test_a_message_is_text(url: str, message: str) -> None:
    answer = requests.put(url, zipped(ONE), params={"message": message}, timeout=60)
    assert (answer.status_code, answer.json()["parameter"]) == (400, "message")
    assert requests.get(url, timeout=60).status_code == 204
    told = "é\u00a0\u3000two\nlines"
    assert requests.put(url, zipped(ONE), params={"message": told}, timeout=60).status_code == 200
    assert requests.get(f"{url}?versions", timeout=60).json()["versions"][0]["message"] == told


def test_what_the_newest_version_is_already_makes_no_other(held: str, deployment: Suite) -> None:
    def versions() -> list[str]:
        return [one["message"] for one in requests.get(f"{held}?versions", timeout=60).json()["versions"]]

    for _ in range(2):
        again = requests.patch(held, zipped(ONE), timeout=60)
        assert (again.content, again.headers["X-Pacifica-Version"]) == (SOUND, "1")
        assert "Nothing is new: version 1 is just this." in again.headers["Warning"]
    for _ in range(2):  # another message says something new, once
        said = requests.patch(held, zipped(ONE), params={"message": "calibrated"}, timeout=60)
        assert said.headers["X-Pacifica-Version"] == "2"
    assert versions() == ["Stored.", "calibrated"]
    loi = held.partition("/api/")[2]
    until(lambda: deployment.query("SELECT version FROM dataset WHERE loi = ?", loi) == [(2,)], 30, "the rows")


def test_a_request_that_is_sent_again_under_its_key_does_once_what_it_says(api: str, series: str) -> None:
    def key(name: str) -> dict[str, str]:
        return {"Idempotency-Key": f'"{name} of {series}"'}

    given = [requests.post(series, headers=key("creation"), timeout=60) for _ in range(2)]
    assert [(one.status_code, one.text) for one in given] == [(201, given[0].text)] * 2
    assert created(series).endswith("/2")
    url = f"{api}/{given[0].text}"
    stored = [requests.put(url, zipped(ONE), headers=key("first"), timeout=60) for _ in range(2)]
    assert [(one.content, one.headers["X-Pacifica-Version"]) for one in stored] == [(SOUND, "1")] * 2
    assert requests.put(url, zipped(ONE), headers=key("another"), timeout=60).status_code == 405
    more = [requests.patch(url, zipped(TWO), headers=key("second"), timeout=60) for _ in range(2)]
    assert requests.patch(url, zipped(ONE), timeout=60).headers["X-Pacifica-Version"] == "3"
    more += [requests.patch(url, zipped(TWO), headers=key("second"), timeout=60)]
    assert [one.headers["X-Pacifica-Version"] for one in more] == ["2"] * 3  # though it is not the newest any more
    with ThreadPoolExecutor(4) as pool:
        body = zipped(ONE | {"c.dat": b"three"})
        sent = pool.map(lambda _: requests.patch(url, body, headers=key("third"), timeout=60), range(4))
        assert {(one.status_code, one.headers["X-Pacifica-Version"]) for one in sent} == {(200, "4")}
    for method, place, body in (
        ("PATCH", url, zipped(ONE)), ("PATCH", url + "?message=other", zipped(TWO)), ("PUT", url, zipped(TWO)),
        ("POST", series, b""), ("PATCH", f"{series}/2", zipped(TWO)),
    ):  # fmt: skip
        answer = requests.request(method, place, data=body, headers=key("second"), timeout=60)
        assert (answer.status_code, answer.json()["code"]) == (422, "key_reused"), (method, place)
    assert requests.post(series, headers={"Idempotency-Key": "\x7f"}, timeout=60).status_code == 400
    assert len(requests.get(f"{url}?versions", timeout=60).json()["versions"]) == 4


def test_of_changes_to_what_is_no_longer_the_newest_none_is_made(url: str) -> None:
    assert requests.put(url, zipped(ONE), headers={"If-Match": "*"}, timeout=60).status_code == 412
    assert requests.put(url, zipped(ONE), headers={"If-None-Match": "*"}, timeout=60).status_code == 200
    seen = {"If-Match": requests.head(url, timeout=60).headers["ETag"]}
    with ThreadPoolExecutor(4) as pool:  # four who have read version 1 and would each make the second
        bodies = [zipped(ONE | {"a.dat": bytes([at])}) for at in range(4)]
        sent = list(pool.map(lambda body: requests.patch(url, body, headers=seen, timeout=60).status_code, bodies))
    assert sorted(sent) == [200, 412, 412, 412]
    for lost in (
        seen,
        {"If-Match": '"x"'},
        {"If-None-Match": "*"},
        {"If-Unmodified-Since": "Sat, 01 Jan 2000 00:00:00 GMT"},
    ):
        answer = requests.patch(url, zipped(TWO), headers=lost, timeout=60)
        assert (answer.status_code, answer.json()["code"]) == (412, "precondition_failed"), lost
    assert unzipped(requests.get(url, timeout=60).content)["a.dat"] == bytes([sent.index(200)])
    assert len(requests.get(f"{url}?versions", timeout=60).json()["versions"]) == 2


def test_a_change_under_a_condition_that_is_sent_again_is_told_what_it_made(url: str) -> None:
    new = {"If-None-Match": "*", "Idempotency-Key": uuid.uuid4().hex}
    assert [requests.put(url, zipped(ONE), headers=new, timeout=60).status_code for _ in range(2)] == [200, 200]
    seen = {"If-Match": requests.head(url, timeout=60).headers["ETag"], "Idempotency-Key": uuid.uuid4().hex}
    sent = [requests.patch(url, zipped(TWO), headers=seen, timeout=60) for _ in range(2)]
    assert [(one.status_code, one.headers["X-Pacifica-Version"]) for one in sent] == [(200, "2")] * 2
    assert requests.patch(url, zipped(ONE), headers=seen, timeout=60).json()["code"] == "key_reused"
    late = seen | {"Idempotency-Key": uuid.uuid4().hex}
    assert [requests.patch(url, zipped(ONE), headers=late, timeout=60).status_code for _ in range(2)] == [412, 412]
    assert len(requests.get(f"{url}?versions", timeout=60).json()["versions"]) == 2


def test_a_parameter_that_means_nothing_is_refused_and_not_passed_over(held: str, api: str) -> None:
    for place in (
        f"{held}?prefix=42", f"{held}?after=1", f"{held}?limit=1", f"{held}?nonsense=1", f"{held}?versions&version=1",
        f"{held}?file=a.dat&files", f"{api}/?after=1", f"{api}/?version=1", f"{api}/?file=a",
    ):  # fmt: skip
        assert requests.get(place, timeout=60).status_code == 400, place
    assert requests.post(f"{api}/42.1001/ds/exp/sa/42/cwepr?owner=ada", timeout=60).status_code == 400


def test_an_upload_that_is_not_what_its_headers_declare_changes_nothing(held: str) -> None:
    body = zipped(TWO)
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    for headers, code in (
        ({"Content-Digest": f"sha-256=:{'A' * 43}=:"}, "checksum_mismatch"),
        ({"Content-MD5": "A" * 22 + "=="}, "checksum_mismatch"),
        ({"Content-Digest": f"sha-256=:{digest}"}, "bad_request"),
        ({"Content-Range": f"bytes 0-{len(body) - 1}/{len(body)}"}, "bad_request"),
    ):
        assert requests.patch(held, body, headers=headers, timeout=60).json()["code"] == code, headers
    assert len(requests.get(f"{held}?versions", timeout=60).json()["versions"]) == 1
    good = {"Content-Digest": f"sha-256=:{digest}:"}
    assert requests.patch(held, body, headers=good, timeout=60).headers["X-Pacifica-Version"] == "2"


# ---- giving out ----------------------------------------------------------------------------------------------------


def test_versions_last_and_are_listed(held: str) -> None:
    requests.patch(held, zipped(TWO), params={"message": "better"}, timeout=60)
    assert unzipped(requests.get(held, params={"version": 1}, timeout=60).content) == ONE
    listed = requests.get(f"{held}?versions", timeout=60).json()["versions"]
    assert [(one["version"], one["author"], one["message"]) for one in listed] == [
        (1, "root", "Stored."), (2, "root", "better"),
    ]  # fmt: skip
    missing = requests.get(held, params={"version": 3}, timeout=60)
    assert (missing.status_code, missing.text) == (404, "The dataset has no such version.")
    assert requests.get(held, params={"version": "x"}, timeout=60).status_code == 400


def test_a_zip_has_a_length_a_validator_and_ranges(held: str) -> None:
    whole = requests.get(held, timeout=60)
    head = requests.head(held, timeout=60)
    assert head.content == b"" and head.headers["Content-Length"] == str(len(whole.content))
    assert whole.headers["Content-Type"] == "application/zip" and whole.headers["ETag"] == head.headers["ETag"]
    tag = whole.headers["ETag"]
    part = requests.get(held, headers={"Range": "bytes=100-299", "If-Range": tag}, timeout=60)
    assert (part.status_code, part.content) == (206, whole.content[100:300])
    tail = requests.get(held, headers={"Range": "bytes=-50"}, timeout=60)
    assert tail.content == whole.content[-50:]
    stale = requests.get(held, headers={"Range": "bytes=100-299", "If-Range": '"other"'}, timeout=60)
    assert (stale.status_code, stale.content) == (200, whole.content)
    assert requests.get(held, headers={"If-None-Match": tag}, timeout=60).status_code == 304
    assert requests.get(held, headers={"Range": f"bytes={len(whole.content)}-"}, timeout=60).status_code == 416


def test_single_files_are_given_out_with_ranges(held: str) -> None:
    whole = requests.get(held, params={"file": "sub/b.dat"}, timeout=60)
    assert whole.content == ONE["sub/b.dat"]
    digest = base64.b64encode(hashlib.sha512(whole.content).digest()).decode()
    assert whole.headers["Repr-Digest"] == f"sha-512=:{digest}:"
    part = requests.get(held, params={"file": "sub/b.dat"}, headers={"Range": "bytes=1048570-1048580"}, timeout=60)
    assert (part.status_code, part.content) == (206, ONE["sub/b.dat"][1048570:1048581])
    for name in ("absent", "../inventory.json", "sub"):
        assert requests.get(held, params={"file": name}, timeout=60).status_code == 404


def test_the_files_of_a_version_are_listed_with_their_digests(held: str, url: str) -> None:
    requests.patch(held, zipped(TWO), timeout=60)
    for version, files in ((1, ONE), (2, TWO)):
        told = requests.get(f"{held}?files", params={"version": version}, timeout=60).json()
        assert (told["version"], held.endswith(told["loi"])) == (version, True)
        assert told["files"][0]["name"] == manifest.NAME
        assert {one["name"]: (one["size"], one["sha512"], one["md5"]) for one in told["files"][1:]} == {
            name: (len(content), hashlib.sha512(content).hexdigest(), hashlib.md5(content).hexdigest())
            for name, content in files.items()
        }


def test_datasets_are_listed_in_pages_by_the_beginning_of_their_loi(api: str, series: str) -> None:
    given = [created(series) for _ in range(5)]
    requests.put(f"{api}/{given[1]}", zipped(ONE), timeout=60)
    found: list[dict[str, Any]] = []
    query: dict[str, Any] = {"prefix": series.removeprefix(f"{api}/") + "/", "limit": 2}
    while True:
        page = requests.get(f"{api}/", query, timeout=60).json()
        found += page["datasets"]
        if page["next"] is None:
            break
        query["after"] = page["next"]
    assert [one["loi"] for one in found] == given
    assert [(one["version"], one["files"], bool(one["stored"])) for one in found[:2]] == [(0, 0, False), (1, 4, True)]
    for bad in ({"prefix": "%"}, {"prefix": "42", "limit": 0}, {"prefix": "", "after": "x"}, {"prefix": "A_"}):
        assert requests.get(f"{api}/", bad, timeout=60).status_code == 400, bad


# ---- many at once --------------------------------------------------------------------------------------------------


def test_8_times_20_creations_give_160_numbers_without_a_gap(api: str, series: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        given = list(pool.map(lambda _: created(series), range(160)))
    assert sorted(int(loi.rpartition("/")[2]) for loi in given) == list(range(1, 161))


def test_8_times_20_uploads_to_different_lois_all_arrive(api: str, series: str) -> None:
    def one(at: int) -> str:
        url = f"{api}/{created(series)}"
        files = {"a.dat": url.encode() * 10, "x.info": b""}
        assert requests.put(url, zipped(files), timeout=60).content == SOUND
        assert unzipped(requests.get(url, timeout=60).content) == files
        return url

    with ThreadPoolExecutor(8) as pool:
        urls = list(pool.map(one, range(160)))
    assert len(set(urls)) == 160


def test_of_8_uploads_to_one_loi_one_wins_whole(api: str, series: str) -> None:
    for _ in range(20):
        url = f"{api}/{created(series)}"

        def one(at: int, url: str = url) -> tuple[int, int]:
            files = {"a.dat": bytes([at]) * 5000, "b.dat": bytes([at]), "x.info": b""}
            return requests.put(url, zipped(files), timeout=60).status_code, at

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(one, range(8)))
        winners = [at for status, at in answers if status == 200]
        assert len(winners) == 1 and {status for status, _ in answers} <= {200, 405}
        assert unzipped(requests.get(url, timeout=60).content)["a.dat"] == bytes(winners) * 5000


def test_reads_during_patches_are_wholly_old_or_wholly_new(held: str) -> None:
    def version(mark: int) -> dict[str, bytes]:
        return {"a.dat": bytes([mark]) * 300_000, "b.dat": bytes([mark]) * 3, "x.info": b"same"}

    requests.patch(held, zipped(version(0)), timeout=60)
    done, seen = threading.Event(), []

    def read() -> None:
        while not done.is_set():
            answer = requests.get(held, timeout=60)
            assert answer.status_code == 200
            found = unzipped(answer.content)
            assert found == version(found["b.dat"][0])
            seen.append(found["b.dat"][0])

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read) for _ in range(3)]
        try:
            for mark in range(1, 16):
                assert requests.patch(held, zipped(version(mark)), timeout=60).content == SOUND
        finally:
            done.set()
        for reader in readers:
            reader.result()
    assert len(set(seen)) > 1
    assert len(requests.get(f"{held}?versions", timeout=60).json()["versions"]) == 17


def test_each_version_is_announced_once(held: str, deployment: Suite) -> None:
    loi = held.partition("/api/")[2]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda at: requests.patch(held, zipped(ONE | {"a.dat": bytes([at])}), timeout=60), range(8)))
    row = deployment.query("SELECT version, files, owner FROM dataset WHERE loi = ?", loi)
    assert row == [(9, 4, "root")]
    assert deployment.query("SELECT * FROM pending WHERE loi = ?", loi) == []


# ---- the published client ------------------------------------------------------------------------------------------

PROGRAM = """
import os, sys
from pathlib import Path
from datasafe.client import HTTPClient
client = HTTPClient()
client.server_url = sys.argv[1]
folder = sys.argv[2]
found = client.create(sys.argv[3])
print(found)
def attempt(call, *arguments, **named):
    try:
        return call(*arguments, **named)
    except Exception as error:
        return type(error).__name__
print(attempt(client.download, found), attempt(client.update, found, path=folder))
print(client.upload(found, path=folder))
for left in ("MANIFEST.yaml", "dataset.zip"):
    os.remove(Path(folder, left))
print(attempt(client.upload, found, path=folder))
Path(folder, "test.DTA").write_bytes(b"changed")
for left in ("MANIFEST.yaml", "dataset.zip"):
    Path(folder, left).unlink(missing_ok=True)
print(client.update(found, path=folder))
fetched = client.download(found)
print(sorted(os.listdir(fetched)), Path(fetched, "test.DTA").read_bytes())
absent = found.rpartition("/")[0] + "/999"
for call in (client.upload, client.update):
    print(attempt(call, absent, path=folder))
print(attempt(client.download, absent))
print(attempt(client.download, found.replace("cwepr", "nmr")))
"""


def test_the_published_client_finds_what_it_depends_on(
    api: str, series: str, judge: Callable[..., str], tmp_path: Path
) -> None:
    folder = tmp_path / "measured"
    folder.mkdir()
    (folder / "test.DTA").write_bytes(b"\x00" * 10_000)
    (folder / "test.DSC").write_bytes(b"dsc")
    (folder / "test.info").write_bytes(b"cwEPR Info file - v. 0.1.4 (2020-01-21)")
    loi = series.removeprefix(f"{api}/")
    lines = judge("-c", PROGRAM, api.removesuffix("api"), folder, loi, cwd=tmp_path).splitlines()
    assert lines == [
        f"{loi}/1",
        "MissingContentError NoFileError",
        "{'all': True, 'data': True}",
        "ExistingFileError",
        "{'all': True, 'data': True}",
        "['MANIFEST.yaml', 'test.DSC', 'test.DTA', 'test.info'] b'changed'",
        *["LoiNotFoundError"] * 3,
        "InvalidLoiError",
    ]
