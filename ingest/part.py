"""The file of a resumable upload: what came of it so far, and the room that is kept for the rest.

Requests for one upload may run in any process.  A file lock makes each write one step with the question whether its
writer may still write; the kernel ends the lock with its holder.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..common.errors import Gone, Overloaded
from ..common.volume import Volume, discard, fsync_directory, no_space, preallocate, storing

LOCK_SECONDS = 10.0  # another's lock is held for one write and one question to the database
SYNC_BYTES = 64 << 20  # so much a power cut may take at most


class Part:
    """The open file of one upload; ``may_write`` raises when a newer request has taken over."""

    def __init__(self, path: Path, may_write: Callable[[], None]) -> None:
        """Open ``path``, which ``lay`` made; Gone when it is not there."""
        self._may_write = may_write
        try:
            with storing():
                self._descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            raise Gone("The bytes of this upload are no longer there.") from None
        self._synced = self.size

    @property
    def size(self) -> int:
        """The bytes that are there."""
        return os.fstat(self._descriptor).st_size

    def missing_room(self, length: int) -> int:
        """Return how many of ``length`` bytes have no place on the disk yet."""
        return max(0, length - os.fstat(self._descriptor).st_blocks * 512)

    def append(self, view: memoryview) -> None:
        """Write behind what is there, and put it on disk from time to time."""
        with self._lock(), storing():
            self._may_write()
            at = self.size
            while view:
                written = os.pwrite(self._descriptor, view, at)
                view, at = view[written:], at + written
        if at - self._synced >= SYNC_BYTES:
            self.sync()

    def cut(self, size: int, length: int) -> None:
        """Drop what lies behind ``size``, and keep room for ``length`` again."""
        with self._lock():
            self._may_write()
            os.ftruncate(self._descriptor, size)
        preallocate(self._descriptor, length)
        self.sync()

    def settle(self) -> int:
        """Wait for an older request's last write, put all on disk, and return the size: it is ours to change now."""
        with self._lock():
            self._may_write()
        self.sync()
        return self.size

    def sync(self) -> None:
        """Put it on disk; a failed fsync is not tried again."""
        size = self.size
        with no_space():
            os.fsync(self._descriptor)
        self._synced = size

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._descriptor)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Overloaded("An older request for this upload is stuck at the disk.") from None
                time.sleep(0.002)
        try:
            yield
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)


def lay(path: Path, length: int, volume: Volume) -> None:
    """Make the empty file ``path``, its name on disk, with room for ``length`` bytes; NoSpace leaves nothing."""
    with volume.reserve(length):
        with storing():
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
        try:
            preallocate(descriptor, length)
            fsync_directory(path.parent)
        except BaseException:
            discard(path)
            raise
        finally:
            os.close(descriptor)
