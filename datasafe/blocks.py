"""Block digests: what lets every byte of a dataset be checked as it is served, ranges too, at full speed.

One text file per version, ``extensions/pacifica-blocks/v<n>.txt`` in the OCFL object, names the content files that
the version brought: size, CRC-32 (for zip headers) and the xxh3-128 of each MiB.  It is derived: where it is lost or
damaged, the inventory's SHA-512 digests remain and it can be made again (format: ``docs/formats.md#blocks``).
"""

import hashlib
import os
from binascii import unhexlify
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import xxhash

from ..common.errors import Damaged

EXTENSION = "pacifica-blocks"
BLOCK = 1 << 20
WIDTH = 16  # bytes of one digest

_MAGIC = "pacifica-blocks 1"
_PIECE = 256 << 10


class Content(NamedTuple):
    """One content file: ``blocks`` are the digests of its MiBs, concatenated; empty for an empty file."""

    path: bytes  # below the object's root, such as v1/content/a.dat, in UTF-8
    size: int
    crc32: int
    blocks: bytes


def digest(data: bytes | memoryview) -> bytes:
    """Return the digest of one block."""
    return xxhash.xxh3_128_digest(data)


def write(path: Path, contents: Callable[[], Iterable[Content]]) -> None:
    """Write the new file that names ``contents``, which are asked for twice; the caller flushes it."""
    told = hashlib.sha256()
    for line in map(_line, contents()):
        told.update(line)
    with path.open("xb") as file:
        file.write(_head(told.hexdigest()))
        file.writelines(map(_line, contents()))


def read(path: Path) -> Iterator[Content]:
    """Yield the contents in their order; Damaged, before the first, when the file is not what was written."""
    with _opened(path) as file:
        head, told = file.readline(), hashlib.sha256()
        while piece := file.read(_PIECE):
            told.update(piece)
        if head != _head(told.hexdigest()):
            raise Damaged("The block digests of a dataset are damaged.")
        file.seek(len(head))
        for line in file:
            size, crc32, hexed, name = line[:-1].split(b" ", 3)
            yield Content(name, int(size), int(crc32, 16), b"" if hexed == b"-" else unhexlify(hexed))


def _line(content: Content) -> bytes:
    hexed = content.blocks.hex().encode("ascii") or b"-"
    return b"%d %08x %b %b\n" % (content.size, content.crc32, hexed, content.path)


def _head(sha256: str) -> bytes:
    return f"{_MAGIC} {BLOCK} {sha256}\n".encode("ascii")


def _opened(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
