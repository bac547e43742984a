"""The datasets of a LabInform datasafe, taken over with their LOIs from its folder (docs/datasafe.md#takeover).

The tree is only read.  Each dataset is held against its own manifest, as an upload is; what does not agree is told and
left, its LOI reserved.  Safe to repeat: what is held already is compared, and nothing is stored twice.
"""

import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

from ..common.errors import ServiceError
from .dataset import DatasetExists
from .faults import Refused, refuse
from .loi import InvalidLoi, Loi, dataset
from .parcel import Parcel, found, walked

TAKEN, KNOWN, RESERVED = "taken", "known", "reserved"  # what became of a dataset that is in order
DAMAGED, LEFT = "damaged", "left"  # its bytes are not those of its manifest; it cannot be taken for another reason

MESSAGE = "Taken over from LabInform."

_DAMAGE = {"checksum_mismatch", "file_absent"}


class Taker(Protocol):
    """Who takes the datasets: a datasafe of this host, or of another (``client``)."""

    @property
    def issuers(self) -> Collection[str]:
        """Whose LOIs are taken; empty: any, as far as is known here."""

    def reserve(self, loi: Loi, owner: str) -> None:
        """Give this very LOI to ``owner``, if nobody has it."""

    def first(self, loi: Loi) -> Mapping[str, str] | None:
        """Return name -> MD5 of the first version, None where there is none."""

    def send(self, loi: Loi, parcel: Parcel, message: str, *, first: bool, by: str = "") -> object:
        """Store a version."""


class Outcome(NamedTuple):
    """What became of one folder of the tree; ``name`` is its LOI, or the folder where that is none."""

    name: str
    state: str
    reason: str = ""


def take_over(taker: Taker, root: Path, issuer: str, owner: str) -> Iterator[Outcome]:
    """Take every dataset below ``root`` (the original's datasafe_root) over for ``owner``; goes on after each failure.

    The tree does not say whose the LOIs are: ``issuer`` is the number behind ``42.``, InvalidLoi for any other.
    """
    dataset(f"42.{issuer}/ds/calc/geo/1", taker.issuers)
    for folder, loi in _places(root, issuer):
        place = os.fsencode(folder.relative_to(root)).decode("utf-8", "backslashreplace")
        if loi is None:
            yield Outcome(place, LEFT, "This is no place of a dataset.")
            continue
        try:
            yield Outcome(str(loi), _take(taker, folder, loi, owner))
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


def _take(taker: Taker, folder: Path, loi: Loi, owner: str) -> str:
    taker.reserve(loi, owner)  # first: whatever becomes of its content, nobody else may be given this number
    entries = sorted(walked(folder))
    faults = [fault for _, fault in entries if fault]
    if faults:
        raise Refused(faults)
    if not entries:
        return RESERVED
    parcel = found(folder, [name for name, _ in entries])
    held = taker.first(loi)
    if held is None:
        try:
            taker.send(loi, parcel, MESSAGE, first=True, by=owner)
        except ServiceError as error:
            if error.code != DatasetExists.code:
                raise
            held = taker.first(loi)
        else:
            return TAKEN
    if held == parcel.md5:
        return KNOWN
    raise refuse("other_content", "Other content is held under this LOI.")
