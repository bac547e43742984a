"""The tree, the room on it, and durable writes."""

import errno
import os
import threading
from pathlib import Path

import pytest

from pacifica.common import volume as module
from pacifica.common.errors import Conflict, NoSpace, VolumeAway
from pacifica.common.volume import AHEAD, BLOCK, Volume, durable_write, keep, make_directory, new_name


@pytest.fixture
def volume(tmp_path):
    return Volume(tmp_path / "archive", 0)


@pytest.fixture
def syncs(monkeypatch):
    """The names of what was fsynced, in order."""
    seen = []
    real = os.fsync

    def fsync(descriptor):
        seen.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return seen


def test_directories_appear_when_they_are_used(volume):
    assert not volume.root.exists()
    for name in ("packs", "spool", "carts", "work", "datasets"):
        path = getattr(volume, name)
        assert path == volume.root / name
        assert path.is_dir()
    assert volume.spool.stat().st_mode & 0o777 == 0o700


def test_a_pack_lies_two_levels_deep(volume):
    name = "ab" + "cd" + "0" * 28
    assert volume.pack_path(name) == volume.root / "packs" / "ab" / "cd" / name


def test_a_body_of_unknown_length_holds_room_as_it_grows(volume):
    ahead = []
    with volume.reserve(None) as growing:
        for total in range(0, 4 * AHEAD, 256 << 10):
            growing.written(total)
            ahead.append(sum(module._reserved.values()))
            assert BLOCK <= ahead[-1] <= max(BLOCK, min(total, AHEAD))
        assert max(ahead) == AHEAD
        tight = volume.min_free
        volume.min_free = 1 << 60
        with pytest.raises(NoSpace):
            growing.written(4 * AHEAD + ahead[-1])
        volume.min_free = tight
        growing.written(4 * AHEAD + ahead[-1])
        growing.release()
        assert sum(module._reserved.values()) == 0
    assert sum(module._reserved.values()) == 0


@pytest.mark.parametrize("name", ["", "../" + "a" * 29, "A" * 32, "a" * 31, "a" * 33, "a" * 31 + "\n", "a" * 32 + "\n"])
def test_no_other_name_leads_anywhere(volume, name):
    with pytest.raises(ValueError, match="32 lower-case"):
        volume.pack_path(name)


def test_reservations_of_all_threads_and_volumes_count_together(volume):
    free = volume.free()
    half = free * 2 // 3
    outcome = []

    def other():
        try:
            with Volume(volume.root, 0).reserve(half):
                outcome.append("fits")
        except NoSpace:
            outcome.append("full")

    with volume.reserve(half) as reservation:
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        reservation.written(half)  # those bytes are on the disk now, which says so itself
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    other()
    assert outcome == ["full", "fits", "fits"]
    assert sum(module._reserved.values()) == 0


def test_the_watermark_is_never_promised(volume):
    tight = Volume(volume.root, volume.free() + (1 << 40))
    for size in (None, 0, 1):
        with pytest.raises(NoSpace), tight.reserve(size):
            pytest.fail("promised")
    with volume.reserve(None):
        pass


def test_a_durable_write_syncs_the_file_before_its_name_and_the_directory_after(tmp_path, syncs):
    make_directory(tmp_path / "d")
    syncs.clear()
    durable_write(tmp_path / "d" / "x", [b"one", b"two"])
    durable_write(tmp_path / "d" / "x", b"three")
    assert (tmp_path / "d" / "x").read_bytes() == b"three"
    assert [name.startswith(".x.") or name for name in syncs] == [True, "d", True, "d"]
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["x"]


def test_a_failed_fsync_is_not_tried_again_and_leaves_the_old_file(tmp_path, monkeypatch):
    durable_write(tmp_path / "x", b"old")
    calls = []

    def fsync(descriptor):
        calls.append(descriptor)
        raise OSError(errno.EIO, "lost")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(VolumeAway):
        durable_write(tmp_path / "x", b"new")
    assert len(calls) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_bytes() == b"old"


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    def fsync(descriptor):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(NoSpace):
        durable_write(tmp_path / "x", b"new")
    assert list(tmp_path.iterdir()) == []


def test_keeping_syncs_each_new_parent_and_both_directories(volume, syncs):
    source = volume.spool / "in"
    source.write_bytes(b"bytes")
    name = new_name()
    target = volume.pack_path(name)
    syncs.clear()
    keep(source, target)
    assert target.read_bytes() == b"bytes"
    assert not source.exists()
    assert syncs == ["packs", name[:2], name[2:4], "spool"]


def _crash_before_the_link(source, target):
    pass


def _crash_after_the_link(source, target):
    target.parent.mkdir(parents=True)
    os.link(source, target)


def _crash_after_the_unlink(source, target):
    target.parent.mkdir(parents=True)
    source.rename(target)


def _crash_and_a_new_copy(source, target):
    target.parent.mkdir(parents=True)
    target.write_bytes(source.read_bytes())


@pytest.mark.parametrize(
    "crash", [_crash_before_the_link, _crash_after_the_link, _crash_after_the_unlink, _crash_and_a_new_copy]
)
def test_keeping_is_repeated_after_a_kill_at_any_point(volume, crash):
    source, target = volume.spool / "in", volume.pack_path(new_name())
    source.write_bytes(b"bytes")
    crash(source, target)
    keep(source, target)
    keep(source, target)
    assert target.read_bytes() == b"bytes"
    assert not source.exists()


def test_keeping_never_replaces_other_bytes(volume):
    source, target = volume.spool / "in", volume.pack_path(new_name())
    target.parent.mkdir(parents=True)
    for held in (b"longer bytes", b"other"):
        target.write_bytes(held)
        source.write_bytes(b"bytes")
        with pytest.raises(Conflict):
            keep(source, target)
        assert target.read_bytes() == held
        assert source.read_bytes() == b"bytes"


def test_keeping_does_not_take_a_planted_link_for_the_file(volume):
    source, target = volume.spool / "in", volume.pack_path(new_name())
    source.write_bytes(b"bytes")
    target.parent.mkdir(parents=True)
    target.symlink_to(source)
    with pytest.raises(Conflict):
        keep(source, target)
    assert source.read_bytes() == b"bytes"


def test_keeping_nothing_is_an_error(volume):
    with pytest.raises(FileNotFoundError):
        keep(volume.spool / "in", volume.pack_path(new_name()))


def test_a_file_system_without_hard_links_still_keeps_and_never_replaces(volume, monkeypatch):
    def link(*args, **kwargs):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", link)
    source, target = volume.spool / "in", volume.pack_path(new_name())
    source.write_bytes(b"bytes")
    keep(source, target)
    assert target.read_bytes() == b"bytes"
    source.write_bytes(b"other")
    with pytest.raises(Conflict):
        keep(source, target)
    assert target.read_bytes() == b"bytes"
