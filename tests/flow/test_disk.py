"""How much a program has written, also where no name tells of it."""

import os
import tempfile
from types import SimpleNamespace

import pytest

from pacifica.flow import disk
from pacifica.flow.disk import DiskWatch
from pacifica.flow.executor import MIB, Limits

LIMIT = 8 * MIB


@pytest.fixture
def room(monkeypatch):
    """How much room the file system has, for the test to change: others write and delete there too."""
    room = SimpleNamespace(bytes=100 * LIMIT)
    monkeypatch.setattr(disk, "_room", lambda path: room.bytes)
    return room


@pytest.fixture
def watch(tmp_path, room):
    return DiskWatch(tmp_path, Limits(disk_bytes=LIMIT))


@pytest.fixture
def nameless(tmp_path):
    """A file that this process holds open, has filled beyond the limit and that has no name."""
    with tempfile.TemporaryFile(dir=tmp_path) as file:
        file.write(bytes(2 * LIMIT))
        file.flush()
        yield file


def is_full(watch):
    watch.due = 0.0
    return watch.full([os.getpid()])


def test_what_has_no_name_counts_although_others_have_given_room_back(watch, room, nameless):
    room.bytes += 10 * LIMIT
    assert is_full(watch)


def test_a_file_that_was_deleted_while_it_was_read_does_not_count_unless_the_room_is_gone(watch, room, nameless):
    os.utime(nameless.fileno(), (1, 1))
    assert not is_full(watch)
    room.bytes -= 2 * LIMIT
    assert is_full(watch)
