"""Runs: consecutive members of a plan whose bytes are best fetched in one way.

Members that follow one another in a pack with small gaps are read in one sweep over its blocks; scattered small ones
each alone, checked by their own digest.  Where the pack holds, header by header, what the download would say, its
blocks go out as they are (VERBATIM): that saves 1.5 us a member, two thirds of what a 4 KiB member costs.
"""

import hashlib
from array import array
from collections.abc import Callable, Iterator
from contextlib import closing
from enum import IntEnum
from itertools import groupby, repeat
from operator import itemgetter
from typing import Protocol

from ..common.errors import Damaged
from .header import harmless, header, padding_size
from .table import Table

GAP_MAX = 64 << 10  # bytes between two members that a sweep reads in vain
SMALL_MAX = 256 << 10  # a larger member is always read by its blocks
BLOCK_BITS = 20

BLOCK_COST = 100.0  # microseconds to read and check one block, against those of one small member
MEMBER_COST, BYTE_COST = 6.0, 1 / 1900

VERBATIM_MIN = 16  # members; below, the look at their headers costs more than it saves
VERBATIM_SIZE = 32 << 10  # mean bytes a member; above, rewriting headers is lost in the cost of the data
LOOK_MAX = 1 << 30  # bytes of packs that the making of one plan reads to compare headers


class Kind(IntEnum):
    """How a run is fetched."""

    VERBATIM = 0  # the pack's bytes, headers included
    SWEEP = 1  # the blocks of one pack in order, each once; headers are made
    SMALL = 2  # every member alone, from any pack


class Reader(Protocol):
    """What is needed of ``common.pack.PackReader``."""

    def read(self, offset: int, size: int) -> Iterator[bytes | memoryview]:
        """Yield checked pieces; Damaged before a bad byte."""

    def read_small(self, offset: int, size: int, hashtype: str, hashsum: str) -> bytes:
        """Return the bytes of one member, checked by its own digest."""

    def close(self) -> None:
        """Give the pack back."""


ReaderFactory = Callable[[str], Reader]


class Hash(Protocol):
    """What is needed of a hashlib object."""

    def update(self, data: bytes, /) -> None:
        """Take more bytes."""


def form(table: Table, readers: ReaderFactory | None) -> tuple["array[int]", bytearray, str]:
    """Return the first member of each run (and the number of members), the kinds, and ``Table.adopted``.

    The outcome depends on the members and on the packs' bytes alone, so that a plan built again is the same plan.
    Without ``readers`` no run is VERBATIM.
    """
    firsts, kinds = array("Q"), bytearray()
    adopted, look = hashlib.sha256(), LOOK_MAX

    def append(first: int, kind: Kind) -> None:
        if not (kinds and kinds[-1] == kind == Kind.SMALL):
            firsts.append(first)
            kinds.append(kind)

    for first, last in _neighbours(table):
        span = table.offsets[last - 1] + table.sizes[last - 1] - table.offsets[first]
        if readers and last - first >= VERBATIM_MIN and span <= min(look, (last - first) * VERBATIM_SIZE):
            look -= span
            parts = _split(table, first, last, readers, adopted)
        else:
            parts = iter([(first, last, False)])
        for begin, end, same in parts:
            append(begin, Kind.VERBATIM if same else _cheaper(table, begin, end))
    firsts.append(len(table))
    none = hashlib.sha256().digest()
    return firsts, kinds, "" if adopted.digest() == none else adopted.hexdigest()


def _neighbours(table: Table) -> Iterator[tuple[int, int]]:
    """Yield the longest groups (first, last + 1) of members that ascend in one pack with small gaps."""
    first, pack, end = 0, -1, 0
    for index, (at, offset, size) in enumerate(zip(table.packs, table.offsets, table.sizes, strict=True)):
        if at != pack or not 0 <= offset - end <= GAP_MAX:
            if index:
                yield first, index
            first, pack = index, at
        end = offset + size
    if len(table):
        yield first, len(table)


def _cheaper(table: Table, first: int, last: int) -> Kind:
    """Choose between the blocks that the group lies in and its members one by one."""
    begin, end = table.offsets[first], table.offsets[last - 1] + table.sizes[last - 1]
    if not begin and not table.headers[first]:  # a file of its own: its blocks hold nothing else
        return Kind.SWEEP
    blocks = (max(end - 1, begin) >> BLOCK_BITS) - (begin >> BLOCK_BITS) + 1
    if MEMBER_COST * (last - first) > BLOCK_COST * blocks:
        return Kind.SWEEP
    sizes = table.sizes[first:last]
    small = max(sizes) < SMALL_MAX and MEMBER_COST * len(sizes) + BYTE_COST * sum(sizes) < BLOCK_COST * blocks
    return Kind.SMALL if small else Kind.SWEEP


def _split(
    table: Table, first: int, last: int, readers: ReaderFactory, adopted: Hash
) -> Iterator[tuple[int, int, bool]]:
    """Yield the parts (first, last + 1, verbatim) of a group, by a look at its headers in the pack."""
    begin = rewritten = first  # members from ``rewritten`` on are not given out yet
    for distance, group in groupby(_looks(table, first, last, readers), itemgetter(0)):
        end, foreign = begin, b""
        for _, source in group:
            if source:
                foreign = hashlib.sha256(b"%b%d:%b" % (foreign, end, source)).digest()
            end += 1
        if distance is not None and end - begin >= VERBATIM_MIN:
            if rewritten < begin:
                yield rewritten, begin, False
            yield begin, end, True
            adopted.update(foreign)
            rewritten = end
        begin = end
    if rewritten < last:
        yield rewritten, last, False


def _looks(table: Table, first: int, last: int, readers: ReaderFactory) -> Iterator[tuple[int | None, bytes]]:
    """Yield for each member how far the tar runs ahead of the pack (None: other bytes), and a header that is not ours.

    Gives up when no two of the first members are the same side by side: a cart is mostly renamed as a whole.
    """
    index, found, before = first, False, -1
    begin = table.offsets[first] - table.headers[first]
    end = table.offsets[last - 1] + table.sizes[last - 1] + padding_size(table.sizes[last - 1])
    try:
        with closing(readers(table.pack_names[table.packs[first]])) as reader:
            window = _Window(reader.read(begin, end - begin), begin)
            for index in range(first, last):
                if index == first + VERBATIM_MIN and not found:
                    break
                offset, size, length = table.offsets[index], table.sizes[index], table.headers[index]
                own = header(table.prefix + table.path(index), size, table.mtimes[index])
                source = window.take(offset - length, length)
                if any(window.take(offset + size, padding_size(size))) or not harmless(source, own):
                    yield None, b""
                    continue
                distance = table.starts[index] - (offset - length)
                found, before = found or distance == before, distance
                yield distance, source if source != own else b""
            else:
                return
    except Damaged:  # for the download to report; here such bytes are simply not the same
        pass
    yield from repeat((None, b""), last - index)


class _Window:
    """A look at ascending places of a pack, each block read once."""

    def __init__(self, pieces: Iterator[bytes | memoryview], position: int) -> None:
        """Look through ``pieces``, the first of which begins at ``position``."""
        self._pieces, self._piece, self._begin, self._end = pieces, memoryview(b""), position, position

    def take(self, position: int, size: int) -> bytes:
        """Return ``size`` bytes at ``position``; b"" for a place before the last one."""
        taken = b""
        while size and position >= self._begin:
            while position >= self._end:
                self._piece = memoryview(next(self._pieces))  # there is one: all places lie within what is read
                self._begin, self._end = self._end, self._end + len(self._piece)
            some = bytes(self._piece[position - self._begin : position - self._begin + size])
            taken += some
            position, size = position + len(some), size - len(some)
        return taken
