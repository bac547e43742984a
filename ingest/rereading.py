"""From an archived bundle back to the rows that its job wrote (``common.rereading``), damage or not.

The sidecar says which blocks are no longer what they were.  A member in one that does not hash to what metadata.txt
declares keeps its row, with that digest, and is told as damaged.  A header in one, and metadata.txt, is read as it was
before a bit flipped, where that can be found.  Without metadata.txt as it was received nothing can be said.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xxhash import xxh3_128_digest

from ..common.errors import Damaged
from ..common.rereading import Reread
from ..common.sidecar import DIGEST, Sidecar
from ..common.spool import reread as read_blocks
from ..common.volume import BLOCK, Volume
from .bundle import BundleError, Limits, Scanner
from .declared import Declared
from .falsehood import HashMismatch
from .index import Index
from .spooled import Spooled

MENDED = 64  # headers of one bundle, at most
HEADER = 512
TURNED_BYTES = 64 << 10  # of metadata.txt in a block, at most: each of their bits costs the digest of a block


def reread(volume: Volume, sidecar: Sidecar) -> Reread:
    """Scan the bundle again; return what metadata.txt says of it, its rows as they are asked for, and what is damaged.

    BundleError or Damaged when it cannot be known what is in it.
    """
    path = Spooled(volume, sidecar.pack).pack
    mended: dict[int, bytes] = {}
    index, bad = _scanned(path, sidecar, mended)

    def read(offset: int, size: int) -> Iterator[bytes]:
        with path.open("rb", buffering=0) as file:
            while size > 0:
                number, start = divmod(offset, BLOCK)
                file.seek(offset)
                piece = mended[number][start:] if number in mended else file.read(min(size, BLOCK - start))
                if not piece:
                    return
                yield piece[:size]
                offset, size = offset + len(piece), size - len(piece)

    if not _is_received(index, read, sidecar, bad):
        mended |= _metadata_mended(path, index, sidecar, bad)
        index, bad = _scanned(path, sidecar, mended)
    declared = _Forgiving(index, read, Limits())
    bundle = declared.check()
    file_key_values = list(bundle.file_key_values(sidecar.first_id))
    about = {**bundle.transaction, "key_values": bundle.key_values, "file_key_values": file_key_values}
    positions = {ordinal: position for position, ordinal in enumerate(bundle.files.ordinals)}
    damaged = [sidecar.first_id + positions[ordinal] for ordinal in declared.damaged]
    return Reread(bundle.rows(sidecar.first_id), about, sorted(damaged))


def metadata_sum(index: Index) -> dict[str, str]:
    """Return what a sidecar says of metadata.txt, so that it can be told from a damaged one."""
    return {"hashtype": index.hashtype, "hashsum": index.metadata.digest.hex()}


class _Forgiving(Declared):
    """Notes the ordinals of members that are not what is declared, in place of refusing the bundle."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.damaged: list[int] = []

    def _digest(self, entry: Any, ordinal: int, path: str) -> None:
        try:
            super()._digest(entry, ordinal, path)
        except HashMismatch as error:
            self.damaged.append(ordinal)
            if error.detail["hashtype"] == self.index.hashtype:
                self.index.replace_digest(ordinal, error.detail["declared"])


def _scanned(path: Path, sidecar: Sidecar, mended: dict[int, bytes]) -> tuple[Index, set[int]]:
    """Return the index of the pack at ``path``, and which of its blocks are not what they were.

    ``mended`` are blocks as they were, by number; those of headers that a bit has turned in are added.
    """
    while True:
        scanner, number = Scanner(Limits(), "sha1", length=path.stat().st_size), 0

        def feed(view: memoryview, scanner: Scanner = scanner) -> None:
            nonlocal number
            scanner.feed(mended.get(number, view))
            number += 1

        try:
            received = read_blocks(path, feed)
            index = scanner.close()
        except BundleError as error:
            offset = error.detail.get("offset")
            if not isinstance(offset, int) or len(mended) >= MENDED or offset // BLOCK in mended:
                raise
            mended[offset // BLOCK] = _mended(path, offset, sidecar, error)
            continue
        pairs = zip(_digests(received.blocks), _digests(sidecar.blocks), strict=False)
        return index, {at for at, (found, told) in enumerate(pairs) if found != told} - mended.keys()


def _mended(path: Path, offset: int, sidecar: Sidecar, error: BundleError) -> bytes:
    """Return the block of a header at ``offset`` as its digest has it, by turning each of the header's bits."""
    number, start = offset // BLOCK, offset % BLOCK // HEADER * HEADER
    found = _turned(path, number, range(start, start + HEADER), sidecar)
    if found is None:
        raise error
    return found


def _turned(path: Path, number: int, where: range, sidecar: Sidecar) -> bytes | None:
    """Return block ``number`` as its digest has it, one bit of ``where`` turned back; None where that is not it."""
    with path.open("rb") as file:
        file.seek(number * BLOCK)
        block = bytearray(file.read(BLOCK))
    wanted = sidecar.blocks[number * DIGEST : (number + 1) * DIGEST]
    for at in where[: max(0, len(block) - where.start)]:
        for bit in range(8):
            block[at] ^= 1 << bit
            if xxh3_128_digest(block) == wanted:
                return bytes(block)
            block[at] ^= 1 << bit
    return None


def _is_received(index: Index, read: Any, sidecar: Sidecar, bad: set[int]) -> bool:
    """Tell whether metadata.txt is what was received; by its blocks, where the sidecar has no sum of it."""
    told = sidecar.extra.get("metadata")
    if told is not None:
        return bool(hashlib.new(told["hashtype"], index.read_metadata(read)).hexdigest() == told["hashsum"])
    return bad.isdisjoint(number for number, _ in _places(index))


def _metadata_mended(path: Path, index: Index, sidecar: Sidecar, bad: set[int]) -> dict[int, bytes]:
    """Return the blocks that hold metadata.txt, and are bad, as they were; Damaged where more than a bit has turned."""
    found: dict[int, bytes] = {}
    for number, where in _places(index):
        if number in bad:
            block = _turned(path, number, where, sidecar) if len(where) <= TURNED_BYTES else None
            if block is None:
                raise Damaged(
                    "metadata.txt of this bundle is damaged: only `tar -tf` names its files. Restore the pack."
                )
            found[number] = block
    if not found:
        raise Damaged("metadata.txt of this bundle is not what was received. Restore the pack.")
    return found


def _places(index: Index) -> Iterator[tuple[int, range]]:
    """Yield the number of each block that holds metadata.txt, and where in the block it lies."""
    at, end = index.metadata.offset, index.metadata.offset + max(index.metadata.size, 1)
    while at < end:
        number, start = divmod(at, BLOCK)
        stop = min(BLOCK, start + end - at)
        yield number, range(start, stop)
        at += stop - start


def _digests(blocks: bytes) -> Iterator[bytes]:
    return (blocks[at : at + DIGEST] for at in range(0, len(blocks), DIGEST))
