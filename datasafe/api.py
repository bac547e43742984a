"""LabInform's API: ``/api/<loi>``, its statuses, phrases and headers as its clients expect them (docs/datasafe.md)."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import cherrypy

from ..common import memory, rest
from ..common.auth import MAX_NAME
from ..common.errors import BadRequest, Damaged, Forbidden, LengthRequired, PreconditionFailed, ServiceError
from ..common.idempotency import parse
from ..common.moment import zulu
from ..common.streams import Body
from . import answers, incoming, listing, loi
from .answers import sentence, suspecting
from .config import Settings
from .dataset import NEVER, DatasetExists, NoSuchDataset, NoSuchVersion
from .inventory import Author
from .listing import MOST
from .orm import Dataset, DatasetGone, damaged_files, verdict_of
from .safe import MAX_TEXT, DatasetEmpty, NoContent, Safe
from .snapshots import Opened, Snapshots

METHODS = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"

_SPOKEN = (loi.InvalidLoi, NoSuchDataset, NoSuchVersion, DatasetExists, DatasetEmpty, NoContent)

M = TypeVar("M", bound=Callable[..., Any])


def spoken(method: M) -> M:
    """Answer LabInform's failures by their bare sentence, unless the client asks for JSON."""

    @functools.wraps(method)
    def handler(*args: Any, **query: Any) -> Any:
        try:
            return method(*args, **query)
        except _SPOKEN as error:
            if "allow" in error.detail:
                error.headers["Allow"] = error.detail["allow"]
            if "application/json" in cherrypy.serving.request.wsgi_environ.get("HTTP_ACCEPT", ""):
                raise
            response = cherrypy.serving.response
            response.status = error.status
            response.headers.update(error.headers)
            return sentence(error.message)

    return handler  # type: ignore[return-value]


class RestApi:
    """``/api/`` and ``/api/<loi>``."""

    exposed = True

    def __init__(self, safe: Safe, settings: Settings) -> None:
        """Serve ``safe``."""
        self.safe, self.settings = safe, settings
        self._snapshots = Snapshots(safe.store)

    @spoken
    def GET(
        self,
        *path: str,
        version: str | None = None,
        versions: str | None = None,
        file: str | None = None,
        files: str | None = None,
        prefix: str | None = None,
        after: str | None = None,
        limit: str | None = None,
    ) -> Any:
        """Answer a version as a zip, 204 while there is none; or one of its files; or a list."""
        if not path:
            _pointless(version=version, versions=versions, file=file, files=files)
            if prefix is None:
                _pointless(after=after, limit=limit)
                return _greet()
            return self._page(prefix, _number(after or "0", "after"), _number(limit or str(MOST), "limit"))
        _pointless(prefix=prefix, after=after, limit=limit)
        if versions is not None:
            _pointless(version=version, file=file, files=files)
        if files is not None:
            _pointless(file=file)
        name = self._named()
        row = self._seen(name)
        cherrypy.serving.response.headers["X-Pacifica-Integrity"] = verdict_of("dataset", str(name))
        if versions is not None:
            return answers.versions(row, self.safe.store.versions(name) if self.safe.store.exists(name) else ())
        number = _number(version, "version") if version is not None else None
        if not self.safe.store.exists(name):
            if number is not None:
                raise NoSuchVersion(version=number)
            cherrypy.serving.response.headers.pop("Content-Type", None)
            cherrypy.serving.response.status = 204
            return b""
        with suspecting(row):
            opened = self._snapshots.open(name, number)
        cherrypy.serving.response.headers["X-Pacifica-Version"] = str(opened.snapshot.number)
        if files is not None:
            return answers.files(row, opened.snapshot)
        if file is not None:
            return answers.single(row, opened, file)
        bad = damaged_files(str(name), opened.snapshot.number)
        if bad:  # the zip would break off there; single files can still be had
            raise Damaged("Files of this version are damaged.", loi=str(name), files=bad)
        return answers.zipped(row, opened)

    @spoken
    def POST(self, *path: str, exact: str | None = None, owner: str | None = None) -> bytes:
        """Reserve the next LOI of a series, or (administrators, ``?exact``) this very one; answer 201 with it alone."""
        if exact is not None:
            return self._take_over(owner or "")
        _pointless(owner=owner)
        named = loi.series(_path(), self.settings.datasafe.issuers)
        given = self.safe.create(named, rest.principal().name, _key())
        response = cherrypy.serving.response
        response.status = 201
        response.headers["Location"] = f"/api/{given}"
        return sentence(str(given))

    @spoken
    def PUT(self, *path: str, message: str = "") -> bytes:
        """Store the first version."""
        return self._store(message, first=True)

    @spoken
    def PATCH(self, *path: str, message: str = "") -> bytes:
        """Store one more version."""
        return self._store(message, first=False)

    @spoken
    def DELETE(self, *path: str, reason: str = "") -> dict[str, Any]:
        """Delete a dataset for good, or a reservation: administrators only, with a reason for all to read."""
        name = self._named()
        self._seen(name)
        if not rest.principal().administrator:
            raise Forbidden("Only an administrator deletes datasets.")
        if not reason.strip() or len(reason) > MAX_TEXT or not reason.isprintable():
            raise BadRequest("Say why in ?reason=..., on one line of at most 1,000 characters.", parameter="reason")
        end = self.safe.delete(name, rest.principal().name, reason.strip(), self._pinned(name))
        return {"loi": end.loi, "who": end.who, "at": zulu(end.at), "reason": end.reason}

    def OPTIONS(self, *path: str) -> bytes:
        """Say which methods there are."""
        cherrypy.serving.response.headers["Allow"] = METHODS
        return sentence("")

    # ---- parts -------------------------------------------------------------------------------------------------------

    def _named(self) -> loi.Loi:
        return loi.dataset(_path(), self.settings.datasafe.issuers)

    def _seen(self, name: loi.Loi, write: bool = False) -> Dataset:
        """Return the row of a LOI; NoSuchDataset also when it is another's, DatasetGone to whom it belonged."""
        principal = rest.principal()
        try:
            row = self.safe.find(name)
        except DatasetGone as error:
            end = self.safe.tombstone(name)
            if end is None or not (principal.owns(end.owner) or principal.service):
                raise NoSuchDataset(loi=str(name)) from error
            error.detail["at"] = zulu(error.detail["at"])
            raise
        if not principal.owns(row.owner) and (write or not principal.service):
            raise NoSuchDataset(loi=str(name))
        return row

    def _page(self, prefix: str, after: int, limit: int) -> dict[str, Any]:
        who = rest.principal()
        found = listing.page(prefix, after, limit, None if who.administrator or who.service else who.name)
        shown = [one._asdict() | {"stored": zulu(one.stored) if one.stored else None} for one in found.datasets]
        return {"datasets": shown, "next": found.next}

    def _take_over(self, owner: str) -> bytes:
        """Reserve a LOI of another datasafe, whatever its number; 200 where it was given before."""
        if not rest.principal().administrator:
            raise Forbidden("Only an administrator reserves a LOI of his choice.")
        if len(owner) > MAX_NAME or not owner.isprintable():
            raise BadRequest("The owner is one printable name.", parameter="owner")
        name = self._named()
        response = cherrypy.serving.response
        response.status = 201 if self.safe.reserve(name, owner or rest.principal().name) else 200
        response.headers["Location"] = f"/api/{name}"
        return sentence(str(name))

    def _store(self, message: str, *, first: bool) -> bytes:
        name = self._named()
        try:
            self._seen(name, write=True)
        except NoSuchDataset as error:
            error.status = 400  # LabInform's, where a body was to be stored
            raise
        try:
            body = Body.of_request(self.settings.datasafe.max_bytes, self.settings.server)
        except LengthRequired:
            raise (NoContent if first is not self.safe.store.exists(name) else _other(first)) from None
        author, reader = Author(name=rest.principal().name, message=message), rest.principal()
        again = self.safe.is_again(name, author.name, _key(), first=first)
        newest, fill = self._pinned(name, again=again), incoming.filler(body, cherrypy.serving.request.headers)
        self._snapshots.forget(name)
        told = self.safe.put(name, fill, body.length, author, first=first, reader=reader, key=_key(), newest=newest)
        memory.trim()
        return answers.verdict(told)

    def _pinned(self, name: loi.Loi, *, again: bool = False) -> int | None:
        """Return the version that the request's conditions speak of; for one that came before, also where they fail.

        It may have made itself what they forbid: then only what it has made can be answered.
        """

        def newest() -> Opened | None:
            return self._snapshots.open(name) if self.safe.store.exists(name) else None

        try:
            return incoming.pinned(cherrypy.serving.request.wsgi_environ, newest)
        except PreconditionFailed:
            if not again:
                raise
            return NEVER


def _pointless(**given: str | None) -> None:
    """Raise BadRequest for a parameter that was given where it says nothing."""
    for name, value in given.items():
        if value is not None:
            raise BadRequest("This parameter means nothing here.", parameter=name)


def _key() -> str | None:
    return parse(cherrypy.serving.request.headers.get("Idempotency-Key"))


def _path() -> str:
    """Return what follows ``/api/`` as it was sent, dots and double slashes too."""
    path: str = cherrypy.serving.request.wsgi_environ["PATH_INFO"]  # CherryPy's own has slashes joined
    return path.removeprefix("/api").removeprefix("/")


def _greet() -> bytes:
    response = cherrypy.serving.response
    path = cherrypy.serving.request.path_info
    if path == "/api":
        response.status = 308
        response.headers["Location"] = "/api/"
        return sentence("")
    if path != "/api/":
        raise loi.InvalidLoi
    return sentence("alive")


def _number(text: str, parameter: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise BadRequest(f"{parameter} must be a whole number.", parameter=parameter)
    return int(text)


def _other(first: bool) -> ServiceError:
    return DatasetExists() if first else DatasetEmpty()
