"""From a spooled bundle to files in the archive: what a worker does for a job.

Each step may run twice.  The bundle becomes a pack of the same name by a rename; its rows are written under an
unpublished pack, by the attempt that the ledger fences; everything becomes visible with the job's last move.
"""

from collections.abc import Iterator
from typing import Any

from ..common import draft, orm
from ..common.archive import is_remote
from ..common.catalog import record
from ..common.errors import ServiceError
from ..common.repetition import note
from ..common.sidecar import Sidecar
from ..common.volume import Volume, keep
from .approval import admit
from .bundle import Limits
from .config import Settings
from .declared import Bundle, check
from .events import announce_archived
from .gathering import gather, take_away
from .ids import file_ids, given
from .orm import Job, Kind, State, Task
from .registry import register
from .repeated import Digests
from .rereading import metadata_sum
from .shipping import elsewhere, settle, ship
from .spooled import Spooled

LONG_FILES, LONG_BYTES = 1000, 256 << 20


def archive(job: Job, volume: Volume, settings: Settings) -> None:
    """Take a claimed ``job`` from where it stands (RECEIVED, VERIFIED or ARCHIVING) to ARCHIVED.

    Raises BundleError for what the client did; anything else is ours and may be tried again.
    """
    spooled = Spooled(volume, job.spool)
    if job.kind == Kind.MOVE:
        gather(job, spooled, volume, settings)
    bundle, blocks = _verify(job, spooled, settings)
    remote = is_remote(settings.archiveinterface.url)
    asked = file_ids(settings, bundle.count) if job.first_id is None else None
    ours = not settings.policy.ingest_url  # a policy that is asked at once needs no commit of its own
    if ours:
        _approve(job, bundle, settings)
    with orm.transaction():  # a pack is drafted in the commit that gives its ids: nobody puts to them from then on
        ids: dict[str, Any] = {"first_id": given("file", asked, bundle.count)} if job.first_id is None else {}
        if job.state == State.RECEIVED:
            job.move(State.VERIFIED, task=Task.METADATA, task_percent=100.0, files_total=bundle.count, **ids)
        elif ids:
            job.progress(**ids)
        size, kind = spooled.bundle.stat().st_size, "remote" if remote else "bundle"
        pack = draft.begin_pack(job.spool, kind, job.id, job.attempt, job.first_id, bundle.count, size, job.owner)
        if ours:
            _begin(job)
    if not ours:
        _approve(job, bundle, settings)
        _begin(job)
    job.heed()
    digests = Digests()
    rows = digests.noted(bundle.rows(job.first_id))
    if remote:
        ship(job, bundle, spooled.bundle, settings)
        rows = elsewhere(rows)
    elif spooled.path.exists():
        extra = {"metadata": metadata_sum(bundle.index)}  # a ledger made anew must know whether it is still sound
        Sidecar.of(pack, blocks, order=bundle.order, extra=extra).write(volume)
        keep(spooled.path, spooled.pack)
    if _is_long(job) or remote or settings.metadata.ingest_url:
        held = draft.add_files(pack, rows, job.fence)
        job.step(Task.CATALOG, 0.0, files_done=bundle.count)
        register(job, bundle, settings)
        same = digests.repeated(job, bundle, settings)
        with orm.transaction():
            _finish(job, bundle, same)
            if remote:
                settle(job)
            draft.publish(pack, held)
    else:
        few = list(rows)
        same = digests.repeated(job, bundle, settings)
        with orm.transaction():
            _finish(job, bundle, same)  # first: it locks the job's row, as a fence would
            draft.publish(pack, draft.add_files(pack, few, lambda: None))
    if job.kind == Kind.MOVE:
        take_away(job, spooled, volume, settings.ingest.move_roots)
    spooled.discard()


def _verify(job: Job, spooled: Spooled, settings: Settings) -> tuple[Bundle, bytes]:
    """Hold the members against metadata.txt; read again only what was hashed by another algorithm than declared."""
    first_time = job.state == State.RECEIVED and _is_long(job)
    if first_time and job.kind == Kind.UPLOAD:
        job.step(Task.OPEN, 0.0)
    limits = Limits.of(settings.ingest)
    index, blocks = spooled.load(limits, settings.ingest.hashtype)
    if first_time:
        job.step(Task.METADATA, 0.0)
    with spooled.bundle.open("rb", buffering=0) as file:

        def read(offset: int, size: int) -> Iterator[bytes]:
            file.seek(offset)
            while size > 0 and (piece := file.read(min(size, 1 << 20))):
                size -= len(piece)
                yield piece

        return check(index, read, limits), blocks


def _approve(job: Job, bundle: Bundle, settings: Settings) -> None:
    if job.state not in (State.RECEIVED, State.VERIFIED):
        return
    try:
        admit(job, bundle, settings)
    except ServiceError:
        job.step(Task.POLICY, 0.0)  # where it failed; that it begins is not shown, as in the original
        raise


def _begin(job: Job) -> None:
    if job.state == State.VERIFIED:
        job.move(State.ARCHIVING, task=job.files_task, task_percent=0.0)


def _is_long(job: Job) -> bool:
    """Tell whether the steps of a job take longer than the commits that would show them."""
    return (job.files_total or 0) > LONG_FILES or (job.bytes_total or 0) > LONG_BYTES


def _finish(job: Job, bundle: Bundle, same: dict[str, Any]) -> None:
    """Move the job to ARCHIVED and tell of it, inside the transaction that shows its files to the world."""
    # keeps its spool's name: the reaper looks there
    job.move(State.ARCHIVED, task=Task.CATALOG, task_percent=100.0, files_done=bundle.count)
    record(
        job.id,
        owner=job.owner,
        **bundle.transaction,
        key_values=bundle.key_values,
        file_key_values=bundle.file_key_values(job.first_id),
    )
    note(job.id, same)
    announce_archived(job, bundle.transaction, bundle.count, bundle.total_bytes, same)
