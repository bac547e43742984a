"""The members of a zip file, packed: 35 bytes and the name for each."""

from array import array
from collections.abc import Iterator
from typing import NamedTuple


class Entry(NamedTuple):
    """One member: ``start`` is where its ``packed`` bytes begin; ``size`` and ``crc32`` are declared, not yet true."""

    name: str  # a folder's without its last slash
    folder: bool
    method: int
    crc32: int
    packed: int
    size: int
    start: int


class Members:
    """Entries in the order of their bytes."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._names, self._ends, self._folders, self._methods = bytearray(), array("Q", [0]), array("B"), array("B")
        self._crcs, self._packed, self.sizes, self._starts = array("I"), array("Q"), array("Q"), array("Q")

    def __len__(self) -> int:
        return len(self.sizes)

    def add(self, entry: Entry) -> None:
        """Add an entry."""
        self._names += entry.name.encode("utf-8", "surrogatepass")
        self._ends.append(len(self._names))
        self._folders.append(entry.folder)
        self._methods.append(entry.method)
        self._crcs.append(entry.crc32)
        self._packed.append(entry.packed)
        self.sizes.append(entry.size)
        self._starts.append(entry.start)

    def name(self, row: int) -> str:
        """Return the name of an entry."""
        return self._names[self._ends[row] : self._ends[row + 1]].decode("utf-8", "surrogatepass")

    def names(self, *, folders: bool) -> Iterator[str]:
        """Yield the names of all folders, or of all files."""
        for row, is_folder in enumerate(self._folders):
            if bool(is_folder) is folders:
                yield self.name(row)

    def __getitem__(self, row: int) -> Entry:
        return Entry(self.name(row), bool(self._folders[row]), self._methods[row], self._crcs[row],
                     self._packed[row], self.sizes[row], self._starts[row])  # fmt: skip

    def __iter__(self) -> Iterator[Entry]:
        return map(self.__getitem__, range(len(self)))
