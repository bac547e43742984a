"""What has come so far of a file that is pulled: kept when its transfer ends, so that the next attempt goes on there.

A file lock says whether somebody still writes to it, a worker that was taken for dead, say; the kernel ends it with its
holder.  Whoever finds every part locked begins one of his own.
"""

import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..common.volume import BLOCK, Volume


@contextmanager
def taken(volume: Volume, name: str, size: int) -> Iterator[Path]:
    """Yield the path of a part of pack ``name`` that is ours for the block.

    What is in it are whole blocks, and no more than the file's ``size``; nothing vouches for them yet.
    """
    found = sorted(_parts(volume, name), key=_length, reverse=True)
    own = volume.spool / f"{name}.{uuid.uuid4().hex}"
    path, descriptor = next(((path, lock) for path in (*found, own) if (lock := _lock(path)) is not None), (own, None))
    try:
        os.truncate(path, min(_length(path), size) // BLOCK * BLOCK)
        yield path
    finally:
        if descriptor is not None:
            os.close(descriptor)


def room_of(volume: Volume) -> int:
    """Return the bytes of all parts of a cart: room that is taken already.  A folder that is not there is not made."""
    with suppress(FileNotFoundError):
        return sum(map(_length, (volume.root / "spool").iterdir()))
    return 0


def discard(volume: Volume, name: str | None = None) -> None:
    """Remove the parts of a pack, or of all of them (None); who still writes to one writes on for nobody."""
    for path in volume.spool.iterdir() if name is None else _parts(volume, name):
        path.unlink(missing_ok=True)


def _parts(volume: Volume, name: str) -> list[Path]:
    return list(volume.spool.glob(f"{name}*"))  # names of packs are of one length: none begins another


def _length(path: Path) -> int:
    with suppress(FileNotFoundError):  # its writer has completed it
        return path.stat().st_size
    return 0


def _lock(path: Path) -> int | None:
    """Open ``path``, made where it is not there, and lock it; None when another has it, or has completed it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.lstat().st_ino == os.fstat(descriptor).st_ino:
            return descriptor
    except OSError:  # locked; gone; or a file system without locks, where each attempt begins anew
        pass
    os.close(descriptor)
    return None
