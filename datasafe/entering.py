"""Entering what is held into the catalogue's index: a duty of the worker, in short steps, after the commit of a change.

The queue is worked off from its oldest row; each step is one transaction with the row's progress, so that it may be
killed anywhere.  What cannot be read is put off, and everything behind it goes on.
"""

import logging
import time
from collections.abc import Iterable, Iterator
from hashlib import sha256
from itertools import compress
from typing import Any

from ..common import entry, fulltext, memory, orm
from ..common.batch import batches
from ..common.entry import DATASET, PACK, TRANSACTION, Entry
from ..common.errors import DatabaseAway, NoSpace
from ..common.words import words
from . import wording
from .files import MD5
from .loi import dataset
from .manifest import NAME as MANIFEST
from .orm import Dataset, DatasetFile, DatasetKeyValue
from .safe import Safe
from .snapshot import Snapshot

RUN = 1000  # files of one entry
WINDOW = 5000  # files of one step: it holds SQLite's only writer
PART = 25_000  # digests of one step: their places are all over, and all that are near each other share a page
ROWS = 100  # of the queue, in one transaction
PUT_OFF_SECONDS = 300.0

logger = logging.getLogger(__name__)

Waiting = tuple[int, str, int, int]
Row = tuple[str, str, str, str, int]  # subdir, name, SHA-512, MD5, size


def enter(safe: Safe, seconds: float = 0.25) -> int:
    """Enter what waits, the oldest first, for about ``seconds``; return how many steps were made."""
    until, steps = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        rows = _due(ROWS)
        if not rows:
            break
        if rows[0][1] == DATASET:
            _aside(safe, rows[0])
            steps += 1
        else:
            steps += _together([row for row in rows if row[1] != DATASET])
    return steps


def is_due() -> bool:
    """Tell whether anything is to be entered now."""
    return bool(_due(1))


def _due(most: int) -> list[Waiting]:
    now = orm.now().sql
    sql = (
        "SELECT id, kind, subject, after FROM unentered"
        f" WHERE due <= {now} OR due > {now} + {PUT_OFF_SECONDS} ORDER BY id LIMIT ?"  # the clock was set back
    )
    return orm.rows(sql, most)


def _together(rows: list[Waiting]) -> int:
    """Make steps for ``rows`` in one transaction, until they have been worth a run of files."""
    steps = files = 0
    with orm.transaction():
        for id, kind, subject, after in rows:
            if files >= WINDOW:
                break
            if not orm.execute("UPDATE unentered SET after = after WHERE id = ? AND after = ?", id, after):
                continue  # another worker's
            try:
                with orm.savepoint():  # its failure is caught, and must not take the others along
                    read, come = _transaction(subject) if kind == TRANSACTION else _pack(subject, after)
                    _advance(id, come)
                files += read
            except (DatabaseAway, NoSpace):
                raise
            except Exception:
                # whatever it is that one thing has: those behind it must not wait for it
                logger.exception("%s %d cannot be entered into the catalogue", kind, subject)
                _put_off(id)
            steps += 1
    return steps


def _aside(safe: Safe, row: Waiting) -> None:
    """Enter a dataset; its inventory is read before the transaction begins."""
    id, _, subject, _ = row
    try:
        held = Dataset.get_or_none(Dataset.id == subject)
        name = dataset(held.loi) if held else None
        newest = safe.store.open(name) if name and safe.store.exists(name) else None
        said = wording.of_manifest(newest) if newest else []
        files = _Newest(newest) if newest else None
        with orm.transaction():
            if orm.execute("UPDATE unentered SET after = after WHERE id = ?", id):
                _dataset(subject, held, files, said)
                _advance(id, None)
    except (DatabaseAway, NoSpace):
        raise
    except Exception:  # as above
        logger.exception("dataset %d cannot be entered into the catalogue", subject)
        _put_off(id)
    newest = files = None  # as large as the dataset
    memory.trim()


def _advance(id: int, after: int | None) -> None:
    if after is None:
        orm.execute("DELETE FROM unentered WHERE id = ?", id)
    else:
        orm.execute("UPDATE unentered SET after = ? WHERE id = ?", after, id)


def _put_off(id: int) -> None:
    orm.execute("UPDATE unentered SET due = ? WHERE id = ?", orm.clock() + PUT_OFF_SECONDS, id)


# ---- transactions and files ----------------------------------------------------------------------------------------


def _transaction(id: int) -> tuple[int, None]:
    _forget(TRANSACTION, id)
    for found, said in wording.of_transactions([id]).items():
        _new({"kind": TRANSACTION, "subject": found}, said)
    return 1, None


def _pack(pack: int, after: int) -> tuple[int, int | None]:
    """Make one step with a pack: the runs of a window of its ids, then its digests, a part of all there are at a time.

    Returns about how many files that was, and how far it has come; None at its end.
    """
    if not after:
        _forget(PACK, pack)
    held = orm.rows("SELECT first_id, count, owner FROM pack WHERE id = ? AND published", pack)
    if not held:
        return 1, None
    first, count, owner = held[0]
    if after < count:
        begin, end = first + after, min(first + after + WINDOW, first + count)
        for low in range(begin, end, RUN):
            _runs(pack, owner, orm.rows(_FILES, low, min(low + RUN, end), pack))
        return end - begin, after + WINDOW if end < first + count else count
    parts = -(-count // PART)
    part = after - count
    letters = _HEX[part * 16 // parts : (part + 1) * 16 // parts] if parts < 16 else _HEX[part]
    sql = _DIGESTS.format(", ".join("?" * len(letters)))
    digests = [(entry.prefix(hashsum), id) for hashsum, id in orm.rows(sql, first, first + count, pack, *letters)]
    entry.enter_digests((prefix, id) for prefix, id in digests if prefix is not None)
    return len(digests) + 1, after + 1 if part + 1 < min(parts, 16) else None


_HEX = "0123456789abcdef"
_FILES = (
    'SELECT id, "transaction", subdir, name FROM archivedfile WHERE id >= ? AND id < ? AND pack + 0 = ? ORDER BY id'
)
_DIGESTS = (
    "SELECT hashsum, id FROM archivedfile WHERE id >= ? AND id < ? AND pack + 0 = ?"
    ' AND "size" > 0 AND substr(hashsum, 1, 1) IN ({})'
)


def _runs(pack: int, owner: str, rows: list[Any]) -> None:
    """Make the entries of files: one, unless they are of several transactions, or have long names."""
    about = wording.of_transactions({row[1] for row in rows if row[1] is not None})
    said = wording.of_files(rows[0][0], rows[-1][0]) if rows else {}
    while rows:
        some = rows[: _end(rows, said)]
        texts = [*{row[2] for row in some}, *(row[3] for row in some)]
        if said:
            texts += [said.get(row[0], "") for row in some]
        run = {"first": some[0][0], "last": some[-1][0], "transaction": some[0][1]}
        heard = set(words("\n".join(texts)))
        _new({"kind": PACK, "subject": pack, "owner": owner, **run}, heard.union(about.get(some[0][1], ())))
        rows = rows[len(some) :]


def _end(rows: list[Any], said: dict[int, str]) -> int:
    """Return how many of ``rows`` share a transaction and fit into one entry."""
    longest = max(len(row[2]) + len(row[3]) for row in rows)
    if not said and 4 * longest * len(rows) < fulltext.MOST_BYTES and len({row[1] for row in rows}) == 1:
        return len(rows)
    size = 0
    for end, (id, transaction, subdir, name) in enumerate(rows):
        if transaction != rows[0][1] or size > fulltext.MOST_BYTES:
            return end
        size += 4 * (len(subdir) + len(name) + len(said.get(id, "")))
    return len(rows)


def _new(facts: dict[str, Any], said: set[str]) -> None:
    id = Entry.insert(**facts).execute()
    if said:
        fulltext.enter(id, said)


def _forget(kind: str, subject: int) -> None:
    orm.execute("DELETE FROM entry WHERE kind = ? AND subject = ?", kind, subject)


# ---- datasets ------------------------------------------------------------------------------------------------------


def _dataset(id: int, held: Dataset | None, newest: "_Newest | None", said: list[tuple[str, str]]) -> None:
    """Make the entries and files of a dataset those of its newest version; none where it was deleted."""
    _forget(DATASET, id)
    orm.execute("DELETE FROM datasetkeyvalue WHERE dataset = ?", id)
    orm.insert_rows(DatasetKeyValue, ("dataset", "key", "value"), [(id, *pair) for pair in said])
    wanted = newest or ()
    fresh = _renewed(id, wanted)
    columns = "dataset", "subdir", "name", "sha512", "md5", "size"
    orm.insert_rows(DatasetFile, columns, ((id, *row) for row in compress(wanted, fresh)))
    for some in batches(compress(wanted, fresh), PART):
        digests = ((entry.prefix(digest), -id) for row in some if row[4] for digest in row[2:4])
        entry.enter_digests((prefix, place) for prefix, place in digests if prefix is not None)
    if held is not None and newest is not None:
        told = " ".join(f"{key} {value}" for key, value in said)[: wording.MOST]
        head = f"{held.loi} {held.owner} {newest.author.name} {newest.author.message} {told}"
        facts = {"kind": DATASET, "subject": id, "owner": held.owner, "name": held.loi, "head": head}
        for some in batches(wanted, RUN // 4) if len(newest) else [[]]:
            _new(facts, set(words("\n".join([head, *(f"{row[0]}\n{row[1]}" for row in some)]))))


def _renewed(id: int, wanted: Iterable[Row]) -> bytearray:
    """Remove the rows of a dataset that are not ``wanted``; return, for each that is, whether it is still to be made.

    A dataset has them by the hundred thousand: held of each is a fingerprint.
    """
    known: dict[bytes, int] = {}
    name, last = "", 0
    while rows := orm.rows(_KNOWN, id, name, last, WINDOW):
        known |= {_fingerprint(row): row_id for row_id, *row in rows}
        last, _, name, *_ = rows[-1]
    fresh = bytearray(known.pop(_fingerprint(row), None) is None for row in wanted)
    for row_id in known.values():
        orm.execute("DELETE FROM datasetfile WHERE id = ?", row_id)
    return fresh


_KNOWN = (
    'SELECT id, subdir, name, sha512, md5, "size" FROM datasetfile'
    " WHERE dataset = ? AND (name, id) > (?, ?) ORDER BY name, id LIMIT ?"
)


def _fingerprint(row: Iterable[Any]) -> bytes:
    return sha256("\0".join(map(str, row)).encode()).digest()[:16]


class _Newest:
    """The files of a version that are content, as the database has them: the manifest is not."""

    def __init__(self, snapshot: Snapshot) -> None:
        """Read the sums now: the rows are made when they are asked for."""
        self._snapshot, self.author = snapshot, snapshot.author
        self._md5s = b"".join(bytes.fromhex(md5) or bytes(MD5) for md5 in snapshot.sums())

    def __len__(self) -> int:
        return len(self._snapshot) - 1

    def __iter__(self) -> Iterator[Row]:
        """Yield subdir, name, SHA-512, MD5 and size of each."""
        for at, (path, size, sha512) in enumerate(self._snapshot.rows()):
            if path != MANIFEST:
                subdir, _, name = path.rpartition("/")
                md5 = self._md5s[at * MD5 : (at + 1) * MD5]
                yield subdir, name, sha512, md5.hex() if any(md5) else "", size
