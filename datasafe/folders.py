"""Files below one folder, opened without following a link anywhere on the way."""

import os
from pathlib import Path
from typing import Self

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a planted pipe must not hang the reader


class Folders:
    """Opens files below ``root``; the last folder stays open for the next file, since files come folder by folder."""

    def __init__(self, root: Path) -> None:
        """Open ``root``, which must be a folder and no link."""
        self._root = os.open(root, _FOLDER)
        self._last = ""
        self._descriptor = -1

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close every folder."""
        self._leave()
        os.close(self._root)

    def open(self, path: str) -> int:
        """Return a descriptor for reading, the caller's to close; OSError when a part is absent, a link or wrong."""
        folder, _, base = path.rpartition("/")
        if self._descriptor < 0 or folder != self._last:
            self._leave()
            self._descriptor, self._last = self._walk(folder), folder
        return os.open(base, _FILE, dir_fd=self._descriptor)

    def _walk(self, folder: str) -> int:
        here = os.dup(self._root)
        for part in folder.split("/") if folder else ():
            try:
                there = os.open(part, _FOLDER, dir_fd=here)
            finally:
                os.close(here)
            here = there
        return here

    def _leave(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)
