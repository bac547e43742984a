"""One file of a remote archive, copied into a pack of its cart's folder and held against its digest on the way."""

import threading
from typing import NamedTuple

from ..common.errors import ArchiveUnavailable, Cancelled, ChecksumMismatch, Conflict, Damaged
from ..common.pack import discard, hasher
from ..common.remote import RemoteArchive, RemoteBody
from ..common.sidecar import Sidecar
from ..common.spool import receive, reread
from ..common.volume import Volume, keep
from . import part
from .filling import mismatch

RESUMES_MAX = 4  # connections lost one after the other, with nothing coming in between
TRIES_MAX = 2  # whole copies that turn out to have other bytes
WAIT_SECONDS = 0.2  # before the first resumption; doubles
SKIP = 256 << 10


class Wish(NamedTuple):
    """A file that is to be pulled: a row of ``File``."""

    row: int
    id: int
    path: str
    hashtype: str
    hashsum: str
    size: int
    mtime: float


def pull(archive: RemoteArchive, volume: Volume, name: str, wish: Wish, stopped: threading.Event) -> None:
    """Have the file as pack ``name`` of ``volume``, durably; what an earlier attempt completed is taken as it is.

    What one left half done is read again and gone on with.  ChecksumMismatch, with nothing left, when two copies of it
    are not what was declared; ArchiveUnavailable when it did not come, Cancelled once ``stopped`` is set: then what did
    come stays for the next attempt.
    """
    if _is_there(volume, name, wish):
        return
    for left in reversed(range(TRIES_MAX)):
        try:
            _copy(archive, volume, name, wish, stopped)
            return
        except ChecksumMismatch:
            if not left:
                raise


def _is_there(volume: Volume, name: str, wish: Wish) -> bool:
    try:
        sidecar = Sidecar.read(volume, name)
    except Damaged:
        return False
    path = volume.pack_path(name)
    said = {"hashtype": wish.hashtype, "hashsum": wish.hashsum}
    return path.is_file() and path.stat().st_size == sidecar.size and sidecar.extra == said


def _copy(archive: RemoteArchive, volume: Volume, name: str, wish: Wish, stopped: threading.Event) -> None:
    digest = hasher(wish.hashtype)()

    def feed(view: memoryview) -> None:
        if stopped.is_set():
            raise Cancelled
        digest.update(view)

    with part.taken(volume, name, wish.size) as path:
        begun = reread(path, feed)
        source = Source(archive, wish.id, wish.size, stopped, begun.size)
        try:
            received = receive(
                source.fill, path, digest.update, begun=begun, keep_after=(ArchiveUnavailable, Cancelled)
            )
        finally:
            source.close()
        if digest.hexdigest() != wish.hashsum:
            part.discard(volume, name)  # also what others hold: nobody knows whose byte is wrong
            raise mismatch(wish.path, wish.id)
        sidecar = Sidecar(
            pack=name,
            kind="staged",  # nothing of it is in the ledger
            job=None,
            owner="",
            first_id=wish.id,
            count=1,
            size=received.size,
            created=wish.mtime,
            blocks=received.blocks,
            extra={"hashtype": wish.hashtype, "hashsum": wish.hashsum},
        )
        try:
            sidecar.write(volume)
            keep(path, volume.pack_path(name))
        except Conflict:  # what is there is not it
            discard(volume, name)
            sidecar.write(volume)
            keep(path, volume.pack_path(name))
    part.discard(volume, name)


class Source:
    """A file's bytes in order, over as many connections as it takes: one that breaks is resumed where it broke."""

    def __init__(self, archive: RemoteArchive, id: int, size: int, stopped: threading.Event, offset: int = 0) -> None:
        self._archive, self._id, self._size, self._stopped = archive, id, size, stopped
        self._offset, self._failures = offset, 0
        self._body: RemoteBody | None = None

    def fill(self, view: memoryview) -> int:
        """Put the next bytes into ``view``; 0 after the last.  Errors as of ``pull``."""
        while self._offset < self._size:
            if self._stopped.is_set():
                raise Cancelled
            try:
                return self._read(view)
            except ArchiveUnavailable:
                self.close()
                self._failures += 1
                if self._failures > RESUMES_MAX:
                    raise
                self._stopped.wait(WAIT_SECONDS * 2**self._failures)
        return 0

    def close(self) -> None:
        """Let go of the connection."""
        if self._body is not None:
            self._body.close()
            self._body = None

    def _read(self, view: memoryview) -> int:
        if self._body is None:
            self._body = self._archive.body(self._id, self._offset)
            self._skip(self._body, self._offset - self._body.start)
        count = self._body.readinto(view[: self._size - self._offset])
        if not count:
            raise ArchiveUnavailable("The archive sent less than the file has.", file_id=self._id)
        self._offset += count
        self._failures = 0
        return count

    def _skip(self, body: RemoteBody, size: int) -> None:
        """Read past what we have: an archive that knows no ranges begins anew."""
        waste = memoryview(bytearray(min(SKIP, size)))
        while size:
            count = body.readinto(waste[: min(len(waste), size)])
            if not count:
                raise ArchiveUnavailable("The archive sent less than before.", file_id=self._id)
            if self._stopped.is_set():
                raise Cancelled
            size -= count
