"""MANIFEST.yaml: the checksums of LabInform, limits, and the comparison in both directions."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from pacifica.datasafe import manifest
from pacifica.datasafe.faults import Refused
from pacifica.datasafe.manifest import ManifestLimits

MD5_EMPTY = "d41d8cd98f00b204e9800998ecf8427e"
DATA_SUM, ALL_SUM = "74be16979710d4c4e7c6647856088456", "f46475b4905fe2e1a388dc5c6a07ecbc"  # LabInform's test vector

GOOD = f"""
format: {{type: datasafe dataset manifest, version: 0.1.0}}
dataset: {{loi: 42.1001/ds/exp/sa/42/cwepr/1, complete: false}}
files:
  metadata: [{{name: test.info, format: cwEPR Info file, version: 0.1.4}}]
  data: {{format: undetected, names: [test, 1e3, ~]}}
checksums:
- {{name: x, format: MD5 checksum, span: 'data, metadata', value: {ALL_SUM}}}
- {{name: y, format: MD5 checksum, span: data, value: {DATA_SUM}}}
"""


def code(raw: str | bytes, limits: ManifestLimits = ManifestLimits()) -> str:  # noqa: B008
    with pytest.raises(Refused) as caught:
        manifest.read(raw.encode() if isinstance(raw, str) else raw, limits)
    return caught.value.faults[0].code


def test_the_sums_are_those_of_the_original() -> None:
    info = "39f1b03d1a2a9aa1ec6e0bd2ab2b5b2e"
    assert manifest.checksum([MD5_EMPTY]) == DATA_SUM
    assert manifest.checksum([info, MD5_EMPTY]) == manifest.checksum([MD5_EMPTY, info]) != manifest.checksum([info])


def test_the_test_vector_of_the_original_holds() -> None:
    info = hashlib.md5(b"cwEPR Info file - v. 0.1.4 (2020-01-21)", usedforsecurity=False).hexdigest()
    found = manifest.read(GOOD.encode()).integrity({"test": MD5_EMPTY, "test.info": info})
    assert (found.data, found.all, found.sound) == (True, True, True)
    assert not manifest.read(GOOD.encode()).integrity({"test": info, "test.info": MD5_EMPTY}).data


def test_scalars_are_text_whatever_they_look_like() -> None:
    found = manifest.read(GOOD.encode())
    assert (found.data, found.metadata) == (("test", "1e3", "~"), ("test.info",))
    assert (found.loi, found.data_format) == ("42.1001/ds/exp/sa/42/cwepr/1", "undetected")


@pytest.mark.parametrize(
    "missing", ["dataset:", "files:", "checksums:", "metadata:", "data:", "names:", "span:", "value:", "loi:"]
)
def test_a_manifest_without_a_needed_part_is_incomplete(missing: str) -> None:
    at = GOOD.rindex(missing) if missing == "data:" else GOOD.index(missing)
    assert code(f"{GOOD[:at]}x{GOOD[at:]}") == "manifest_incomplete"


@pytest.mark.parametrize(
    "empty", ["[{name: test.info, format: cwEPR Info file, version: 0.1.4}]", "[test, 1e3, ~]", DATA_SUM]
)
def test_an_empty_part_is_some_information_missing(empty: str) -> None:
    with pytest.raises(Refused, match="Some information missing"):
        manifest.read(GOOD.replace(empty, "''" if empty == DATA_SUM else "[]").encode())


@pytest.mark.parametrize(
    "raw",
    [
        b"\xff\xfe", b"", b"- a", b"a: [", b"a: b\n---\nc: d", b"a: 1\na: 2", b"? [a]\n: b", b"\x00",
        b"a: &x [1]\nb: *x", b"a: !!python/object/apply:os.system [id]", b"a: !!binary aGk=",
    ],
)  # fmt: skip
def test_what_is_no_plain_yaml_map_is_refused(raw: bytes) -> None:
    assert code(raw) == "manifest_bad"


def test_sizes_are_limited() -> None:
    assert code(GOOD, ManifestLimits(max_bytes=100)) == "manifest_large"
    assert code("a: [" + "b," * 1000 + "]", ManifestLimits(max_nodes=500)) == "manifest_large"
    assert code("a: " + "[" * 100 + "]" * 100) == "manifest_large"


def test_both_directions_are_compared() -> None:
    found = manifest.read(GOOD.encode())
    faults = list(found.compare({"test", "test.info", "extra", manifest.NAME}, {"~"}))
    assert [(fault.code, fault.file) for fault in faults] == [("file_absent", "1e3"), ("file_unlisted", "extra")]


def test_what_is_written_is_read_again_and_by_the_original(judge: Callable[..., str], tmp_path: Path) -> None:
    document = manifest.create("42.1001/ds/exp/sa/42/cwepr/1", ["ä.dat"], [("a.info", "f", "1")],
                               {"ä.dat": MD5_EMPTY, "a.info": MD5_EMPTY})  # fmt: skip
    raw = manifest.write(document)
    assert raw.startswith(b"format:\n  type: datasafe") and b"\\xE4" in raw
    assert manifest.read(raw).data == ("ä.dat",)
    for name, content in ((manifest.NAME, raw), ("ä.dat", b""), ("a.info", b"")):
        (tmp_path / name).write_bytes(content)
    program = (
        "from datasafe.manifest import Manifest as M; m = M(); m.from_file('MANIFEST.yaml'); print(m.check_integrity())"
    )
    assert judge("-c", program, cwd=tmp_path).strip() == "{'data': True, 'all': True}"
