"""Bytes that changed on the disk: no client gets them, and who is not concerned does not notice."""

import hashlib
import io
import itertools
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from pacifica.common.ledger import DAMAGED
from pacifica.tests.system.bundles import bundle
from pacifica.tests.system.suite import Suite, wanted

MIB = 1 << 20
CONTENTS = {f"large{n}": hashlib.shake_128(b"%d" % n).digest(4 * MIB) for n in range(3)} | {
    f"small{n}": b"%d" % n * 100 for n in range(20)
}


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """A suite whose archive may be damaged."""
    made = Suite(tmp_path_factory.mktemp("damaged") / "data")
    try:
        yield made.start()
    finally:
        made.kill()


@pytest.fixture
def files(suite: Suite) -> dict[str, dict[str, Any]]:
    """The files of a bundle of the test's own, by name."""
    job = suite.finished(suite.upload(bundle(CONTENTS))["job_id"])
    return {file["name"]: file for file in suite.files(job["job_id"])}


def flip(suite: Suite, file: dict[str, Any], at: int) -> Path:
    """Flip one bit of ``file``, ``at`` bytes from its beginning, on the disk; return the pack."""
    sql = 'SELECT p.name, f."offset" FROM archivedfile f JOIN pack p ON p.id = f.pack WHERE f.id = ?'
    ((name, offset),) = suite.query(sql, file["_id"])
    path = suite.archive / "packs" / name[:2] / name[2:4] / name
    with path.open("r+b") as pack:
        pack.seek(offset + at)
        (byte,) = pack.read(1)
        pack.seek(offset + at)
        pack.write(bytes([byte ^ 1]))
    return path


def owned(tar: bytes) -> bytes:
    """Return ``tar`` as another program makes it, which says whose the files are."""
    made = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(tar)) as old, tarfile.open(fileobj=made, mode="w") as new:
        for member in old:
            member.uname = member.gname = "joe"
            member.mtime = 1_795_246_628  # as the metadata says; else its header would be made anew
            new.addfile(member, old.extractfile(member))
    return made.getvalue()


def damaged(suite: Suite, files: dict[str, dict[str, Any]]) -> list[str]:
    """Return the names of those of ``files`` that the ledger calls damaged."""
    known = {id for (id,) in suite.query("SELECT id FROM archivedfile WHERE verdict = ?", DAMAGED)}
    return [name for name, file in files.items() if file["_id"] in known]


def curl(*words: object) -> int:
    """Run curl and return its exit code."""
    return subprocess.run(["curl", "-fsS", *map(str, words)], capture_output=True, timeout=60, check=False).returncode


def test_a_cart_with_a_damaged_file_breaks_off_before_its_promised_length(
    suite: Suite, files: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    url = suite.cart(suite.fill_cart(wanted(files.values())))
    whole = requests.get(f"{url}?filename=t", timeout=30).content
    flip(suite, files["large1"], 2 * MIB + 5)
    assert curl("-o", tmp_path / "t.tar", f"{url}?filename=t") == 18  # partial file
    got = (tmp_path / "t.tar").read_bytes()
    assert len(got) < len(whole)
    assert whole.startswith(got)
    assert damaged(suite, files) == ["large1"]
    head = requests.head(url, timeout=10)
    assert (head.status_code, head.headers["X-Pacifica-Status"]) == (500, "error")
    assert "X-Content-Length" not in head.headers
    again = requests.get(url, timeout=10)
    assert (again.status_code, again.json()["traceback"]) == (500, "")
    # whoever asks for the others gets them
    others = [file for name, file in files.items() if name != "large1"]
    sound = suite.cart(suite.fill_cart(wanted(others)))
    assert len(requests.get(sound, timeout=30).content) == int(
        requests.head(sound, timeout=10).headers["X-Content-Length"]
    )
    for name, file in files.items():
        if name != "large1":
            assert suite.content(file["_id"]) == CONTENTS[name]
    assert damaged(suite, files) == ["large1"]


def test_a_file_that_is_damaged_is_not_served(suite: Suite, files: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    flip(suite, files["small3"], 7)
    flip(suite, files["large2"], 3 * MIB)
    small = requests.get(f"{suite.urls['archive']}/{files['small3']['_id']}", timeout=10)
    assert (small.status_code, small.json()["code"], small.json()["traceback"]) == (500, "damaged", "")
    assert str(suite.data) not in small.text
    assert curl("-o", tmp_path / "large", f"{suite.urls['archive']}/{files['large2']['_id']}") == 18
    assert CONTENTS["large2"].startswith((tmp_path / "large").read_bytes())
    assert damaged(suite, files) == ["large2", "small3"]
    for name in ("small2", "small4", "large0", "large1"):
        assert suite.content(files[name]["_id"]) == CONTENTS[name]


def test_one_file_of_a_cart_that_is_damaged_is_noted_and_its_neighbours_are_served(
    suite: Suite, files: dict[str, dict[str, Any]]
) -> None:
    url = suite.cart(suite.fill_cart(wanted(files.values())))
    flip(suite, files["small5"], 0)
    for name in ("small4", "small6", "large0"):  # the first two lie in one block with it
        assert requests.get(f"{url}/files/{name}", timeout=10).content == CONTENTS[name]
    broken = requests.get(f"{url}/files/small5", timeout=10)
    assert (broken.status_code, broken.json()["code"]) == (500, "damaged")
    assert damaged(suite, files) == ["small5"]


@pytest.mark.parametrize(("name", "at"), [*itertools.product(("large0", "small9"), (0, 50, -1))])
def test_every_bit_counts(suite: Suite, files: dict[str, dict[str, Any]], name: str, at: int) -> None:
    url = f"{suite.cart(suite.fill_cart(wanted(files.values())))}?filename=t"
    whole = requests.get(url, timeout=30).content
    flip(suite, files[name], at % len(CONTENTS[name]))
    with requests.get(url, timeout=30, stream=True) as answer:
        got, broken = bytearray(), False
        try:
            for piece in answer.iter_content(65536):
                got += piece
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
            broken = True
    assert answer.status_code == 500 or (broken and len(got) < len(whole) and whole.startswith(got))
    assert damaged(suite, files) == [name]


def test_damage_beside_a_large_file_is_blamed_on_whose_it_is(suite: Suite, tmp_path: Path) -> None:
    job = suite.finished(suite.upload(bundle({"small": b"s" * 700, "large": bytes(6 * MIB)}))["job_id"])
    files = {file["name"]: file for file in suite.files(job["job_id"])}
    url = suite.cart(suite.fill_cart(wanted([files["large"]])))
    flip(suite, files["small"], 5)  # in the block that the large one begins in
    assert curl("-o", tmp_path / "t.tar", url) != 0
    assert damaged(suite, files) == ["small"]
    assert requests.head(url, timeout=10).status_code == 500


def test_a_damaged_header_of_a_bundle_stops_one_download_and_no_other(suite: Suite, tmp_path: Path) -> None:
    contents = {f"f{number:03}": b"%d" % number * 100 for number in range(100)}
    job = suite.finished(suite.upload(owned(bundle(contents)))["job_id"])
    files = {file["name"]: file for file in suite.files(job["job_id"])}
    url = f"{suite.cart(suite.fill_cart(wanted(files.values())))}?filename=data"
    assert b"joe" in requests.get(url, timeout=30).content  # the bundle's own headers
    flip(suite, files["f050"], -500)
    assert curl("-o", tmp_path / "t.tar", url) != 0
    assert damaged(suite, files) == []
    assert curl("-o", tmp_path / "t.tar", url) == 0
    with tarfile.open(tmp_path / "t.tar") as tar:
        got = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    assert got == {f"data/{name}": content for name, content in contents.items()}


@pytest.mark.parametrize("what", ["pack", "sidecar", "cut", "sidecar bit"])
def test_a_pack_that_is_gone_is_no_secret_and_no_traceback(
    suite: Suite, files: dict[str, dict[str, Any]], what: str
) -> None:
    url = suite.cart(suite.fill_cart(wanted(files.values())))
    suite.stop()  # as it may happen while nobody looks
    pack = flip(suite, files["small0"], 0)
    flip(suite, files["small0"], 0)
    sidecar = pack.with_suffix(".json")
    if what == "pack":
        pack.unlink()
    elif what == "sidecar":
        sidecar.unlink()
    elif what == "cut":
        pack.write_bytes(pack.read_bytes()[:-600])
    else:
        text = bytearray(sidecar.read_bytes())
        text[len(text) // 2] ^= 1
        sidecar.write_bytes(text)
    port = suite.start().cart(url.rpartition("/")[2])
    for answer in (
        requests.get(f"{suite.urls['archive']}/{files['small0']['_id']}", timeout=10),
        requests.get(f"{port}/files/small0", timeout=10),
        requests.get(port, timeout=10),
    ):
        assert (answer.status_code, answer.json()["traceback"]) == (500, "")
        assert str(suite.data) not in answer.text
        assert answer.json()["code"] in ("damaged", "cart_failed")
    sidecar.unlink(missing_ok=True)
    pack.unlink(missing_ok=True)
