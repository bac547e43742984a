"""The datasets of a LabInform datasafe, taken over with their LOIs from its folder (docs/datasafe.md#takeover).

The tree is only read.  Each dataset is held against its own manifest, as an upload is; what does not agree is told and
left, its LOI reserved.  Safe to repeat: what is held already is compared, and nothing is stored twice.
"""

import hashlib
import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from ..common.errors import ServiceError
from .dataset import DatasetExists
from .faults import Refused, refuse
from .folders import Folders
from .inventory import Author
from .loi import InvalidLoi, Loi, dataset
from .paths import NameLimits, judge
from .safe import Safe

TAKEN, KNOWN, RESERVED = "taken", "known", "reserved"  # what became of a dataset that is in order
DAMAGED, LEFT = "damaged", "left"  # its bytes are not those of its manifest; it cannot be taken for another reason

_DAMAGE = {"checksum_mismatch", "file_absent"}
_PIECE = 1 << 20


class Outcome(NamedTuple):
    """What became of one folder of the tree; ``name`` is its LOI, or the folder where that is none."""

    name: str
    state: str
    reason: str = ""


def take_over(safe: Safe, root: Path, issuer: str, owner: str) -> Iterator[Outcome]:
    """Take every dataset below ``root`` (the original's datasafe_root) over for ``owner``; goes on after each failure.

    The tree does not say whose the LOIs are: ``issuer`` is the number behind ``42.``, InvalidLoi for any other.
    """
    dataset(f"42.{issuer}/ds/calc/geo/1", safe.settings.issuers)
    for folder, loi in _places(root, issuer):
        place = os.fsencode(folder.relative_to(root)).decode("utf-8", "backslashreplace")
        if loi is None:
            yield Outcome(place, LEFT, "This is no place of a dataset.")
            continue
        try:
            yield Outcome(str(loi), _take(safe, folder, loi, owner))
        except Refused as error:
            state = DAMAGED if {fault.code for fault in error.faults} & _DAMAGE else LEFT
            told = [f"{fault.message} {fault.shown().get('file', '')}".strip() for fault in error.faults[:10]]
            yield Outcome(str(loi), state, " ".join(told))
        except ServiceError as error:
            yield Outcome(str(loi), LEFT, error.message)
        except OSError as error:
            yield Outcome(str(loi), LEFT, f"{error.strerror}: {error.filename or place}")


def _places(root: Path, issuer: str) -> Iterator[tuple[Path, Loi | None]]:
    """Yield each dataset's folder with its LOI, and with None each other folder that holds files or nothing."""
    for here, folders, files in os.walk(root):
        folder = Path(here)
        folders.sort()
        if folder == root and not files:
            continue
        try:
            loi = dataset(f"42.{issuer}/ds/{folder.relative_to(root).as_posix()}")
        except InvalidLoi:
            if files or not folders:
                yield folder, None
            continue
        folders.clear()
        yield folder, loi


def _take(safe: Safe, folder: Path, loi: Loi, owner: str) -> str:
    safe.reserve(loi, owner)  # first: whatever becomes of its content, nobody else may be given this number
    names = sorted(_names(folder))
    if not names:
        return RESERVED
    with Folders(folder) as held:
        if safe.store.exists(loi):
            return _compared(safe, held, names, loi)
        with tempfile.TemporaryFile(dir=safe.volume.work) as archive:  # it has no name: nothing is left by a kill
            _zip(held, names, archive)
            size = archive.seek(0, os.SEEK_END)
            archive.seek(0)
            author = Author(name=owner, message="Taken over from LabInform.")
            try:
                safe.put(loi, archive.raw.readinto, size, author, first=True)
            except DatasetExists:
                return _compared(safe, held, names, loi)
    return TAKEN


def _names(folder: Path) -> Iterator[str]:
    """Yield the files of a dataset; Refused for a name that could not be uploaded, and for what is no file."""
    for here, folders, files in os.walk(folder, onerror=_fail):
        for name in (*files, *folders):
            path = Path(here, name)
            inner = path.relative_to(folder).as_posix()
            fault = judge(inner, NameLimits())
            if fault:
                raise Refused([fault])
            mode = path.lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise refuse("zip_special", "Links and devices are not taken.", inner)
            if stat.S_ISREG(mode):
                yield inner


def _compared(safe: Safe, held: Folders, names: list[str], loi: Loi) -> str:
    """Return KNOWN when the first version has just these files; Refused otherwise."""
    if safe.store.open(loi, 1).md5 == {name: _md5(held, name) for name in names}:
        return KNOWN
    raise refuse("other_content", "Other content is held under this LOI.")


def _md5(held: Folders, name: str) -> str:
    with os.fdopen(held.open(name), "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _zip(held: Folders, names: list[str], target: IO[bytes]) -> None:
    """Write the files to ``target`` without compression; one that changes meanwhile fails by its manifest."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name in names:
            with os.fdopen(held.open(name), "rb") as file:
                member = zipfile.ZipInfo(name)
                member.file_size = os.fstat(file.fileno()).st_size  # says whether zip64 is needed
                with archive.open(member, "w") as out:
                    shutil.copyfileobj(file, out, _PIECE)


def _fail(error: OSError) -> None:
    raise error
