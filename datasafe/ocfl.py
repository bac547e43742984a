"""The OCFL 1.1 storage root: where a dataset's object lies, and the files that tell other programs so.

Layout extension 0003 (hash and id n-tuple): two folders of two hex digits of the id's SHA-256, then the id itself,
percent-encoded, so that a person finds a dataset with ``find``.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

from . import inventory, staging
from .inventory import Inventory
from .loi import InvalidLoi, Loi, dataset

LAYOUT = "0003-hash-and-id-n-tuple-storage-layout"
DECLARATION = ("0=ocfl_1.1", b"ocfl_1.1\n")

_CONFIG = {"extensionName": LAYOUT, "digestAlgorithm": "sha256", "tupleSize": 2, "numberOfTuples": 2}
_LAYOUT = {"extension": LAYOUT, "description": "SHA-256 of the object id: two folders of two hex digits, then the id"}
_LONGEST = 100
_TUPLE = re.compile(r"[0-9a-f]{2}")
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def place(loi: Loi) -> str:
    """Return the path of a dataset's object below the storage root."""
    identifier = f"{inventory.SCHEME}{loi}".encode()
    digest = hashlib.sha256(identifier).hexdigest()
    encoded = "".join(chr(byte) if byte in _PLAIN else f"%{byte:02x}" for byte in identifier)
    if len(encoded) > _LONGEST:
        encoded = f"{encoded[:_LONGEST]}-{digest}"
    return f"{digest[:2]}/{digest[2:4]}/{encoded}"


def prepare(root: Path) -> None:
    """Make a storage root of an absent or unfinished one; the declaration comes last.  Safe to run twice at once."""
    if (root / DECLARATION[0]).is_file():
        return
    config = root / "extensions" / LAYOUT
    config.mkdir(parents=True, exist_ok=True)
    _settle(config / "config.json", _json(_CONFIG))
    _settle(root / "ocfl_layout.json", _json(_LAYOUT))
    for folder in (config, config.parent, root):
        staging.fsync(folder)
    _settle(root / DECLARATION[0], DECLARATION[1])
    staging.fsync(root)
    staging.fsync(root.parent)


def root_files() -> list[tuple[str, bytes]]:
    """Return the files that make a folder our storage root: path below it, content."""
    config = f"extensions/{LAYOUT}/config.json"
    return [DECLARATION, ("ocfl_layout.json", _json(_LAYOUT)), (config, _json(_CONFIG))]


def foreign(root: Path) -> Iterator[Path]:
    """Yield what lies between the storage root and its objects and is neither part of the way nor an extension's."""
    ours = {DECLARATION[0], "ocfl_layout.json", "extensions"}
    for entry in _entries(root):
        if not _is_tuple(entry):
            if entry.name not in ours:
                yield Path(entry.path)
            continue
        for second in _entries(entry.path):
            if not _is_tuple(second):
                yield Path(second.path)
                continue
            yield from (Path(last.path) for last in _entries(second.path) if not _is_folder(last))


def objects(root: Path) -> Iterator[Path]:
    """Yield the folder of each object, in the order of the tree."""
    for first in _folders(root):
        if _TUPLE.fullmatch(first.name):
            for second in _folders(first):
                yield from _folders(second)


def named(folder: Path) -> Loi | None:
    """Return the LOI of an object by its folder's name, by its inventory where that is cut; None when foreign."""
    name = unquote(folder.name)
    if len(folder.name) > _LONGEST:
        with Inventory.open(folder / inventory.FILE) as found:
            name = found.head().id
    try:
        return dataset(name.removeprefix(inventory.SCHEME)) if name.startswith(inventory.SCHEME) else None
    except InvalidLoi:
        return None


def _is_tuple(entry: "os.DirEntry[str]") -> bool:
    return _is_folder(entry) and bool(_TUPLE.fullmatch(entry.name))


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    return entry.is_dir(follow_symlinks=False)


def _json(document: object) -> bytes:
    return json.dumps(document, indent=1).encode() + b"\n"


def _folders(folder: Path) -> list[Path]:
    return [Path(entry.path) for entry in _entries(folder) if _is_folder(entry)]


def _entries(folder: str | Path) -> "list[os.DirEntry[str]]":
    """Return what is in a folder, by name; nothing where its last dataset was deleted, and it with that."""
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)
    return []


def _settle(path: Path, data: bytes) -> None:
    """Write ``path`` whole or not at all; who comes second changes nothing that differs."""
    part = path.with_name(f"{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    staging.write(part, data)
    staging.fsync(part)
    part.rename(path)
