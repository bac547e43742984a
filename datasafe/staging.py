"""Folders where a dataset takes shape before one rename makes it visible; whatever dies there is swept away.

``<work>/<32 hex>/`` holds ``lock`` (flock'ed by the process that works in it, so that a leftover can be told from
work in progress without a clock), ``content/`` and whatever else its user makes.
"""

import ctypes
import fcntl
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from struct import Struct

from ..common.volume import storing

READ = 256 << 10  # bytes asked of a body at once
LOCK = "lock"
FEW = 16  # files up to which each is flushed by itself; above, one syncfs is 20 to 40 times cheaper

# of <linux/fs.h> and ext4: get and set the flags of a file; the one of a folder whose own are not related
_GET_FLAGS, _SET_FLAGS, _TOP = 0x80086601, 0x40086602, 0x00020000
_FLAGS = Struct("q")

_syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)


class Stage:
    """A private folder below the volume's work folder; use it through ``opened``."""

    def __init__(self, folder: Path) -> None:
        """Take ``folder``, which exists and is ours."""
        self.folder = folder
        self.content = folder / "content"

    def flush(self) -> None:
        """Make everything in the folder durable; an error is final (a second fsync may lie), the stage is lost."""
        files, folders = self._tree()
        if len(files) > FEW and syncfs(self.folder):
            return
        for path in [*files, *folders]:
            fsync(path)

    def _tree(self) -> tuple[list[str], list[str]]:
        files: list[str] = []
        folders: list[str] = []
        for here, _, names in os.walk(self.folder):
            folders.append(here)
            files += [f"{here}/{name}" for name in names]
        return files, folders[::-1]


@contextmanager
def opened(work: Path) -> Iterator[Stage]:
    """Give a fresh stage and remove it at the end, whatever happened; NoSpace or VolumeAway where the disk refuses."""
    with storing():
        folder, lock = _locked(work)
        try:
            yield Stage(folder)
        finally:
            with suppress(OSError):  # what stays, the next sweep removes
                remove(folder)
            os.close(lock)


def orphans(work: Path) -> Iterator[Path]:
    """Yield each stage whose process is gone, locked while the caller holds it."""
    for folder in sorted(work.iterdir()) if work.is_dir() else ():
        if len(folder.name) != 32:
            continue
        try:
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:  # it has just ended
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            if _is_lock_of(folder, lock):
                yield folder
        finally:
            os.close(lock)


def remove(folder: Path) -> None:
    """Remove a stage whose lock the caller holds; the lock goes last, as who finds none takes the stage for dead."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()
    (folder / LOCK).unlink(missing_ok=True)
    with suppress(OSError):  # a sweep that came between the two has made a lock of its own, and removes both
        folder.rmdir()


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file ``path``, among threads and processes; made where it is absent, never removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def spread(folder: Path) -> None:
    """Ask the file system to lay each folder of ``folder`` into a region of its own, as ``chattr +T`` does.

    Else ext4 looks for room where thousands of files were removed minutes ago, one by one for each new file: 10 us
    become 350.  A hint that only ext4 takes; it changes nothing but speed.
    """
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            (flags,) = _FLAGS.unpack(fcntl.ioctl(descriptor, _GET_FLAGS, bytes(_FLAGS.size)))
            if not flags & _TOP:
                fcntl.ioctl(descriptor, _SET_FLAGS, _FLAGS.pack(flags | _TOP))
        finally:
            os.close(descriptor)


def write(path: Path, data: bytes) -> None:
    """Write a new file; the caller flushes it with the stage."""
    with path.open("xb") as file:
        file.write(data)


def spool(fill: Callable[[memoryview], int], path: Path, on_progress: Callable[[int], None]) -> int:
    """Write what ``fill`` delivers to ``path`` and return its size.

    Through the page cache and without fsync: the file is read at once and then gone, only its content will last.
    """
    total, view = 0, memoryview(bytearray(READ))
    with storing(), path.open("xb", buffering=0) as file:
        while count := fill(view):
            left = view[:count]
            while left:
                left = left[file.write(left) :]
            total += count
            on_progress(total)
    return total


def fsync(path: str | Path) -> None:
    """Make a file or a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def syncfs(folder: Path) -> bool:
    """Flush the whole file system of ``folder``; False where the system has no such call, OSError when it fails.

    Linux reports write errors here since 5.8; elsewhere each file is flushed by itself.
    """
    if _syncfs is None or not _reports():
        return False
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(descriptor)
    return True


def _reports() -> bool:
    system = os.uname()
    release = [int(part) for part in system.release.split(".")[:2] if part.isdigit()]
    return system.sysname == "Linux" and release >= [5, 8]


def _locked(work: Path) -> tuple[Path, int]:
    """Make a stage and lock it; again when a sweep took it between the two."""
    while True:
        folder = work / uuid.uuid4().hex
        folder.mkdir(mode=0o700, parents=True)
        try:
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            continue
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _is_lock_of(folder, lock):
            return folder, lock
        os.close(lock)


def _is_lock_of(folder: Path, lock: int) -> bool:
    """Tell whether the locked file is still the one in ``folder``; who waited for another's may hold a removed one."""
    try:
        return os.path.samestat(os.fstat(lock), (folder / LOCK).stat())
    except FileNotFoundError:
        return False
