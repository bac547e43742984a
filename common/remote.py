"""A remote archive, read through Pacifica's archive interface: what a file is, fetching it from tape, its bytes.

Contract: ``HEAD``, ``POST`` and ``GET /<id>`` of pacifica-archiveinterface 0.4.2, in its spelling.  A Range is asked
for where a transfer is taken up again, and does no harm to an archive that knows none.
"""

import re
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import unquote, urlsplit, urlunsplit

import urllib3
from urllib3.exceptions import HTTPError

from .errors import ArchiveUnavailable, BadConfiguration, Gone, NotFound, ServiceError

CONNECT_SECONDS = 10.0
_PART = re.compile(r"bytes (\d{1,18})-\d{1,18}/(?:\d{1,18}|\*)")


class ArchiveRefused(ServiceError):
    """The archive does not let this service have the file."""

    status = 502
    code = "archive_refused"


class Held(NamedTuple):
    """What a remote archive says of a file."""

    size: int
    mtime: float  # seconds since 1970; 0 where it does not say
    on_disk: bool  # else it has to be staged first


class RemoteArchive:
    """The archive at ``url``; for many threads at once, up to ``connections`` of them without waiting.

    Every method raises NotFound or Gone for a file that is not there, ArchiveUnavailable for what may pass (also 500:
    the original says no more of a file that it does not have), and ArchiveRefused for any other answer.
    """

    def __init__(self, url: str, *, timeout: float = 60.0, connections: int = 8) -> None:
        """Read from ``url`` (http or https; a slash at its end does not matter); ``timeout`` is of its silence."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadConfiguration(
                "the url of a remote archive is http://HOST:PORT", section="archiveinterface", key="url"
            )
        host = parts.netloc.rpartition("@")[2]
        self._base = urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
        known = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else None
        self._pool = urllib3.PoolManager(
            num_pools=1,
            maxsize=connections,
            headers=urllib3.make_headers(basic_auth=known, accept_encoding="identity"),
            timeout=urllib3.Timeout(connect=min(CONNECT_SECONDS, timeout), read=timeout),
            retries=False,
        )

    def stat(self, id: int) -> Held:
        """Ask what is known of file ``id``."""
        answer = self._ask("HEAD", id)
        headers = answer.headers
        length = headers.get("X-Content-Length") or headers.get("Content-Length") or ""
        if not (length.isascii() and length.isdecimal()):
            raise ArchiveUnavailable("The archive does not say how large a file is.", file_id=id)
        media = headers.get("X-Pacifica-File-Storage-Media", "disk")
        return Held(int(length), _moment(headers.get("Last-Modified", "")), media.strip().lower() == "disk")

    def stage(self, id: int) -> None:
        """Ask for file ``id`` to be brought to disk; ``stat`` says when it is there."""
        self._ask("POST", id)

    def open(self, id: int, start: int = 0) -> "RemoteBody":
        """Return the bytes of file ``id`` from ``start`` on, or from its beginning: see ``RemoteBody.start``."""
        headers = {**self._pool.headers, "Range": f"bytes={start}-"} if start else None
        answer = self._ask("GET", id, headers)
        if answer.status != 206:
            return RemoteBody(answer, id, 0)
        part = _PART.fullmatch(answer.headers.get("Content-Range", ""))
        if part is None or int(part[1]) != start:
            answer.close()
            raise ArchiveUnavailable("The archive sent another part of a file than it was asked for.", file_id=id)
        return RemoteBody(answer, id, start)

    def _ask(self, method: str, id: int, headers: dict[str, str] | None = None) -> urllib3.BaseHTTPResponse:
        try:
            answer = self._pool.request(method, f"{self._base}/{id}", headers=headers, preload_content=method != "GET")
        except HTTPError as error:
            raise ArchiveUnavailable(f"The archive does not answer ({type(error).__name__}).", file_id=id) from error
        if 200 <= answer.status < 300:
            return answer
        answer.close()
        raise _refusal(answer.status, id)


class RemoteBody:
    """The bytes of one answer; a context manager that gives the connection back, or breaks it off."""

    def __init__(self, answer: urllib3.BaseHTTPResponse, id: int, start: int) -> None:
        self.start = start  # of its first byte in the file
        self._answer, self._id = answer, id

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def readinto(self, view: memoryview) -> int:
        """Read into ``view`` and return how many bytes, 0 at the end; ArchiveUnavailable when they stop coming."""
        try:
            piece = self._answer.read(len(view), decode_content=False)
        except (HTTPError, OSError) as error:
            raise ArchiveUnavailable(f"The archive broke off ({type(error).__name__}).", file_id=self._id) from error
        view[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        """Give the connection back where the body was read to its end, else close it."""
        if self._answer.closed or getattr(self._answer, "length_remaining", None) == 0:
            self._answer.release_conn()
        else:
            self._answer.close()


def _refusal(status: int, id: int) -> ServiceError:
    if status == 404:
        return NotFound(f"File {id} is not in the archive.", file_id=id)
    if status == 410:
        return Gone(f"File {id} was deleted from the archive.", file_id=id)
    if status >= 500 or status in (408, 425, 429):
        return ArchiveUnavailable(f"The archive answers {status}.", file_id=id)
    return ArchiveRefused(f"The archive answers {status}.", file_id=id)


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
