"""A LabInform datasafe, made by its published package, taken over: every LOI and every byte, twice and after damage."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from pacifica.tests.system.datasets import unzipped
from pacifica.tests.system.suite import Suite

ORIGINAL = """
import os, sys
from pathlib import Path
from datasafe.client import LocalClient
os.chdir(sys.argv[1])
for number in (1, 2, 3):
    folder = Path(f"measured{number}")
    folder.mkdir()
    (folder / "test.DSC").write_bytes(b"dsc")
    (folder / "test.DTA").write_bytes(bytes([number]) * 5000)
    (folder / "test.info").write_bytes(b"cwEPR Info file - v. 0.1.4 (2020-01-21)")
    client = LocalClient()
    found = client.create("42.1001/ds/exp/sa/42/cwepr/")
    if number < 3:
        client.upload(found, path=str(folder.resolve()))
"""
SERIES = "42.1001/ds/exp/sa/42/cwepr"


@pytest.fixture
def original(judge: Callable[..., str], tmp_path: Path) -> Path:
    """A datasafe_root with two datasets and a reservation."""
    judge("-c", ORIGINAL, tmp_path, cwd=tmp_path)
    found = next(path.parent for path in tmp_path.rglob("exp") if path.is_dir())
    assert len(list(found.glob("exp/sa/42/cwepr/*"))) == 3
    return found


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    suite = Suite(tmp_path / "data")
    suite.data.mkdir()
    suite.command("datasafe", "dbsync")
    return suite


def taken(suite: Suite, root: Path, code: int = 0) -> dict[str, str]:
    words = ["import", root, "--issuer", "1001", "--username", "root", "--json"]
    lines = suite.command("datasafe", *words, code=code).stdout.splitlines()
    return {told["name"]: told["state"] for told in map(json.loads, lines)}


def test_a_tree_is_taken_over_with_its_lois_twice(
    suite: Suite, original: Path, tmp_path: Path, judge: Callable[..., str]
) -> None:
    assert taken(suite, original) == {f"{SERIES}/1": "taken", f"{SERIES}/2": "taken", f"{SERIES}/3": "reserved"}
    assert taken(suite, original) == {f"{SERIES}/1": "known", f"{SERIES}/2": "known", f"{SERIES}/3": "reserved"}
    suite.command("datasafe", "export", "--loi", f"{SERIES}/2", tmp_path / "bag")
    judge("-c", "import bagit, sys; bagit.Bag(sys.argv[1]).validate()", tmp_path / "bag", cwd=tmp_path)
    assert (tmp_path / "bag/data/test.DTA").read_bytes() == bytes([2]) * 5000
    suite.start()
    try:
        fetched = requests.get(f"{suite.urls['datasets']}/{SERIES}/1", timeout=60).content
        assert unzipped(fetched)["test.DTA"] == bytes([1]) * 5000
        program = "import sys, warnings; from datasafe.client import HTTPClient; "
        program += "warnings.simplefilter('error', UserWarning); "
        program += "c = HTTPClient(); c.server_url = sys.argv[1]; "
        program += "print(open(c.download(sys.argv[2]) + '/test.DTA', 'rb').read(1))"
        root = suite.urls["datasets"].removesuffix("api")
        assert judge("-c", program, root, f"{SERIES}/2", cwd=tmp_path).strip() == "b'\\x02'"
        assert requests.post(f"{suite.urls['datasets']}/{SERIES}", timeout=60).text == f"{SERIES}/4"
    finally:
        suite.kill()


def test_what_is_damaged_or_odd_is_told_and_left_and_the_rest_goes_on(suite: Suite, original: Path) -> None:
    place = original / "exp/sa/42/cwepr"
    (place / "1" / "test.DTA").write_bytes(b"rotten")
    (place / "007").mkdir()
    (place / "2" / "link").symlink_to("/etc/hostname")
    assert taken(suite, original, code=3) == {
        f"{SERIES}/1": "damaged", f"{SERIES}/2": "left", f"{SERIES}/3": "reserved",
        "exp/sa/42/cwepr/007": "left",
    }  # fmt: skip
    (place / "1" / "test.DTA").write_bytes(bytes([1]) * 5000)
    (place / "2" / "link").unlink()
    (place / "007").rmdir()
    assert taken(suite, original)[f"{SERIES}/1"] == "taken"
    (place / "1" / "MANIFEST.yaml").write_bytes(b"")
    assert taken(suite, original, code=5)[f"{SERIES}/1"] == "left"
