"""The catalogue over HTTP, as users ask it, on both databases."""

import hashlib
import uuid
from typing import Any

import pytest
import requests

from pacifica.tests.system.bundles import TRANSACTION, bundle, entry
from pacifica.tests.system.datasets import zipped
from pacifica.tests.system.suite import Suite, until


def found(suite: Suite, **query: Any) -> dict[str, Any]:
    answer = requests.get(suite.urls["catalog"], query, timeout=30)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def entered(suite: Suite) -> None:
    """Wait until nothing is left to be entered."""
    until(lambda: found(suite, limit=1)["pending"] == 0, 60, "the catalogue's index")


@pytest.fixture
def word(deployment: Suite) -> str:
    """A word that nothing else has."""
    return f"w{uuid.uuid4().hex}"


@pytest.fixture
def transaction(deployment: Suite, word: str) -> int:
    """A transaction of two files; the word is said of it."""
    files = {f"run/{word}.dat": word.encode(), "notes 1.txt": word[::-1].encode()}
    said = [{"destinationTable": "TransactionKeyValue", "key": "sample", "value": f"the {word}"}]
    of_file = [{"destinationTable": "FileKeyValue", "path": "notes 1.txt", "key": "gain", "value": "5.66%"}]
    about = [*TRANSACTION, *(entry(path, content) for path, content in files.items())]
    job = int(deployment.upload(bundle(files, [*about, *said, *of_file]))["job_id"])
    assert deployment.finished(job, 60)["state"] == "OK"
    entered(deployment)
    return job


@pytest.fixture
def loi(deployment: Suite, word: str) -> str:
    """A dataset that was stored with the word as its message."""
    api = deployment.urls["datasets"]
    given = requests.post(f"{api}/42.1001/ds/exp/sa/77/cwepr", timeout=60).text
    body = zipped({f"{word}.DTA": word.encode(), "x.info": b""})
    requests.put(f"{api}/{given}", body, params={"message": f"about {word}"}, timeout=60).raise_for_status()
    entered(deployment)
    return given


def test_a_transaction_and_its_files_are_found_by_all_that_is_known_of_them(
    deployment: Suite, word: str, transaction: int
) -> None:
    digest = hashlib.sha1(word.encode()).hexdigest()
    (file,) = found(deployment, kind="file", name=f"{word}.dat")["found"]
    assert (file["transaction"], file["subdir"], file["hashsum"], file["size"]) == (
        transaction, "run", digest, len(word),
    )  # fmt: skip
    assert (file["project"], file["instrument"], file["submitter"]) == ("1234a", "54", "10")
    (told,) = found(deployment, kind="transaction", text=word)["found"]
    assert told["transaction"] == transaction and told["key_values"] == [{"key": "sample", "value": f"the {word}"}]
    for query in (
        {"text": f"{word[:12]}* dat"},
        {"name": f"run/{word}.dat"},
        {"name": f"{word[:20]}*"},
        {"checksum": digest},
        {"checksum": f"sha1:{digest.upper()}"},
        {"text": f"{word.upper()} RUN"},
        {"key": "sample", "value": f"the {word}", "name": f"run/{word}*"},
        {"project": "1234a", "instrument": "54", "submitter": "10", "transaction": transaction, "text": "dat"},
    ):
        ids = [one["id"] for one in found(deployment, kind="file", **query)["found"]]
        assert ids == [file["id"]], query
    (other,) = found(deployment, kind="file", key="gain", value="5.66%", text=word)["found"]
    assert other["name"] == "notes 1.txt"
    kinds = [one["kind"] for one in found(deployment, key="sample", value=f"the {word}")["found"]]
    assert kinds == ["transaction", "file", "file"]
    assert found(deployment, transaction=transaction, until="2001-01-01")["found"] == []
    assert len(found(deployment, transaction=transaction, since="2001-01-01")["found"]) == 3


def test_a_dataset_is_found_by_its_loi_its_files_and_its_message(deployment: Suite, word: str, loi: str) -> None:
    for query in (
        {"loi": loi},
        {"loi": loi.removeprefix("42.1001/"), "text": "about"},
        {"name": f"{word}.DTA"},
        {"checksum": hashlib.sha512(word.encode()).hexdigest()},
        {"checksum": f"md5:{hashlib.md5(word.encode()).hexdigest()}"},
        {"text": f"{word} cwepr dta"},
    ):
        (one,) = found(deployment, kind="dataset", **query)["found"]
        assert (one["loi"], one["version"], one["files"]) == (loi, 1, 3), query
    assert found(deployment, name=f"{word}.DTA")["found"][0]["matches"] == [f"{word}.DTA"]
    url = f"{deployment.urls['datasets']}/{loi}"
    requests.patch(url, zipped({"other.dat": b"x", "x.info": b""}), timeout=60).raise_for_status()
    entered(deployment)
    assert found(deployment, name=f"{word}.DTA")["found"] == []
    assert found(deployment, loi=loi)["found"][0]["version"] == 2


def test_an_answer_is_read_page_by_page(deployment: Suite, word: str, transaction: int, loi: str) -> None:
    seen, cursor = [], {}
    while True:
        page = found(deployment, text=word, limit=1, **cursor)
        assert len(page["found"]) <= 1
        seen += page["found"]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert seen == found(deployment, text=word)["found"]
    assert [one["kind"] for one in seen] == ["dataset", "transaction", "file", "file"]


@pytest.mark.parametrize(
    ("query", "parameter"),
    [("nonsense=1", "nonsense"), ("text=", "text"), ("text=a&text=b", "text"), ("since=never", "since"),
     ("name=%00", "name"), ("kind=dataset&transaction=7", "transaction"), ("limit=many", "limit")],
)  # fmt: skip
def test_a_question_that_makes_no_sense_is_refused_by_name(deployment: Suite, query: str, parameter: str) -> None:
    answer = requests.get(f"{deployment.urls['catalog']}?{query}", timeout=30)
    assert (answer.status_code, answer.json()["code"], answer.json()["parameter"]) == (400, "bad_request", parameter)


@pytest.mark.parametrize(
    "query", ["text=%ED%A0%80", "text=%FF", "project=%FF%00", "text=" + "%22" * 900, "text=" + "x*" * 400]
)
def test_hostile_bytes_are_no_fault_of_the_server(deployment: Suite, query: str) -> None:
    answer = requests.get(f"{deployment.urls['catalog']}?{query}", timeout=30)
    assert answer.status_code in (200, 400, 404, 414), answer.text


# ---- same content ----------------------------------------------------------------------------------------------------


def job(suite: Suite, files: dict[str, bytes]) -> dict[str, Any]:
    """Upload ``files`` and return what is told of the job."""
    id = suite.upload(bundle(files))["job_id"]
    assert suite.finished(id, 60)["state"] == "OK"
    return dict(requests.get(f"{suite.urls['ingest']}/jobs/{id}", timeout=30).json())


def test_content_that_is_held_already_is_told_of_a_job(deployment: Suite, word: str, transaction: int) -> None:
    again = job(deployment, {"copy/a.dat": word.encode(), "new": f"not {word}".encode(), "empty": b""})
    (held,) = found(deployment, kind="file", name=f"{word}.dat")["found"]
    (copy,) = [file for file in deployment.files(again["job_id"]) if file["name"] == "a.dat"]
    assert again["same_content"] == {
        "files": 1,
        "examples": [
            {"file": copy["_id"], "path": "copy/a.dat", "same_as": {"file": held["id"], "transaction": transaction}}
        ],
    }
    first = job(deployment, {"x": f"only {word}".encode()})
    assert first["same_content"] == {"files": 0, "examples": []}


def test_many_repeated_files_are_counted_and_a_few_are_named(deployment: Suite, word: str) -> None:
    files = {f"{number}.dat": f"{word} {number}".encode() for number in range(1200)}
    assert job(deployment, files)["same_content"]["files"] == 0
    entered(deployment)
    told = job(deployment, files | {"more": f"{word} more".encode()})["same_content"]
    assert (told["files"], told["at_least"], len(told["examples"])) == (1000, True, 5)
    told = job(deployment, dict(list(files.items())[:900]) | {"new": f"{word} new".encode()})["same_content"]
    assert (told["files"], "at_least" in told, len(told["examples"])) == (900, False, 5)


def test_content_that_is_held_already_is_told_of_a_dataset(
    deployment: Suite, word: str, transaction: int, loi: str
) -> None:
    api = deployment.urls["datasets"]
    other = requests.post(f"{api}/42.1001/ds/exp/sa/78/cwepr", timeout=60).text
    files = {"same.DTA": word.encode(), "own.DTA": f"own {word}".encode(), "x.info": b""}
    stored = requests.put(f"{api}/{other}", zipped(files), timeout=60)
    assert stored.content == b'{"all":true,"data":true}\n'
    assert stored.headers["Warning"] == (
        f'199 - "Same content as held already, 1 of 2 new files: same.DTA: {loi}"'
    )  # fmt: skip
    entered(deployment)
    patched = requests.patch(f"{api}/{other}", zipped(files | {"new.DTA": f"new {word}".encode()}), timeout=60)
    assert patched.status_code == 200 and "Warning" not in patched.headers
