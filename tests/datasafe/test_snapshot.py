"""Reading: ranges, and never a byte that was not checked."""

import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from pacifica.common.errors import Damaged, NotFound, RangeNotSatisfiable
from pacifica.common.pace import PART
from pacifica.datasafe import ocfl
from pacifica.datasafe.dataset import DatasetStore
from pacifica.datasafe.loi import Loi, dataset
from pacifica.datasafe.snapshot import Snapshot

MIB = 1 << 20
BIG = os.urandom(2 * MIB + 777)
FILES = {"big.dat": BIG, "sub/deep/small.dat": b"small", "empty.dat": b"", "x.info": b"i"}
Put = Callable[..., Snapshot]


@pytest.fixture
def snapshot(store: DatasetStore, loi: Loi, put: Put) -> Snapshot:
    return put(store, loi, FILES)


@pytest.fixture
def content(store: DatasetStore, loi: Loi, snapshot: Snapshot) -> Path:
    return store.root / ocfl.place(loi) / "v1" / "content"


def overwrite(path: Path, at: int, data: bytes) -> None:
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (MIB - 1, MIB + 1), (MIB, 2 * MIB), (5, 2 * MIB + 777), (9, 9)])
def test_any_range_is_that_part_of_the_file(snapshot: Snapshot, start: int, stop: int) -> None:
    assert b"".join(snapshot.read("big.dat", start, stop)) == BIG[start:stop]


def test_the_etag_follows_names_contents_and_date(store: DatasetStore, loi: Loi, put: Put) -> None:
    files = {"a.dat": b"a", "b.dat": b"b", "x.info": b"i"}
    first = put(store, loi, files)
    others = [{**files, "a.dat": b"b"}, {**files, "a.dat": b"b", "b.dat": b"a"}, {**files, "c.dat": b""}]
    tags = [first.etag, *(put(store, loi, other).etag for other in others)]
    assert len({*tags}) == 4
    assert [store.open(loi, number).etag for number in range(1, 5)] == tags
    assert put(store, dataset("42.1001/ds/exp/sa/42/cwepr/2"), files).etag == first.etag
    assert put(store, dataset("42.1001/ds/exp/sa/42/cwepr/3"), files, at=1.8e9).etag != first.etag


def test_what_is_not_there_is_said(snapshot: Snapshot) -> None:
    with pytest.raises(NotFound):
        snapshot.whole("../../etc/passwd")
    with pytest.raises(RangeNotSatisfiable):
        list(snapshot.read("big.dat", 0, len(BIG) + 1))


def test_a_damaged_block_never_leaves(snapshot: Snapshot, content: Path) -> None:
    overwrite(content / "big.dat", MIB + 500, bytes([BIG[MIB + 500] ^ 1]))
    assert b"".join(snapshot.read("big.dat", 0, MIB)) == BIG[:MIB]
    got = []
    with pytest.raises(Damaged) as caught:
        got += snapshot.read("big.dat", MIB, MIB + 10)
    assert got == [] and caught.value.detail["file"] == "big.dat" and caught.value.detail["block"] == 1


def test_a_zip_ends_before_the_damage(snapshot: Snapshot, content: Path) -> None:
    made = snapshot.zip()
    assert len(b"".join(made.stream())) == made.length
    overwrite(content / "sub/deep/small.dat", 0, b"S")
    got = bytearray()
    with pytest.raises(Damaged):
        for piece in made.stream():
            got += piece
    assert len(got) < made.length and b"Small" not in got


@pytest.mark.parametrize("cut", [0, MIB, 2 * MIB])
def test_a_short_file_is_damaged(snapshot: Snapshot, content: Path, cut: int) -> None:
    (content / "big.dat").chmod(0o600)
    os.truncate(content / "big.dat", cut)
    with pytest.raises(Damaged):
        snapshot.whole("big.dat")


@pytest.mark.parametrize("planted", ["big.dat", "sub/deep", "sub"])
def test_a_planted_link_is_not_followed(snapshot: Snapshot, content: Path, tmp_path: Path, planted: str) -> None:
    (content / planted).rename(tmp_path / "elsewhere")
    (content / planted).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Damaged):
        snapshot.whole("big.dat" if planted == "big.dat" else "sub/deep/small.dat")


def test_lost_block_digests_refuse_only_the_files_that_need_them(
    store: DatasetStore, loi: Loi, snapshot: Snapshot, put: Put
) -> None:
    put(store, loi, {**FILES, "new.dat": b"n"})
    lost = store.root / ocfl.place(loi) / "extensions" / "pacifica-blocks" / "v1.txt"
    lost.unlink()
    found = store.open(loi)
    assert found.whole("new.dat") == b"n"
    with pytest.raises(Damaged):
        found.whole("big.dat")


def test_slow_readers_of_a_dataset_hold_a_part_of_a_block_each(snapshot: Snapshot) -> None:
    whole, streams = b"".join(snapshot.zip().stream()), [snapshot.zip().stream() for _ in range(20)]
    begun = [bytes(next(stream)) for stream in streams]
    tracemalloc.start()
    try:
        pieces = [next(stream) for stream in streams]
        assert max(map(len, pieces)) <= PART and tracemalloc.get_traced_memory()[0] < 20 * 2.5 * PART
    finally:
        tracemalloc.stop()
    for first, second, rest in zip(begun, pieces, streams, strict=True):
        assert b"".join((first, second, *rest)) == whole


def test_no_descriptor_stays_open(snapshot: Snapshot) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        stream = snapshot.zip().stream()
        next(stream)
        stream.close()  # type: ignore[attr-defined]
        list(snapshot.zip().stream(5, 10))
    assert len(list(Path("/proc/self/fd").iterdir())) == before
