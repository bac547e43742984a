"""What lies on the disk of the spool, for whom, and how much room is left (docs/ingest.md#disk)."""

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..common import orm
from ..common.volume import Volume
from .orm import Job, State, Upload

UPLOAD = "upload"  # a resumable one that is no job yet
NO_JOB = "no job"  # what the rows do not know: other services' bytes, and what a crash has left

NAME = re.compile(r"([0-9a-f]{32})(\.[0-9a-z.]+)?", re.ASCII)  # of a file in the spool


def report(volume: Volume) -> dict[str, Any]:
    """Return what an administrator wants to know of the volume; sizes in bytes, ages in seconds.

    ``spool`` has files, bytes and the number of jobs for each state of a job, under ``upload`` those of resumable
    uploads that are no job yet, and under ``no job`` the rest;
    ``reserved_bytes`` is what uploads that are arriving have announced and not sent yet, in all processes;
    ``unpublished`` are packs that belong to no finished job (yet).
    """
    states = {spool: (id, str(state)) for id, state, spool in _spooled()}
    spool: dict[str, dict[str, int]] = {}
    oldest: dict[str, Any] | None = None
    jobs: dict[str, set[int]] = {}
    for name, size, changed in files(volume.spool):
        match = NAME.fullmatch(name)
        id, state = states.get(match[1], (None, NO_JOB)) if match else (None, NO_JOB)
        entry = spool.setdefault(state, {"jobs": 0, "files": 0, "bytes": 0})
        entry["files"] += 1
        entry["bytes"] += size
        if id is not None:
            jobs.setdefault(state, set()).add(id)
            entry["jobs"] = len(jobs[state])
        age = max(0, round(time.time() - changed))
        if oldest is None or age > oldest["age_seconds"]:
            oldest = {"job_id": id, "state": state, "file": name, "age_seconds": age}
    packs, pack_bytes = orm.rows("SELECT count(*), COALESCE(sum(size), 0) FROM pack WHERE NOT published")[0]
    return {
        "free_bytes": volume.free(),
        "watermark_bytes": volume.min_free,
        "reserved_bytes": _reserved(),
        "takes_uploads": volume.free() - _reserved() > volume.min_free,
        "spool": spool,
        "oldest": oldest,
        "unpublished": {"packs": packs, "bytes": int(pack_bytes)},
    }


def files(folder: Path) -> Iterator[tuple[str, int, float]]:
    """Yield (name below ``folder``, bytes on disk, time of the last change) of every file there, links not followed."""
    for here, _, names in os.walk(folder):
        for name in names:
            path = Path(here) / name
            try:
                facts = path.lstat()
            except FileNotFoundError:
                continue  # the spool lives while we look at it
            yield str(path.relative_to(folder)), facts.st_blocks * 512, facts.st_mtime


def _spooled() -> Iterator[tuple[int | None, str, str]]:
    for (spool,) in Upload.select(Upload.spool).where(Upload.spool.is_null(False)).tuples():
        yield None, UPLOAD, spool
    yield from Job.select(Job.id, Job.state, Job.spool).where(Job.spool.is_null(False)).tuples()


def _reserved() -> int:
    sql = "SELECT COALESCE(sum(bytes_total - bytes_done), 0) FROM job WHERE state = ? AND bytes_total > bytes_done"
    return int(orm.rows(sql, State.RECEIVING)[0][0])
