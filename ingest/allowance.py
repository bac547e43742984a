"""How many bytes of unfinished uploads one user may have room kept for at once (docs/ingest.md#disk).

A body whose length is known, and a resumable upload, count at their whole length from the start.  Of a body in chunks
counts what has come, and what may come before it is asked about again.
"""

from ..common import orm
from ..common.errors import ServiceError, TooLarge
from .orm import State, UploadState

AHEAD_BYTES = 64 << 20  # of a body in chunks
PARTS = 64  # it is no more than this part of what one user may have

_LOCK = 0x616C6C77  # PostgreSQL's advisory lock: one user's requests to take more room go one after the other
_UNFINISHED = (
    "SELECT (SELECT COALESCE(sum(COALESCE(bytes_total, bytes_done + ?)), 0) FROM job WHERE state = ? AND owner = ?)"
    " + (SELECT COALESCE(sum(length), 0) FROM upload WHERE state = ? AND owner = ?)"
)


class TooMuchUnfinished(ServiceError):
    """This user's unfinished uploads keep as much room as one user may have; finish or delete some."""

    status = 429
    code = "too_much_unfinished"
    retryable = True
    retry_after = 60


def ahead(most: int) -> int:
    """Return how many bytes of a body in chunks may come before somebody asks again; ``most`` as in ``allow``."""
    return min(AHEAD_BYTES, most // PARTS) if most else AHEAD_BYTES


def allow(owner: str, length: int | None, most: int) -> None:
    """Return when ``owner`` may have room for ``length`` bytes more (None: in chunks) below ``most`` (0: no limit).

    TooMuchUnfinished when what is under way has to end first, TooLarge when that would not help.  To be asked in the
    transaction that writes the row of the upload: until that ends the same user's next request waits here.
    """
    if not most:
        return
    wanted = ahead(most) if length is None else length
    if wanted > most:
        raise TooLarge(max_bytes=most, content_length=wanted)
    held = _held(owner, most)
    if held and held + wanted > most:
        raise TooMuchUnfinished(unfinished_bytes=held, max_bytes=most)


def beyond(owner: str, most: int) -> TooMuchUnfinished | None:
    """Return what to refuse a body in chunks with when by its growth ``owner`` has more than ``most`` under way.

    To be asked in the transaction that writes how far it has grown, and that ends it where it is refused.
    """
    held = _held(owner, most) if most else 0
    return TooMuchUnfinished(unfinished_bytes=held, max_bytes=most) if held > most else None


def _held(owner: str, most: int) -> int:
    """Return what ``owner`` has under way, with others of the same owner kept out until the transaction ends."""
    if orm.is_postgres():  # SQLite's transactions exclude each other as they are
        orm.rows("SELECT pg_advisory_xact_lock(?, hashtext(?))", _LOCK, owner)
    return int(orm.rows(_UNFINISHED, ahead(most), State.RECEIVING, owner, UploadState.OPENED, owner)[0][0])
