"""The inventory of an OCFL 1.1 object: what each version of a dataset holds, and where the bytes lie.

Digests are SHA-512; the fixity block carries the MD5 sums that LabInform's manifest is made of.  Of 100,000 files an
inventory is 45 MB for the first version, so it is read and written as a stream of parts and never held whole.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self

import msgspec

from ..common.errors import Damaged
from .loi import Loi
from .spelling import CHUNK, Listed, Misspelt, Part, Place, Spans, foreign, is_list, ours, pieces, span

FILE = "inventory.json"
SIDECAR = "inventory.json.sha512"
DECLARATION = ("0=ocfl_object_1.1", b"ocfl_object_1.1\n")
PIECE = 1000  # entries that are spelt at once
SCHEME = "loi:"  # OCFL wants a URI for an object's id
TYPE = "https://ocfl.io/1.1/spec/#inventory"
CONTENT = "/content/"  # between the version that brought a file and its name

_SIDECAR = re.compile(rb"([0-9a-f]{128})[ \t]+inventory\.json\r?\n?")
_VERSION = re.compile(r"v[1-9][0-9]*")


@dataclass(frozen=True, kw_only=True)
class Author:
    """Who made a version and why; ``address`` is a mailto: or person URI, made from the name when empty."""

    name: str
    address: str = ""
    message: str = ""


class Version(NamedTuple):
    """What is told of a version; ``created`` is RFC 3339, UTC."""

    created: str
    author: Author


class Head(NamedTuple):
    """What an inventory says but its lists of files; ``sha512`` is its own, in hex."""

    id: str
    versions: tuple[Version, ...]
    sha512: str

    @property
    def number(self) -> int:
        """The number of the newest version."""
        return len(self.versions)

    @property
    def name(self) -> str:
        """The name of the newest version."""
        return f"v{self.number}"


class Inventory:
    """An inventory on the disk, opened once: it stays what it is though another takes its place."""

    def __init__(self, file: BinaryIO) -> None:
        """Read nothing; ``file`` is closed at the end of a ``with``."""
        self._file = file
        self._frame: list[Part] | None = None
        self._is_ours = True
        self._spans: Spans = {}
        self._sha512 = ""

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open an inventory; FileNotFoundError where there is none."""
        return cls(os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def parts(self, wanted: Callable[[Place], bool] = lambda place: True) -> Iterator[Part]:
        """Yield what is written, of the lists of files only those that are ``wanted``; Damaged when it is none."""
        self.frame()
        self._file.seek(0)
        return (ours if self._is_ours else foreign)(self._file, wanted)

    def frame(self) -> list[Part]:
        """Return what is written but the lists of files."""
        if self._frame is None:
            try:
                self._frame = list(ours(self._file, lambda place: False, self._spans))
            except (Misspelt, msgspec.DecodeError, UnicodeDecodeError):
                self._is_ours = False
                self._frame = list(foreign(self._file, lambda place: False))
        return self._frame

    def lists(self, *place: str) -> Iterator[tuple[str, list[str]]]:
        """Yield the entries of one list of files."""
        for listed in self.listed(*place):
            yield from listed.items()

    def listed(self, *place: str) -> Iterator[Listed]:
        """Yield the entries of one list of files, many at once."""
        self.frame()
        if self._is_ours:
            for start, length in self._spans.get(place, ()):
                yield span(self._file, start, length)
            return
        for part in self.parts(lambda at: at == place):
            if part.place == place:
                yield part.entries

    def head(self) -> Head:
        """Return what it says of itself and its versions; Damaged when it is not one of ours."""
        top: dict[str, Any] = {}
        versions: dict[str, dict[str, Any]] = {}
        for place, entries in self.frame():
            if not place:
                top |= entries
            elif place[0] == "versions" and len(place) > 1:
                told = versions.setdefault(place[1], {})
                if len(place) == 2:
                    told |= entries
                elif place[2] == "user":
                    told.setdefault("user", {}).update(entries)
        try:
            said = tuple(_version(told) for told in versions.values())
            sound = [*versions] == [f"v{number}" for number in range(1, len(said) + 1)] and top["head"] in versions
            if not said or not sound or top["head"] != f"v{len(said)}":
                raise Damaged("An inventory is damaged.")
            return Head(str(top["id"]), said, self.sha512())
        except (KeyError, TypeError, AttributeError) as error:
            raise Damaged("An inventory is damaged.") from error

    def sha512(self) -> str:
        """Return the digest of all its bytes, in hex."""
        if not self._sha512:
            self._file.seek(0)
            told = hashlib.sha512()
            while piece := self._file.read(CHUNK):
                told.update(piece)
            self._sha512 = told.hexdigest()
        return self._sha512


def sidecar(sha512: str) -> bytes:
    """Return the sidecar of an inventory of this digest."""
    return f"{sha512} {FILE}\n".encode("ascii")


def matches(sha512: str, sidecar: bytes) -> bool:
    """Say whether ``sidecar`` is that of an inventory of this digest."""
    found = _SIDECAR.fullmatch(sidecar)
    return found is not None and sha512.encode("ascii") == found[1]


def is_version(name: str) -> bool:
    """Say whether a folder of an object is named like a version."""
    return bool(_VERSION.fullmatch(name))


def content_path(head: str, name: str) -> str:
    """Return where a file that version ``head`` brought lies, below the object's root."""
    return f"{head}{CONTENT}{name}"


def as_of(inventory: Inventory, number: int) -> Iterator[Part]:
    """Yield the inventory as it was when version ``number`` was the newest."""
    for place, entries in inventory.parts():
        if not place:
            yield Part(place, {key: f"v{number}" if key == "head" else value for key, value in entries.items()})
        elif place[0] != "versions":
            yield Part(place, _until(entries, number) if is_list(place) else entries)
        elif int(place[1][1:]) <= number:
            yield Part(place, entries)


def is_of(head: Head, loi: Loi) -> bool:
    """Say whether an inventory is that of this dataset."""
    return head.id == f"{SCHEME}{loi}"


def digest_of(parts: Iterator[Part]) -> str:
    """Return the SHA-512 of an inventory of these parts, in hex."""
    told = hashlib.sha512()
    for piece in pieces(parts):
        told.update(piece)
    return told.hexdigest()


def _until(paths: Listed, number: int) -> Listed:
    """Keep the paths that versions up to ``number`` brought; the order is that in which they came."""
    kept = {}
    for digest, held in paths.items():
        early = [path for path in held if int(path[1 : path.index("/")]) <= number]
        if early:
            kept[digest] = early
    return kept


def _version(told: Mapping[str, Any]) -> Version:
    user = told.get("user", {})
    author = Author(name=user.get("name", ""), address=user.get("address", ""), message=told.get("message", ""))
    return Version(told["created"], author)
