"""What every archive is asked and what it says of a file: the contract of ``archive.LocalArchive`` and ``remote``."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol


class Held(NamedTuple):
    """What an archive says of a file; ``hashtype`` and ``hashsum`` are empty where it does not know its digest."""

    size: int
    mtime: float  # seconds since 1970; 0 where it does not say
    on_disk: bool = True  # else it has to be staged first
    hashtype: str = ""
    hashsum: str = ""


@dataclass(frozen=True, kw_only=True)
class Incoming:
    """A file on its way into an archive.

    ``fill`` delivers its bytes, 0 at the end; ``length`` is None where they have to be counted first.
    """

    fill: Callable[[memoryview], int]
    length: int | None
    mtime: float
    owner: str = ""
    hashtype: str = "sha1"
    hashsum: str | None = None  # None: nothing was declared


class Archive(Protocol):
    """Bytes by file id.  Every method raises NotFound for an unknown id and Gone for a deleted one."""

    def put(self, id: int, incoming: Incoming) -> Held:
        """Archive ``incoming`` under ``id``; a file held there is superseded.

        NoSpace before the first byte is asked for when its length cannot fit; ChecksumMismatch, with nothing changed,
        when the bytes do not hash to its ``hashsum``.
        """

    def open(self, id: int, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Return the checked bytes ``start`` to ``stop`` of a file; id and range are judged before the first is asked.

        The iterator raises Damaged before any byte that is not what it was.
        """

    def stat(self, id: int) -> Held:
        """Return what is known of a file."""

    def stage(self, id: int) -> None:
        """Ask for a file's bytes to be brought within reach, if they are not; ``stat`` says when they are."""

    def delete(self, id: int, who: str, reason: str = "") -> None:
        """Take a file away and leave a tombstone."""
