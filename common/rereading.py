"""What a pack says of its files: the way back from the volume to the ledger.

Whoever makes packs of a kind offers a reader for it under the entry-point group ``pacifica.pack_readers``; so a service
can have another's packs read without knowing it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any, NamedTuple, TypeAlias

from .sidecar import Sidecar
from .volume import Volume

GROUP = "pacifica.pack_readers"


class Reread(NamedTuple):
    """The facts of a pack, each to be taken once; ``about`` are ``catalog.record``'s words on its transaction."""

    rows: Iterable[tuple[Any, ...]]  # ledger.ARCHIVED_FILE_COLUMNS
    about: Mapping[str, Any] | None  # None: it is no transaction's
    damaged: Sequence[int] = ()  # ids of files whose bytes are no longer what their digest says


Reader: TypeAlias = Callable[[Volume, Sidecar], Reread]


def reader(kind: str) -> Reader | None:
    """Return the reader for packs of ``kind``; None when nobody here knows it."""
    for point in entry_points(group=GROUP, name=kind):
        found: Reader = point.load()
        return found
    return None
