"""The bundle reader: a strict tar scanner that is fed blocks as they arrive and hashes each member on the way.

One pass, any block boundaries, no seeking, nothing allocated on a header's word.  What it does not know it refuses
(docs/formats.md#bundle); proven against ``tarfile``, GNU tar and bsdtar by tests/ingest/test_bundle.py.
"""

import hashlib
from collections.abc import Callable
from typing import Any, NoReturn

from . import fault
from .account import shown
from .extension import FLAGS, Extension
from .fault import BundleError
from .header import BLOCK, ZEROS, Headers, refuse
from .index import Index, Span
from .limits import Limits
from .name import METADATA
from .roll import END_BYTES, Roll

__all__ = ["BundleError", "Limits", "Scanner"]

_REGULAR = 0x30  # the type flag '0'
_REFUSED = {b"1": fault.Link, b"2": fault.Link, b"K": fault.Link, b"3": fault.Device, b"4": fault.Device}
_REFUSED |= {b"6": fault.Fifo, b"7": fault.Contiguous, b"S": fault.Sparse}


class Scanner:
    """Reads one bundle: ``feed`` it every byte in order, then ``close`` it for the index.

    Raises a BundleError at the first byte that breaks a rule (names are compared with each other at the end only);
    it then refuses everything else.  ``length`` is the body's size where that is known.
    """

    def __init__(self, limits: Limits | None = None, hashtype: str = "sha1", *, length: int | None = None) -> None:
        """Start before the first byte; members are hashed by ``hashtype``, a fixed-length name of hashlib."""
        self.limits = limits or Limits()
        self.index = Index(hashtype)
        self._new_hash: Callable[..., Any] = getattr(hashlib, hashtype)
        self._length = length
        self._roll = Roll(self.limits, self.index, length)
        self._note = self._roll.file
        self._state: Callable[[memoryview, int], int] = self._headers
        self._base = 0  # offset in the bundle of the first byte of the view in hand
        self._refusal: BundleError | None = None
        self._header = Headers().read
        self._part = bytearray()  # of a header or extended header that is not complete yet
        self._extension = Extension(self.limits)
        self._read: Callable[[bytes, int], None]  # an extended header, once it is gathered
        self._left = 0  # bytes of the member in hand, or of padding, still to come
        self._padding = 0  # bytes that follow those of the member
        self._hash: Any = None
        self._done: Callable[[], None] = self._file_done
        self._ended = 0  # bytes of the end-of-archive marker and of zeros after it
        self._kept: bytearray | None = None

    def feed(self, view: memoryview | bytes) -> None:
        """Take the next bytes; ``view`` is not kept."""
        if self._refusal is not None:
            raise self._refusal
        view = memoryview(view)
        at, end = 0, len(view)
        try:
            while at < end:
                at = self._state(view, at)
        except BundleError as error:
            self._refusal = error
            raise
        self._base += end

    def close(self) -> Index:
        """Return the index once every byte was fed; BundleError unless the tar is whole and every rule is kept."""
        try:
            self._complete()
        except BundleError as error:
            self._refusal = error
            raise
        return self.index

    # ---- states: each takes bytes of the view from ``at`` on and returns where it stopped ----------------------------

    def _headers(self, view: memoryview, at: int) -> int:
        """Read headers, and whole members as long as they lie in this view."""
        index, new_hash, extension, end = self.index, self._new_hash, self._extension, len(view)
        while end - at >= BLOCK:
            header = bytes(view[at : at + BLOCK])
            offset = self._base + at
            at += BLOCK
            if header[156] == _REGULAR and extension.start is None and header[0]:
                raw, size, mtime = self._header(header, offset)
                path = self._note(raw, size, mtime, offset, offset + BLOCK)
            elif (found := self._other(header, offset)) is not None:
                size, path = found
            elif self._state == self._headers:
                continue
            elif self._state == self._collect and at + self._left + self._padding <= end:  # at once, as it lies here
                at = self._skip(view, self._collect(view, at)) if self._padding else self._collect(view, at)
                continue
            else:
                return at
            stop = at + size
            if path == METADATA or stop > end:
                self._open(path, size, offset + BLOCK)
                return at
            index.digests += new_hash(view[at:stop]).digest()
            at = stop + (-size % BLOCK)
            if at > end:
                self._left, self._state = at - end, self._skip
                return end
        if at < end:
            self._part += view[at:end]
            self._state = self._join
        return end

    def _join(self, view: memoryview, at: int) -> int:
        """Complete a header that began in an earlier view, and read it as a view of its own."""
        stop = min(at + BLOCK - len(self._part), len(view))
        self._part += view[at:stop]
        if len(self._part) == BLOCK:
            header, self._part = bytes(self._part), bytearray()
            self._state = self._headers
            base = self._base
            self._base = base + stop - BLOCK
            self._headers(memoryview(header), 0)
            self._base = base
        return stop

    def _bytes(self, view: memoryview, at: int) -> int:
        """Hash the bytes of a member that does not lie in one view."""
        piece = view[at : at + self._left]
        self._hash.update(piece)
        if self._kept is not None:
            self._kept += piece
        return self._took(len(piece), at)

    def _collect(self, view: memoryview, at: int) -> int:
        """Gather an extended header."""
        piece = view[at : at + self._left]
        self._part += piece
        return self._took(len(piece), at)

    def _skip(self, view: memoryview, at: int) -> int:
        """Pass by padding."""
        step = min(self._left, len(view) - at)
        self._left -= step
        if not self._left:
            self._state = self._headers
        return at + step

    def _ending(self, view: memoryview, at: int) -> int:
        """Pass by zeros: the second block of the end-of-archive marker and what fills up the record after it."""
        zeros = len(view) - at
        rest = bytes(view[at:]).lstrip(b"\0")
        if rest:
            offset = self._base + len(view) - len(rest)
            whole = self._ended + zeros - len(rest) >= END_BYTES
            raise fault.TrailingBytes(offset=offset) if whole else fault.LoneZeroBlock(offset=offset)
        self._ended += zeros
        return len(view)

    def _took(self, count: int, at: int) -> int:
        self._left -= count
        if not self._left:
            self._left, self._state = self._padding, self._skip if self._padding else self._headers
            self._done()
        return at + count

    # ---- headers ---------------------------------------------------------------------------------------------------

    def _other(self, header: bytes, offset: int) -> tuple[int, str] | None:
        """Read any other header; return size and path of a file, None (and the state set) for what is none."""
        if header == ZEROS:
            self._extension.require_none(offset)
            self._ended, self._state = BLOCK, self._ending
            return None
        raw, size, mtime = self._header(header, offset)
        flag = header[156:157]
        if flag in FLAGS:
            self._read = self._extension.begin(flag, raw, size, offset, self._roll.bound)
            self._await(size, self._collect, self._gathered)
            return None
        raw, size, mtime, start = self._extension.applied(raw, size, mtime, offset)
        if flag == b"5" or (flag == b"\0" and raw.endswith(b"/")):  # the latter is how v7 writes a folder
            self._roll.folder(raw, size, start)
            return None
        if flag not in (b"0", b"\0"):
            raise _REFUSED.get(flag, fault.UnknownType)(file=shown(raw), offset=start, type=shown(flag))
        return size, self._note(raw, size, mtime, start, offset + BLOCK)

    def _open(self, path: str, size: int, data: int) -> None:
        """Expect the bytes of a file that was noted."""
        self._hash = self._new_hash()
        if path == METADATA:
            self._kept = bytearray() if size <= self.limits.keep_metadata_bytes else None
            self._await(size, self._bytes, self._metadata_done)
        else:
            self._await(size, self._bytes, self._file_done)

    def _await(self, size: int, state: Callable[[memoryview, int], int], done: Callable[[], None]) -> None:
        self._left, self._padding, self._state, self._done = size, -size % BLOCK, state, done
        if not size:
            self._state = self._headers
            done()

    # ---- what is complete ------------------------------------------------------------------------------------------

    def _file_done(self) -> None:
        self.index.digests += self._hash.digest()

    def _metadata_done(self) -> None:
        offset, size = self._roll.metadata or (0, 0)
        self.index.metadata = Span(offset, size, self._hash.digest())
        self.index.metadata_bytes, self._kept = self._kept, None

    def _gathered(self) -> None:
        data, self._part = bytes(self._part), bytearray()
        self._read(data, self._base)

    def _complete(self) -> None:
        if self._refusal is not None:
            raise self._refusal
        if self._ended < END_BYTES:
            self._short()
        self.index.total = self._base
        if self._length is not None and self._base != self._length:
            raise fault.Truncated("The body is not as long as it was announced.", size=self._base, body=self._length)
        self._roll.close()

    def _short(self) -> NoReturn:
        """Say what is missing at the end."""
        if not self._base:
            raise fault.EmptyBody
        if self._base < BLOCK and self._part[257:262] != b"ustar":
            refuse(bytes(self._part), 0)
        if self._ended or (self._state == self._headers and self._extension.start is None):
            raise fault.NoEndMarker(offset=self._base)
        raise fault.Truncated(offset=self._base)
