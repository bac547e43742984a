"""What an object on the disk holds, read from its inventory and block digests into packed rows.

The inventory leads from a name to a digest, and from there to a path; of several paths with the same content the last
one counts, which is the one that was healed.
"""

from array import array
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from itertools import chain
from pathlib import Path

from ..common.errors import Damaged
from . import blocks
from .blocks import Content
from .files import MD5, SUM, Files, ordered, spelt
from .inventory import CONTENT, Inventory

NEAR = 8  # rows among which a content is looked for that came after another

Elsewhere = dict[int, str]  # row -> path


def of_version(folder: Path, inventory: Inventory, number: int) -> tuple[Files, "array[int]", Elsewhere]:
    """Return the files of a version, for each the version that brought it, and the paths of those that it renamed.

    A file whose block digests are lost has no size.
    """
    files = ordered(rows(inventory, number))
    places, brought = files.places(), array("I", bytes(4 * len(files)))
    for some in _lists(inventory, "manifest"):
        for sha512, paths in some:
            version, _, name = (paths[-1] if paths else "").partition(CONTENT)
            row = places.get(name.encode())
            if row is not None and files.sha512(row) == sha512:
                brought[row] = _number(version)
    elsewhere = _elsewhere(inventory, files, brought)
    _describe(folder, files, places, brought, elsewhere)
    return files, brought, elsewhere


def of_object(inventory: Inventory) -> Files:
    """Return every content file of an object by its path, in the order of the paths; nothing else is known of them."""
    found = chain.from_iterable(_lists(inventory, "manifest"))
    return ordered(spelt(path.encode(), sha512) for sha512, paths in found for path in paths)


def once(folder: Path, inventory: Inventory) -> Files:
    """Return one file for each content of an object, by its path: the one that counts; in the inventory's order."""
    files = Files()
    for some in _lists(inventory, "manifest"):
        held = [(paths[-1].encode(), sha512) for sha512, paths in some if paths]
        files.extend([path for path, _ in held], b"".join(sha512 for _, sha512 in held))
    following, left = 0, {}
    for content in _described(folder, inventory.head().number):  # in the order of their coming, as the inventory is
        near = range(following, min(following + NEAR, len(files)))
        row = next((row for row in near if files.raw(row) == content.path), None)
        if row is None:
            left[content.path] = content
        else:
            files.describe(row, content)
            following = row + 1
    for row, path in enumerate(files.names()) if left else ():
        if path in left:
            files.describe(row, left[path])
    return files


def _described(folder: Path, newest: int) -> Iterator[Content]:
    """Yield what the block digests of all versions up to ``newest`` say."""
    for number in range(1, newest + 1):
        with suppress(FileNotFoundError, Damaged):  # only files that need them are refused then
            yield from blocks.read(extension(folder, number))


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
    for some in _lists(inventory, "versions", f"v{number}", "state"):
        yield from [spelt(name.encode(), sha512) for sha512, names in some for name in names]


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
                row = places.get(content.path[len(prefix) :])
                if row is not None and brought[row] == number and content.path.startswith(prefix):
                    files.describe(row, content)
                for row in shared.get(content.path, ()) if shared else ():
                    files.describe(row, content)


def _shared(elsewhere: Elsewhere) -> dict[bytes, list[int]]:
    """Return path -> rows."""
    shared: dict[bytes, list[int]] = {}
    for row, path in elsewhere.items():
        shared.setdefault(path.encode(), []).append(row)
    return shared


def _last(inventory: Inventory) -> Iterator[tuple[str, bytes]]:
    """Yield the path that counts of each content, and its digest."""
    return ((paths[-1], sha512) for sha512, paths in chain.from_iterable(_lists(inventory, "manifest")) if paths)


def _lists(inventory: Inventory, *place: str) -> Iterator[Iterator[tuple[bytes, list[str]]]]:
    """Yield the entries of one list of files by their digests, many at once; Damaged where one is none."""
    for listed in inventory.listed(*place):
        try:
            raw = bytes.fromhex("".join(listed))
        except ValueError as error:
            raise Damaged("An inventory is damaged.") from error
        if {*map(len, listed)} - {2 * SUM} or len(raw) != SUM * len(listed):
            raise Damaged("An inventory is damaged.")
        yield zip([raw[at : at + SUM] for at in range(0, len(raw), SUM)], listed.values(), strict=True)


@lru_cache(1000)
def _number(version: str) -> int:
    return int(version[1:]) if version[1:].isdecimal() else 0
