"""From a spooled bundle to files in the archive: what a worker does for a job.

Each step may run twice.  The bundle becomes a pack of the same name by a rename; its rows are written under an
unpublished pack, by the attempt that the ledger fences; everything becomes visible with the job's last move.
"""

from collections.abc import Iterator

from ..common import ledger, orm
from ..common.archive import is_remote
from ..common.catalog import record
from ..common.errors import ServiceError
from ..common.pack import Sidecar
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
    with orm.transaction():  # a pack is drafted in the commit that gives its ids: nobody puts to them from then on
        if job.state == State.RECEIVED:
            job.move(State.VERIFIED, task=Task.METADATA, task_percent=100.0, files_total=bundle.count)
        if job.first_id is None:
            job.progress(first_id=given("file", asked, bundle.count))
        size, kind = spooled.bundle.stat().st_size, "remote" if remote else "bundle"
        pack = ledger.begin_pack(job.spool, kind, job.id, job.attempt, job.first_id, bundle.count, size, job.owner)
    if job.state == State.VERIFIED:
        _approve(job, bundle, settings)
        job.move(State.ARCHIVING, task=job.files_task, task_percent=0.0)
    job.heed()
    rows = bundle.rows(job.first_id)
    if remote:
        ship(job, bundle, spooled.bundle, settings)
        rows = elsewhere(rows)
    elif spooled.path.exists():
        Sidecar.of(pack, blocks, order=bundle.order).write(volume)
        keep(spooled.path, spooled.pack)
    at_once = not (_is_long(job) or remote or settings.metadata.ingest_url)
    if not at_once:
        ledger.add_files(pack, rows, job.fence)
        job.step(Task.CATALOG, 0.0, files_done=bundle.count)
        register(job, bundle, settings)
    with orm.transaction():
        if at_once:
            ledger.add_files(pack, rows, job.fence)
        if remote:
            settle(job)
        _publish(job, bundle, pack)
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
    try:
        admit(job, bundle, settings)
    except ServiceError:
        job.step(Task.POLICY, 0.0)  # where it failed; that it begins is not shown, as in the original
        raise


def _is_long(job: Job) -> bool:
    """Tell whether the steps of a job take longer than the commits that would show them."""
    return (job.files_total or 0) > LONG_FILES or (job.bytes_total or 0) > LONG_BYTES


def _publish(job: Job, bundle: Bundle, pack: ledger.Pack) -> None:
    """Show files, catalogue and job state to the world, inside the caller's transaction."""
    # keeps its spool's name: the reaper looks there
    job.move(State.ARCHIVED, task=Task.CATALOG, task_percent=100.0, files_done=bundle.count)
    ledger.publish(pack)
    record(
        job.id,
        owner=job.owner,
        **bundle.transaction,
        key_values=bundle.key_values,
        file_key_values=bundle.file_key_values(job.first_id),
    )
    announce_archived(job, bundle.transaction, bundle.count, bundle.total_bytes)
