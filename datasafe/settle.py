"""The renames that make a dataset visible, in an order that survives a crash at any step, and the tidying after one.

What is renamed here is durable already, and each folder is flushed before the next step relies on it.  Before its
first rename a stage holds an *intent* (place of the object, version), so that ``recover`` knows where to look, and so
that nothing is ever removed from an object but the version which that stage was about to add.
"""

import errno
import re
from contextlib import suppress
from pathlib import Path

from ..common.errors import Damaged
from . import blocks, inventory, root, staging
from .inventory import Inventory

_INTENT = "intent"
_INTENT_TEXT = re.compile(r"([0-9a-f]{2}/[0-9a-f]{2}/[A-Za-z0-9_%-]+) (v[1-9][0-9]*)\n")
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY)


def announce(stage: Path, place: str, head: str) -> None:
    """Write the intent of a stage; the caller flushes it."""
    staging.write(stage / _INTENT, f"{place} {head}\n".encode())


def announced(stage: Path) -> tuple[str, str] | None:
    """Return place and version of a stage's intent; None when it had not come so far."""
    with suppress(FileNotFoundError, UnicodeDecodeError):
        found = _INTENT_TEXT.fullmatch((stage / _INTENT).read_text("ascii"))
        return (found[1], found[2]) if found else None
    return None


def appear(folder: Path, target: Path, top: Path) -> bool:
    """Rename a finished object to its place; False, changing nothing, when there is one already."""
    try:
        while True:
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                folder.rename(target)
                break
            except FileNotFoundError:  # a sweep has removed empty parents meanwhile
                if not folder.is_dir():
                    raise
    except OSError as error:
        prune(target.parent, top)
        if error.errno in _TAKEN:
            return False
        raise
    for changed in (target.parent, target.parent.parent, top):
        staging.fsync(changed)
    return True


def advance(stage: Path, folder: Path, head: str) -> None:
    """Add the staged version ``head`` to an object; the rename of inventory.json is what makes it the newest."""
    digests = _digests(head)
    try:
        (stage / head).rename(folder / head)
        (stage / digests).rename(folder / digests)
        staging.fsync((folder / digests).parent)
        staging.fsync(folder)
        (stage / inventory.FILE).rename(folder / inventory.FILE)
        staging.fsync(folder)
        (stage / inventory.SIDECAR).rename(folder / inventory.SIDECAR)
        staging.fsync(folder)
    except OSError:
        with suppress(OSError):  # the first error is the one to tell
            settle(folder, stage, head)
        raise


def settle(folder: Path, scratch: Path, head: str) -> None:
    """Finish, or take back, the addition of version ``head`` to the object at ``folder``; right to do at any time.

    ``scratch`` is the stage that was adding it, which the caller removes: what is still there was not moved, so what
    has its name in the object is not ours.  A damaged object is left as it is.
    """
    try:
        with Inventory.open(folder / inventory.FILE) as newest:
            number, sha512 = newest.head().number, newest.sha512()
            is_newer = root.is_newer(folder, newest)
    except (FileNotFoundError, Damaged):
        return
    if not (folder / inventory.SIDECAR).exists():
        return
    if number >= int(head[1:]):
        if not root.is_believed(folder, sha512) and is_newer:
            staging.write(scratch / "settled", inventory.sidecar(sha512))
            staging.fsync(scratch / "settled")
            (scratch / "settled").rename(folder / inventory.SIDECAR)
            staging.fsync(folder)
    elif root.is_believed(folder, sha512):
        for place, kept in ((_digests(head), "taken-back.txt"), (Path(head), "taken-back")):
            if not (scratch / place).exists():
                with suppress(FileNotFoundError):
                    (folder / place).rename(scratch / kept)
                    staging.fsync((folder / place).parent)


def prune(folder: Path, top: Path) -> None:
    """Remove ``folder`` and its parents below ``top`` while they are empty: OCFL allows no empty folders."""
    while folder != top:
        try:
            folder.rmdir()
        except FileNotFoundError:
            pass
        except OSError:
            return
        folder = folder.parent


def _digests(head: str) -> Path:
    return Path("extensions") / blocks.EXTENSION / f"{head}.txt"
