"""What the ledger says is in a pack, packed: 50 bytes and the digest for each file, where 1,000,000 may be in one."""

from array import array
from collections.abc import Iterator
from typing import NamedTuple

from ..common import orm

WINDOW = 10_000  # ids that are read at once


class Member(NamedTuple):
    """One file of the ledger in the pack."""

    id: int
    offset: int
    size: int
    hashtype: str
    hashsum: str


class PackList:
    """The files of a pack in the order of their bytes; ``ids`` are those of them, ascending."""

    def __init__(self, pack: int, first_id: int, count: int) -> None:
        """Read the rows of ``pack``, whose ids are the ``count`` from ``first_id`` on."""
        self.ids, self._offsets, self._sizes = array("Q"), array("Q"), array("Q")
        self._hashtypes: list[str] = []
        self._kinds, self._sums, self._ends = array("H"), bytearray(), array("Q", [0])
        for low in range(first_id, first_id + count, WINDOW):
            for row in orm.rows(_MEMBERS, low, min(low + WINDOW, first_id + count), pack):
                self._add(Member._make(row))
        rows = sorted(range(len(self.ids)), key=self._sizes.__getitem__)  # an empty one lies before what follows it
        self._order = array("Q", sorted(rows, key=self._offsets.__getitem__))

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[Member]:
        return map(self._made, self._order)

    def _add(self, member: Member) -> None:
        self.ids.append(member.id)
        self._offsets.append(member.offset)
        self._sizes.append(member.size)
        if member.hashtype not in self._hashtypes:
            self._hashtypes.append(member.hashtype)
        self._kinds.append(self._hashtypes.index(member.hashtype))
        self._sums += member.hashsum.encode()
        self._ends.append(len(self._sums))

    def _made(self, row: int) -> Member:
        hashsum = self._sums[self._ends[row] : self._ends[row + 1]].decode()
        return Member(self.ids[row], self._offsets[row], self._sizes[row], self._hashtypes[self._kinds[row]], hashsum)


_MEMBERS = (
    'SELECT id, "offset", "size", hashtype, hashsum FROM archivedfile WHERE id >= ? AND id < ? AND pack + 0 = ?'
    " ORDER BY id"
)
