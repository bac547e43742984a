"""What an object holds already, asked while an upload is taken in: sound content is not written a second time."""

from array import array
from bisect import bisect_left
from functools import partial
from pathlib import Path

from ..common.pace import Eager
from . import contents
from .folders import Folders
from .inventory import Inventory
from .reading import Bad, checked
from .taken import Taken

START = 7  # bytes of a digest: as many as make a number of one machine word


class Holding:
    """The contents of all versions of the object at ``folder``."""

    def __init__(self, folder: Path, inventory: Inventory) -> None:
        """Read ``inventory``, which was checked; ``number`` is its newest version."""
        self.number = inventory.head().number
        self._folder, self._files = folder, contents.once(folder, inventory)
        self._order = array("I", sorted(range(len(self._files)), key=self._start))

    def holds(self, taken: Taken) -> bool:
        """Say whether the object has this content, read again just now and sound."""
        row = self._row(taken.sha512)
        if row < 0 or (self._files.sizes[row], self._files.blocks(row)) != (taken.size, taken.blocks):
            return False
        try:
            with Folders(self._folder) as folders:
                path, block = self._files.name(row), partial(self._files.block, row)
                return sum(map(len, checked(folders, path, block, 0, taken.size, Eager()))) == taken.size
        except (Bad, OSError):
            return False

    def _start(self, row: int) -> int:
        """Return how the digest of a content begins: to sort by, as whole ones would take three times the memory."""
        return int.from_bytes(self._files.sha512(row)[:START])

    def _row(self, sha512: bytes) -> int:
        """Return the row of a content, -1 where there is none."""
        start = int.from_bytes(sha512[:START])
        for at in range(bisect_left(self._order, start, key=self._start), len(self._order)):
            row = self._order[at]
            if self._files.sha512(row) == sha512:
                return row
            if self._start(row) != start:
                break
        return -1
