"""Watch how much a program has written."""

import contextlib
import os
import stat
import time
from collections.abc import Iterable
from pathlib import Path

from .executor import Limits

CLOCK_SECONDS = 1.0  # by which the times of files may be behind


class DiskWatch:
    """Sizes up the working directory, at most a twentieth of the time."""

    def __init__(self, path: Path, limits: Limits) -> None:
        """Watch the tree at ``path``."""
        self.path, self.limits, self.due = path, limits, 0.0
        self.room, self.begun = _room(path), time.time() - CLOCK_SECONDS

    def full(self, pids: Iterable[int]) -> bool:
        """Tell whether the limits on bytes or on files are passed by ``pids``, as far as the last look can say."""
        limit = self.limits.disk_bytes
        begun = time.monotonic()
        if begun < self.due:
            return False
        size, count = _size(self.path, self.limits.disk_files or 1 << 62)
        # what was unlinked and is still open has no name; others may use the room up meanwhile, or give some back
        if limit is not None:
            is_short = self.room - _room(self.path) > limit
            size += _unlinked(pids, self.path.stat().st_dev, 0.0 if is_short else self.begun)
        self.due = time.monotonic() + max(0.3, 20 * (time.monotonic() - begun))
        return (limit is not None and size > limit) or (
            self.limits.disk_files is not None and count > self.limits.disk_files
        )


def _size(path: Path, enough: int) -> tuple[int, int]:
    """Return bytes in use and number of entries of a tree, not much past ``enough`` of them; links are not followed."""
    size = count = 0
    todo = [str(path)]
    while todo and count <= enough:
        with contextlib.suppress(OSError), os.scandir(todo.pop()) as entries:
            for entry in entries:
                count += 1
                with contextlib.suppress(OSError):
                    size += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(entry.path)
    return size, count


def _unlinked(pids: Iterable[int], device: int, since: float) -> int:
    """Return the bytes in use of files of ``device`` that have no name and that ``pids`` hold open or mapped.

    Those alone that were written to after ``since``: an input may be deleted while it is read.
    """
    found: dict[int, int] = {}
    for pid in pids:
        for folder in (f"/proc/{pid}/fd", f"/proc/{pid}/map_files"):
            with contextlib.suppress(OSError), os.scandir(folder) as entries:
                for entry in entries:
                    with contextlib.suppress(OSError):
                        state = entry.stat()
                        is_file = state.st_dev == device and state.st_nlink == 0 and stat.S_ISREG(state.st_mode)
                        if is_file and state.st_mtime >= since:
                            found[state.st_ino] = state.st_blocks * 512
    return sum(found.values())


def _room(path: Path) -> int:
    state = os.statvfs(path)
    return state.f_bfree * state.f_frsize
