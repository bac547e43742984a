"""A file of this host, opened to be moved into the archive: only below listed roots, and by no link."""

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from ..common.errors import Conflict, Forbidden, NotFound

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Source:
    """A file open for reading, and the folder that it is in."""

    def __init__(self, folder: int, name: str) -> None:
        self._folder, self._name = folder, name
        self._descriptor = os.open(name, FILE, dir_fd=folder)
        self._found = os.fstat(self._descriptor)
        self.size, self.mtime = self._found.st_size, self._found.st_mtime

    @property
    def is_file(self) -> bool:
        """Tell whether it is a regular file."""
        return stat.S_ISREG(self._found.st_mode)

    def readinto(self, view: memoryview) -> int:
        """Read the next bytes; 0 at the end."""
        return os.readv(self._descriptor, [view])

    def remove(self) -> None:
        """Take the name away, once the bytes are safe; Conflict when somebody changed the file meanwhile."""
        now = os.fstat(self._descriptor)
        if (now.st_size, now.st_mtime_ns) != (self._found.st_size, self._found.st_mtime_ns):
            raise Conflict("The file was changed while it was moved: it stays, and the archive has what was read.")
        named = os.stat(self._name, dir_fd=self._folder, follow_symlinks=False)
        if (named.st_ino, named.st_dev) == (self._found.st_ino, self._found.st_dev):
            os.unlink(self._name, dir_fd=self._folder)
            os.fsync(self._folder)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._descriptor)


@contextmanager
def opened(path: str, roots: Sequence[str]) -> Iterator[Source]:
    """Open the file ``path`` for moving; Forbidden unless it is below one of ``roots``, NotFound when there is none."""
    below = _below(path, roots)
    if below is None:
        raise Forbidden("Files are moved from below the folders of move_roots only; none of them has this path.")
    root, parts = below
    folder = os.open(root, FOLDER & ~os.O_NOFOLLOW)
    try:
        try:
            for part in parts[:-1]:
                inner = os.open(part, FOLDER, dir_fd=folder)
                os.close(folder)
                folder = inner
            source = Source(folder, parts[-1])
        except OSError as error:
            raise NotFound("There is no such file to move.") from error
        try:
            if not source.is_file:
                raise NotFound("There is no such file to move.")
            yield source
        finally:
            source.close()
    finally:
        os.close(folder)


def _below(path: str, roots: Sequence[str]) -> tuple[Path, tuple[str, ...]] | None:
    pure = PurePosixPath(path)
    if not pure.is_absolute() or ".." in pure.parts or "\0" in path:
        return None
    for root in roots:
        with suppress(ValueError):
            parts = pure.relative_to(root).parts
            if parts:
                return Path(root), parts
    return None
