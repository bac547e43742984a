"""A remote archive behind Pacifica's archive interface: what a file is, fetching it from tape, its bytes both ways.

Contract: ``/<id>`` of pacifica-archiveinterface 0.4.2, in its spelling; a Range is asked for where a transfer is taken
up again, and does no harm to an archive that knows none.  Nothing that it says of itself is believed: what was put is
read back and hashed.
"""

import re
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from urllib3.exceptions import HTTPError

from . import deadline
from .config import Neighbours
from .errors import (
    ArchiveUnavailable,
    BadConfiguration,
    ChecksumMismatch,
    Damaged,
    Gone,
    NotFound,
    RangeNotSatisfiable,
    ServiceError,
)
from .interface import Held, Incoming
from .neighbour import Answer, Neighbour
from .pack import hasher
from .volume import BLOCK

MEMORY = 8 << 20  # a body of unknown length is kept in memory up to here, then in a temporary file
_PART = re.compile(r"bytes (\d{1,18})-\d{1,18}/(?:\d{1,18}|\*)")


class ArchiveRefused(ServiceError):
    """The archive does not let this service have or keep the file."""

    status = 502
    code = "archive_refused"


class RemoteArchive:
    """The archive at ``url``; for many threads at once.  The contract is ``interface.Archive``.

    Every method raises NotFound or Gone for a file that is not there, ArchiveUnavailable for what may pass (also 500:
    the original says no more of a file that it does not have), and ArchiveRefused for any other answer.
    """

    def __init__(self, url: str, settings: Neighbours, *, connections: int = 8) -> None:
        """Ask ``url`` (http or https; a slash at its end does not matter), as patiently as ``settings`` have it."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadConfiguration(
                "the url of a remote archive is http://HOST:PORT", section="archiveinterface", key="url"
            )
        self.neighbour = Neighbour(
            "The archive", url, settings, is_final=_is_unknown, away=ArchiveUnavailable, connections=connections
        )

    def put(self, id: int, incoming: Incoming) -> Held:
        """Send the bytes, hashed on their way, read them back, and return what the archive then holds.

        ChecksumMismatch when the bytes are not what is declared, ArchiveUnavailable when what was stored is not what
        was sent; either way the file is deleted again, as far as the archive lets us.  Bytes are sent once: a caller
        that can deliver them again tries again.
        """
        if incoming.length is None:
            return self._put_counted(id, incoming)
        source = _Sent(incoming.fill, incoming.length, incoming.hashtype)
        try:
            self._send(id, source, incoming)
            found = source.digest.hexdigest()
            if incoming.hashsum is not None and found != incoming.hashsum.lower():
                raise ChecksumMismatch(id=id, hashtype=incoming.hashtype, found=found)
            if source.failure is not None:
                raise source.failure
            self._read_back(id, incoming.length, incoming.hashtype, found)
        except Exception as error:
            self._take_back(id)
            if source.failure is not None:
                raise source.failure from error
            raise
        return Held(incoming.length, incoming.mtime, True, incoming.hashtype, found)

    def open(self, id: int, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Return the bytes ``start`` to ``stop``; Damaged where the archive sends fewer or more of them.

        Their digest is the reader's to compare: the archive holds none.
        """
        size = self.stat(id).size
        stop = size if stop is None else stop
        if not 0 <= start <= stop <= size:
            raise RangeNotSatisfiable(size=size)
        return self._read(id, start, stop, size)

    def body(self, id: int, start: int = 0) -> "RemoteBody":
        """Return the bytes of file ``id`` from ``start`` on, or from its beginning: see ``RemoteBody.start``."""
        headers = {"Range": f"bytes={start}-"} if start else None
        answer = self._ask("GET", id, headers=headers, stream=True)
        if answer.status != 206:
            return RemoteBody(answer, id, 0, self.neighbour.allowed)
        part = _PART.fullmatch(answer.headers.get("Content-Range", ""))
        if part is None or int(part[1]) != start:
            answer.close()
            raise ArchiveUnavailable("The archive sent another part of a file than it was asked for.", file_id=id)
        return RemoteBody(answer, id, start, self.neighbour.allowed)

    def stat(self, id: int) -> Held:
        """Ask what is known of file ``id``."""
        headers = self._ask("HEAD", id).headers
        length = headers.get("X-Content-Length") or headers.get("Content-Length") or ""
        if not (length.isascii() and length.isdecimal()):
            raise ArchiveUnavailable("The archive does not say how large a file is.", file_id=id)
        media = headers.get("X-Pacifica-File-Storage-Media", "disk")
        return Held(int(length), _moment(headers.get("Last-Modified", "")), media.strip().lower() == "disk")

    def stage(self, id: int) -> None:
        """Ask for file ``id`` to be brought to disk; ``stat`` says when it is there."""
        self._ask("POST", id)

    def delete(self, id: int, who: str, reason: str = "") -> None:
        """Take a file away; NotFound when it is not there."""
        self._ask("DELETE", id)

    def discard(self, id: int, seconds: float) -> None:
        """See to it, in one try of ``seconds``, that the file is not there; an error when that cannot be known."""
        answer = self.neighbour.once("DELETE", f"/{id}", within=seconds)
        _require(answer, id, known=(404, 410, 500))

    def _ask(self, method: str, id: int, **options: Any) -> Answer:
        return _require(self.neighbour.ask(method, f"/{id}", **options), id)

    def _send(self, id: int, source: "_Sent", incoming: Incoming) -> None:
        headers = {
            "Last-Modified": time.ctime(incoming.mtime),  # as Pacifica's ingest writes it
            "Content-Type": "application/octet-stream",
            "Content-Length": str(incoming.length),
        }
        answer = _require(self.neighbour.once("PUT", f"/{id}", body=lambda: source, headers=headers), id)
        if answer.status != 201 or _said(answer, "total_bytes") != incoming.length:
            raise ArchiveUnavailable(f"The archive did not take file {id} ({answer.status}).", file_id=id)

    def _put_counted(self, id: int, incoming: Incoming) -> Held:
        """Put a body whose length has to be counted first: the archive interface wants it announced."""
        with tempfile.SpooledTemporaryFile(MEMORY) as file:
            view = memoryview(bytearray(BLOCK))
            while count := incoming.fill(view):
                file.write(view[:count])
            length = file.tell()
            file.seek(0)
            return self.put(id, replace(incoming, fill=file.readinto, length=length))

    def _read(self, id: int, start: int, stop: int, size: int) -> Iterator[bytes]:
        if start == stop:
            return
        view = memoryview(bytearray(BLOCK))
        with self.body(id, start) as body:
            at = body.start
            while at < stop:
                count = body.readinto(view if stop == size else view[: stop - at])
                if not count or at + count > size:
                    raise Damaged(f"The archive sends another number of bytes of file {id}.", file_id=id)
                yield bytes(view[max(0, start - at) : count])
                at += count
            if stop == size and body.readinto(view[:1]):
                raise Damaged(f"The archive sends another number of bytes of file {id}.", file_id=id)

    def _read_back(self, id: int, size: int, hashtype: str, hashsum: str) -> None:
        digest = hasher(hashtype)()
        try:
            for piece in self._read(id, 0, size, size):
                digest.update(piece)
        except (Damaged, NotFound, Gone) as error:
            raise ArchiveUnavailable(f"The archive did not keep file {id} as it was sent.", file_id=id) from error
        if digest.hexdigest() != hashsum:
            raise ArchiveUnavailable(f"The archive did not keep file {id} as it was sent.", file_id=id)

    def _take_back(self, id: int) -> None:
        try:
            self.neighbour.once("DELETE", f"/{id}")
        except ArchiveUnavailable:
            return  # whoever keeps account of what was put deletes it later


class RemoteBody:
    """The bytes of one answer; a context manager that gives the connection back, or breaks it off."""

    def __init__(self, answer: Answer, id: int, start: int, allowed: Callable[[int], float]) -> None:
        """Wait for ``count`` bytes at most ``allowed(count)`` seconds in all; the reader's own time is not counted."""
        self.start = start  # of its first byte in the file
        self._answer, self._id, self._allowed = answer, id, allowed
        self._waited, self._came = 0.0, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def readinto(self, view: memoryview) -> int:
        """Read into ``view`` and return how many bytes, 0 at the end; ArchiveUnavailable when they stop coming."""
        left, begun = self._allowed(self._came + len(view)) - self._waited, time.monotonic()
        try:
            with deadline.within(left, self._answer.connection) as exchange:
                piece = self._answer.read(len(view), decode_content=False)
        except (HTTPError, OSError) as error:
            why = "TooSlow" if exchange.expired else type(error).__name__
            raise ArchiveUnavailable(f"The archive broke off ({why}).", file_id=self._id) from error
        if exchange.expired:
            raise ArchiveUnavailable("The archive broke off (TooSlow).", file_id=self._id)
        self._waited, self._came = self._waited + time.monotonic() - begun, self._came + len(piece)
        view[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        """Give the connection back where the body was read to its end, else close it."""
        if self._answer.closed or getattr(self._answer, "length_remaining", None) == 0:
            self._answer.release_conn()
        else:
            self._answer.close()


class _Sent:
    """A body of known length that is hashed while it is read to be sent."""

    def __init__(self, fill: Callable[[memoryview], int], length: int, hashtype: str) -> None:
        self.digest = hasher(hashtype)()
        self.failure: Exception | None = None
        self._fill, self._left = fill, length

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, none at the end."""
        want = min(self._left, BLOCK if size < 0 else size)
        piece = bytearray(want)
        try:
            count = self._fill(memoryview(piece)) if want else 0
        except Exception as error:
            self.failure = error
            raise
        self._left -= count
        data = bytes(piece[:count])
        self.digest.update(data)
        return data


def _require(answer: Answer, id: int, known: tuple[int, ...] = ()) -> Answer:
    """Return ``answer`` when it is a good one, or one of those ``known``; else raise what it says of file ``id``.

    A 500 gets here only where it means that there is no such file.
    """
    status = answer.status
    if 200 <= status < 300 or status in known:
        return answer
    answer.close()
    if status in (404, 500):
        raise NotFound(f"File {id} is not in the archive.", file_id=id)
    if status == 410:
        raise Gone(f"File {id} was deleted from the archive.", file_id=id)
    if status > 500 or status in (408, 425):
        raise ArchiveUnavailable(f"The archive answers {status}.", file_id=id)
    raise ArchiveRefused(f"The archive answers {status}.", file_id=id)


def _is_unknown(answer: Answer) -> bool:
    """Tell whether a 500 is what the original says of an id that it does not have: asking again helps nobody."""
    return answer.status == 500 and "Can't open" in str(_said(answer, "message"))


def _said(answer: Answer, key: str) -> Any:
    try:
        return answer.json().get(key)
    except (ValueError, AttributeError):
        return None


def _moment(text: str) -> float:
    """Read a Last-Modified as the original writes it, a plain number, or as HTTP has it."""
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return 0.0
