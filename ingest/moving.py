"""POST /move: a list of files of this machine, taken as a job; a worker gathers them (docs/ingest.md#move)."""

import hashlib
from typing import Any

from ..common import orm
from ..common.errors import BadJson, Forbidden
from ..common.integrity import Integrity
from ..common.metadata import FILES
from ..common.outbox import ring
from ..common.source import Outside, below
from ..common.spool import receive
from ..common.state import RING_SECONDS
from ..common.streams import Body
from ..common.volume import Volume, new_name
from .account import shown
from .config import Ingest
from .declared import MAX_FAULTS
from .falsehood import BadMetadataJson, MetadataError
from .gathering import mapped
from .idempotency import Claim
from .ids import given, job_id
from .metadata import entries
from .orm import Job, Kind, State, Task
from .spooled import Spooled


class MoveForbidden(Forbidden):
    """Files are moved from below the folders of [ingest] move_roots only."""

    code = "move_forbidden"


def take_list(
    body: Body, owner: str, volume: Volume, settings: Ingest, trace: str | None, sent: Integrity, claim: Claim
) -> Job:
    """Receive the JSON list in ``body`` as a new job of ``owner`` and return the job, RECEIVED.

    Where ``claim`` stands for an earlier request of the same list, the job is that one's (KeyReused for another list).

    Raises MoveForbidden, before the body where no folder is configured, or when a source is outside of them; BadJson
    when the body is no JSON list; ChecksumMismatch when it is not what was ``sent``; NoSpace, ClientAborted.  None of
    them leaves a job.
    """
    if not settings.move_roots:
        raise MoveForbidden("Moving is not switched on here: [ingest] move_roots names no folder.")
    if claim.same is not None:
        return Job.get_by_id(int(claim.same))
    spooled, content = Spooled(volume, new_name()), hashlib.sha256()

    def feed(view: memoryview) -> None:
        sent.update(view)
        content.update(view)

    with volume.reserve(body.length) as room:
        size = receive(body.readinto, spooled.request, feed, on_progress=room.written).size
    try:
        sent.check()
        if claim.unsure:
            spooled.discard()
            return Job.get_by_id(int(claim.compare(content.hexdigest())))
        files = _look(spooled, size, settings.move_roots)
        number = job_id()
        with orm.transaction():
            job = Job.start(
                id=given("upload_job", number),
                kind=Kind.MOVE,
                state=State.RECEIVED,
                task=Task.UPLOADING,
                task_percent=100.0,
                owner=owner,
                trace=trace,
                spool=spooled.path.name,
                files_total=files,
                ring_at=orm.clock() + RING_SECONDS,
            )
            claim.keep(job.id, content.hexdigest())
            ring("pacifica.ingest", "pacifica.ingest.ingest", job.id, job.attempt)
    except BaseException:
        spooled.discard()
        raise
    return job


def _look(spooled: Spooled, size: int, roots: tuple[str, ...]) -> int:
    """Read the list as far as it can be judged without the files, and return how many it names."""
    files, outside = 0, list[dict[str, Any]]()
    try:
        if not size:
            raise BadMetadataJson("The list is empty.")
        for number, entry in enumerate(entries(mapped(spooled.request))):
            if isinstance(entry, MetadataError) or entry.destinationTable != FILES:
                continue  # the worker says what is wrong with it
            files += 1
            try:
                if isinstance(entry.source, str):
                    below(entry.source, roots)
            except Outside as error:
                fault = {"entry": number, "source": shown(str(entry.source)), "code": error.code}
                outside.append(fault | {"message": error.message})
                if len(outside) >= MAX_FAULTS:
                    break
    except BadMetadataJson as error:
        raise BadJson("Invalid JSON document", reason=error.message.replace("metadata.txt", "the list")) from None
    if outside:
        raise MoveForbidden(faults=outside)
    return files
