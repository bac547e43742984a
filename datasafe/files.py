"""The files of a dataset, packed: 100,000 take 15 MB and their names, where an object for each takes ten times that.

A row is a name and what is known of the content: size, CRC-32, SHA-512 and the digests of its blocks.
"""

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable
from hashlib import sha512 as hashed
from itertools import pairwise

from .blocks import BLOCK, WIDTH

SUM = 64  # bytes of a SHA-512
MD5 = 16
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
        self._names += name
        self._ends.append(len(self._names))
        self._sums += sha512
        self.sizes.append(UNKNOWN)
        self.crcs.append(0)
        self._at.append(0)
        return len(self.sizes) - 1

    def describe(self, row: int, size: int, crc32: int, blocks: bytes) -> None:
        """Say what the content of a row is."""
        self.sizes[row], self.crcs[row], self._at[row] = size, crc32, len(self._blocks)
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

    def places(self) -> dict[bytes, int]:
        """Return name in UTF-8 -> row; for a while, as this is larger than all the rest."""
        return {self.raw(row): row for row in range(len(self))}

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
        row = waiting.pop()  # and gone: the list is as large as what is made of it
        files.add(row[: -SUM - 1], row[-SUM:])
    return files


def _blocks(size: int) -> int:
    return 0 if size == UNKNOWN else -(-size // BLOCK)
