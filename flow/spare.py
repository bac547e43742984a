"""Run directories that nothing was left in are used again.

To make and to remove the folders of a run took the kernel a seventh of all that a trivial run costs.  A folder is kept
for the next run of this process only where it is as it was made: nothing in it, nobody's but the program's, without
rights that others could use.
"""

import contextlib
import os
import stat
import time
import uuid
from collections import deque
from pathlib import Path

PREFIX = "spare."
HELD = 8  # by one process
FORGOTTEN_SECONDS = 3600.0  # after which another process may take it for one of the dead
_SIZE = 64 << 10  # bytes of a folder; one that has held many names stays large, and slow

_spares: deque[tuple[Path, int]] = deque()  # with the uid of the program


def take(path: Path, owner: int) -> bool:
    """Make a spare directory of programs of ``owner`` the new ``path``; tell whether there was one."""
    for held in list(_spares):
        if held[0].parent == path.parent and held[1] == owner:
            try:
                _spares.remove(held)
                held[0].rename(path)
            except (OSError, ValueError):  # another thread, or whoever clears up, was faster
                continue
            return True
    return False


def give(path: Path, owner: int) -> bool:
    """Keep the run directory ``path`` for a later run; tell whether there was need of it."""
    if len(_spares) >= HELD:
        return False
    spare = _named(path)
    path.rename(spare)
    _spares.append((spare, owner))
    return True


def untouched(folder: Path, owner: int, mode: int, holds: list[str]) -> bool:
    """Tell whether ``folder`` is its ``owner``'s, with the rights ``mode`` alone, and holds just the names ``holds``.

    OSError where it is not there.
    """
    found = folder.lstat()
    same = found.st_mode == stat.S_IFDIR | mode and found.st_uid == owner and not os.listxattr(folder)
    return same and found.st_size <= _SIZE and [path.name for path in folder.iterdir()] == holds


def forgotten(folder: Path) -> list[Path]:
    """Take the spare directories in ``folder`` whose process is dead, or idle for long, and return them to be removed.

    Under another name: who has them still would else begin a run in one while it is removed.
    """
    found = []
    for path in folder.glob(f"{PREFIX}*"):
        with contextlib.suppress(FileNotFoundError):  # it is taken just now
            if path.stat().st_ctime < time.time() - FORGOTTEN_SECONDS:
                found.append(path.rename(_named(path)))
    return found


def _named(path: Path) -> Path:
    return path.with_name(f"{PREFIX}{uuid.uuid4().hex}")
