"""What cheroot and uWSGI each need so that a request's body can be trusted: one object a request, from ``of(environ)``.

cheroot: bytes go past its pure-Python buffering into the caller's memory.  uWSGI: a chunked body exists only in
``uwsgi.chunked_read``, and nobody but us answers ``Expect: 100-continue``.
"""

import fcntl
import math
import os
import re
import select
import socket
import termios
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager

from .connection import PIECE, UNIX, BodyTooSlow, Connection, Environ, client, expects_continue, linger, shut
from .errors import BadRequest, ClientAborted

try:
    import uwsgi  # exists only inside a uWSGI worker
except ImportError:
    uwsgi = None


REQUEST = "pacifica.request"  # cheroot's own request object, put there by server.HttpServer
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r\n")
_LINE, _TRAILER_LINES = 4096, 100
_TRANSPORT = "pacifica.transport"
_BUFFERED = 65536  # uWSGI's buffer-size at most
_GATHER_SECONDS = 0.5
# what comes over the uwsgi protocol has these variables of its proxy; raw HTTP of ours would break that protocol
_PROXIED = frozenset({"REMOTE_PORT", "DOCUMENT_ROOT", "REQUEST_SCHEME"})


class Cheroot(Connection):
    """Under ``server.HttpServer``."""

    def __init__(self, environ: Environ) -> None:
        """Take cheroot's request from the environ."""
        super().__init__(environ)
        self.request = environ[REQUEST]
        self.stream = self.request.conn.rfile
        self.left = 0  # bytes of the current chunk that were not read yet

    def begin(self, idle_seconds: float) -> None:
        """Answer 100-continue; allow pauses of ``idle_seconds``."""
        with client():
            self.request.conn.socket.settimeout(idle_seconds)
            if expects_continue(self.environ):
                self.request.conn.wfile.write(_CONTINUE)

    def end(self) -> None:
        """Restore the timeout between requests."""
        with client():
            self.request.conn.socket.settimeout(self.request.server.timeout)

    def readinto(self, view: memoryview) -> int:
        """Read from cheroot's buffer what it holds, else from the socket into ``view``."""
        with client():
            if self.chunked:
                return self._chunked(view)
            count = self._some(view[: self.request.rfile.remaining])
            self.request.rfile.remaining -= count  # cheroot judges by it whether the connection can be kept
            return count

    def peer(self) -> str:
        """Ask the socket's family: cheroot has no address for local sockets."""
        return UNIX if self.request.conn.socket.family == socket.AF_UNIX else super().peer()

    def must_close(self) -> None:
        """Make cheroot say ``Connection: close``, and not read the rest of the body into memory."""
        self.request.close_connection = True

    def linger(self) -> None:
        """Half-close, then read on for a bounded while."""
        linger(self.request.conn.socket)

    def cut(self) -> bool:
        """Shut the socket down before the announced length is reached."""
        self.request.close_connection = True
        shut(self.request.conn.socket)
        return True

    def _some(self, view: memoryview) -> int:
        if self.stream.has_data():
            data = self.stream.read1(min(len(view), PIECE))
            view[: len(data)] = data
            return len(data)
        return self.stream.raw.readinto(view[:PIECE]) or 0

    def _chunked(self, view: memoryview) -> int:
        """RFC 9112 §7.1, five times as fast as cheroot's own reader, which copies each chunk."""
        if self.request.rfile.closed:
            return 0
        if not self.left:
            self.left = self._chunk_size()
            if not self.left:
                self._trailer()
                self.request.rfile.closed = True
                return 0
        count = self._some(view[: self.left])
        if not count:
            raise ClientAborted("The client went away in the middle of a chunk")
        self.left -= count
        if not self.left and self._line() != b"\r\n":
            raise BadRequest("Malformed chunked body: a chunk does not end where it should")
        return count

    def _chunk_size(self) -> int:
        found = _CHUNK_SIZE.fullmatch(self._line())
        if not found:
            raise BadRequest("Malformed chunked body: bad chunk size")
        return int(found[1], 16)

    def _trailer(self) -> None:
        for _ in range(_TRAILER_LINES):
            if self._line() == b"\r\n":
                return
        raise BadRequest("Malformed chunked body: endless trailer")

    def _line(self) -> bytes:
        line: bytes = self.stream.readline(_LINE)
        if not line.endswith(b"\r\n"):
            if len(line) < _LINE and not line.endswith(b"\n"):
                raise ClientAborted("The client went away before the end of its chunked body")
            raise BadRequest("Malformed chunked body: bad line")
        return line


class Uwsgi(Connection):
    """In a uWSGI worker.

    Its reader of chunks takes a malformed size for the end of the body, which nothing here can see; so a chunked
    request is the last one of its connection, and what it brought is checked by digest or end marker elsewhere.
    """

    def __init__(self, environ: Environ) -> None:
        """Nothing is read yet."""
        if _PROXIED & environ.keys() and "UWSGI_ROUTER" not in environ and environ.get("CONTENT_LENGTH"):
            environ.pop("HTTP_TRANSFER_ENCODING", None)  # nginx has read the chunks, but still passes the header on
        super().__init__(environ)
        self.left = memoryview(b"")
        self.idle_seconds = 60.0
        # Of a body that is not much longer than uWSGI's buffers all may lie in them already, where no poll sees it.
        self.low_water = 1
        self.polled = (self.length or 0) > _BUFFERED and environ.get("HTTPS") != "on"

    frames = False

    @property
    def keeps(self) -> bool:
        """Not after chunks."""
        return not self.chunked

    @property
    def ends(self) -> bool:
        """Unless it speaks ``http11-socket``, which alone keeps connections."""
        return self._is_http and "http11-socket" not in uwsgi.opt

    @property
    def takes_chunks(self) -> bool:
        """As HTTP/1.1 clients do that speak to uWSGI directly."""
        return self._is_http and self.environ["SERVER_PROTOCOL"] == "HTTP/1.1"

    @property
    def _is_http(self) -> bool:
        return "UWSGI_ROUTER" not in self.environ and not _PROXIED & self.environ.keys()

    def begin(self, idle_seconds: float) -> None:
        """Answer 100-continue, which uWSGI never does; curl waits a second for it."""
        self.idle_seconds = idle_seconds
        if expects_continue(self.environ) and self._is_http:
            with client():
                os.write(uwsgi.connection_fd(), _CONTINUE)

    def readinto(self, view: memoryview) -> int:
        """Read by uWSGI's own calls: its input object, or its reader of chunks."""
        if not self.chunked:
            return self._plain(view)
        if not self.left:
            self.left = memoryview(self._chunk())
        count = min(len(view), len(self.left))
        view[:count] = self.left[:count]
        self.left = self.left[count:]
        return count

    def peer(self) -> str:
        """Ask the socket, since REMOTE_ADDR is what a proxy said; but behind uWSGI's own router only that is known."""
        if "UWSGI_ROUTER" in self.environ:
            return super().peer()
        with self._socket() as connection:
            return UNIX if connection.family == socket.AF_UNIX else str(connection.getpeername()[0])

    def end(self) -> None:
        """Let whoever waits next on this connection wait for a single byte."""
        if self.low_water != 1:
            self._set_low_water(1)

    def linger(self) -> None:
        """Half-close, then read on for a bounded while."""
        self.end()
        with self._socket() as connection:
            linger(connection)

    def cut(self) -> bool:
        """Shut the socket down: uWSGI would leave the client waiting where it keeps connections alive."""
        with self._socket() as connection:
            shut(connection)
        return True

    def _plain(self, view: memoryview) -> int:
        """Read what is there: uWSGI fills the whole view, waiting ``socket-timeout`` (4 s unless set) for each part."""
        return super().readinto(view[: self._arrived(min(len(view), PIECE))] if self.polled else view)

    def _arrived(self, wanted: int) -> int:
        """Wait until ``wanted`` bytes are there, half a second at most once some are; return how many are."""
        descriptor = uwsgi.connection_fd()
        if wanted != self.low_water:  # spares us waking up for each packet: a third of the time of a large body
            self._set_low_water(wanted)
        poll, deadline = select.poll(), time.monotonic() + self.idle_seconds
        poll.register(descriptor, select.POLLIN)
        while True:
            ready = poll.poll(min(_GATHER_SECONDS, self.idle_seconds) * 1000)
            fcntl.ioctl(descriptor, termios.FIONREAD, arrived := array("i", [0]))
            if ready or arrived[0]:
                return arrived[0] or 1  # none: the client is gone, and uWSGI will say so
            if time.monotonic() >= deadline:
                raise BodyTooSlow()

    def _set_low_water(self, count: int) -> None:
        with self._socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)
        self.low_water = count

    def _chunk(self) -> bytes:
        seconds, begun = max(1, math.ceil(self.idle_seconds)), time.monotonic()
        try:
            return bytes(uwsgi.chunked_read(seconds))
        except OSError as error:
            if time.monotonic() - begun >= seconds:
                raise BodyTooSlow() from error
            with self._socket() as connection:
                gone = not _pending(connection)
            if gone:
                raise ClientAborted("The client went away before the end of its chunked body") from error
            raise BadRequest("Malformed chunked body, or a chunk beyond uWSGI's chunked-input-limit") from error

    @contextmanager
    def _socket(self) -> Iterator[socket.socket]:
        with socket.socket(fileno=os.dup(uwsgi.connection_fd())) as connection:
            yield connection


def of(environ: Environ) -> Connection:
    """Return the request's transport, the same one each time."""
    found = environ.get(_TRANSPORT)
    if found is None:
        kind = Cheroot if REQUEST in environ else Uwsgi if uwsgi is not None else Connection
        found = environ[_TRANSPORT] = kind(environ)
    assert isinstance(found, Connection)
    return found


def _pending(connection: socket.socket) -> bool:
    try:
        return bool(connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except BlockingIOError:
        return True  # still there, only silent
    except OSError:
        return False
