"""A job's files outside the database: the bundle in the spool, beside it what its scan found, later its pack."""

from pathlib import Path

import xxhash

from ..common.errors import NotFound
from ..common.spool import reread
from ..common.volume import Volume, storing
from .bundle import Limits, Scanner
from .index import BadIndex, Index


class Spooled:
    """The files named ``name`` (32 lower-case hex); the bundle lies in the spool until it is kept as a pack."""

    def __init__(self, volume: Volume, name: str) -> None:
        self.path = volume.spool / name
        self.pack = volume.pack_path(name)
        self.request = self.path.with_suffix(".request")  # of POST /move: the list as it was posted
        self.sources = self.path.with_suffix(".sources")  # of POST /move: what was read, and goes once it is archived
        self.part = self.path.with_suffix(".part")  # a bundle in the making
        self._index = self.path.with_suffix(".index")
        self._blocks = self.path.with_suffix(".blocks")

    @property
    def bundle(self) -> Path:
        """Where the bundle's bytes lie now; NotFound when neither in the spool nor as a pack."""
        for path in (self.path, self.pack):
            if path.is_file():
                return path
        raise NotFound("The bundle of this job is no longer in the spool.")

    def is_there(self) -> bool:
        """Tell whether there is a bundle, or what it can be made of."""
        return any(path.is_file() for path in (self.path, self.pack, self.request))

    def save(self, index: Index, blocks: bytes) -> None:
        """Keep what the scan found.  Not synced: a lost or torn copy is noticed and costs one more scan."""
        with storing():
            index.save(self._index)
            self._blocks.write_bytes(blocks + xxhash.xxh3_128_digest(blocks))

    def load(self, limits: Limits, hashtype: str) -> tuple[Index, bytes]:
        """Return the bundle's index and block digests, by one more scan of the file where they are not on disk."""
        blocks, check = _split(self._blocks)
        try:
            if check == xxhash.xxh3_128_digest(blocks):
                return Index.load(self._index), blocks
        except (BadIndex, FileNotFoundError):
            pass  # the scan below is the remedy for both
        return _scan(self.bundle, limits, hashtype)

    def discard_scan(self) -> None:
        """Remove what ``save`` wrote."""
        for path in (self._index, self._blocks):
            path.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove all but the pack."""
        for path in (self.path, self.part, self.request, self.sources):
            path.unlink(missing_ok=True)
        self.discard_scan()


def _split(path: Path) -> tuple[bytes, bytes]:
    data = path.read_bytes() if path.is_file() else b""
    return data[:-16], data[-16:]


def _scan(path: Path, limits: Limits, hashtype: str) -> tuple[Index, bytes]:
    scanner = Scanner(limits, hashtype, length=path.stat().st_size)
    received = reread(path, scanner.feed)
    return scanner.close(), received.blocks
