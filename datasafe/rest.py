"""The HTTP face of datasafe: what hangs below ``/`` (docs/datasafe.md)."""

from typing import Any

import cherrypy

from ..common import rest
from ..common.archive import LocalArchive
from ..common.auth import public
from ..common.entry import waiting
from ..common.errors import BadRequest
from ..common.volume import Volume
from . import report
from .api import RestApi
from .archive import RestArchive
from .config import Settings
from .criteria import parse
from .neighbours import RestMetadata, RestPolicy, RestUniqueId
from .safe import Safe
from .search import search


class Root:
    """``/``: says that the archive runs."""

    exposed = True

    def __init__(self, settings: Settings, volume: Volume) -> None:
        archive = LocalArchive(volume)
        self.archive = RestArchive(archive, settings)
        self.metadata = RestMetadata(archive, settings)
        self.policy = RestPolicy(settings)
        self.uniqueid = RestUniqueId()
        self.heartbeat = Heartbeat()
        safe = Safe(volume, settings.datasafe)
        safe.settle()
        self.api = RestApi(safe, settings)
        self.audit = RestAudit(settings)
        self.catalog = RestCatalog()

    @public
    def GET(self) -> dict[str, str]:
        """Answer as Pacifica's archive interface does."""
        return {"message": "Pacifica Archive Interface Up and Running"}


class RestCatalog:
    """``GET /catalog``: datasets, transactions and files that have all that the query asks for."""

    exposed = True

    def GET(self, **query: Any) -> dict[str, Any]:
        """Answer a page of what one may read, the newest first, and how much is not in the index yet."""
        page = search(parse(query), rest.principal())
        return {"found": page.things, "next": page.next, "pending": waiting()}


class RestAudit:
    """``GET /audit``: how much was read again, how long ago, and what is wrong."""

    exposed = True

    def __init__(self, settings: Settings) -> None:
        self.settings = settings.audit

    def GET(self, after: str = "0") -> dict[str, Any]:
        """Answer the summary and the first 100 findings behind ``after``, those of others left out."""
        if not (after.isascii() and after.isdecimal() and len(after) < 19):
            raise BadRequest("after must be a whole number.", parameter="after")
        return report.summary(self.settings) | {"findings": report.findings(rest.principal(), int(after))}


@public
class Heartbeat:
    """``GET /heartbeat``."""

    exposed = True

    def GET(self) -> bytes:
        """Answer ``alive``, as LabInform's datasafe does."""
        cherrypy.response.headers["Content-Type"] = "text/html;charset=utf-8"
        return b"alive"
