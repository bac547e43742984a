"""The HTTP face of ingest: Pacifica's routes, to the byte where clients depend on it (docs/ingest.md)."""

import re
from typing import Any

import cherrypy

from ..common import orm, rest, trace
from ..common.auth import Principal, public
from ..common.errors import BadRequest, Forbidden, NotFound
from ..common.idempotency import parse
from ..common.integrity import declared
from ..common.moment import utc
from ..common.streams import JSON_TYPES, Body, require_type
from ..common.volume import Volume
from .config import Settings
from .idempotency import Request, once
from .jobs import about, find, page
from .moving import take_list
from .orm import Job
from .tus import Files
from .upload import abandon, take

_NUMBER = re.compile(r"-?[0-9]{1,30}")
_ID = re.compile(r"[1-9][0-9]{0,18}")
_STATE = (
    "SELECT id, state, task, task_percent, created, updated, exception, owner FROM job WHERE id = ?"  # the hot read
)


class Root:
    """``/``: says that the service runs."""

    exposed = True

    def __init__(self, settings: Settings, volume: Volume) -> None:
        self.upload = self.ingest = RestUpload(settings, volume)
        self.move = RestMove(settings, volume)
        self.get_state = RestIngestState()
        self.jobs = RestJobs(settings)
        self.files = Files(settings, volume)

    @public
    def GET(self) -> dict[str, str]:
        """Answer as Pacifica's ingest does."""
        return {"message": "Pacifica Ingest Up and Running"}


class RestUpload:
    """``POST /upload`` and ``POST /ingest``: a tar bundle as raw body, any content type."""

    exposed = True

    def __init__(self, settings: Settings, volume: Volume) -> None:
        self.settings, self.volume = settings, volume

    def POST(self) -> dict[str, Any]:
        """Take the bundle and answer the state object of its job, FAILED for a fault in the bundle."""
        body = Body.of_request(self.settings.ingest.max_bytes, self.settings.server)
        headers, owner = cherrypy.serving.request.headers, rest.principal().name
        sent = declared(headers)
        request = Request(kind="upload", length=body.length, digests=sent.known())
        lease_seconds = self.settings.worker.lease_seconds
        with once(owner, parse(headers.get("Idempotency-Key")), request, lease_seconds) as (claim, begun):
            if begun is not None:
                abandon(int(begun))
            job = take(body, owner, self.volume, self.settings.ingest, trace.current(), sent, claim)
        return state_object(job.id, rest.principal())


class RestMove:
    """``POST /move``: a JSON list of files of this machine, each with its ``source``."""

    exposed = True

    def __init__(self, settings: Settings, volume: Volume) -> None:
        self.settings, self.volume = settings, volume

    def POST(self) -> dict[str, Any]:
        """Take the list and answer the state object of its job; a worker moves the files."""
        require_type(JSON_TYPES)
        body = Body.of_request(self.settings.ingest.max_metadata_bytes, self.settings.server)
        headers, owner = cherrypy.serving.request.headers, rest.principal().name
        sent = declared(headers)
        request = Request(kind="move", length=body.length, digests=sent.known())
        lease_seconds = self.settings.worker.lease_seconds
        with once(owner, parse(headers.get("Idempotency-Key")), request, lease_seconds) as (claim, _):
            job = take_list(body, owner, self.volume, self.settings.ingest, trace.current(), sent, claim)
        return state_object(job.id, rest.principal())


class RestIngestState:
    """``GET /get_state?job_id=N``."""

    exposed = True

    def GET(self, job_id: str = "") -> dict[str, Any]:
        """Answer the state object of job ``job_id``; 404 when it is unknown or somebody else's."""
        if not _NUMBER.fullmatch(job_id):  # int() would take " 1", "1_0" and the digits of every script
            raise BadRequest(f"job_id must be a whole number, not {job_id[:40]!r}.")
        return state_object(int(job_id), rest.principal())


class RestJobs:
    """``/jobs`` lists jobs, ``/jobs/<id>`` is one of them."""

    exposed = True

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def GET(
        self,
        job_id: str = "",
        *,
        state: str = "",
        since: str = "",
        until: str = "",
        owner: str = "",
        limit: str = "",
        cursor: str = "",
    ) -> dict[str, Any]:
        """Answer one job with its log, or a page of one's own jobs; an administrator sees everybody's."""
        asking = rest.principal()
        if job_id:
            return self._about(_owned(job_id))
        if owner and not asking.owns(owner):
            raise Forbidden("Only an administrator may list another's jobs.", parameter="owner")
        whose = owner or (None if asking.administrator else asking.name)
        return page(whose, state=state, since=since, until=until, limit=limit, cursor=cursor)

    def DELETE(self, job_id: str) -> dict[str, Any]:
        """Cancel the job: 200 where that is done, 202 where its worker still has to heed it, 409 where it is over."""
        job = _owned(job_id)
        job.ask_cancel(rest.principal().name)
        return self._asked(job)

    def POST(self, job_id: str, action: str) -> dict[str, Any]:
        """``/jobs/<id>/cancel`` does what DELETE does, for clients that cannot send that; once under a key."""
        if action != "cancel":
            raise NotFound()
        job, owner = _owned(job_id), rest.principal().name
        key = parse(cherrypy.serving.request.headers.get("Idempotency-Key"))
        request = Request(kind="cancel", digests={"job": job_id})
        with once(owner, key, request, self.settings.worker.lease_seconds) as (claim, _):
            if claim.same is None:
                with orm.transaction():
                    job.ask_cancel(owner)
                    claim.keep(job.id)
        return self._asked(_owned(job_id))

    def _asked(self, job: Job) -> dict[str, Any]:
        if job.state not in Job.FINAL:
            cherrypy.serving.response.status = 202
        return self._about(job)

    def _about(self, job: Job) -> dict[str, Any]:
        return about(job, self.settings.ingest.keep_failed_days)


def _owned(job_id: str) -> Job:
    """Return the job that the path names, if whoever asks may see it."""
    if not _ID.fullmatch(job_id):
        raise NotFound(f"job ID {job_id[:40]} does not exist.")
    asking = rest.principal()
    return find(int(job_id), None if asking.administrator else asking.name)


def state_object(job_id: int, principal: Principal | None = None) -> dict[str, Any]:
    """Return a job in Pacifica's words; ``task_percent`` is text, times are UTC parted by a space.

    NotFound when there is none, or when it is not the ``principal``'s (None: an administrator at the command line).
    """
    found = orm.rows(_STATE, job_id) if -(1 << 63) <= job_id < 1 << 63 else []
    if not found or (principal is not None and not principal.owns(found[0][7])):
        raise NotFound(f"job ID {job_id} does not exist.", job_id=job_id)
    id, state, task, percent, created, updated, exception, _ = found[0]
    return {
        "job_id": id,
        "state": "FAILED" if state in ("FAILED", "CANCELLED") else "OK",
        "task": task,
        "task_percent": f"{percent:.5f}",
        "complete": state in ("ARCHIVED", "FAILED", "CANCELLED"),
        "updated": utc(updated),
        "created": utc(created),
        "exception": exception,
    }
