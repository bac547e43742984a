"""One version of a dataset, open for reading: every byte that leaves is a checked byte.

A snapshot needs no lock: what a version refers to is never changed, so a later version does not disturb it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import NamedTuple, TypeVar, overload

from ..common.errors import Damaged, NotFound, RangeNotSatisfiable
from ..common.moment import epoch
from ..common.pace import Eager, Pace
from . import contents, manifest, root
from .blocks import BLOCK, Content
from .files import MD5, UNKNOWN, Files
from .folders import Folders
from .inventory import Author, Inventory, content_path
from .loi import Loi
from .reading import Bad, checked
from .zipstream import Part, Read, StoredZip

T = TypeVar("T")


class Facts(NamedTuple):
    """What the database is told of a version; ``created`` is epoch seconds UTC."""

    number: int
    files: int
    size: int
    author: Author
    created: float


class Snapshot:
    """Version ``number`` of ``loi``, whose object lies at ``folder``; made by ``DatasetStore.open``."""

    def __init__(self, loi: Loi, folder: Path, inventory: Inventory, number: int) -> None:
        """Read what ``inventory``, which was checked, says of the version, and its block digests."""
        self.loi, self.number, self._folder = loi, number, folder
        self._version = inventory.head().versions[number - 1]
        self._files, self._brought, self._elsewhere = contents.of_version(folder, inventory, number)
        self._first = max(0, self._files.find(manifest.NAME.encode()))

    def __len__(self) -> int:
        return len(self._files)

    @property
    def created(self) -> float:
        """When the version was stored, epoch seconds UTC."""
        return epoch(self._version.created)

    @property
    def author(self) -> Author:
        """Who stored the version, and why."""
        return self._version.author

    @property
    def names(self) -> "Names":
        """The files: MANIFEST.yaml first, then by name."""
        return Names(self._files, self._first)

    @property
    def digests(self) -> Mapping[str, str]:
        """Name -> SHA-512."""
        return Digests(self._files, self.names)

    @property
    def md5(self) -> Mapping[str, str]:
        """The MD5 of each file, from which LabInform's checksums are made; name -> lower-case hex.  Read anew."""
        return dict(zip(self.names, self.sums(), strict=True))

    def rows(self) -> Iterator[tuple[str, int, str]]:
        """Yield name, size and SHA-512 of each of ``names``."""
        for index in range(len(self)):
            row = self.names.row(index)
            yield self._files.name(row), self._sound(row), self._files.sha512(row).hex()

    def sums(self) -> Iterator[str]:
        """Yield the MD5 of each of ``names`` in hex, empty where it is not known."""
        with root.opened(self._folder, self.loi) as inventory:
            told = contents.md5(inventory, self._files, self._brought, self._elsewhere)
        for index in range(len(self)):
            at = self.names.row(index) * MD5
            yield told[at : at + MD5].hex() if any(told[at : at + MD5]) else ""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        self._require_sizes()
        return sum(self._files.sizes)

    @property
    def etag(self) -> str:
        """A strong validator of the zip: names, contents and date; the quotes are the caller's."""
        return sha256(f"zip 2 {self._version.created}\n".encode() + self._files.digest()).hexdigest()

    @property
    def facts(self) -> Facts:
        """What the database is told of it."""
        return Facts(self.number, len(self), self.size, self.author, self.created)

    def content(self, name: str) -> Content:
        """Return where a file lies and how large it is; NotFound when this version has no such file."""
        row = self._row(name)
        size = self._sound(row)
        return Content(self._path(row).encode(), size, self._files.crcs[row], self._files.blocks(row))

    def read(
        self, name: str, start: int = 0, stop: int | None = None, pace: Eager | None = None
    ) -> Iterator[bytes | memoryview]:
        """Yield the bytes of a file from ``start`` to ``stop`` (default: the end) in pieces of at most 1 MiB.

        Each block is checked before any byte of it leaves; Damaged names the file and the block.
        """
        row = self._row(name)
        with Folders(self._folder) as folders:
            yield from self._read(folders, row, start, self._sound(row) if stop is None else stop, pace or Eager())

    def whole(self, name: str) -> bytes:
        """Return a small file, such as MANIFEST.yaml."""
        return b"".join(self.read(name))

    def zip(self) -> StoredZip:
        """Return the version as a stored zip of exact length, any range of it on demand."""
        self._require_sizes()
        parts = _Parts(self.names, self._files)
        return StoredZip(parts, self.created, self._reading, map(self._files.extent, self.names.rows()))

    @contextmanager
    def _reading(self) -> Iterator[Read]:
        pace = Pace()
        with Folders(self._folder) as folders:
            yield lambda index, start, stop: self._read(folders, self.names.row(index), start, stop, pace)

    def _row(self, name: str) -> int:
        row = self._files.find(name.encode("utf-8", "surrogatepass"))
        if row < 0:
            raise NotFound("This version of the dataset has no such file.", file=name)
        return row

    def _sound(self, row: int) -> int:
        """Return the size of a file; Damaged where its block digests are lost."""
        size = self._files.sizes[row]
        if size == UNKNOWN:
            name = self._files.name(row)
            raise Damaged("The block digests of a file are lost.", loi=str(self.loi), file=name)
        return size

    def _require_sizes(self) -> None:
        if UNKNOWN in self._files.sizes:
            self._sound(self._files.sizes.index(UNKNOWN))

    def _path(self, row: int) -> str:
        return self._elsewhere.get(row) or content_path(f"v{self._brought[row]}", self._files.name(row))

    def _read(self, folders: Folders, row: int, start: int, stop: int, pace: Eager) -> Iterator[bytes | memoryview]:
        if not 0 <= start <= stop <= self._sound(row):
            raise RangeNotSatisfiable(file=self._files.name(row))
        try:
            yield from checked(folders, self._path(row), partial(self._files.block, row), start, stop, pace)
        except (Bad, OSError) as error:
            block = error.block if isinstance(error, Bad) else start // BLOCK
            raise Damaged("A file of the dataset is damaged.", loi=str(self.loi), version=self.number,
                          file=self._files.name(row), block=block) from error  # fmt: skip


class _Made(Sequence[T]):
    """A sequence whose items are made when they are asked for."""

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        return self._made(range(len(self))[index])

    def _made(self, index: int) -> T:
        raise NotImplementedError


class Names(_Made[str]):
    """The names of a version's files, row ``first`` before the others."""

    def __init__(self, files: Files, first: int) -> None:
        """Name ``files``, which are in the order of their names."""
        self._files, self._first = files, first

    def __len__(self) -> int:
        return len(self._files)

    def row(self, index: int) -> int:
        """Return the row of the name at ``index``."""
        return self._first if index == 0 else index - 1 if index <= self._first else index

    def rows(self) -> Iterator[int]:
        """Yield the row of each name."""
        return chain((self._first,), range(self._first), range(self._first + 1, len(self)))

    def _made(self, index: int) -> str:
        return self._files.name(self.row(index))


class Digests(Mapping[str, str]):
    """The SHA-512 of a version's files in hex, by name."""

    def __init__(self, files: Files, names: Names) -> None:
        """Look into ``files``."""
        self._files, self._names = files, names

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __getitem__(self, name: str) -> str:
        row = self._files.find(name.encode("utf-8", "surrogatepass"))
        if row < 0:
            raise KeyError(name)
        return self._files.sha512(row).hex()


class _Parts(_Made[Part]):
    """The members of a version's zip, made when they are asked for."""

    def __init__(self, names: Names, files: Files) -> None:
        self._names, self._files = names, files

    def __len__(self) -> int:
        return len(self._files)

    def _made(self, index: int) -> Part:
        row, files = self._names.row(index), self._files
        return Part(files.name(row), files.sizes[row], files.crcs[row])
