"""Files taken from below listed folders, without following a link, and removed only while they are what was read."""

import os
import socket
from pathlib import Path

import pytest

from pacifica.common import source
from pacifica.common.source import Identity, NotAFile, Outside, SourceChanged, SourceMissing, open_source, remove


@pytest.fixture
def root(tmp_path):
    (tmp_path / "root" / "run").mkdir(parents=True)
    (tmp_path / "root" / "run" / "a").write_bytes(b"alpha")
    (tmp_path / "volume").mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    return tmp_path / "root"


@pytest.fixture
def volume(tmp_path):
    return tmp_path / "volume"


def read(path, root, volume):
    found = open_source(str(path), [str(root)], volume)
    try:
        buffer = bytearray(100)
        return bytes(buffer[: found.readinto(memoryview(buffer))])
    finally:
        found.close()


def identity(path):
    return Identity.of(path.stat())


def test_a_file_below_a_root_is_read(root, volume):
    assert read(root / "run" / "a", root, volume) == b"alpha"
    assert read(root / "run" / "a", f"{root}/", volume) == b"alpha"


@pytest.mark.parametrize(
    "path", ["{up}/secret", "{root}/../secret", "{root}/run/../../secret", "{root}2/a", "{root}", "{root}/",
             "{root}/./run/a", "{root}//run/a", "run/a", "", "{root}/run/a\0"],
)  # fmt: skip
def test_what_does_not_stand_below_a_root_is_outside(root, volume, path):
    with pytest.raises(Outside):
        read(path.format(root=root, up=root.parent), root, volume)


def test_without_roots_everything_is_outside(root, volume):
    with pytest.raises(Outside):
        open_source(str(root / "run" / "a"), [], volume)


def test_no_link_is_followed_neither_to_a_file_nor_through_a_folder(root, volume):
    (root / "link").symlink_to(root / "run" / "a")
    (root / "folder").symlink_to(root.parent)
    for path in ("link", "folder/secret"):
        with pytest.raises(NotAFile):
            read(root / path, root, volume)


def test_a_root_may_be_a_link_since_the_administrator_named_it(root, volume, tmp_path):
    (tmp_path / "alias").symlink_to(root)
    assert read(tmp_path / "alias" / "run" / "a", tmp_path / "alias", volume) == b"alpha"


def test_only_regular_files_are_taken_and_a_pipe_holds_nobody(root, volume):
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "s"))
        for name in ("pipe", "run", "s"):
            with pytest.raises(NotAFile):
                read(root / name, root, volume)


@pytest.mark.parametrize("name", ["none", "run/none", "none/a", "n" * 300])
def test_what_is_not_there_is_missing(root, volume, name):
    with pytest.raises(SourceMissing):
        read(root / name, root, volume)


def test_the_archive_itself_is_no_source(root):
    inside = root / "archive"
    (inside / "packs").mkdir(parents=True)
    (inside / "packs" / "p").write_bytes(b"another's")
    for roots, path in (([root], inside / "packs" / "p"), ([inside / "packs"], inside / "packs" / "p")):
        with pytest.raises(Outside):
            open_source(str(path), list(map(str, roots)), inside)


def test_a_file_that_changes_while_it_is_read_is_noticed(root, volume):
    found = open_source(str(root / "run" / "a"), [str(root)], volume)
    found.require_unchanged()
    (root / "run" / "a").write_bytes(b"longer than before")
    with pytest.raises(SourceChanged):
        found.require_unchanged()
    found.close()


def test_a_file_is_removed_and_to_do_so_twice_is_harmless(root, volume):
    path = root / "run" / "a"
    known = identity(path)
    for _ in range(2):
        assert remove(str(path), [str(root)], volume, known, "7.0")
    assert list((root / "run").iterdir()) == []


def test_another_file_of_that_name_stays(root, volume):
    path = root / "run" / "a"
    known = identity(path)
    path.unlink()
    path.write_bytes(b"new")
    os.utime(path, ns=(1, 1))
    assert not remove(str(path), [str(root)], volume, known, "7.0")
    assert path.read_bytes() == b"new"


def test_a_file_that_takes_the_name_at_the_last_moment_gets_it_back(root, volume, monkeypatch):
    path = root / "run" / "a"
    known = identity(path)
    rename = os.rename

    def swapped(*names, **folders):
        (root / "other").write_bytes(b"new")
        (root / "other").replace(path)
        rename(*names, **folders)

    monkeypatch.setattr(source.os, "rename", swapped)
    assert not remove(str(path), [str(root)], volume, known, "7.0")
    assert [each.read_bytes() for each in (root / "run").iterdir()] == [b"new"]
    assert path.exists()


@pytest.mark.parametrize("call", ["rename", "unlink", "fsync"])
def test_killed_before_any_step_of_a_removal_the_next_one_ends_it(root, volume, monkeypatch, call):
    path = root / "run" / "a"
    known = identity(path)

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(source.os, call, killed)
        remove(str(path), [str(root)], volume, known, "7.0")
    assert remove(str(path), [str(root)], volume, known, "7.0")
    assert list(Path(root / "run").iterdir()) == []
