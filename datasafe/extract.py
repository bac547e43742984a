"""One member of a zip becomes one file: inflated within its declared size and digested in the same pass.

A member of at most one block is done in one piece; a larger one block by block, its digests on threads of their own
(hashlib and zlib give up the interpreter's lock), its bytes flushed to the disk as they come.
"""

import hashlib
import os
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

from .blocks import BLOCK, digest
from .faults import refuse
from .members import Entry
from .taken import Held, Taken
from .zipindex import STORED, release

_AHEAD = 8  # blocks that wait for a digest: bounds the memory
_SLICE = 256 << 10  # packed bytes per step: what zlib leaves over is copied
_FLUSH = 32 << 20
_RELEASE = 8 << 20  # bytes of the archive that stay in memory behind the reader


class Extractor:
    """Writes members of the zip ``view`` below ``content``; ``held`` is asked before a file is kept."""

    def __init__(self, view: memoryview, content: Path, held: Held | None) -> None:
        """Write nothing yet; folders are made when a file needs them."""
        self._view = view
        self._content = content
        self._held = held
        self._folder = ""
        self._descriptor = -1
        self._lanes: list[_Lane] = []
        self._unreleased = 0

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the folder and end the threads."""
        self._leave()
        for lane in self._lanes:
            lane.close()

    def whole(self, entry: Entry) -> bytes:
        """Return the content of a member, checked; for small ones."""
        return b"".join(_blocks(self._view, entry))

    def extract(self, entry: Entry) -> Taken:
        """Write a member and return what it was; Refused when it is not what its header declares."""
        self._unreleased += entry.packed
        if self._unreleased > _RELEASE:
            self._unreleased = entry.packed
            release(self._view)
        return self._small(entry) if entry.size <= BLOCK else self._large(entry)

    def _small(self, entry: Entry) -> Taken:
        data = _piece(self._view, entry)
        if zlib.crc32(data) != entry.crc32:
            raise _damaged(entry)
        taken = Taken(
            entry.name, entry.size, entry.crc32, hashlib.md5(data, usedforsecurity=False).digest(),
            hashlib.sha512(data).digest(), digest(data) if entry.size else b"", True,
        )  # fmt: skip
        if self._held is not None and self._held(taken):
            return taken._replace(stored=False)
        descriptor = self._create(entry.name)
        try:
            _write(descriptor, data)
        finally:
            os.close(descriptor)
        return taken

    def _large(self, entry: Entry) -> Taken:
        md5, sha512, crc32 = hashlib.md5(usedforsecurity=False), hashlib.sha512(), 0
        blocks = bytearray()
        self._lanes = self._lanes or [_Lane(), _Lane(), _Lane()]
        first, second, disk = self._lanes
        descriptor = self._create(entry.name)
        try:
            written = 0
            for block in _blocks(self._view, entry, check=False):
                first.submit(sha512.update, block)
                second.submit(md5.update, block)
                crc32 = zlib.crc32(block, crc32)
                blocks += digest(block)
                _write(descriptor, block)
                written += len(block)
                if written % _FLUSH == 0:
                    disk.submit(os.fdatasync, descriptor)
                if written % _RELEASE == 0:
                    release(self._view)
        finally:
            try:
                for lane in self._lanes:
                    lane.join()
            finally:
                os.close(descriptor)
        if crc32 != entry.crc32:
            raise _damaged(entry)
        taken = Taken(entry.name, entry.size, crc32, md5.digest(), sha512.digest(), bytes(blocks), True)
        if self._held is None or not self._held(taken):
            return taken
        self._unlink(entry.name)
        return taken._replace(stored=False)

    def _create(self, name: str) -> int:
        """Open a new file in its folder, which stays open for the next: members come folder by folder."""
        folder, _, base = name.rpartition("/")
        if self._descriptor < 0 or folder != self._folder:
            path = self._content / folder
            path.mkdir(mode=0o750, parents=True, exist_ok=True)
            self._leave()
            self._descriptor, self._folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), folder
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(base, flags, 0o440, dir_fd=self._descriptor)

    def _leave(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)

    def _unlink(self, name: str) -> None:
        """Remove a file that is not needed, and the folders that it leaves empty (OCFL allows none)."""
        path = self._content / name
        path.unlink()
        self._leave()
        for folder in path.parents:
            if folder == self._content.parent or any(folder.iterdir()):
                break
            folder.rmdir()


class _Lane:
    """One thread that does what it is given, in order, at most a few blocks behind."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="intake")
        self._waiting: deque[Future[Any]] = deque()

    def submit(self, call: Callable[..., Any], argument: Any) -> None:
        """Queue a call; raises what an earlier one raised."""
        if len(self._waiting) >= _AHEAD:
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(call, argument))

    def join(self) -> None:
        """Wait until all is done."""
        while self._waiting:
            self._waiting.popleft().result()

    def close(self) -> None:
        self._pool.shutdown()


def _piece(view: memoryview, entry: Entry) -> bytes | memoryview:
    """Return the content of a small member in one piece, of exactly its declared size."""
    packed = view[entry.start : entry.start + entry.packed]
    if entry.method == STORED:
        return packed
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = inflater.decompress(packed, entry.size + 1)
    except zlib.error as error:
        raise _damaged(entry) from error
    if len(data) != entry.size or not inflater.eof or inflater.unused_data:
        raise _damaged(entry)
    return data


def _blocks(view: memoryview, entry: Entry, *, check: bool = True) -> Iterator[bytes | memoryview]:
    """Yield the content in blocks of BLOCK bytes, the last one shorter; never more than the declared size."""
    crc32 = 0
    for block in _stored(view, entry) if entry.method == STORED else _inflated(view, entry):
        crc32 = zlib.crc32(block, crc32) if check else 0
        yield block
    if check and crc32 != entry.crc32:
        raise _damaged(entry)


def _stored(view: memoryview, entry: Entry) -> Iterator[memoryview]:
    end = entry.start + entry.size
    for at in range(entry.start, end, BLOCK):
        yield view[at : min(at + BLOCK, end)]


def _inflated(view: memoryview, entry: Entry) -> Iterator[bytes]:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    block, total = bytearray(), 0
    at, end = entry.start, entry.start + entry.packed
    waiting: bytes | memoryview = b""
    try:
        while not inflater.eof:
            if not waiting and at < end:
                waiting, at = view[at : min(at + _SLICE, end)], at + _SLICE
            starved = not waiting  # then only what zlib still holds back can come
            more = inflater.decompress(waiting, min(BLOCK - len(block), entry.size - total + 1))
            if starved and not more and not inflater.eof:
                raise _damaged(entry)
            waiting = inflater.unconsumed_tail
            block += more
            total += len(more)
            if total > entry.size:
                raise _damaged(entry)
            if len(block) == BLOCK:
                yield bytes(block)
                block.clear()
    except zlib.error as error:
        raise _damaged(entry) from error
    if total != entry.size or inflater.unused_data or waiting or at < end:
        raise _damaged(entry)
    if block:
        yield bytes(block)


def _write(descriptor: int, data: bytes | memoryview) -> None:
    while len(data):
        data = data[os.write(descriptor, data) :]


def _damaged(entry: Entry) -> Exception:
    return refuse("member_damaged", "A member's content does not match its size or checksum.", entry.name)
