"""Pacifica's metadata service (``[metadata] ingest_url``): a job's transaction is entered there before here.

Its PUT is neither atomic nor repeatable, so after an answer that was lost it is asked what it has.
"""

from functools import lru_cache

from ..common.errors import NeighbourAway, ServiceError
from ..common.neighbour import Answer, Neighbour, json_of
from .config import Settings
from .declared import Bundle
from .document import document
from .orm import Job

DUTY_SECONDS = 5.0  # what the sweeper waits for it


class RegistrationRefused(ServiceError):
    """The metadata service does not take this transaction."""

    status = 502
    code = "registration_refused"


class RegistrationTorn(ServiceError):
    """The metadata service has this transaction with other files than ours: an administrator has to remove it there."""

    status = 502
    code = "registration_torn"


def register(job: Job, bundle: Bundle, settings: Settings) -> None:
    """Enter the transaction of ``job``, unless an earlier attempt did; nothing where the catalogue is our own."""
    if not settings.metadata.ingest_url:
        return
    service = _service(settings)
    tried = job.tries > 1 or job.attempt > 1
    if tried and _is_there(job, bundle.count, settings):
        return
    with document(job, bundle) as text:
        try:
            answer = service.once("PUT", body=text.again, headers=text.headers)
        except NeighbourAway:
            if _is_there(job, bundle.count, settings):
                return
            raise
    if answer.status == 200 and _succeeded(answer):
        return
    if _is_there(job, bundle.count, settings):
        return
    raise RegistrationRefused(f"The metadata service does not take this transaction ({answer.status}).")


def may_be_there(job_id: int, settings: Settings) -> bool:
    """Tell whether the metadata service has transaction ``job_id``, or a file of it; NeighbourAway if it is away."""
    if not settings.metadata.ingest_url:
        return False
    return bool(_files(job_id, settings, DUTY_SECONDS)) or _has(job_id, settings, DUTY_SECONDS)


def _is_there(job: Job, count: int, settings: Settings) -> bool:
    if not _has(job.id, settings):
        return False
    listed = sorted(str(file.get("_id")) if isinstance(file, dict) else "" for file in _files(job.id, settings))
    if listed != sorted(str(job.first_id + position) for position in range(count)):
        raise RegistrationTorn(transaction=job.id)
    return True


def _has(job_id: int, settings: Settings, within: float | None = None) -> bool:
    return bool(_asked(f"/transactions?_id={job_id}", settings, within))


def _files(job_id: int, settings: Settings, within: float | None = None) -> list[object]:
    return _asked(f"/files?transaction={job_id}", settings, within)


def _asked(path: str, settings: Settings, within: float | None) -> list[object]:
    url = settings.metadata.ingest_url.rstrip("/").removesuffix("/ingest")
    service = Neighbour("The metadata service", url, settings.neighbours)
    answer = service.ask("GET", path, within=within)
    if answer.status == 404:
        return []
    said = json_of(answer, service)
    if answer.status != 200 or not isinstance(said, list):
        raise service.away(f"{service.name} answers {answer.status}.")
    return said


def _succeeded(answer: Answer) -> bool:
    try:
        return bool(answer.json().get("status") == "success")
    except (ValueError, AttributeError):
        return False


@lru_cache(maxsize=8)
def _service(settings: Settings) -> Neighbour:
    return Neighbour("The metadata service", settings.metadata.ingest_url, settings.neighbours)
