"""The store of datasets: put, patch, open; nothing is ever lost or half done (``docs/formats.md#steps``).

A first version becomes visible by the rename of its whole object.  A later one by the rename of ``inventory.json``;
its folder and block digests are in place before, the sidecar comes last.  A crash leaves the old or the new state;
what lies around then is settled by ``recover`` or by the next patch.  Numbers are given elsewhere (SQL).
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from hashlib import sha256, sha512
from pathlib import Path

from ..common.errors import MethodNotAllowed, NotFound, PreconditionFailed
from ..common.moment import epoch, zulu
from . import addition, blocks, contents, frames, inventory, ocfl, root, settle, staging, verdict
from .files import fingerprint
from .holding import Holding
from .intake import Deposit
from .inventory import Author, Inventory, Version
from .loi import Loi, Series
from .snapshot import Facts, Snapshot
from .spelling import Part, pieces
from .staging import Stage
from .taken import TakenFiles
from .verdict import Throttle, Verdict


class NoSuchDataset(NotFound):
    """LOI does not exist."""

    code = "no_such_dataset"


class NoSuchVersion(NotFound):
    """The dataset has no such version."""

    code = "no_such_version"


class DatasetExists(MethodNotAllowed):
    """Directory not empty."""

    code = "dataset_exists"

    def __init__(self) -> None:
        """Tell the client to PATCH."""
        super().__init__(allow="PATCH")


NEVER = -1  # the number of no version: what must not be made, unless it is made already

Signature = tuple[tuple[int, int, int, int] | None, ...]  # of the files that say what an object is; see ``signature``


class DatasetStore:
    """Datasets below the OCFL storage root ``top``; ``work``, on the same file system, holds what is unfinished."""

    def __init__(self, top: Path, work: Path) -> None:
        """Make the storage root where it is absent."""
        self.root = top
        self.work = work / "datasets"
        self.work.mkdir(parents=True, exist_ok=True)
        staging.spread(self.work)
        top.mkdir(parents=True, exist_ok=True)
        ocfl.prepare(top)

    def stage(self) -> AbstractContextManager[Stage]:
        """Give a private folder to take a dataset in; it is gone at the end, what was put from it is not."""
        return staging.opened(self.work)

    def put(self, loi: Loi, stage: Stage, deposit: Deposit, author: Author, at: float | None = None) -> Facts:
        """Store the first version, durable when this returns; DatasetExists, changing nothing, when there is one.

        ``at`` is epoch seconds UTC (default: now).
        """
        target, now = self._place(loi), _now(at)
        if target.exists():
            raise DatasetExists
        folder = stage.folder / "object"
        folder.mkdir(mode=0o750)
        _version(stage, folder, "v1", addition.first(loi, deposit.files, author, now), deposit.files)
        staging.write(folder / inventory.DECLARATION[0], inventory.DECLARATION[1])
        settle.announce(stage.folder, ocfl.place(loi), "v1")
        stage.flush()
        if not settle.appear(folder, target, self.root):
            raise DatasetExists
        return _facts(1, deposit.files, author, now)

    def patch(
        self,
        loi: Loi,
        stage: Stage,
        deposit: Deposit,
        author: Author,
        at: float | None = None,
        since: int | None = None,
        newest: int | None = None,
    ) -> Facts:
        """Store one version more, durable when this returns; the old ones stay.  NoSuchDataset when there is none.

        Where a version from number ``since`` on (default: the newest) is just this, that one is returned and none is
        added; except that content of it which has rotted is healed by one more.  PreconditionFailed, adding none, when
        the newest version is not number ``newest``.
        """
        folder, now = self._place(loi), _now(at)
        with self._opened(loi) as old:
            following = f"v{old.head().number + 1}"
        if (folder / following).exists():
            self.recover()  # before the lock, which it takes: a patch that died left its version's folder
        with self._locked(loi), self._opened(loi) as old:
            number = old.head().number
            found = self._same(loi, old, deposit.files, author, number if since is None else since)
            if found is not None:
                return found
            if newest not in (None, number):
                raise PreconditionFailed(version=number)
            made = addition.advance(old, loi, deposit.files, author, now)
            _version(stage, stage.folder, f"v{number + 1}", made, deposit.files)
            settle.announce(stage.folder, ocfl.place(loi), f"v{number + 1}")
            stage.flush()
            settle.advance(stage.folder, folder, f"v{number + 1}")
        return _facts(number + 1, deposit.files, author, now)

    @contextmanager
    def unchanged(self, loi: Loi, newest: int | None) -> Iterator[None]:
        """Keep patches away; PreconditionFailed when the newest version is not number ``newest`` (0: none yet)."""
        with self._locked(loi):
            if newest is not None:
                number = len(self.versions(loi)) if self.exists(loi) else 0
                if number != newest:
                    raise PreconditionFailed(version=number)
            yield

    def same(self, loi: Loi, deposit: Deposit, author: Author, since: int) -> Facts | None:
        """Return the first version from number ``since`` on that is just this and sound, if there is one."""
        with self._opened(loi) as found:
            return self._same(loi, found, deposit.files, author, since)

    def open(self, loi: Loi, version: int | None = None) -> Snapshot:
        """Open a version (default: the newest); NoSuchDataset, NoSuchVersion, or Damaged when it cannot be trusted."""
        with self._opened(loi) as found:
            newest = found.head().number
            number = newest if version is None else version
            if not 1 <= number <= newest:
                raise NoSuchVersion(version=number)
            return Snapshot(loi, self._place(loi), found, number)

    def holding(self, loi: Loi) -> Holding:
        """Return what all versions hold."""
        with self._opened(loi) as found:
            return Holding(self._place(loi), found)

    def exists(self, loi: Loi) -> bool:
        """Say whether the dataset has content."""
        return self._place(loi).is_dir()

    def place(self, loi: Loi) -> str:
        """Return where the dataset lies, or would, below the volume's root."""
        return f"{self.root.name}/{ocfl.place(loi)}"

    def signature(self, loi: Loi) -> Signature:
        """Return what changes whenever a version is added, or inventory or sidecar are touched; cheap to ask."""
        folder = self._place(loi)
        return tuple(_identity(folder / name) for name in (inventory.FILE, inventory.SIDECAR))

    def remove(self, loi: Loi) -> None:
        """Take the dataset away for good, with all its versions; nothing happens when there is none.

        Readers at work may meet its end.  Who may, and what is left to tell, is decided elsewhere (SQL).
        """
        folder = self._place(loi)
        with self.stage() as stage, self._locked(loi):
            try:
                folder.rename(stage.folder / "removed")
            except FileNotFoundError:
                return
            staging.fsync(folder.parent)
            settle.prune(folder.parent, self.root)

    def versions(self, loi: Loi) -> tuple[Version, ...]:
        """Return what is told of each version, oldest first."""
        with self._opened(loi) as found:
            return found.head().versions

    def verify(self, loi: Loi, throttle: Throttle | None = None) -> Verdict:
        """Read everything again and name what is wrong; ``throttle`` is told of bytes read and may wait.

        Waits for a patch that is just being made visible, no longer.
        """
        folder = self._place(loi)
        with self._locked(loi):
            if not folder.is_dir():
                raise NoSuchDataset(loi=str(loi))
            frame = frames.examine(folder, loi)
        return verdict.judge(frame, throttle)

    def datasets(self) -> Iterator[Loi]:
        """Yield the LOI of every dataset that has content, in the tree's order; foreign folders are passed over."""
        for folder in ocfl.objects(self.root):
            loi = ocfl.named(folder)
            if loi is not None:
                yield loi

    def highest(self, series: Series) -> int:
        """Return the highest number that has content in a series, 0 when none: for rebuilding the database only."""
        return max((loi.number for loi in self.datasets() if loi.series == series), default=0)

    def is_staged(self, name: str) -> bool:
        """Say whether the stage of this name is still there."""
        return (self.work / name).is_dir()

    def recover(self) -> int:
        """Settle what dead processes left; return how many stages were removed.  Safe beside living ones."""
        count = 0
        for leftover in staging.orphans(self.work):
            intent = settle.announced(leftover)
            if intent:
                place, head = intent
                with staging.exclusive(self._lock(place)):
                    settle.settle(self.root / place, leftover, head)
                settle.prune((self.root / place).parent, self.root)
            staging.remove(leftover)
            count += 1
        return count

    # ---- parts ---------------------------------------------------------------------------------------------------

    def _place(self, loi: Loi) -> Path:
        return self.root / ocfl.place(loi)

    def _lock(self, place: str) -> Path:
        return self.work / "locks" / sha256(place.encode()).hexdigest()[:2]

    def _locked(self, loi: Loi) -> AbstractContextManager[None]:
        return staging.exclusive(self._lock(ocfl.place(loi)))

    def _opened(self, loi: Loi) -> Inventory:
        """Open the inventory that counts, the caller's to close."""
        try:
            return root.opened(self._place(loi), loi)
        except FileNotFoundError:
            raise NoSuchDataset(loi=str(loi)) from None

    def _same(self, loi: Loi, held: Inventory, files: TakenFiles, author: Author, since: int) -> Facts | None:
        """Return the first version from number ``since`` on that has just these files, and was stored with this
        message, unless it is empty: then it says nothing new."""
        wanted = files.fingerprint
        for number, version in enumerate(held.head().versions, 1):
            said = author.message in ("", version.author.message)
            if number < max(since, 1) or not said or fingerprint(contents.rows(held, number)) != wanted:
                continue
            fresh = [row for row in range(len(files)) if files.stored[row]]
            holding = Holding(self._place(loi), held) if fresh else None
            if holding is None or all(holding.holds(files.taken(row)) for row in fresh):
                return Facts(number, len(files), sum(files.sizes), version.author, epoch(version.created))
            return None
        return None


def _version(stage: Stage, parent: Path, head: str, made: Iterator[Part], files: TakenFiles) -> None:
    """Make the version's folder, block digests and both inventories below ``parent``; the content moves in."""
    folder, extension = parent / head, contents.extension(parent, int(head[1:]))
    folder.mkdir(mode=0o750)
    extension.parent.mkdir(mode=0o750, parents=True)
    if any(files.stored):
        stage.content.rename(folder / "content")
    _inventories((folder, parent), made)
    blocks.write(extension, lambda: files.brought(head))


def _inventories(folders: Sequence[Path], made: Iterator[Part]) -> None:
    """Write the same inventory and sidecar into each of ``folders``."""
    digest = sha512()
    with ExitStack() as files:
        written = [files.enter_context((folder / inventory.FILE).open("xb")) for folder in folders]
        for piece in pieces(made):
            digest.update(piece)
            for file in written:
                file.write(piece)
    for folder in folders:
        staging.write(folder / inventory.SIDECAR, inventory.sidecar(digest.hexdigest()))


def _facts(number: int, files: TakenFiles, author: Author, at: float) -> Facts:
    return Facts(number, len(files), sum(files.sizes), author, epoch(zulu(at)))


def _identity(path: Path) -> tuple[int, int, int, int] | None:
    try:
        facts = path.stat()
    except FileNotFoundError:
        return None
    return facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


def _now(at: float | None) -> float:
    return time.time() if at is None else at
