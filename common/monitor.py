"""``GET /metrics``: the figures of a service, for a monitor (docs/deployment.md#monitoring)."""

import threading
import time
from collections.abc import Sequence

import cherrypy

from . import rest
from .errors import Forbidden
from .metrics import Source, written

_FRESH_SECONDS = 1.0  # figures this young are told again


class Metrics:
    """For administrators and services, and without authentication for this machine."""

    exposed = True

    def __init__(self, sources: Sequence[Source]) -> None:
        """Tell what ``sources`` say, asking them at most once a second."""
        self._sources = sources
        self._lock = threading.Lock()
        self._until, self._text, self._type = 0.0, b"", ""

    def GET(self) -> bytes:
        """Answer with every figure; Forbidden for those who may see only what is theirs."""
        who = rest.principal()
        if not (who.administrator or who.service or who.via == "none"):
            raise Forbidden("Only administrators and services may watch.")
        with self._lock:
            if time.monotonic() >= self._until:
                self._text, self._type = written(gauge for source in self._sources for gauge in source())
                self._until = time.monotonic() + _FRESH_SECONDS
            text, kind = self._text, self._type
        cherrypy.serving.response.headers["Content-Type"] = kind
        return text
