"""One tar header block: numbers, checksum, format, and the records of a pax header (docs/formats.md#bundle)."""

import re
from typing import NoReturn
from zlib import adler32

from .account import shown
from .fault import (
    BadChecksum,
    BadNumber,
    BadPax,
    Compressed,
    GlobalPax,
    NegativeSize,
    NotATar,
    PaxKey,
    Sparse,
    UnknownFormat,
)
from .misnomer import NulInName

BLOCK = 512
ZEROS = bytes(BLOCK)

POSIX = b"ustar\x0000"
GNU = b"ustar  \0"
V7 = bytes(8)

_FORMATS = (POSIX, GNU, V7)
_ENDS = tuple(numbers + bytes(BLOCK - 345) for numbers in (b"0000000\0" * 2, bytes(16), b"000000 \0" * 2))  # no prefix
_OWNER = re.compile(rb"(?:[0-7]{6}[0-7 ][\0 ]){3}")  # mode, uid, gid
_NUMBERS = re.compile(rb"([0-7]{11})[\0 ]([0-7]{11})[\0 ]")  # size, mtime
_SPACES = 8 * 0x20  # what the checksum's own bytes count
_NONE = (b"", bytes(BLOCK + 1), 0)  # fits no header
_IDLE = (slice(100, 108), slice(108, 116), slice(116, 124), slice(329, 337), slice(337, 345))
_OCTAL = re.compile(rb" *([0-7]+)[ \0]*")
_SECONDS = re.compile(rb"-?[0-9]{1,12}(\.[0-9]{0,30})?")
_LENGTH = re.compile(rb"([0-9]{1,9}) ")

_PACKED = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"\x1f\x9d", "compress"),
)

# What a pax header may say beside path, size and mtime: all of it is about things that are not archived.
_IGNORED = frozenset(
    b"atime ctime uid gid uname gname comment charset hdrcharset"
    b" SCHILY.dev SCHILY.ino SCHILY.nlink SCHILY.fflags SCHILY.filetype".split()
)
_IGNORED_ROOTS = (b"SCHILY.xattr.", b"SCHILY.acl.", b"LIBARCHIVE.", b"RHT.", b"MSWINDOWS.")
_SPARSE_ROOTS = (b"GNU.sparse.", b"SUN.holesdata", b"SCHILY.realsize")
_UTF8 = b"ISO-IR 10646 2000 UTF-8"


class Headers:
    """Reads header blocks.  Most are like the last one of their type but for name, numbers and checksum."""

    def __init__(self) -> None:
        """Know nothing of any header yet."""
        # By type flag: the last usual header's mode, uid and gid; what was behind its checksum; the sum of both.
        self._known: dict[int, tuple[bytes, bytes, int]] = {}
        self._numbers = b""  # size and mtime as they were last written, their sum, and what they mean
        self._sum = self._size = self._mtime = 0

    def read(self, header: bytes, offset: int) -> tuple[bytes, int, float]:
        """Check ``header``, the block at ``offset``; return its name as bytes, its size and mtime (epoch seconds)."""
        owner, rest, total = self._known.get(header[156], _NONE)
        alike = header.endswith(rest) and header.startswith(owner, 100)
        if alike and (header.startswith(self._numbers, 124) or self._count(header)):
            name = header[:100].rstrip(b"\0")
            if header.startswith(b"%06o\0 " % (_sum(name) + self._sum + total), 148) and b"\0" not in name:
                return name, self._size, self._mtime
        found = _closely(header, offset)
        self._remember(header)
        return found

    def _count(self, header: bytes) -> bool:
        """Read size and mtime; tell whether they are written in the usual way."""
        usual = _NUMBERS.match(header, 124)
        if usual:
            self._numbers, self._sum = usual[0], _sum(usual[0])
            self._size, self._mtime = int(usual[1], 8), int(usual[2], 8)
        return bool(usual)

    def _remember(self, header: bytes) -> None:
        """Expect others like ``header``, which is valid, if nothing about it is unusual."""
        owner, rest = header[100:124], header[156:]
        if self._count(header) and _OWNER.fullmatch(owner) and rest.endswith(_ENDS) and rest[101:109] in _FORMATS:
            total = _sum(owner) + _SPACES + _sum(rest[:256]) + _sum(rest[256:])
            self._known[header[156]] = owner, rest, total


def _closely(header: bytes, offset: int) -> tuple[bytes, int, float]:
    """Return what ``Headers.read`` does, of a header that may be unusual in any way."""
    octal = _OCTAL.fullmatch(header, 148, 156)
    if not octal or int(octal[1], 8) != _sum(header[:148]) + _SPACES + _sum(header[156:412]) + _sum(header[412:]):
        refuse(header, offset)
    raw = _raw_name(header, offset)
    for field in _IDLE:  # nothing is done with them, but other readers give up where they are no numbers
        if header[field].strip(b" \0"):
            _number(header[field], offset)
    return raw, _size(header[124:136], offset), _time_field(header[136:148], offset)


def _sum(data: bytes) -> int:
    """Return the sum of at most 256 bytes.

    Adler's low half is 1 + the byte sum modulo 65521 (here from 0), which 256 bytes never reach: exact, and six times
    as fast as sum().
    """
    return adler32(data, 0) & 0xFFFF


def refuse(header: bytes, offset: int) -> NoReturn:
    """Say what it is that has no valid checksum; only at the very start may it be something else than a tar."""
    if offset == 0:
        for magic, name in _PACKED:
            if header.startswith(magic):
                raise Compressed(f"The body is compressed ({name}); a bundle is a plain tar.", format=name)
        if header[257:262] != b"ustar":
            raise NotATar
    raise BadChecksum(file=shown(header[:100].rstrip(b"\0")), offset=offset)


def pax_records(data: bytes, offset: int) -> dict[bytes, bytes]:
    """Return the records of a pax header, the last of a keyword winning (POSIX pax, "extended header"); BadPax."""
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        length = _LENGTH.match(data, at)
        end = at + int(length[1]) if length else 0
        if not length or end <= length.end() or end > len(data) or data[end - 1] != 0x0A:
            raise BadPax(offset=offset)
        keyword, equals, value = data[length.end() : end - 1].partition(b"=")
        if not equals or not keyword:
            raise BadPax(offset=offset)
        records[keyword] = value
        at = end
    return records


def pax_fields(records: dict[bytes, bytes], offset: int) -> tuple[bytes | None, int | None, float | None]:
    """Return the path, size and mtime that ``records`` give the next member, None for what they leave alone.

    PaxKey, Sparse or BadPax for a record that is not known, or whose value is not one.
    """
    path = size = mtime = None
    for keyword, value in records.items():
        if keyword == b"path":
            path = _filled(keyword, value, offset)
        elif keyword == b"size":
            size = _whole(keyword, value, offset)
        elif keyword == b"mtime":
            mtime = _time(keyword, value, offset)
        elif keyword.startswith(_SPARSE_ROOTS):
            raise Sparse(offset=offset, key=shown(keyword))
        elif not _known(keyword) or (keyword == b"hdrcharset" and value != _UTF8):
            raise PaxKey(offset=offset, key=shown(keyword))
    return path, size, mtime


def check_global(records: dict[bytes, bytes], offset: int) -> None:
    """Raise GlobalPax when a global pax header says something about the members that is archived."""
    for keyword in records:
        if not _known(keyword) or keyword == b"hdrcharset":
            raise GlobalPax(offset=offset, key=shown(keyword))


def _raw_name(header: bytes, offset: int) -> bytes:
    """Return the name in ``header``, its prefix included; UnknownFormat or NulInName when a field is not clean."""
    name, prefix, magic = header[:100].rstrip(b"\0"), header[345:500].rstrip(b"\0"), header[257:265]
    if magic not in _FORMATS or (prefix and magic != POSIX):
        # in GNU's format: incremental, multi-volume or sparse fields, which other readers take for a prefix
        raise UnknownFormat(file=shown(name), offset=offset)
    raw = prefix + b"/" + name if prefix else name
    if b"\0" in raw:
        raise NulInName(file=shown(raw), offset=offset)
    return raw


def _size(field: bytes, offset: int) -> int:
    size = _number(field, offset)
    if size < 0:
        raise NegativeSize(offset=offset, size=size)
    return size


def _time_field(field: bytes, offset: int) -> float:
    """Return the time in a header field; a blank one is 0, as every reader takes it."""
    return _in_range(_number(field, offset), offset) if field.strip(b" \0") else 0.0


def _number(field: bytes, offset: int) -> int:
    """Return a numeric header field, octal or GNU base-256; BadNumber when it is neither."""
    if octal := _OCTAL.fullmatch(field):
        return int(octal[1], 8)
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    if field[0] == 0xFF:
        return int.from_bytes(field, "big", signed=True)
    raise BadNumber(offset=offset, field=shown(field))


def _in_range(seconds: float, offset: int) -> float:
    """Return ``seconds`` when a calendar has them (years 1 to 9999); BadNumber otherwise."""
    if not -62135596800 <= seconds < 253402300800:
        raise BadNumber("A time in a header is in no calendar.", offset=offset)
    return float(seconds)


def _known(keyword: bytes) -> bool:
    return keyword in _IGNORED or keyword.startswith(_IGNORED_ROOTS)


def _filled(keyword: bytes, value: bytes, offset: int) -> bytes:
    if not value:  # POSIX: the header's own field counts again; readers differ, so nobody may rely on it
        raise BadPax(offset=offset, key=shown(keyword))
    return value


def _whole(keyword: bytes, value: bytes, offset: int) -> int:
    if value.startswith(b"-") and value[1:].isdigit():
        raise NegativeSize(offset=offset, size=shown(value))
    if not value.isdigit() or len(value) > 20:
        raise BadPax(offset=offset, key=shown(keyword))
    return int(value)


def _time(keyword: bytes, value: bytes, offset: int) -> float:
    if not _SECONDS.fullmatch(value):
        raise BadPax(offset=offset, key=shown(keyword))
    return _in_range(float(value), offset)
