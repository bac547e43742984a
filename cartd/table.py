"""The file of a plan: columns of numbers and a heap of names, written once, mapped and never decoded.

Format: ``docs/formats.md#plan``.  The file is a cache in the byte order of its machine: one that is torn, of
another version or of another byte order is refused with BadPlan, and whoever needs it builds it again.
"""

import json
import mmap
import os
import struct
import sys
import uuid
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import xxhash

from ..common.errors import ServiceError

if TYPE_CHECKING:
    from array import array

    Column = array[int] | memoryview[int]

MAGIC = b"PACCRT1" + sys.byteorder[:1].encode()
_HEAD = struct.Struct("=8s16s32s5Q")  # magic, digest of all that follows it, ETag, members, runs, heap, texts, tar size
_SEALED = len(MAGIC) + 16  # where the digested part begins

# Name, item, whether of runs (else of members), and 1 where a closing entry follows.  The widest items come first, so
# that each column is aligned.
COLUMNS: tuple[tuple[str, Literal["Q", "q", "I", "H", "B"], bool, int], ...] = (
    ("starts", "Q", False, 1),  # where the member's header begins in the tar; closing: where the last member ends
    ("names", "Q", False, 1),  # where its path begins in the heap; closing: the end of the heap
    ("offsets", "Q", False, 0),  # where its data begins in the pack
    ("sizes", "Q", False, 0),
    ("mtimes", "q", False, 0),  # whole seconds
    ("ids", "q", False, 0),  # archive id
    ("firsts", "Q", True, 1),  # first member of the run; closing: the number of members
    ("packs", "I", False, 0),  # index into pack_names
    ("headers", "I", False, 0),  # bytes before its data in the pack that are its own header
    ("lengths", "H", False, 0),  # bytes of its path
    ("hashes", "B", False, 0),  # index into hash_types
    ("kinds", "B", True, 0),  # run.Kind
)
TEXTS = ("folder", "pack_names", "hash_types", "adopted")


class BadPlan(ServiceError):
    """The plan file is not whole, or not of this version: build it again."""

    code = "bad_plan"
    retryable = True


class Table:
    """What a plan knows of its members: arrays while it is built, views of the mapped file afterwards.

    The heap holds, for each member, path NUL digest NUL, and one NUL before the first.
    """

    starts: "Column"
    names: "Column"
    offsets: "Column"
    sizes: "Column"
    mtimes: "Column"
    ids: "Column"
    packs: "Column"
    headers: "Column"
    lengths: "Column"
    hashes: "Column"
    firsts: "Column"
    kinds: "bytearray | memoryview[int]"
    heap: "bytearray | memoryview[int]"
    folder: str
    prefix: bytes  # folder and slash, as they stand before each path
    pack_names: Sequence[str]
    hash_types: Sequence[str]
    adopted: str  # digest of the headers of packs that stand in the tar and are not what we would make; empty: none
    etag: str

    def __len__(self) -> int:
        """Count the members."""
        return len(self.sizes)

    def path(self, index: int) -> bytes:
        """Return the path of a member below the folder, as UTF-8."""
        begin = self.names[index]
        return bytes(self.heap[begin : begin + self.lengths[index]])

    def digest(self, index: int) -> bytes:
        """Return the digest of a member's data."""
        return bytes(self.heap[self.names[index] + self.lengths[index] + 1 : self.names[index + 1] - 1])

    def at(self, position: int) -> int:
        """Return the member whose header, data or padding holds byte ``position`` of the tar."""
        return bisect_right(self.starts, position) - 1

    def run_of(self, index: int) -> int:
        """Return the run that holds member ``index``."""
        return bisect_right(self.firsts, index) - 1


def save(table: Table, target: Path) -> None:
    """Write ``table`` to ``target``, which appears whole or not at all; no fsync, its digest tells a torn one."""
    texts = json.dumps({name: getattr(table, name) for name in TEXTS}).encode()
    columns = [memoryview(getattr(table, name)).cast("B") for name, *_ in COLUMNS]
    counts = (len(table), len(table.kinds), len(table.heap), len(texts), table.starts[-1])
    head = _HEAD.pack(MAGIC, bytes(16), bytes.fromhex(table.etag), *counts)
    state = xxhash.xxh3_128(head[_SEALED:])
    pieces: list[memoryview[int] | bytes] = [*columns, memoryview(table.heap), texts]
    for piece in pieces:
        state.update(piece)
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        with part.open("xb") as file:
            file.write(MAGIC + state.digest() + head[_SEALED:])
            file.writelines(pieces)
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def load(path: Path) -> Table:
    """Map the file ``path``; BadPlan when it is not what ``save`` wrote, FileNotFoundError when there is none.

    The mapping lives as long as the table or a view of it, also when the file is removed or replaced.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size < _HEAD.size:
            raise BadPlan
        whole = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
    view = memoryview(whole)
    magic, seal, etag, members, runs, heap, texts, _ = _HEAD.unpack_from(view)
    if magic != MAGIC or xxhash.xxh3_128_digest(view[_SEALED:]) != seal:
        raise BadPlan
    whole.madvise(mmap.MADV_DONTNEED)  # the look at all of it made it part of this process; few need more than a page
    table = Table()
    table.etag = etag.hex()
    position = _HEAD.size
    for name, item, of_runs, closing in COLUMNS:
        end = position + ((runs if of_runs else members) + closing) * struct.calcsize(item)
        setattr(table, name, view[position:end].cast(item))
        position = end
    table.heap = view[position : position + heap]
    known = json.loads(bytes(view[position + heap : position + heap + texts]))
    for name in TEXTS:
        setattr(table, name, known[name])
    table.prefix = f"{table.folder}/".encode()
    return table
