"""One request's connection under any WSGI server: its framing, its peer, its end.

``transport`` knows the two servers that need more.  What goes wrong on the client's side comes out as ClientAborted,
BodyTooSlow or BadRequest.
"""

import errno
import re
import socket
import time
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, NoReturn

from .errors import BadRequest, ClientAborted, LengthRequired, ServiceError, TooLarge

Environ = MutableMapping[str, Any]

UNIX = "unix"  # the peer of a local socket
PIECE = 256 << 10  # measured: the best size of one read, 1 MiB is slower
LINGER_BYTES, LINGER_SECONDS, LINGER_IDLE_SECONDS = 64 << 20, 10.0, 2.0
_PROTOCOL = re.compile(r"HTTP/[0-9]\.[0-9]")


class BodyTooSlow(ClientAborted):
    """The body came to a halt, or below the lowest rate that this service waits for."""

    status = 408
    code = "body_too_slow"


class UnknownCoding(BadRequest):
    """The body has a transfer coding that this service does not read (RFC 9112 §6.1)."""

    status = 501
    code = "unknown_coding"


class UnknownVersion(BadRequest):
    """The request is of a version of HTTP that is not spoken here."""

    status = 505
    code = "unknown_http_version"


class Connection:
    """The request's body and connection under a plain WSGI server."""

    def __init__(self, environ: Environ) -> None:
        """Judge the framing headers; ``fault`` is set when the end of the body is open to interpretation."""
        self.environ = environ
        self.fault: ServiceError | None = None
        self.length: int | None = None
        self.chunked = False
        try:
            _require_request_line(environ)
            self.length, self.chunked = framing(environ)
        except ServiceError as fault:
            self.fault = fault

    frames = True  # the server marks the end of an answer of unknown length

    @property
    def ends(self) -> bool:
        """Whether the server closes the connection after each answer, and leaves it to us to say so."""
        return False

    @property
    def takes_chunks(self) -> bool:
        """Whether, where the server does not, we may mark it by chunks."""
        return False

    @property
    def keeps(self) -> bool:
        """Whether the connection may take another request once the body was read."""
        return True

    def begin(self, idle_seconds: float) -> None:
        """Prepare for the first read: tell a client that waits for it to go on."""

    def end(self) -> None:
        """The body was read to its end."""

    def readinto(self, view: memoryview) -> int:
        """Read some bytes of the body; 0 only at the end of a chunked body or when the client is gone."""
        if self.chunked and not self.environ.get("wsgi.input_terminated"):
            raise LengthRequired("This server cannot read chunked bodies")
        with client():
            data = self.environ["wsgi.input"].read(min(len(view), PIECE))
        view[: len(data)] = data
        return len(data)

    def peer(self) -> str:
        """Return the IP address at the other end of the connection, UNIX for a local socket, "" when unknown."""
        address = str(self.environ.get("REMOTE_ADDR", ""))
        return address if address != UNIX else ""

    def must_close(self) -> None:
        """See that the connection takes no further request."""

    def linger(self) -> None:
        """After an answer to a body that was not read: keep the client from seeing a reset before our answer."""

    def cut(self) -> bool:
        """Break the connection in the middle of an answer; False where the server must be told by an exception."""
        return False


def framing(environ: Environ) -> tuple[int | None, bool]:
    """Return (Content-Length, chunked), or raise BadRequest (RFC 9112 §6.3: what two readers may read differently)."""
    coding = environ.get("HTTP_TRANSFER_ENCODING")
    declared = environ.get("CONTENT_LENGTH") or None
    if coding is not None:
        if declared is not None:
            raise BadRequest("Content-Length and Transfer-Encoding exclude each other")
        if coding.strip().lower() != "chunked":
            raise UnknownCoding()
        if environ.get("SERVER_PROTOCOL") == "HTTP/1.0":
            raise BadRequest("HTTP/1.0 has no transfer codings")
        return None, True
    if declared is None:
        return None, False
    if not (declared.isascii() and declared.isdigit()):  # servers join two of them as "5, 5"
        raise BadRequest("Malformed Content-Length")
    if len(declared) > 18:
        raise TooLarge()
    return int(declared), False


def expects_continue(environ: Environ) -> bool:
    """Tell whether the client waits for 100 Continue before it sends its body."""
    expected = environ.get("HTTP_EXPECT", "").lower() == "100-continue"
    return expected and environ.get("SERVER_PROTOCOL") != "HTTP/1.0"


def linger(connection: socket.socket) -> None:
    """Say that we send no more, then read what still comes for a bounded while."""
    shut(connection, socket.SHUT_WR)
    deadline, left, waste = time.monotonic() + LINGER_SECONDS, LINGER_BYTES, bytearray(PIECE)
    try:
        connection.settimeout(LINGER_IDLE_SECONDS)
        while left > 0 and time.monotonic() < deadline:
            count = connection.recv_into(waste)
            if not count:
                return
            left -= count
    except OSError:
        return  # gone or silent: whatever it was to hear, it has heard


def shut(connection: socket.socket, how: int = socket.SHUT_RDWR) -> None:
    """Shut a socket down, which another may have done already."""
    try:
        connection.shutdown(how)
    except OSError as error:
        if error.errno not in (errno.ENOTCONN, errno.EBADF, errno.EINVAL):
            raise


def _require_request_line(environ: Environ) -> None:
    """Refuse what is no request: uWSGI hands over even a TLS handshake, with no method in it."""
    if "REQUEST_METHOD" in environ and _PROTOCOL.fullmatch(environ.get("SERVER_PROTOCOL", "")):
        return
    environ.setdefault("REQUEST_METHOD", "GET")
    environ["SERVER_PROTOCOL"] = "HTTP/1.0"
    raise BadRequest("Malformed request line")


@contextmanager
def client() -> Iterator[None]:
    """Name what goes wrong on the client's side of a connection."""
    try:
        yield
    except TimeoutError as error:
        raise BodyTooSlow() from error
    except OSError as error:
        _blame(error)


def _blame(error: OSError) -> NoReturn:
    if error.errno == errno.ETIMEDOUT or "timeout" in str(error).lower():  # uWSGI has no class for it
        raise BodyTooSlow() from error
    raise ClientAborted() from error
