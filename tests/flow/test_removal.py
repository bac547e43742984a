"""Objects that are deleted while somebody else does something to them."""

import pytest

from pacifica.common import ledger
from pacifica.common.errors import Conflict, IllegalMove
from pacifica.common.volume import Volume
from pacifica.flow.keeping import ArchiveShelf
from pacifica.flow.orm import SCHEMA, Data, DataFile, State
from pacifica.flow.removal import remove


@pytest.fixture
def volume(tmp_path):
    return Volume(tmp_path / "archive", 0)


@pytest.fixture
def failed(database, volume, tmp_path):
    """An object that has failed, with a file in the archive."""
    SCHEMA.sync()
    data = Data.start(state=State.PR, process=1, type="data:a:")
    shelf = ArchiveShelf(volume)
    (tmp_path / "out.txt").write_bytes(b"result")
    with (tmp_path / "out.txt").open("rb") as file:
        shelf.file("out.txt", file.fileno())
    shelf.archive(data)
    data.end_badly("It went wrong")
    return data


def held():
    """Return the archived files of objects."""
    return ledger.locate(row.file_id for row in DataFile.select())


def test_an_object_that_is_sent_through_again_while_it_is_deleted_stays_with_its_files(failed, volume):
    Data.get_by_id(failed.id).move(State.RE)
    with pytest.raises(IllegalMove):
        remove(failed, volume)
    assert Data.get_by_id(failed.id).state == State.RE
    assert len(held()) == 1


def test_of_two_that_delete_an_object_the_second_finds_it_done(failed, volume):
    other = Data.get_by_id(failed.id)
    remove(failed, volume)
    assert (Data.select().count(), held()) == (0, {})
    remove(other, volume)


def test_what_has_not_ended_is_not_deleted(failed, volume):
    failed.move(State.RE)
    with pytest.raises(Conflict):
        remove(failed, volume)
