"""Bytes of a content file, each block checked before any byte of it leaves."""

import os
from collections.abc import Callable, Iterator

from ..common.pace import PART, Eager
from .blocks import BLOCK, digest
from .folders import Folders

Digest = Callable[[int], bytes]  # number of a block -> what it must be


class Bad(Exception):
    """Block ``block`` is not what its digest says."""

    def __init__(self, block: int) -> None:
        """Name the block."""
        super().__init__(block)
        self.block = block


def checked(
    folders: Folders, path: str, expected: Digest, start: int, stop: int, pace: Eager
) -> Iterator[bytes | memoryview]:
    """Yield the bytes of a content file; who is slow gets parts of blocks, each held against its whole block's check.

    Raises Bad, or OSError where the disk refuses.
    """
    if start == stop:
        return
    descriptor = folders.open(path)
    try:
        parts = _Parts(descriptor, expected)
        while start < stop:
            whole, given = pace.lift(), 0
            try:
                base, data = (start // BLOCK * BLOCK, _block(descriptor, expected, start // BLOCK)) if whole else \
                    parts.around(start)  # fmt: skip
                left, right = start - base, min(stop - base, len(data))
                given = right - left
                yield data if given == len(data) else memoryview(data)[left:right]
            finally:
                pace.put_down(given)
            start += given
    finally:
        os.close(descriptor)


class _Parts:
    """Parts of blocks: a block is read and checked once for all of its parts, and not held between them."""

    def __init__(self, descriptor: int, expected: Digest) -> None:
        self._descriptor, self._expected = descriptor, expected
        self._number, self._digests = -1, [b""]

    def around(self, at: int) -> tuple[int, bytes]:
        """Return where the part around ``at`` begins, and its bytes."""
        number, base = at // BLOCK, at // PART * PART
        if number == self._number:
            part = os.pread(self._descriptor, PART, base)
            if digest(part) == self._digests[base % BLOCK // PART]:
                return base, part
        block = _block(self._descriptor, self._expected, number)
        view = memoryview(block)
        self._number, self._digests = number, [digest(view[low : low + PART]) for low in range(0, len(view), PART)]
        return base, block if len(block) <= PART else bytes(view[base % BLOCK :][:PART])


def _block(descriptor: int, expected: Digest, number: int) -> bytes:
    data = os.pread(descriptor, BLOCK, number * BLOCK)
    wanted = expected(number)
    if not wanted or digest(data) != wanted:
        raise Bad(number)
    return data
