"""What a run has printed is there at every moment, wherever it lies just then."""

import pytest

from pacifica.common.volume import Volume
from pacifica.flow import logs
from pacifica.flow.orm import SCHEMA, Data, State


@pytest.fixture
def volume(tmp_path):
    return Volume(tmp_path / "archive", 0)


@pytest.fixture
def running(sqlite, volume):
    """An object as a request read it while its program ran, and what that had printed by then."""
    SCHEMA.sync()
    data = Data.create(state=State.PR, attempt=1, process=1, type="data:a:", owner="ann")
    printed(logs.current(volume, data), b"so far")
    return data


def printed(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text)


def read(volume, data):
    file = logs.opened(volume, data)
    if file is None:
        return None
    with file:
        return file.read()


def ends(volume, data, **changes):
    """Let a run end behind the back of who has read ``data``."""
    logs.current(volume, data).unlink()
    Data.update(changes).where(Data.id == data.id).execute()


def test_a_run_that_ends_before_its_log_is_opened_is_read_where_that_is_kept(volume, running):
    assert read(volume, running) == b"so far"
    ends(volume, running, state=State.OK)
    printed(logs.kept(volume, running.id), b"so far and to the end")
    assert read(volume, running) == b"so far and to the end"


def test_an_attempt_that_another_has_followed_is_read_from_that_one(volume, running):
    ends(volume, running, attempt=2)
    printed(logs.current(volume, Data.get_by_id(running.id)), b"again")
    assert read(volume, running) == b"again"


@pytest.mark.parametrize("is_deleted", [False, True], ids=["nothing was printed yet", "it was deleted"])
def test_where_nothing_is_nothing_is_opened(volume, running, is_deleted):
    ends(volume, running, attempt=1)
    if is_deleted:
        Data.delete().execute()
    assert read(volume, running) is None
