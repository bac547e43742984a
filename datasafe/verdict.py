"""The verdict on a dataset: everything read again, and each missing, changed, short or unexpected file named.

A file is accused only after a second read, past the page cache, says the same.
"""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from . import contents
from .blocks import BLOCK, digest
from .files import SUM, UNKNOWN, Files
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
    findings: list[tuple[Finding, bytes]] = []
    files = total = misread = 0
    with Folders(frame.folder) as folders:
        for row, path, descriptor in _opened(folders, frame.files):
            first = _read(descriptor, throttle)
            again = _wrong(frame, row, path, first)
            last = _read(_open(folders, path), throttle) if again else first
            finding = _wrong(frame, row, path, last)
            if finding:
                findings.append((finding, frame.files.sha512(row)))
            elif again:
                misread += 1
            files, total = files + 1, total + (last[0] if last else 0)
    told = (*frame.findings, *_named(frame, findings))
    return Verdict(frame.loi, frame.number, told, files, total, misread)


_Read = tuple[int, str, bytes]  # size, SHA-512, block digests


def _opened(folders: Folders, files: Files) -> Iterator[tuple[int, str, int | None]]:
    """Yield row, path and descriptor of each of ``files``, which the caller closes, a few opened ahead."""
    waiting: deque[tuple[int, str, int | None]] = deque()
    try:
        for row in range(len(files)):
            waiting.append((row, files.name(row), _open(folders, files.name(row))))
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


def _wrong(frame: Frame, row: int, path: str, read: _Read | None) -> Finding | None:
    expected, known = frame.files.sha512(row).hex(), frame.files.sizes[row]
    if read is None:
        return Finding(CHANGED if frame.seen[row] else MISSING, path, expected=expected)
    size, found, blocks = read
    if found != expected:
        return Finding(SHORT if size < known != UNKNOWN else CHANGED, path, expected=expected, found=found)
    if known != UNKNOWN and (known, frame.files.blocks(row)) != (size, blocks):
        return Finding(CHANGED, f"extensions/pacifica-blocks/{path.partition('/')[0]}.txt", expected=path)
    return None


def _named(frame: Frame, findings: Sequence[tuple[Finding, bytes]]) -> Iterator[Finding]:
    """Yield findings with the files, as "v2 name", that have the content in question."""
    users: dict[bytes, list[str]] = {sha512: [] for _, sha512 in findings}
    if users and frame.trusted is not None:
        with Inventory.open(frame.trusted) as trusted:
            for number in range(1, frame.number + 1):
                for row in contents.rows(trusted, number):
                    if row[-SUM:] in users:
                        users[row[-SUM:]].append(f"v{number} {row[: -SUM - 1].decode()}")
    for finding, sha512 in findings:
        yield finding._replace(files=tuple(users[sha512]))
