"""The Celery side of ingest: ``celery -A pacifica.ingest.tasks worker``."""

from ..common import worker
from ..common.timekeeper import timekeeper
from ..common.volume import Volume, open_volume
from . import idempotency, resumable
from .archiving import archive
from .config import settings
from .courier import Courier
from .orm import Job, State, Upload, UploadState
from .reaper import Strays, clear_spool, end_silent
from .recall import take_back

app = worker.make_app("ingest", settings)


@app.task(name="pacifica.ingest.ingest")
def ingest(job_id: int, attempt: int) -> None:
    """Archive the spooled bundle of job ``job_id``, as long as its attempt is still ``attempt``."""
    with worker.working(Job, job_id, attempt, settings().worker) as job:
        archive(job, volume(), settings())


def volume() -> Volume:
    """The archive volume of the configuration in force."""
    return open_volume(settings().archive)


app.duties += [
    timekeeper(Job, [State.RECEIVING, State.RECEIVED, State.VERIFIED, State.ARCHIVING], settings),
    timekeeper(Upload, [UploadState.OPENED], settings),
    worker.ringer(Job, "pacifica.ingest", "pacifica.ingest.ingest", [State.RECEIVED, State.VERIFIED, State.ARCHIVING]),
    end_silent,
    lambda: clear_spool(volume(), settings().ingest.keep_failed_days, settings().ingest.move_roots),
    Strays(volume),
    lambda: take_back(settings()),
    lambda: resumable.expire(volume(), settings().ingest),
    lambda: resumable.forget(settings().ingest.remember_days),
    lambda: idempotency.forget(settings().ingest.remember_days),
    Courier(settings),
]
