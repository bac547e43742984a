"""``GET /metrics``: the figures of a service, for a monitor (docs/deployment.md#monitoring)."""

from collections.abc import Sequence

import cherrypy

from . import rest
from .errors import Forbidden
from .health import Recent
from .metrics import Source, written


class Metrics:
    """For administrators and services, and without authentication for this machine."""

    exposed = True

    def __init__(self, sources: Sequence[Source]) -> None:
        """Tell what ``sources`` say, asking them at most once a second."""
        self._told = Recent(lambda: written(gauge for source in sources for gauge in source()))

    def GET(self) -> bytes:
        """Answer with every figure; Forbidden for those who may see only what is theirs."""
        who = rest.principal()
        if not (who.administrator or who.service or who.via == "none"):
            raise Forbidden("Only administrators and services may watch.")
        text, cherrypy.serving.response.headers["Content-Type"] = self._told()
        return text
