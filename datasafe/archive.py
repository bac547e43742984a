"""``/archive``: Pacifica's archive interface over HTTP (docs/ingest-neighbours.md)."""

import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import cherrypy

from ..common import ledger, rest
from ..common.archive import LocalArchive
from ..common.catalog import may_read
from ..common.errors import BadRequest, Conflict, Forbidden, Gone, NotFound
from ..common.interface import Incoming
from ..common.ranges import respond_range
from ..common.streams import Body, json_body
from .config import Settings
from .moving import move

PATCH_BYTES = 64 << 10


class RestArchive:
    """``/archive/<id>``: one archived file."""

    exposed = True

    def __init__(self, archive: LocalArchive, settings: Settings) -> None:
        self.archive, self.settings = archive, settings

    def GET(self, file_id: str, byte_range: str = "") -> Any:
        """Answer the bytes of file ``file_id``, or a Range of them, every one checked."""
        held = self._held(file_id)
        if byte_range:
            return self._between(held, byte_range)
        return respond_range(
            held.size,
            f"{held.hashtype}-{held.hashsum}",
            held.mtime,
            lambda start, stop: self.archive.open(held.id, start, stop),
            content_type="application/octet-stream",
            filename=held.name or str(held.id),
        )

    def HEAD(self, file_id: str) -> None:
        """Answer 204 with what is known of the file, in the headers and spelling that the original's clients read."""
        held = self._held(file_id)
        headers = cherrypy.response.headers
        headers["X-Pacifica-Messsage"] = "File was found"
        headers["X-Pacifica-File"] = str(held.id)
        headers["X-Content-Length"] = str(held.size)
        headers["Last-Modified"] = f"{held.mtime:.6f}"
        headers["X-Pacifica-Ctime"] = f"{held.ctime:.6f}"
        headers["X-Pacifica-Bytes-Per-Level"] = f"({held.size},)"
        headers["X-Pacifica-File-Storage-Media"] = "disk"
        cherrypy.response.status = 204

    def PUT(self, file_id: str) -> dict[str, Any]:
        """Archive the body under an id of the client's choice; a file of no transaction is superseded."""
        id = _number(file_id)
        self._require_change(id)
        body = Body.of_request(self.settings.datasafe.max_bytes, self.settings.server)
        mtime = _modified(cherrypy.serving.request.wsgi_environ.get("HTTP_LAST_MODIFIED"))
        owner = rest.principal().name
        held = self.archive.put(id, Incoming(fill=body.readinto, length=body.length, mtime=mtime, owner=owner))
        cherrypy.response.status = 201
        return {"message": "File added to archive", "total_bytes": held.size}

    def POST(self, file_id: str) -> dict[str, str]:
        """Stage the file."""
        held = self._held(file_id)
        self.archive.stage(held.id)
        return {"message": "File was staged", "file": str(held.id)}

    def PATCH(self, file_id: str) -> dict[str, str]:
        """Move a file of this host, from below the roots that configuration lists, into the archive."""
        id = _number(file_id)
        self._require_change(id)
        said = json_body(PATCH_BYTES, self.settings.server)
        path = said.get("path") if isinstance(said, dict) else None
        if not isinstance(path, str):
            raise BadRequest('The body is {"path": ...}.')
        move(self.archive, id, path, self.settings.datasafe.move_roots, rest.principal().name)
        return {"message": "File Moved Successfully"}

    def DELETE(self, file_id: str) -> bytes:
        """Take the file away."""
        held = self._held(file_id)
        self._require_change(held.id)
        self.archive.delete(held.id, rest.principal().name, "DELETE")
        return b""

    def _held(self, file_id: str) -> ledger.Located:
        held = _find(_number(file_id))
        if not may_read(rest.principal(), [held.id]):
            raise NotFound("there is no such file", id=held.id)
        return held

    def _between(self, held: ledger.Located, byte_range: str) -> Any:
        """Answer bytes a to b of ``a-b``, b left out, as the original's own query has it."""
        first, dash, last = byte_range.partition("-")
        if not dash or not all(part.isascii() and part.isdecimal() and len(part) < 19 for part in (first, last)):
            raise BadRequest("Invalid byte range format (int-int)")
        start, stop = min(int(first), held.size), min(int(last), held.size)
        cherrypy.response.headers["Content-Type"] = "application/octet-stream"
        cherrypy.response.headers["Content-Length"] = str(max(0, stop - start))
        return self.archive.open(held.id, start, stop) if start < stop else b""

    def _require_change(self, id: int) -> None:
        """Let nobody put or delete what is another's, and only administrators what a transaction has."""
        principal = rest.principal()
        try:
            held = _find(id)
        except NotFound:
            return
        if principal.administrator:
            return
        if not may_read(principal, [id]):
            raise Forbidden("this id is taken", id=id)
        if held.transaction is not None:
            raise Conflict("the file belongs to a transaction: only administrators change it", id=id)
        if held.owner != principal.name and not principal.service:
            raise Forbidden("this id is taken", id=id)


def _find(id: int) -> ledger.Located:
    """Return the file; what was deleted is as unknown as what never was (the original knows nothing else)."""
    try:
        return ledger.find(id)
    except Gone as error:
        raise NotFound("there is no such file", id=id) from error


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise BadRequest("The file id must be a whole number.")
    return int(text)


def _modified(text: str | None) -> float:
    """Return the time of a Last-Modified header: as ``ctime`` writes it (Pacifica's ingest does), which means this
    host's zone, or as HTTP has it, or as seconds; now where there is none.
    """
    if not text:
        return time.time()
    try:
        return datetime.strptime(text.strip(), "%a %b %d %H:%M:%S %Y").astimezone().timestamp()
    except (ValueError, OverflowError):
        pass  # the other two ways
    try:
        when = parsedate_to_datetime(text)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, TypeError, IndexError):
        pass  # the last way
    try:
        seconds = float(text)
    except ValueError:
        raise BadRequest("Last-Modified is no time.") from None
    if not 0 <= seconds < 1 << 40:
        raise BadRequest("Last-Modified is no time.")
    return seconds
