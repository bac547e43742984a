"""Ends what nobody else will: uploads that went silent, and the spool of jobs that are over."""

import logging
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG

from ..common import draft, orm
from ..common.batch import batches
from ..common.errors import ClientAborted, IllegalMove
from ..common.volume import Volume
from .gathering import take_away
from .orm import Job, Kind, State, Upload
from .spooled import Spooled

log = logging.getLogger(__name__)

BATCH = 100  # rows of one pass
OVER = (State.ARCHIVED, State.FAILED, State.CANCELLED)
STRAY_DAYS, STRAY_SECONDS = 7.0, 3600.0  # how old a file is that nobody knows, and how often they are looked for


def end_silent() -> int:
    """Fail each job in RECEIVING whose deadline has passed: its request is gone, and so is the body's rest."""
    silent = Job.select().where((Job.state == State.RECEIVING) & (Job.deadline < orm.now())).limit(BATCH)
    ended = 0
    for job in list(silent):
        try:
            job.failed(ClientAborted("The upload stopped before its end.", job_id=job.id))
        except IllegalMove:
            continue  # it went on after all
        ended += 1
    return ended


def clear_spool(volume: Volume, keep_failed_days: float, move_roots: Sequence[str] = ()) -> int:
    """Remove what jobs that are over have left on disk, once it need not be kept any longer.

    A move that was archived leaves its sources where its worker died before it could remove them.
    """
    oldest = orm.now() - keep_failed_days * 86400
    useless = (Job.state == State.ARCHIVED) | (Job.keep_until < orm.now()) | (Job.updated < oldest)
    over = Job.spool.is_null(False) & Job.state.in_(OVER)
    jobs = list(Job.select().where(over & useless).limit(BATCH))
    if not jobs:
        return 0
    draft.drop_unpublished([job.id for job in jobs], volume)
    cleared: list[str] = []
    try:
        for job in jobs:
            spooled = Spooled(volume, job.spool)
            if job.state == State.ARCHIVED and job.kind == Kind.MOVE:
                take_away(job, spooled, volume, move_roots)
            spooled.discard()
            cleared.append(job.spool)
    finally:
        # the names go last, so that a pass that was killed is made again; a retry in between has another name or state
        Job.update(spool=None).where(Job.spool.in_(cleared) & Job.state.in_(OVER)).execute()
        log.info("%d spooled bundles cleared", len(cleared))
    return len(cleared)


class Strays:
    """The duty that removes files from the spool of ``volume()`` that no job or upload names, once they are old.

    A writer that was killed leaves them.  Whoever is at work writes to his file, or is done with it soon.
    """

    def __init__(self, volume: Callable[[], Volume]) -> None:
        """Look at once, then each hour."""
        self.volume, self.next = volume, 0.0

    def __call__(self) -> int:
        """Look, when it is time again."""
        if time.monotonic() < self.next:
            return 0
        self.next = time.monotonic() + STRAY_SECONDS
        volume = self.volume()
        return clear_strays(volume) + drop_orphans(volume)


def drop_orphans(volume: Volume) -> int:
    """Take back the packs of no job that a writer has left unpublished, with their bytes on ``volume``."""
    dropped = 0
    for pack in draft.orphans(STRAY_DAYS * 86400):
        log.warning("pack %s was never published and is removed", pack.name)
        draft.abandon(pack, volume)
        dropped += 1
    return dropped


def clear_strays(volume: Volume) -> int:
    """Remove the files in the spool of ``volume`` that are old and that no job or upload names."""
    oldest = time.time() - STRAY_DAYS * 86400
    old = [path.name for path in volume.spool.iterdir() if _changed(path) < oldest]
    cleared = 0
    for names in batches(old, BATCH):
        roots = [name[:32] for name in names]
        known = {row.spool for model in (Job, Upload) for row in model.select().where(model.spool.in_(roots))}
        for name in names:
            if name[:32] not in known:
                log.warning("spool: %s belongs to no job or upload and is removed", name)
                (volume.spool / name).unlink(missing_ok=True)
                cleared += 1
    return cleared


def _changed(path: Path) -> float:
    """Return when a file was changed last; never, for what is no file, or is gone by now: the spool lives."""
    with suppress(FileNotFoundError):
        facts = path.stat()
        return facts.st_mtime if S_ISREG(facts.st_mode) else math.inf
    return math.inf
