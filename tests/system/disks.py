"""Small file systems of a test's own; mounting them needs root."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class Disk:
    """An ext4 file system of ``size`` bytes in the file ``image``, mounted on ``folder``."""

    def __init__(self, image: Path, folder: Path, size: int) -> None:
        self.image, self.folder = image, folder
        with image.open("wb") as file:
            file.truncate(size)
        subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)

    @contextmanager
    def mounted(self) -> Iterator["Disk"]:
        """Mount it for a block."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with _mounted(["-o", "loop", str(self.image)], self.folder):
            yield self

    def remount(self, mode: str) -> None:
        """Let it be ``ro`` or ``rw``, as the kernel does where it meets an error of the disk."""
        subprocess.run(["mount", "-o", f"remount,{mode}", self.folder], check=True)


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
