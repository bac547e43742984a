"""Request bodies as streams: bounded, never whole in memory, and never taken for complete when they are not.

A handler asks for ``Body.of_request`` and reads; whatever it leaves unread is dealt with after the answer
(``rest`` calls ``settle`` and ``linger``), so that a client sees our answer and not a reset connection.
"""

import time
from contextlib import suppress
from io import BytesIO
from typing import Any, Protocol

import cherrypy

from .connection import PIECE, BodyTooSlow, Connection, Environ, expects_continue
from .documents import MAX_DEPTH, loads
from .errors import ClientAborted, LengthRequired, ServiceError, TooLarge, UnsupportedType
from .transport import of

_BODY = "pacifica.body"
_SMALL = 64 << 10  # an unread rest up to here is cheaper to read than a new connection
_RATE_SECONDS = 10.0  # the lowest rate is judged over so many seconds of waiting
JSON_TYPES = ("application/json", "text/javascript")  # what CherryPy's json_in takes


class Patience(Protocol):
    """How long a body is waited for: section [server] of the configuration."""

    @property
    def body_timeout(self) -> float: ...

    @property
    def min_body_rate(self) -> int: ...


class Body:
    """The body of one request, read once from start to end.

    ``length`` is the Content-Length, None for a chunked body; ``received`` counts what was read.  After an error every
    further read raises the same error.  Read it from the thread that answers the request: uWSGI knows no other.
    """

    def __init__(self, transport: Connection, max_bytes: int | None, patience: Patience | None) -> None:
        """Read from ``transport``; TooLarge when the announced length exceeds ``max_bytes`` (None: no limit)."""
        self.length = transport.length
        self.received = 0
        self.finished = not transport.chunked and not transport.length
        self._transport, self._max_bytes, self._patience = transport, max_bytes, patience
        self._begun = False
        self._error: ServiceError | None = None
        self._waited, self._came = 0.0, 0
        if max_bytes is not None and (self.length or 0) > max_bytes:
            raise TooLarge(max_bytes=max_bytes, content_length=self.length)

    @classmethod
    def of_request(cls, max_bytes: int | None, patience: Patience) -> "Body":
        """Return the current request's body, nothing of it read yet; ask once a request.

        Raises LengthRequired when the client announced neither a length nor chunks, TooLarge before a byte is read.
        """
        environ = cherrypy.serving.request.wsgi_environ
        transport = of(environ)
        if transport.fault is not None:
            raise transport.fault
        if transport.length is None and not transport.chunked:
            raise LengthRequired()
        body = environ[_BODY] = cls(transport, max_bytes, patience)
        return body

    def readinto(self, view: memoryview) -> int:
        """Read at most 256 KiB into ``view``; return their number, 0 at the end of a complete body.

        Raises ClientAborted (BodyTooSlow) when the rest does not come, TooLarge beyond the limit, BadRequest on
        malformed chunks.
        """
        if self._error is not None:
            raise self._error
        if self.finished or not view:
            return 0
        try:
            return self._read(view)
        except ServiceError as error:
            self._error = error
            raise

    def read_all(self, limit: int) -> bytes:
        """Return the whole body, or raise TooLarge when it is longer than ``limit`` bytes."""
        if (self.length or 0) > limit:
            raise TooLarge(max_bytes=limit, content_length=self.length)
        data = BytesIO()  # whose value is no copy
        piece = memoryview(bytearray(min(PIECE, (self.length or limit) + 1)))
        while count := self.readinto(piece):
            data.write(piece[:count])
            if data.tell() > limit:
                raise TooLarge(max_bytes=limit)
        return data.getvalue()

    def drain(self, limit: int) -> None:
        """Read and drop the rest, at most about ``limit`` bytes of it."""
        waste = memoryview(bytearray(PIECE))
        while limit > 0 and (count := self.readinto(waste)):
            limit -= count

    def _read(self, view: memoryview) -> int:
        if not self._begun:
            self._begun = True
            self._transport.begin(self._patience.body_timeout if self._patience else _RATE_SECONDS)
        if self.length is not None:
            view = view[: self.length - self.received]
        started = time.monotonic()
        count = self._transport.readinto(view)
        self._judge(count, time.monotonic() - started)
        self.received += count
        if self._max_bytes is not None and self.received > self._max_bytes:
            raise TooLarge(max_bytes=self._max_bytes)
        if not count and self.length is not None:
            raise ClientAborted(received=self.received, content_length=self.length)
        if not count or self.received == self.length:
            self.finished = True
            self._transport.end()
        return count

    def _judge(self, count: int, seconds: float) -> None:
        """Hold the client, and only the time that we waited for it, to the lowest rate."""
        self._waited += seconds
        self._came += count
        if self._waited >= _RATE_SECONDS:
            if self._patience and self._came < self._patience.min_body_rate * self._waited:
                raise BodyTooSlow(received=self.received + count)
            self._waited, self._came = 0.0, 0


def json_body(
    max_bytes: int, patience: Patience, max_depth: int = MAX_DEPTH, types: tuple[str, ...] | None = None
) -> Any:
    """Return the current request's JSON document.

    Raises TooLarge beyond ``max_bytes``, BadJson with reason and place (``documents.loads``), and UnsupportedType for
    a content type not in ``types`` (None: any, as curl's default is a form's).
    """
    if types is not None:
        require_type(types)
    return loads(Body.of_request(max_bytes, patience).read_all(max_bytes), max_depth)


def require_type(types: tuple[str, ...]) -> None:
    """Raise UnsupportedType unless the current request's content type is one of ``types``."""
    given = cherrypy.serving.request.wsgi_environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
    if given not in types:
        raise UnsupportedType(f"Expected an entity of content type {', '.join(types)}")


def settle(environ: Environ) -> bool:
    """Before an answer is sent: read a small unread rest of the body; True when the connection must be closed."""
    transport = of(environ)
    if transport.fault is None:
        body = environ.get(_BODY) or Body(transport, None, None)
        with suppress(ServiceError):  # the client is gone or lies: closing is all that is left to do
            if not body.finished and _is_small(body, environ):
                body.drain(_SMALL)
        if body.finished and transport.keeps:
            return False
    transport.must_close()
    return True


def _is_small(body: Body, environ: Environ) -> bool:
    if body.length is None or body.length - body.received > _SMALL:
        return False
    return body.received > 0 or not expects_continue(environ)  # it may never send what we did not ask for
