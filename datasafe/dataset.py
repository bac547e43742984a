"""The store of datasets: put, patch, open; nothing is ever lost or half done (``docs/formats.md#steps``).

A first version becomes visible by the rename of its whole object.  A later one by the rename of ``inventory.json``;
its folder and block digests are in place before, the sidecar comes last.  A crash leaves the old or the new state;
what lies around then is settled by ``recover`` or by the next patch.  Numbers are given elsewhere (SQL).
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from hashlib import sha256, sha512
from pathlib import Path

from ..common.errors import Damaged, MethodNotAllowed, NotFound, PreconditionFailed
from . import blocks, frames, inventory, ocfl, settle, staging, verdict
from .blocks import Content
from .extract import Taken
from .intake import Deposit
from .inventory import Author, Inventory
from .loi import Loi, Series
from .snapshot import Snapshot
from .staging import Stage
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


Signature = tuple[tuple[int, int, int, int] | None, ...]  # of the files that say what an object is; see ``signature``


class DatasetStore:
    """Datasets below the OCFL storage root ``root``; ``work``, on the same file system, holds what is unfinished."""

    def __init__(self, root: Path, work: Path) -> None:
        """Make the storage root where it is absent."""
        self.root = root
        self.work = work / "datasets"
        self.work.mkdir(parents=True, exist_ok=True)
        staging.spread(self.work)
        root.mkdir(parents=True, exist_ok=True)
        ocfl.prepare(root)

    def stage(self) -> AbstractContextManager[Stage]:
        """Give a private folder to take a dataset in; it is gone at the end, what was put from it is not."""
        return staging.opened(self.work)

    def put(self, loi: Loi, stage: Stage, deposit: Deposit, author: Author, at: float | None = None) -> Snapshot:
        """Store the first version, durable when this returns; DatasetExists, changing nothing, when there is one.

        ``at`` is epoch seconds UTC (default: now).
        """
        target = self._place(loi)
        if target.exists():
            raise DatasetExists
        made = inventory.advance(None, loi, deposit.files, author, _now(at))
        folder = stage.folder / "object"
        folder.mkdir(mode=0o750)
        contents = self._version(stage, folder, made, deposit.files)
        staging.write(folder / inventory.DECLARATION[0], inventory.DECLARATION[1])
        settle.announce(stage.folder, ocfl.place(loi), made.head)
        stage.flush()
        if not settle.appear(folder, target, self.root):
            raise DatasetExists
        return Snapshot(target, made, 1, contents)

    def patch(
        self,
        loi: Loi,
        stage: Stage,
        deposit: Deposit,
        author: Author,
        at: float | None = None,
        since: int | None = None,
        newest: int | None = None,
    ) -> Snapshot:
        """Store one version more, durable when this returns; the old ones stay.  NoSuchDataset when there is none.

        Where a version from number ``since`` on (default: the newest) is just this, that one is returned and none is
        added; except that content of it which has rotted is healed by one more.  PreconditionFailed, adding none, when
        the newest version is not number ``newest``.
        """
        folder = self._place(loi)
        if (folder / f"v{self._inventory(loi).number + 1}").exists():
            self.recover()  # before the lock, which it takes: a patch that died left its version's folder
        with self._locked(loi):
            old = self._inventory(loi)
            found = self._same(old, deposit.files, author, old.number if since is None else since)
            if found is not None:
                return found
            if newest not in (None, old.number):
                raise PreconditionFailed(version=old.number)
            made = inventory.advance(old, loi, deposit.files, author, _now(at))
            self._version(stage, stage.folder, made, deposit.files)
            settle.announce(stage.folder, ocfl.place(loi), made.head)
            stage.flush()
            settle.advance(stage.folder, folder, made.head)
        return self._snapshot(folder, made, None)

    def same(self, loi: Loi, deposit: Deposit, author: Author, since: int) -> Snapshot | None:
        """Return the first version from number ``since`` on that is just this and sound, if there is one."""
        return self._same(self._inventory(loi), deposit.files, author, since)

    def open(self, loi: Loi, version: int | None = None) -> Snapshot:
        """Open a version (default: the newest); NoSuchDataset, NoSuchVersion, or Damaged when it cannot be trusted."""
        return self._snapshot(self._place(loi), self._inventory(loi), version)

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

    def versions(self, loi: Loi) -> list[tuple[int, str, Author]]:
        """Return number, creation time (RFC 3339, UTC) and author of each version, oldest first."""
        found = self._inventory(loi)
        return [
            (number, version.created, Author(name=version.user.get("name", ""), address=version.user.get("address", ""),
                                             message=version.message))
            for number, version in enumerate(found.versions.values(), 1)
        ]  # fmt: skip

    def verify(self, loi: Loi, throttle: Throttle | None = None) -> Verdict:
        """Read everything again and name what is wrong; ``throttle`` is told of bytes read and may wait.

        Waits for a patch that is just being made visible, no longer.
        """
        folder = self._place(loi)
        if not folder.is_dir():
            raise NoSuchDataset(loi=str(loi))
        with self._locked(loi):
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
            settle.discard(leftover)
            count += 1
        return count

    # ---- parts ---------------------------------------------------------------------------------------------------

    def _place(self, loi: Loi) -> Path:
        return self.root / ocfl.place(loi)

    def _lock(self, place: str) -> Path:
        return self.work / "locks" / sha256(place.encode()).hexdigest()[:2]

    def _locked(self, loi: Loi) -> AbstractContextManager[None]:
        return staging.exclusive(self._lock(ocfl.place(loi)))

    def _inventory(self, loi: Loi) -> Inventory:
        """Read the root inventory; one whose sidecar is behind is good when its version folder's sidecar agrees."""
        folder = self._place(loi)
        try:
            raw = (folder / inventory.FILE).read_bytes()
            sidecar = (folder / inventory.SIDECAR).read_bytes() if (folder / inventory.SIDECAR).exists() else b""
        except FileNotFoundError:
            if folder.is_dir():
                raise Damaged("A dataset has lost its inventory.", loi=str(loi)) from None
            raise NoSuchDataset(loi=str(loi)) from None
        if not inventory.matches(raw, sidecar) and not settle.is_newer(folder, raw):
            raise Damaged("The inventory of a dataset is damaged.", loi=str(loi))
        found = inventory.read(raw)
        if found.id != f"{inventory.SCHEME}{loi}":
            raise Damaged("The inventory is that of another dataset.", loi=str(loi))
        return found

    def _snapshot(self, folder: Path, found: Inventory, version: int | None) -> Snapshot:
        number = found.number if version is None else version
        if not 1 <= number <= found.number:
            raise NoSuchVersion(version=number)
        contents: dict[str, Content] = {}
        for known in range(1, found.number + 1):
            with suppress(FileNotFoundError, Damaged):  # only files that need them are refused then
                contents |= blocks.read((folder / "extensions" / blocks.EXTENSION / f"v{known}.txt").read_bytes())
        return Snapshot(folder, found, number, contents)

    def _same(self, held: Inventory, files: Sequence[Taken], author: Author, since: int) -> Snapshot | None:
        number = inventory.same(held, files, author.message, since)
        if not number:
            return None
        found = self._snapshot(self._place(held.loi), held, number)
        return found if all(found.holds(file) for file in files if file.stored) else None

    def _version(self, stage: Stage, parent: Path, made: Inventory, files: Sequence[Taken]) -> dict[str, Content]:
        """Make the version's folder, block digests and both inventories below ``parent``; the content moves in."""
        contents = {
            path: Content(path, file.size, file.crc32, file.blocks)
            for path, file in ((inventory.content_path(made.head, file.name), file) for file in files if file.stored)
        }
        folder, extension = parent / made.head, parent / "extensions" / blocks.EXTENSION
        folder.mkdir(mode=0o750)
        extension.mkdir(mode=0o750, parents=True)
        if contents:
            stage.content.rename(folder / "content")
        _inventories((folder, parent), made)
        staging.write(extension / f"{made.head}.txt", blocks.write(contents.values()))
        return contents


def _inventories(folders: Sequence[Path], made: Inventory) -> None:
    """Write the same inventory and sidecar into each of ``folders``."""
    digest = sha512()
    with ExitStack() as files:
        written = [files.enter_context((folder / inventory.FILE).open("xb")) for folder in folders]
        for piece in inventory.pieces(made):
            digest.update(piece)
            for file in written:
                file.write(piece)
    for folder in folders:
        staging.write(folder / inventory.SIDECAR, inventory.sidecar(digest.hexdigest()))


def _identity(path: Path) -> tuple[int, int, int, int] | None:
    try:
        facts = path.stat()
    except FileNotFoundError:
        return None
    return facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


def _now(at: float | None) -> float:
    return time.time() if at is None else at
