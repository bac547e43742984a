"""What nobody else ends or removes: the spool of jobs that are over, and files that no job knows."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from pacifica.common import draft, orm
from pacifica.common.errors import ChecksumMismatch, ClientAborted, NoSpace
from pacifica.common.volume import Volume, new_name
from pacifica.ingest import orm as rows
from pacifica.ingest import reaper
from pacifica.ingest.orm import Job, State, open_job
from pacifica.ingest.reaper import STRAY_DAYS, Strays, clear_spool, clear_strays, end_silent


@pytest.fixture
def volume(sqlite: Any, tmp_path: Path) -> Volume:
    rows.SCHEMA.sync()
    return Volume(tmp_path / "archive", 0)


def spooled(volume: Volume, number: int, state: State = State.RECEIVING) -> Job:
    """Return a job with a bundle and what its scan found."""
    name = f"{number:032x}"
    for suffix in ("", ".index", ".blocks"):
        (volume.spool / (name + suffix)).write_bytes(b"x")
    job = open_job("somebody", name, 1, 600.0, None)
    for step in (State.RECEIVED, State.VERIFIED, State.ARCHIVING, State.ARCHIVED):
        if job.state != state:
            job.move(step)
    return job


def names(volume: Volume) -> list[str]:
    return sorted(path.name for path in volume.spool.iterdir())


def test_of_a_body_that_never_came_whole_nothing_is_kept(volume: Volume) -> None:
    job = spooled(volume, 1)
    job.progress(deadline=orm.clock() - 1)
    assert (end_silent(), clear_spool(volume, 7)) == (1, 1)
    assert names(volume) == []
    assert Job.get_by_id(job.id).code == ClientAborted.code


def test_a_bundle_that_failed_by_a_fault_of_ours_is_kept_for_some_days(volume: Volume) -> None:
    spooled(volume, 1, State.VERIFIED).failed(NoSpace())
    spooled(volume, 2, State.VERIFIED).failed(ChecksumMismatch())
    assert clear_spool(volume, 7) == 1
    assert names(volume) == [f"{1:032x}{suffix}" for suffix in ("", ".blocks", ".index")]
    assert clear_spool(volume, -1) == 1  # the days have passed
    assert names(volume) == []


def test_what_an_archived_job_could_not_remove_any_more_is_removed(volume: Volume) -> None:
    job = spooled(volume, 1, State.ARCHIVED)
    assert (clear_spool(volume, 7), clear_spool(volume, 7)) == (1, 0)
    assert names(volume) == []
    assert Job.get_by_id(job.id).spool is None


def test_old_files_that_no_job_names_are_removed(volume: Volume) -> None:
    spooled(volume, 1)
    for name in ("f" * 32, "e" * 32 + ".index", "d" * 32):
        (volume.spool / name).write_bytes(b"x")
    long_ago = time.time() - (STRAY_DAYS + 1) * 86400
    for name in names(volume):
        if name[0] != "d":
            os.utime(volume.spool / name, (long_ago, long_ago))
    strays = Strays(lambda: volume)
    assert (strays(), strays(), clear_strays(volume)) == (2, 0, 0)
    assert names(volume) == [*(f"{1:032x}{suffix}" for suffix in ("", ".blocks", ".index")), "d" * 32]


def test_a_file_that_goes_while_strays_are_looked_for_keeps_none_of_the_others(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    long_ago, looked = time.time() - (STRAY_DAYS + 1) * 86400, reaper._changed
    for letter in "def":
        path = volume.spool / (letter * 32)
        path.write_bytes(b"x")
        os.utime(path, (long_ago, long_ago))

    def changed(path: Path) -> float:
        if path.name[0] == "e":
            path.unlink()
        return looked(path)

    monkeypatch.setattr(reaper, "_changed", changed)
    assert clear_strays(volume) == 2
    assert names(volume) == []


def test_a_pack_of_no_job_that_was_never_published_is_removed_once_it_is_old(volume: Volume) -> None:
    drafts = [draft.begin_pack(new_name(), "file", None, 0, id, 1, 5, "ann") for id in (1, 2)]
    for pack in drafts:
        volume.pack_path(pack.name).parent.mkdir(parents=True, exist_ok=True)
        volume.pack_path(pack.name).write_bytes(b"bytes")
    long_ago = orm.clock() - (STRAY_DAYS + 1) * 86400
    orm.execute("UPDATE pack SET created = ? WHERE id = ?", long_ago, drafts[0].id)
    strays = Strays(lambda: volume)
    assert (strays(), strays()) == (1, 0)
    assert [volume.pack_path(pack.name).exists() for pack in drafts] == [False, True]
    assert orm.rows("SELECT id FROM pack") == [(drafts[1].id,)]
