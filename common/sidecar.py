"""The sidecar of a pack: what is told of it beside it, and how its files are opened.

It carries the xxh3-128 digest of each aligned 1 MiB block.  Format: ``docs/formats.md#pack-and-sidecar``.
"""

import errno
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

from xxhash import xxh3_128_hexdigest

from .errors import Damaged
from .volume import Volume, discard_parts, durable_write

FORMAT = 1
DIGEST = 16  # bytes of a block's digest
MENDED_BYTES = 128 << 10  # of a sidecar of which each bit is tried: that of a bundle of 4 GiB

_HEAD = len('{"check":"",') + 32


class PackRow(Protocol):
    """What a sidecar takes from a pack's row (``ledger.Pack``)."""

    name: Any
    kind: Any
    job: Any
    owner: Any
    first_id: Any
    count: Any
    size: Any
    created: Any


@dataclass(frozen=True, kw_only=True)
class Sidecar:
    """What is told of a pack beside it, enough to write its ledger rows anew.

    ``blocks`` are the block digests one after the other; ``order`` is null when the members' ids follow the order of
    the bytes, else the position in the tar of each id from ``first_id`` on; ``extra`` is the writer's own.
    """

    pack: str
    kind: str  # bundle, file
    job: int | None
    owner: str
    first_id: int
    count: int
    size: int
    created: float
    blocks: bytes
    order: list[int] | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT

    @classmethod
    def of(
        cls, row: PackRow, blocks: bytes, *, order: list[int] | None = None, extra: Mapping[str, Any] | None = None
    ) -> Self:
        """Make the sidecar of the pack that ``row`` drafts."""
        return cls(
            pack=row.name,
            kind=row.kind,
            job=row.job,
            owner=row.owner,
            first_id=row.first_id,
            count=row.count,
            size=row.size,
            created=row.created,
            blocks=blocks,
            order=order,
            extra=dict(extra or {}),
        )

    def write(self, volume: Volume) -> None:
        """Put it beside the pack, durably; written before the pack is kept, so that no pack is without one."""
        fields = asdict(self) | {"blocks": self.blocks.hex()}
        checked = _canonical(fields)
        check = xxh3_128_hexdigest(checked).encode()
        discard_parts(sidecar_path(volume, self.pack))  # of an earlier attempt
        durable_write(sidecar_path(volume, self.pack), b'{"check":"' + check + b'",' + checked[1:] + b"\n")

    @classmethod
    def read(cls, volume: Volume, name: str) -> Self:
        """Read the sidecar of pack ``name``; Damaged when it is missing, torn, changed, or of another pack."""
        with reading(name), os.fdopen(open_file(volume, name, ".json"), "rb") as file:
            text = file.read()
        return cls._parse(text, name)

    @classmethod
    def mended(cls, volume: Volume, name: str) -> Self:
        """Read a sidecar in which one bit has turned as it was before; Damaged where that is not what is wrong."""
        with reading(name), os.fdopen(open_file(volume, name, ".json"), "rb") as file:
            text = file.read(MENDED_BYTES + 1)
        return cls._parse(_turned(text), name)

    @classmethod
    def _parse(cls, text: bytes, name: str) -> Self:
        try:
            fields = json.loads(text)
            check = fields.pop("check")
            if check != xxh3_128_hexdigest(_canonical(fields)) or fields["format"] != FORMAT or fields["pack"] != name:
                raise ValueError("the sidecar does not check")
            return cls(**fields | {"blocks": bytes.fromhex(fields["blocks"])})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Damaged("the sidecar of this pack cannot be trusted", pack=name) from error


def _turned(text: bytes) -> bytes:
    """Return ``text`` with the one bit turned back that keeps it from checking, or as it is.

    The check is compared with what follows it as it stands, which is how ``write`` has spelt both.
    """
    head, rest = text[:_HEAD], bytearray(b"{" + text[_HEAD:-1])
    right = b'{"check":"' + xxh3_128_hexdigest(rest).encode() + b'",'
    if sum((one ^ other).bit_count() for one, other in zip(head, right, strict=False)) <= 1:
        return right + bytes(rest[1:])  # the bit is in the check itself, or behind the last byte that counts
    wanted = head[10:42]
    for at in range(len(rest) if len(text) <= MENDED_BYTES else 0):
        for bit in range(8):
            rest[at] ^= 1 << bit
            if xxh3_128_hexdigest(rest).encode() == wanted:
                return right[:10] + wanted + right[42:] + bytes(rest[1:])
            rest[at] ^= 1 << bit
    return text


def sidecar_path(volume: Volume, name: str) -> Path:
    """Return where the sidecar of pack ``name`` lies."""
    return volume.pack_path(name).with_suffix(".json")


def open_file(volume: Volume, name: str, suffix: str = "") -> int:
    """Open a file of pack ``name`` without following any link below ``packs/``; OSError when it is no plain file."""
    volume.pack_path(name)  # its grammar
    directory = os.open(volume.packs, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in (name[:2], name[2:4]):
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            below = os.open(part, flags, dir_fd=directory)
            os.close(directory)
            directory = below
        # NONBLOCK: a pipe that somebody put there must not hold us
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(name + suffix, flags, dir_fd=directory)
    finally:
        os.close(directory)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.ELOOP, "not a plain file")
    return descriptor


class reading:
    """Turn what the file system says of bytes that should be there into Damaged; other errors pass."""

    ERRORS = frozenset({errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.EIO, errno.ESTALE, errno.EISDIR, errno.ENXIO})

    def __init__(self, name: str, **detail: Any) -> None:
        self._detail = {"pack": name, **detail}

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError) and error.errno in self.ERRORS:
            raise Damaged("this pack cannot be read", **self._detail) from error


def _canonical(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
