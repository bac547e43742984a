"""The files that a job of POST /move names, gathered into a bundle like any other; and their removal at the end.

They are copied and not renamed into the archive: whoever has a file open could go on writing to what we have archived.
The sources are read, and nothing else is done to them, until everything is published; then each is removed if it is
still the file that was read (docs/ingest.md#move).
"""

import json
import logging
import os
import tarfile
import tempfile
import time
from array import array
from collections.abc import Iterator, Sequence
from contextlib import closing
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import IO, Any

from msgspec import UNSET

from ..common import orm
from ..common.errors import ServiceError
from ..common.metadata import FILES
from ..common.source import Identity, Source, SourceChanged, open_source, remove
from ..common.spool import receive
from ..common.volume import Volume, fsync_directory, storing
from .account import shown
from .bundle import Limits, Scanner
from .config import Settings
from .declaration import data_path
from .declared import MAX_FAULTS
from .falsehood import MetadataError, MissingKey
from .metadata import entries
from .orm import Job, Task
from .spooled import Spooled

log = logging.getLogger(__name__)

PROGRESS_SECONDS = 1.0


class BadSource(MetadataError):
    """A file that the list names cannot be taken.  The fault's own code says why."""

    code = "bad_source"


def gather(job: Job, spooled: Spooled, volume: Volume, settings: Settings) -> None:
    """Make the bundle of ``job``, unless an earlier attempt did: every source, and the posted list as metadata.txt.

    Raises MetadataError when a source is not to be had, or changes while it is read; then nothing was done to any.
    """
    if spooled.path.is_file() or spooled.pack.is_file():
        return
    limits = Limits.of(settings.ingest)
    text = mapped(spooled.request)
    with tempfile.TemporaryFile("w+", dir=volume.spool, encoding="utf-8") as record:
        sizes = _inspect(text, record, settings.ingest.move_roots, volume.root, limits)
        job.step(Task.METADATA, 0.0, files_total=len(sizes), bytes_total=sum(sizes), bytes_done=0)
        tar = _Tar(_sections(record, text, settings.ingest.move_roots, volume.root))
        scanner = Scanner(limits, settings.ingest.hashtype)
        with volume.reserve(sum(sizes) + len(text)) as room, closing(tar):
            progress = _Progress(job, room.written)
            received = receive(tar.readinto, spooled.part, scanner.feed, on_progress=progress)
        index = scanner.close()
        record.seek(0)
        with orm.transaction():
            job.fence()  # an attempt that was given up for dead must not put its bundle in the place of a newer one
            with storing(), spooled.sources.open("w", encoding="utf-8") as sources:
                sources.writelines(record)
                sources.flush()
                os.fsync(sources.fileno())  # before the rename: it is believed where there is a bundle
            spooled.part.replace(spooled.path)
            spooled.save(index, received.blocks)
        fsync_directory(spooled.path.parent)


def take_away(job: Job, spooled: Spooled, volume: Volume, roots: Sequence[str]) -> None:
    """Remove the sources of an ARCHIVED job; one that is another file by now, or cannot be removed, stays.

    Safe to repeat after a kill at any point, until the record of the sources is discarded.
    """
    try:
        sources = spooled.sources.open(encoding="utf-8")
    except FileNotFoundError:  # the worker, or the reaper behind it, was faster
        return
    kept = []
    with sources as record:
        for number, line in enumerate(record):
            _, path, *identity = json.loads(line)
            try:
                if not remove(path, roots, volume.root, Identity(*identity), f"{job.id}.{number}.moved"):
                    kept.append("another file has its name")
            except (OSError, ServiceError) as error:
                log.warning("job %s: source %s stays: %r", job.id, path, error)
                kept.append(getattr(error, "strerror", None) or str(error))
    if kept:
        job.note(f"{len(kept)} source files stay where they are, though archived: {kept[0]}")


def mapped(path: Path) -> memoryview:
    """Return the bytes of a file, read as they are used; the mapping goes with the last reference to it."""
    with path.open("rb") as file:
        return memoryview(mmap(file.fileno(), 0, access=ACCESS_READ))


def _inspect(text: memoryview, record: IO[str], roots: Sequence[str], volume: Path, limits: Limits) -> "array[int]":
    """Look at every source before the first is copied; write [member, source, identity] lines; return the sizes."""
    sizes, seen, faults = array("Q"), set[int](), list[dict[str, Any]]()
    for number, entry in enumerate(entries(text)):
        if isinstance(entry, MetadataError) or entry.destinationTable != FILES:
            continue  # what is wrong with it is told when the bundle is held against its metadata
        file = shown(f"{entry.subdir}/{entry.name}" if entry.name is not UNSET else entry.subdir)
        try:
            if entry.name is UNSET or not isinstance(entry.source, str):
                raise MissingKey("A Files entry of a move lacks its name or source.", file=file)
            if hash(entry.source) in seen:
                raise BadSource("A source is listed twice.", file=file)
            seen.add(hash(entry.source))
            member = data_path(entry.subdir, entry.name, limits)
            source = open_source(entry.source, roots, volume)
            source.close()
        except ServiceError as error:
            faults.append({"file": file, "entry": number, "code": error.code, "message": error.message})
            if len(faults) >= MAX_FAULTS:
                break
            continue
        sizes.append(source.identity.size)
        record.write(json.dumps([member, entry.source, *source.identity]) + "\n")
    if faults:
        raise BadSource(faults=faults)
    return sizes


def _sections(record: IO[str], text: memoryview, roots: Sequence[str], volume: Path) -> Iterator[Any]:
    """Yield what the tar is made of: bytes, and (source, member) where a file's own bytes come."""
    record.seek(0)
    for line in record:
        member, path, *identity = json.loads(line)
        known = Identity(*identity)
        source = open_source(path, roots, volume)
        if source.identity != known:
            source.close()
            raise _changed(member)
        yield _header(member, known.size, known.mtime_ns // 10**9)
        yield source, member
        yield bytes(-known.size % tarfile.BLOCKSIZE)
    yield _header("metadata.txt", len(text), int(time.time()))
    yield text
    yield bytes(-len(text) % tarfile.BLOCKSIZE + 2 * tarfile.BLOCKSIZE)


def _header(name: str, size: int, mtime: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.mtime = size, max(0, mtime)
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


class _Tar:
    """A tar that is read as a request's body is."""

    def __init__(self, sections: Iterator[Any]) -> None:
        self._sections = sections
        self._bytes: memoryview = memoryview(b"")
        self._source: tuple[Source, str] | None = None
        self._left = 0

    def readinto(self, view: memoryview) -> int:
        """Put the next bytes into ``view``; 0 at the end.  MetadataError when a source is not what it was."""
        while True:
            if self._bytes:
                count = min(len(view), len(self._bytes))
                view[:count], self._bytes = self._bytes[:count], self._bytes[count:]
                return count
            if self._source is not None:
                if count := self._read(view):
                    return count
                continue
            section = next(self._sections, None)
            if section is None:
                return 0
            if isinstance(section, tuple):
                self._source, self._left = section, section[0].identity.size
            else:
                self._bytes = memoryview(section)

    def _read(self, view: memoryview) -> int:
        assert self._source is not None
        source, member = self._source
        count = source.readinto(view[: self._left]) if self._left else 0
        self._left -= count
        try:
            if not count:
                source.require_unchanged()
            if self._left and not count:
                raise SourceChanged()
        except SourceChanged:
            self.close()
            raise _changed(member) from None
        if not count:
            self.close()
        return count

    def close(self) -> None:
        """Close the source that is being read."""
        if self._source is not None:
            self._source[0].close()
            self._source = None


class _Progress:
    """Shows how far the copy has come, at most once a second, and heeds a cancellation."""

    def __init__(self, job: Job, written: Any) -> None:
        self.job, self.written = job, written
        self.next = time.monotonic() + PROGRESS_SECONDS

    def __call__(self, copied: int) -> None:
        self.written(copied)
        if time.monotonic() >= self.next:
            self.next = time.monotonic() + PROGRESS_SECONDS
            self.job.heed()
            total = self.job.bytes_total or 1
            self.job.step(Task.METADATA, min(99.0, 100.0 * copied / total), bytes_done=min(copied, total))


def _changed(member: str) -> BadSource:
    fault = {"file": shown(member), "code": SourceChanged.code, "message": str(SourceChanged())}
    return BadSource(faults=[fault])
