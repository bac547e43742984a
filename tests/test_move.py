"""POST /move: files of this machine, taken from below listed folders, all or none, and gone only once archived."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from pacifica.tests.system.bundles import TRANSACTION, entry
from pacifica.tests.system.suite import Suite, until

FILES = {"a": b"alpha", "run/b": bytes(range(256)) * 8192, "run/empty": b"", "ü " + "n" * 120: b"omega" * 300}


@pytest.fixture(scope="module")
def mover(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """A suite that may take files from ``root``."""
    folder = tmp_path_factory.mktemp("mover")
    (folder / "root").mkdir()
    suite = Suite(folder / "data", {"PACIFICA_INGEST_MOVE_ROOTS": f"{folder / 'none'}, {folder / 'root'}"})
    try:
        yield suite.start()
    finally:
        suite.kill()


@pytest.fixture
def root(mover: Suite) -> Path:
    return mover.data.parent / "root"


def put(root: Path, files: dict[str, bytes] = FILES) -> list[dict[str, Any]]:
    """Write ``files`` below a fresh folder of ``root`` and return the list that moves them."""
    folder = root / os.urandom(4).hex()
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return [*TRANSACTION, *(entry(name, content, source=str(folder / name)) for name, content in files.items())]


def post(suite: Suite, body: Any, **headers: str) -> requests.Response:
    """POST ``body``, as JSON unless it is bytes."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return requests.post(
        f"{suite.urls['ingest']}/move", data=data, headers={"Content-Type": "application/json"} | headers, timeout=60
    )


def moved(suite: Suite, body: Any) -> dict[str, Any]:
    """Post ``body`` and return the job once it is over."""
    answer = post(suite, body)
    assert answer.status_code == 200, answer.text
    suite.finished(answer.json()["job_id"])
    return dict(requests.get(f"{suite.urls['ingest']}/jobs/{answer.json()['job_id']}", timeout=30).json())


def sources(body: list[dict[str, Any]]) -> list[Path]:
    return [Path(each["source"]) for each in body if "source" in each]


# ---- what is moved -------------------------------------------------------------------------------------------------


def test_a_list_is_archived_and_then_its_sources_are_gone(mover: Suite, root: Path) -> None:
    body = put(root)
    (sources(body)[0].parent / "bystander").write_bytes(b"stays")
    job = moved(mover, body)
    assert (job["state"], job["kind"], job["files"]["total"]) == ("ARCHIVED", "move", len(FILES))
    found = {f"{file['subdir']}/{file['name']}".lstrip("/"): file for file in mover.files(job["job_id"])}
    assert {path: mover.content(file["_id"]) for path, file in found.items()} == FILES
    assert found["run/b"]["hashsum"] == hashlib.sha1(FILES["run/b"]).hexdigest()
    until(lambda: not any(path.exists() for path in sources(body)), 30, "the end of the sources")
    left = [path for path in sources(body)[0].parent.rglob("*") if path.is_file()]
    assert [path.name for path in left] == ["bystander"]
    until(lambda: not mover.spooled(), 30, "an empty spool")


def test_the_first_answer_and_the_last_state_are_pacificas(mover: Suite, root: Path) -> None:
    answer = post(mover, put(root)).json()
    assert (answer["state"], answer["complete"]) == ("OK", False) or answer["complete"]
    last = mover.finished(answer["job_id"])
    assert (last["state"], last["task"], last["task_percent"]) == ("OK", "ingest metadata", "100.00000")


def test_other_hashtypes_than_ours_are_checked_too(mover: Suite, root: Path) -> None:
    content = b"alpha" * 1000
    body = put(root, {"a": content})
    body[-1] |= {"hashtype": "sha512", "hashsum": hashlib.sha512(content).hexdigest()}
    assert moved(mover, body)["state"] == "ARCHIVED"


# ---- all or none ---------------------------------------------------------------------------------------------------


def refused(mover: Suite, body: Any, before: list[str]) -> list[tuple[str, str]]:
    """Post what must fail, see that no source was touched, and return (file, code) of each fault."""
    contents = {path: path.read_bytes() for path in sources(body) if path.is_file()}
    job = moved(mover, body)
    assert (job["state"], job["transaction"]) == ("FAILED", None), job
    assert all(path.read_bytes() == content for path, content in contents.items())
    assert mover.files(job["job_id"]) == []
    until(lambda: not mover.spooled(), 30, "an empty spool")
    assert mover.packs() == before
    return [(fault.get("file", ""), fault["code"]) for fault in job["faults"]]


@pytest.mark.parametrize("change", ["hash", "size", "missing", "link", "folder", "twice", "sourceless", "unlisted"])
def test_one_bad_file_refuses_the_list_and_every_source_stays(mover: Suite, root: Path, change: str) -> None:
    body, before = put(root), mover.packs()
    bad = body[4]
    path = Path(bad["source"])
    if change == "hash":
        path.write_bytes(b"x" * len(FILES["run/b"]))
    elif change == "size":
        bad["size"] += 1
    elif change == "missing":
        path.unlink()
    elif change == "link":
        path.rename(path.with_suffix(".real"))
        path.symlink_to(path.with_suffix(".real"))
    elif change == "folder":
        path.unlink()
        path.mkdir()
    elif change == "twice":
        body.append(entry("again", FILES["run/b"], source=bad["source"]))
    elif change == "sourceless":
        del bad["source"]
    elif change == "unlisted":
        bad["destinationTable"] = "Elsewhere"
    codes = {
        "hash": "checksum_mismatch", "size": "size_mismatch", "missing": "source_missing", "link": "source_no_file",
        "folder": "source_no_file", "twice": "bad_source", "sourceless": "missing_key",
        "unlisted": "unknown_destination",
    }  # fmt: skip
    faults = refused(mover, body, before)
    assert [code for _, code in faults] == [codes[change]]
    if change in ("missing", "link", "folder"):
        assert faults[0][0] == "run/b"


def test_a_source_that_is_being_written_to_stays_and_so_do_the_others(mover: Suite, root: Path) -> None:
    body, before = put(root, {"a": b"alpha", "log": b"first line\n"}), mover.packs()
    with Path(body[-1]["source"]).open("ab") as log:
        log.write(b"second line\n")
    assert refused(mover, body, before) == [("data/log", "size_mismatch")]


# ---- what is refused at once ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "reason"),
    [(b"", "empty"), (b"{}", "list"), (b'{"destinationTable": "Files"}', "list"), (b"[1", "list"),
     (b"nonsense", "list"), (b'"text"', "list"), (b"\xff[]", "list")],
)  # fmt: skip
def test_what_is_no_json_list_is_an_invalid_document(mover: Suite, body: bytes, reason: str) -> None:
    answer = post(mover, body)
    assert (answer.status_code, answer.json()["message"]) == (400, "Invalid JSON document")
    assert reason in answer.json()["reason"]
    assert not mover.spooled()


@pytest.mark.parametrize("type", ["application/octet-stream", "text/plain", ""])
def test_what_is_no_json_by_its_type_is_unsupported(mover: Suite, type: str) -> None:
    assert post(mover, b"[]", **{"Content-Type": type}).status_code == 415


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "{root}/../data/pacifica.db", "{root}2/x", "a", "{root}", "{root}/./a"]
)
def test_a_source_outside_of_the_roots_is_forbidden_and_there_is_no_job(mover: Suite, root: Path, path: str) -> None:
    body = put(root, {"a": b"alpha"})
    jobs = mover.query("SELECT count(*) FROM job")
    answer = post(mover, [*body, entry("b", b"beta", source=path.format(root=root))])
    assert (answer.status_code, answer.json()["code"]) == (403, "move_forbidden")
    assert [fault["entry"] for fault in answer.json()["faults"]] == [len(body)]
    assert mover.query("SELECT count(*) FROM job") == jobs
    assert sources(body)[0].read_bytes() == b"alpha"
    assert not mover.spooled()


def test_without_roots_nothing_is_moved(deployment: Suite, tmp_path: Path) -> None:
    answer = post(deployment, put(tmp_path, {"a": b"alpha"}))
    assert (answer.status_code, answer.json()["code"]) == (403, "move_forbidden")
    assert "move_roots" in answer.json()["message"]


# ---- twice ---------------------------------------------------------------------------------------------------------


def test_a_list_that_comes_twice_under_its_key_is_one_job(mover: Suite, root: Path) -> None:
    body, key = put(root, {"a": b"alpha"}), {"Idempotency-Key": os.urandom(8).hex()}
    first = post(mover, body, **key).json()["job_id"]
    assert mover.finished(first)["state"] == "OK"
    until(lambda: not sources(body)[0].exists(), 30, "the end of the source")
    assert post(mover, body, **key).json()["job_id"] == first
    other = post(mover, [*body, entry("b", b"beta", source=str(root / "b"))], **key)
    assert (other.status_code, other.json()["code"]) == (422, "key_reused")
    until(lambda: not mover.spooled(), 30, "an empty spool")


def test_a_list_that_was_damaged_on_its_way_is_told_so(mover: Suite, root: Path) -> None:
    body = put(root, {"a": b"alpha"})
    answer = post(mover, body, **{"Content-Digest": "sha-256=:" + "A" * 43 + "=:"})
    assert (answer.status_code, answer.json()["code"]) == (422, "checksum_mismatch")
    assert sources(body)[0].exists()
    assert not mover.spooled()


# ---- from the command line -----------------------------------------------------------------------------------------


def test_a_move_that_failed_for_our_fault_is_retried_from_its_list(mover: Suite, root: Path) -> None:
    body = put(root, {"a": b"alpha", "b": b"beta"})
    late = Path(body[-1]["source"])
    late.rename(late.with_suffix(".late"))
    job = moved(mover, body)["job_id"]
    late.with_suffix(".late").rename(late)
    path = mover.data.parent / "list.json"
    path.write_text(json.dumps(body))
    done = mover.command("ingest", "retry", "--move", "--path", path, "--username", "helper", "--job_id", job)
    assert json.loads(done.stdout)["state"] == "OK"
    assert [mover.content(file["_id"]) for file in mover.files(job)] == [b"alpha", b"beta"]
    assert not late.exists()
