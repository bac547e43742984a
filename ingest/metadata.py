"""The text of metadata.txt: a JSON list read a few hundred entries at a time, and the entries it may have.

100,000 entries are 27 MB of text and would be ten times that as objects; at no time are more than one piece of them in
memory (docs/formats.md#metadatatxt).
"""

import re
from codecs import BOM_UTF8
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from ..common import metadata
from ..common.metadata import FILES
from .falsehood import BadEntry, BadMetadataJson, MetadataError

PIECE_BYTES = 256 << 10
ENTRY_BYTES = 16 << 20  # an entry (or garbage that might be one) beyond this is refused

_OPEN = re.compile(rb"[ \t\r\n]*\[")
_BETWEEN = re.compile(rb"\}[ \t\r\n]*,[ \t\r\n]*(?=\{)")


class Entry(metadata.Entry):
    """Any entry of a bundle, or of the list of a POST /move."""

    value: str | int | float | UnsetType = UNSET
    path: str | UnsetType = UNSET  # of a FileKeyValue: its file, whose id nobody knows yet
    metaID: Any = UNSET
    source: str | UnsetType = UNSET  # of POST /move


class _Table(msgspec.Struct):
    destinationTable: str


class _File(metadata.FileEntry):
    source: str | UnsetType = UNSET


class _Said(msgspec.Struct):
    destinationTable: str
    value: str | int | float | UnsetType = UNSET
    key: str | UnsetType = UNSET
    path: str | UnsetType = UNSET
    file_id: Any = UNSET
    metaID: Any = UNSET


_entries = msgspec.json.Decoder(list[Entry])
_raws = msgspec.json.Decoder(list[msgspec.Raw])
_table = msgspec.json.Decoder(_Table)
_file = msgspec.json.Decoder(_File)
_said = msgspec.json.Decoder(_Said)


def entries(text: bytes | bytearray | memoryview) -> Iterator[Entry | MetadataError]:
    """Yield each entry of ``text`` in order, a BadEntry in the place of one that cannot be read.

    Raises BadMetadataJson where the text is no JSON list; what was yielded before is then worth nothing.
    """
    for piece in _pieces(text):
        try:
            found = _entries.decode(piece)
        except (msgspec.DecodeError, RecursionError):  # rare: now each entry is looked at by the rules of its own table
            yield from map(_entry, _raws.decode(piece))
        else:
            yield from found


def _pieces(text: bytes | bytearray | memoryview) -> Iterator[bytes]:
    """Cut the list in ``text`` into lists of about PIECE_BYTES.

    A cut is a guess ("} , {" may stand in a string, or deeper), which the decoder judges: a piece that begins with an
    entry and is a whole list by itself ends with one.  A wrong guess doubles the piece, so hostile text is read a
    few times at most.
    """
    start = _OPEN.match(text)
    if not start:
        raise _refusal(text, "it begins with a byte order mark", 0) if bytes(text[:3]) == BOM_UTF8 else BadMetadataJson
    at, size = start.end(), PIECE_BYTES
    while True:
        cut = _BETWEEN.search(text, at + size)
        end = cut.start() + 1 if cut else len(text)
        if end - at > ENTRY_BYTES:
            raise BadMetadataJson("metadata.txt has an entry that is too large, or is not a JSON list.")
        piece = b"[%b]" % bytes(text[at:end]) if cut else b"[" + bytes(text[at:])
        fault = _fault(piece)
        if fault is None:
            yield piece
            if cut is None:
                return
            at, size = cut.end(), PIECE_BYTES
        elif cut is None:
            raise _refusal(text, fault[0], None if fault[1] is None else at + fault[1] - 1)
        else:
            size *= 2


def _fault(piece: bytes) -> tuple[str, int | None] | None:
    """Return what keeps ``piece`` from being a JSON list, and at which byte where that is known; None: nothing does."""
    try:
        if not piece.isascii():
            piece.decode()
        _raws.decode(piece)
    except UnicodeDecodeError as error:
        return "it is not UTF-8", error.start
    except RecursionError:
        return "it is nested too deeply", None
    except msgspec.DecodeError as error:
        said, _, byte = str(error).rstrip(")").partition(" (byte ")
        return said, int(byte) if byte else None
    return None


def _refusal(text: bytes | bytearray | memoryview, reason: str, byte: int | None) -> BadMetadataJson:
    """Return the error of a text that goes wrong near ``byte``, if that is known; lines are counted from 1."""
    place = {} if byte is None else {"line": bytes(text[:byte]).count(b"\n") + 1, "byte": byte}
    where = "" if byte is None else f" near line {place['line']}, byte {byte}"
    return BadMetadataJson(f"metadata.txt is not a JSON list in UTF-8: {reason}{where}.", **place)


def _entry(raw: msgspec.Raw) -> Entry | MetadataError:
    try:
        table = _table.decode(raw).destinationTable
        read = _file if table == FILES else _said
        return Entry(**msgspec.structs.asdict(read.decode(raw)))
    except msgspec.DecodeError as error:
        return BadEntry(f"An entry cannot be read: {error}.")
    except RecursionError:
        return BadEntry("An entry is nested too deeply.")
