"""The tar headers of a download: POSIX ustar where a member fits, PAX where it does not.

One function of name, size and mtime, so that headers need not be kept: mode 0644, owner 0/0 without names, like the
bundles of Pacifica's uploader byte for byte.  Layout: POSIX.1-2017, pax, "ustar Interchange Format".
"""

import re
from functools import lru_cache
from zlib import adler32

BLOCK = 512
END = bytes(2 * BLOCK)  # end of archive; the rest of tar's usual 10,240-byte record is left out

NAME_BYTES = 100
PREFIX_BYTES = 155
NUMBER_MAX = 0o77777777777  # 11 octal digits: 8 GiB - 1 byte, or the year 2242

_FILL = [bytes(NAME_BYTES - length) for length in range(NAME_BYTES + 1)]
_OWNER = b"%07o\0%07o\0%07o\0" % (0o644, 0, 0)  # mode, uid, gid
_MAGIC = b"ustar\x0000"
_LINK, _NAMES = bytes(100), bytes(80)  # link name; user, group and device fields
_REST = _LINK + _MAGIC + _NAMES + bytes(PREFIX_BYTES + 12)
_FIXED = sum(_OWNER) + 8 * 0x20 + sum(b"0") + sum(_MAGIC)  # of the checksum: it counts its own field as blanks
_NUMBER = re.compile(rb"[0-7]{6,7}[ \0]{1,2}")
_OWNER_NAME = re.compile(rb"[A-Za-z0-9._@$+-]*\0+")


def header(name: bytes, size: int, mtime: int) -> bytes:
    """Return every byte that stands before the data of the regular file ``name`` (UTF-8): 512, or more with PAX.

    ``mtime`` is in whole seconds and may be negative.  ``name`` has no NUL, and no ``/`` at either end.
    """
    if len(name) <= NAME_BYTES and size <= NUMBER_MAX and 0 <= mtime <= NUMBER_MAX and name.isascii():
        numbers = b"%011o\0%011o\0" % (size, mtime)
        # adler32's low half is a plain sum while that stays below 65,521, as ASCII's does: 10 times faster than sum()
        checksum = _FIXED + (adler32(numbers, adler32(name, 0)) & 0xFFFF)
        return b"".join((name, _FILL[len(name)], _OWNER, numbers, b"%06o\0 0" % checksum, _REST))
    return _long_header(name, size, mtime)


def header_size(name: bytes, size: int, mtime: int) -> int:
    """Return ``len(header(name, size, mtime))``."""
    if len(name) <= NAME_BYTES and size <= NUMBER_MAX and 0 <= mtime <= NUMBER_MAX and name.isascii():
        return BLOCK
    return len(_long_header(name, size, mtime))


def padding_size(size: int) -> int:
    """Return how many zero bytes follow ``size`` bytes of data."""
    return -size % BLOCK


def harmless(source: bytes, own: bytes) -> bool:
    """Tell whether ``source``, a member's header in its bundle, may stand in a download in place of ``own``.

    True when it says the same (name, size, mtime, regular file) and differs at most in owner and permissions, which
    must let the owner read and set no setuid, setgid or sticky bit.
    """
    if source == own:
        return True
    if len(source) != BLOCK or len(own) != BLOCK:
        return False
    return (
        source[:100] == own[:100]  # name
        and source[124:148] == own[124:148]  # size and mtime
        and source[156:257] == own[156:257]  # type and link name
        and source[345:] == own[345:]  # prefix; GNU has other things there
        and _is_harmless_owner(source[100:124] + source[257:345], bool(own[345]))
        and source[148:156] == b"%06o\0 " % (_sum(source) - _sum(source[148:156]) + 8 * 0x20)
    )


@lru_cache(maxsize=64)  # one bundle has one owner, and there are 100,000 headers to look at
def _is_harmless_owner(fields: bytes, has_prefix: bool) -> bool:
    """Judge mode, uid, gid; magic, user, group and device numbers."""
    numbers = [fields[at : at + 8] for at in (0, 8, 16)]
    known = {_MAGIC} if has_prefix else {_MAGIC, b"ustar  \0"}  # GNU's format has no prefix
    return (
        all(_NUMBER.fullmatch(number) for number in numbers)
        and int(numbers[0].strip(b" \0"), 8) & 0o7400 == 0o400
        and fields[24:32] in known
        and all(_OWNER_NAME.fullmatch(name) for name in (fields[32:64], fields[64:96]))
        and not fields[96:].strip(b"0 \0")
    )


def _long_header(name: bytes, size: int, mtime: int) -> bytes:
    """Return the header of a member that the short form cannot hold."""
    records: list[bytes] = []
    prefix, last = _split(name)
    if not last:
        records.append(_record(b"path", name))
        # what a reader without PAX shows: readable, and not the name of another member's folder
        last = name.decode().encode("ascii", "replace")[:NAME_BYTES].rstrip(b"/")
    if size > NUMBER_MAX:
        records.append(_record(b"size", b"%d" % size))
        size = 0
    if not 0 <= mtime <= NUMBER_MAX:
        records.append(_record(b"mtime", b"%d" % mtime))
        mtime = 0
    own = _block(last, size, mtime, b"0", prefix, _OWNER)
    if not records:
        return own
    extended = b"".join(records)
    # name and mode as Python's tarfile has them, so that a bundle written with it may be passed through as it is
    leader = _block(b"././@PaxHeader", len(extended), 0, b"x", b"", b"0000000\x00" * 3)
    return leader + extended + bytes(padding_size(len(extended))) + own


def _block(name: bytes, size: int, mtime: int, kind: bytes, prefix: bytes, owner: bytes) -> bytes:
    """Return one 512-byte header block with its checksum."""
    numbers = b"%011o\0%011o\0" % (size, mtime)
    front = name.ljust(NAME_BYTES, b"\0") + owner + numbers
    back = kind + _LINK + _MAGIC + _NAMES + prefix.ljust(PREFIX_BYTES + 12, b"\0")
    return b"%b%06o\0 %b" % (front, _sum(front) + _sum(back) + 8 * 0x20, back)


def _sum(data: bytes) -> int:
    """Add up at most 512 bytes; 256 of the largest stay below adler32's modulus."""
    return (adler32(data[:256], 0) & 0xFFFF) + (adler32(data[256:], 0) & 0xFFFF)


def _split(name: bytes) -> tuple[bytes, bytes]:
    """Return prefix and last part of ``name`` for the two fields of a ustar header; both empty when it does not fit."""
    if not name.isascii():  # the header has no encoding of its own
        return b"", b""
    if len(name) <= NAME_BYTES:
        return b"", name
    cut = name.find(b"/", len(name) - NAME_BYTES - 1)
    return (name[:cut], name[cut + 1 :]) if 0 < cut <= PREFIX_BYTES else (b"", b"")


def _record(keyword: bytes, value: bytes) -> bytes:
    """Return one PAX record, ``length keyword=value newline``, whose length counts its own digits."""
    rest = len(keyword) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))  # the digits may have grown by one
    return b"%d %b=%b\n" % (length, keyword, value)
