"""The full check: every rotten, short, missing or strange file is found and named."""

import gc
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pacifica.datasafe import ocfl, verdict
from pacifica.datasafe.dataset import DatasetStore, NoSuchDataset
from pacifica.datasafe.frames import Finding
from pacifica.datasafe.loi import Loi
from pacifica.datasafe.snapshot import Snapshot

ONE = {"a.dat": b"one" * 100, "sub/b.dat": b"same" * 10, "empty.dat": b"", "x.info": b"meta"}
TWO = {**ONE, "a.dat": b"two" * 100}


@pytest.fixture
def folder(store: DatasetStore, loi: Loi, put: Callable[..., Snapshot]) -> Path:
    put(store, loi, ONE)
    put(store, loi, TWO)
    return store.root / ocfl.place(loi)


def every(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def found(store: DatasetStore, loi: Loi) -> list[tuple[str, str]]:
    return [(finding.kind, finding.path) for finding in store.verify(loi).findings]


def test_a_sound_dataset_is_sound(store: DatasetStore, loi: Loi, folder: Path) -> None:
    result = store.verify(loi)
    assert result.sound and (result.version, result.files, result.misread) == (2, 7, 0) and result.bytes > 600


def test_a_flipped_bit_anywhere_is_found_and_named(store: DatasetStore, loi: Loi, folder: Path) -> None:
    assert len(every(folder)) == 16
    for name in every(folder):
        path = folder / name
        good = path.read_bytes()
        path.chmod(0o600)
        for at in {0, len(good) // 2, len(good) - 1} if good else ():
            path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
            assert found(store, loi) == [("changed", name)], f"{name} at {at}"
        path.write_bytes(good)
    assert found(store, loi) == []


def test_a_missing_file_is_found_and_named(store: DatasetStore, loi: Loi, folder: Path, tmp_path: Path) -> None:
    for name in every(folder):
        (folder / name).rename(tmp_path / "aside")
        kinds = found(store, loi)
        parents = [("unexpected", str(Path(name).parent))] if not any((folder / name).parent.iterdir()) else []
        assert sorted(kinds) == sorted([("missing", name), *parents]), name
        (tmp_path / "aside").rename(folder / name)
    assert found(store, loi) == []


def test_a_short_file_and_a_longer_one_are_told_apart(store: DatasetStore, loi: Loi, folder: Path) -> None:
    path = folder / "v1/content/a.dat"
    path.chmod(0o600)
    os.truncate(path, 7)
    (finding,) = store.verify(loi).findings
    assert (finding.kind, finding.files) == ("short", ("v1 a.dat",))
    path.write_bytes(ONE["a.dat"] + b"more")
    assert found(store, loi) == [("changed", "v1/content/a.dat")]


def test_shared_content_names_every_version_that_shows_it(store: DatasetStore, loi: Loi, folder: Path) -> None:
    path = folder / "v1/content/sub/b.dat"
    path.chmod(0o600)
    path.write_bytes(b"SAME" * 10)
    (finding,) = store.verify(loi).findings
    assert finding.files == ("v1 sub/b.dat", "v2 sub/b.dat") and finding.expected != finding.found


def test_strange_files_links_and_empty_folders_are_unexpected(store: DatasetStore, loi: Loi, folder: Path) -> None:
    (folder / "v1/content/extra").write_bytes(b"x")
    (folder / "v9").mkdir()
    (folder / "link").symlink_to("/etc")
    assert {kind for kind, _ in found(store, loi)} == {"unexpected"}
    assert sorted(path for _, path in found(store, loi)) == ["link", "v1/content/extra", "v9"]


def test_content_behind_a_link_is_not_believed(store: DatasetStore, loi: Loi, folder: Path, tmp_path: Path) -> None:
    (folder / "v1/content/a.dat").rename(tmp_path / "a.dat")
    (folder / "v1/content/a.dat").symlink_to(tmp_path / "a.dat")
    assert ("missing", "v1/content/a.dat") in found(store, loi)


def test_several_faults_are_all_told(store: DatasetStore, loi: Loi, folder: Path) -> None:
    (folder / "inventory.json").write_bytes(b"{}")
    (folder / "v1/content/a.dat").unlink()
    (folder / "v2/inventory.json.sha512").unlink()
    assert ("changed", "inventory.json") in found(store, loi)
    (folder / "v2/inventory.json").write_bytes(b"{}")
    assert ("changed", "inventory.json") in found(store, loi)


def test_a_misread_is_no_accusation(
    store: DatasetStore, loi: Loi, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, reads = os.pread, []

    def flaky(descriptor: int, size: int, at: int) -> bytes:
        data = real(descriptor, size, at)
        reads.append(at)
        return b"X" + data[1:] if len(reads) == 1 and data else data

    monkeypatch.setattr(verdict.os, "pread", flaky)
    result = store.verify(loi)
    assert result.sound and result.misread == 1


def test_the_throttle_hears_of_every_byte_and_may_end_the_check(store: DatasetStore, loi: Loi, folder: Path) -> None:
    heard: list[int] = []
    assert store.verify(loi, heard.append).bytes == sum(heard)

    def stop(_: int) -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        store.verify(loi, stop)
    gc.collect()
    assert not [path for path in Path("/proc/self/fd").iterdir() if str(store.root) in os.path.realpath(path)]


def test_more_files_than_are_opened_ahead_are_all_read(
    store: DatasetStore, loi: Loi, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verdict, "AHEAD", 2)
    (folder / "v1/content/x.info").chmod(0o600)
    (folder / "v1/content/x.info").write_bytes(b"META")
    (folder / "v2/content/a.dat").unlink()
    os.mkfifo(folder / "v2/content/a.dat")
    result = store.verify(loi)
    assert sorted({finding.path for finding in result.findings}) == ["v1/content/x.info", "v2/content/a.dat"]
    assert result.files == 7


def test_a_block_that_the_disk_refuses_is_a_finding(
    store: DatasetStore, loi: Loi, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, size: int, at: int) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(verdict.os, "pread", refuse)
    result = store.verify(loi)
    assert {finding.kind for finding in result.findings} == {"changed"} and len(result.findings) == result.files


def test_an_absent_dataset_has_no_verdict(store: DatasetStore, loi: Loi) -> None:
    with pytest.raises(NoSuchDataset):
        store.verify(loi)
    assert Finding("missing", "x").files == ()
