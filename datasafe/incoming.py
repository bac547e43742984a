"""A PUT, PATCH or DELETE of a dataset as it comes: what its headers ask for, judged before anything is changed."""

from collections.abc import Callable, Container, Mapping

from ..common.errors import BadRequest
from ..common.integrity import declared
from ..common.ranges import CONDITIONS, require
from ..common.streams import Body
from .snapshots import Opened


def filler(body: Body, headers: Mapping[str, str]) -> Callable[[memoryview], int]:
    """Return what reads ``body`` into views and holds it against the digests that ``headers`` declare of it.

    ChecksumMismatch at its end; BadRequest now, for a part of a representation (RFC 9110 §14.5).
    """
    if "Content-Range" in headers:
        raise BadRequest("A part of an archive cannot be stored.", header="Content-Range")
    sent = declared(headers)

    def fill(view: memoryview) -> int:
        count = body.readinto(view)
        sent.update(view[:count])
        if not count:
            sent.check()
        return count

    return fill


def pinned(environ: Container[str], newest: Callable[[], Opened | None]) -> int | None:
    """Judge the conditions of the current request by the ``newest`` version; return its number, 0 where there is none.

    None when there are no conditions.  PreconditionFailed when one does not hold.
    """
    if not any(f"HTTP_{name}" in environ for name in CONDITIONS):
        return None
    held = newest()
    if held is None:
        require(None, None)
        return 0
    require(held.etag, held.snapshot.created)
    return held.snapshot.number
