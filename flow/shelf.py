"""Take a program's files over as it saves them: copied, sized and hashed, before its next command runs."""

import fcntl
import hashlib
import os
import posixpath
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from .view import View

PIECE = 1 << 20
_FICLONE = 0x40049409  # linux/fs.h


@dataclass(frozen=True)
class Kept:
    """One file that was taken over: name relative to the working directory, bytes, SHA-256 (64 lower-case hex)."""

    name: str
    size: int
    sha256: str


class Shelf(Protocol):
    """Where saved files go; the archive has one, tests use Folder."""

    def file(self, name: str, source: int) -> Kept:
        """Keep what the descriptor ``source`` holds under ``name``; a later one of that name replaces it."""

    def directory(self, name: str) -> None:
        """Keep that there is a directory ``name``."""


class Folder:
    """A shelf in a directory of the host that no program can reach.

    ``check`` is called once a MiB and may raise (cancelled, out of time).
    """

    def __init__(self, path: Path, check: Callable[[], None] = lambda: None) -> None:
        """Keep below ``path``, which is made."""
        self.path, self._check = path, check
        path.mkdir(parents=True, exist_ok=True)

    def file(self, name: str, source: int) -> Kept:
        """Copy ``source`` as long as it is now (shared blocks where the file system can) and hash what was kept."""
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name[:200] + ".part")
        with part.open("w+b") as file:
            cloned = _clone(source, file.fileno())
            digest, size = hashlib.sha256(), 0
            end = os.fstat(file.fileno() if cloned else source).st_size  # a file may grow as fast as it is read
            while piece := os.pread(file.fileno() if cloned else source, min(PIECE, end - size), size):
                self._check()
                digest.update(piece)
                size += len(piece) if cloned else file.write(piece)
        part.replace(target)
        return Kept(name, size, digest.hexdigest())

    def directory(self, name: str) -> None:
        """Make the directory."""
        (self.path / name).mkdir(parents=True, exist_ok=True)


@dataclass
class Collector:
    """Takes over what one run saves; ``kept`` holds each file once, by name, as it was last saved.

    ``most`` are the bytes that they may have together: links and holes make more of a file than the disk has of it.
    """

    view: View
    shelf: Shelf
    most: int = 1 << 62
    kept: dict[str, Kept] = field(default_factory=dict)
    size: int = 0  # of what is kept
    is_closed: bool = False  # what is saved now will be refused: it is only sized

    def take(self, entry: str, references: list[str], base: str = "") -> tuple[int, int]:
        """Take ``entry`` and its ``references`` over and return the bytes of the entry and of all of them.

        No file counts twice.  OSError, saying which path, when one cannot be had.
        """
        counted: dict[str, int] = {}
        self._tree(entry, base, counted)
        size = sum(counted.values())
        for reference in references:
            self._tree(reference, base, counted)
        return size, sum(counted.values())

    def _tree(self, path: str, base: str, counted: dict[str, int]) -> None:
        name = self.view.name(path, base)
        if name is None:
            raise FileNotFoundError(f"{path} is not in the working directory")
        for below, descriptor in self.view.files(path, base):
            full = posixpath.normpath(posixpath.join(name, below))
            full.encode()  # UnicodeEncodeError: a name that is no UTF-8 cannot be archived
            if descriptor < 0:
                self.shelf.directory(full)
            elif self.is_closed:
                counted[full] = os.fstat(descriptor).st_size
            elif full not in counted:
                counted[full] = self._keep(full, descriptor)

    def _keep(self, name: str, descriptor: int) -> int:
        older = self.kept.pop(name).size if name in self.kept else 0
        if self.size - older + os.fstat(descriptor).st_size > self.most:
            raise ValueError(f"Saved files may have {self.most} bytes together")
        self.kept[name] = kept = self.shelf.file(name, descriptor)
        self.size += kept.size - older
        return kept.size


def _clone(source: int, target: int) -> bool:
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:  # most file systems have no shared blocks
        return False
    return True
