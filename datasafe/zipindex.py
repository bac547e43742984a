"""The index of a zip file, read strictly: what the directory at its end says must be what lies in the file.

Local headers are compared with the central directory, and the entries must tile the file without a gap or an overlap:
two programs that read such a file see the same files (PKWARE APPNOTE 6.3).  Refused are encryption, volumes, methods
other than stored and deflated, links and devices.  Nothing is inflated here, and nothing outside the view is touched.
"""

import mmap
import stat
import zlib
from array import array
from itertools import chain, pairwise
from struct import Struct
from typing import NamedTuple

from .faults import Refused, refuse
from .members import Entry, Members

STORED = 0
DEFLATED = 8

_END = Struct("<4s4H2LH")
_END64_LOCATOR = Struct("<4sLQL")
_END64 = Struct("<4sQ2H2L4Q")
_CENTRAL = Struct("<4s6H3L5H2L")
_LOCAL = Struct("<4s5H3L2H")

RELEASE = 256  # headers that are read before: each brings 64 KiB of its surroundings along

_UNIX = 3
_ENCRYPTED = 0x0001 | 0x0040 | 0x2000
_DESCRIPTOR = 0x0008
_UTF8 = 0x0800
_FULL16 = 0xFFFF
_FULL32 = 0xFFFFFFFF
_DOS_FOLDER = 0x10


class _Raw(NamedTuple):
    """One record of the central directory, its 64-bit fields resolved."""

    name: bytes
    extra: dict[int, bytes]
    flags: int
    method: int
    crc32: int
    packed: int
    size: int
    offset: int
    mode: int
    dos: int


def read(view: memoryview, max_members: int) -> Members:
    """Return the members in the order of their bytes; Refused when the file is not exactly one plain zip archive."""
    count, start, end = _directory(view)
    if count > max_members:
        raise refuse("too_many_members", f"The archive has more than {max_members} members.")
    places = _places(view, count, start, end)
    members = Members()
    expected, coming = 0, (_record(view, at) for at in places)
    for number, (record, following) in enumerate(pairwise(chain(coming, (None,)))):
        assert record is not None
        if number % RELEASE == 0:
            release(view)
        limit = following.offset if following else start
        if record.offset != expected:
            raise _bad("overlap" if record.offset < expected else "gap", "Entries overlap or leave gaps.", record)
        data = _local(view, record, limit)
        expected = data + record.packed + _descriptor(view, record, data + record.packed, limit)
        members.add(_entry(record, data))
    if expected != start:
        raise refuse("zip_gap", "Bytes before the central directory belong to no entry.")
    return members


def release(view: memoryview) -> None:
    """Let go of the memory that reading a mapped file has taken; the next read of a page takes it again."""
    if isinstance(view.obj, mmap.mmap):
        view.obj.madvise(mmap.MADV_DONTNEED)


def _directory(view: memoryview) -> tuple[int, int, int]:
    """Return number of members, start and end of the central directory."""
    size = len(view)
    at = _end_record(view)
    _, disk, disk_start, here, count, length, offset, _ = _END.unpack_from(view, at)
    end = at
    if at >= _END64_LOCATOR.size and bytes(view[at - 20 : at - 16]) == b"PK\x06\x07":
        count64, length64, offset64, end = _directory64(view, at)
        told = ((count, _FULL16, count64), (length, _FULL32, length64), (offset, _FULL32, offset64))
        if any(small not in (full, big) for small, full, big in told):
            raise refuse("zip_mismatch", "The two end records of the archive disagree.")
        here = count = count64
        length, offset = length64, offset64
    if disk or disk_start or here != count:
        raise refuse("zip_volumes", "The archive is one of several volumes.")
    if offset + length != end or end > size:
        raise refuse("zip_gap", "The central directory is not where the end record says, or bytes surround it.")
    return count, offset, end


def _end_record(view: memoryview) -> int:
    """Find the one end record whose comment ends the file."""
    tail_at = max(0, len(view) - _END.size - _FULL16)
    tail = bytes(view[tail_at:])
    found = []
    at = tail.rfind(b"PK\x05\x06")
    while at >= 0:
        if at + _END.size + int.from_bytes(tail[at + 20 : at + 22], "little") == len(tail):
            found.append(tail_at + at)
        at = tail.rfind(b"PK\x05\x06", 0, at)
    if len(found) != 1:
        raise refuse("zip_bad" if not found else "zip_ambiguous", "This is not one whole zip archive.")
    return found[0]


def _directory64(view: memoryview, end_at: int) -> tuple[int, int, int, int]:
    _, disk, at, disks = _END64_LOCATOR.unpack_from(view, end_at - _END64_LOCATOR.size)
    if disk or disks > 1 or at + _END64.size > end_at - _END64_LOCATOR.size:
        raise refuse("zip_bad", "The zip64 end record is not in the archive.")
    magic, length, *_, disk, disk_start, here, count, size, offset = _END64.unpack_from(view, at)
    whole = at + 12 + length == end_at - _END64_LOCATOR.size
    if magic != b"PK\x06\x06" or not whole or disk or disk_start or here != count:
        raise refuse("zip_bad", "The zip64 end record is not sound.")
    return count, size, offset, at


def _places(view: memoryview, count: int, at: int, end: int) -> "array[int]":
    """Return where the records of the central directory begin, in the order of what they speak of."""
    places, offsets = array("Q"), array("Q")
    for _ in range(count):
        if at + _CENTRAL.size > end:
            raise refuse("zip_bad", "The central directory ends too early.")
        magic, *_, name, extra, comment, disk, _, _, _ = _CENTRAL.unpack_from(view, at)
        places.append(at)
        at += _CENTRAL.size + name + extra + comment
        if magic != b"PK\x01\x02" or at > end or disk not in (0, _FULL16):
            raise refuse("zip_bad", "The central directory is not sound.")
        offsets.append(_record(view, places[-1]).offset)
    if at != end:
        raise refuse("zip_gap", "The central directory has bytes that belong to no entry.")
    if any(above > below for above, below in pairwise(offsets)):
        return array("Q", [places[row] for row in sorted(range(count), key=offsets.__getitem__)])
    return places


def _record(view: memoryview, at: int) -> _Raw:
    """Read one record of the central directory, which is whole."""
    (_, made_by, _, flags, method, _, _, crc32, packed, size, name_length, extra_length, _,
     _, _, attributes, offset) = _CENTRAL.unpack_from(view, at)  # fmt: skip
    name_at = at + _CENTRAL.size
    name = bytes(view[name_at : name_at + name_length])
    extra: dict[int, bytes] = {}
    if extra_length:
        extra = _extra(bytes(view[name_at + name_length : name_at + name_length + extra_length]))
        size, packed, offset = _widen(extra, size, packed, offset)
    mode = attributes >> 16 if made_by >> 8 == _UNIX else 0
    return _Raw(name, extra, flags, method, crc32, packed, size, offset, mode, attributes & 0xFF)


def _extra(raw: bytes) -> dict[int, bytes]:
    """Split an extra field; one that is cut off, or has a part twice, is refused."""
    parts: dict[int, bytes] = {}
    at = 0
    while at < len(raw):
        kind, length = int.from_bytes(raw[at : at + 2], "little"), int.from_bytes(raw[at + 2 : at + 4], "little")
        at += 4 + length
        if at > len(raw) or kind in parts:
            raise refuse("zip_bad", "An extra field is not sound.")
        parts[kind] = raw[at - length : at]
    return parts


def _widen(extra: dict[int, bytes], *fields: int) -> list[int]:
    """Replace saturated 32-bit fields by those of the zip64 extra field, which holds only these, in this order."""
    wide = extra.get(1, b"")
    values = []
    for field in fields:
        if field == _FULL32 and wide:
            if len(wide) < 8:
                raise refuse("zip_bad", "A zip64 extra field is too short.")
            field, wide = int.from_bytes(wide[:8], "little"), wide[8:]
        values.append(field)
    return values


def _local(view: memoryview, record: _Raw, limit: int) -> int:
    """Compare the local header with the central record; return where the data begin, all of it before ``limit``."""
    if record.offset + _LOCAL.size > limit:
        raise _bad("overlap", "Entries overlap or lie outside the file.", record)
    magic, _, flags, method, _, _, crc32, packed, size, name_length, extra_length = _LOCAL.unpack_from(
        view, record.offset
    )
    name_at = record.offset + _LOCAL.size
    data: int = name_at + name_length + extra_length
    if magic != b"PK\x03\x04" or data + record.packed > limit:
        raise _bad("overlap", "Entries overlap or lie outside the file.", record)
    extra = _extra(bytes(view[name_at + name_length : data])) if extra_length else {}
    if (flags, method) != (record.flags, record.method) or view[name_at : name_at + name_length] != record.name:
        raise _bad("mismatch", "The two headers of a member disagree.", record)
    if extra.get(0x7075) != record.extra.get(0x7075):
        raise _bad("mismatch", "The two headers of a member disagree about its name.", record)
    size, packed = _widen(extra, size, packed)
    told = (crc32, packed, size)
    if told != (record.crc32, record.packed, record.size) and not (flags & _DESCRIPTOR and _left_open(told)):
        raise _bad("mismatch", "The two headers of a member disagree.", record)
    return data


def _left_open(told: tuple[int, int, int]) -> bool:
    """Whether a local header leaves its sums to the descriptor: zeros, or saturated by a zip64 writer."""
    return told[0] == 0 and all(value in (0, _FULL32) for value in told[1:])


def _descriptor(view: memoryview, record: _Raw, at: int, limit: int) -> int:
    """Return the length of the data descriptor, 0 when there is none; it must fill the space up to ``limit``."""
    if not record.flags & _DESCRIPTOR:
        return 0
    raw = bytes(view[at : min(limit, at + 25)])
    for width in (4, 8):
        sums = b"".join(
            (value & (1 << 8 * bytes_) - 1).to_bytes(bytes_, "little")
            for value, bytes_ in ((record.crc32, 4), (record.packed, width), (record.size, width))
        )
        if raw in (sums, b"PK\x07\x08" + sums):
            return len(raw)
    if not raw and not record.size:
        return 0  # some writers set the flag on folders and leave the descriptor out
    raise _bad("mismatch", "A member's data descriptor disagrees with the directory.", record)


def _entry(record: _Raw, start: int) -> Entry:
    name = _name(record)
    kind = stat.S_IFMT(record.mode)
    folder = name.endswith("/")
    if record.flags & _ENCRYPTED:
        raise _bad("encrypted", "A member is encrypted.", record)
    if kind not in (0, stat.S_IFDIR if folder else stat.S_IFREG) or (record.dos & _DOS_FOLDER and not folder):
        raise _bad("special", "A member is a link or a device, or its type contradicts its name.", record)
    if record.method not in (STORED, DEFLATED):
        raise _bad("method", "A member is compressed by another method than deflate.", record)
    if (record.method == STORED and record.packed != record.size) or (folder and record.size):
        raise _bad("mismatch", "A stored member's two sizes differ, or a folder has content.", record)
    return Entry(name.removesuffix("/"), folder, record.method, record.crc32, record.packed, record.size, start)


def _name(record: _Raw) -> str:
    """Decode a name: UTF-8 where it is (flag, Unicode extra field or by luck), else code page 437 (APPNOTE D)."""
    unicode_path = record.extra.get(0x7075, b"")
    if len(unicode_path) > 5 and unicode_path[0] == 1:
        if int.from_bytes(unicode_path[1:5], "little") != zlib.crc32(record.name):
            raise _bad("mismatch", "A member has two names that disagree.", record)
        raw = unicode_path[5:]
    else:
        raw = record.name
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        if record.flags & _UTF8 or raw is not record.name:
            raise _bad("bad", "A member's name says that it is UTF-8, and is not.", record) from None
        return raw.decode("cp437")


def _bad(word: str, message: str, record: _Raw) -> Refused:
    return refuse(f"zip_{word}", message, record.name.decode("utf-8", "backslashreplace"))
