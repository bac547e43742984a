"""Bytes on their way in: a ring of aligned blocks between the caller, a writer and a consumer.

The caller's thread fills blocks of 1 MiB, a second thread digests and writes them past the page cache (O_DIRECT; where
the file system has no such thing, through the cache with write-back started early), a third feeds them to a consumer,
such as a scanner that hashes.  The threads start when a body turns out to be longer than one block.
"""

import errno
import fcntl
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from mmap import mmap
from pathlib import Path
from queue import SimpleQueue
from threading import BoundedSemaphore, Thread

from xxhash import xxh3_128_digest

from .volume import BLOCK, fsync_directory, storing

READ = 256 << 10  # bytes asked of the caller at once: measured best, 64 KiB and 1 MiB are both slower
SLOTS = 4
ALIGNMENT = 4096
WRITE_BACK = 8 * BLOCK  # through the cache, the disk is set to work after so many bytes

_scans = BoundedSemaphore(len(os.sched_getaffinity(0)))  # held while one block is fed, never while one is awaited


@dataclass(frozen=True)
class Received:
    """What came in: its size, and the xxh3-128 digests (16 bytes each) of its 1 MiB blocks, the last one shorter."""

    size: int
    blocks: bytes


def receive(
    fill: Callable[[memoryview], int],
    path: Path,
    feed: Callable[[memoryview], None] | None = None,
    *,
    on_progress: Callable[[int], None] | None = None,
    begun: Received | None = None,
    keep_after: tuple[type[Exception], ...] = (),
) -> Received:
    """Write what ``fill`` delivers to the new file ``path``; it and its name are on disk when this returns.

    ``fill(view)`` puts up to 256 KiB into ``view`` and returns their number, 0 at the end.  ``feed(view)``, on another
    thread, sees every byte once and in order, up to 1 MiB at a time, valid during the call only.  On the caller's
    thread ``on_progress(total)`` runs after each block.  A file of that name left by a dead attempt is replaced.

    On any failure ``path`` is unlinked and the threads have ended.  After an exception of ``feed`` or of the disk
    (NoSpace, VolumeAway; fsync is not tried twice) the rest of the body is taken from ``fill`` first, so that the
    client lives to read its answer.  What ``fill`` or ``on_progress`` raises (ClientAborted) ends it at once.

    Where that is one of ``keep_after``, the file stays with the whole blocks that had come.  Another call goes on
    behind them, or behind what a killed one left: ``begun`` is what ``reread`` says of the file, cut to whole blocks.
    """
    writer = _Writer(path, begun)
    try:
        received = _pump(fill, writer, feed, on_progress, keep_after)
        writer.finish()
    except keep_after:
        raise
    except BaseException:
        writer.unlink()
        raise
    finally:
        writer.close()
    fsync_directory(path.parent)
    return received


def reread(path: Path, feed: Callable[[memoryview], None] | None = None) -> Received:
    """Digest the blocks of a file that is there already, and feed them, as ``receive`` does on the way in."""
    digests = bytearray()
    size = 0
    block = memoryview(bytearray(BLOCK))
    with path.open("rb", buffering=0) as file:
        while count := _fill(file.readinto, block)[0]:
            digests += xxh3_128_digest(block[:count])
            _scan(feed, block[:count])
            size += count
    return Received(size, bytes(digests))


def _pump(
    fill: Callable[[memoryview], int],
    writer: "_Writer",
    feed: Callable[[memoryview], None] | None,
    on_progress: Callable[[int], None] | None,
    keep_after: tuple[type[Exception], ...],
) -> Received:
    """Carry the body through, inline while it fits one block."""
    ring = memoryview(mmap(-1, SLOTS * BLOCK))  # page aligned, as O_DIRECT wants it; untouched pages cost nothing
    slots = [ring[start : start + BLOCK] for start in range(0, SLOTS * BLOCK, BLOCK)]
    total, ended = _fill(fill, ring[: BLOCK + READ])  # one read past the first block, to know whether there is a second
    if total <= BLOCK:
        writer.write(ring, total)
        _scan(feed, ring[:total])
        if on_progress:
            on_progress(total)
        return writer.received()
    writer.go_direct()
    stages: list[_Stage] = []
    try:
        stages.append(_Stage(writer.write, "spool-write"))
        if feed is not None:
            stages.append(_Stage(lambda slot, count: _scan(feed, slot[:count]), "spool-feed"))
        _turn(fill, slots, stages, total, ended, on_progress)
    except keep_after:
        for stage in stages:  # the blocks that are under way still go to the disk
            stage.end()
        if failure := _failure(stages):
            raise failure from None
        raise
    except BaseException:
        for stage in stages:
            stage.stopped = True
        raise
    finally:
        for stage in stages:
            stage.end()
    if failure := _failure(stages):
        raise failure
    return writer.received()


def _turn(
    fill: Callable[[memoryview], int],
    slots: list[memoryview],
    stages: "list[_Stage]",
    total: int,
    ended: bool,
    on_progress: Callable[[int], None] | None,
) -> None:
    """Turn the ring from its first block, full, and what ``total`` has beyond it, to the end."""
    count, number = BLOCK, 0
    behind = total - BLOCK  # bytes that lie in the second slot already
    seen = 0
    while count:
        for stage in stages:
            stage.put(slots[number % SLOTS], count)
        seen += count
        if on_progress:
            on_progress(seen)
        number += 1
        slot = slots[number % SLOTS]
        if number >= SLOTS:
            for stage in stages:
                stage.done.get()  # its oldest block, which lies in this slot
        if _failure(stages):
            _drain(fill, slot)
            break
        count, behind = behind, 0
        if not ended:
            count, ended = _fill(fill, slot, count)


def _fill(fill: Callable[[memoryview], int], block: memoryview, count: int = 0) -> tuple[int, bool]:
    """Fill ``block`` behind its ``count`` bytes; return the bytes in it then, and whether the body has ended."""
    while count < len(block):
        got = fill(block[count : count + READ])
        if not got:
            return count, True
        count += got
    return count, False


def _drain(fill: Callable[[memoryview], int], block: memoryview) -> None:
    """Take the rest of the body and forget it; that the client leaves now changes nothing."""
    with suppress(Exception):
        while fill(block[:READ]):
            pass


def _scan(feed: Callable[[memoryview], None] | None, view: memoryview) -> None:
    """Feed one block, with no more of us at it than there are cores."""
    if feed is not None and view:
        with _scans:
            feed(view.toreadonly())  # the writer may not be done with it


def _failure(stages: "list[_Stage]") -> BaseException | None:
    """Return what a stage stumbled over; then all of them stop working."""
    failure = next((stage.failure for stage in stages if stage.failure), None)
    if failure:
        for stage in stages:
            stage.stopped = True
    return failure


class _Stage:
    """A thread that does one thing to each block in turn; once stopped it only lets the blocks pass."""

    def __init__(self, work: Callable[[memoryview, int], None], name: str) -> None:
        self.failure: BaseException | None = None
        self.stopped = False
        self.done: SimpleQueue[None] = SimpleQueue()  # one entry for each block that the ring may have back
        self._work = work
        self._blocks: SimpleQueue[tuple[memoryview, int] | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, slot: memoryview, count: int) -> None:
        """Pass on the next block, the first ``count`` bytes of ``slot``."""
        self._blocks.put((slot, count))

    def end(self) -> None:
        """Wait until the thread has seen every block and ended."""
        self._blocks.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (block := self._blocks.get()) is not None:
            if not self.stopped:
                try:
                    self._work(*block)
                except BaseException as error:  # noqa: BLE001 - raised again on the caller's thread
                    self.failure, self.stopped = error, True
            self.done.put(None)


class _Writer:
    """The file, new or begun: whole blocks go past the page cache where the file system lets them."""

    def __init__(self, path: Path, begun: Received | None) -> None:
        size = begun.size if begun else 0
        flags = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW
        if begun is None:
            flags |= os.O_CREAT | os.O_EXCL
        self.digests = bytearray(begun.blocks if begun else b"")
        self._path, self._offset, self._started = path, size, size
        self._direct = self._overhang = False
        with storing():
            if begun is None:  # not truncated: an attempt that still lives must write to a file of its own
                path.unlink(missing_ok=True)
            self._descriptor = os.open(path, flags, 0o640)
        os.ftruncate(self._descriptor, size)

    def go_direct(self) -> None:
        """Write past the page cache from now on, if that can be."""
        self._direct = _set_direct(self._descriptor, True)

    def write(self, slot: memoryview, count: int) -> None:
        """Digest the first ``count`` bytes of ``slot`` and append them.

        Past the cache only whole sectors can be written: the last block takes along what lies behind it in its slot.
        """
        if not count:
            return
        self.digests += xxh3_128_digest(slot[:count])
        end = self._offset + count
        view = slot[: count + (-count % ALIGNMENT if self._direct else 0)]
        with storing():
            while view:
                written = self._append(view)
                view = view[written:]
                self._offset += written
        self._overhang, self._offset = self._offset > end, end
        if not self._direct and end - self._started >= WRITE_BACK:
            # DONTNEED starts the write-back of dirty pages and waits for none of it (Linux, mm/fadvise.c)
            os.posix_fadvise(self._descriptor, self._started, end - self._started, os.POSIX_FADV_DONTNEED)
            self._started = end

    def received(self) -> Received:
        """Return what the file holds, what it was begun with included."""
        return Received(self._offset, bytes(self.digests))

    def finish(self) -> None:
        """Cut off what the last block took along and put the file on disk; a failed fsync is final."""
        with storing():
            if self._overhang:
                os.ftruncate(self._descriptor, self._offset)
            os.fsync(self._descriptor)

    def unlink(self) -> None:
        """Remove the file, unless its name belongs to another by now, or the disk does not let it go."""
        with suppress(OSError):
            if self._path.lstat().st_ino == os.fstat(self._descriptor).st_ino:
                self._path.unlink()

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._descriptor)

    def _append(self, view: memoryview) -> int:
        try:
            return os.pwrite(self._descriptor, view, self._offset)
        except OSError as error:
            if not (self._direct and error.errno == errno.EINVAL):
                raise
        # a stricter alignment than ours, or the rest of a short write
        self._direct = _set_direct(self._descriptor, False)
        return os.pwrite(self._descriptor, view, self._offset)


def _set_direct(descriptor: int, on: bool) -> bool:
    """Switch O_DIRECT of ``descriptor``; return whether it is on."""
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_DIRECT if on else flags & ~os.O_DIRECT)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return False
    return on
