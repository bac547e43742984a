"""The store: versions that last, one winner, whole reads; judged by ocfl-py."""

import errno
import fcntl
import json
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pacifica.common.errors import Damaged
from pacifica.datasafe import ocfl
from pacifica.datasafe.dataset import DatasetExists, DatasetStore, NoSuchDataset, NoSuchVersion
from pacifica.datasafe.loi import Loi, dataset
from pacifica.datasafe.snapshot import Snapshot

ONE = {"a.dat": b"one", "sub/b.dat": b"same" * 1000, "ä.info": b"meta"}
TWO = {"a.dat": b"two", "sub/b.dat": b"same" * 1000, "ä.info": b"meta", "sub/twin.dat": b"same" * 1000}
Put = Callable[..., Snapshot]


def contents(snapshot: Snapshot) -> dict[str, bytes]:
    found = {name: snapshot.whole(name) for name in snapshot.names}
    assert found.pop("MANIFEST.yaml")
    return found


def test_versions_last(store: DatasetStore, loi: Loi, put: Put, ocfl_judge: Callable[[Path], None]) -> None:
    assert not store.exists(loi)
    put(store, loi, ONE)
    assert contents(put(store, loi, TWO)) == TWO
    assert contents(store.open(loi)) == TWO and contents(store.open(loi, 1)) == ONE
    assert [version.author.name for version in store.versions(loi)] == ["ada", "ada"]
    assert store.open(loi).created == 1_700_000_000.0 and store.verify(loi).sound
    ocfl_judge(store.root)


def test_unchanged_files_are_stored_once_and_manifests_byte_for_byte(store: DatasetStore, loi: Loi, put: Put) -> None:
    first = put(store, loi, ONE).whole("MANIFEST.yaml")
    put(store, loi, TWO)
    folder = store.root / ocfl.place(loi)
    added = sorted(path.name for path in (folder / "v2").rglob("*") if path.is_file())
    assert added == ["MANIFEST.yaml", "a.dat", "inventory.json", "inventory.json.sha512"]
    assert (folder / "v1/content/MANIFEST.yaml").read_bytes() == first
    held = json.loads((folder / "inventory.json").read_bytes())
    assert set(held["fixity"]) == {"md5"} and len(held["fixity"]["md5"]) == len(held["manifest"])


def test_no_content_of_any_version_is_stored_again(store: DatasetStore, loi: Loi, put: Put) -> None:
    """Whatever its place: many files of one content lie between others, and versions bring what others have."""
    first = {f"{number:02}.dat": b"same" if number % 5 < 3 else b"%d" % number for number in range(40)}
    second = {f"{number:02}.dat": b"%d" % (number // 2) for number in range(30, 90)}
    for files in (first, second):
        put(store, loi, {**files, "x.info": b"i"})
    put(store, loi, {**dict(reversed([*second.items(), *first.items()])), "y.dat": b"new", "x.info": b"i"})
    brought = store.root / ocfl.place(loi) / "v3" / "content"
    assert sorted(path.name for path in brought.rglob("*")) == ["MANIFEST.yaml", "y.dat"]


def test_an_upload_heals_content_that_rotted(store: DatasetStore, loi: Loi, put: Put) -> None:
    put(store, loi, ONE)
    rotten = store.root / ocfl.place(loi) / "v1/content/sub/b.dat"
    rotten.chmod(0o600)
    rotten.write_bytes(b"SAME" * 1000)
    with pytest.raises(Damaged):
        store.open(loi).whole("sub/b.dat")
    assert contents(put(store, loi, TWO)) == TWO
    assert [finding.path for finding in store.verify(loi).findings] == ["v1/content/sub/b.dat"]


def test_what_only_repeats_the_newest_version_is_that_version(
    store: DatasetStore, loi: Loi, put: Put, ocfl_judge: Callable[[Path], None]
) -> None:
    assert [put(store, loi, files).number for files in (ONE, ONE, TWO, TWO, ONE)] == [1, 1, 2, 2, 3]
    assert not (store.root / ocfl.place(loi) / "v3/content").exists() and contents(store.open(loi)) == ONE
    ocfl_judge(store.root)


def test_of_patches_of_one_content_at_once_one_is_a_version(store: DatasetStore, loi: Loi, put: Put) -> None:
    put(store, loi, ONE)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: put(store, loi, TWO).number, range(8)))
    assert made == [2] * 8 and len(store.versions(loi)) == 2 and store.verify(loi).sound


def test_what_has_rotted_is_healed_by_its_own_version_sent_again(store: DatasetStore, loi: Loi, put: Put) -> None:
    put(store, loi, ONE)
    rotten = store.root / ocfl.place(loi) / "v1/content/sub/b.dat"
    rotten.chmod(0o600)
    rotten.write_bytes(b"SAME" * 1000)
    assert put(store, loi, ONE).number == 2
    assert contents(store.open(loi, 1)) == contents(store.open(loi)) == ONE


def test_what_is_absent_has_its_own_error(store: DatasetStore, loi: Loi, put: Put) -> None:
    with pytest.raises(NoSuchDataset, match=r"LOI does not exist\."):
        store.open(loi)
    put(store, loi, ONE)
    for version in (0, 2, -1):
        with pytest.raises(NoSuchVersion):
            store.open(loi, version)


def test_issuers_are_apart(store: DatasetStore, put: Put) -> None:
    one, other = (dataset(f"42.{issuer}/ds/exp/sa/42/cwepr/1") for issuer in (1001, 1002))
    put(store, one, ONE)
    put(store, other, TWO)
    assert contents(store.open(one)) == ONE and contents(store.open(other)) == TWO
    assert set(store.datasets()) == {one, other}


def test_the_highest_number_of_a_series_is_read_from_the_volume(store: DatasetStore, put: Put) -> None:
    for number in (2, 11, 9):
        put(store, dataset(f"42.1001/ds/exp/sa/42/cwepr/{number}"), ONE)
    (store.root / "ab/cd/foreign").mkdir(parents=True)
    assert store.highest(dataset("42.1001/ds/exp/sa/42/cwepr/1").series) == 11
    assert store.highest(dataset("42.1002/ds/exp/sa/42/cwepr/1").series) == 0


def test_of_many_puts_to_one_loi_one_wins_whole(store: DatasetStore, loi: Loi, put: Put) -> None:
    uploads = [{"a.dat": bytes([at]) * 5000, "b.dat": bytes([at]) * 7, "x.info": b""} for at in range(8)]

    def attempt(files: dict[str, bytes]) -> dict[str, bytes] | None:
        try:
            return contents(put(store, loi, files, new=True))
        except DatasetExists as error:
            assert error.detail == {"allow": "PATCH"} and error.message == "Directory not empty."
            return None

    with ThreadPoolExecutor(8) as pool:
        winners = [won for won in pool.map(attempt, uploads) if won]
    assert winners == [contents(store.open(loi))] and store.verify(loi).sound
    assert not [path for path in store.work.iterdir() if path.name != "locks"]


def test_8_times_20_datasets_at_once_all_arrive(store: DatasetStore, put: Put) -> None:
    lois = [dataset(f"42.1001/ds/exp/sa/{thread}/cwepr/{at}") for thread in range(1, 9) for at in range(1, 21)]

    def one(loi: Loi) -> None:
        put(store, loi, {"a.dat": str(loi).encode(), "x.info": b""})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, lois))
    assert sorted(store.datasets()) == sorted(lois)
    assert all(store.open(loi).whole("a.dat") == str(loi).encode() for loi in lois)


def test_patches_at_once_are_all_kept_and_reads_are_whole(
    store: DatasetStore, loi: Loi, put: Put, ocfl_judge: Callable[[Path], None]
) -> None:
    def version(mark: int) -> dict[str, bytes]:
        return {"a.dat": bytes([mark]) * 3000, "b.dat": bytes([mark]) * 3, "x.info": b"same"}

    put(store, loi, version(0))
    done, reads = threading.Event(), []

    def read() -> None:
        while not done.is_set():
            found = contents(store.open(loi))
            assert found == version(found["b.dat"][0])
            reads.append(found)

    with ThreadPoolExecutor(6) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        try:
            list(pool.map(lambda mark: put(store, loi, version(mark)), range(1, 17)))
        finally:
            done.set()
        for reader in readers:
            reader.result()
    seen = {contents(store.open(loi, number))["b.dat"][0] for number in range(1, 18)}
    assert seen == set(range(17)) and reads and store.verify(loi).sound
    ocfl_judge(store.root)


def test_stages_are_laid_apart_where_the_file_system_knows_how(store: DatasetStore, tmp_path: Path) -> None:
    apart, other = store.work, tmp_path / "other"
    other.mkdir()
    subprocess.run(["chattr", "+T", other], check=False, capture_output=True)
    flags = [subprocess.run(["lsattr", "-d", folder], check=False, capture_output=True) for folder in (apart, other)]
    assert flags[0].returncode == flags[1].returncode
    assert flags[0].stdout.split(b" ")[0] == flags[1].stdout.split(b" ")[0]


def test_a_file_system_that_takes_no_hint_stores_as_any_other(
    tmp_path: Path, loi: Loi, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> bytes:
        raise OSError(errno.ENOTTY, "not for this one")

    monkeypatch.setattr(fcntl, "ioctl", refuse)
    assert contents(put(DatasetStore(tmp_path / "plain", tmp_path / "work"), loi, ONE)) == ONE
