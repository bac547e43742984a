"""A zip file that is never made: stored members whose sizes and CRCs are known, any range of it on demand.

Its length is exact before a byte is read, the same members give the same bytes for ever, and only the members that a
range touches are opened.  Zip64 fields appear where a number needs them (PKWARE APPNOTE 6.3.x, §4.5.3).
"""

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from struct import Struct
from typing import NamedTuple

from ..common.pace import PART

FIRST = 64 << 10  # small members are yielded together, the first of them up to this: who asks sees that it comes

_LOCAL = Struct("<4s5H3L2H")
_CENTRAL = Struct("<4s6H3L5H2L")
_END64 = Struct("<4sQ2H2L4Q")
_LOCATOR = Struct("<4sLQL")
_END = Struct("<4s4H2LH")

_UTF8 = 0x0800
_FULL16 = 0xFFFF
_FULL32 = 0xFFFFFFFF
_MADE_BY = 3 << 8 | 45  # Unix, so that the mode below counts
_MODE = 0o100644 << 16

Read = Callable[[int, int, int], Iterator[bytes | memoryview]]  # member's place among the parts, start, stop -> bytes
Opener = Callable[[], AbstractContextManager[Read]]  # opened once per stream, closed at its end


class Part(NamedTuple):
    """One member; the name is relative, with ``/``."""

    name: str
    size: int
    crc32: int


class StoredZip:
    """The archive of ``parts`` in their order, each dated ``at`` (epoch seconds UTC); ``opener`` gives their bytes.

    ``extents`` are the bytes of the name and the content of each part, where they are known before it is made.
    """

    def __init__(
        self, parts: Sequence[Part], at: float, opener: Opener, extents: Iterable[tuple[int, int]] | None = None
    ) -> None:
        """Lay out the archive; nothing is read."""
        self._parts = parts
        self._opener = opener
        self._date, self._time = _dos(at)
        self._starts = array("Q")
        start = names = wide = 0
        for length, size in extents or ((len(part.name.encode()), part.size) for part in parts):
            self._starts.append(start)
            if size >= _FULL32 or start >= _FULL32:
                wide += _wide_length(size, start)
            names += length
            start += _LOCAL.size + length + size + (20 if size >= _FULL32 else 0)
        self._starts.append(start)
        directory = _CENTRAL.size * len(parts) + names + wide
        self.length = start + directory + len(self._end(directory))

    def stream(self, start: int = 0, stop: int | None = None) -> Iterator[bytes | memoryview]:
        """Yield the bytes from ``start`` up to ``stop`` (default: the end); small ones together, up to about PART."""
        stop = self.length if stop is None else min(stop, self.length)
        waiting, most = bytearray(), FIRST
        with self._opener() as read:
            for piece in self._pieces(start, stop, read):
                if waiting and len(waiting) + len(piece) > most:
                    yield _taken(waiting)
                    most = PART
                if len(piece) < most:
                    waiting += piece
                else:
                    yield piece
                    most = PART
        if waiting:
            yield _taken(waiting)

    def _pieces(self, start: int, stop: int, read: Read) -> Iterator[bytes | memoryview]:
        first = bisect_right(self._starts, start) - 1
        for index in range(first, len(self._parts)):
            begin = self._starts[index]
            if begin >= stop:
                return
            part, header = self._parts[index], self._header(index)
            if start < begin + len(header):
                yield header[max(0, start - begin) : stop - begin]
            body = begin + len(header)
            left, right = max(0, start - body), min(part.size, stop - body)
            if left < right:
                yield from read(index, left, right)
        at = self._starts[-1]
        for piece in self._directory() if stop > at else ():
            if at < stop and start < at + len(piece):
                yield piece[max(0, start - at) : stop - at]
            at += len(piece)

    def _header(self, index: int) -> bytes:
        part = self._parts[index]
        name = part.name.encode()
        extra = _wide(part.size, part.size) if part.size >= _FULL32 else b""
        size = _FULL32 if extra else part.size
        return _LOCAL.pack(
            b"PK\x03\x04", 45 if extra else 20, _flags(name), 0, self._time, self._date,
            part.crc32, size, size, len(name), len(extra),
        ) + name + extra  # fmt: skip

    def _directory(self) -> Iterator[bytes]:
        length = 0
        for part, start in zip(self._parts, self._starts, strict=False):
            name = part.name.encode()
            wide = [*([part.size] * 2 if part.size >= _FULL32 else ()), *([start] if start >= _FULL32 else ())]
            extra = _wide(*wide) if wide else b""
            size = min(part.size, _FULL32)
            record = _CENTRAL.pack(
                b"PK\x01\x02", _MADE_BY, 45 if extra else 20, _flags(name), 0, self._time, self._date, part.crc32,
                size, size, len(name), len(extra), 0, 0, 0, _MODE, min(start, _FULL32),
            ) + name + extra  # fmt: skip
            length += len(record)
            yield record
        yield self._end(length)

    def _end(self, length: int) -> bytes:
        count, start = len(self._parts), self._starts[-1]
        end = _END.pack(
            b"PK\x05\x06", 0, 0, min(count, _FULL16), min(count, _FULL16), min(length, _FULL32), min(start, _FULL32), 0
        )
        if count < _FULL16 and length < _FULL32 and start < _FULL32:
            return end
        end64 = _END64.pack(b"PK\x06\x06", 44, _MADE_BY, 45, 0, 0, count, count, length, start)
        return end64 + _LOCATOR.pack(b"PK\x06\x07", 0, start + length, 1) + end


def _taken(waiting: bytearray) -> bytes:
    """Empty ``waiting`` and return what it held: who waits for a slow client must not hold it twice."""
    piece = bytes(waiting)
    waiting.clear()
    return piece


def _wide(*values: int) -> bytes:
    """Return a zip64 extra field."""
    body = b"".join(value.to_bytes(8, "little") for value in values)
    return b"\x01\x00" + len(body).to_bytes(2, "little") + body


def _wide_length(size: int, start: int) -> int:
    fields = (2 if size >= _FULL32 else 0) + (1 if start >= _FULL32 else 0)
    return 4 + 8 * fields if fields else 0


def _flags(name: bytes) -> int:
    return 0 if name.isascii() else _UTF8


def _dos(at: float) -> tuple[int, int]:
    """Return the date and time fields for ``at``, in UTC, within the years that they can hold."""
    when = datetime.fromtimestamp(at, UTC)
    if when.year < 1980:
        return 0x21, 0
    year = min(when.year, 2107)
    return year - 1980 << 9 | when.month << 5 | when.day, when.hour << 11 | when.minute << 5 | when.second >> 1
