"""The index of a scan: found again as it was saved, or noticed to be damaged; small in memory."""

import random
import tracemalloc
from array import array
from pathlib import Path

import pytest

from pacifica.common.errors import ChecksumMismatch
from pacifica.ingest import name
from pacifica.ingest.bundle import Scanner
from pacifica.ingest.index import BadIndex, Index
from pacifica.tests.ingest.samples import FILES, GOOD


def scanned(data: bytes = GOOD, hashtype: str = "sha1") -> Index:
    scanner = Scanner(hashtype=hashtype)
    scanner.feed(data)
    return scanner.close()


@pytest.mark.parametrize("hashtype", ["sha1", "sha512"])
def test_a_saved_index_is_loaded_as_it_was(tmp_path: Path, hashtype: str) -> None:
    index = scanned(hashtype=hashtype)
    index.save(tmp_path / "i")
    again = Index.load(tmp_path / "i")
    for column in ("hashtype", "offset", "size", "header", "mtime", "end", "digests", "names", "total", "metadata"):
        assert getattr(again, column) == getattr(index, column)
    assert [each.name for each in tmp_path.iterdir()] == ["i"]
    assert again.metadata_bytes is None
    assert again.read_metadata(lambda offset, size: iter([GOOD[offset : offset + size]])) == index.metadata_bytes


def test_an_empty_index_is_loaded_as_it_was(tmp_path: Path) -> None:
    Index("sha1").save(tmp_path / "i")
    assert len(Index.load(tmp_path / "i")) == 0


def test_a_damaged_index_is_noticed_at_every_byte(tmp_path: Path) -> None:
    path = tmp_path / "i"
    scanned().save(path)
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(BadIndex):
            Index.load(path)
        path.write_bytes(whole[:at])
        with pytest.raises(BadIndex):
            Index.load(path)


def test_an_index_that_is_not_there_is_not_a_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Index.load(tmp_path / "i")


def test_metadata_that_changed_on_disk_is_not_believed(tmp_path: Path) -> None:
    scanned().save(tmp_path / "i")
    with pytest.raises(ChecksumMismatch):
        Index.load(tmp_path / "i").read_metadata(lambda offset, size: iter([bytes(size)]))


def test_find_gives_the_ordinal_of_a_name_in_any_order() -> None:
    index = scanned()
    for ordinal, path in reversed(list(enumerate(FILES))):
        assert index.find(f"data/{path}") == ordinal
    for other in ("data/nothing", "a.txt", "", "data/run"):
        with pytest.raises(KeyError):
            index.find(other)
    assert list(index.paths()) == [index.path(each) for each in range(len(index))]


def test_find_is_right_among_many_names() -> None:
    index = _large(20_000)
    for ordinal in random.Random(1).sample(range(20_000), 500):
        assert index.find(f"data/run/image_{ordinal:07}.dat") == ordinal


def test_a_row_takes_60_bytes_and_its_name_while_the_scan_goes_on() -> None:
    tracemalloc.start()
    try:
        index, names = Index("sha1"), name.Names(10)
        before = tracemalloc.get_traced_memory()[0]
        _fill(index, 50_000, names)
        took = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert (
        took / 50_000 - len("data/run/image_0000000.dat") < 60 * 1.125
    )  # bytearray and array grow an eighth at a time


def _large(count: int) -> Index:
    return _fill(Index("sha1"), count, name.Names(10))


def _fill(index: Index, count: int, names: name.Names) -> Index:
    for ordinal in range(count):
        path = f"data/run/image_{ordinal:07}.dat"
        names.add(path)
        index.names += path.encode()
        index.end.append(len(index.names))
        index.digests += bytes(20)
        for column in (index.offset, index.size, index.header, index.mtime):
            assert isinstance(column, array)
            column.append(ordinal)
    return index
