"""What a scan of a bundle found: one row a file, in packed columns, on disk and in memory (docs/formats.md#index).

A row takes 52 bytes and its name; objects would take ten times that, and a bundle may have a million of them.
"""

import hashlib
import json
import sys
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from ..common.errors import ChecksumMismatch, ServiceError

MAGIC = b"pacifica index 1\n"
CHECK_BYTES = 32  # sha256 of all that is before it, the last thing in the file

_COLUMNS = (("offset", "Q"), ("size", "Q"), ("header", "I"), ("mtime", "d"), ("end", "I"))
_MASK = (1 << 64) - 1


class BadIndex(ServiceError):
    """A saved index is damaged, or of another version: the bundle has to be scanned again."""

    code = "bad_index"


class Span(NamedTuple):
    """Where a member's bytes lie in the bundle, and what they hash to (bytes)."""

    offset: int
    size: int
    digest: bytes


class Index:
    """The files below data/ of one bundle in the tar's order, and its metadata.txt.

    Columns by ordinal: ``offset`` and ``size`` of the bytes, ``header`` (bytes of header blocks directly before
    ``offset`` that belong to the file), ``mtime`` (epoch seconds), ``end`` (of its name in ``names``); ``digests`` has
    ``digest_size`` bytes a row, by ``hashtype``.  ``total`` is the bundle's size.
    """

    def __init__(self, hashtype: str) -> None:
        """Start an empty index of digests by ``hashtype``, any fixed-length name of hashlib."""
        self.hashtype = hashtype
        self.digest_size = hashlib.new(hashtype).digest_size
        self.offset, self.size, self.header = array("Q"), array("Q"), array("I")
        self.mtime, self.end = array("d"), array("I")
        self.digests, self.names = bytearray(), bytearray()
        self.total = 0
        self.metadata = Span(0, 0, b"")
        self.metadata_bytes: bytes | bytearray | None = None  # kept by the scan when small; not saved
        self._keys: array[int] | None = None

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self.offset)

    @property
    def count(self) -> int:
        """The number of files."""
        return len(self.offset)

    def raw_path(self, ordinal: int) -> bytes | bytearray:
        """Return the name of file ``ordinal`` as UTF-8."""
        return self.names[self.end[ordinal - 1] if ordinal else 0 : self.end[ordinal]]

    def path(self, ordinal: int) -> str:
        """Return the name of file ``ordinal``, ``data/...``."""
        return self.raw_path(ordinal).decode()

    def paths(self) -> Iterator[str]:
        """Yield the names in the tar's order."""
        start = 0
        for end in self.end:
            yield self.names[start:end].decode()
            start = end

    def digest(self, ordinal: int) -> str:
        """Return the digest of file ``ordinal``, lower-case hex."""
        width = self.digest_size
        return self.digests[ordinal * width : ordinal * width + width].hex()

    def replace_digest(self, ordinal: int, digest: str) -> None:
        """Take ``digest`` (hex) for that of file ``ordinal``."""
        width = self.digest_size
        self.digests[ordinal * width : ordinal * width + width] = bytes.fromhex(digest)

    def fingerprint(self) -> str:
        """Return what tells this bundle from others: a digest of its members' names, sizes and digests, in order."""
        digest = hashlib.sha256(f"{self.hashtype} {self.metadata.size} {self.metadata.digest.hex()}\n".encode())
        for column in (self.size, self.end):
            digest.update(_native(column[:]).tobytes())
        digest.update(self.names)
        digest.update(self.digests)
        return digest.hexdigest()

    def find(self, path: str) -> int:
        """Return the ordinal of the file named ``path``, or raise KeyError."""
        keys = self._keys if self._keys is not None else self._sorted_keys()
        low = (1 << len(self).bit_length()) - 1
        key = hash(path) & _MASK & ~low
        raw = path.encode()
        for at in range(bisect_left(keys, key), len(keys)):
            if keys[at] & ~low != key:
                break
            if self.raw_path(keys[at] & low) == raw:
                return keys[at] & low
        raise KeyError(path)

    def read_metadata(self, read: Callable[[int, int], Iterator[bytes]]) -> bytes | bytearray:
        """Return metadata.txt: as the scan kept it, or by ``read(offset, size)``, which must give the same bytes."""
        if self.metadata_bytes is None:
            data = bytearray()  # b"".join would hold it twice
            for piece in read(self.metadata.offset, self.metadata.size):
                data += piece
            if hashlib.new(self.hashtype, data).digest() != self.metadata.digest:
                raise ChecksumMismatch("metadata.txt is no longer what was received", file="metadata.txt")
            self.metadata_bytes = data
        return self.metadata_bytes

    def save(self, path: Path) -> None:
        """Write the index to ``path``, replacing what is there.

        Not synced: it can be had again from the bundle, and ``load`` tells a torn copy from a whole one.
        """
        check = hashlib.sha256()
        with path.open("wb") as file:
            for piece in self._pieces():
                check.update(piece)
                file.write(piece)
            file.write(check.digest())

    @classmethod
    def load(cls, path: Path) -> "Index":
        """Return what ``save`` wrote to ``path``; BadIndex when it is damaged, FileNotFoundError when there is none."""
        with path.open("rb") as file:
            _check(file)
            if file.read(len(MAGIC)) != MAGIC:
                raise BadIndex
            facts: dict[str, Any] = json.loads(file.read(int.from_bytes(file.read(4), "little")))
            index, count = cls(facts["hashtype"]), facts["count"]
            index.total = facts["total"]
            offset, size, digest = facts["metadata"]
            index.metadata = Span(offset, size, bytes.fromhex(digest))
            for name, kind in _COLUMNS:
                column = array(kind)
                column.fromfile(file, count)
                setattr(index, name, _native(column))
            index.digests = bytearray(file.read(index.digest_size * count))
            index.names = bytearray(file.read(index.end[-1] if count else 0))
        return index

    def _pieces(self) -> Iterator[bytes | bytearray]:
        where = (self.metadata.offset, self.metadata.size, self.metadata.digest.hex())
        facts = {"hashtype": self.hashtype, "total": self.total, "count": len(self), "metadata": where}
        head = json.dumps(facts).encode()
        yield MAGIC + len(head).to_bytes(4, "little") + head
        for name, _ in _COLUMNS:
            yield _native(getattr(self, name)[:]).tobytes()
        yield self.digests
        yield self.names

    def _sorted_keys(self) -> "array[int]":
        """Build what ``find`` searches: hashes of the names, in order, each with its ordinal in the lowest bits."""
        low = (1 << len(self).bit_length()) - 1
        high = _MASK & ~low
        self._keys = array("Q", sorted(hash(path) & high | ordinal for ordinal, path in enumerate(self.paths())))
        return self._keys


def _check(file: BinaryIO) -> None:
    """Raise BadIndex unless the end of ``file`` is the digest of what is before it; leave it at its beginning."""
    left = file.seek(0, 2) - CHECK_BYTES
    file.seek(0)
    check = hashlib.sha256()
    while left > 0:
        piece = file.read(min(left, 1 << 20))
        check.update(piece)
        left -= len(piece)
    if left or file.read() != check.digest():
        raise BadIndex
    file.seek(0)


def _native(column: "array[Any]") -> "array[Any]":
    """Turn ``column`` between little-endian, which is what lies on disk, and this machine's order, in place."""
    if sys.byteorder == "big":
        column.byteswap()
    return column
