"""What an object on the disk holds, read from its inventory and block digests into packed rows.

The inventory leads from a name to a digest, and from there to a path; of several paths with the same content the last
one counts, which is the one that was healed.
"""

from array import array
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ..common.errors import Damaged
from . import blocks
from .blocks import Content
from .files import MD5, SUM, Files, ordered, spelt
from .inventory import CONTENT, Inventory

Elsewhere = dict[int, str]  # row -> path


def of_version(folder: Path, inventory: Inventory, number: int) -> tuple[Files, "array[int]", Elsewhere]:
    """Return the files of a version, for each the version that brought it, and the paths of those that it renamed.

    A file whose block digests are lost has no size.
    """
    files = ordered(rows(inventory, number))
    places, brought = files.places(), array("I", bytes(4 * len(files)))
    for path, sha512 in _last(inventory):
        version, _, name = path.partition(CONTENT)
        row = places.get(name.encode(), -1)
        if row >= 0 and files.sha512(row) == sha512:
            brought[row] = _number(version)
    elsewhere = _elsewhere(inventory, files, brought)
    _describe(folder, files, places, brought, elsewhere)
    return files, brought, elsewhere


def of_object(inventory: Inventory) -> Files:
    """Return every content file of an object by its path, in the order of the paths; nothing else is known of them."""
    found = inventory.lists("manifest")
    return ordered(spelt(path.encode(), _sum(sha512)) for sha512, paths in found for path in paths)


def once(folder: Path, inventory: Inventory) -> Files:
    """Return one file for each content of an object, by its path: the one that counts."""
    files = ordered(spelt(path.encode(), sha512) for path, sha512 in _last(inventory))
    for number in range(1, inventory.head().number + 1):
        with suppress(FileNotFoundError, Damaged):  # only files that need them are refused then
            for content in blocks.read(extension(folder, number)):
                row = files.find(content.path)
                if row >= 0:
                    _fill(files, row, content)
    return files


def md5(inventory: Inventory, files: Files, brought: "array[int]", elsewhere: Elsewhere) -> bytearray:
    """Return the MD5 of each row, one after the other; zeros where the inventory has none."""
    found, places, shared = bytearray(MD5 * len(files)), files.places(), _shared(elsewhere)
    for hexed, paths in inventory.lists("fixity", "md5"):
        raw = bytes.fromhex(hexed)
        for path in paths:
            version, _, name = path.partition(CONTENT)
            row = places.get(name.encode(), -1)
            own = (row,) if row >= 0 and f"v{brought[row]}" == version else ()
            for one in (*shared.get(path.encode(), ()), *own):
                found[one * MD5 : (one + 1) * MD5] = raw
    return found


def rows(inventory: Inventory, number: int) -> Iterator[bytes]:
    """Yield the files of a version, ``spelt``; Damaged where a digest is none."""
    for sha512, names in inventory.lists("versions", f"v{number}", "state"):
        digest = _sum(sha512)
        for name in names:
            yield spelt(name.encode(), digest)


def extension(folder: Path, number: int) -> Path:
    """Return where the block digests of what a version brought lie."""
    return folder / "extensions" / blocks.EXTENSION / f"v{number}.txt"


def _elsewhere(inventory: Inventory, files: Files, brought: "array[int]") -> Elsewhere:
    """Return the paths of those files whose content lies under another name."""
    left = {files.sha512(row): "" for row in range(len(files)) if not brought[row]}
    for path, sha512 in _last(inventory) if left else ():
        if sha512 in left:
            left[sha512] = path
    return {row: left[files.sha512(row)] for row in range(len(files)) if not brought[row] and left[files.sha512(row)]}


def _describe(
    folder: Path, files: Files, places: dict[bytes, int], brought: "array[int]", elsewhere: Elsewhere
) -> None:
    shared = _shared(elsewhere)
    needed = {*brought, *(_number(path.partition("/")[0]) for path in elsewhere.values())}
    for number in sorted(needed - {0}):
        prefix = f"v{number}{CONTENT}".encode()
        with suppress(FileNotFoundError, Damaged):  # only files that need them are refused then
            for content in blocks.read(extension(folder, number)):
                row = places.get(content.path[len(prefix) :], -1) if content.path.startswith(prefix) else -1
                if row >= 0 and brought[row] == number:
                    _fill(files, row, content)
                for row in shared.get(content.path, ()):
                    _fill(files, row, content)


def _shared(elsewhere: Elsewhere) -> dict[bytes, list[int]]:
    """Return path -> rows."""
    shared: dict[bytes, list[int]] = {}
    for row, path in elsewhere.items():
        shared.setdefault(path.encode(), []).append(row)
    return shared


def _fill(files: Files, row: int, content: Content) -> None:
    files.describe(row, content.size, content.crc32, content.blocks)


def _last(inventory: Inventory) -> Iterator[tuple[str, bytes]]:
    """Yield the path that counts of each content, and its digest."""
    for sha512, paths in inventory.lists("manifest"):
        if paths:
            yield paths[-1], _sum(sha512)


def _sum(sha512: str) -> bytes:
    try:
        raw = bytes.fromhex(sha512)
    except ValueError as error:
        raise Damaged("An inventory is damaged.") from error
    if len(raw) != SUM:
        raise Damaged("An inventory is damaged.")
    return raw


def _number(version: str) -> int:
    return int(version[1:]) if version[1:].isdecimal() else 0
