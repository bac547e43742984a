"""A text file to which lines are only ever added, each with its own check: facts that must outlive the database.

A line is the xxh3-128 (hex) of what follows, a space, and a JSON object (``docs/formats.md#register``).
"""

import fcntl
import json
import os
from pathlib import Path
from typing import Any

from xxhash import xxh3_128_hexdigest

from .volume import fsync_directory, make_directory, storing

_TAIL = 64 << 10  # longer than any line


def add(path: Path, entry: dict[str, Any]) -> None:
    """Add ``entry``; on disk when this returns, absent when it raises (NoSpace).  What a torn write left is cut off."""
    text = json.dumps(entry, sort_keys=True).encode("ascii")
    line = xxh3_128_hexdigest(text).encode() + b" " + text + b"\n"
    make_directory(path.parent)
    with storing():
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            end = _whole(descriptor)
            try:
                _write(descriptor, line, end)
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, end)
                raise
        finally:
            os.close(descriptor)
    fsync_directory(path.parent)


def entries(path: Path) -> list[dict[str, Any]]:
    """Return the entries, oldest first; lines that do not check are left out, no file is no entry."""
    return [entry for entry in map(_parse, _lines(path)) if entry is not None]


def damaged(path: Path) -> int:
    """Return how many lines do not check; a last one without its end was never promised to anybody."""
    return sum(_parse(line) is None for line in _lines(path))


def _whole(descriptor: int) -> int:
    """Cut off what a write that died has left behind the last whole line; return the length then."""
    size = os.fstat(descriptor).st_size
    start = max(0, size - _TAIL)
    end = start + os.pread(descriptor, _TAIL, start).rfind(b"\n") + 1
    if end < size:
        os.ftruncate(descriptor, end)
    return end


def _write(descriptor: int, data: bytes, at: int) -> None:
    while data:
        count = os.pwrite(descriptor, data, at)
        data, at = data[count:], at + count


def _lines(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []


def _parse(line: bytes) -> dict[str, Any] | None:
    check, _, text = line.partition(b" ")
    if check != xxh3_128_hexdigest(text).encode():
        return None
    entry = json.loads(text)
    return entry if isinstance(entry, dict) else None
