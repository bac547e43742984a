"""How a failure looks on the wire: Pacifica's four keys, RFC 9457's five, the code and the facts, in one JSON object.

The content type stays ``application/json``, since Pacifica's clients decide by it (``docs/errors.md``).
"""

import json
import logging
from http import HTTPStatus
from pathlib import PurePath
from typing import Any

import cherrypy

from . import trace
from .connection import BodyTooSlow, UnknownCoding, UnknownVersion
from .errors import (
    BadConfiguration,
    BadRequest,
    MethodNotAllowed,
    NotFound,
    Overloaded,
    ServiceError,
    TooLarge,
)
from .version import VERSION

LOG = logging.getLogger(__name__)

TYPE = "urn:pacifica:error:"
_NAMES = {
    kind.status: kind
    for kind in (NotFound, MethodNotAllowed, BodyTooSlow, TooLarge, UnknownCoding, UnknownVersion, Overloaded)
}
_OF_THE_CONTENT = (  # headers that described what was not sent
    "Accept-Ranges",
    "Content-Disposition",
    "Content-Encoding",
    "Content-Length",
    "Content-Range",
    "ETag",
    "Last-Modified",
    "Location",
    "Repr-Digest",
    "Set-Cookie",
)


def answer(error: Exception) -> None:
    """Make the current response tell ``error``; the traceback goes to the log and nowhere else."""
    request, response = cherrypy.serving.request, cherrypy.serving.response
    named = _named(error)
    _report(error, named)
    for header in _OF_THE_CONTENT:
        response.headers.pop(header, None)
    response.stream = False
    response.status = named.status
    response.headers["Content-Type"] = "application/json"
    response.headers["Cache-Control"] = "no-store"
    if named.retry_after is not None:
        response.headers["Retry-After"] = str(named.retry_after)
    if named.status == 401:
        response.headers["WWW-Authenticate"] = "Pacifica"
    described = describe(named, request.wsgi_environ.get("PATH_INFO", ""))
    tell = getattr(getattr(request.app, "root", None), "headers_of", None)  # a service's clients may look for more
    for header, value in ({} if tell is None else tell(named, described["message"])).items():
        response.headers[header] = value
    for header, value in named.headers.items():
        response.headers[header] = value
    response.body = json.dumps(described, default=_plain).encode()


def describe(error: ServiceError, instance: str) -> dict[str, Any]:
    """Return the object that tells ``error``; facts never replace one of its own keys."""
    title = (error.__doc__ or error.code).splitlines()[0]
    hidden = isinstance(error, BadConfiguration)  # its message is for the administrator: it names files
    message = title if hidden else error.message
    members = {
        "status": status_line(error.status),
        "message": message,
        "traceback": "",
        "version": VERSION,
        "type": TYPE + error.code,
        "title": title,
        "detail": message,
        "instance": instance,
        "code": error.code,
        "retryable": error.retryable,
        "trace": trace.current(),
    }
    facts = {} if hidden else {key: value for key, value in error.detail.items() if key not in members}
    return members | facts


def for_status(status: int, message: str) -> ServiceError:
    """Return the error that a bare HTTP status stands for, as servers and frameworks raise it."""
    kind = _NAMES.get(status, BadRequest if status < 500 else ServiceError)
    error = kind(message)
    error.status = status
    return error


def status_line(status: int) -> str:
    """Return ``404 Not Found`` for 404; a number that HTTP does not name stays alone."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"{status} Unknown"


def _named(error: Exception) -> ServiceError:
    """Return the error itself, or the one that stands for it."""
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, cherrypy.HTTPError):
        return for_status(error.code, str(error._message))  # CherryPy itself refuses: no Host, a query not UTF-8
    return ServiceError("Something went wrong here; an administrator finds it in the log by its trace id")


def _report(error: Exception, named: ServiceError) -> None:
    request = cherrypy.serving.request
    line = "%s %s: %s: %s"
    facts = (request.method, request.wsgi_environ.get("PATH_INFO", ""), named.code, named.message)
    extra = {"trace": trace.current()}
    if named.status < 500 or named.is_remembered or isinstance(named, BadRequest):  # 501 and 505 are the client's doing
        LOG.info(line, *facts, extra=extra)
    elif named.retryable:
        LOG.warning(line, *facts, extra=extra)
    else:
        LOG.error(line, *facts, extra=extra, exc_info=error)


def _plain(value: object) -> str:
    return value.name if isinstance(value, PurePath) else str(value)
