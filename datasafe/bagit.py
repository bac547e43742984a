"""A dataset version as a bag (BagIt 1.0, RFC 8493), for those who want it without us."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from . import manifest
from .delivery import appearing, write
from .inventory import Author
from .loi import Loi

_DECLARATION = b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"
_ESCAPED = {"%": "%25", "\r": "%0D", "\n": "%0A"}  # RFC 8493 §2.1.3: these three, nothing else
_LINE_BREAKS = re.compile(r"[\r\n]+")


class Bagged(Protocol):
    """What a bag is made of: a ``Snapshot``, or what a server tells of one."""

    @property
    def loi(self) -> Loi: ...
    @property
    def number(self) -> int: ...
    @property
    def author(self) -> Author: ...
    @property
    def names(self) -> Sequence[str]: ...
    @property
    def size(self) -> int: ...
    @property
    def digests(self) -> Mapping[str, str]: ...
    def read(self, name: str, /) -> Iterator[bytes | memoryview]:
        """Yield the bytes of a file, checked."""


def export(bagged: Bagged, target: Path) -> None:
    """Write a version as a bag to the folder ``target``, which must not exist; it appears whole or not at all.

    MANIFEST.yaml is part of the payload.  Every byte is checked on the way; Damaged leaves nothing behind.
    """
    with appearing(target) as part:
        (part / "data").mkdir()
        for name in bagged.names:
            write(part / "data" / name, bagged.read(name))
        for name, content in tag_files(bagged).items():
            write(part / name, [content])


def tag_files(bagged: Bagged) -> dict[str, bytes]:
    """Return the tag files of a bag by name; the digests are those of the store, so no byte of payload is read."""
    tags = {
        "bagit.txt": _DECLARATION,
        "bag-info.txt": "".join(f"{label}: {value}\n" for label, value in _info(bagged)).encode("utf-8"),
        "manifest-sha512.txt": _listing((bagged.digests[name], f"data/{name}") for name in bagged.names),
    }
    sums = [(hashlib.sha512(content).hexdigest(), name) for name, content in tags.items()]
    return {**tags, "tagmanifest-sha512.txt": _listing(sums)}


def _info(bagged: Bagged) -> Iterator[tuple[str, str]]:
    yield "External-Identifier", str(bagged.loi)
    yield "Bagging-Date", datetime.now(UTC).date().isoformat()
    yield "Payload-Oxum", f"{bagged.size}.{len(bagged.names)}"
    yield "Internal-Sender-Identifier", f"version {bagged.number}"
    author = bagged.author
    if author.name:
        yield "Contact-Name", _LINE_BREAKS.sub(" ", author.name)
    if author.message:
        yield "Internal-Sender-Description", _LINE_BREAKS.sub(" ", author.message)
    yield "Bag-Group-Identifier", str(bagged.loi.series)
    yield "Bag-Software-Agent", f"pacifica datasafe; the dataset's own list is data/{manifest.NAME}"


def _listing(sums: Iterable[tuple[str, str]]) -> bytes:
    return "".join(f"{digest}  {_escape(name)}\n" for digest, name in sums).encode("utf-8")


def _escape(name: str) -> str:
    return "".join(_ESCAPED.get(letter, letter) for letter in name)
