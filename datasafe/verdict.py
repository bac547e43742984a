"""The verdict on a dataset: everything read again, and each missing, changed, short or unexpected file named.

A file is accused only after a second read, past the page cache, says the same.
"""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from .blocks import BLOCK, digest
from .folders import Folders
from .frames import CHANGED, MISSING, SHORT, Finding, Frame
from .inventory import Inventory
from .loi import Loi

AHEAD = 16  # files that the disk is asked for before their turn: small ones would each wait for it otherwise

Throttle = Callable[[int], None]  # told of each read, in bytes; waits to keep a rate, raises to end the check


@dataclass(frozen=True)
class Verdict:
    """What a full check found."""

    loi: Loi
    version: int  # the newest that was checked; 0 when no inventory could be believed
    findings: tuple[Finding, ...]
    files: int
    bytes: int
    misread: int  # files whose first read was wrong and whose second was right: look at the disk or the memory

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings


def judge(frame: Frame, throttle: Throttle | None = None) -> Verdict:
    """Read all content of an object and return the verdict; goes on after each finding."""
    findings = list(frame.findings)
    files = total = misread = 0
    if frame.trusted is not None:
        users = _users(frame.trusted)
        with Folders(frame.folder) as folders:
            wanted = sorted((path, key) for key, paths in frame.trusted.manifest.items() for path in paths)
            for path, sha512, descriptor in _opened(folders, wanted):
                first = _read(descriptor, throttle)
                again = _wrong(frame, path, sha512, first)
                last = _read(_open(folders, path), throttle) if again else first
                finding = _wrong(frame, path, sha512, last)
                if finding:
                    findings.append(finding._replace(files=tuple(users.get(sha512, ()))))
                elif again:
                    misread += 1
                files, total = files + 1, total + (last[0] if last else 0)
    version = frame.trusted.number if frame.trusted else 0
    return Verdict(frame.loi, version, tuple(findings), files, total, misread)


_Read = tuple[int, str, bytes]  # size, SHA-512, block digests


def _opened(folders: Folders, wanted: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str, int | None]]:
    """Yield path, SHA-512 and descriptor of each file of ``wanted``, which the caller closes, a few opened ahead."""
    waiting: deque[tuple[str, str, int | None]] = deque()
    try:
        for path, sha512 in wanted:
            waiting.append((path, sha512, _open(folders, path)))
            if len(waiting) > AHEAD:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        for *_, descriptor in waiting:
            if descriptor is not None:
                os.close(descriptor)


def _open(folders: Folders, path: str) -> int | None:
    """Open a content file and fetch its beginning, from the disk and not the page cache; None where it cannot."""
    try:
        descriptor = folders.open(path)
    except OSError:
        return None
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.posix_fadvise(descriptor, 0, BLOCK, os.POSIX_FADV_WILLNEED)
    except OSError:  # no file at all, but a pipe or the like
        os.close(descriptor)
        return None
    return descriptor


def _read(descriptor: int | None, throttle: Throttle | None) -> _Read | None:
    """Digest an open content file and close it; None when there is none, or it cannot be read."""
    if descriptor is None:
        return None
    sha512, size, blocks = hashlib.sha512(), 0, bytearray()
    try:
        while data := _pread(descriptor, size):
            sha512.update(data)
            blocks += digest(data)
            size += len(data)
            if throttle:
                throttle(len(data))  # its own errors end the check
    except _Unreadable:
        return None
    finally:
        os.close(descriptor)
    return size, sha512.hexdigest(), bytes(blocks)


class _Unreadable(Exception):
    """The disk refuses a block."""


def _pread(descriptor: int, at: int) -> bytes:
    try:
        return os.pread(descriptor, BLOCK, at)
    except OSError as error:
        raise _Unreadable from error


def _wrong(frame: Frame, path: str, sha512: str, read: _Read | None) -> Finding | None:
    content = frame.contents.get(path)
    if read is None:
        return Finding(CHANGED if path in frame.present else MISSING, path, expected=sha512)
    size, found, blocks = read
    if found != sha512:
        short = content is not None and size < content.size
        return Finding(SHORT if short else CHANGED, path, expected=sha512, found=found)
    if content is not None and (content.size, content.blocks) != (size, blocks):
        return Finding(CHANGED, f"extensions/pacifica-blocks/{path.partition('/')[0]}.txt", expected=path)
    return None


def _users(inventory: Inventory) -> dict[str, list[str]]:
    """Return digest -> the files, as "v2 name", that have this content."""
    users: dict[str, list[str]] = {}
    for version, block in inventory.versions.items():
        for sha512, names in block.state.items():
            users.setdefault(sha512, []).extend(f"{version} {name}" for name in names)
    return users
