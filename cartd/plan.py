"""The plan of a cart: which header bytes and which ranges of which packs make up its tar, in a file of its own.

A plan knows the exact length and a strong ETag of the download before the first byte is read.  It is a cache:
``build`` makes the same plan from the same members again.
"""

import hashlib
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from . import run
from .header import END, header_size, padding_size
from .table import COLUMNS, Table, load, save


class Member(NamedTuple):
    """One file of a cart and where its bytes lie."""

    path: str  # below the top folder; relative, no empty, "." or ".." part, no NUL
    size: int
    mtime: float  # seconds; the tar has the whole ones
    pack: str  # name, for the reader factory
    offset: int  # of the data in the pack
    header: int  # bytes directly before it that are the member's own tar header; 0 where the pack is no tar
    id: int
    hashtype: str
    hashsum: str  # hex


class Plan:
    """One download: the members below one top folder, in the order that they were given."""

    def __init__(self, table: Table) -> None:
        """Wrap ``table``; see ``build`` and ``open``."""
        self.table = table
        self.folder: str = table.folder
        self.etag: str = table.etag  # hex, without quotes; other bytes of the tar have another
        self.size: int = table.starts[-1] + len(END)  # of the whole tar in bytes

    @classmethod
    def open(cls, path: Path) -> "Plan":
        """Map a plan that ``build`` wrote; BadPlan or FileNotFoundError mean: build it again."""
        return cls(load(path))

    def __len__(self) -> int:
        """Count the members."""
        return len(self.table)

    def members(self) -> Iterator[Member]:
        """Yield the members as they were given, made one at a time; ``build`` takes them for another folder."""
        return map(self.member, range(len(self)))

    def member(self, index: int) -> Member:
        """Return the member at ``index``."""
        table = self.table
        return Member(
            table.path(index).decode(),
            table.sizes[index],
            table.mtimes[index],
            table.pack_names[table.packs[index]],
            table.offsets[index],
            table.headers[index],
            table.ids[index],
            table.hash_types[table.hashes[index]],
            table.digest(index).hex(),
        )

    def find(self, path: str) -> int | None:
        """Return the index of the member with this path below the folder; a search of the heap, about 1 ns a byte."""
        table, wanted = self.table, path.encode(errors="replace")
        position = -1
        heap = bytes(table.heap)  # for its fast search; a plan of 100,000 members has some 6 MB
        while (position := heap.find(b"\0%b\0" % wanted, position + 1)) >= 0:
            index = bisect_right(table.names, position + 1) - 1
            if table.names[index] == position + 1 and table.lengths[index] == len(wanted):
                return index  # and not a piece of a digest
        return None

    def data(self, index: int) -> int:
        """Return where in the tar the data of the member at ``index`` begins."""
        size = self.table.sizes[index]
        return self.table.starts[index + 1] - padding_size(size) - size


def build(members: Iterable[Member], folder: str, target: Path, readers: run.ReaderFactory | None = None) -> Plan:
    """Write the plan of ``members`` below ``folder`` to ``target`` and open it; ValueError for an unsafe name.

    ``members`` are plain tuples in the order of ``Member`` and are taken one by one.  With ``readers`` the headers of
    small adjacent members are looked at, so that blocks whose names do not change are passed through; a plan built
    without them gives a download that is as right, and slower.
    """
    table = _collect(members, folder)
    table.firsts, table.kinds, table.adopted = run.form(table, readers)
    table.etag = _etag(table)
    save(table, target)
    del table  # what is mapped takes its place
    return Plan.open(target)


def _collect(members: Iterable[Member], folder: str) -> Table:
    """Turn ``members`` into columns."""
    table = Table()
    columns = {name: array(item) for name, item, of_runs, _ in COLUMNS if not of_runs}
    vars(table).update(columns)
    table.folder, table.heap = folder, bytearray(1)
    if "/" in folder or not _is_safe(folder):
        raise ValueError("a top folder is one plain name")
    table.prefix = f"{folder}/".encode()
    heap, prefix, position = table.heap, table.prefix, 0
    packs: dict[str, int] = {}
    hashes: dict[str, int] = {}
    starts, names, offsets, sizes, mtimes, ids, pack_column, headers, lengths, hash_column = (
        column.append for column in columns.values()
    )
    for path, size, mtime, pack, offset, header, id_, hashtype, hashsum in members:
        if not _is_safe(path):
            raise ValueError(f"{path!r} cannot be the path of a member")
        encoded, seconds = path.encode(), int(mtime // 1)
        starts(position)
        names(len(heap))
        offsets(offset)
        sizes(size)
        mtimes(seconds)
        ids(id_)
        pack_column(packs.setdefault(pack, len(packs)))
        headers(header)
        lengths(len(encoded))
        hash_column(hashes.setdefault(hashtype, len(hashes)))
        heap += b"%b\0%b\0" % (encoded, bytes.fromhex(hashsum))
        position += header_size(prefix + encoded, size, seconds) + size + padding_size(size)
    starts(position)
    names(len(heap))
    table.pack_names, table.hash_types = list(packs), list(hashes)
    return table


def _is_safe(path: str) -> bool:
    """Tell whether a tar may hold ``path``; what a user may ask for is decided where carts are taken in."""
    framed = f"/{path}/"
    return not ("//" in framed or "/./" in framed or "/../" in framed or "\0" in framed)


def _etag(table: Table) -> str:
    """Return a digest of everything that the bytes of the tar follow from: not of where they lie."""
    state = hashlib.sha256("\n".join(["cart 1", table.folder, table.adopted, *table.hash_types]).encode())
    for column in (table.sizes, table.mtimes, table.ids, table.hashes, table.heap):
        state.update(column)
    return state.hexdigest()
