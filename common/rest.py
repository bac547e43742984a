"""From a tree of resources to a WSGI application: dispatch, access, JSON in and out, errors, traces.

A resource is an object with ``exposed = True`` and methods named GET, POST, ...; its children are its attributes, path
parts that are left over become positional arguments, the query becomes keyword arguments.  A handler returns something
that JSON can write, or bytes, or an iterator of bytes (streamed).  Several applications live in one process: nothing
here needs CherryPy's engine or its global tree.
"""

import json
import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import cherrypy
from cherrypy._cprequest import Request
from cherrypy._cpwsgi import AppResponse

from . import connection, problem, streams, trace, transport
from .auth import Principal, check
from .config import Auth
from .dispatch import Dispatcher, walk
from .errors import BadRequest
from .health import Check, Healthz, Readyz

__all__ = ["Resource", "application", "principal", "walk"]

LOG = logging.getLogger(__name__)

_SECURITY = {
    "Server": "Pacifica",
    "Content-Type": "application/json",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


class Settings(Protocol):
    """What every service's settings hold for this room."""

    @property
    def auth(self) -> Auth: ...


class Resource:
    """Something with a URL; a base for those that need nothing else."""

    exposed = True


def application(root: Any, settings: Settings, *, service: str, checks: Sequence[Check] = ()) -> cherrypy.Application:
    """Return the WSGI application of the tree ``root``, with /healthz and /readyz (which runs ``checks``) in it."""
    check(settings.auth)
    cherrypy.config.update({"environment": "production", "log.screen": False})
    root.healthz, root.readyz = Healthz(), Readyz(checks)
    config = {"/": {"request.dispatch": Dispatcher(settings.auth), "request.process_request_body": False}}
    app = _Application(root, "", config)
    app.service = service
    app.wsgiapp.pipeline = []  # CherryPy's trap answers in text/plain, and its redirector copies each environ
    app.wsgiapp.response_class = _Answer
    app.log.access = lambda: None  # formatting a line for nobody costs 30 us
    return app


def principal() -> Principal:
    """Return who sends the current request; a public route must not ask."""
    found = getattr(cherrypy.serving.request, "principal", None)
    assert isinstance(found, Principal)
    return found


class _Application(cherrypy.Application):
    """An application without the engine: nothing subscribes to what CherryPy publishes twice a request."""

    service = ""

    def get_serving(self, local: Any, remote: Any, scheme: str, protocol: str) -> tuple[Any, Any]:
        """Make the request and the response of this thread."""
        request, response = _Request(local, remote, scheme, protocol), self.response_class()
        request.app = self
        dict.update(response.headers, _SECURITY)
        cherrypy.serving.load(request, response)
        return request, response

    def release_serving(self) -> None:
        """Forget them."""
        cherrypy.serving.request.close()
        cherrypy.serving.clear()
        trace.end()


class _Request(Request):
    """One request: whatever is raised becomes one JSON shape."""

    show_tracebacks = False
    process_request_body = False

    def process_headers(self) -> None:
        """Take the headers as they came: CherryPy would decode the words of RFC 2047, which are mail's, and cookies."""
        for name, value in self.header_list:
            self.headers[name] = value.strip()
        if "Host" not in self.headers and self.protocol >= (1, 1):
            raise BadRequest("HTTP/1.1 requires a 'Host' request header.")

    def process_query_string(self) -> None:
        """Take the query, of UTF-8; CherryPy would answer 404, as if nothing were there."""
        try:
            super().process_query_string()
        except cherrypy.HTTPError as error:
            raise BadRequest("The query is not percent-encoded UTF-8.") from error

    def respond(self, path_info: str) -> None:
        """Find the handler, run it, shape what it returns or raises."""
        response = cherrypy.serving.response
        environ = self.wsgi_environ
        traced = trace.begin(environ.get("HTTP_TRACEPARENT"), environ.get("HTTP_X_REQUEST_ID"))
        try:
            fault = transport.of(environ).fault
            if fault is not None:
                raise fault
            self.process_headers()
            self.get_resource(path_info)
            self.process_query_string()
            _shape(self.handler(), response)
        except self.throws:
            raise
        except cherrypy.HTTPRedirect as redirect:
            redirect.set_response()
            response.body = b""
        except Exception as error:  # noqa: BLE001 - the one place that turns every exception into an answer
            problem.answer(error)
        response.headers["traceparent"] = traced.parent
        response.headers["X-Request-Id"] = traced.request_id
        response.finalize()


class _Answer(AppResponse):
    """One response as WSGI wants it: a failure before the first byte is told, a later one breaks the connection."""

    def __init__(self, environ: connection.Environ, start_response: Callable[..., Any], app: _Application) -> None:
        self.cpapp, self.environ, self.iter_response = app, environ, iter(())
        self.transport = transport.of(environ)
        try:
            self.run()
            response = cherrypy.serving.response
            first = self._first(response)
            endless = not self.transport.frames and not _has_end(response)
            self.chunking = endless and self.transport.takes_chunks
            self.closing = streams.settle(environ) or (endless and not self.chunking)
            if self.chunking:
                response.header_list.append((b"Transfer-Encoding", b"chunked"))
            if self.closing or self.transport.ends:
                response.header_list.append((b"Connection", b"close"))
            headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.header_list]
            start_response(response.output_status.decode("latin-1"), headers)
        except BaseException:
            self.closing = False
            self.close()
            raise
        self.pending = first
        if self.closing and first is None:
            self.pending = b""  # uWSGI sends the head with the first piece: it must be out before we half-close

    def __next__(self) -> bytes:
        if self.pending is not None:
            piece, self.pending = self.pending, None
            return _chunk(piece) if self.chunking else piece
        try:
            piece = next(self.iter_response)
            return _chunk(piece) if self.chunking else piece
        except StopIteration:
            if not self.chunking:
                raise
            self.chunking = False
            return b"0\r\n\r\n"
        except Exception:
            self.chunking = False  # a last chunk would make it look whole
            request = cherrypy.serving.request
            LOG.exception("%s %s: broken off", request.method, request.path_info, extra={"trace": trace.current()})
            if self.transport.cut():
                raise StopIteration from None  # the client has seen the connection end before the answer did
            raise

    def close(self) -> None:
        """Close the body's producer, then let a client that still sends read our answer."""
        self._end_body()
        self.cpapp.release_serving()
        if self.closing:
            self.transport.linger()

    def _end_body(self) -> None:
        close = getattr(self.iter_response, "close", None)
        try:
            if close is not None:
                close()
        except Exception:
            LOG.exception("a body did not close", extra={"trace": trace.current()})

    def _first(self, response: Any) -> bytes | None:
        """Take the first piece of a streamed body while the status can still be changed."""
        self.iter_response = iter(response.body)
        try:
            return next(self.iter_response, None)
        except Exception as error:  # noqa: BLE001 - as in _Request.respond
            self._end_body()
            problem.answer(error)
            response.finalize()
            self.iter_response = iter(response.body)
            return next(self.iter_response, None)


def _has_end(response: Any) -> bool:
    """Tell whether the client knows where the answer ends."""
    if cherrypy.serving.request.method == "HEAD" or response.output_status[:3] in (b"204", b"304"):
        return True
    return any(name == b"Content-Length" for name, _ in response.header_list)


def _chunk(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b""


def _shape(result: Any, response: Any) -> None:
    if isinstance(result, bytes):
        response.body = result
    elif result is None:
        response.body = b""
    elif hasattr(result, "__next__"):
        response.body, response.stream = result, True
    else:
        response.body = json.dumps(result).encode()
