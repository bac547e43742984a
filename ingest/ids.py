"""Where ids come from: the counters of our database, or Pacifica's uniqueid (``[uniqueid] url``)."""

from functools import lru_cache

from ..common.counter import allocate, is_id, reserve_beyond
from ..common.errors import ServiceError
from ..common.neighbour import Neighbour, json_of
from .config import Settings
from .config import settings as current

LOST_SECONDS = 60.0  # a worker's patience with uniqueid, before its job is put off


class BadIds(ServiceError):
    """The uniqueid service answers with something that is no range of ids."""

    status = 503
    code = "bad_ids"
    retryable = True
    retry_after = 10


def job_id() -> int | None:
    """Ask uniqueid for a job's id, within what a client's request may wait; None where ids are our own."""
    settings = current()
    return _asked(settings, 1, "upload_job", settings.neighbours.request_seconds)


def file_ids(settings: Settings, count: int) -> int | None:
    """Ask uniqueid for ``count`` ids of files and return the first; None where ids are our own."""
    return _asked(settings, count, "file", LOST_SECONDS)


def given(mode: str, id: int | None, count: int = 1) -> int:
    """Return ``id``, the first of ``count`` that uniqueid gave, or take ours where it is None; in a transaction.

    Our own counter stays above what others gave: a site that gives up its uniqueid begins where that ended.
    """
    if id is None:
        return allocate(mode, count)
    reserve_beyond(mode, id + count - 1)
    return id


def _asked(settings: Settings, count: int, mode: str, seconds: float) -> int | None:
    if not settings.uniqueid.url:
        return None
    service = _service(settings)
    answer = service.ask("GET", f"/getid?range={count}&mode={mode}", within=seconds)
    said = json_of(answer, service)
    first = said.get("startIndex") if isinstance(said, dict) else None
    if answer.status != 200 or not isinstance(first, int) or not is_id(first) or not is_id(first + count):
        raise BadIds(service=service.name)
    return first


@lru_cache(maxsize=8)
def _service(settings: Settings) -> Neighbour:
    return Neighbour("The uniqueid service", settings.uniqueid.url, settings.neighbours)
