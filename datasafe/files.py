"""The files of a dataset, packed: 100,000 take 15 MB and their names, where an object for each takes ten times that.

A row is a name and what is known of the content: size, CRC-32, SHA-512 and the digests of its blocks.
"""

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha512 as hashed
from itertools import accumulate, pairwise

from .blocks import BLOCK, WIDTH, Content

SUM = 64  # bytes of a SHA-512
MD5 = 16
SOME = 1000  # rows that are packed at once
UNKNOWN = (1 << 64) - 1  # the size of what has lost its block digests


class Files:
    """Rows in the order of their coming; those made by ``ordered`` are found by name."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._names, self._ends, self._sums = bytearray(), array("Q", [0]), bytearray()
        self.sizes, self.crcs = array("Q"), array("I")
        self._at, self._blocks = array("Q"), bytearray()

    def __len__(self) -> int:
        return len(self.sizes)

    def add(self, name: bytes, sha512: bytes) -> int:
        """Add a row of which nothing more is known yet; return its number."""
        self.extend([name], sha512)
        return len(self.sizes) - 1

    def extend(self, names: Sequence[bytes], sums: bytes) -> None:
        """Add rows of which nothing more is known yet; ``sums`` are their SHA-512, one after the other."""
        self._ends.extend(accumulate(map(len, names), initial=self._ends.pop()))
        self._names += b"".join(names)
        self._sums += sums
        self.sizes.extend([UNKNOWN] * len(names))
        self.crcs.frombytes(bytes(self.crcs.itemsize * len(names)))
        self._at.frombytes(bytes(self._at.itemsize * len(names)))

    def describe(self, row: int, content: Content) -> None:
        """Say what the content of a row is; its path is not looked at."""
        _, self.sizes[row], self.crcs[row], blocks = content
        self._at[row] = len(self._blocks)
        self._blocks += blocks

    def raw(self, row: int) -> bytes:
        """Return a name in UTF-8."""
        return bytes(self._names[self._ends[row] : self._ends[row + 1]])

    def name(self, row: int) -> str:
        """Return a name."""
        return self.raw(row).decode()

    def sha512(self, row: int) -> bytes:
        """Return the digest of a content."""
        return bytes(self._sums[row * SUM : (row + 1) * SUM])

    def extent(self, row: int) -> tuple[int, int]:
        """Return the bytes of a name in UTF-8, and of its content."""
        return self._ends[row + 1] - self._ends[row], self.sizes[row]

    def block(self, row: int, number: int) -> bytes:
        """Return the digest of a block; empty beyond the end."""
        at = self._at[row] + number * WIDTH
        return bytes(self._blocks[at : at + WIDTH]) if number < _blocks(self.sizes[row]) else b""

    def blocks(self, row: int) -> bytes:
        """Return the digests of all blocks of a content."""
        return bytes(self._blocks[self._at[row] : self._at[row] + _blocks(self.sizes[row]) * WIDTH])

    def find(self, name: bytes) -> int:
        """Return the row of a name in UTF-8, -1 where there is none.  Only of what is in the order of names."""
        row = bisect_left(range(len(self)), name, key=self.raw)
        return row if row < len(self) and self.raw(row) == name else -1

    def names(self) -> Iterator[bytes]:
        """Yield all names in UTF-8."""
        names = bytes(self._names)
        return (names[start:end] for start, end in pairwise(self._ends))

    def places(self) -> dict[bytes, int]:
        """Return name in UTF-8 -> row; for a while, as this is larger than all the rest."""
        return dict(zip(self.names(), range(len(self)), strict=True))

    def digest(self) -> bytes:
        """Return what is equal only where names and contents are, in this order."""
        told = hashed(b"\0".join(self.names()))
        told.update(self._sums)
        return told.digest()

    @property
    def fingerprint(self) -> bytes:
        """What is equal only where names and contents are; in whatever order they are."""
        return fingerprint(spelt(self.raw(row), self.sha512(row)) for row in range(len(self)))


def repeated(key: Callable[[int], bytes], count: int) -> dict[bytes, list[int]]:
    """Return the rows of each ``key`` that more than one of ``count`` rows has."""
    known = sorted(map(key, range(count)))
    twice: dict[bytes, list[int]] = {above: [] for above, below in pairwise(known) if above == below}
    del known
    for row in range(count) if twice else ():
        if key(row) in twice:
            twice[key(row)].append(row)
    return twice


def spelt(name: bytes, sha512: bytes) -> bytes:
    """Return a row as one text, which sorts by its name."""
    return b"%b\0%b" % (name, sha512)


def fingerprint(rows: Iterable[bytes]) -> bytes:
    """Return the fingerprint of files whose rows these are, ``spelt``."""
    told = hashed()
    for row in sorted(rows):
        told.update(row)
    return told.digest()


def ordered(rows: Iterable[bytes]) -> Files:
    """Return the files whose rows these are, ``spelt``, in the order of their names."""
    files, waiting = Files(), sorted(rows, reverse=True)
    while waiting:
        some = waiting[: -SOME - 1 : -1]
        del waiting[-SOME:]  # and gone: the list is as large as what is made of it
        files.extend([row[: -SUM - 1] for row in some], b"".join([row[-SUM:] for row in some]))
    return files


def _blocks(size: int) -> int:
    return 0 if size == UNKNOWN else -(-size // BLOCK)
