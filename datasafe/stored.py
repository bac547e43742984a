"""What came of an upload, and what its sender should know of it."""

import logging
from collections.abc import Iterator
from typing import NamedTuple

from ..common.catalog import Reader
from ..common.errors import DatabaseAway
from .faults import Fault
from .intake import Deposit
from .manifest import Integrity
from .orm import Dataset
from .repeated import repeated
from .snapshot import Facts

log = logging.getLogger(__name__)


class Stored(NamedTuple):
    """What came of an upload."""

    facts: Facts
    integrity: Integrity
    warnings: tuple[Fault, ...]


def warnings(deposit: Deposit, row: Dataset, facts: Facts, reader: Reader | None, *, is_new: bool) -> Iterator[Fault]:
    """Yield what is odd about an upload that became, or was, the version ``facts`` of ``row``.

    Content that is held elsewhere is told to ``reader`` where he may read it.
    """
    yield from deposit.warnings
    if not is_new:
        yield Fault("unchanged", f"Nothing is new: version {facts.number} is just this.")
    if deposit.loi and deposit.loi != row.loi:
        yield Fault("other_loi", "The manifest names another LOI than this one.")
    if reader is not None:
        try:
            yield from repeated(deposit.files, row.id, reader)
        except DatabaseAway as error:  # a refusal would be untrue: the version is there to stay
            log.warning("%s: what of it was held already is not known: %s", row.loi, error)
