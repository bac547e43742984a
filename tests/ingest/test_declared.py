"""A bundle against its metadata.txt: what is true becomes rows, what is not is refused by name."""

import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pacifica.common.errors import ChecksumMismatch
from pacifica.common.ledger import ARCHIVED_FILE_COLUMNS
from pacifica.ingest.bundle import BundleError, Limits, Scanner
from pacifica.ingest.declaration import HASHTYPES, data_path, moment
from pacifica.ingest.declared import Bundle, check
from pacifica.ingest.index import Index
from pacifica.tests.ingest import samples
from pacifica.tests.ingest.samples import FILES, GOOD, TRANSACTION, bundle, declared, listed


def checked(data: bytes, hashtype: str = "sha1", reads: list[int] | None = None, **limits: int) -> Bundle:
    scanner = Scanner(Limits(**limits), hashtype, length=len(data))
    scanner.feed(data)

    def read(offset: int, size: int) -> Iterator[bytes]:
        if reads is not None:
            reads.append(offset)
        for at in range(offset, offset + size, 300):
            yield data[at : min(at + 300, offset + size)]

    return check(scanner.close(), read, Limits(**limits))


def refused(data: bytes, **how: Any) -> BundleError:
    with pytest.raises(BundleError) as caught:
        checked(data, **how)
    assert json.dumps(caught.value.detail)
    return caught.value


def rows(found: Bundle) -> list[dict[str, Any]]:
    return [dict(zip(ARCHIVED_FILE_COLUMNS, row, strict=True)) for row in found.rows(1001)]


# ---- what is true --------------------------------------------------------------------------------------------------


def test_a_true_bundle_becomes_ledger_rows_in_the_order_of_its_entries() -> None:
    found = checked(GOOD)
    assert (found.count, found.total_bytes, found.order) == (4, 5 + 513 + 512, None)
    assert found.transaction == {"submitter": 10, "project": "1234a", "instrument": 54, "extra": {}}
    for number, (row, (path, data)) in enumerate(zip(rows(found), FILES.items(), strict=True)):
        assert row["id"] == 1001 + number
        assert f"{row['subdir']}/{row['name']}".lstrip("/") == path
        assert GOOD[row["offset"] : row["offset"] + row["size"]] == data
        assert row["hashsum"] == hashlib.sha1(data).hexdigest()
        assert (row["hashtype"], row["header"], row["mtime"]) == ("sha1", 512, samples.WHEN)


def test_entries_in_another_order_than_the_tar_keep_their_own_and_give_the_permutation() -> None:
    entries = [listed(path, data) for path, data in FILES.items()]
    random.Random(3).shuffle(entries)
    found = checked(bundle(FILES, [*entries, *TRANSACTION]))
    assert [row["name"] for row in rows(found)] == [entry["name"] for entry in entries]
    assert found.order is not None
    assert [found.index.path(each) for each in found.order] == [
        "data/" + f"{entry['subdir']}/{entry['name']}".lstrip("/") for entry in entries
    ]


def test_every_entry_keeps_its_own_times_mimetype_and_digest_however_many_there_are() -> None:
    files = {f"{number}": b"%d" % number for number in range(1100)}
    said = [
        {
            "mimetype": f"text/x-{number}",
            "hashtype": "sha256" if number == 7 else "sha1",
            "ctime": f"2023-11-14T22:13:{number % 50:02}",
            "mtime": f"2023-11-15T22:{number % 3:02}:00",
        }
        for number in range(len(files))
    ]
    entries = [listed(path, data, **more) for (path, data), more in zip(files.items(), said, strict=True)]
    for number, row in enumerate(rows(checked(bundle(files, [*TRANSACTION, *entries])))):
        entry = entries[number]
        assert (row["mimetype"], row["hashtype"]) == (entry["mimetype"], entry["hashtype"])
        assert row["hashsum"] == entry["hashsum"]
        assert (row["ctime"], row["mtime"]) == (moment(entry["ctime"], ""), moment(entry["mtime"], ""))


def test_key_values_and_other_words_about_the_transaction_come_through() -> None:
    said = [
        {"destinationTable": "TransactionKeyValue", "key": "Temp C", "value": "27"},
        {"destinationTable": "TransactionKeyValue", "key": "Runs", "value": 5, "metaID": "runs", "queryFields": ["x"]},
        {"destinationTable": "FileKeyValue", "key": "Focus", "value": 1.5, "path": "data/run/b.dat"},
        {"destinationTable": "Transactions.description", "value": "a try"},
    ]
    found = checked(bundle(FILES, [*said, *declared(FILES)]))
    assert found.key_values == [("Temp C", "27"), ("Runs", 5)]
    assert list(found.file_key_values(1001)) == [(1002, "Focus", 1.5)]
    assert found.transaction["extra"] == {"description": "a try"}


def test_the_document_for_other_services_has_our_ids_and_nothing_unchecked() -> None:
    said: list[dict[str, Any]] = [
        {"destinationTable": "FileKeyValue", "key": "Focus", "value": "1", "path": "run/b.dat"},
        *declared(FILES),
    ]
    said[-1] |= {"_id": 7, "subdir": "data//run/deep/", "hashsum": "SHA1:" + said[-1]["hashsum"].upper(), "x": [1]}
    found = checked(bundle(FILES, said))
    document = list(found.document(1001, 42))
    assert document[-1] == {"destinationTable": "Transactions._id", "value": 42}
    assert document[0] == {"destinationTable": "FileKeyValue", "key": "Focus", "value": "1", "file_id": 1002}
    files = [each for each in document if each["destinationTable"] == "Files"]
    assert [each["_id"] for each in files] == [1001, 1002, 1003, 1004]
    assert files == [{**listed(path, data), "_id": 1001 + at} for at, (path, data) in enumerate(FILES.items())]


@pytest.mark.parametrize("changed", [
    {"hashsum": hashlib.sha1(b"alpha").hexdigest().upper()},
    {"hashsum": "sha1:" + hashlib.sha1(b"alpha").hexdigest()},
    {"hashtype": "SHA1", "hashsum": hashlib.sha1(b"alpha").hexdigest()},
    {"subdir": "data/run"}, {"subdir": "data//run/"}, {"subdir": "", "name": "run/x"},
    {"subdir": "data", "name": "run/x"},
    {"_id": 99}, {"source": "/etc/passwd"}, {"mimetype": "text/plain; charset=utf-8"}, {"mimetype": "IMAGE/PNG"},
    {"mtime": "2023-11-14T22:13:20.25"}, {"mtime": "2023-11-14T22:13:20Z"}, {"mtime": "2023-11-15 00:13:20+02:00"},
    {"mtime": "0001-01-01T00:00:00"}, {"mtime": "9999-12-31T23:59:59"},
])  # fmt: skip
def test_what_pacifica_lets_pass_is_taken_and_kept_in_one_form(changed: dict[str, Any]) -> None:
    (row,) = rows(checked(bundle({"run/x": b"alpha"}, [*TRANSACTION, listed("run/x", b"alpha", **changed)])))
    assert (row["subdir"], row["name"]) == ("run", "x")
    assert (row["hashtype"], row["hashsum"]) == ("sha1", hashlib.sha1(b"alpha").hexdigest())


@pytest.mark.parametrize("hashtype", sorted(HASHTYPES))
def test_every_digest_of_fixed_length_is_verified_by_one_more_read(hashtype: str) -> None:
    reads: list[int] = []
    found = checked(bundle(FILES, declared(FILES, hashtype)), reads=reads)
    assert {row["hashtype"] for row in found_rows(found)} == {hashtype}
    assert len(reads) == (0 if hashtype == "sha1" else len(FILES))


def found_rows(found: Bundle) -> list[dict[str, Any]]:
    return rows(found)


def test_metadata_that_the_scan_did_not_keep_is_read_from_the_bundle() -> None:
    assert checked(GOOD, keep_metadata_bytes=0).count == len(FILES)


def test_a_loaded_index_is_as_good_as_a_fresh_one(tmp_path: Path) -> None:
    scanner = Scanner()
    scanner.feed(GOOD)
    scanner.close().save(tmp_path / "i")
    found = check(Index.load(tmp_path / "i"), lambda offset, size: iter([GOOD[offset : offset + size]]))
    assert rows(found) == rows(checked(GOOD))


def test_a_file_named_data_at_the_top_is_not_taken_for_the_folder() -> None:
    files = {"data": b"x"}
    assert [row["name"] for row in rows(checked(bundle(files)))] == ["data"]


# ---- what is not ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", samples.BAD_METADATA)
def test_a_false_bundle_is_refused_by_the_code_that_it_is_named_by(kind: str) -> None:
    error = refused(samples.BAD_METADATA[kind])
    assert (error.code, error.status) == (kind.split("-")[0], 422)


def test_every_fault_of_a_file_names_the_file_and_up_to_a_hundred_are_told() -> None:
    files = {f"run/{number:03}": b"alpha" for number in range(150)}
    entries = [listed(path, data, size=7) for path, data in files.items()]
    error = refused(bundle(files, [*TRANSACTION, *entries]))
    assert (error.code, error.detail["file"], error.detail["entry"]) == ("size_mismatch", "data/run/000", 3)
    faults = error.detail["faults"]
    assert len(faults) == 100
    message = "A file has another size than the metadata declares."
    told = {"file": "data/run/005", "code": "size_mismatch", "message": message, "entry": 8, "declared": 7, "size": 5}
    assert faults[5] == told


def test_the_first_fault_decides_and_the_others_are_told() -> None:
    entries = [*TRANSACTION[1:], listed("a.txt", b"alpha", hashsum="0" * 40), listed("gone", b"")]
    error = refused(bundle({"a.txt": b"alpha", "extra": b""}, entries))
    assert error.code == "checksum_mismatch"
    assert isinstance(error, ChecksumMismatch)
    assert [(fault["code"], fault.get("file")) for fault in error.detail["faults"]] == [
        ("checksum_mismatch", "data/a.txt"),
        ("file_missing", "data/gone"),
        ("file_not_listed", "data/extra"),
        ("transaction_missing", None),
    ]


def test_entries_are_counted() -> None:
    assert refused(GOOD, max_entries=3).code == "too_many_entries"


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_an_entry_that_tells_anything_else_is_refused(data: st.DataObject) -> None:
    """Change one value of one Files entry: only another spelling of the same thing may pass."""
    entries = [listed(path, body) for path, body in FILES.items()]
    entry = data.draw(st.sampled_from(entries))
    key = data.draw(st.sampled_from(["name", "subdir", "size", "hashtype", "hashsum"]))
    before = entry[key]
    entry[key] = data.draw(st.text(max_size=5) | st.integers() | st.none() | st.lists(st.integers(), max_size=1))
    try:
        found = checked(bundle(FILES, [*TRANSACTION, *entries]))
    except BundleError as error:
        assert error.code
        return
    assert entry[key] == before or key in ("name", "subdir")
    assert rows(found) == rows(checked(GOOD))


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=20), st.text(max_size=20))
def test_no_subdir_and_name_lead_out_of_data(subdir: str, name: str) -> None:
    try:
        path = data_path(subdir, name, Limits())
    except BundleError as error:
        assert error.code == "bad_path"
        return
    assert path.startswith("data/")
    assert not {"", ".", ".."} & set(path.split("/"))
    assert "\0" not in path and "\n" not in path


def test_times_are_utc_where_they_name_no_offset() -> None:
    assert moment("1970-01-01T00:00:00", "") == moment("1970-01-01T02:00:00+02:00", "") == 0
    assert moment("1969-12-31T23:59:59.5", "") == -0.5
