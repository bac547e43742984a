"""Ledger, catalogue and dataset index, made anew from the volume alone (docs/audit.md#rebuild).

Only what is missing is added, so it may be repeated, and runs beside a living suite.  What the volume does not know is
not made up: people and relations, jobs, carts, verdicts, and what was attached to files later.
"""

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from ..common import counter, draft, journal, ledger, orm
from ..common.catalog import Transaction, record
from ..common.entry import DATASET, queue
from ..common.errors import Damaged, ServiceError
from ..common.moment import epoch
from ..common.rereading import Reread, reader
from ..common.sidecar import Sidecar
from ..common.volume import Volume
from .loi import Loi
from .orm import Dataset, DatasetTombstone, reserve
from .safe import Safe

log = logging.getLogger(__name__)

Complain = Callable[[str], None]

_SIDECAR = re.compile(r"([0-9a-f]{32})\.json")


def rebuild(safe: Safe, complain: Complain) -> Counter[str]:
    """Add what the volume has and the database has not; return how many of each were added.

    ``complain`` is told of each pack or dataset that could not be read, and of each file in a pack that is damaged;
    the others follow.
    """
    return packs(safe.volume, complain) + datasets(safe, complain)


# ---- packs ---------------------------------------------------------------------------------------------------------


def packs(volume: Volume, complain: Complain) -> Counter[str]:
    """Enter each pack that the ledger does not know, in the order in which they were made, and then the deletions."""
    added: Counter[str] = Counter()
    for _, name in sorted(_sidecars(volume, complain)):
        if orm.rows("SELECT 1 FROM pack WHERE name = ?", name):
            continue  # known, or in the making
        try:
            added["files"] += _enter(volume, _sidecar(volume, name), complain)
            added["packs"] += 1
        except (ServiceError, OSError, ValueError) as error:
            complain(f"pack {name}: {error}")
    for entry in journal.entries(volume.deletions):
        added["deleted files"] += _bury(entry)
    return added


def _sidecars(volume: Volume, complain: Complain) -> Iterator[tuple[float, str]]:
    for path in volume.packs.glob("??/??/*.json"):
        found = _SIDECAR.fullmatch(path.name)
        if not found:
            continue
        try:
            Sidecar.read(volume, found[1])
        except Damaged as error:
            complain(f"pack {found[1]}: {error}")
        with suppress(ServiceError):  # told already
            yield _sidecar(volume, found[1]).created, found[1]


def _sidecar(volume: Volume, name: str) -> Sidecar:
    """Read a sidecar, as it was before a bit has turned in it."""
    try:
        return Sidecar.read(volume, name)
    except Damaged:
        return Sidecar.mended(volume, name)


def _enter(volume: Volume, sidecar: Sidecar, complain: Complain) -> int:
    """Write the rows of one pack, published at its end; files that are damaged are marked, named, and never served."""
    told = _file(sidecar) if sidecar.kind == "file" else _reread(volume, sidecar)
    pack = draft.begin_pack(
        sidecar.pack, sidecar.kind, sidecar.job, 0, sidecar.first_id, sidecar.count, sidecar.size, sidecar.owner
    )
    bad: dict[int, str] = {}
    rows = _naming(told, bad)
    if sidecar.kind != "file":
        draft.add_files(pack, rows, lambda: None)
    with orm.transaction():
        counter.reserve_beyond("file", sidecar.first_id + sidecar.count - 1)
        for row in rows:
            draft.hold(pack, row)
        draft.publish(pack)
        ledger.mark(told.damaged, ledger.DAMAGED)
        ledger.Pack.update(created=sidecar.created).where(ledger.Pack.id == pack.id).execute()
        if told.about is not None and sidecar.job is not None:
            counter.reserve_beyond("upload_job", sidecar.job)
            if not Transaction.get_or_none(Transaction.id == sidecar.job):
                record(sidecar.job, owner=sidecar.owner, **told.about)
                Transaction.update(created=sidecar.created).where(Transaction.id == sidecar.job).execute()
    for id, path in bad.items():
        complain(f"pack {sidecar.pack}: file {id} is damaged: {path}")
    return pack.count


def _naming(told: Reread, bad: dict[int, str]) -> Iterator[tuple[Any, ...]]:
    """Yield the rows, which a pack has by the hundred thousand, and note the paths of those that are damaged."""
    damaged = {*told.damaged}
    for row in told.rows:
        facts = dict(zip(ledger.ARCHIVED_FILE_COLUMNS, row, strict=True)) if damaged else {}
        if facts and facts["id"] in damaged:
            bad[facts["id"]] = "/".join(filter(None, (facts["subdir"], facts["name"])))
        yield row


def _file(sidecar: Sidecar) -> Reread:
    """Return the row of a pack that is a single file: the sidecar has it."""
    try:
        return Reread([tuple(sidecar.extra[name] for name in ledger.ARCHIVED_FILE_COLUMNS)], None)
    except KeyError as error:
        raise ValueError(f"the sidecar does not say {error}") from error


def _reread(volume: Volume, sidecar: Sidecar) -> Reread:
    read = reader(sidecar.kind)
    if read is None:
        raise ValueError(f"no installed service reads packs of kind {sidecar.kind}")
    return read(volume, sidecar)


def _bury(entry: dict[str, Any]) -> int:
    """Delete a file as the journal says, unless it was archived again after that."""
    sql = "SELECT p.created FROM archivedfile f JOIN pack p ON p.id = f.pack WHERE f.id = ? AND p.published"
    held = orm.rows(sql, entry["id"])
    if not held or held[0][0] > entry["at"]:
        return 0
    ledger.delete_file(entry["id"], entry["who"], entry["reason"])
    ledger.Tombstone.update(at=entry["at"]).where(ledger.Tombstone.id == entry["id"]).execute()
    return 1


# ---- datasets ------------------------------------------------------------------------------------------------------


def datasets(safe: Safe, complain: Complain) -> Counter[str]:
    """Enter reservations and ends from the register, then what the store holds."""
    added: Counter[str] = Counter()
    for series in safe.register.series():
        for entry in safe.register.entries(series):
            loi = series.loi(entry["number"])
            if "given" in entry:
                added["reservations"] += reserve(loi, entry["given"], entry["at"])
            else:
                added["deleted datasets"] += _end(loi, entry)
        if safe.register.damaged(series):
            complain(f"register of {series}: lines do not check")
    for loi in safe.store.datasets():
        try:
            added["versions"] += _versions(safe, loi)
        except (ServiceError, OSError) as error:
            complain(f"dataset {loi}: {error}")
    return added


def _end(loi: Loi, entry: dict[str, Any]) -> int:
    with orm.transaction():
        row = Dataset.get_or_none(Dataset.loi == str(loi))
        if DatasetTombstone.get_or_none(DatasetTombstone.loi == str(loi)):
            return 0
        facts = {"who": entry["deleted"], "at": entry["at"], "reason": entry["reason"]}
        owner, version = (row.owner, row.version) if row else ("", 0)
        DatasetTombstone.insert(loi=str(loi), owner=owner, version=version, **facts).execute()
        Dataset.delete().where(Dataset.loi == str(loi)).execute()
        if row:
            queue(DATASET, row.id)
    return 1


def _versions(safe: Safe, loi: Loi) -> int:
    """Enter the newest version of a dataset, unannounced; return how many versions were not known."""
    newest, first = safe.store.open(loi).facts, safe.store.versions(loi)[0]
    reserve(loi, first.author.name, epoch(first.created))
    known = orm.rows("SELECT version, id FROM dataset WHERE loi = ?", str(loi))
    if not known or known[0][0] >= newest.number:
        return 0
    facts = {"version": newest.number, "files": newest.files, "size": newest.size, "stored": newest.created}
    with orm.transaction():
        Dataset.update(facts).where(Dataset.loi == str(loi)).execute()
        queue(DATASET, known[0][1])
    return int(newest.number - known[0][0])
