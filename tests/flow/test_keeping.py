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


def test_an_attempt_that_stood_still_while_another_began_archives_nothing(database, tmp_path, monkeypatch):
    SCHEMA.sync()
    volume, path = Volume(tmp_path / "archive", 0), tmp_path / "out.txt"
    path.write_bytes(b"result")
    id = Data.start(state=State.WT, process=1, type="data:a:").id
    clock = orm.clock

    def another_takes_over():
        """Let time pass, between the rows of the files and their bytes."""
        monkeypatch.setattr(keeping.orm, "clock", clock)
        Data.update(lease_until=1.0).where(Data.id == id).execute()
        with claim(Data, id, 1, seconds=60) as other:
            archived(volume, other, path)
        return clock()

    with claim(Data, id, 0, seconds=60) as stale:
        monkeypatch.setattr(keeping.orm, "clock", another_takes_over)
        with pytest.raises(IllegalMove):
            archived(volume, stale, path)
    (kept,) = DataFile.select()
    assert (kept.attempt, [row.id for row in ArchivedFile.select()]) == (2, [kept.file_id])
    packs = [found for found in volume.packs.rglob("*") if found.is_file() and not found.suffix]
    assert [found.read_bytes() for found in packs] == [b"result"]
    assert [*volume.spool.iterdir()] == []
