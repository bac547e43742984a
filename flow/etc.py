"""``/etc`` of the sandbox: those parts of the host's that programs need and that hold no secrets, in one folder.

bubblewrap reads the list of all mounts again with each bind: twenty binds below ``/etc`` cost a run 3 ms, and more on a
host that has many mounts.  So the parts are copied beside the run directories, once, and bound together.
"""

import contextlib
import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from .executor import RUNTIME

HOST = Path("/etc")
BOOT = Path("/proc/sys/kernel/random/boot_id")  # what was not flushed before a power cut is not used after it
PARTS = (
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "alternatives",
    "localtime",
    "ssl/certs",
    "ssl/openssl.cnf",
    "ca-certificates",
    "mime.types",
    "magic",
    "fonts",
    "java-11-openjdk",
    "java-17-openjdk",
    "R",
    "perl",
    "python3",
    "inputrc",
    "protocols",
    "services",
)
LOOK_SECONDS = 60.0  # so long a change on the host may not be seen
OLD_SECONDS = 86_400.0  # after which a copy of another state that nobody has used since is removed


class Etc:
    """The copy, as a folder whose name tells the state of the host that it is of.

    ``places`` are files below ``/etc`` that the sandbox binds itself where the host has them: they are there, empty.
    Thread-safe.
    """

    def __init__(self, places: tuple[str, ...] = (), host: Path = HOST) -> None:
        """Look at ``host`` when first asked."""
        self._host, self._places = host, places
        self._due, self._name = 0.0, ""

    def folder(self, beside: Path) -> Path:
        """Return the copy in the folder ``beside``, which no program may write to; made where it is not there."""
        if time.monotonic() >= self._due:
            self._name, self._due = f"etc.{self._state()}", time.monotonic() + LOOK_SECONDS
            with contextlib.suppress(FileNotFoundError):
                os.utime(beside / self._name)  # it is in use
        target = beside / self._name
        if not target.exists():
            self._make(target)
        return target

    def _sources(self) -> Iterator[tuple[str, Path]]:
        for name in PARTS:
            yield name, Path(os.path.realpath(self._host / name))
        for name in ("passwd", "group"):
            yield name, RUNTIME / name

    def _state(self) -> str:
        said = hashlib.sha256(repr((BOOT.read_text(), os.geteuid(), self._places)).encode())
        for name, source in self._sources():
            for path in _tree(str(source)):
                with contextlib.suppress(FileNotFoundError, PermissionError):
                    state = os.lstat(path)
                    facts = (name, path, state.st_mode, state.st_size, state.st_mtime_ns, state.st_ino)
                    said.update(repr(facts).encode())
        return said.hexdigest()[:16]

    def _make(self, target: Path) -> None:
        """Make the copy whole or not at all; of two that make it at once the first wins."""
        target.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f"{target.name}.", dir=target.parent))
        try:
            for name, source in self._sources():
                (part / name).parent.mkdir(exist_ok=True)
                (part / name).parent.chmod(0o755)
                _copy(source, part / name)
            for name in self._places:
                (part / name).touch()
                (part / name).chmod(0o644)
            with contextlib.suppress(FileExistsError):
                part.chmod(0o755)
                _rename(part, target)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        _forget(target)


def _tree(root: str) -> Iterator[str]:
    yield root
    for folder, _, files in os.walk(root):
        yield folder
        yield from (f"{folder}/{name}" for name in sorted(files))


def _copy(source: Path, target: Path) -> None:
    """Copy a file, a link or a tree with its modes.  What is not there, or not for us to read, is left out."""
    with contextlib.suppress(FileNotFoundError, PermissionError):
        state = source.lstat()
        if stat.S_ISLNK(state.st_mode):
            target.symlink_to(source.readlink())
        elif stat.S_ISDIR(state.st_mode):
            inside = list(source.iterdir())
            target.mkdir()
            for one in inside:
                _copy(one, target / one.name)
            target.chmod(stat.S_IMODE(state.st_mode))
        elif stat.S_ISREG(state.st_mode):
            shutil.copy(source, target)


def _rename(part: Path, target: Path) -> None:
    try:
        part.rename(target)
    except OSError as error:  # another has made it meanwhile
        if not target.is_dir():
            raise
        raise FileExistsError(str(target)) from error


def _forget(kept: Path) -> None:
    """Remove copies of other states, and what was left of one that was not finished, when they are old."""
    for path in kept.parent.glob("etc.*"):
        with contextlib.suppress(FileNotFoundError):
            if path != kept and path.stat().st_mtime < time.time() - OLD_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
