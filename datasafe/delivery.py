"""Folders that appear whole or not at all: what a download or an export becomes on the user's disk."""

import errno
import fcntl
import glob
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from . import intake
from .faults import refuse
from .intake import Limits
from .staging import fsync, syncfs

FILE_MODE = 0o644


@contextmanager
def appearing(target: Path) -> Iterator[Path]:
    """Give a folder that becomes ``target`` at the end, durably; whatever fails removes it.

    FileExistsError when ``target`` is there, before anything is made, and once more before the rename.  What a process
    that was killed has left of the same target goes first.
    """
    _require_absent(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in target.parent.glob(f"{glob.escape(f'.{target.name}.')}{'[0-9a-f]' * 8}.part"):
        _sweep(left)
    part = target.with_name(f".{target.name}.{os.urandom(4).hex()}.part")
    part.mkdir()
    lock = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield part
        _require_absent(target)
        part.rename(target)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    finally:
        os.close(lock)
    fsync(target.parent)


def write(path: Path, pieces: Iterable[bytes | memoryview]) -> int:
    """Write a new file and the folders above it, on disk when this returns; return its size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    size = 0
    with path.open("xb") as file:
        for piece in pieces:
            size += file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    return size


def unpack(archive: Path, part: Path, digests: Mapping[str, str], size: int) -> None:
    """Unpack a zip that a server made into the empty folder ``part``, durably, by the rules for an upload.

    Refused unless it holds just the files of ``digests`` (name -> SHA-512), of together ``size`` bytes.
    """
    limits = Limits(max_bytes=size, max_members=len(digests), ratio_free_bytes=size)
    taken = intake.take(archive, part, limits).files
    for file in taken:
        if digests.get(file.name) != file.sha512.hex():
            raise refuse("member_damaged", "A file is not what its digest says.", file.name)
        (part / file.name).chmod(FILE_MODE)  # it was written as the store's files are: to be read only
    if len(taken) != len(digests):
        raise refuse("file_absent", "Files of the version are not in the archive.")
    if not syncfs(part):
        for here, _, names in os.walk(part):
            for path in (*(Path(here, name) for name in names), Path(here)):
                fsync(path)


def _sweep(left: Path) -> None:
    """Remove a part whose maker is gone."""
    with suppress(OSError):
        lock = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left)
        finally:
            os.close(lock)


def _require_absent(target: Path) -> None:
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
