"""The inventory of an object that counts: the root's, checked against its sidecar."""

from pathlib import Path

from ..common.errors import Damaged
from . import inventory
from .inventory import Inventory
from .loi import Loi


def opened(folder: Path, loi: Loi) -> Inventory:
    """Open the root inventory, the caller's to close; one whose sidecar is behind is good when its version's agrees.

    FileNotFoundError where there is no object; Damaged when it cannot be believed.
    """
    try:
        found = Inventory.open(folder / inventory.FILE)
    except FileNotFoundError:
        if folder.is_dir():
            raise Damaged("A dataset has lost its inventory.", loi=str(loi)) from None
        raise
    try:
        if not is_believed(folder, found.sha512()) and not is_newer(folder, found):
            raise Damaged("The inventory of a dataset is damaged.", loi=str(loi))
        if not inventory.is_of(found.head(), loi):
            raise Damaged("The inventory is that of another dataset.", loi=str(loi))
    except BaseException:
        found.close()
        raise
    return found


def is_believed(folder: Path, sha512: str) -> bool:
    """Say whether the sidecar in ``folder`` is that of an inventory of this digest."""
    try:
        return inventory.matches(sha512, (folder / inventory.SIDECAR).read_bytes())
    except OSError:
        return False


def is_newer(folder: Path, found: Inventory) -> bool:
    """Say whether a root inventory is that of its newest version's folder, though the root's sidecar is behind."""
    try:
        return is_believed(folder / found.head().name, found.sha512())
    except Damaged:
        return False
