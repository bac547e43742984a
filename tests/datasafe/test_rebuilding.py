"""The database is lost; the volume alone brings ledger, catalogue and datasets back, and no number twice."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests

from pacifica.common import journal
from pacifica.tests.system.bundles import TRANSACTION, bundle, entry
from pacifica.tests.system.datasets import unzipped, zipped
from pacifica.tests.system.suite import Suite, until

TABLES = {
    "pack": "name, kind, job, first_id, count, size, published, created, owner",
    "archivedfile": 'id, "transaction", "offset", header, hashtype, hashsum, subdir, name, mimetype, ctime, mtime',
    '"transaction"': "id, owner, submitter, project, instrument, extra",
    "transactionkeyvalue": '"transaction", key, value',
    "filekeyvalue": "file, key, value",
    "tombstone": "id, who, reason, pack, size, hashtype, hashsum",
    "dataset": "loi, owner, version, files, size",
    "datasettombstone": "loi, owner, who, reason, settled",
    "series": "name, last",
}


@pytest.fixture
def suite(tmp_path: Path) -> Any:
    suite = Suite(tmp_path / "data", {"PACIFICA_AUTH_ADMINISTRATORS": "root"})
    try:
        yield suite.start()
    finally:
        suite.kill()


def known(suite: Suite) -> dict[str, list[Any]]:
    return {table: sorted(suite.query(f"SELECT {columns} FROM {table}"), key=repr) for table, columns in TABLES.items()}


def found(suite: Suite) -> list[Any]:
    """Search for what only an index finds; when it came is not told, since a ledger made anew has its own clock."""
    one = hashlib.sha512(b"two").hexdigest()
    queries = ({"text": "s1"}, {"name": "a.dat"}, {"checksum": one}, {"text": "cwepr"}, {"key": "files.data.format"})
    answers = [requests.get(suite.urls["catalog"], query, timeout=60).json()["found"] for query in queries]
    assert all(answers)
    return [[{name: thing[name] for name in thing if name != "created"} for thing in answer] for answer in answers]


def rebuild(suite: Suite) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {
        "PACIFICA_DATABASE_PEEWEE_URL": f"sqlite:///{suite.data}/pacifica.db",
        "PACIFICA_ARCHIVE_PATH": str(suite.archive),
    }
    code = "import sys; from pacifica.datasafe.__main__ import cmd; sys.exit(cmd(['dbsync']) or cmd(['rebuild']))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=100)


def test_what_the_volume_knows_comes_back_and_nothing_else(suite: Suite) -> None:
    files = {"run/a.dat": b"a" * 10_000, "b": b"b" * 2_000_000, "ü/c": b""}
    said = [*TRANSACTION, *(entry(path, content) for path, content in reversed(files.items()))]
    said += [{"destinationTable": "TransactionKeyValue", "key": "sample", "value": "S1"}]
    job = suite.upload(bundle(files, said))["job_id"]
    assert suite.finished(job)["state"] == "OK"
    archive, api = suite.urls["archive"], suite.urls["datasets"]
    for id, content in ((900, b"first"), (901, b"gone"), (902, b"gone and back"), (900, b"second"), (902, b"again")):
        if content == b"again":
            requests.delete(f"{archive}/902", timeout=60).raise_for_status()
        requests.put(f"{archive}/{id}", content, timeout=60).raise_for_status()
    requests.delete(f"{archive}/901", timeout=60).raise_for_status()
    lois = [requests.post(f"{api}/42.1001/ds/exp/sa/42/cwepr", timeout=60).text for _ in range(4)]
    for loi in (lois[0], lois[1]):
        requests.put(f"{api}/{loi}", zipped({"a": b"one", "x.info": b""}), timeout=60).raise_for_status()
    requests.patch(f"{api}/{lois[0]}", zipped({"a": b"two", "x.info": b""}), timeout=60).raise_for_status()
    for loi in (lois[1], lois[3]):
        requests.delete(f"{api}/{loi}", params={"reason": "mistake"}, timeout=60).raise_for_status()
    until(lambda: requests.get(suite.urls["catalog"], timeout=60).json()["pending"] == 0, 60, "the catalogue's index")
    before, told = known(suite), found(suite)
    suite.stop()
    for left in suite.data.glob("pacifica.db*"):
        left.unlink()

    done = rebuild(suite)
    assert done.returncode == 0, done.stdout + done.stderr
    assert known(suite) == before
    again = rebuild(suite)
    assert again.returncode == 0 and known(suite) == before
    assert all(line.startswith("0 ") for line in again.stdout.splitlines()), again.stdout

    assert suite.query("SELECT count(*) FROM unentered") == [(0,)]
    suite.start()
    assert found(suite) == told
    archive, api = suite.urls["archive"], suite.urls["datasets"]
    listed = {f"{file['subdir']}/{file['name']}".lstrip("/"): file["_id"] for file in suite.files(job)}
    assert {path: suite.content(id) for path, id in listed.items()} == files
    assert (suite.content(900), suite.content(902)) == (b"second", b"again")
    assert requests.get(f"{archive}/901", timeout=60).status_code in (404, 410)
    assert unzipped(requests.get(f"{api}/{lois[0]}", timeout=60).content)["a"] == b"two"
    assert unzipped(requests.get(f"{api}/{lois[0]}?version=1", timeout=60).content)["a"] == b"one"
    assert [requests.get(f"{api}/{loi}", timeout=60).status_code for loi in lois[1:]] == [410, 204, 410]
    assert requests.post(f"{api}/42.1001/ds/exp/sa/42/cwepr", timeout=60).text.endswith("/5")
    more = suite.upload(bundle({"new": b"new"}))["job_id"]
    assert more > job and suite.finished(more)["state"] == "OK"
    assert min(file["_id"] for file in suite.files(more)) > 902


FILES = {"a.dat": b"a" * 1000, "big/b": bytes(range(256)) * 9000, "c": b"c" * 3_000_000, "d": b""}
DAMAGE = {  # where the bytes are turned -> which files are damaged; None: the pack is given up
    "a member": (lambda tar: tar.find(b"a" * 1000) + 7, 1, ["a.dat"]),
    "a whole sector": (lambda tar: tar.find(b"c" * 1000) + 2_000_000, 4096, ["c"]),
    "a bit of a header": (lambda tar: tar.find(b"data/c"), 1, []),
    "a header": (lambda tar: tar.find(b"data/c"), 100, None),
    "a bit of metadata.txt": (lambda tar: tar.find(b"Transactions.project"), 1, []),
    "metadata.txt": (lambda tar: tar.find(b"Transactions.project"), 2, None),
}
# Files that are sound and lie in the damaged block: large ones are checked by blocks, and wait for the pack's repair.
SHARED = {
    "a member": ["big/b"],
    "a whole sector": [],
    "a bit of a header": ["big/b", "c"],
    "a bit of metadata.txt": ["c"],
}


@pytest.mark.parametrize("where", DAMAGE)
def test_what_is_sound_in_a_damaged_pack_comes_back_and_the_rest_is_named(suite: Suite, where: str) -> None:
    place, length, lost = DAMAGE[where]
    job = suite.upload(bundle(FILES))["job_id"]
    assert suite.finished(job)["state"] == "OK"
    (pack,) = suite.packs()
    requests.put(f"{suite.urls['archive']}/900", b"kept", timeout=60).raise_for_status()
    before = known(suite)
    suite.stop()
    path = suite.archive / "packs" / pack[:2] / pack[2:4] / pack
    content = bytearray(path.read_bytes())
    at = place(content)
    content[at : at + length] = bytes(byte ^ 4 for byte in content[at : at + length])
    path.chmod(0o600)
    path.write_bytes(content)
    for left in suite.data.glob("pacifica.db*"):
        left.unlink()

    done = rebuild(suite)
    if lost is None:
        assert done.returncode == 5 and pack in done.stderr
        assert [row[0] for row in suite.query("SELECT id FROM archivedfile")] == [900]
        return
    assert done.returncode == (5 if lost else 0), done.stderr
    assert [line.rpartition(": ")[2] for line in done.stderr.splitlines()] == lost
    assert known(suite) == before
    suite.start()
    for file in suite.files(job):
        name = f"{file['subdir']}/{file['name']}".lstrip("/")
        refused = name in lost or name in SHARED[where]
        assert whole(f"{suite.urls['archive']}/{file['_id']}") == (None if refused else FILES[name]), name


def test_a_pack_comes_back_whose_sidecar_has_one_bit_turned_and_no_other(suite: Suite) -> None:
    jobs = [suite.finished(suite.upload(bundle(FILES | {"d": b"%d" % at}))["job_id"])["job_id"] for at in range(2)]
    before = known(suite)
    suite.stop()
    names = [suite.query("SELECT name FROM pack WHERE job = ?", job)[0][0] for job in jobs]
    for name, bits in zip(names, (1, 2), strict=True):
        path = suite.archive / "packs" / name[:2] / name[2:4] / f"{name}.json"
        content = bytearray(path.read_bytes())
        for at in range(bits):
            content[200 + at] ^= 1
        path.chmod(0o600)
        path.write_bytes(content)
    for left in suite.data.glob("pacifica.db*"):
        left.unlink()
    done = rebuild(suite)
    assert done.returncode == 5 and all(name in done.stderr for name in names)  # both are to be restored
    first = [row for row in before["archivedfile"] if row[1] == jobs[0]]
    assert known(suite)["archivedfile"] == first and len(first) == len(FILES)


def whole(url: str) -> bytes | None:
    """Return what a GET brings; None where it is refused, or breaks off before its promised end."""
    try:
        answer = requests.get(url, timeout=60)
    except requests.exceptions.ChunkedEncodingError:
        return None
    return answer.content if answer.status_code == 200 else None


def test_a_journal_keeps_whole_lines_only(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "journal.txt"
    assert journal.entries(path) == [] and journal.damaged(path) == 0
    journal.add(path, {"id": 1})
    with path.open("ab") as file:
        file.write(b"torn by a crash")
    assert journal.damaged(path) == 0
    journal.add(path, {"id": 2})
    assert journal.entries(path) == [{"id": 1}, {"id": 2}]
    path.write_bytes(path.read_bytes().replace(b'"id": 2', b'"id": 3'))
    assert journal.entries(path) == [{"id": 1}] and journal.damaged(path) == 1
