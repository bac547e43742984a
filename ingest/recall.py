"""What was sent to a remote archive for a job that came to nothing is deleted there (docs/ingest.md#retry).

A PUT may still be under way when its file is deleted, by a worker that was taken for dead or within the archive: each
deletion is made once more after an hour, before it is forgotten.
"""

import logging
import time
from collections.abc import Sequence
from typing import Any

from ..common import orm
from ..common.archive import is_remote
from ..common.errors import ServiceError
from .config import Settings
from .orm import Job, State
from .registry import DUTY_SECONDS, RegistrationRefused, may_be_there
from .shipment import LAST, SENDING, SOUND, TAKING_BACK, TO_DELETE, WATCHED, Shipped, archive_of

log = logging.getLogger(__name__)

BATCH = 50  # files of one pass
REST_SECONDS = 10.0
LISTED_SECONDS = 60.0
WATCH_SECONDS = 3600.0  # after the job's end

_OVER = Job.state.in_([State.FAILED, State.CANCELLED])
_ENDED = Job.state.in_(list(Job.FINAL))


def take_back(settings: Settings) -> int:
    """Delete from the archive what jobs that failed or were cancelled have left there; the sweeper's duty.

    At once, but for what is sound of a job that a retry may complete: that stays for ``[ingest] keep_sent_hours``.
    """
    if not is_remote(settings.archiveinterface.url) or time.monotonic() < _rest.until:
        return 0
    taken = 0
    owes = _owner(TAKING_BACK) | (_given_up(settings) & _owner(SOUND)) | (_OVER & _owner(SENDING))
    owes |= _watched() & _owner(WATCHED)
    for job in list(Job.select().where(owes & Job.id.not_in(_rest.listed())).limit(BATCH)):
        try:
            taken += _take_back(job, settings)
        except ServiceError as error:  # it is away, and the sweeper has other duties
            log.warning("job %s: files remain in the archive for now: %s", job.id, error)
            _rest.until = time.monotonic() + REST_SECONDS
            break
    return taken


def watch(job: Job, ids: Sequence[int]) -> None:
    """Have files watched that this stale attempt of ``job`` has sent, in case nobody knows of them any more."""
    with orm.transaction():
        held = Job.select().where(Job.id == job.id)
        now = next(iter(held.for_update() if orm.is_postgres() else held), None)
        if now is None:
            return
        # what it has archived is a newer attempt's: the same files
        archived = range(now.first_id, now.first_id + now.files_total) if now.state == State.ARCHIVED else range(0)
        known = {id for (id,) in Shipped.select(Shipped.id).where(Shipped.id.in_(ids)).tuples()}
        lost = [id for id in ids if id not in known and id not in archived]
        orm.insert_rows(Shipped, ("id", "job", "attempt", "state"), [(id, job.id, job.attempt, WATCHED) for id in lost])


def _given_up(settings: Settings) -> Any:
    """Tell of a job whether nothing that was sent for it is of use to a retry any more.

    Of one whose metadata was refused nothing is, as long as the bundle is this one: a retry may send it again.
    """
    late = Job.updated < orm.now() - settings.ingest.keep_sent_hours * 3600
    final = Job.spool.is_null() | Job.keep_until.is_null(False) | (Job.code == RegistrationRefused.code)
    return (Job.state == State.CANCELLED) | ((Job.state == State.FAILED) & (late | final))


def _watched() -> Any:
    """Tell of a job whether it ended so long ago that nothing can be under way for it any more."""
    return _ENDED & (Job.updated < orm.now() - WATCH_SECONDS)


def _owner(state: str) -> Any:
    return Job.id.in_(Shipped.select(Shipped.job).where(Shipped.state == state).distinct())


class _Rest:
    """Until when this process leaves alone an archive that did not answer, and jobs that the catalogue lists."""

    def __init__(self) -> None:
        self.until = 0.0
        self.jobs: dict[int, float] = {}

    def listed(self) -> list[int]:
        """Return the jobs whose files have to stay for now."""
        self.jobs = {job: until for job, until in self.jobs.items() if until > time.monotonic()}
        return list(self.jobs)


_rest = _Rest()


def _take_back(job: Job, settings: Settings) -> int:
    mine = Shipped.job == job.id
    if job.state != State.ARCHIVED and may_be_there(job.id, settings):
        log.error("job %s failed, but the metadata service lists it: its files stay; `retry` completes it", job.id)
        _rest.jobs[job.id] = time.monotonic() + LISTED_SECONDS
        return 0
    with orm.transaction():  # from now on no retry sends them
        held = Job.select().where((Job.id == job.id) & _ENDED)
        if list(held.for_update() if orm.is_postgres() else held):
            for test, now, then in (
                (_OVER, SENDING, TAKING_BACK), (_given_up(settings), SOUND, TAKING_BACK), (_watched(), WATCHED, LAST)
            ):  # fmt: skip
                here = Job.select(Job.id).where((Job.id == job.id) & test)
                Shipped.update(state=then).where((Shipped.state == now) & Shipped.job.in_(here)).execute()
    archive, taken = archive_of(settings), 0
    for row in list(Shipped.select().where(mine & Shipped.state.in_(TO_DELETE)).limit(BATCH)):
        archive.discard(row.id, DUTY_SECONDS)
        here = (Shipped.id == row.id) & (Shipped.state == row.state)
        (Shipped.delete() if row.state == LAST else Shipped.update(state=WATCHED)).where(here).execute()
        taken += 1
    return taken
