"""Datasets as a whole: numbers and owners in SQL, bytes and versions in the store, reservations and ends in both.

The store decides what a dataset holds; SQL follows.  Between the two a ``Pending`` row stands, so that what became
visible in the moment of a crash is entered and announced later (``settle``).
"""

import logging
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ..common import memory, orm
from ..common.catalog import Reader
from ..common.errors import BadRequest, Damaged, DatabaseAway, MethodNotAllowed, NoSpace
from ..common.volume import Volume
from . import intake, once, staging
from .config import Datasafe
from .dataset import DatasetExists, DatasetStore, NoSuchDataset, NoSuchVersion
from .intake import Deposit, Limits
from .inventory import Author
from .loi import Loi, Series, dataset
from .once import Attempt
from .orm import Dataset, DatasetGone, DatasetTombstone, Pending, bury, give, note_version, reserve
from .register import Register
from .snapshot import Facts
from .staging import Stage
from .stored import Stored, warnings
from .taken import Held

MAX_TEXT = 1000  # characters of a message or a reason

log = logging.getLogger(__name__)


class NoContent(BadRequest):
    """No content provided to deposit."""

    code = "no_content"


class DatasetEmpty(MethodNotAllowed):
    """Directory empty"""  # so spelt by the original, without a full stop

    code = "dataset_empty"

    def __init__(self) -> None:
        """Tell the client to PUT."""
        super().__init__(allow="PUT")


class NoVersion(NoSuchVersion):
    """LOI does not have content."""

    code = "no_version"


class Safe:
    """The datasets of ``volume``; usable in process, without a server, on a connected database."""

    def __init__(self, volume: Volume, settings: Datasafe) -> None:
        """Make the storage root where it is absent."""
        self.volume, self.settings = volume, settings
        self.store = DatasetStore(volume.datasets, volume.work)
        self.register = Register(volume.datasets)

    def create(self, series: Series, owner: str, key: str | None = None) -> Loi:
        """Reserve the next LOI of ``series`` for ``owner``; database and register have it when this returns.

        Asked again under the same Idempotency-Key it is the same LOI, and the register says so twice.
        """
        loi = dataset(once.given(owner, key, f"POST {series}", lambda: str(give(series, owner))))
        self.register.given(series, loi.number, owner, orm.clock())
        return loi

    def reserve(self, loi: Loi, owner: str) -> bool:
        """Reserve exactly this LOI for ``owner``, as a takeover needs it; False when it was given before.

        DatasetGone when it was deleted.  The register comes first here: done twice it says so twice, which is harmless.
        """
        try:
            self.find(loi)
        except NoSuchDataset:
            at = orm.clock()
            self.register.given(loi.series, loi.number, owner, at)
            return reserve(loi, owner, at)
        return False

    def find(self, loi: Loi) -> Dataset:
        """Return the row of a LOI; NoSuchDataset when it was never given, DatasetGone when it was deleted."""
        found: Dataset | None = Dataset.get_or_none(Dataset.loi == str(loi))
        if found is None:
            end = self.tombstone(loi)
            if end is None:
                raise NoSuchDataset(loi=str(loi))
            raise DatasetGone(loi=str(loi), who=end.who, at=end.at, reason=end.reason)
        return found

    def tombstone(self, loi: Loi) -> DatasetTombstone | None:
        """Return what is left of a deleted dataset."""
        return DatasetTombstone.get_or_none(DatasetTombstone.loi == str(loi))

    def put(
        self,
        loi: Loi,
        fill: Callable[[memoryview], int],
        length: int | None,
        author: Author,
        *,
        first: bool,
        reader: Reader | None = None,
        key: str | None = None,
        newest: int | None = None,
    ) -> Stored:
        """Store the zip that ``fill`` delivers (into a view, 0 at the end) as the first version, or as one more.

        What the newest version is already adds none.  Under an Idempotency-Key, ``author``'s own, neither does what a
        version is that came since the key did; KeyReused when something else was sent under it.  PreconditionFailed
        when the newest version is not number ``newest``.

        Before a byte is read: BadRequest for a message that is no text, DatasetExists or DatasetEmpty when the other
        was meant.  Refused, NoSpace and whatever ``fill`` raises leave the dataset as it was.  Durable, entered and
        announced when this returns.  ``reader`` is warned of content that is held already, where he may read
        it.
        """
        _require_text(author.message)
        request = _request(loi, first)
        attempt = once.earlier(author.name, key, request)
        exists = self.store.exists(loi)
        if first is exists and not (exists and attempt):
            raise DatasetExists if exists else DatasetEmpty
        with self._ending(loi), self.store.stage() as stage, ExitStack() as rooms:
            upload = self._spool(fill, length, stage)
            held = None if first else self.store.holding(loi)
            before = held.number if held is not None else 0
            attempt = attempt or once.begin(author.name, key, request, before)
            deposit = self._take(upload, stage, held.holds if held is not None else None, rooms)
            del held  # as large as the dataset
            memory.trim()
            if attempt is not None:
                attempt.mark(deposit.files, author.message)
            pending = Pending.insert(loi=str(loi), stage=stage.folder.name).execute()
            if first:
                facts = self._first(loi, stage, deposit, author, attempt)
            else:
                since = attempt.since if attempt else None
                facts = self.store.patch(loi, stage, deposit, author, since=since, newest=newest)
            self._follow(loi, facts, pending)
        row = self.find(loi)  # it may have been deleted meanwhile
        is_new = facts.number > (attempt.since if attempt else before)
        return Stored(facts, deposit.integrity, (*warnings(deposit, row, facts, reader, is_new=is_new),))

    def is_again(self, loi: Loi, owner: str, key: str | None, *, first: bool) -> bool:
        """Say whether an upload came under this key before; KeyReused where something else did."""
        return once.earlier(owner, key, _request(loi, first)) is not None

    def delete(self, loi: Loi, who: str, reason: str, newest: int | None = None) -> DatasetTombstone:
        """Delete a dataset, or a reservation, for good and return its tombstone; the number is never given again.

        PreconditionFailed, changing nothing, when the newest version is not number ``newest``.
        """
        with self.store.unchanged(loi, newest):
            bury(self.find(loi), who, reason)
        end = self.tombstone(loi)
        assert end is not None
        self._end(end)
        return end

    def settle(self) -> int:
        """Do what dead uploads and deletions left undone; return how much.  Safe beside living ones."""
        count = self.store.recover()
        for pending in list(Pending.select().limit(100)):
            if not self.store.is_staged(pending.stage):  # nor will it do anything any more
                loi = dataset(pending.loi)
                try:
                    if self.store.exists(loi):
                        self._enter(loi, self.store.open(loi).facts)
                except Damaged as error:  # the audit tells of it, and nothing else has to wait for its repair
                    log.error("%s cannot be entered: %s", loi, error)
                    continue
                count += Pending.delete_by_id(pending.id)
        for end in list(DatasetTombstone.select().where(~DatasetTombstone.settled).limit(100)):
            self._end(end)
            count += 1
        return count

    @contextmanager
    def _ending(self, loi: Loi) -> Iterator[None]:
        """Say who deleted a dataset meanwhile, and why, where the block no longer finds it."""
        try:
            yield
        except NoSuchDataset:
            self.find(loi)
            raise

    def _spool(self, fill: Callable[[memoryview], int], length: int | None, stage: Stage) -> Path:
        """Write an upload as it was sent into ``stage``; NoContent for an empty one."""
        upload = stage.folder / "upload"
        with self.volume.reserve(length) as room:
            if not staging.spool(fill, upload, room.written):
                raise NoContent
        return upload

    def _take(self, upload: Path, stage: Stage, held: Held | None, rooms: ExitStack) -> Deposit:
        """Take in what is in ``upload``, which is gone then; ``rooms`` keeps the room for it."""
        limits = Limits(max_bytes=self.settings.max_bytes, max_members=self.settings.max_members)
        room = self.volume.reserve
        deposit = intake.take(upload, stage.content, limits, held, lambda size: rooms.enter_context(room(size)))
        upload.unlink()
        return deposit

    def _first(self, loi: Loi, stage: Stage, deposit: Deposit, author: Author, attempt: Attempt | None) -> Facts:
        """Put the first version, or return what an earlier request of the same key has put."""
        try:
            return self.store.put(loi, stage, deposit, author)
        except DatasetExists:
            found = self.store.same(loi, deposit, author, 1) if attempt else None
            if found is None:
                raise
            return found

    def _follow(self, loi: Loi, facts: Facts, pending: int) -> None:
        """Enter what the store has just made visible; a database that cannot now has it later, by ``settle``."""
        try:
            self._enter(loi, facts)
            Pending.delete_by_id(pending)
        except (DatabaseAway, NoSpace) as error:  # a refusal would be untrue: the dataset is there to stay
            log.warning("%s is stored and not entered yet: %s", loi, error)

    def _enter(self, loi: Loi, newest: Facts) -> None:
        """Enter every version up to ``newest`` that SQL does not know; take all away when the LOI was deleted."""
        row = Dataset.get_or_none(Dataset.loi == str(loi))
        versions = [
            newest if number == newest.number else self.store.open(loi, number).facts
            for number in range(row.version + 1 if row else newest.number, newest.number + 1)
        ]
        facts = [(one.number, one.files, one.size, one.author.name, one.created) for one in versions]
        if not note_version(str(loi), facts) and self.tombstone(loi) is not None:
            self.store.remove(loi)

    def _end(self, end: DatasetTombstone) -> None:
        loi = dataset(end.loi)
        known = any("deleted" in entry for entry in self.register.entries(loi.series) if entry["number"] == loi.number)
        if not known:
            self.register.deleted(loi.series, loi.number, end.who, end.at, end.reason)
        self.store.remove(loi)
        DatasetTombstone.update(settled=True).where(DatasetTombstone.id == end.id).execute()


def _request(loi: Loi, first: bool) -> str:
    return f"{'PUT' if first else 'PATCH'} {loi}"


def _require_text(message: str) -> None:
    """Raise BadRequest for what is too long, or would do something to the terminal of whoever reads it."""
    if len(message) > MAX_TEXT:
        raise BadRequest("The message is longer than 1,000 characters.", parameter="message")
    if any(unicodedata.category(letter) in ("Cc", "Cs") and letter not in "\t\r\n" for letter in message):
        raise BadRequest("The message has control characters.", parameter="message")
