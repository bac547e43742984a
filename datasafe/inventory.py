"""The inventory of an OCFL 1.1 object: what each version of a dataset holds, and where the bytes lie.

Digests are SHA-512; the fixity block carries the MD5 sums that LabInform's manifest is made of.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import msgspec

from ..common.batch import batches
from ..common.errors import Damaged
from ..common.moment import zulu
from .extract import Taken
from .loi import Loi, dataset

FILE = "inventory.json"
SIDECAR = "inventory.json.sha512"
DECLARATION = ("0=ocfl_object_1.1", b"ocfl_object_1.1\n")
PIECE = 1000  # entries that are spelt at once
SCHEME = "loi:"  # OCFL wants a URI for an object's id

_TYPE = "https://ocfl.io/1.1/spec/#inventory"
_SIDECAR = re.compile(rb"([0-9a-f]{128})[ \t]+inventory\.json\r?\n?")
_VERSION = re.compile(r"v[1-9][0-9]*")


@dataclass(frozen=True, kw_only=True)
class Author:
    """Who made a version and why; ``address`` is a mailto: or person URI, made from the name when empty."""

    name: str
    address: str = ""
    message: str = ""


class Version(msgspec.Struct, omit_defaults=True):
    """One version block; ``state`` is digest -> names."""

    created: str
    state: dict[str, list[str]]
    message: str = ""
    user: dict[str, str] = {}


class Inventory(msgspec.Struct, omit_defaults=True):
    """The whole; ``manifest`` is digest -> paths below the object's root, ``fixity`` is {"md5": md5 -> paths}."""

    id: str
    type: str
    digestAlgorithm: str
    head: str
    manifest: dict[str, list[str]]
    versions: dict[str, Version]
    fixity: dict[str, dict[str, list[str]]] = {}
    contentDirectory: str = "content"

    @property
    def number(self) -> int:
        """The number of the newest version."""
        return int(self.head[1:])

    @property
    def loi(self) -> Loi:
        """The dataset."""
        return dataset(self.id.removeprefix(SCHEME))


def read(raw: bytes) -> Inventory:
    """Decode an inventory whose digest was checked; Damaged when it is not one of ours."""
    try:
        inventory = msgspec.json.decode(raw, type=Inventory)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Damaged("An inventory is damaged.") from error
    versions = [f"v{number}" for number in range(1, len(inventory.versions) + 1)]
    if not versions or [*inventory.versions] != versions or inventory.head != versions[-1]:
        raise Damaged("An inventory is damaged.")
    return inventory


def write(inventory: Inventory) -> tuple[bytes, bytes]:
    """Return the bytes of inventory.json and of its sidecar."""
    raw = b"".join(pieces(inventory))
    return raw, sidecar(hashlib.sha512(raw).hexdigest())


def pieces(inventory: Inventory) -> Iterator[bytes]:
    """Yield the bytes of inventory.json as they are made: of 100,000 files they are 45 MB."""
    versions = {head: _told(version) for head, version in inventory.versions.items()}
    yield from _spelt(_told(inventory) | {"versions": versions}, b"\n")
    yield b"\n"


def sidecar(sha512: str) -> bytes:
    """Return the sidecar of an inventory of this digest."""
    return f"{sha512} {FILE}\n".encode("ascii")


def matches(raw: bytes, sidecar: bytes) -> bool:
    """Say whether ``sidecar`` is that of the inventory ``raw``."""
    found = _SIDECAR.fullmatch(sidecar)
    return found is not None and hashlib.sha512(raw).hexdigest().encode("ascii") == found[1]


def is_version(name: str) -> bool:
    """Say whether a folder of an object is named like a version."""
    return bool(_VERSION.fullmatch(name))


def advance(old: Inventory | None, loi: Loi, files: Sequence[Taken], author: Author, at: float) -> Inventory:
    """Return the inventory with one version more, holding ``files``; ``at`` is epoch seconds UTC.

    A file that is not ``stored`` must be in ``old``.  Content that is stored again comes last in its list of paths:
    readers take the last.
    """
    head = f"v{old.number + 1 if old else 1}"
    manifest = {digest: [*paths] for digest, paths in old.manifest.items()} if old else {}
    md5 = {digest: [*paths] for digest, paths in old.fixity.get("md5", {}).items()} if old else {}
    state: dict[str, list[str]] = {}
    for file in files:
        state.setdefault(file.sha512, []).append(file.name)
        if file.stored:
            path = content_path(head, file.name)
            manifest.setdefault(file.sha512, []).append(path)
            md5.setdefault(file.md5, []).append(path)
    missing = state.keys() - manifest.keys()
    if missing:
        raise Damaged("Content that should be kept is no longer in the inventory.", count=len(missing))
    return Inventory(
        id=f"{SCHEME}{loi}",
        type=_TYPE,
        digestAlgorithm="sha512",
        head=head,
        manifest=manifest,
        versions={**(old.versions if old else {}), head: _version(state, author, at)},
        fixity={"md5": md5},
    )


def same(inventory: Inventory, files: Sequence[Taken], message: str, since: int) -> int:
    """Return the first version from number ``since`` on that has just these files, 0 where there is none.

    And that was stored with this ``message``, unless it is empty: then it says nothing new.
    """
    wanted = {file.name: file.sha512 for file in files}
    for number in range(max(since, 1), inventory.number + 1):
        if message in ("", inventory.versions[f"v{number}"].message) and names(inventory, number) == wanted:
            return number
    return 0


def as_of(inventory: Inventory, number: int) -> Inventory:
    """Return the inventory as it was when version ``number`` was the newest."""
    return msgspec.structs.replace(
        inventory,
        head=f"v{number}",
        manifest=_until(inventory.manifest, number),
        versions=dict(list(inventory.versions.items())[:number]),
        fixity={name: _until(sums, number) for name, sums in inventory.fixity.items()},
    )


def content_path(head: str, name: str) -> str:
    """Return where a file that version ``head`` brought lies, below the object's root."""
    return f"{head}/content/{name}"


def names(inventory: Inventory, number: int) -> Mapping[str, str]:
    """Return name -> digest of a version that exists."""
    state = inventory.versions[f"v{number}"].state
    return {name: digest for digest, listed in state.items() for name in listed}


def _told(struct: msgspec.Struct) -> dict[str, Any]:
    """Return the fields of a struct that JSON has, in its order; nothing deeper is copied."""
    fields = ((field, getattr(struct, field.name)) for field in msgspec.structs.fields(struct))
    return {field.name: value for field, value in fields if field.required or value not in (field.default, {})}


def _spelt(tree: Any, line: bytes) -> Iterator[bytes]:
    """Yield JSON with an indent of 1, in pieces; ``line`` begins a line at the tree's depth."""
    if not isinstance(tree, dict) or not tree:
        yield msgspec.json.format(msgspec.json.encode(tree), indent=1).replace(b"\n", line)
        return
    mark = b"{"
    if any(isinstance(value, dict) for value in tree.values()):
        for key, value in tree.items():
            yield mark + line + b" " + msgspec.json.encode(key) + b": "
            yield from _spelt(value, line + b" ")
            mark = b","
    else:
        for some in batches(tree.items(), PIECE):
            yield mark + msgspec.json.format(msgspec.json.encode(dict(some)), indent=1)[1:-2].replace(b"\n", line)
            mark = b","
    yield line + b"}"


def _version(state: dict[str, list[str]], author: Author, at: float) -> Version:
    address = author.address or f"urn:pacifica:user:{quote(author.name, safe='')}"
    return Version(zulu(at), state, author.message or "Stored.", {"name": author.name, "address": address})


def _until(paths: dict[str, list[str]], number: int) -> dict[str, list[str]]:
    """Keep the paths that versions up to ``number`` brought; the order is that in which they came."""
    kept = {}
    for digest, held in paths.items():
        early = [path for path in held if int(path[1 : path.index("/")]) <= number]
        if early:
            kept[digest] = early
    return kept
