"""Run directories that are used again: only those that are as they were made."""

import os
from pathlib import Path

import pytest

from pacifica.flow import spare
from pacifica.flow.executor import Workplace


@pytest.fixture(autouse=True)
def none_held():
    spare._spares.clear()
    yield
    spare._spares.clear()


def inodes(place):
    return [folder.stat().st_ino for folder in (place.path, place.work, place.temporary)]


def names(place):
    return sorted(path.name for path in place.work.iterdir())


def test_a_directory_that_was_left_empty_is_the_next_runs(tmp_path):
    first = Workplace.make(tmp_path / "1.1")
    before = inodes(first)
    first.stdout.write_text("printed")
    first.leave()
    assert not first.path.exists()
    second = Workplace.make(tmp_path / "2.1")
    assert inodes(second) == before
    assert names(second) == [".tmp", "jsonout.txt", "stdout.txt"]
    assert second.stdout.read_text() == ""
    second.remove()
    assert list(tmp_path.iterdir()) == []


TOUCHES = {
    "a file": lambda place: (place.work / "left").touch(),
    "a folder": lambda place: (place.work / "left").mkdir(),
    "a temporary file": lambda place: (place.temporary / "left").touch(),
    "a file beside": lambda place: (place.path / "copies").mkdir(),
    "rights": lambda place: place.work.chmod(0o777),
    "rights of the temporary folder": lambda place: place.temporary.chmod(0o1777),
    "no rights": lambda place: place.work.chmod(0),
    "no temporary folder": lambda place: place.temporary.rmdir(),
    "a link in place of it": lambda place: (place.temporary.rmdir(), place.temporary.symlink_to("/")),
    "no log": lambda place: (place.work / "stdout.txt").unlink(),
    "an attribute": lambda place: os.setxattr(place.work, "user.left", b"1"),
}


@pytest.mark.parametrize("touch", TOUCHES.values(), ids=TOUCHES)
def test_one_that_was_not_is_removed(tmp_path, touch):
    place = Workplace.make(tmp_path / "1.1")
    touch(place)
    place.leave()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_has_held_many_names_is_not_used_again(tmp_path, monkeypatch):
    monkeypatch.setattr(spare, "_SIZE", 0)  # file systems differ in how large a folder is
    Workplace.make(tmp_path / "1.1").leave()
    assert list(tmp_path.iterdir()) == []


def test_one_of_another_owner_is_not_taken(tmp_path):
    first = Workplace.make(tmp_path / "1.1")
    first.leave()
    assert not spare.take(tmp_path / "2.1", first.owner + 1)
    assert spare.take(tmp_path / "2.1", first.owner)


def test_one_that_somebody_cleared_up_is_made_anew(tmp_path):
    first = Workplace.make(tmp_path / "1.1")
    first.leave()
    (held,) = tmp_path.iterdir()
    Workplace(held, 0, 0).remove()
    second = Workplace.make(tmp_path / "2.1")
    assert names(second) == [".tmp", "jsonout.txt", "stdout.txt"]


def test_no_more_are_held_than_are_of_use(tmp_path):
    places = [Workplace.make(tmp_path / f"{number}.1") for number in range(spare.HELD + 2)]
    for place in places:
        place.leave()
    assert len(list(tmp_path.iterdir())) == spare.HELD


def test_those_of_the_dead_are_found_after_an_hour(tmp_path, monkeypatch):
    Workplace.make(tmp_path / "1.1").leave()
    assert spare.forgotten(tmp_path) == []
    monkeypatch.setattr(spare, "FORGOTTEN_SECONDS", -1.0)
    assert [path.parent for path in spare.forgotten(tmp_path)] == [Path(tmp_path)]


def test_one_that_is_about_to_be_removed_is_not_the_next_runs(tmp_path, monkeypatch):
    first = Workplace.make(tmp_path / "1.1")
    first.leave()
    monkeypatch.setattr(spare, "FORGOTTEN_SECONDS", -1.0)
    (held,) = spare.forgotten(tmp_path)
    second = Workplace.make(tmp_path / "2.1")
    Workplace(held, 0, 0).remove()
    assert names(second) == [".tmp", "jsonout.txt", "stdout.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["2.1"]
