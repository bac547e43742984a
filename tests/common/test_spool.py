"""The ring: every byte in order, on disk, digested; and what is left when something breaks."""

import errno
import hashlib
import io
import os
import random
import threading
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from xxhash import xxh3_128_digest

from pacifica.common import spool
from pacifica.common.errors import ChecksumMismatch, ClientAborted, NoSpace, VolumeAway
from pacifica.common.spool import receive, reread
from pacifica.common.volume import BLOCK

SIZES = [0, 1, 4095, 4096, BLOCK - 1, BLOCK, BLOCK + 1, BLOCK + spool.READ, 2 * BLOCK, 4 * BLOCK, 5 * BLOCK + 4097,
         9 * BLOCK, 21 * BLOCK + 513]  # fmt: skip
DATA = random.Random(7).randbytes(max(SIZES))


@pytest.fixture(autouse=True)
def no_thread_stays():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@pytest.fixture(params=["disk", "memory", "cache", "strict"])
def folder(request, tmp_path, monkeypatch):
    """A folder on the disk, in memory, on a disk without O_DIRECT, and on one that wants another alignment."""
    if request.param == "cache":
        refuse = OSError(errno.EINVAL, "no O_DIRECT here")

        def fcntl(descriptor, command, argument=0):
            if command == spool.fcntl.F_SETFL and argument & os.O_DIRECT:
                raise refuse
            return real_fcntl(descriptor, command, argument)

        real_fcntl = spool.fcntl.fcntl
        monkeypatch.setattr(spool.fcntl, "fcntl", fcntl)
    if request.param == "strict":

        def pwrite(descriptor, data, offset):
            if real_flags(descriptor, spool.fcntl.F_GETFL) & os.O_DIRECT and offset >= 2 * BLOCK:
                raise OSError(errno.EINVAL, "bad alignment")
            return real_pwrite(descriptor, data, offset)

        real_pwrite, real_flags = os.pwrite, spool.fcntl.fcntl
        monkeypatch.setattr(os, "pwrite", pwrite)
    if request.param == "memory":
        with TemporaryDirectory(dir="/dev/shm") as name:
            yield Path(name)
    else:
        yield tmp_path


def body(size, reads=None):
    """A fill that delivers DATA[:size], ``reads`` bytes at most each time."""
    source = io.BytesIO(DATA[:size])
    return lambda view: source.readinto(view[: reads or len(view)])


def digests(data):
    return b"".join(xxh3_128_digest(data[start : start + BLOCK]) for start in range(0, len(data), BLOCK))


@pytest.mark.parametrize("size", SIZES)
def test_what_came_in_is_what_lies_there_and_what_was_fed(folder, size):
    seen = hashlib.sha1()
    received = receive(body(size), folder / "x", seen.update)
    assert (folder / "x").read_bytes() == DATA[:size]
    assert (received.size, received.blocks) == (size, digests(DATA[:size]))
    assert seen.hexdigest() == hashlib.sha1(DATA[:size]).hexdigest()


def test_a_dripping_body_and_odd_reads_change_nothing(tmp_path):
    size = 3 * BLOCK + 77
    seen, sizes, progress = bytearray(), [], []

    def feed(view):
        seen.extend(view)
        sizes.append(len(view))

    receive(body(size, reads=40_001), tmp_path / "x", feed, on_progress=progress.append)
    assert bytes(seen) == (tmp_path / "x").read_bytes() == DATA[:size]
    assert sizes == [BLOCK, BLOCK, BLOCK, 77]
    assert progress == [BLOCK, 2 * BLOCK, 3 * BLOCK, size]


def test_a_short_write_is_continued(tmp_path, monkeypatch):
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, offset: real(descriptor, data[:700_001], offset))
    receive(body(6 * BLOCK + 5), tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == DATA[: 6 * BLOCK + 5]


def test_a_small_body_starts_no_thread(tmp_path, monkeypatch):
    monkeypatch.setattr(spool, "_Stage", None)
    assert receive(body(BLOCK), tmp_path / "x", lambda view: None).size == BLOCK


def test_feed_can_not_change_what_is_written(tmp_path):
    def feed(view):
        view[0] = 0

    for size in (10, 3 * BLOCK):
        with pytest.raises(TypeError):
            receive(body(size), tmp_path / "x", feed)


@pytest.mark.parametrize("size", [10, 12 * BLOCK])
@pytest.mark.parametrize("at", [0, 7])
def test_after_a_refusal_by_feed_the_body_is_drained_and_nothing_left(tmp_path, size, at):
    source = io.BytesIO(DATA[:size])
    blocks = []

    def feed(view):
        blocks.append(view.nbytes)
        if len(blocks) > min(at, size // BLOCK):
            raise ChecksumMismatch

    with pytest.raises(ChecksumMismatch):
        receive(source.readinto, tmp_path / "x", feed)
    assert source.tell() == size
    assert len(blocks) == min(at, size // BLOCK) + 1
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_named_and_the_body_drained(tmp_path, monkeypatch):
    def pwrite(descriptor, data, offset):
        if offset >= 3 * BLOCK:
            raise OSError(errno.ENOSPC, "full")
        return real(descriptor, data, offset)

    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", pwrite)
    source = io.BytesIO(DATA)
    with pytest.raises(NoSpace):
        receive(source.readinto, tmp_path / "x", hashlib.sha1().update)
    assert source.tell() == len(DATA)
    assert list(tmp_path.iterdir()) == []


def test_the_first_failure_is_told_even_when_the_client_leaves_while_we_drain(tmp_path):
    source = io.BytesIO(DATA)

    def fill(view):
        if source.tell() > 15 * BLOCK:
            raise ClientAborted
        return source.readinto(view)

    def feed(view):
        raise ChecksumMismatch

    with pytest.raises(ChecksumMismatch):
        receive(fill, tmp_path / "x", feed)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("after", [0, BLOCK // 2, BLOCK, 3 * BLOCK, 9 * BLOCK + 5])
def test_a_client_that_leaves_ends_it_at_once_and_leaves_nothing(tmp_path, after):
    source = io.BytesIO(DATA[:after])

    def fill(view):
        got = source.readinto(view)
        if not got:
            raise ClientAborted
        return got

    with pytest.raises(ClientAborted):
        receive(fill, tmp_path / "x", lambda view: None)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_fsync_is_not_tried_again(tmp_path, monkeypatch):
    calls = []

    def fsync(descriptor):
        calls.append(descriptor)
        raise OSError(errno.EIO, "lost pages")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(VolumeAway):
        receive(body(2 * BLOCK), tmp_path / "x")
    assert len(calls) == 1
    assert list(tmp_path.iterdir()) == []


def test_file_and_name_are_on_disk_when_it_returns(tmp_path, monkeypatch):
    synced = []
    real = os.fsync

    def fsync(descriptor):
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    receive(body(3 * BLOCK), tmp_path / "x")
    assert synced == [tmp_path / "x", tmp_path]


def test_a_file_of_a_dead_attempt_is_replaced_and_a_living_one_keeps_its_own(tmp_path):
    def fill(view):
        receive(body(5), tmp_path / "x")  # the next attempt, while this one still reads
        raise ClientAborted

    (tmp_path / "x").write_bytes(b"left over")
    with pytest.raises(ClientAborted):
        receive(fill, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == DATA[:5]


def test_idle_uploads_do_not_hold_the_place_of_active_ones(tmp_path):
    """More stalled uploads than cores: one that sends must still get through."""
    release, stalled = threading.Event(), []

    def stall(index):
        source = io.BytesIO(DATA[: 3 * BLOCK])
        waiting = threading.Event()
        stalled.append(waiting)

        def fill(view):
            got = source.readinto(view)
            if not got:
                waiting.set()
                release.wait(20)
            return got

        receive(fill, tmp_path / f"idle{index}", lambda view: None)

    threads = [threading.Thread(target=stall, args=(index,)) for index in range(os.cpu_count() + 2)]
    try:
        for thread in threads:
            thread.start()
        done = threading.Thread(target=receive, args=(body(8 * BLOCK), tmp_path / "busy", lambda view: None))
        done.start()
        done.join(19)  # the others stand still for 20 s
        assert not done.is_alive()
    finally:
        release.set()
        for thread in threads:
            thread.join()
    assert (tmp_path / "busy").stat().st_size == 8 * BLOCK


def test_no_more_feeds_run_at_once_than_there_are_cores(tmp_path):
    lock, running, most = threading.Lock(), 0, 0
    cores = len(os.sched_getaffinity(0))

    def feed(view):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        hashlib.sha1(view)
        with lock:
            running -= 1

    threads = [
        threading.Thread(target=receive, args=(body(6 * BLOCK), tmp_path / str(index), feed))
        for index in range(cores + 3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most <= cores


def test_rereading_finds_what_receiving_found(tmp_path):
    seen = bytearray()
    received = receive(body(3 * BLOCK + 9), tmp_path / "x")
    assert reread(tmp_path / "x", seen.extend) == received
    assert bytes(seen) == DATA[: 3 * BLOCK + 9]
    with pytest.raises(FileNotFoundError):
        reread(tmp_path / "y")
