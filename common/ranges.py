"""Answers made of bytes: preconditions, one range, exact length, and names that no header can be broken with.

RFC 9110 §13 (preconditions), §14 (ranges), RFC 6266 and RFC 8187 (Content-Disposition).
"""

import re
import time
import unicodedata
from collections.abc import Callable, Iterator
from email.utils import formatdate, parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import cherrypy

from .errors import PreconditionFailed, RangeNotSatisfiable
from .transport import REQUEST

Produce = Callable[[int, int], Iterator["bytes | memoryview"]]

CONDITIONS = ("IF_MATCH", "IF_NONE_MATCH", "IF_UNMODIFIED_SINCE")  # of a request that changes something

_RANGE = re.compile(r"bytes[ \t]*=[ \t]*(\d{0,18})[ \t]*-[ \t]*(\d{0,18})", re.IGNORECASE | re.ASCII)
_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_ATTRIBUTE_CHARACTERS = "!#$&+-.^_`|~"  # RFC 8187 attr-char beside letters and digits


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return (start, stop) of the one range in a Range header, or None to send everything.

    Several ranges, other units and nonsense are answered with everything, as RFC 9110 §14.2 allows.  Raises
    RangeNotSatisfiable when no byte lies in the range.
    """
    found = _RANGE.fullmatch(header.strip()) if header else None
    if not found or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if not first:
        length = int(last)
        if not length:
            raise _unsatisfiable(size)
        return (max(0, size - length), size) if size else None
    start, stop = int(first), int(last) + 1 if last else size
    if last and stop <= start:
        return None
    if start >= size:
        raise _unsatisfiable(size)
    return start, min(stop, size)


def if_range(etag: str | None, mtime: float | None) -> bool:
    """Tell whether the current request's If-Range, if any, allows a partial answer from this representation.

    A tag must be strong and equal; a date must be Last-Modified to the second, and old enough to be a strong validator.
    """
    header = _header("IF_RANGE")
    if header is None:
        return True
    if '"' in header:
        return etag is not None and header == _quoted(etag)
    return mtime is not None and _seconds(header) == int(mtime) and time.time() - mtime > 1


def respond_range(
    size: int,
    etag: str | None,
    mtime: float | None,
    produce: Produce,
    *,
    content_type: str,
    filename: str | None = None,
) -> Iterator[bytes]:
    """Set status and headers of the current response and return its body.

    ``produce(start, stop)`` yields the bytes [start, stop) in pieces; it runs only for GET, is closed when the client
    goes away, and yielding another number of bytes breaks the connection.  ``etag`` is strong and without quotes.
    Raises PreconditionFailed and RangeNotSatisfiable.
    """
    request, response = cherrypy.serving.request, cherrypy.serving.response
    headers = response.headers
    _preconditions(etag, mtime)
    headers["Accept-Ranges"] = "bytes"
    headers["Cache-Control"] = "private, no-cache"
    if etag is not None:
        headers["ETag"] = _quoted(etag)
    if mtime is not None:
        headers["Last-Modified"] = formatdate(mtime, usegmt=True)
    if _not_modified(etag, mtime):
        response.status = 304
        headers.pop("Content-Type", None)
        return iter(())
    headers["Content-Type"] = content_type
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Content-Security-Policy"] = "sandbox; default-src 'none'"
    headers["Content-Disposition"] = content_disposition(filename) if filename is not None else "attachment"
    part = None
    if request.method == "GET" and if_range(etag, mtime):
        part = parse_range(_header("RANGE"), size)
    start, stop = part or (0, size)
    if part:
        response.status = 206
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    headers["Content-Length"] = str(stop - start)
    if request.method != "GET" or start == stop:
        return iter(())
    return _Exact(produce(start, stop), stop - start, REQUEST in request.wsgi_environ)


def content_disposition(name: str) -> str:
    """Return the value ``attachment`` with ``name`` as plain ASCII and, where that differs, in UTF-8.

    Whatever a name of 255 characters holds, control characters, separators and direction marks become ``_``.
    """
    clean = "".join("_" if _is_harmful(character) else character for character in name[:255])
    if not clean.strip(". "):
        clean = "download"
    plain = "".join(c if c.isascii() and c not in '"%' else "_" for c in clean)
    value = f'attachment; filename="{plain}"'
    if plain != clean:
        value += f"; filename*=UTF-8''{quote(clean, safe=_ATTRIBUTE_CHARACTERS)}"
    return value


def header_text(text: str) -> str:
    """Return ``text`` fit for a header of ours: one line of printable ASCII, anything else as ``?``."""
    return "".join(character if " " <= character <= "~" else "?" for character in text)


class _Exact:
    """Passes on a producer's bytes, and fails where it ends short of its promise or goes beyond it."""

    def __init__(self, pieces: Iterator[bytes | memoryview], size: int, takes_views: bool) -> None:
        self._pieces, self._left, self._takes_views = pieces, size, takes_views

    def __iter__(self) -> "_Exact":
        return self

    def __next__(self) -> Any:
        piece = next(self._pieces, None)
        if piece is None:
            if self._left:
                raise RuntimeError(f"the producer ended {self._left} bytes short")
            raise StopIteration
        self._left -= len(piece)
        if self._left < 0:
            raise RuntimeError("the producer yielded more than it promised")
        # our own server sends views without a copy; PEP 3333 and every other server know only bytes
        return piece if self._takes_views else bytes(piece)

    def close(self) -> None:
        """Close the producer, wherever it stands."""
        close = getattr(self._pieces, "close", None)
        if close is not None:
            close()


def require(etag: str | None, mtime: float | None) -> None:
    """Raise PreconditionFailed unless the conditions of the current request let it change what is there.

    RFC 9110 §13.2.2; ``etag`` None: nothing is there yet.
    """
    absent = etag is None and (_header("IF_MATCH") or "").strip() == "*"
    if absent or (etag is not None and _header("IF_NONE_MATCH") is not None and _not_modified(etag, mtime)):
        raise PreconditionFailed(etag=etag)
    _preconditions(etag, mtime)


def _preconditions(etag: str | None, mtime: float | None) -> None:
    """RFC 9110 §13.2.2, steps 1 and 2."""
    match, unmodified = _header("IF_MATCH"), _header("IF_UNMODIFIED_SINCE")
    if match is not None:
        if match.strip() != "*" and (etag is None or _quoted(etag) not in _TAG.findall(match)):
            raise PreconditionFailed(etag=etag)
    elif unmodified is not None and mtime is not None:
        until = _seconds(unmodified)
        if until is not None and int(mtime) > until:
            raise PreconditionFailed()


def _not_modified(etag: str | None, mtime: float | None) -> bool:
    """RFC 9110 §13.2.2, steps 3 and 4, for GET and HEAD."""
    none_match, since = _header("IF_NONE_MATCH"), _header("IF_MODIFIED_SINCE")
    if none_match is not None:
        tags = [tag.removeprefix("W/") for tag in _TAG.findall(none_match)]
        return none_match.strip() == "*" or (etag is not None and _quoted(etag) in tags)
    known = _seconds(since) if since is not None else None
    return known is not None and mtime is not None and int(mtime) <= known


def _header(name: str) -> str | None:
    value = cherrypy.serving.request.wsgi_environ.get(f"HTTP_{name}")  # CherryPy's own map decodes RFC 2047 words
    return None if value is None else str(value)


def _quoted(etag: str) -> str:
    return etag if etag.startswith('"') else f'"{etag}"'


def _seconds(date: str) -> int | None:
    try:
        return int(parsedate_to_datetime(date).timestamp())
    except (ValueError, TypeError, OverflowError):
        return None


def _is_harmful(character: str) -> bool:
    return character in "/\\" or character in _BIDI or unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}


def _unsatisfiable(size: int) -> RangeNotSatisfiable:
    error = RangeNotSatisfiable(size=size)
    error.headers["Content-Range"] = f"bytes */{size}"
    return error
