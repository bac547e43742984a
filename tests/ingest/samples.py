"""Bundles made by hand from raw header bytes: good ones, and bad ones named by the code that they must raise.

A name may go on after a dash (``link-hard``): what stands before it is the code.
"""

import hashlib
import io
import json
import tarfile
from typing import Any

from pacifica.ingest.index import Index

BLOCK = 512
END = bytes(2 * BLOCK)
POSIX, GNU, V7 = b"ustar\x0000", b"ustar  \0", bytes(8)
WHEN = 1_700_000_000


def header(
    name: bytes,
    size: int = 0,
    *,
    flag: bytes = b"0",
    magic: bytes = POSIX,
    prefix: bytes = b"",
    mtime: int = WHEN,
    size_field: bytes | None = None,
    mtime_field: bytes | None = None,
    link: bytes = b"",
    checksum: bytes | None = None,
) -> bytes:
    """Return one header block; a field given as bytes goes in as it is."""
    block = bytearray(BLOCK)
    block[:100] = name[:100].ljust(100, b"\0")
    block[100:124] = b"0000644\0" * 3
    block[124:136] = (b"%011o\0" % size) if size_field is None else size_field
    block[136:148] = (b"%011o\0" % mtime) if mtime_field is None else mtime_field
    block[156:157] = flag
    block[157:257] = link.ljust(100, b"\0")
    block[257:265] = magic
    block[345:500] = prefix.ljust(155, b"\0")
    if checksum is None:
        return mended(block)
    block[148:156] = checksum
    return bytes(block)


def mended(block: bytes | bytearray, form: bytes = b"%06o\0 ") -> bytes:
    """Return a header ``block`` with the checksum that it should have, written as ``form``."""
    total = sum(block[:148]) + 8 * 32 + sum(block[156:])
    return bytes(block[:148]) + form % total + bytes(block[156:])


def padded(data: bytes) -> bytes:
    """Return ``data`` filled up to whole blocks."""
    return data + bytes(-len(data) % BLOCK)


def member(name: bytes, data: bytes = b"", **header_fields: Any) -> bytes:
    """Return header and bytes of one member."""
    return header(name, len(data), **header_fields) + padded(data)


def record(key: bytes, value: bytes) -> bytes:
    """Return one pax record, its own length included in its length."""
    body = b" %b=%b\n" % (key, value)
    length = len(body)
    while len(b"%d" % length) + len(body) != length:
        length = len(b"%d" % length) + len(body)
    return b"%d%b" % (length, body)


def pax(*records: tuple[bytes, bytes], flag: bytes = b"x") -> bytes:
    """Return a whole pax header."""
    return member(b"PaxHeaders/x", b"".join(record(*each) for each in records), flag=flag)


def long_name(name: bytes) -> bytes:
    """Return a GNU long name header."""
    return member(b"././@LongLink", name + b"\0", flag=b"L", magic=GNU)


# ---- metadata ------------------------------------------------------------------------------------------------------

TRANSACTION = [
    {"destinationTable": "Transactions.submitter", "value": 10},
    {"destinationTable": "Transactions.project", "value": "1234a"},
    {"destinationTable": "Transactions.instrument", "value": 54},
]


def listed(path: str, data: bytes, **changed: Any) -> dict[str, Any]:
    """Return the Files entry of the member ``data/<path>``; None in ``changed`` leaves a key out."""
    subdir, _, name = path.rpartition("/")
    algorithm = "sha1" if "hashsum" in changed else changed.get("hashtype") or "sha1"
    entry = {
        "destinationTable": "Files",
        "name": name,
        "subdir": subdir,
        "size": len(data),
        "mimetype": "application/octet-stream",
        "hashtype": algorithm,
        "hashsum": hashlib.new(algorithm, data).hexdigest(),
        "ctime": "2023-11-14T22:13:20",
        "mtime": "2023-11-14T22:13:20",
    }
    return {key: value for key, value in (entry | changed).items() if value is not None}


def declared(files: dict[str, bytes], hashtype: str = "sha1") -> list[dict[str, Any]]:
    """Return the metadata of ``files`` (path below data/: bytes)."""
    return [*TRANSACTION, *(listed(path, data, hashtype=hashtype) for path, data in files.items())]


def text(entries: Any) -> bytes:
    """Return ``entries`` as metadata.txt, or bytes as they are."""
    return entries if isinstance(entries, bytes) else json.dumps(entries).encode()


def bundle(files: dict[str, bytes], entries: Any = None, *more: bytes) -> bytes:
    """Return a whole bundle of ``files``, with ``entries`` (default: the truth) as metadata, and members ``more``."""
    said = declared(files) if entries is None else entries
    members = [member(b"data/" + path.encode(), data) for path, data in files.items()]
    return b"".join([*members, *more, member(b"metadata.txt", text(said)), END])


FILES = {"a.txt": b"alpha", "run/b.dat": b"b" * 513, "run/empty": b"", "run/deep/c": b"c" * 512}
GOOD = bundle(FILES)
META = member(b"metadata.txt", b"[]")
_FIRST = member(b"data/first", b"first")

GOOD_MEMBERS = {
    "v7": member(b"data/x", b"alpha", magic=V7, flag=b"\0"),
    "gnu": member(b"data/x", b"alpha", magic=GNU),
    "ustar-prefix": member(b"x", b"alpha", prefix=b"data"),
    "leading-dot": member(b"./data/x", b"alpha"),
    "long-name": long_name(b"data/x") + member(b"other", b"alpha", magic=GNU),
    "pax-path": pax((b"path", b"data/x")) + member(b"other", b"alpha"),
    "pax-last-record-wins": pax((b"path", b"data/y"), (b"path", b"data/x")) + member(b"other", b"alpha"),
    "pax-size-over-header": pax((b"size", b"5")) + header(b"data/x", 0) + padded(b"alpha"),
    "pax-ignored-keys": pax((b"uid", b"-1"), (b"SCHILY.xattr.user.x", b"\0\xff"), (b"comment", b""))
    + member(b"data/x", b"alpha"),
    "pax-utf8": pax((b"hdrcharset", b"ISO-IR 10646 2000 UTF-8")) + member(b"data/x", b"alpha"),
    "global-comment": pax((b"comment", b"0123456789abcdef"), flag=b"g") + member(b"data/x", b"alpha"),
    "base-256-size": header(b"data/x", size_field=b"\x80" + bytes(10) + b"\5") + padded(b"alpha"),
    "spaces-before-size": header(b"data/x", size_field=b"          5 ") + padded(b"alpha"),
    "twelve-digits": header(b"data/x", size_field=b"000000000005") + padded(b"alpha"),
    "blank-mtime": member(b"data/x", b"alpha", mtime_field=bytes(12)),
    "negative-mtime": member(b"data/x", b"alpha", mtime_field=(-5).to_bytes(12, "big", signed=True)),
    "pax-mtime": pax((b"mtime", b"-1.25")) + member(b"data/x", b"alpha"),
    "unterminated-checksum": mended(header(b"data/x", 5), b"%07o ") + padded(b"alpha"),
    "folders": member(b"data/", flag=b"5") + member(b"data/x", b"alpha") + member(b"data/y/", flag=b"5") * 2,
    "v7-folder": member(b"data/y/", magic=V7, flag=b"\0") + member(b"data/x", b"alpha"),
    "dot-folder": member(b"./", flag=b"5") + member(b"./data/", flag=b"5") + member(b"data/x", b"alpha"),
    "setuid": mended(b"data/x".ljust(100, b"\0") + b"0006777\0" + header(b"data/x", 5)[108:]) + padded(b"alpha"),
}  # fmt: skip


def _bad(*members: bytes) -> bytes:
    return b"".join([_FIRST, *members, META, END])


def _damaged() -> bytes:
    damaged = bytearray(GOOD)
    damaged[BLOCK * 2 + 8] ^= 1
    return bytes(damaged)


BAD_TARS: dict[str, bytes] = {
    "empty_body": b"",
    "compressed-gzip": b"\x1f\x8b\x08" + bytes(1021),
    "compressed-bzip2": b"BZh91AY&SY" + bytes(1014),
    "compressed-xz": b"\xfd7zXZ\0\0\4" + bytes(1016),
    "compressed-zstd": b"\x28\xb5\x2f\xfd" + bytes(1020),
    "compressed-zip": b"PK\x03\x04" + bytes(1020),
    "compressed-short": b"\x1f\x8b\x08 too short for a block",
    "not_a_tar": b"<html>" * 500,
    "not_a_tar-short": b"hello",
    "unknown_format": member(b"data/x", magic=b"ustar\x0001") + META + END,
    "unknown_format-gnu-incremental": _bad(member(b"data/x", magic=GNU, prefix=b"14526614200\0")),
    "unknown_format-v7-prefix": _bad(member(b"data/x", magic=V7, prefix=b"data")),
    "bad_checksum": _damaged(),
    "bad_checksum-first": header(b"data/x", checksum=b"000001\0 ") + META + END,
    "bad_checksum-blank": header(b"data/x", checksum=bytes(8)) + META + END,
    "bad_checksum-word": header(b"data/x", checksum=b"checksum") + META + END,
    "bad_checksum-nines": header(b"data/x", checksum=b"009999\0 ") + META + END,
    "truncated-bytes": GOOD[: BLOCK + 3],
    "truncated-header": GOOD[: 2 * BLOCK + 100],
    "truncated-pax": pax((b"path", b"data/x"))[: BLOCK + 4],
    "truncated-after-pax": pax((b"path", b"data/x")),
    "no_end_marker": GOOD[: -2 * BLOCK],
    "no_end_marker-one-block": GOOD[:-BLOCK],
    "no_end_marker-cut": GOOD[:-1],
    "lone_zero_block": _FIRST + bytes(BLOCK) + META + END,
    "trailing_bytes": GOOD + b"\0\0\1",
    "trailing_bytes-second-tar": GOOD + GOOD,
    "bad_number-size-blank": _bad(header(b"data/x", size_field=bytes(12))),
    "bad_number-size-sign": _bad(header(b"data/x", size_field=b"+0000000005\0")),
    "bad_number-size-underscore": _bad(header(b"data/x", size_field=b"0000_000005\0")),
    "bad_number-size-nine": _bad(header(b"data/x", size_field=b"00000000009\0")),
    "bad_number-size-after-nul": _bad(header(b"data/x", size_field=b"000005\0\x0077\0\0")),
    "bad_number-mtime": _bad(header(b"data/x", mtime_field=b"yesterday...")),
    "bad_number-mtime-beyond": _bad(header(b"data/x", mtime_field=b"\x80" + b"\xff" * 11)),
    "negative_size": _bad(header(b"data/x", size_field=b"\xff" * 12)),
    "negative_size-pax": _bad(pax((b"size", b"-5")), member(b"data/x")),
    "size_beyond_body-10^12": header(b"data/x", size_field=b"\x80" + (10**12).to_bytes(11, "big")) + END,
    "size_beyond_body-10^15": header(b"data/x", size_field=b"\x80" + (10**15).to_bytes(11, "big")) + END,
    "size_beyond_body-10^25": header(b"data/x", size_field=b"\x80" + (10**25).to_bytes(11, "big")) + END,
    "size_beyond_body-octal": header(b"data/x", size_field=b"777777777777") + END,
    "size_beyond_body-pax": pax((b"size", b"1000000000000")) + header(b"data/x", 5) + padded(b"alpha") + END,
    "size_beyond_body-metadata": header(b"metadata.txt", 10**9) + END,
    "link-hard": _bad(header(b"data/x", flag=b"1", link=b"data/first")),
    "link-symbolic": _bad(header(b"data/x", flag=b"2", link=b"/etc/passwd")),
    "link-long": _bad(member(b"././@LongLink", b"/etc/passwd\0", flag=b"K", magic=GNU)),
    "link-metadata": _FIRST + header(b"metadata.txt", flag=b"2", link=b"data/first") + END,
    "device-character": _bad(header(b"data/x", flag=b"3")),
    "device-block": _bad(header(b"data/x", flag=b"4")),
    "fifo": _bad(header(b"data/x", flag=b"6")),
    "contiguous": _bad(header(b"data/x", flag=b"7")),
    "sparse-gnu": _bad(header(b"data/x", flag=b"S", magic=GNU)),
    "sparse-pax": _bad(pax((b"GNU.sparse.major", b"1")), member(b"data/x")),
    "sparse-star": _bad(pax((b"SCHILY.realsize", b"9")), member(b"data/x")),
    "unknown_type-solaris": _bad(member(b"data/x", flag=b"X")),
    "unknown_type-volume": _bad(header(b"label", flag=b"V", magic=GNU)),
    "unknown_type-dump": _bad(header(b"data/x", flag=b"D", magic=GNU)),
    "unknown_type-multi-volume": _bad(header(b"data/x", flag=b"M", magic=GNU)),
    "unknown_type-letter": _bad(header(b"data/x", flag=b"z")),
    "folder_with_bytes": _bad(member(b"data/x/", b"bytes", flag=b"5")),
    "header_repeated-pax": _bad(pax((b"uid", b"1")), pax((b"uid", b"1")), member(b"data/x")),
    "header_repeated-long-name": _bad(pax((b"path", b"data/y")), long_name(b"data/z"), member(b"data/x")),
    "header_repeated-global": _bad(pax((b"path", b"data/y")), pax((b"comment", b"z"), flag=b"g"), member(b"data/x")),
    "header_without_member-global": _FIRST + META + pax((b"comment", b"x"), flag=b"g") + END,
    "header_without_member": _FIRST + META + pax((b"path", b"data/y")) + END,
    "pax_too_large": _bad(pax((b"comment", b"x" * 70_000)), member(b"data/x")),
    "pax_too_large-long-name": _bad(long_name(b"data/" + b"x/" * 5000 + b"x"), member(b"data/x")),
    "pax_too_large-claimed": header(b"x", 4 << 30, flag=b"x") + END,
    "bad_pax-length": _bad(member(b"x", b"99 path=data/x\n", flag=b"x"), member(b"data/x")),
    "bad_pax-no-newline": _bad(member(b"x", b"14 path=data/x", flag=b"x"), member(b"data/x")),
    "bad_pax-no-equals": _bad(member(b"x", b"12 pathdata\n", flag=b"x"), member(b"data/x")),
    "bad_pax-no-key": _bad(member(b"x", b"6 =xx\n", flag=b"x"), member(b"data/x")),
    "bad_pax-zero": _bad(member(b"x", b"0 path=x\n", flag=b"x"), member(b"data/x")),
    "bad_pax-empty-path": _bad(pax((b"path", b"")), member(b"data/x")),
    "bad_pax-size": _bad(pax((b"size", b"5.0")), member(b"data/x")),
    "bad_pax-mtime": _bad(pax((b"mtime", b"nan")), member(b"data/x")),
    "pax_key-unknown": _bad(pax((b"VENDOR.thing", b"1")), member(b"data/x")),
    "pax_key-linkpath": _bad(pax((b"linkpath", b"/etc/passwd")), member(b"data/x")),
    "pax_key-charset": _bad(pax((b"hdrcharset", b"BINARY")), member(b"data/x")),
    "global_pax-path": _bad(pax((b"path", b"data/y"), flag=b"g"), member(b"data/x")),
    "global_pax-size": _bad(pax((b"size", b"1"), flag=b"g"), member(b"data/x")),
    "nul_in_name": _bad(member(b"data/x\0.txt")),
    "bad_pax-long-name-without-nul": _bad(
        member(b"././@LongLink", b"data/ru", flag=b"L", magic=GNU), member(b"data/run/empty")
    ),
    "nul_in_name-long": _bad(long_name(b"data/x\0y"), member(b"data/x")),
    "nul_in_name-pax": _bad(pax((b"path", b"data/x\0y")), member(b"data/x")),
    "nul_in_name-prefix": _bad(member(b"x", prefix=b"data\0a")),
    "control_character-newline": _bad(member(b"data/x\ny")),
    "control_character-return": _bad(member(b"data/x\ry")),
    "control_character-escape": _bad(member(b"data/\x1b[2J")),
    "control_character-delete": _bad(member(b"data/\x7f")),
    "control_character-c1": _bad(member("data/\x85".encode())),
    "control_character-line-separator": _bad(member("data/\u2028".encode())),
    "not_utf8-latin1": _bad(member("data/é".encode("latin-1"))),
    "not_utf8-overlong": _bad(member(b"data/\xc0\xae\xc0\xae/x")),
    "not_utf8-surrogate": _bad(member(b"data/\xed\xa0\x80")),
    "absolute_path": _bad(member(b"/data/x")),
    "absolute_path-dot": _bad(member(b".//data/x")),
    "parent_part": _bad(member(b"data/../x")),
    "parent_part-first": _bad(member(b"../data/x")),
    "parent_part-last": _bad(member(b"data/..")),
    "parent_part-pax": _bad(pax((b"path", b"data/../../x")), member(b"data/x")),
    "parent_part-long-name": _bad(long_name(b"data/../../x"), member(b"data/x")),
    "parent_part-folder": _bad(member(b"data/../", flag=b"5")),
    "dot_part": _bad(member(b"data/./x")),
    "dot_part-twice": _bad(member(b"././data/x")),
    "dot_part-last": _bad(member(b"data/.")),
    "empty_part": _bad(member(b"data//x")),
    "empty_part-last": _bad(member(b"data/x/")),
    "empty_part-none": _bad(member(b"", b"x", prefix=b"data")),
    "name_too_long": _bad(pax((b"path", b"data/" + b"/".join([b"y" * 200] * 25))), member(b"data/x")),
    "part_too_long": _bad(pax((b"path", b"data/" + b"y" * 256)), member(b"data/x")),
    "part_too_long-umlauts": _bad(pax((b"path", b"data/" + "ü".encode() * 128)), member(b"data/x")),
    "too_deep": _bad(long_name(b"data/" + b"y/" * 64 + b"x"), member(b"data/x")),
    "outside_data": _bad(member(b"other/x")),
    "outside_data-root": _bad(member(b"x")),
    "outside_data-data": _bad(member(b"data")),
    "outside_data-case": _bad(member(b"DATA/x")),
    "outside_data-folder": _bad(member(b"other/", flag=b"5")),
    "duplicate_name": _bad(member(b"data/first", b"other")),
    "duplicate_name-dot": _bad(member(b"./data/first", b"other")),
    "duplicate_name-pax": _bad(pax((b"path", b"data/first")), member(b"data/x")),
    "file_is_folder": _bad(member(b"data/first/x")),
    "file_is_folder-deep": _bad(member(b"data/first/x/y/z")),
    "file_is_folder-before": _bad(member(b"data/a/b/c"), member(b"data/a/b")),
    "file_is_folder-member": _bad(member(b"data/first/", flag=b"5")),
    "metadata_missing": _FIRST + END,
    "metadata_missing-nothing": END,
    "metadata_repeated": _bad(META),
    "metadata_repeated-dot": _bad(member(b"./metadata.txt", b"[]")),
    "metadata_not_regular": _FIRST + member(b"metadata.txt/", flag=b"5") + END,
}


def _said(*entries: dict[str, Any], files: dict[str, bytes] = FILES, transaction: Any = TRANSACTION) -> bytes:
    return bundle(files, [*transaction, *entries])


def _one(**changed: Any) -> bytes:
    """Return a bundle of one file whose entry tells something else."""
    return bundle({"x": b"alpha"}, [*TRANSACTION, listed("x", b"alpha", **changed)])


_TRUE = [listed(path, data) for path, data in FILES.items()]
_FKV: dict[str, Any] = {"destinationTable": "FileKeyValue", "key": "k", "value": "v"}
_KV: dict[str, Any] = {"destinationTable": "TransactionKeyValue", "key": "k", "value": "v"}

BAD_METADATA: dict[str, bytes] = {
    "bad_metadata_json-empty": bundle(FILES, b""),
    "bad_metadata_json-object": bundle(FILES, b"{}"),
    "bad_metadata_json-cut": bundle(FILES, text(declared(FILES))[:-1]),
    "bad_metadata_json-trailing": bundle(FILES, text(declared(FILES)) + b" x"),
    "bad_metadata_json-comma": bundle(FILES, b"[,]"),
    "bad_metadata_json-latin1": bundle(FILES, '[{"destinationTable": "é"}]'.encode("latin-1")),
    "bad_metadata_json-bom": bundle(FILES, b"\xef\xbb\xbf[]"),
    "bad_metadata_json-deep": bundle(FILES, b"[" * 100_000 + b"]" * 100_000),
    "bad_metadata_json-nan": bundle(FILES, b'[{"destinationTable": "Transactions.project", "value": NaN}]'),
    "bad_entry-number": bundle(FILES, b"[1, 2]"),
    "bad_entry-null": bundle(FILES, b"[null]"),
    "bad_entry-no-table": bundle(FILES, [{"value": 1}, *declared(FILES)]),
    "bad_entry-table-type": bundle(FILES, [{"destinationTable": 1}, *declared(FILES)]),
    "bad_entry-value-type": _said({**_KV, "value": ["x"]}, *_TRUE),
    "bad_entry-value-null": _said({**_KV, "value": None}, *_TRUE),
    "bad_entry-size-text": _one(size="5"),
    "bad_entry-size-float": _one(size=5.5),
    "bad_entry-name-type": _one(name=["x"]),
    "missing_key-name": _one(name=None),
    "missing_key-size": _one(size=None),
    "missing_key-mimetype": _one(mimetype=None),
    "missing_key-hashtype": _one(hashtype=None),
    "missing_key-hashsum": _one(hashsum=None),
    "missing_key-ctime": _one(ctime=None),
    "missing_key-mtime": _one(mtime=None),
    "missing_key-value": _said({"destinationTable": "TransactionKeyValue", "key": "k"}, *_TRUE),
    "missing_key-key": _said({"destinationTable": "TransactionKeyValue", "value": "k"}, *_TRUE),
    "missing_key-path": _said(_FKV, *_TRUE),
    "bad_value-nul": _said({**_KV, "value": "a\0b"}, *_TRUE),
    "bad_value-key-nul": _said({**_KV, "key": "a\0b"}, *_TRUE),
    "bad_value-key-empty": _said({**_KV, "key": ""}, *_TRUE),
    "bad_value-project": _said(
        *_TRUE, transaction=[{"destinationTable": "Transactions.project", "value": ""}, *TRANSACTION[::2]]
    ),
    "unknown_destination": _said({"destinationTable": "Users", "value": 1}, *_TRUE),
    "unknown_destination-empty": _said({"destinationTable": "", "value": 1}, *_TRUE),
    "unknown_destination-transactions": _said({"destinationTable": "Transactions.a b", "value": 1}, *_TRUE),
    "transaction_id_given": _said({"destinationTable": "Transactions._id", "value": 7}, *_TRUE),
    "transaction_repeated": _said(TRANSACTION[0], *_TRUE),
    "transaction_missing": _said(*_TRUE, transaction=TRANSACTION[1:]),
    "file_id_given": _said({**_FKV, "file_id": 7}, *_TRUE),
    "file_id_given-null": _said({**_FKV, "file_id": None, "path": "a.txt"}, *_TRUE),
    "unknown_path": _said({**_FKV, "path": "z"}, *_TRUE),
    "no_files": bundle({}, TRANSACTION),
    "bad_path-parent": _said(*_TRUE, listed("../../etc/passwd", b"")),
    "bad_path-absolute": _said(*_TRUE, listed("x", b"", subdir="/etc")),
    "bad_path-absolute-name": _said(*_TRUE, listed("x", b"", name="/etc/x")),
    "bad_path-dot": _said(*_TRUE, listed("./x", b"")),
    "bad_path-empty": _said(*_TRUE, listed("x", b"", name="")),
    "bad_path-control": _said(*_TRUE, listed("x\r\ny", b"")),
    "bad_path-nul": _said(*_TRUE, listed("x\0y", b"")),
    "bad_path-key-value": _said({**_FKV, "path": "../x"}, *_TRUE),
    "file_repeated": _said(*_TRUE, _TRUE[0]),
    "file_repeated-other-spelling": _said(*_TRUE, listed("data//run/b.dat", FILES["run/b.dat"])),
    "file_missing": _said(*_TRUE, listed("z", b"")),
    "file_missing-unset": _said(*_TRUE, listed("UNSET", b"")),
    "file_not_listed": _said(*_TRUE[1:]),
    "size_mismatch": _one(size=6),
    "size_mismatch-negative": _one(size=-5),
    "checksum_mismatch": _one(hashsum="0" * 40),
    "checksum_mismatch-sha256": _one(hashtype="sha256", hashsum="0" * 64),
    "unknown_hashtype": _one(hashtype="crc32", hashsum="00000000"),
    "unknown_hashtype-truncated": _one(hashtype="sha256-128", hashsum="0" * 32),
    "variable_hashtype": _one(hashtype="shake_128", hashsum="0" * 32),
    "bad_hashsum-short": _one(hashsum="f1d2"),
    "bad_hashsum-not-hex": _one(hashsum="z" * 40),
    "bad_hashsum-other-prefix": _one(hashsum="md5:" + hashlib.sha1(b"alpha").hexdigest()),
    "bad_mimetype": _one(mimetype="chemical/x-pdb"),
    "bad_mimetype-no-slash": _one(mimetype="text"),
    "bad_mimetype-newline": _one(mimetype="text/plain\r\nX: y"),
    "bad_time-empty": _one(ctime="", mtime=""),
    "bad_time-ctime": _one(ctime="2026-02-30T00:00:00"),
    "bad_time-mtime": _one(mtime="yesterday"),
    "bad_time-week": _one(mtime="2026-W47-6T07:37:08"),
    "bad_time-number": _one(mtime="1700000000"),
}


# ---- what a reader finds --------------------------------------------------------------------------------------------


def found(index: Index, data: bytes) -> list[tuple[str, bytes]]:
    """Return path and bytes of each file, and hold its digest against them on the way."""
    files = []
    for ordinal in range(len(index)):
        start = index.offset[ordinal]
        body = data[start : start + index.size[ordinal]]
        assert index.digest(ordinal) == hashlib.new(index.hashtype, body).hexdigest()
        files.append((index.path(ordinal), body))
    return files


def by_tarfile(data: bytes) -> list[tuple[str, bytes]]:
    """Return what the standard library finds, folders and metadata.txt left out, './' taken off."""
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
        members = [(each.name.removeprefix("./"), tar.extractfile(each)) for each in tar if each.isreg()]
        return [(path, file.read()) for path, file in members if file is not None and path != "metadata.txt"]
