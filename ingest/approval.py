"""Whether a bundle may come in: by the embedded policy, or by Pacifica's (``[policy] ingest_url``)."""

from functools import lru_cache

from ..common import policy
from ..common.neighbour import Neighbour, json_of
from ..common.policy import PolicyRefused
from .config import Settings
from .declared import Bundle
from .document import document
from .orm import Job


def admit(job: Job, bundle: Bundle, settings: Settings) -> None:
    """Raise PolicyRefused, in the policy's words, when the bundle of ``job`` may not come in."""
    if not settings.policy.ingest_url:
        policy.admit(settings.policy.mode, bundle.transaction)
        return
    service = _service(settings)
    with document(job, bundle) as text:
        answer = service.ask("POST", body=text.again, headers=text.headers | {settings.auth.header: job.owner})
    said = json_of(answer, service)
    if not isinstance(said, dict) or said.get("status") != "success":
        reason = said.get("message") if isinstance(said, dict) else None
        raise PolicyRefused(str(reason or "The policy does not take this bundle.")[:2000])


@lru_cache(maxsize=8)
def _service(settings: Settings) -> Neighbour:
    return Neighbour("The policy service", settings.policy.ingest_url, settings.neighbours)
