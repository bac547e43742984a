"""A file of the host is archived and removed, or refused and left as it is."""

import os

import pytest

from pacifica.common import ledger
from pacifica.common.archive import LocalArchive
from pacifica.common.errors import NotFound
from pacifica.common.source import NotAFile, Outside, SourceChanged
from pacifica.common.volume import Volume
from pacifica.datasafe import moving

pytestmark = pytest.mark.usefixtures("sqlite")


@pytest.fixture
def archive(tmp_path):
    return LocalArchive(Volume(tmp_path / "archive", 0))


@pytest.fixture
def root(tmp_path):
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def test_a_moved_file_is_in_the_archive_and_no_longer_in_its_folder(archive, root):
    (root / "a.bin").write_bytes(b"alpha")
    os.utime(root / "a.bin", (5, 5))
    moving.move(archive, 7, str(root / "a.bin"), [str(root)], "ann")
    held = ledger.find(7)
    assert (b"".join(archive.open(7)), held.mtime, held.owner) == (b"alpha", 5.0, "ann")
    assert list(root.iterdir()) == []


def test_what_may_not_be_moved_stays(archive, root, tmp_path):
    (tmp_path / "secret").write_bytes(b"s")
    (root / "link").symlink_to(tmp_path / "secret")
    pack = archive.volume.packs
    refused = [(root / "link", NotAFile), (root / "..", Outside), (tmp_path / "secret", Outside), (pack / "x", Outside)]
    for path, error in refused:
        with pytest.raises(error):
            moving.move(archive, 7, str(path), [str(root), str(archive.volume.root)], "ann")
    with pytest.raises(Outside):
        moving.move(archive, 7, str(root / "link"), [], "ann")
    with pytest.raises(NotFound):
        ledger.find(7)
    assert (tmp_path / "secret").exists()
    assert (root / "link").is_symlink()


def test_a_file_that_changes_while_it_is_read_stays_and_nothing_is_archived(archive, root, monkeypatch):
    source = root / "growing"
    source.write_bytes(b"one")
    receive = moving.open_source

    def opened(*given):
        found = receive(*given)
        with source.open("ab") as file:
            file.write(b" two")
        return found

    monkeypatch.setattr(moving, "open_source", opened)
    with pytest.raises(SourceChanged):
        moving.move(archive, 7, str(source), [str(root)], "ann")
    with pytest.raises(NotFound):
        ledger.find(7)
    assert source.read_bytes() == b"one two"
    assert list(archive.volume.spool.iterdir()) == []
