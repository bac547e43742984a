"""The HTTP face of flow: processes and data objects, in the original's routes (docs/flow.md)."""

import json
from collections.abc import Callable
from typing import Any

import cherrypy

from ..common import rest
from ..common.auth import public
from ..common.errors import BadRequest, Conflict, Forbidden, MethodNotAllowed, NotFound
from ..common.streams import json_body
from ..common.volume import Volume
from . import annotating, creation, dispatch, graph, reuse, shown
from .automation import RestTrigger
from .config import Settings
from .given import document, free_slug, options, tags, text
from .keeping import withdraw
from .orm import Data, DataFile, Dependency, Process, Storage, newest
from .query import Field, project, select
from .running import live_log, log_path

MAX_JSON = 8 << 20

DATA_FIELDS = {
    "id": Field(Data.id, "number"),
    "name": Field(Data.name, "text"),
    "slug": Field(Data.slug, "word"),
    "created": Field(Data.created, "time"),
    "modified": Field(Data.updated, "time"),
    "started": Field(Data.started, "time"),
    "finished": Field(Data.finished, "time"),
    "contributor": Field(Data.owner, "word"),
    "status": Field(Data.state, "word"),
    "type": Field(Data.type, "prefix"),
    "type__exact": Field(Data.type, "text"),
    "process": Field(Data.process, "number"),
    "process__slug": Field(Process.slug, "text"),
    "process__name": Field(Process.name, "text"),
}
DATA_ORDER = {
    "id": Data.id,
    "created": Data.created,
    "modified": Data.updated,
    "started": Data.started,
    "finished": Data.finished,
    "name": Data.name,
    "contributor": Data.owner,
    "process__name": Process.name,
    "process__type": Process.type,
}
PROCESS_FIELDS = {
    "id": Field(Process.id, "number"),
    "name": Field(Process.name, "text"),
    "slug": Field(Process.slug, "word"),
    "version": Field(Process.version, "text"),
    "created": Field(Process.created, "time"),
    "modified": Field(Process.modified, "time"),
    "contributor": Field(Process.contributor, "word"),
    "type": Field(Process.type, "prefix"),
    "category": Field(Process.category, "prefix"),
    "is_active": Field(Process.is_active, "boolean"),
    "scheduling_class": Field(Process.scheduling_class, "word"),
}
PROCESS_ORDER = {"id": Process.id, "created": Process.created, "modified": Process.modified, "name": Process.name}
PROCESS_ORDER["version"] = Process.order


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
        self.process = RestProcess()
        self.data = RestData(settings, volume)
        self.storage = RestStorage()
        self.trigger = RestTrigger()


class RestProcess:
    """``/api/process`` and ``/api/process/<id>``: what is registered; registering is done at the command line."""

    exposed = True

    def GET(self, id: str = "", **parameters: Any) -> Any:
        """Answer the list, or one process."""
        if id:
            held: Process | None = Process.get_or_none(Process.id == _number(id))
            if held is None:
                raise NotFound("There is no such process.", id=id)
            return project(shown.process(held), str(parameters.get("fields", "")))
        rows = select(Process.select(), parameters, PROCESS_FIELDS, PROCESS_ORDER, "id")
        return [project(shown.process(row), str(parameters.get("fields", ""))) for row in rows]


class RestData:
    """``/api/data``, ``/api/data/<id>`` and what can be asked of one object."""

    exposed = True

    def __init__(self, settings: Settings, volume: Volume) -> None:
        self.settings, self.volume = settings, volume
        self._asked: dict[str, Callable[[Data, dict[str, Any]], Any]] = {
            "parents": lambda data, _: _shown(_linked(data, Dependency.parent, Dependency.child)),
            "children": lambda data, _: _shown(_linked(data, Dependency.child, Dependency.parent)),
            "stdout": self._stdout,
            "files": _files,
            "reuse": lambda data, _: reuse.explain(data),
            "graph": _graph,
        }
        self._done: dict[str, Callable[[Data, Any], Any]] = {
            "restart": _restart,
            "cancel": _cancel,
            "invalidate": _invalidate,
        }

    def GET(self, id: str = "", part: str = "", **parameters: Any) -> Any:
        """Answer the list of the caller's objects, one of them, or a part of one."""
        wanted = str(parameters.get("fields", ""))
        if not id:
            mine = Data.select().join(Process, on=(Data.process == Process.id))
            if not rest.principal().administrator:
                mine = mine.where(Data.owner == rest.principal().name)
            rows = select(mine, parameters, DATA_FIELDS, DATA_ORDER, "-created")
            return [project(one, wanted) for one in _shown(list(rows))]
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
        if id:
            if part not in self._done:
                raise MethodNotAllowed(f"Allowed here: {', '.join(self._done)}")
            return self._done[part](_mine(id), self._body() if part in ("cancel", "invalidate") else {})
        given = document(self._body())
        return self._create(given)

    def _create(self, given: dict[str, Any]) -> dict[str, Any]:
        process = creation.process_of(given.get("process"), newest)
        data = creation.create(process, given.get("input", {}), rest.principal(), **options(given))
        cherrypy.response.status = 201
        return _shown([data])[0]

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
            changes["slug"] = free_slug(text(given, "slug", 100))
        if "tags" in given:
            changes["tags"] = json.dumps(tags(given["tags"]))
        if not changes:
            cherrypy.response.status = 204
            return None
        Data.update(changes).where(Data.id == data.id).execute()
        return _shown([Data.get_by_id(data.id)])[0]

    def DELETE(self, id: str) -> Any:
        """Delete an object that has ended, its files with it; children that wait for it will fail."""
        data = _mine(id)
        if data.state not in Data.FINAL:
            raise Conflict("Only an object that has ended can be deleted; cancel it first.", status=data.state)
        withdraw(data)
        annotating.withdraw(data)
        children = [row.child for row in Dependency.select().where(Dependency.parent == data.id)]
        Dependency.update(parent=None).where(Dependency.parent == data.id).execute()
        Dependency.delete().where(Dependency.child == data.id).execute()
        Data.delete().where(Data.id == data.id).execute()
        for log in {data.id, data.origin or data.id}:
            if not Data.select().where((Data.id == log) | (Data.origin == log)).exists():
                log_path(self.volume, log).unlink(missing_ok=True)
        for child in children:
            dispatch.settle(child)
        cherrypy.response.status = 204

    def _stdout(self, data: Data, parameters: dict[str, Any]) -> bytes:
        """Answer what the program has printed from ``offset`` on, at most 1 MiB; it grows while the run goes on."""
        offset = _number(str(parameters.get("offset", "0")))
        kept = log_path(self.volume, data.origin or data.id)
        path = kept if data.state in Data.FINAL else live_log(self.volume, data)
        cherrypy.response.headers["Content-Type"] = "text/plain;charset=utf-8"
        try:
            with path.open("rb") as file:
                file.seek(offset)
                return file.read(1 << 20)
        except FileNotFoundError:
            return b""

    def _body(self) -> dict[str, Any]:
        given = json_body(MAX_JSON, self.settings.server, types=None)
        if not isinstance(given, dict):
            raise BadRequest("The document must be an object.")
        return given


class RestStorage:
    """``/api/storage/<id>``: one stored document."""

    exposed = True

    def GET(self, id: str) -> Any:
        """Answer the document."""
        held = Storage.get_or_none(Storage.id == _number(id))
        if held is None or not rest.principal().owns(held.owner):
            raise NotFound("There is no such document.", id=id)
        return {"id": held.id, "contributor": held.owner, "json": json.loads(held.json)}


def _mine(id: str) -> Data:
    data: Data | None = Data.get_or_none(Data.id == _number(id))
    if data is None or not rest.principal().owns(data.owner):
        raise NotFound("There is no such data object.", id=id)
    return data


def _shown(rows: list[Data]) -> list[dict[str, Any]]:
    ids = {row.process for row in rows}
    held = {process.id: process for process in Process.select().where(Process.id.in_(ids))} if ids else {}
    return [shown.data(row, held[row.process]) for row in rows]


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


def _restart(data: Data, _: Any) -> dict[str, Any]:
    principal = rest.principal()
    if not (principal.administrator or principal.owns(data.owner)):
        raise Forbidden
    return {"restarted": dispatch.restart(data, principal.name)}


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
