"""The directory tree that holds bytes, the room that is left on it, and the only way onto it: durable writes.

Layout under the root (``docs/formats.md#pack-and-sidecar``): ``packs/ab/cd/<name>`` beside its sidecar, ``datasets/``,
``spool/``, ``carts/``, ``work/``; all on one file system, so that a rename is all that it takes to keep a file.
"""

import ctypes
import errno
import filecmp
import os
import re
import threading
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from . import fork
from .config import Archive
from .errors import Conflict, NoSpace, VolumeAway
from .kept import kept

SHARED = 64  # packs of one directory that a process names in a row
BLOCK = 1 << 20  # the aligned unit of reading, writing and digesting
AHEAD = 64 << 20  # bytes that a body of unknown length holds room for, at most, before they come
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
AWAY = frozenset({errno.EROFS, errno.EIO, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.ESTALE, errno.EUCLEAN})
NO_FALLOCATE = frozenset({errno.EOPNOTSUPP, errno.ENOSYS})
NO_HARD_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS})

KEEP_SIZE = 1  # of fallocate: the file's size stays that of its bytes (Linux, fallocate(2))

_NAME = re.compile(r"[0-9a-f]{32}", re.ASCII)
_libc = ctypes.CDLL(None, use_errno=True)
_lock = threading.Lock()
_reserved: Counter[int] = Counter()  # bytes by device: every Volume of this process on one disk shares its room
_named = (uuid.uuid4().hex[:4], 1)  # the directory of the next packs, and for how many it is; a race gives one more
_settled: set[Path] = set()  # directories whose own entries this process knows to be on disk


class Reservation:
    """Room promised to one body; give ``written`` to ``spool.receive`` as its ``on_progress``.

    A body of unknown length holds room ahead of itself: as much again as has come of it, at least ``BLOCK`` and at most
    ``AHEAD``.
    """

    def __init__(self, volume: "Volume", device: int, size: int | None) -> None:
        """Hold room for ``size`` bytes (None: unknown) of ``volume``, which lies on ``device``."""
        self._volume, self._device, self._grows = volume, device, size is None
        self._size = self._left = 0
        self._hold(size or 0, 0)

    def release(self) -> None:
        """Give back what is held."""
        self._keep(0)

    def written(self, total: int) -> None:
        """Give back what ``total`` bytes already take from the disk itself, so that they do not count twice.

        Where the length is unknown, raises as ``Volume.reserve`` does when no more may come.
        """
        if self._grows and total + BLOCK > self._size:
            self._hold(total + min(max(total, BLOCK), AHEAD), total)
        self._keep(max(0, self._size - total))

    def _hold(self, size: int, written: int) -> None:
        with _lock:
            more = size - max(self._size, written)
            self._volume.require(more, _reserved[self._device])
            _reserved[self._device] += more
            self._size, self._left = size, self._left + more

    def _keep(self, left: int) -> None:
        with _lock:
            if left < self._left:
                _reserved[self._device] -= self._left - left
                self._left = left


class Volume:
    """The tree under ``root``; ``min_free`` bytes of its file system are never promised to a body."""

    def __init__(self, root: Path, min_free: int) -> None:
        """Name the tree; nothing is created before it is used."""
        self.root, self.min_free = Path(root).absolute(), min_free

    @kept
    def packs(self) -> Path:
        """Archived bytes."""
        return make_directory(self.root / "packs")

    @kept
    def spool(self) -> Path:
        """Bytes on their way in."""
        return make_directory(self.root / "spool", 0o700)

    @kept
    def carts(self) -> Path:
        """Bytes staged from a remote archive."""
        return make_directory(self.root / "carts")

    @kept
    def work(self) -> Path:
        """Directories of running programs."""
        return make_directory(self.root / "work", 0o700)

    @kept
    def datasets(self) -> Path:
        """The OCFL storage root."""
        return make_directory(self.root / "datasets")

    @property
    def deletions(self) -> Path:
        """The journal of deleted files: what a ledger made anew must not bring back."""
        return self.root / "deleted.txt"

    def pack_path(self, name: str) -> Path:
        """Return where pack ``name`` (32 lower-case hex) lies; ValueError for any other name, so none can lead out."""
        if not _NAME.fullmatch(name):
            raise ValueError("a pack's name is 32 lower-case hexadecimal digits")
        return self.packs / name[:2] / name[2:4] / name

    @contextmanager
    def reserve(self, size: int | None) -> Iterator[Reservation]:
        """Hold room for ``size`` bytes (None: unknown, it is held as they come) while the block runs.

        NoSpace when that room, what this process has promised already and ``min_free`` do not fit together, or when
        the file system has no inode left; VolumeAway when it is mounted read-only.  Other processes' promises are not
        seen: ``min_free`` is the margin for them.
        """
        reservation = Reservation(self, self.spool.stat().st_dev, size)
        try:
            yield reservation
        finally:
            reservation.release()

    def require(self, size: int, promised: int) -> None:
        """Raise what ``reserve`` does unless there is room for ``size`` bytes beside those ``promised`` already."""
        facts = self._facts()
        room = facts.f_bavail * facts.f_frsize - promised - self.min_free
        if room < size or (facts.f_files and not facts.f_favail):
            raise NoSpace(size=size, room=max(0, room))

    def free(self) -> int:
        """Return the bytes that the file system would still give us."""
        facts = os.statvfs(self.spool)
        return facts.f_bavail * facts.f_frsize

    def require_room(self) -> None:
        """Raise NoSpace below the watermark or without an inode, VolumeAway where the file system is read-only."""
        with self.reserve(None):
            pass

    def _facts(self) -> os.statvfs_result:
        with storing():
            facts = os.statvfs(self.spool)
        if facts.f_flag & os.ST_RDONLY:
            raise VolumeAway()
        return facts


def open_volume(settings: Archive) -> Volume:
    """Return the volume that section ``[archive]`` names."""
    return Volume(settings.path, settings.min_free_bytes)


def new_name() -> str:
    """Return a name that no pack has: 32 lower-case hex, random.

    Sixty-four of one process in a row share their first four, and so a directory: to make one for each pack, and to put
    its name on disk, would cost as much as to keep the pack.
    """
    global _named
    shelf, left = _named
    _named = (shelf, left - 1) if left > 1 else (uuid.uuid4().hex[:4], SHARED)
    return shelf + uuid.uuid4().hex[4:]


def durable_write(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Write ``data`` to ``path``, whole or not at all, on disk when this returns; an older file is replaced.

    NoSpace when it does not fit, VolumeAway when the disk refuses it.  A failed fsync is not tried again: the second
    may report success for lost pages.
    """
    make_directory(path.parent)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with storing(), part.open("xb", buffering=0) as file:
            for piece in (data,) if isinstance(data, bytes) else data:
                view = memoryview(piece)
                while view:
                    view = view[file.write(view) :]
            os.fsync(file.fileno())  # before the rename: a crash must not leave a short file with a good name
            part.replace(path)
    except BaseException:
        discard(part)
        raise
    fsync_directory(path.parent)


def discard_parts(path: Path) -> None:
    """Remove what writers of ``path`` that were killed have left beside it; one that still lives fails by it."""
    with suppress(FileNotFoundError), os.scandir(path.parent) as entries:
        for entry in entries:
            if entry.name.startswith(f".{path.name}."):
                path.with_name(entry.name).unlink(missing_ok=True)


def keep(source: Path, target: Path) -> None:
    """Move ``source``, whose bytes are fsynced, to ``target``, whose name is on disk when this returns.

    A target is never replaced.  Safe to repeat after a crash at any point: a target that is the same file, or has the
    same bytes, or stands where the source is gone, counts as kept.  Conflict when ``target`` holds other bytes.
    """
    make_directory(target.parent)
    try:
        with storing():
            _link(source, target)
    except FileNotFoundError:
        if not os.path.lexists(target):
            raise
    except FileExistsError:
        if target.is_symlink() or not (target.samefile(source) or filecmp.cmp(source, target, shallow=False)):
            raise Conflict("other bytes are kept under this name already", name=target.name) from None
    fsync_directory(target.parent)  # before the unlink: at no moment may both names be lost
    source.unlink(missing_ok=True)
    with suppress(FileNotFoundError):  # a source directory that is gone needs no sync
        fsync_directory(source.parent)


def make_directory(path: Path, mode: int = 0o750) -> Path:
    """Create ``path`` and its missing parents, their names on disk when this returns; return ``path``."""
    if path in _settled and path.is_dir():
        return path
    if path.parent != path and not path.parent.is_dir():
        make_directory(path.parent)
    with storing(), suppress(FileExistsError):
        path.mkdir(mode)
    if os.access(path.parent, os.R_OK):  # a parent that we may not open was not ours to make anything in
        fsync_directory(path.parent)  # also when it was there: whoever made it may have died before this line
    _settled.add(path)
    return path


def fsync_directory(path: Path) -> None:
    """Put the names in directory ``path`` on disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with storing():
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def preallocate(descriptor: int, size: int) -> None:
    """Give an open file room for ``size`` bytes, its size unchanged, so that nobody else takes it meanwhile.

    NoSpace when there is not so much.  A file system that knows no such thing gives nothing, silently: ask ``fstat``.
    """
    if not size:
        return
    if _libc.fallocate(descriptor, KEEP_SIZE, ctypes.c_int64(0), ctypes.c_int64(size)):
        number = ctypes.get_errno()
        if number not in NO_FALLOCATE:
            with storing():
                raise OSError(number, os.strerror(number))


@contextmanager
def no_space() -> Iterator[None]:
    """Raise NoSpace in place of an OSError that says that disk or quota is full."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise NoSpace from error
        raise


@contextmanager
def storing() -> Iterator[None]:
    """Name what a disk refuses: NoSpace when it is full, VolumeAway when it takes no writes, or fails at them."""
    try:
        with no_space():
            yield
    except OSError as error:
        if error.errno in AWAY:
            raise VolumeAway from error
        raise


def discard(path: Path) -> None:
    """Remove a file that is of no use any more; what the disk does not let go now is left to who clears up later."""
    with suppress(OSError):
        path.unlink(missing_ok=True)


def _link(source: Path, target: Path) -> None:
    """Give ``source`` the name ``target`` unless that exists; a rename where the file system has no hard links."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in NO_HARD_LINKS:
            raise
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, "target exists") from error
        source.rename(target)


@fork.in_child
def _forked() -> None:
    global _lock
    _lock = threading.Lock()  # a thread of the parent may have held it, and the room it has promised is its own
    _reserved.clear()
