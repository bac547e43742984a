"""How many bytes of unfinished uploads one user may have room kept for at once (docs/ingest.md#disk)."""

from ..common import orm
from ..common.errors import ServiceError, TooLarge
from .orm import State, UploadState

_UNFINISHED = (
    "SELECT (SELECT COALESCE(sum(COALESCE(bytes_total, bytes_done)), 0) FROM job WHERE state = ? AND owner = ?)"
    " + (SELECT COALESCE(sum(length), 0) FROM upload WHERE state = ? AND owner = ?)"
)


class TooMuchUnfinished(ServiceError):
    """This user's unfinished uploads keep as much room as one user may have; finish or delete some."""

    status = 429
    code = "too_much_unfinished"
    retryable = True
    retry_after = 60


def allow(owner: str, length: int | None, most: int) -> None:
    """Return when ``owner`` may have room for ``length`` bytes more (None: as they come) below ``most`` (0: no limit).

    TooMuchUnfinished when what is under way has to end first, TooLarge when that would not help.  To be asked in the
    transaction that writes the row of the upload; requests of one instant may not see each other.
    """
    if not most:
        return
    wanted = length or 0
    if wanted > most:
        raise TooLarge(max_bytes=most, content_length=wanted)
    held = int(orm.rows(_UNFINISHED, State.RECEIVING, owner, UploadState.OPENED, owner)[0][0])
    if held and held + wanted > most:
        raise TooMuchUnfinished(unfinished_bytes=held, max_bytes=most)
