"""Block digests: what lets every byte of a dataset be checked as it is served, ranges too, at full speed.

One text file per version, ``extensions/pacifica-blocks/v<n>.txt`` in the OCFL object, names the content files that
the version brought: size, CRC-32 (for zip headers) and the xxh3-128 of each MiB.  It is derived: where it is lost or
damaged, the inventory's SHA-512 digests remain and it can be made again (format: ``docs/formats.md#blocks``).
"""

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

import xxhash

from ..common.errors import Damaged

EXTENSION = "pacifica-blocks"
BLOCK = 1 << 20
WIDTH = 16  # bytes of one digest

_MAGIC = "pacifica-blocks 1"


class Content(NamedTuple):
    """One content file: ``blocks`` are the digests of its MiBs, concatenated; empty for an empty file."""

    path: str  # below the object's root, such as v1/content/a.dat
    size: int
    crc32: int
    blocks: bytes


def digest(data: bytes | memoryview) -> bytes:
    """Return the digest of one block."""
    return xxhash.xxh3_128_digest(data)


def write(contents: Iterable[Content]) -> bytes:
    """Return the bytes of the file that names ``contents``."""
    body = "".join(f"{item.size} {item.crc32:08x} {item.blocks.hex() or '-'} {item.path}\n" for item in contents)
    raw = body.encode("utf-8")
    return f"{_MAGIC} {BLOCK} {hashlib.sha256(raw).hexdigest()}\n".encode("ascii") + raw


def read(raw: bytes) -> dict[str, Content]:
    """Return the contents by path; Damaged when the file is not what was written."""
    head, _, body = raw.partition(b"\n")
    if head != f"{_MAGIC} {BLOCK} {hashlib.sha256(body).hexdigest()}".encode("ascii"):
        raise Damaged("The block digests of a dataset are damaged.")
    contents = {}
    for line in body.decode("utf-8").split("\n")[:-1]:
        size, crc32, hexed, path = line.split(" ", 3)
        contents[path] = Content(path, int(size), int(crc32, 16), b"" if hexed == "-" else bytes.fromhex(hexed))
    return contents
