"""The frame of a dataset's object: its inventories, sidecars, block digests and folders, looked at before the bytes.

Every inventory exists twice or can be computed from a later one, so a broken one and a broken sidecar are told apart.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ..common.errors import Damaged
from . import blocks, inventory, settle
from .blocks import Content
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
    """What ``examine`` saw; ``trusted`` is None when no inventory can be believed."""

    folder: Path
    loi: Loi
    trusted: Inventory | None = None
    contents: dict[str, Content] = field(default_factory=dict)
    present: set[str] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)


def examine(folder: Path, loi: Loi) -> Frame:
    """Read the frame of the object at ``folder``; content is only listed.  The caller keeps patches away."""
    frame = Frame(folder, loi)
    frame.present = {path for path, regular in _walk(folder) if regular}
    links = [path for path, regular in _walk(folder) if not regular]
    frame.trusted = _trusted(frame)
    expected = {inventory.DECLARATION[0], inventory.FILE, inventory.SIDECAR}
    _compare(frame, inventory.DECLARATION[0], inventory.DECLARATION[1])
    if frame.trusted is None:
        frame.findings += [_state(frame, inventory.FILE), *(Finding(UNEXPECTED, path) for path in links)]
        return frame
    _inventories(frame, "", frame.trusted.number)
    for number in range(1, frame.trusted.number + 1):
        _inventories(frame, f"v{number}/", number)
        _digests(frame, number)
        expected |= {f"v{number}/{inventory.FILE}", f"v{number}/{inventory.SIDECAR}", _extension(number)}
    expected |= {path for paths in frame.trusted.manifest.values() for path in paths}
    frame.findings += [Finding(UNEXPECTED, path) for path in sorted([*links, *(frame.present - expected)])]
    return frame


def _trusted(frame: Frame) -> Inventory | None:
    """Return the root's inventory when it is sound, else that of the newest version folder whose own is."""
    raw = _bytes(frame.folder / inventory.FILE)
    if raw and (inventory.matches(raw, _bytes(frame.folder / inventory.SIDECAR)) or settle.is_newer(frame.folder, raw)):
        return _read(raw, frame.loi)
    folders = {path.partition("/")[0] for path in frame.present}
    for head in sorted((name for name in folders if inventory.is_version(name)), key=lambda name: -int(name[1:])):
        raw = _bytes(frame.folder / head / inventory.FILE)
        if inventory.matches(raw, _bytes(frame.folder / head / inventory.SIDECAR)):
            return _read(raw, frame.loi)
    return None


def _read(raw: bytes, loi: Loi) -> Inventory | None:
    try:
        found = inventory.read(raw)
    except Damaged:
        return None
    return found if found.id == f"{inventory.SCHEME}{loi}" else None


def _inventories(frame: Frame, prefix: str, number: int) -> None:
    """Compare one inventory and its sidecar with what the trusted one makes of them.

    Where they agree with each other they are believed: a later release may spell JSON differently.
    """
    assert frame.trusted is not None
    raw, sidecar = (_bytes(frame.folder / f"{prefix}{name}") for name in (inventory.FILE, inventory.SIDECAR))
    if inventory.matches(raw, sidecar) and (prefix or _read(raw, frame.loi)):
        return
    good, good_sidecar = inventory.write(inventory.as_of(frame.trusted, number))
    raw_is_good = raw == good or (not prefix and settle.is_newer(frame.folder, raw))
    if not raw_is_good:
        frame.findings.append(_state(frame, prefix + inventory.FILE))
    if raw_is_good or sidecar != good_sidecar:
        frame.findings.append(_state(frame, prefix + inventory.SIDECAR))


def _digests(frame: Frame, number: int) -> None:
    """Read the block digests of a version; they must name exactly the content that it brought."""
    assert frame.trusted is not None
    paths = {path for held in frame.trusted.manifest.values() for path in held if path.startswith(f"v{number}/")}
    try:
        contents = blocks.read(_bytes(frame.folder / _extension(number)))
    except Damaged:
        contents = {}
        frame.findings.append(_state(frame, _extension(number)))
    else:
        if contents.keys() != paths:
            frame.findings.append(Finding(CHANGED, _extension(number)))
    frame.contents |= contents


def _compare(frame: Frame, path: str, content: bytes) -> None:
    if _bytes(frame.folder / path) != content:
        frame.findings.append(_state(frame, path))


def _state(frame: Frame, path: str) -> Finding:
    return Finding(CHANGED if path in frame.present else MISSING, path)


def _extension(number: int) -> str:
    return f"extensions/{blocks.EXTENSION}/v{number}.txt"


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
        here = waiting.pop()
        with os.scandir(folder / here) as entries:
            found = list(entries)
        if not found:
            yield here, False
        for entry in found:
            path = f"{here}/{entry.name}" if here else entry.name
            if entry.is_dir(follow_symlinks=False):
                waiting.append(path)
            else:
                yield path, entry.is_file(follow_symlinks=False)
