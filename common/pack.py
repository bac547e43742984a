"""A pack, one file of the volume: written once, and never read without being checked.

A reader checks every block against its digest in the sidecar before it lets any byte of it out.
"""

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from xxhash import xxh3_128_digest

from .errors import Damaged
from .pace import PART, Eager
from .sidecar import DIGEST, Sidecar, open_file, reading, sidecar_path
from .volume import BLOCK, Volume, discard_parts, fsync_directory

OPEN_PACKS = 128  # kept open by one process, for all its readers
AHEAD = 8 * BLOCK  # the disk is asked for so much before it is needed; the kernel's own 128 KiB leave it idle


class PackReader:
    """Reads pack ``name`` of ``volume``, checked; a context manager, for one thread.

    The open file is shared with other readers of this process and stays open for the next.  Damaged when pack or
    sidecar is missing, a link, or not as long as it was.
    """

    def __init__(self, volume: Volume, name: str, pace: Eager | None = None) -> None:
        """Open the pack, or share it where it is open already; ``pace`` is that of whom it is read for (None: us)."""
        self._pack = _packs.take(volume, name)
        self._pace = pace or Eager()
        self._parts: tuple[int, list[bytes]] = (-1, [])  # a checked block that is not held, and its parts' digests
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the pack back; harmless twice."""
        if not self._closed:
            self._closed = True
            _packs.give(self._pack)

    @property
    def size(self) -> int:
        """The pack's bytes."""
        return self._pack.size

    def read(self, offset: int, size: int) -> Iterator[bytes]:
        """Yield ``size`` bytes from ``offset``, in pieces up to 1 MiB, every one checked against its block's digest.

        Who is slow gets smaller ones, each held against what it was when its whole block was checked.
        Raises Damaged(pack, block) before any byte of a block that does not check, or when the pack ends early.
        """
        self._check_range(offset, size)
        stop = offset + size
        asked = offset
        while offset < stop:
            if size > BLOCK and asked < min(stop, offset + AHEAD // 2):
                asked = self._ask(asked, min(stop, offset + AHEAD))
            given, whole = 0, self._pace.lift()
            try:
                base, data = self._checked(offset, whole)
                start, end = offset - base, min(len(data), stop - base)
                given = end - start
                yield data if (start, end) == (0, len(data)) else data[start:end]
            finally:
                self._pace.put_down(given)
            offset += given

    def read_small(self, offset: int, size: int, hashtype: str, hashsum: str) -> bytes:
        """Return one member, checked by its own digest (hex) and not by its blocks; for small, scattered ones.

        Damaged(pack, offset) when it does not hash to that.
        """
        self._check_range(offset, size)
        with reading(self._pack.name):
            data = os.pread(self._pack.descriptor, size, offset)
        if len(data) != size or hasher(hashtype)(data).hexdigest() != hashsum:
            raise Damaged(pack=self._pack.name, offset=offset)
        return data

    def hash(self, offset: int, size: int, hashtype: str) -> str:
        """Return the digest (hex) of bytes as they lie there, unchecked by block; the audit's and the verdict's way."""
        self._check_range(offset, size)
        digest = hasher(hashtype)()
        while size:
            with reading(self._pack.name):
                data = os.pread(self._pack.descriptor, min(size, BLOCK), offset)
            if not data:
                raise Damaged(pack=self._pack.name, offset=offset)
            digest.update(data)
            offset, size = offset + len(data), size - len(data)
        return str(digest.hexdigest())

    def _ask(self, start: int, stop: int) -> int:
        """Have the disk begin to read up to ``stop``, and return that; a pack that came in is not in the page cache."""
        os.posix_fadvise(self._pack.descriptor, start, stop - start, os.POSIX_FADV_WILLNEED)
        return stop

    def _checked(self, offset: int, whole: bool) -> tuple[int, bytes]:
        """Return where the checked bytes around ``offset`` begin, and them: a ``whole`` block, or a part of one."""
        pack, base, data = self._pace.last  # neighbouring small reads often fall into one block
        if pack is not self._pack or not base <= offset < base + len(data):
            base, data = self._block(offset // BLOCK) if whole else self._part(offset)
            self._pace.last = self._pack, base, data
        return base, data

    def _part(self, offset: int) -> tuple[int, bytes]:
        """Return the part around ``offset``; its block is read once more where it was not the last one."""
        number, base = offset // BLOCK, offset // PART * PART
        known, digests = self._parts
        if known == number:
            with reading(self._pack.name, block=number):
                part = os.pread(self._pack.descriptor, PART, base)
            if xxh3_128_digest(part) == digests[base % BLOCK // PART]:
                return base, part
        view = memoryview(self._block(number)[1])
        self._parts = number, [xxh3_128_digest(view[at : at + PART]) for at in range(0, len(view), PART)]
        return base, bytes(view[base % BLOCK :][:PART])

    def _block(self, number: int) -> tuple[int, bytes]:
        """Return where block ``number`` begins, and its bytes, checked."""
        pack = self._pack
        with reading(pack.name, block=number):
            block = os.pread(pack.descriptor, BLOCK, number * BLOCK)
        if xxh3_128_digest(block) != pack.blocks[number * DIGEST : (number + 1) * DIGEST]:
            raise Damaged(pack=pack.name, block=number)
        return number * BLOCK, block

    def _check_range(self, offset: int, size: int) -> None:
        if self._closed:
            raise ValueError("the reader is closed")
        if offset < 0 or size < 0 or offset + size > self._pack.size:
            raise Damaged("the ledger names bytes that the pack does not have", pack=self._pack.name, offset=offset)


def discard(volume: Volume, name: str) -> None:
    """Remove pack ``name`` and its sidecar from the disk, where they are there; readers at work read on."""
    path = volume.pack_path(name)
    path.unlink(missing_ok=True)
    sidecar_path(volume, name).unlink(missing_ok=True)
    discard_parts(sidecar_path(volume, name))
    _packs.forget(volume, name)
    if path.parent.is_dir():
        fsync_directory(path.parent)


def forget(volume: Volume, name: str) -> None:
    """Let this process close pack ``name`` with its last reader, so that the space of a removed one comes back."""
    _packs.forget(volume, name)


@cache
def hasher(hashtype: str) -> Callable[..., Any]:
    """Return hashlib's constructor for ``hashtype``; the named ones are three times quicker than ``hashlib.new``."""
    known = getattr(hashlib, hashtype, None) if hashtype in hashlib.algorithms_guaranteed else None
    return known or (lambda data=b"": hashlib.new(hashtype, data))


@dataclass(eq=False)
class _Open:
    """An open pack, shared by ``users`` readers; ``dropped``: the last of them closes it."""

    name: str
    descriptor: int
    size: int
    blocks: bytes
    users: int = 0
    dropped: bool = False


class _OpenPacks:
    """The packs that this process has open, the least recently used first."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._lock = threading.Lock()
        self._packs: OrderedDict[tuple[Path, str], _Open] = OrderedDict()

    def take(self, volume: Volume, name: str) -> _Open:
        """Return the open pack, one more user counted."""
        key = (volume.root, name)
        with self._lock:
            if pack := self._packs.get(key):
                self._packs.move_to_end(key)
                pack.users += 1
                return pack
        fresh = _open_pack(volume, name)  # outside the lock: a slow disk must not stop the readers of other packs
        with self._lock:
            pack = self._packs.setdefault(key, fresh)
            pack.users += 1
            if pack is not fresh:
                os.close(fresh.descriptor)
            while len(self._packs) > self.capacity:
                self._drop(self._packs.popitem(last=False)[1])
        return pack

    def give(self, pack: _Open) -> None:
        """Count one user less."""
        with self._lock:
            pack.users -= 1
            if pack.dropped and not pack.users:
                os.close(pack.descriptor)

    def forget(self, volume: Volume, name: str) -> None:
        """Drop a pack that is leaving the disk, so that its space comes back."""
        with self._lock:
            if pack := self._packs.pop((volume.root, name), None):
                self._drop(pack)

    def _drop(self, pack: _Open) -> None:
        pack.dropped = True
        if not pack.users:
            os.close(pack.descriptor)


_packs = _OpenPacks(OPEN_PACKS)


def _open_pack(volume: Volume, name: str) -> _Open:
    sidecar = Sidecar.read(volume, name)
    with reading(name):
        descriptor = open_file(volume, name)
    size = os.fstat(descriptor).st_size
    if size != sidecar.size or len(sidecar.blocks) != -(-size // BLOCK) * DIGEST:
        os.close(descriptor)
        raise Damaged("the pack is not as long as it was", pack=name, size=size)
    return _Open(name, descriptor, size, sidecar.blocks)
