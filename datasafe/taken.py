"""What was taken in: the files of an upload, packed, with the MD5 sums of LabInform's manifest."""

from array import array
from collections.abc import Callable, Iterator
from typing import NamedTuple

from .blocks import Content
from .files import MD5, Files, repeated
from .inventory import content_path


class Taken(NamedTuple):
    """One file of a dataset as it was taken in; digests are raw, ``blocks`` as in ``blocks.Content``."""

    name: str
    size: int
    crc32: int
    md5: bytes
    sha512: bytes
    blocks: bytes
    stored: bool  # False: the store holds this content already, and it was not written again


Held = Callable[[Taken], bool]  # says whether the store holds this content, sound


class TakenFiles(Files):
    """The files in the order of their coming; ``stored`` is 0 for one that the store held already."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        super().__init__()
        self._md5s, self.stored = bytearray(), array("B")

    def take(self, file: Taken) -> None:
        """Add a file."""
        name = file.name.encode()
        self.describe(self.add(name, file.sha512), Content(name, file.size, file.crc32, file.blocks))
        self._md5s += file.md5
        self.stored.append(file.stored)

    def __iter__(self) -> Iterator[Taken]:
        return map(self.taken, range(len(self)))

    def taken(self, row: int) -> Taken:
        """Return a file."""
        return Taken(self.name(row), self.sizes[row], self.crcs[row], self.md5(row), self.sha512(row),
                     self.blocks(row), bool(self.stored[row]))  # fmt: skip

    def md5(self, row: int) -> bytes:
        """Return the MD5 of a file."""
        return bytes(self._md5s[row * MD5 : (row + 1) * MD5])

    def in_order(self) -> list[int]:
        """Return the rows in the order of the names."""
        return sorted(range(len(self)), key=self.raw)

    def brought(self, head: str) -> Iterator[Content]:
        """Yield the contents that version ``head`` brings, for its block digests."""
        for row in range(len(self)):
            if self.stored[row]:
                path = content_path(head, self.name(row)).encode()
                yield Content(path, self.sizes[row], self.crcs[row], self.blocks(row))

    def contents(self, head: str) -> Iterator[tuple[str, list[str]]]:
        """Yield SHA-512 and paths of the contents that version ``head`` brings, in the order of their coming."""
        return self._grouped(self.sha512, lambda name: content_path(head, name), stored=True)

    def md5s(self, head: str) -> Iterator[tuple[str, list[str]]]:
        """Yield MD5 and paths of the contents that version ``head`` brings."""
        return self._grouped(self.md5, lambda name: content_path(head, name), stored=True)

    def state(self) -> Iterator[tuple[str, list[str]]]:
        """Yield SHA-512 and names of all files."""
        return self._grouped(self.sha512, str, stored=False)

    def kept(self) -> set[bytes]:
        """Return the SHA-512 of each content that was not stored again."""
        return {self.sha512(row) for row in range(len(self)) if not self.stored[row]}

    def _grouped(
        self, key: Callable[[int], bytes], spell: Callable[[str], str], *, stored: bool
    ) -> Iterator[tuple[str, list[str]]]:
        twice = repeated(key, len(self))
        for row in range(len(self)):
            digest = key(row)
            rows = [at for at in twice.get(digest, (row,)) if self.stored[at] or not stored]
            if rows and rows[0] == row:
                yield digest.hex(), [spell(self.name(at)) for at in rows]
