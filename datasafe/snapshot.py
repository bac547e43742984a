"""One version of a dataset, open for reading: every byte that leaves is a checked byte.

A snapshot needs no lock: what a version refers to is never changed, so a later version does not disturb it.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ..common.errors import Damaged, NotFound, RangeNotSatisfiable
from ..common.moment import epoch
from . import inventory, manifest
from .blocks import BLOCK, WIDTH, Content, digest
from .extract import Taken
from .folders import Folders
from .inventory import Inventory
from .loi import Loi
from .zipstream import Part, Read, StoredZip


class Snapshot:
    """Version ``number`` of the dataset whose object lies at ``folder``; made by ``DatasetStore.open``."""

    def __init__(self, folder: Path, held: Inventory, number: int, contents: Mapping[str, Content]) -> None:
        """Read nothing; ``contents`` are the block digests of the object's content files by path."""
        self.loi: Loi = held.loi
        self.number = number
        self.digests: Mapping[str, str] = inventory.names(held, number)  # name -> SHA-512
        self._folder = folder
        self._inventory = held
        self._contents = contents

    @property
    def created(self) -> float:
        """When the version was stored, epoch seconds UTC."""
        return epoch(self._version.created)

    @property
    def author(self) -> inventory.Author:
        """Who stored the version, and why."""
        user = self._version.user
        return inventory.Author(name=user.get("name", ""), address=user.get("address", ""),
                                message=self._version.message)  # fmt: skip

    @property
    def md5(self) -> Mapping[str, str]:
        """The MD5 of each file, from which LabInform's checksums are made; name -> lower-case hex."""
        sums = {path: md5 for md5, paths in self._inventory.fixity.get("md5", {}).items() for path in paths}
        last = ((name, self._inventory.manifest[digest][-1]) for name, digest in self.digests.items())
        return {name: sums[path] for name, path in last if path in sums}

    @property
    def names(self) -> list[str]:
        """The files: MANIFEST.yaml first, then by name."""
        return sorted(self.digests, key=lambda name: (name != manifest.NAME, name))

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(self.content(name).size for name in self.digests)

    def content(self, name: str) -> Content:
        """Return where a file lies and how large it is; NotFound when this version has no such file."""
        try:
            path = self._inventory.manifest[self.digests[name]][-1]
        except KeyError:
            raise NotFound("This version of the dataset has no such file.", file=name) from None
        try:
            return self._contents[path]
        except KeyError:
            raise Damaged("The block digests of a file are lost.", loi=str(self.loi), file=name) from None

    def read(self, name: str, start: int = 0, stop: int | None = None) -> Iterator[bytes | memoryview]:
        """Yield the bytes of a file from ``start`` to ``stop`` (default: the end) in pieces of at most 1 MiB.

        Each block is checked before any byte of it leaves; Damaged names the file and the block.
        """
        with Folders(self._folder) as folders:
            yield from self._read(folders, name, start, self.content(name).size if stop is None else stop)

    def whole(self, name: str) -> bytes:
        """Return a small file, such as MANIFEST.yaml."""
        return b"".join(self.read(name))

    def holds(self, taken: Taken) -> bool:
        """Say whether the object has this content, read again just now and sound."""
        contents = [self._contents.get(path) for path in self._inventory.manifest.get(taken.sha512, ())]
        newest = contents[-1] if contents else None
        if newest is None or (newest.size, newest.blocks) != (taken.size, taken.blocks):
            return False
        try:
            with Folders(self._folder) as folders:
                return sum(map(len, _checked(folders, newest, 0, taken.size))) == taken.size
        except (_Bad, OSError):
            return False

    def zip(self) -> StoredZip:
        """Return the version as a stored zip with exact length, ETag and ranges."""
        parts = [Part(name, content.size, content.crc32, self.digests[name])
                 for name, content in ((name, self.content(name)) for name in self.names)]  # fmt: skip
        return StoredZip(parts, self.created, self._reading)

    @contextmanager
    def _reading(self) -> Iterator[Read]:
        with Folders(self._folder) as folders:
            yield lambda name, start, stop: self._read(folders, name, start, stop)

    @property
    def _version(self) -> inventory.Version:
        return self._inventory.versions[f"v{self.number}"]

    def _read(self, folders: Folders, name: str, start: int, stop: int) -> Iterator[bytes | memoryview]:
        content = self.content(name)
        if not 0 <= start <= stop <= content.size:
            raise RangeNotSatisfiable(file=name)
        try:
            yield from _checked(folders, content, start, stop)
        except (_Bad, OSError) as error:
            block = error.block if isinstance(error, _Bad) else start // BLOCK
            raise Damaged("A file of the dataset is damaged.", loi=str(self.loi), version=self.number, file=name,
                          block=block) from error  # fmt: skip


class _Bad(Exception):
    """Block ``block`` is not what its digest says."""

    def __init__(self, block: int) -> None:
        super().__init__(block)
        self.block = block


def _checked(folders: Folders, content: Content, start: int, stop: int) -> Iterator[bytes | memoryview]:
    """Yield the bytes of a content file, each block checked before any of it leaves."""
    if start == stop:
        return
    descriptor = folders.open(content.path)
    try:
        for block in range(start // BLOCK, (stop - 1) // BLOCK + 1):
            at = block * BLOCK
            data = os.pread(descriptor, BLOCK, at)
            if digest(data) != content.blocks[block * WIDTH : block * WIDTH + WIDTH]:
                raise _Bad(block)
            left, right = max(start - at, 0), min(stop - at, len(data))
            yield data if right - left == len(data) else memoryview(data)[left:right]
    finally:
        os.close(descriptor)
