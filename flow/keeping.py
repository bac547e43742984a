"""Files that a program saves become archived files: spooled as it saves them, archived when the run is over."""

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..common import counter, draft, ledger, orm
from ..common.batch import batches
from ..common.errors import Gone, NotFound
from ..common.spool import Received, receive
from ..common.volume import Volume, new_name
from .orm import Data, DataFile
from .shelf import Kept


@dataclass(frozen=True)
class _Spooled:
    kept: Kept
    path: Path
    received: Received


class ArchiveShelf:
    """The shelf of one run.  Call ``discard`` when the run is over, whatever became of it.

    ``check`` is called for each file and each block of it, and may raise (cancelled).
    """

    def __init__(self, volume: Volume) -> None:
        """Spool below ``volume``."""
        self._volume = volume
        self.check: Callable[[], None] = lambda: None
        self._files: dict[str, _Spooled] = {}
        self._ids: dict[str, int] = {}

    def file(self, name: str, source: int) -> Kept:
        """Copy what the descriptor ``source`` holds now and hash it; a later one of that name replaces it."""
        digest, position, end = hashlib.sha256(), 0, os.fstat(source).st_size  # it may grow as fast as it is read

        def fill(view: memoryview) -> int:
            nonlocal position
            count = os.preadv(source, [view[: end - position]], position)
            position += count
            return count

        def progress(total: int) -> None:
            room.written(total)
            self.check()

        self.check()
        path = self._volume.spool / new_name()
        with self._volume.reserve(end) as room:
            received = receive(fill, path, digest.update, on_progress=progress)
        path.chmod(0o644)  # programs, who are somebody else, read it as their input
        kept = Kept(name, received.size, digest.hexdigest())
        older = self._files.get(name)
        self._files[name] = _Spooled(kept, path, received)
        if older is not None:
            older.path.unlink(missing_ok=True)
        return kept

    def directory(self, name: str) -> None:
        """An empty directory leaves no trace: the archive keeps files."""

    def archive(self, data: Data) -> int:
        """Archive every file for ``data`` and return their bytes.

        Their rows come first, by attempt: what an attempt that died has archived is found by them and taken back.
        """
        if data.attempt > 1:
            withdraw(data, data.fence)
        if not self._files:
            return 0
        first = counter.allocate("file", len(self._files))
        numbered = list(enumerate(self._files.items(), start=first))
        rows = [(data.id, data.attempt, name, id, one.kept.size, one.kept.sha256) for id, (name, one) in numbered]
        with orm.transaction():
            data.fence()
            orm.insert_rows(DataFile, ("data", "attempt", "name", "file_id", "size", "sha256"), rows)
        self._ids = {name: id for id, (name, _) in numbered}
        now = orm.clock()
        for id, (name, one) in numbered:
            subdir, _, base = name.rpartition("/")
            draft.put_file(
                self._volume,
                one.path,
                one.received,
                id,
                hashtype="sha256",
                hashsum=one.kept.sha256,
                mtime=now,
                subdir=f"flow/{data.id}/{subdir}".rstrip("/"),
                name=base,
                owner=data.owner,
                fence=data.fence,  # the rows may be gone: another attempt takes them back as soon as it has begun
            )
        return sum(one.kept.size for one in self._files.values())

    def ids(self) -> dict[str, int]:
        """Return the file id of each archived file, by name."""
        return dict(self._ids)

    def digests(self) -> list[tuple[str, str]]:
        """Return name and SHA-256 of each file."""
        return [(name, one.kept.sha256) for name, one in self._files.items()]

    def discard(self) -> None:
        """Remove what is still in the spool."""
        for one in self._files.values():
            one.path.unlink(missing_ok=True)


def withdraw(data: Data, fence: Callable[[], None] = lambda: None) -> None:
    """Take back the files that ``data`` has archived so far; those that another object shares stay in the archive.

    ``fence`` opens each transaction: what it raises keeps a stale attempt from taking back what a newer one archived.
    """
    rows = DataFile.select(DataFile.id, DataFile.file_id).where(DataFile.data == data.id).order_by(DataFile.id).tuples()
    for batch in batches(rows, 500):
        with orm.transaction():
            fence()
            ids = [file_id for _, file_id in batch]
            held = DataFile.select(DataFile.data, DataFile.file_id).where(DataFile.file_id.in_(ids))
            held = held.order_by(DataFile.id)
            # of two that delete their share of a file at once, the second must see that it is the last
            named = list((held.for_update() if orm.is_postgres() else held).tuples())
            others = {file_id for owner, file_id in named if owner != data.id}
            for file_id in ids:
                if file_id not in others:
                    with suppress(Gone, NotFound), orm.savepoint():  # it never came so far
                        ledger.delete_file(file_id, "pacifica-flow", f"data {data.id} was run again or deleted")
            DataFile.delete().where(DataFile.id.in_([id for id, _ in batch])).execute()
