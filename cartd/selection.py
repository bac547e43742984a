"""What a user posts to fill a cart: ids, paths and digests, checked before anything is stored."""

import hashlib
import re
from array import array
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import msgspec

from ..common.errors import BadJson, BadRequest

MAX_FAULTS = 100  # bad entries listed in one answer
MAX_PATH_BYTES = 4096
REPEATED = "the path is in the selection twice"
MAX_PART_BYTES = 255
_CONTROLS = r"\x00-\x1f\x7f-\x9f\u2028\u2029"  # what no bundle may have in a name either: C0, DEL, C1, line breaks
_PLAIN = re.compile(rf"(?:(?!\.{{1,2}}(?:/|$))[^/{_CONTROLS}]+/)*(?!\.{{1,2}}$)[^/{_CONTROLS}]+")


class BadSelection(BadRequest):
    """The selection cannot become a cart; ``faults`` lists each bad entry."""

    code = "bad_selection"


class Wanted(msgspec.Struct):
    """One entry of ``fileids``."""

    id: int | str
    path: str
    hashtype: str
    hashsum: str

    def file_id(self) -> int:
        """The archive id; ValueError when it is no positive decimal number below 2**63."""
        if type(self.id) is int and 0 < self.id < 1 << 63:
            return self.id
        text = str(self.id)
        if not (text.isascii() and text.isdecimal() and len(text) < 20 and 0 < int(text) < 1 << 63):
            raise ValueError(f"{text[:80]!r} is not a file id")
        return int(text)

    def digest(self) -> str:
        """The declared digest: lower-case hex, without the ``sha1:`` that may stand before it."""
        digest = self.hashsum.lower()
        return digest.removeprefix(f"{self.hashtype.lower()}:") if ":" in digest else digest

    def member(self) -> str:
        """The path in the tar: ``path`` less the one leading slash that clients send; ValueError says what is bad."""
        path = self.path.removeprefix("/")
        if not _PLAIN.fullmatch(path):
            raise ValueError("a path is relative, without empty, '.' or '..' parts and without control characters")
        if len(path) <= MAX_PART_BYTES and path.isascii():
            return path
        try:
            encoded = path.encode()
        except UnicodeEncodeError as error:
            raise ValueError("a path must be writable as UTF-8") from error
        if len(encoded) > MAX_PATH_BYTES or any(len(part) > MAX_PART_BYTES for part in encoded.split(b"/")):
            raise ValueError(f"a path has at most {MAX_PATH_BYTES} bytes, each of its parts at most {MAX_PART_BYTES}")
        return path


class Entry(NamedTuple):
    """A checked entry: archive id, path in the tar, and digest, all as the cart keeps them."""

    id: int
    path: str
    hashtype: str
    hashsum: str


class _Document(msgspec.Struct):
    fileids: list[msgspec.Raw]
    bundle: bool | None = None


# what a digest of each algorithm looks like; those of variable length are no digests of a file
_DIGITS = {
    name.lower(): size * 2
    for name in sorted(hashlib.algorithms_available)
    if (size := hashlib.new(name, usedforsecurity=False).digest_size)
}
_HEX = re.compile(r"[0-9a-f]*")

_decode_document = msgspec.json.Decoder(_Document).decode
_decode_wanted = msgspec.json.Decoder(Wanted).decode


class Selection:
    """A checked document.  Entries are decoded anew on each pass, so that 100,000 of them cost little memory."""

    def __init__(self, document: bytes, max_files: int) -> None:
        """Check ``document`` whole; BadJson, or BadSelection that lists every bad entry (the first 100)."""
        self.bundle, self._places = _divided(document, max_files)
        self._document = memoryview(document)
        self._check()

    def __len__(self) -> int:
        return len(self._places) // 2

    def __iter__(self) -> Iterator[Entry]:
        """Yield the entries in the order of the document."""
        for wanted in map(_decode_wanted, self._entries()):
            yield Entry(int(wanted.id), wanted.path.removeprefix("/"), wanted.hashtype.lower(), wanted.digest())

    def drop(self) -> None:
        """Let go of the document, once it has been stored: 12 MB for 100,000 files."""
        self._document, self._places = memoryview(b""), array("Q")

    def _entries(self) -> Iterator[memoryview]:
        """Yield the JSON text of each entry."""
        places = iter(self._places)
        for begin, end in zip(places, places, strict=True):
            yield self._document[begin:end]

    def _check(self) -> None:
        faults: list[dict[str, object]] = []
        checker = Checker()
        for position, raw in enumerate(self._entries()):
            try:
                checker.check(_decode_wanted(raw))
            except (msgspec.DecodeError, ValueError) as error:
                faults.append(_fault(position, raw, str(error)))
        if repeated := checker.repeated():
            faults += self._repetitions(repeated)
            faults.sort(key=lambda fault: int(str(fault["position"])))
        faults += [{"entry": path, "message": "the path is a file and a folder"} for path in checker.clashes()]
        if faults:
            raise BadSelection(
                f"{len(faults)} entries of the selection cannot be used.",
                faults=faults[:MAX_FAULTS],
                faults_total=len(faults),
            )

    def _repetitions(self, repeated: set[str]) -> Iterator[dict[str, object]]:
        """Yield a fault for each entry whose path an earlier one has."""
        seen: set[str] = set()
        for position, raw in enumerate(self._entries()):
            try:
                path = _decode_wanted(raw).member()
            except (msgspec.DecodeError, ValueError):
                continue  # told already
            if path in seen:
                yield _fault(position, raw, REPEATED)
            elif path in repeated:
                seen.add(path)


class Checker:
    """Holds the entries of one selection against each other.

    Kept are the paths alone, in UTF-8 and with a stand-in for the slash below every character that a path has: sorted,
    equal ones stand side by side, and what lies in a folder right behind its name.  A set of all folders has no bound
    worth the name, and one of all paths costs as much again.
    """

    def __init__(self) -> None:
        """Know no path yet."""
        self._keys: list[bytes] = []

    def check(self, wanted: Wanted) -> None:
        """Take one entry more; ValueError says what is bad about it by itself."""
        wanted.file_id()
        path = wanted.member()
        _check_digest(wanted)
        self._keys.append(path.encode().replace(b"/", b"\0"))

    def repeated(self) -> set[str]:
        """Return the paths that came more than once."""
        self._keys.sort()  # of a sorted list one look at each
        return {_path(above) for above, below in pairwise(self._keys) if above == below}

    def clashes(self) -> list[str]:
        """Return the paths that are a file and a folder."""
        self._keys.sort()
        return [_path(above) for above, below in pairwise(self._keys) if below.startswith(b"%b\0" % above)]


def _path(key: bytes) -> str:
    return key.replace(b"\0", b"/").decode()


def _divided(document: bytes, max_files: int) -> tuple[bool | None, "array[int]"]:
    """Return ``bundle`` of the document, and where each entry begins and ends; BadJson, BadSelection."""
    try:
        found = _decode_document(document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadJson(f"The document is not a selection: {error}") from error
    if not found.fileids:
        raise BadSelection("The selection is empty: fileids lists no file.")
    if len(found.fileids) > max_files:
        raise BadSelection(f"The selection has {len(found.fileids)} files; {max_files} are allowed.")
    # Two numbers take a fifth of an object.  Text that is found before its place is the same text, and so as good.
    places, end = array("Q"), document.index(found.fileids[0])
    for raw in found.fileids:
        begin = document.index(raw, end)
        end = begin + len(memoryview(raw))
        places.extend((begin, end))
    return found.bundle, places


def _fault(position: int, raw: memoryview, message: str) -> dict[str, object]:
    return {"position": position, "entry": bytes(raw[:200]).decode(errors="replace"), "message": message}


def _check_digest(wanted: Wanted) -> None:
    digits = _DIGITS.get(wanted.hashtype.lower())
    if digits is None:
        raise ValueError(f"{wanted.hashtype[:40]!r} is not a hash type that we know")
    digest = wanted.digest()
    if len(digest) != digits or not _HEX.fullmatch(digest):
        raise ValueError(f"a {wanted.hashtype.lower()} digest has {digits} hexadecimal digits")
