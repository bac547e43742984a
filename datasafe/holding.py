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


class Holding:
    """The contents of all versions of the object at ``folder``."""

    def __init__(self, folder: Path, inventory: Inventory) -> None:
        """Read ``inventory``, which was checked; ``number`` is its newest version."""
        self.number = inventory.head().number
        self._folder, self._files = folder, contents.once(folder, inventory)
        self._order = array("I", sorted(range(len(self._files)), key=self._files.sha512))

    def holds(self, taken: Taken) -> bool:
        """Say whether the object has this content, read again just now and sound."""
        at = bisect_left(self._order, taken.sha512, key=self._files.sha512)
        row = self._order[at] if at < len(self._order) else -1
        if row < 0 or self._files.sha512(row) != taken.sha512:
            return False
        if (self._files.sizes[row], self._files.blocks(row)) != (taken.size, taken.blocks):
            return False
        try:
            with Folders(self._folder) as folders:
                path, block = self._files.name(row), partial(self._files.block, row)
                return sum(map(len, checked(folders, path, block, 0, taken.size, Eager()))) == taken.size
        except (Bad, OSError):
            return False
