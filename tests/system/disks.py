"""Small file systems of a test's own; mounting them needs root."""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class Disk:
    """An ext4 file system in the file ``image``, new and of ``size`` bytes unless that is 0, mounted on ``folder``."""

    def __init__(self, image: Path, folder: Path, size: int = 0) -> None:
        self.image, self.folder = image, folder
        if size:
            with image.open("wb") as file:
                file.truncate(size)
            subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)

    @contextmanager
    def mounted(self, options: str = "") -> Iterator["Disk"]:
        """Mount it for a block; its journal, where it was cut off, is replayed first."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with _mounted(["-o", f"loop{options and ','}{options}", str(self.image)], self.folder):
            yield self

    def after_power_cut(self, image: Path, folder: Path) -> "Disk":
        """Return what would be left if power was cut now: the device without what the kernel still has in memory.

        Nobody may write meanwhile: freeze him.
        """
        subprocess.run(["cp", "--sparse=always", self.image, image], check=True)
        return Disk(image, folder)

    def remount(self, mode: str) -> None:
        """Let it be ``ro`` or ``rw``, as the kernel does where it meets an error of the disk."""
        subprocess.run(["mount", "-o", f"remount,{mode}", self.folder], check=True)


@contextmanager
def small(folder: Path, size: int, inodes: int = 0) -> Iterator[Path]:
    """Have the new ``folder`` be a file system in memory, of ``size`` bytes and ``inodes`` (0: many), for a block."""
    folder.mkdir()
    with _mounted(["-t", "tmpfs", "-o", f"size={size},nr_inodes={inodes or size // 4096}", "tmpfs"], folder):
        yield folder


@contextmanager
def filled(folder: Path, *, size: int | None = None, inodes: int | None = None) -> Iterator[None]:
    """Leave so many bytes or inodes of the file system of ``folder`` for a block."""
    ballast = folder / "ballast"
    ballast.mkdir()
    try:
        if size is not None:
            _take(ballast / "bytes", size)
        if inodes is not None:
            for number in range(os.statvfs(folder).f_favail - inodes):
                (ballast / str(number)).touch()
        yield
    finally:
        shutil.rmtree(ballast)


def _take(path: Path, left: int) -> None:
    """Make ``path`` as large as leaves so many bytes; others who write take some meanwhile."""
    with path.open("wb") as file:
        for last in (False, False, False, False, True):
            room = os.statvfs(path)
            try:
                os.posix_fallocate(file.fileno(), 0, max(1, room.f_bavail * room.f_frsize - left))
            except OSError as error:
                if last or error.errno != errno.ENOSPC:
                    raise
                file.truncate(0)
            else:
                return


@contextmanager
def _mounted(words: list[str], folder: Path) -> Iterator[None]:
    done = subprocess.run(["mount", *words, folder], capture_output=True, text=True, check=False)
    if done.returncode:
        missing("mounting a small file system needs root", done.stderr)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def missing(what: str, why: str = "") -> None:
    """Skip the test for want of a right or a feature of the kernel; where CI runs, fail."""
    if "CI" in os.environ:
        pytest.fail(f"{what}: {why}")
    pytest.skip(what)
