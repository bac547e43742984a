"""The frame of a dataset's object: its inventories, sidecars, block digests and folders, looked at before the bytes.

Every inventory exists twice or can be computed from a later one, so a broken one and a broken sidecar are told apart.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ..common.errors import Damaged
from . import blocks, contents, inventory, root
from .files import Files
from .inventory import Inventory
from .loi import Loi

MISSING = "missing"
CHANGED = "changed"
SHORT = "short"
UNEXPECTED = "unexpected"


class Finding(NamedTuple):
    """One thing that is wrong; ``path`` is below the object, ``files`` are the dataset's own ("v2 a/b.dat")."""

    kind: str  # missing, changed, short or unexpected
    path: str
    files: tuple[str, ...] = ()
    expected: str = ""
    found: str = ""


@dataclass
class Frame:
    """What ``examine`` saw; ``trusted`` is where the inventory lies that can be believed, None where none can.

    ``files`` are its content files by path, ``seen`` is 1 for each that is there.
    """

    folder: Path
    loi: Loi
    trusted: Path | None = None
    number: int = 0  # of the newest version
    files: Files = field(default_factory=Files)
    seen: bytearray = field(default_factory=bytearray)
    findings: list[Finding] = field(default_factory=list)


def examine(folder: Path, loi: Loi) -> Frame:
    """Read the frame of the object at ``folder``; content is only listed.  The caller keeps patches away."""
    frame = Frame(folder, loi)
    _compare(frame, inventory.DECLARATION[0], inventory.DECLARATION[1])
    frame.trusted = _trusted(folder, loi)
    if frame.trusted is None:
        frame.findings += [_state(frame, inventory.FILE)]
        frame.findings += [Finding(UNEXPECTED, path) for path, regular in _walk(folder) if not regular]
        return frame
    with Inventory.open(frame.trusted) as trusted:
        frame.number = trusted.head().number
        _inventories(frame, trusted, "", frame.number)
        frame.files = contents.of_object(trusted)
        places = frame.files.places()
        for number in range(1, frame.number + 1):
            _inventories(frame, trusted, f"v{number}/", number)
            _digests(frame, places, number)
    frame.seen = bytearray(len(frame.files))
    frame.findings += [Finding(UNEXPECTED, path) for path in sorted(_unexpected(frame, places))]
    return frame


def _trusted(folder: Path, loi: Loi) -> Path | None:
    """Return the root's inventory when it is sound, else that of the newest version folder whose own is."""
    with suppress(OSError), Inventory.open(folder / inventory.FILE) as found:
        if root.is_believed(folder, found.sha512()) or root.is_newer(folder, found):
            return folder / inventory.FILE if _is_ours(found, loi) else None
    heads = (entry.name for entry in os.scandir(folder) if inventory.is_version(entry.name))
    for head in sorted(heads, key=lambda name: -int(name[1:])):
        with suppress(OSError), Inventory.open(folder / head / inventory.FILE) as found:
            if root.is_believed(folder / head, found.sha512()):
                return folder / head / inventory.FILE if _is_ours(found, loi) else None
    return None


def _is_ours(found: Inventory, loi: Loi) -> bool:
    try:
        return inventory.is_of(found.head(), loi)
    except Damaged:
        return False


def _inventories(frame: Frame, trusted: Inventory, prefix: str, number: int) -> None:
    """Compare one inventory and its sidecar with what the trusted one makes of them.

    Where they agree with each other they are believed: a later release may spell JSON differently.
    """
    here, sha512, ours, newer = frame.folder / prefix, "", False, False
    with suppress(OSError), Inventory.open(here / inventory.FILE) as found:
        sha512 = found.sha512()
        ours = bool(prefix) or _is_ours(found, frame.loi)
        newer = not prefix and root.is_newer(frame.folder, found)
    if sha512 and ours and root.is_believed(here, sha512):
        return
    good = inventory.digest_of(inventory.as_of(trusted, number))
    raw_is_good = newer or sha512 == good
    if not raw_is_good:
        frame.findings.append(_state(frame, prefix + inventory.FILE))
    if raw_is_good or _bytes(here / inventory.SIDECAR) != inventory.sidecar(good):
        frame.findings.append(_state(frame, prefix + inventory.SIDECAR))


def _digests(frame: Frame, places: Mapping[bytes, int], number: int) -> None:
    """Read the block digests of a version; they must name exactly the content that it brought."""
    prefix, path = f"v{number}/".encode(), contents.extension(frame.folder, number)
    left = sum(place.startswith(prefix) for place in places)
    strange = False
    try:
        for content in blocks.read(path):
            row = places.get(content.path)
            strange = strange or row is None or not content.path.startswith(prefix)
            if row is not None:
                frame.files.describe(row, content)
                left -= 1
    except (Damaged, OSError):
        frame.findings.append(_state(frame, str(path.relative_to(frame.folder))))
    else:
        if strange or left:
            frame.findings.append(Finding(CHANGED, str(path.relative_to(frame.folder))))


def _unexpected(frame: Frame, places: Mapping[bytes, int]) -> Iterator[str]:
    """Note which content files are there, and yield whatever is there and should not be."""
    around = {inventory.DECLARATION[0], inventory.FILE, inventory.SIDECAR}
    for number in range(1, frame.number + 1):
        extension = contents.extension(frame.folder, number).relative_to(frame.folder)
        around |= {f"v{number}/{inventory.FILE}", f"v{number}/{inventory.SIDECAR}", str(extension)}
    for path, regular in _walk(frame.folder):
        row = places.get(os.fsencode(path), -1)
        if not regular or (row < 0 and path not in around):
            yield path
        elif row >= 0:
            frame.seen[row] = 1


def _compare(frame: Frame, path: str, content: bytes) -> None:
    if _bytes(frame.folder / path) != content:
        frame.findings.append(_state(frame, path))


def _state(frame: Frame, path: str) -> Finding:
    is_there = (frame.folder / path).is_file() and not (frame.folder / path).is_symlink()
    return Finding(CHANGED if is_there else MISSING, path)


def _bytes(path: Path) -> bytes:
    """Return a file of the frame, empty when it is absent or cannot be read: what it should be is compared later."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        with os.fdopen(descriptor, "rb") as file:
            return file.read()
    except OSError:
        return b""


def _walk(folder: Path) -> Iterator[tuple[str, bool]]:
    """Yield each path below ``folder`` that is no folder, and whether it is a regular file; empty folders too."""
    waiting = [""]
    while waiting:
        here, empty = waiting.pop(), True
        with os.scandir(folder / here) as entries:
            for entry in entries:
                path, empty = f"{here}/{entry.name}" if here else entry.name, False
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(path)
                else:
                    yield path, entry.is_file(follow_symlinks=False)
        if empty:
            yield here, False
