"""Files of a run in the archive: once each, whichever attempt comes to its end."""

import os

import pytest

from pacifica.common import orm
from pacifica.common.errors import IllegalMove
from pacifica.common.ledger import ArchivedFile
from pacifica.common.state import claim
from pacifica.common.volume import Volume
from pacifica.flow import keeping
from pacifica.flow.keeping import ArchiveShelf
from pacifica.flow.orm import SCHEMA, Data, DataFile, State


def archived(volume, data, path):
    """Archive the file ``path`` as the result of ``data``."""
    shelf = ArchiveShelf(volume)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        shelf.file("out.txt", descriptor)
        shelf.archive(data)
    finally:
        os.close(descriptor)
        shelf.discard()


@pytest.fixture
def volume(tmp_path):
    return Volume(tmp_path / "archive", 0)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "out.txt"
    path.write_bytes(b"result")
    return path


def is_kept(volume, id, attempt):
    """See that the archive has the file of ``id`` once, from ``attempt``, and nothing else."""
    (kept,) = DataFile.select()
    assert (kept.data, kept.attempt, [row.id for row in ArchivedFile.select()]) == (id, attempt, [kept.file_id])
    packs = [found for found in volume.packs.rglob("*") if found.is_file() and not found.suffix]
    assert [found.read_bytes() for found in packs] == [b"result"]
    assert [*volume.spool.iterdir()] == []


def another_ends(volume, id, attempt, path):
    """Let the lease of the one at work run out, and another archive its files."""
    Data.update(lease_until=1.0).where(Data.id == id).execute()
    with claim(Data, id, attempt, seconds=60) as other:
        archived(volume, other, path)


def test_taking_over_is_given_up_when_the_run_is(volume, path):
    class Stopped(Exception):
        pass

    shelf, asked = ArchiveShelf(volume), []

    def check():
        asked.append(len([*volume.spool.iterdir()]))
        if len(asked) > 3:
            raise Stopped

    shelf.check = check
    os.truncate(path, 1 << 30)
    with path.open("rb") as file, pytest.raises(Stopped):
        shelf.file("out.txt", file.fileno())
    assert asked == [0, 1, 1, 1]
    assert [*volume.spool.iterdir()] == []


def test_an_attempt_that_stood_still_while_another_archived_its_files_archives_nothing(
    database, volume, path, monkeypatch
):
    SCHEMA.sync()
    id = Data.start(state=State.WT, process=1, type="data:a:").id
    clock = orm.clock

    def late():
        """Let time pass, between the rows of the files and their bytes."""
        monkeypatch.setattr(keeping.orm, "clock", clock)
        another_ends(volume, id, 1, path)
        return clock()

    with claim(Data, id, 0, seconds=60) as stale:
        monkeypatch.setattr(keeping.orm, "clock", late)
        with pytest.raises(IllegalMove):
            archived(volume, stale, path)
    is_kept(volume, id, 2)


def test_an_attempt_that_woke_up_late_takes_back_nothing_that_a_newer_one_archived(database, volume, path):
    SCHEMA.sync()
    id = Data.start(state=State.WT, process=1, type="data:a:").id
    with claim(Data, id, 0, seconds=60):
        pass
    with claim(Data, id, 1, seconds=60) as stale:
        another_ends(volume, id, 2, path)
        with pytest.raises(IllegalMove):
            archived(volume, stale, path)
    is_kept(volume, id, 3)
