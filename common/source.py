"""A file of this machine that somebody asks us to take away: found without a link, below listed folders, or not at all.

Each part of a path is opened relative to the folder before it and never through a link, so that nobody can lead us out
by swapping a folder while we look.  What is removed is the file that was read, or nothing.
"""

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from .errors import BadRequest, Conflict, Forbidden, NotFound

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # NONBLOCK: a pipe must not hold us
_LINKS = frozenset({errno.ELOOP, errno.ENOTDIR, errno.ENXIO})


class Outside(Forbidden):
    """This path is not below a folder that files may be taken from."""

    code = "source_outside"


class SourceMissing(NotFound):
    """There is no such file to take."""

    code = "source_missing"


class NotAFile(BadRequest):
    """Only regular files are taken, and no link is followed to one."""

    code = "source_no_file"


class Unreadable(Forbidden):
    """This service may not read that file, or not take it out of its folder."""

    code = "source_unreadable"


class SourceChanged(Conflict):
    """The file was changed while it was read."""

    code = "source_changed"


class Identity(NamedTuple):
    """What tells a file, and what it held, from any other."""

    device: int
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, facts: os.stat_result) -> "Identity":
        """Return what ``facts`` tell."""
        return cls(facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns)


class Source:
    """A regular file open for reading; ``identity`` is what it was when it was opened."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.identity = Identity.of(os.fstat(descriptor))

    def readinto(self, view: memoryview) -> int:
        """Read the next bytes into ``view``; return their number, 0 at the end."""
        return os.readv(self._descriptor, [view])

    def require_unchanged(self) -> None:
        """Raise SourceChanged unless the file is as it was when it was opened."""
        if Identity.of(os.fstat(self._descriptor)) != self.identity:
            raise SourceChanged()

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._descriptor)


def below(path: str, roots: Sequence[str]) -> tuple[str, list[str]]:
    """Return the one of ``roots`` that ``path`` is below, and the parts of the way from there; Outside otherwise.

    Judges the text alone: absolute, no empty, ``.`` or ``..`` part, no NUL.
    """
    parts = path.split("/")[1:]
    if path.startswith("/") and "\0" not in path and not {"", ".", ".."} & set(parts):
        for root in roots:
            start = root.rstrip("/") + "/"
            if path.startswith(start):
                return root, path[len(start) :].split("/")
    raise Outside()


def open_source(path: str, roots: Sequence[str], volume: Path) -> Source:
    """Open the regular file ``path``, to be read and later removed; the caller closes it.

    Raises Outside, SourceMissing, NotAFile or Unreadable.  What lies in ``volume``, the archive itself, is Outside.
    """
    with _folder_of(path, roots, volume) as (folder, name), _told():
        if not os.access(".", os.W_OK | os.X_OK, dir_fd=folder):
            raise Unreadable()
        descriptor = os.open(name, _FILE, dir_fd=folder)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise NotAFile()
        return Source(descriptor)


def remove(path: str, roots: Sequence[str], volume: Path, identity: Identity, mark: str) -> bool:
    """Remove the file ``path`` if it is still ``identity``, and return whether it is gone.

    It is first renamed to the hidden name ``.<mark>``, and removed once it is known that no other file was caught; such
    a one gets its name back.  Safe to repeat after a kill at any point, with the same ``mark``.  Errors as
    ``open_source``, OSError for what the file system refuses.
    """
    hidden = f".{mark}"
    with _folder_of(path, roots, volume) as (folder, name):
        if _identity(hidden, folder) is None:
            found = _identity(name, folder)
            if found is None:
                return True
            if found != identity:
                return False
            with suppress(FileNotFoundError):  # another was faster: what it renamed is looked at below
                os.rename(name, hidden, src_dir_fd=folder, dst_dir_fd=folder)
        caught = _identity(hidden, folder)
        if caught not in (None, identity):
            os.link(hidden, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
        with suppress(FileNotFoundError):
            os.unlink(hidden, dir_fd=folder)
        os.fsync(folder)
        return caught in (None, identity)


@contextmanager
def _folder_of(path: str, roots: Sequence[str], volume: Path) -> Iterator[tuple[int, str]]:
    """Yield a descriptor of the folder that ``path`` is in, and the last part of ``path``."""
    root, parts = below(path, roots)
    archive = volume.stat() if volume.exists() else None  # it is made by the first file
    with _told():
        folder = os.open(os.path.realpath(root), _FOLDER)  # the root itself is the administrator's word
    try:
        if volume.resolve() in (Path(root).resolve(), *Path(root).resolve().parents):
            raise Outside()
        for part in parts[:-1]:
            with _told():
                inner = os.open(part, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = inner
            here = os.fstat(folder)
            if archive is not None and os.path.samestat(here, archive):
                raise Outside()
        yield folder, parts[-1]
    finally:
        os.close(folder)


def _identity(name: str, folder: int) -> Identity | None:
    try:
        return Identity.of(os.stat(name, dir_fd=folder, follow_symlinks=False))
    except FileNotFoundError:
        return None


@contextmanager
def _told() -> Iterator[None]:
    """Turn what the file system says of a path that a client gave into what the client is told."""
    try:
        yield
    except FileNotFoundError:
        raise SourceMissing() from None
    except PermissionError:
        raise Unreadable() from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise SourceMissing() from None
        if error.errno in _LINKS:
            raise NotAFile() from None
        raise
