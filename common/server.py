"""The built-in web server: cheroot, made strict about headers and patient about answers, one object a port.

CherryPy's engine is not needed and not started; several servers live in one process.
"""

import json
import logging
import re
import signal
import threading
from typing import Any

from cheroot import wsgi
from cheroot.server import HeaderReader, HTTPConnection, HTTPRequest

from . import connection, problem, transport
from .config import Server
from .heads import Heads

LOG = logging.getLogger(__name__)

STOP_SECONDS = 10.0  # what running requests get to finish
_HEADER_BYTES = 64 << 10
_BACKLOG, _KEPT_CONNECTIONS = 1024, 1000
# a field name is a token with nothing before the colon, a value has no control characters (RFC 9112 §5)
_HEADER = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*\r\n")
_LISTS = frozenset(
    b"Accept Accept-Charset Accept-Encoding Accept-Language Cache-Control Connection Content-Digest Content-Encoding "
    b"Content-Language Cookie Forwarded If-Match If-None-Match Link Pragma Prefer Repr-Digest Te Trailer "
    b"Tracestate Upgrade Via Want-Content-Digest Want-Repr-Digest Warning X-Forwarded-For X-Forwarded-Host "
    b"X-Forwarded-Port X-Forwarded-Proto".split()
)


class HttpServer:
    """Serves one WSGI application on one address until ``stop``; ``host`` may be the path of a Unix socket."""

    def __init__(self, app: Any, host: str = "127.0.0.1", port: int = 0, settings: Server | None = None) -> None:
        """Nothing is bound yet; port 0 takes a free one."""
        settings = settings or Server()
        address = host if host.startswith("/") else (host, port)
        self._server = _Cheroot(address, app, numthreads=settings.threads, request_queue_size=_BACKLOG)
        self._server.timeout = settings.socket_timeout
        self._server.shutdown_timeout = STOP_SECONDS
        self._thread = threading.Thread(target=self._serve, name=f"http {host}:{port}", daemon=True)
        self._ready, self._failure = threading.Event(), None  # type: threading.Event, BaseException | None

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end; the real port once started."""
        address = self._server.bind_addr
        if isinstance(address, str):
            return f"http+unix://{address}"
        host, port = address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def start(self) -> None:
        """Bind and serve from a thread of its own; returns once connections are accepted, OSError when it cannot."""
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Take no more connections, let running requests finish for ``seconds``, then cut them off."""
        self._server.shutdown_timeout = seconds
        workers = list(self._server.requests._threads)
        ender = threading.Thread(target=self._server.stop, name="http stop", daemon=True)
        ender.start()
        ender.join(seconds + 1)
        if ender.is_alive():  # cheroot only stops their reading, and would wait for a download for ever
            for held in filter(None, [worker.conn for worker in workers]):
                connection.shut(held.socket)
            ender.join(1)
        self._thread.join(1)

    def _serve(self) -> None:
        # from this daemon thread, so that cheroot's own threads are daemons and a stuck handler cannot keep a process
        try:
            self._server.prepare()
        except BaseException as error:  # noqa: BLE001 - handed over to start()
            self._failure = error
            return
        finally:
            self._ready.set()
        self._server.serve()


def serve_forever(app: Any, host: str, port: int, settings: Server | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then end cleanly; call it from the main thread."""
    ended = threading.Event()
    before = {number: signal.signal(number, lambda *_: ended.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    server = HttpServer(app, host, port, settings)
    try:
        server.start()
        LOG.info("listening on %s", server.url)
        ended.wait()
        LOG.info("stopping")
        server.stop()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _HeaderReader(HeaderReader):
    """Refuses what two readers could understand differently; cheroot's lets the last of two headers win."""

    def __call__(self, rfile: Any, hdict: dict[bytes, bytes] | None = None) -> dict[bytes, bytes]:
        """Read headers into ``hdict``; ValueError becomes 400."""
        headers = {} if hdict is None else hdict
        while (line := rfile.readline()) != b"\r\n":
            found = _HEADER.fullmatch(line)
            if not found:
                raise ValueError("Malformed header line")
            name, value = found[1].title(), found[2]
            if b"_" in name:
                continue  # WSGI cannot tell it from the same name with hyphens, so it could forge the proxy's
            if name in headers:
                if name not in _LISTS:
                    raise ValueError(f"Header given twice: {name.decode()}")
                value = headers[name] + (b"; " if name == b"Cookie" else b", ") + value
            headers[name] = value
        length = headers.get(b"Content-Length")
        if length is not None and (not length.isdigit() or b"Transfer-Encoding" in headers):
            raise ValueError("Malformed Content-Length, or one beside Transfer-Encoding")
        if headers.get(b"Expect", b"").lower() == b"100-continue":
            # cheroot would answer at once, and have the whole body sent only to be refused; Body answers when it
            # reads.  HTTP does not care about the case, cheroot does.
            headers[b"Expect"] = b"100-Continue"
        return headers


class _Request(HTTPRequest):
    header_reader = _HeaderReader()

    def simple_response(self, status: str, msg: str = "") -> None:
        """Answer for the server itself, in the shape of every other error, and end the connection."""
        number = int(str(status)[:3])
        self.close_connection = True
        try:
            self.conn.wfile.write(_refusal(number, msg))
        except OSError:
            return  # nobody listens any more
        if number != 408:
            connection.linger(self.conn.socket)


def _refusal(status: int, message: str = "") -> bytes:
    """Return a whole answer, in the shape of every other error, that ends its connection."""
    error = problem.for_status(status, message or problem.status_line(status))
    body = json.dumps(problem.describe(error, "")).encode()
    head = (
        f"HTTP/1.1 {problem.status_line(status)}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


class _Connection(HTTPConnection):
    RequestHandlerClass = _Request


class _Gateway(wsgi.Gateway_10):
    """Hands the application cheroot's request, and the application's bytes to the socket without a copy."""

    def get_environ(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environ()
        environ[transport.REQUEST] = self.req
        return environ

    def respond(self) -> None:
        response = self.req.server.wsgi_app(self.env, self.start_response)
        try:
            for piece in response:
                if piece:
                    self.write(piece)
        finally:
            try:
                self.req.ensure_headers_sent()
            finally:
                response.close()

    def write(self, piece: bytes | memoryview) -> None:
        self.req.ensure_headers_sent()
        if self.req.chunked_write:
            self.req.write(bytes(piece))
            return
        left = memoryview(piece)
        while left:  # not sendall: the timeout is for each step, a slow reader of a large piece is no fault
            left = left[self.req.conn.socket.send(left) :]


class _Cheroot(wsgi.Server):
    ConnectionClass = _Connection
    max_request_header_size = _HEADER_BYTES
    max_request_body_size = 0  # cheroot's unit is a server, ours a route: Body counts
    keep_alive_conn_limit = _KEPT_CONNECTIONS
    expiration_interval = 0.1  # also how long stop() waits for the accepting thread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.gateway = _Gateway

    def prepare(self) -> None:
        """Bind, and start the threads."""
        super().prepare()
        self._heads = Heads(super().process_conn, self.timeout, _refusal(408, "The head of a request came too slowly."))

    def process_conn(self, conn: Any) -> None:
        """Give a connection to a worker only once it has asked for something: others must not hold threads."""
        if conn.last_used is None:
            self.put_conn(conn)
        else:
            self._heads.put(conn)

    def stop(self) -> None:
        """Hang up on who has not asked yet, too."""
        super().stop()
        self._heads.close()

    def error_log(self, msg: str = "", level: int = logging.INFO, traceback: bool = False) -> None:
        """Send cheroot's own messages to our log."""
        LOG.log(level, "%s", msg, exc_info=traceback)
