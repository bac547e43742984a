"""What happens to a job next, and who has to do it: every state has an answer, nothing waits for ever."""

from typing import Any

from .orm import Job, State

NOBODY, CLIENT, WORKER, ADMINISTRATOR = "nobody", "client", "worker", "administrator"


def next_step(job: Job, now: float, keep_failed_days: float, spared: int = 0) -> dict[str, Any]:
    """Return ``{who, what, at}``: who acts next, a sentence on what is done, and until or from when, or null.

    ``now`` is the database's clock; ``at`` is epoch seconds.  ``spared`` files need not be sent to the archive again.
    """
    if job.state in Job.FINAL:
        return _ended(job, now, keep_failed_days, spared)
    if job.cancel is not None:
        return _step(WORKER, f"It is cancelled, as {job.cancel} asked, at the worker's next step.", job.lease_until)
    if job.state == State.RECEIVING:
        return _step(CLIENT, "The body is arriving; without a byte until then the job fails.", job.deadline)
    if job.lease_until is not None and job.lease_until >= now:
        return _step(WORKER, "A worker is at it; should it die, another takes over then.", job.lease_until)
    if job.not_before > now:
        return _step(WORKER, "An attempt failed for a reason that may pass; it is tried again then.", job.not_before)
    return _step(WORKER, "It waits for a worker, which is called again until one comes.", None)


def _ended(job: Job, now: float, keep_failed_days: float, spared: int) -> dict[str, Any]:
    if job.state == State.ARCHIVED:
        return _step(NOBODY, f"Its files are in the archive, as transaction {job.id}.", None)
    if job.state == State.CANCELLED:
        return _step(CLIENT, "Nothing was archived; send the files again if they are wanted after all.", None)
    kept = job.updated + keep_failed_days * 86400
    if job.spool is not None and job.keep_until is None and kept > now:
        told = f"Its bytes are kept until then: pacifica-ingest-cmd job retry {job.id}"
        less = (
            f"; with --failed, {spared} files that the archive was found to keep are not sent again" if spared else ""
        )
        return _step(ADMINISTRATOR, f"{told}{less}.", kept)
    return _step(CLIENT, "Nothing was archived; mend what `faults` names and send the files again.", None)


def _step(who: str, what: str, at: float | None) -> dict[str, Any]:
    return {"who": who, "what": what, "at": at}
