"""The zip that is never made: any range of it equals that part of the whole, and other programs read it."""

import io
import random
import subprocess
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pacifica.common.pace import PART
from pacifica.datasafe.zipstream import Part, Read, StoredZip

AT = 1_700_000_000.0


def archive(files: dict[str, bytes]) -> StoredZip:
    @contextmanager
    def opener() -> Iterator[Read]:
        yield lambda index, start, stop: iter([[*files.values()][index][start:stop]])

    parts = [Part(name, len(content), zlib.crc32(content)) for name, content in files.items()]
    return StoredZip(parts, AT, opener)


FILES = {"MANIFEST.yaml": b"x: y", "sub/ä.dat": random.Random(1).randbytes(3000), "empty": b"", "b": b"b" * 500}


def test_the_whole_is_a_zip_of_the_promised_length(tmp_path: Path) -> None:
    made = archive(FILES)
    raw = b"".join(made.stream())
    assert len(raw) == made.length
    with zipfile.ZipFile(io.BytesIO(raw)) as read:
        assert {name: read.read(name) for name in read.namelist()} == FILES
        assert read.infolist()[0].date_time == (2023, 11, 14, 22, 13, 20)
    (tmp_path / "x.zip").write_bytes(raw)
    subprocess.run(["unzip", "-tq", tmp_path / "x.zip"], check=True, capture_output=True)


def test_any_range_equals_that_part_of_the_whole() -> None:
    made = archive(FILES)
    raw = b"".join(made.stream())
    dice = random.Random(2)
    for _ in range(500):
        start, stop = sorted(dice.randrange(made.length + 1) for _ in range(2))
        assert b"".join(made.stream(start, stop)) == raw[start:stop]


def test_the_first_piece_comes_soon_and_the_others_are_large() -> None:
    made = archive({f"{number}": bytes(4096) for number in range(1000)})
    first, *others, _ = map(len, made.stream())
    assert first <= 64 << 10 and all(PART - 8192 < size <= PART for size in others)


class Seekable(io.RawIOBase):
    """Reads a StoredZip by ranges."""

    def __init__(self, made: StoredZip) -> None:
        self.made, self.at = made, 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = offset + (0, self.at, self.made.length)[whence]
        return self.at

    def tell(self) -> int:
        return self.at

    def read(self, size: int = -1) -> bytes:
        stop = self.made.length if size < 0 else self.at + size
        data = b"".join(self.made.stream(self.at, stop))
        self.at += len(data)
        return data


def test_zip64_where_sizes_offsets_or_counts_need_it() -> None:
    @contextmanager
    def zeros() -> Iterator[Read]:
        yield lambda _, start, stop: iter([bytes(stop - start)])

    large = [Part("large", 5 << 30, 0), Part("after", 10, zlib.crc32(bytes(10)))]
    many = [Part(f"f{at}", 0, 0) for at in range(70_000)]
    for parts in (large, many):
        made = StoredZip(parts, AT, zeros)
        with zipfile.ZipFile(Seekable(made)) as read:  # type: ignore[call-overload]
            assert [info.file_size for info in read.infolist()] == [part.size for part in parts]
            assert read.read(parts[-1].name) == bytes(parts[-1].size)
