"""What a user posts to fill a cart: ids, paths and digests, checked before anything is stored."""

import hashlib
import re
from collections.abc import Iterator

import msgspec

from ..common.errors import BadJson, BadRequest

MAX_FAULTS = 100  # bad entries listed in one answer
MAX_PATH_BYTES = 4096
_PLAIN = re.compile(r"(?:(?!\.{1,2}(?:/|$))[^/\x00-\x1f\x7f]+/)*(?!\.{1,2}$)[^/\x00-\x1f\x7f]+")


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
        text = str(self.id)
        if not (text.isascii() and text.isdecimal() and len(text) < 20 and 0 < int(text) < 1 << 63):
            raise ValueError(f"{text[:80]!r} is not a file id")
        return int(text)

    def digest(self) -> str:
        """The declared digest: lower-case hex, without the ``sha1:`` that may stand before it."""
        return self.hashsum.lower().removeprefix(f"{self.hashtype.lower()}:")

    def member(self) -> str:
        """The path in the tar: ``path`` less the one leading slash that clients send; ValueError says what is bad."""
        path = self.path.removeprefix("/")
        if not _PLAIN.fullmatch(path):
            raise ValueError("a path is relative, without empty, '.' or '..' parts and without control characters")
        try:
            encoded = path.encode()
        except UnicodeEncodeError as error:
            raise ValueError("a path must be writable as UTF-8") from error
        if len(encoded) > MAX_PATH_BYTES or any(len(part) > 255 for part in encoded.split(b"/")):
            raise ValueError(f"a path has at most {MAX_PATH_BYTES} bytes, each of its parts at most 255")
        return path


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
        try:
            found = _decode_document(document)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadJson(f"The document is not a selection: {error}") from error
        if not found.fileids:
            raise BadSelection("The selection is empty: fileids lists no file.")
        if len(found.fileids) > max_files:
            raise BadSelection(f"The selection has {len(found.fileids)} files; {max_files} are allowed.")
        self.bundle = found.bundle
        self._entries = found.fileids
        self._check()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Wanted]:
        """Yield the entries in the order of the document."""
        return map(_decode_wanted, self._entries)

    def drop(self) -> None:
        """Let go of the document, once it has been stored: 20 MB for 100,000 files."""
        self._entries = []

    def _check(self) -> None:
        faults: list[dict[str, object]] = []
        checker = Checker()
        for position, raw in enumerate(self._entries):
            try:
                checker.check(_decode_wanted(raw))
            except (msgspec.DecodeError, ValueError) as error:
                faults.append(
                    {"position": position, "entry": bytes(raw)[:200].decode(errors="replace"), "message": str(error)}
                )
        faults += [{"entry": path, "message": "the path is a file and a folder"} for path in checker.clashes()]
        if faults:
            raise BadSelection(
                f"{len(faults)} entries of the selection cannot be used.",
                faults=faults[:MAX_FAULTS],
                faults_total=len(faults),
            )


class Checker:
    """Holds the entries of one selection against each other."""

    def __init__(self) -> None:
        """Know no path yet."""
        self._files: set[str] = set()
        self._folders: set[str] = set()

    def check(self, wanted: Wanted) -> None:
        """Take one entry more; ValueError says what is bad about it."""
        wanted.file_id()
        path = wanted.member()
        _check_digest(wanted)
        if path in self._files:
            raise ValueError("the path is in the selection twice")
        self._files.add(path)
        _add_parents(path, self._folders)

    def clashes(self) -> list[str]:
        """Return the paths that are a file and a folder."""
        return sorted(self._files & self._folders)


def _check_digest(wanted: Wanted) -> None:
    digits = _DIGITS.get(wanted.hashtype.lower())
    if digits is None:
        raise ValueError(f"{wanted.hashtype[:40]!r} is not a hash type that we know")
    digest = wanted.digest()
    if len(digest) != digits or not _HEX.fullmatch(digest):
        raise ValueError(f"a {wanted.hashtype.lower()} digest has {digits} hexadecimal digits")


def _add_parents(path: str, folders: set[str]) -> None:
    """Add every folder above ``path``; stops at the first that is known, whose own parents are then known too."""
    end = path.rfind("/")
    while end > 0 and (folder := path[:end]) not in folders:
        folders.add(folder)
        end = path.rfind("/", 0, end)
