"""Watch how much a program has written."""

import contextlib
import os
import time
from pathlib import Path

from .executor import Limits


class DiskWatch:
    """Sizes up the working directory, at most a twentieth of the time."""

    def __init__(self, path: Path, limits: Limits) -> None:
        """Watch the tree at ``path``."""
        self.path, self.limits, self.due = path, limits, 0.0
        self.room = _room(path)

    def full(self) -> bool:
        """Tell whether the limits on bytes or on files are passed, as far as the last look can say."""
        limit = self.limits.disk_bytes
        # what was unlinked and is still open shows only in the free space
        if limit is not None and self.room - _room(self.path) > 2 * limit:
            return True
        begun = time.monotonic()
        if begun < self.due:
            return False
        size, count = _size(self.path, self.limits.disk_files or 1 << 62)
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


def _room(path: Path) -> int:
    state = os.statvfs(path)
    return state.f_bfree * state.f_frsize
