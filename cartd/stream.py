"""The bytes of any range of a cart's tar, each checked before it leaves.

Data comes from ``PackReader``, which checks whole blocks, or the whole of a small member, before it gives out a part
of either; headers and padding are made here.  Nothing is held but the block in hand.
"""

from collections import OrderedDict
from collections.abc import Iterator

from ..common.errors import Damaged
from ..common.volume import BLOCK
from .header import END, header, padding_size
from .plan import Plan
from .run import Kind, Reader, ReaderFactory
from .table import Table

LARGE = 256 << 10  # a piece of this size goes out as it is; smaller ones are joined to about as much
RESCUE_MAX = 4 << 20  # a member up to this size is checked by its own digest where a block that it shares is bad
READERS_MAX = 16  # packs that one download holds open

Piece = bytes | memoryview
_ZEROS = bytes(512)


def stream(plan: Plan, readers: ReaderFactory, start: int = 0, stop: int | None = None) -> Iterator[Piece]:
    """Yield bytes ``start`` to ``stop`` (exclusive; None: the end) of the tar, in pieces of about 0.25 to 1 MiB.

    Raises Damaged before it yields a byte that fails its check.  Its detail has ``file`` and ``file_id`` where the
    bytes of that member are proven bad, and neither where a block is bad for another reason: a neighbour, a header.
    ValueError at once for a range that is not within the tar.
    """
    stop = plan.size if stop is None else stop
    if not 0 <= start <= stop <= plan.size:
        raise ValueError(f"bytes {start} to {stop} are not within {plan.size}")
    return _joined(_pieces(plan.table, readers, start, stop))


def _pieces(table: Table, readers: ReaderFactory, start: int, stop: int) -> Iterator[Piece]:
    """Yield the range run by run, in pieces as they come."""
    end = table.starts[-1]
    if start < min(stop, end):
        with _Shelf(table, readers) as shelf:
            for number in range(table.run_of(table.at(start)), table.run_of(table.at(min(stop, end) - 1)) + 1):
                begin, beyond = table.firsts[number], table.firsts[number + 1]
                low, high = max(start, table.starts[begin]), min(stop, table.starts[beyond])
                yield from _run(table, shelf, table.kinds[number], low, high)
    if stop > end:
        yield END[max(start - end, 0) : stop - end]


def _run(table: Table, shelf: "_Shelf", kind: int, start: int, stop: int) -> Iterator[Piece]:
    """Yield a range of one run; around a damaged block, what is sound by its own digest still goes out."""
    while start < stop:
        try:
            for piece in (_verbatim if kind == Kind.VERBATIM else _members)(table, shelf, kind, start, stop):
                yield piece
                start += len(piece)
        except Damaged as error:
            if kind == Kind.SMALL:
                raise
            index = table.at(start)
            end = min(stop, table.starts[index + 1])
            yield from _rescued(table, shelf, kind, index, start, end, error)
            start = end


def _rescued(
    table: Table, shelf: "_Shelf", kind: int, index: int, start: int, stop: int, error: Damaged
) -> Iterator[Piece]:
    """Yield a range of one member by its own digest, as the next block that it lies in is bad; or raise Damaged.

    A member larger than RESCUE_MAX is not read twice for that.  Headers that are the pack's own have nothing but their
    block to vouch for them: there it only remains to find the member to blame.
    """
    offset, size, block = table.offsets[index], table.sizes[index], error.detail.get("block")
    whole = block is not None and offset <= block * BLOCK <= (block + 1) * BLOCK <= offset + size
    if block is None or whole or not table.headers[index]:  # nothing of another member can be what is bad
        raise _blaming(error, table, index)
    if kind == Kind.VERBATIM and table.adopted:
        beyond = table.at(min(table.starts[index] + BLOCK, table.starts[-1] - 1)) + 1
        for suspect in range(index, beyond):
            if table.packs[suspect] == table.packs[index] and table.sizes[suspect] <= RESCUE_MAX:
                shelf.small(suspect)
        raise error
    if size > RESCUE_MAX:
        raise error
    yield from _part(table, shelf, Kind.SMALL, index, start, stop)


def _verbatim(table: Table, shelf: "_Shelf", _: int, start: int, stop: int) -> Iterator[Piece]:
    """Yield a range of a run whose bytes are the pack's."""
    index = table.at(start)
    ahead = table.starts[index] - (table.offsets[index] - table.headers[index])
    yield from shelf.reader(index).read(start - ahead, stop - start)


def _members(table: Table, shelf: "_Shelf", kind: int, start: int, stop: int) -> Iterator[Piece]:
    """Yield a range of a run member by member: a part of the first, whole ones, a part of the last."""
    whole = table.at(start)
    if start > table.starts[whole]:
        yield from _part(table, shelf, kind, whole, start, min(stop, table.starts[whole + 1]))
        whole += 1
    beyond = table.at(stop)  # the first that is not whole within the range: stop is where it begins, or lies in it
    if whole < beyond:
        yield from (_small if kind == Kind.SMALL else _sweep)(table, shelf, whole, beyond)
    if whole <= beyond < len(table) and stop > table.starts[beyond]:
        yield from _part(table, shelf, kind, beyond, table.starts[beyond], stop)


def _part(table: Table, shelf: "_Shelf", kind: int, index: int, start: int, stop: int) -> Iterator[Piece]:
    """Yield the range of the tar that lies in one member."""
    size = table.sizes[index]
    head = header(table.prefix + table.path(index), size, table.mtimes[index])
    start, stop = start - table.starts[index], stop - table.starts[index]
    yield head[start:stop]
    low, high = max(start - len(head), 0), min(stop - len(head), size)
    if low < high:
        if kind == Kind.SMALL:
            yield shelf.small(index)[low:high]
        else:
            yield from shelf.reader(index).read(table.offsets[index] + low, high - low)
    yield _ZEROS[: max(stop - max(start, len(head) + size), 0)]


def _small(table: Table, shelf: "_Shelf", first: int, last: int) -> Iterator[Piece]:
    """Yield whole members that lie anywhere, each fetched and checked alone."""
    for index in range(first, last):
        size = table.sizes[index]
        head = header(table.prefix + table.path(index), size, table.mtimes[index])
        yield b"".join((head, shelf.small(index), _ZEROS[: padding_size(size)]))


def _sweep(table: Table, shelf: "_Shelf", first: int, last: int) -> Iterator[Piece]:
    """Yield whole members that ascend in one pack: its blocks are read once, and what lies between members is left out.

    This loop is the cost of a renamed download, hence no call of ours but one in its short path.
    """
    base = limit = table.offsets[first]  # where the piece in hand begins and ends in the pack
    pieces = shelf.reader(first).read(base, table.offsets[last - 1] + table.sizes[last - 1] - base)
    held: Piece = b""
    piece = memoryview(held)
    parts: list[Piece] = []
    put, prefix, heap = parts.append, table.prefix, table.heap
    columns = (table.names, table.lengths, table.sizes, table.mtimes, table.offsets)
    for name, length, size, mtime, offset in zip(*(column[first:last] for column in columns), strict=True):
        put(header(prefix + heap[name : name + length], size, mtime))
        stop = offset + size
        while offset < stop:
            if offset >= limit:
                yield _taken(parts)  # before the next piece, which may be damaged
                held = next(pieces)
                piece = memoryview(held)
                base, limit = limit, limit + len(piece)
                continue
            some = piece[offset - base : stop - base]
            offset += len(some)
            if len(some) < LARGE:
                put(some)
            else:
                yield _taken(parts)
                yield held if len(some) == len(held) else some
        if size & 511:
            put(_ZEROS[: -size & 511])
    yield _taken(parts)


def _joined(pieces: Iterator[Piece]) -> Iterator[Piece]:
    """Join small pieces, so that a network write carries more than a header."""
    parts: list[Piece] = []
    length = 0
    for piece in pieces:
        size = len(piece)
        if parts and (size >= LARGE or length >= LARGE):
            yield _taken(parts)
            length = 0
        if size >= LARGE:
            yield piece
        elif size:
            parts.append(bytes(piece))
            length += size
    if parts:
        yield _taken(parts)


def _taken(parts: list[Piece]) -> bytes:
    """Join ``parts`` and let go of them: who waits for a slow client must not hold them as well."""
    joined = b"".join(parts)
    parts.clear()
    return joined


def _blaming(error: Damaged, table: Table, index: int) -> Damaged:
    """Return ``error`` with the member whose bytes are proven bad."""
    error.detail |= {"file": table.path(index).decode(), "file_id": table.ids[index]}
    return error


class _Shelf:
    """The packs that one download holds open, the least recently used closed first."""

    def __init__(self, table: Table, readers: ReaderFactory) -> None:
        """Open none yet."""
        self._table, self._factory = table, readers
        self._open: OrderedDict[int, Reader] = OrderedDict()

    def __enter__(self) -> "_Shelf":
        return self

    def __exit__(self, *_: object) -> None:
        while self._open:
            self._close()

    def reader(self, index: int) -> Reader:
        """Return the reader of the pack that member ``index`` lies in."""
        pack = self._table.packs[index]
        if pack in self._open:
            self._open.move_to_end(pack)
        else:
            if len(self._open) >= READERS_MAX:
                self._close()
            self._open[pack] = self._factory(self._table.pack_names[pack])
        return self._open[pack]

    def small(self, index: int) -> bytes:
        """Return the data of member ``index``, checked by its own digest; Damaged names it."""
        table, size = self._table, self._table.sizes[index]
        if not size:
            return b""
        kind, digest = table.hash_types[table.hashes[index]], table.digest(index).hex()
        try:
            return self.reader(index).read_small(table.offsets[index], size, kind, digest)
        except Damaged as error:
            raise _blaming(error, table, index) from None

    def _close(self) -> None:
        self._open.popitem(last=False)[1].close()
