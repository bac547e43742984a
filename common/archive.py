"""The archive that is the volume itself, and which archive ``[archiveinterface] url`` names."""

import logging
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from . import draft, journal, ledger, orm
from .config import Neighbours
from .errors import BadConfiguration, ChecksumMismatch, Damaged, NotFound, RangeNotSatisfiable, ServiceError
from .interface import Archive, Held, Incoming
from .ledger import Located
from .pace import Pace
from .pack import PackReader, hasher
from .remote import RemoteArchive
from .spool import receive
from .volume import BLOCK, Volume, discard, new_name

SCHEMES = ("", "file")  # of the volume itself; http and https are another archive

log = logging.getLogger(__name__)


class LocalArchive:
    """The archive whose bytes are packs of ``volume``."""

    def __init__(self, volume: Volume) -> None:
        """Serve ``volume``."""
        self.volume = volume

    def put(self, id: int, incoming: Incoming) -> Held:
        """Archive the bytes as a pack of their own (see ``Archive.put``)."""
        hashtype, declared = incoming.hashtype, incoming.hashsum
        digest = hasher(hashtype)()
        path = self.volume.spool / new_name()
        try:
            with self.volume.reserve(incoming.length) as room:
                received = receive(incoming.fill, path, digest.update, on_progress=room.written)
            found = digest.hexdigest()
            if declared is not None and found != declared.lower():
                raise ChecksumMismatch(id=id, hashtype=hashtype, found=found)
            facts = {"hashtype": hashtype, "hashsum": found, "mtime": incoming.mtime, "owner": incoming.owner}
            draft.put_file(self.volume, path, received, id, **facts)
        finally:
            discard(path)
        return Held(received.size, incoming.mtime, True, hashtype, found)

    def open(self, id: int, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Read a file (see ``Archive.open``); a file that is found damaged is marked so in the ledger."""
        held = _here(id)
        stop = held.size if stop is None else stop
        if not 0 <= start <= stop <= held.size:
            raise RangeNotSatisfiable(size=held.size)
        return self._read(held, start, stop)

    def stat(self, id: int) -> Held:
        """Return what the ledger says of the file."""
        held = ledger.find(id)
        return Held(held.size, held.mtime, True, held.hashtype, held.hashsum)

    def stage(self, id: int) -> None:
        """Do nothing: local bytes are always within reach."""
        ledger.find(id)

    def delete(self, id: int, who: str, reason: str = "") -> None:
        """Take the file out of the ledger; its bytes stay until their pack is compacted."""
        ledger.delete_file(id, who, reason)
        journal.add(self.volume.deletions, {"id": id, "at": orm.clock(), "who": who, "reason": reason})

    def _read(self, held: Located, start: int, stop: int) -> Iterator[bytes]:
        """Yield the range; up to a block's size a file is checked by its own digest: a bad neighbour does no harm."""
        if start == stop:
            return
        try:
            with PackReader(self.volume, held.pack, Pace()) as reader:
                if held.size <= BLOCK:
                    yield reader.read_small(held.offset, held.size, held.hashtype, held.hashsum)[start:stop]
                else:
                    yield from reader.read(held.offset + start, stop - start)
        except Damaged:
            _judge(self.volume, held)
            raise


def is_remote(url: str) -> bool:
    """Tell whether ``[archiveinterface] url`` names an archive that is asked over HTTP."""
    return urlsplit(url).scheme in ("http", "https")


def make_archive(url: str, volume: Volume, settings: Neighbours | None = None) -> Archive:
    """Return the archive that ``[archiveinterface] url`` names: empty or ``file://`` for ``volume`` itself.

    BadConfiguration for another scheme, or a path that is not the volume's root.
    """
    if is_remote(url):
        return RemoteArchive(url, settings or Neighbours())
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES or parts.netloc not in ("", "localhost"):
        known = "empty, file://<path of [archive]>, or http(s)://"
        raise BadConfiguration(f"no archive speaks {parts.scheme or url!r}: the url is {known}", key="url")
    path = Path(unquote(parts.path))
    if parts.path and path != volume.root and path.resolve() != volume.root.resolve():
        raise BadConfiguration("the archive's file:// url is not the path of [archive]", key="url")
    return LocalArchive(volume)


def _here(id: int) -> Located:
    """Return where the file lies; NotFound when its bytes are in another archive, which the catalogue only lists."""
    held = ledger.find(id)
    if held.kind == "remote":
        raise NotFound("the bytes of this file are in another archive", id=id)
    return held


def _judge(volume: Volume, held: Located) -> None:
    """Mark a file whose read failed, unless only a neighbour in its block is damaged."""
    try:
        with PackReader(volume, held.pack) as reader:
            sound = reader.hash(held.offset, held.size, held.hashtype) == held.hashsum
    except Damaged:
        sound = False
    try:
        if not sound:
            ledger.mark_damaged(held.id)
    except ServiceError as error:  # the reader must hear of the damage, whatever the database says
        log.error("file %d is damaged and could not be marked: %s", held.id, error)
