"""The HTTP face of flow: processes and data objects, in the original's routes (docs/flow.md)."""

import json
import os
from collections.abc import Callable
from typing import Any

import cherrypy

from ..common import rest
from ..common.auth import public
from ..common.errors import BadRequest, Conflict, MethodNotAllowed, NotFound
from ..common.idempotency import parse
from ..common.streams import json_body
from ..common.volume import Volume
from . import bulk, crate, creation, dispatch, graph, lists, logs, reuse, shown, slug, stream
from .automation import RestTrigger
from .config import Settings
from .given import document, options, overrides, tags, text
from .names import SlugExists
from .once import once
from .orm import Data, DataFile, Dependency, Process, Storage
from .query import known, project
from .removal import remove
from .restart import restart
from .versions import newest

MAX_JSON = 8 << 20
MAX_BULK_JSON = 64 << 20
PARAMETERS = {"stdout": ("offset",), "jsonout": ("offset",)}  # of a part of an object, beside those of all


class Root:
    """``/``: says that the service runs; ``/api`` has the rest."""

    exposed = True

    def __init__(self, settings: Settings, volume: Volume) -> None:
        self.api = Api(settings, volume)

    @public
    def GET(self) -> dict[str, str]:
        """Answer like its sisters."""
        return {"message": "Pacifica Flow Up and Running"}


class Api:
    """``/api``."""

    exposed = True

    def __init__(self, settings: Settings, volume: Volume) -> None:
        self.process = RestProcess(settings)
        self.data = RestData(settings, volume)
        self.storage = RestStorage()
        self.trigger = RestTrigger(settings)


class RestProcess:
    """``/api/process`` and ``/api/process/<id>``: what is registered; registering is done at the command line."""

    exposed = True

    def __init__(self, settings: Settings) -> None:
        self.settings, self.slug_exists = settings, SlugExists(Process)

    def GET(self, id: str = "", /, **parameters: Any) -> Any:
        """Answer the list, or one process."""
        if id:
            known(parameters)
            held: Process | None = Process.get_or_none(Process.id == _number(id))
            if held is None:
                raise NotFound("There is no such process.", id=id)
            return project(shown.process(held), str(parameters.get("fields", "")))
        rows = lists.processes(parameters, self.settings.flow.list_rows)
        return [project(shown.process(row), str(parameters.get("fields", ""))) for row in rows]


class RestData:
    """``/api/data``, ``/api/data/<id>`` and what can be asked of one object."""

    exposed = True

    def __init__(self, settings: Settings, volume: Volume) -> None:
        self.settings, self.volume, self.slug_exists = settings, volume, SlugExists(Data)
        self.places = stream.Places(settings.flow.max_streams)
        self._asked: dict[str, Callable[[Data, dict[str, Any]], Any]] = {
            "parents": lambda data, asked: _listed(_linked(data, Dependency.parent, Dependency.child), asked),
            "children": lambda data, asked: _listed(_linked(data, Dependency.child, Dependency.parent), asked),
            "stdout": lambda data, parameters: self._log("stdout", data, parameters),
            "jsonout": lambda data, parameters: self._log("jsonout", data, parameters),
            "files": _files,
            "reuse": lambda data, _: reuse.explain(data),
            "graph": _graph,
            "crate": _crate,
            "events": lambda data, _: self._streamed(stream.OfOne(data.id, _last_event())),
        }
        self._done: dict[str, Callable[[Data, Any], Any]] = {
            "restart": self._restart,
            "cancel": _cancel,
            "invalidate": _invalidate,
        }

    def GET(self, id: str = "", part: str = "", /, **parameters: Any) -> Any:
        """Answer the list of the caller's objects, one of them, or a part of one."""
        wanted = str(parameters.get("fields", ""))
        if id:
            known(parameters, *PARAMETERS.get(part, ()))
        if id == "events" and not part:
            principal = rest.principal()
            return self._streamed(stream.OfOwner(None if principal.administrator else principal.name, _last_event()))
        if not id:
            owner = None if rest.principal().administrator else rest.principal().name
            return _listed(lists.data(parameters, owner, self.settings.flow.list_rows), parameters)
        data = _mine(id)
        if not part:
            return project(_shown([data])[0], wanted)
        if part not in self._asked:
            raise NotFound("There is no such part of a data object.")
        return self._asked[part](data, parameters)

    def POST(self, id: str = "", part: str = "") -> Any:
        """Create an object (201), ``/get_or_create`` one, or restart, cancel or invalidate ``/<id>``."""
        if id == "get_or_create" and not part:
            return self._get_or_create()
        if id == "bulk" and not part:
            return self._create_many()
        if id:
            if part not in self._done:
                raise MethodNotAllowed(f"Allowed here: {', '.join(self._done)}")
            return self._done[part](_mine(id), self._body(optional=part == "restart"))
        given = document(self._body())
        return self._create(given)

    def _create(self, given: dict[str, Any]) -> dict[str, Any]:
        def create() -> list[int]:
            process = creation.process_of(given.get("process"), newest)
            made.append(creation.create(process, given.get("input", {}), rest.principal(), **options(given)))
            return [made[0].id]

        made: list[Data] = []
        ids, fresh = once(rest.principal().name, _key(), given, create)
        cherrypy.response.status = 201 if fresh else 200
        return _shown(made or [_mine(str(ids[0]))])[0]

    def _create_many(self) -> dict[str, Any]:
        """Create a list of objects, all or none; answer their ids in its order."""
        given, principal = json_body(MAX_BULK_JSON, self.settings.server, types=None), rest.principal()
        if not isinstance(given, list):
            raise BadRequest("The document must be a list of objects to create.")
        ids, fresh = once(principal.name, _key(), given, lambda: bulk.create(given, principal))
        cherrypy.response.status = 201 if fresh else 200
        return {"ids": ids}

    def _get_or_create(self) -> dict[str, Any]:
        """Answer 200 with the newest object that has this result or will have it, else create one."""
        given = document(self._body())
        process, principal = creation.process_of(given.get("process"), newest), rest.principal()
        values = creation.checked(process, given.get("input", {}), principal)
        held = reuse.find(process, values, options(given)["resources"], principal.name)
        return self._create(given) if held is None else _shown([held])[0]

    def PATCH(self, id: str) -> Any:
        """Change name, slug or tags; what can never change is passed over, and alone answers 204."""
        data, given = _mine(id), self._body()
        changes: dict[str, Any] = {}
        if "name" in given:
            changes |= {"name": text(given, "name", 100) or "", "named_by_user": True}
        if given.get("slug") not in (None, data.slug):
            changes["slug"] = slug.free(text(given, "slug", 100))
        if "tags" in given:
            changes["tags"] = json.dumps(tags(given["tags"]))
        if not changes:
            cherrypy.response.status = 204
            return None
        with slug.alone(changes.get("slug")):
            Data.update(changes).where(Data.id == data.id).execute()
        return _shown([_mine(id)])[0]

    def DELETE(self, id: str) -> Any:
        """Delete an object that has ended, its files with it; children that wait for it will fail."""
        remove(_mine(id), self.volume)
        cherrypy.response.status = 204

    def _streamed(self, log: stream.Log) -> Any:
        """Answer what comes in ``log`` as it comes; 204, which ends a client's asking, when nothing more will."""
        if log.is_over():
            cherrypy.response.status = 204
            return None
        cherrypy.response.headers["Content-Type"] = "text/event-stream;charset=utf-8"
        cherrypy.response.headers["X-Accel-Buffering"] = "no"  # nginx
        return stream.Stream(log, self.places, self.settings.flow.heartbeat_seconds)

    def _log(self, part: str, data: Data, parameters: dict[str, Any]) -> bytes:
        """Answer what a log of the run holds from ``offset`` on, at most 1 MiB; it grows while the run goes on."""
        offset = _number(str(parameters.get("offset", "0")))
        cherrypy.response.headers["Content-Type"] = "text/plain;charset=utf-8"
        file = logs.opened(self.volume, data, part)
        if file is None:
            return b""
        with file:
            return b"" if offset > os.fstat(file.fileno()).st_size else os.pread(file.fileno(), 1 << 20, offset)

    def _restart(self, data: Data, given: dict[str, Any]) -> dict[str, Any]:
        principal = rest.principal()
        return {"restarted": restart(data, principal.name, self.volume, overrides(given))}

    def _body(self, *, optional: bool = False) -> dict[str, Any]:
        """Return the request's object; where it is ``optional``, nothing stands for an empty one."""
        if optional and cherrypy.request.headers.get("Content-Length", "0") == "0":
            return {}
        given = json_body(MAX_JSON, self.settings.server, types=None)
        if not isinstance(given, dict):
            raise BadRequest("The document must be an object.")
        return given


class RestStorage:
    """``/api/storage/<id>``: one stored document."""

    exposed = True

    def GET(self, id: str, **parameters: Any) -> Any:
        """Answer the document."""
        known(parameters)
        held = Storage.get_or_none(Storage.id == _number(id))
        if held is None or not rest.principal().owns(held.owner):
            raise NotFound("There is no such document.", id=id)
        document = {"id": held.id, "contributor": held.owner, "json": json.loads(held.json)}
        return project(document, str(parameters.get("fields", "")))


def _last_event() -> int | None:
    """Return the place that a client has come to in an earlier stream."""
    text = cherrypy.request.headers.get("Last-Event-ID", "")
    if text and not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise BadRequest("Last-Event-ID must be the id of an event.")
    return int(text) if text else None


def _key() -> str | None:
    """Return the Idempotency-Key of this request."""
    return parse(cherrypy.request.headers.get("Idempotency-Key"))


def _mine(id: str) -> Data:
    data: Data | None = Data.get_or_none(Data.id == _number(id))
    if data is None or not rest.principal().owns(data.owner):
        raise NotFound("There is no such data object.", id=id)
    return data


def _shown(rows: list[Data]) -> list[dict[str, Any]]:
    ids = {row.process for row in rows}
    held = {process.id: process for process in Process.select().where(Process.id.in_(ids))} if ids else {}
    return [shown.data(row, held[row.process]) for row in rows]


def _listed(rows: list[Data], parameters: dict[str, Any]) -> list[dict[str, Any]]:
    return [project(one, str(parameters.get("fields", ""))) for one in _shown(rows)]


def _linked(data: Data, wanted: Any, here: Any) -> list[Data]:
    links = Dependency.select(wanted).where((here == data.id) & wanted.is_null(False)).tuples()
    ids = [id for (id,) in links]
    return [row for row in Data.select().where(Data.id.in_(ids)).order_by(Data.id) if rest.principal().owns(row.owner)]


def _files(data: Data, _: dict[str, Any]) -> list[dict[str, Any]]:
    rows = DataFile.select().where(DataFile.data == data.id).order_by(DataFile.name)
    return [{"name": row.name, "file_id": row.file_id, "size": row.size, "sha256": row.sha256} for row in rows]


def _graph(data: Data, parameters: dict[str, Any]) -> Any:
    wanted, found = parameters.get("format", "json"), graph.around(data, rest.principal())
    if wanted == "json":
        return found
    if wanted not in ("dot", "svg"):
        raise BadRequest("format is json, dot or svg.", parameter="format")
    cherrypy.response.headers["Content-Type"] = "image/svg+xml" if wanted == "svg" else "text/vnd.graphviz"
    return (graph.svg if wanted == "svg" else graph.dot)(found).encode()


def _crate(data: Data, _: dict[str, Any]) -> bytes:
    cherrypy.response.headers["Content-Type"] = "application/ld+json"
    cherrypy.response.headers["Content-Disposition"] = 'attachment; filename="ro-crate-metadata.json"'
    return json.dumps(crate.crate(data, rest.principal()), indent=1).encode()


def _cancel(data: Data, given: Any) -> dict[str, Any]:
    if data.state in Data.FINAL and not given.get("graph"):
        raise Conflict("The object has ended already.", status=data.state)
    return {"cancelled": dispatch.cancel(data, rest.principal().name, graph=given.get("graph") is True)}


def _invalidate(data: Data, given: Any) -> dict[str, Any]:
    return {"invalidated": reuse.invalidate(data, graph=given.get("graph") is True)}


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise NotFound("An id is a whole number.", id=text[:40])
    return int(text)
