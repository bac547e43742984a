"""What lies on the volume and belongs to nothing, and what tells of the datasets as a whole.

A thing is looked for on the disk first and in the database second, and on the disk again before it is told: what
comes or goes meanwhile is no finding.
"""

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ..common import journal, orm
from ..common.batch import batches
from ..common.volume import Volume
from . import ocfl
from .frames import CHANGED, MISSING, UNEXPECTED, Finding
from .loi import series_named
from .orm import Series
from .safe import Safe

OLD_SECONDS = 86400.0  # a write that has not ended after a day is no longer one

_PACK = re.compile(r"([0-9a-f]{2})([0-9a-f]{2})[0-9a-f]{28}(\.json)?")

Step = Callable[[], None]  # called now and then; may raise to end the check


def packs(safe: Safe, step: Step) -> Iterator[Finding]:
    """Yield what lies below ``packs/`` and is no pack of the ledger, nor on its way to be one."""
    volume = safe.volume
    for batch in batches(_files(volume.packs), 500):
        step()
        names = {path.name[:32] for path in batch}
        known = {row[0] for row in orm.rows(f"SELECT name FROM pack WHERE name IN ({_marks(names)})", *names)}
        for path in batch:
            if path.name[:32] in known and _is_in_place(path):
                continue
            if (path.name.startswith(".") and not _is_old(path)) or not os.path.lexists(path):
                continue
            yield _unexpected(volume, path)


def datasets(safe: Safe, step: Step) -> Iterator[Finding]:
    """Yield what lies below ``datasets/`` and is no dataset that was given, and what is wrong with the root itself."""
    root = safe.store.root
    for name, content in ocfl.root_files():
        path = root / name
        if not path.is_file():
            yield Finding(MISSING, str(path.relative_to(safe.volume.root)))
        elif path.read_bytes() != content:
            yield Finding(CHANGED, str(path.relative_to(safe.volume.root)))
    foreign = ocfl.foreign(root)
    for path in foreign:
        if os.path.lexists(path):
            yield _unexpected(safe.volume, path)
    for batch in batches(ocfl.objects(root), 500):
        step()
        lois = {folder: ocfl.named(folder) for folder in batch}
        names = [str(loi) for loi in lois.values() if loi]
        known = {row[0] for row in orm.rows(f"SELECT loi FROM dataset WHERE loi IN ({_marks(names)})", *names)}
        for folder, loi in lois.items():
            if str(loi) not in known and folder.is_dir():
                yield _unexpected(safe.volume, folder)


def register(safe: Safe, step: Step) -> Iterator[Finding]:
    """Yield each file of the register that is missing, or has lines that do not check; the journal of deletions too."""
    damaged = journal.damaged(safe.volume.deletions)
    if damaged:
        yield Finding(CHANGED, safe.volume.deletions.name, found=f"{damaged} lines do not check")
    for row in list(Series.select()):
        step()
        series = series_named(row.name)
        place = f"datasets/{safe.register.path(series)}"
        damaged = safe.register.damaged(series)
        if damaged:
            yield Finding(CHANGED, place, found=f"{damaged} lines do not check")
        elif not safe.register.entries(series) and _is_settled(row.name):
            yield Finding(MISSING, place)


CHECKS: Mapping[str, Callable[[Safe, Step], Iterator[Finding]]] = {
    "packs": packs,
    "datasets": datasets,
    "register": register,
}


def _files(folder: Path) -> Iterator[Path]:
    for here, _, names in os.walk(folder):
        yield from (Path(here, name) for name in names)


def _is_in_place(path: Path) -> bool:
    found = _PACK.fullmatch(path.name)
    return found is not None and path.parent.parts[-2:] == (found[1], found[2])


def _is_old(path: Path) -> bool:
    try:
        return path.lstat().st_mtime < time.time() - OLD_SECONDS
    except FileNotFoundError:
        return False


def _is_settled(series: str) -> bool:
    """Say whether a number of the series was given long enough ago to stand in the register."""
    found = orm.rows(
        f"SELECT 1 FROM dataset WHERE loi LIKE ? AND created < {orm.now().sql} - 60 LIMIT 1", f"{series}/%"
    )
    return bool(found)


def _unexpected(volume: Volume, path: Path) -> Finding:
    return Finding(UNEXPECTED, os.fsencode(path.relative_to(volume.root)).decode("utf-8", "backslashreplace"))


def _marks(values: object) -> str:
    return ", ".join("?" * len(values)) or "NULL"  # type: ignore[arg-type]
