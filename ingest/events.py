"""What ingest announces: jobs that reached their end (docs/events.md)."""

from typing import Any

from ..common.outbox import announce
from .config import settings
from .notice import owe

SOURCE = "/ingest"


def announce_archived(job: Any, about: dict[str, Any], count: int, total_bytes: int, same: dict[str, Any]) -> None:
    """Write ``pacifica.ingest.archived`` to the outbox, in the transaction that archives ``job``.

    ``about`` has submitter, project and instrument; ``count`` files hold ``total_bytes``; ``same`` says
    which of their contents were held before (``repeated``).
    """
    data = {
        "job": job.id,
        "transaction": job.id,
        "owner": job.owner,
        "submitter": about["submitter"],
        "project": about["project"],
        "instrument": about["instrument"],
        "files": {"first_id": job.first_id, "count": count, "bytes": total_bytes},
        "same_content": same,
    }
    announce("pacifica.ingest.archived", f"transactions/{job.id}", data, source=SOURCE, moment=job.updated)
    if settings().notifies:
        owe(job.id)


def announce_failed(job: Any) -> None:
    """Write ``pacifica.ingest.failed`` to the outbox, in the transaction that fails ``job``."""
    data = {"job": job.id, "owner": job.owner, "code": job.code, "message": job.exception, "step": job.task}
    announce("pacifica.ingest.failed", f"jobs/{job.id}", data, source=SOURCE, moment=job.updated)
