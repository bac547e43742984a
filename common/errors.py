"""Every failure the suite can name: one class each, with its code and HTTP status.

The code is part of the public contract (``docs/errors.md``): clients and tests compare it.  The message is one
sentence for a person; facts (``file``, ``job``, ``offset``, ...) travel in ``detail`` and are shown to the client,
so no server path, traceback or secret may enter either.  ``retryable`` says that the same request may succeed later.
"""

from typing import Any


class ServiceError(Exception):
    """Something went wrong here.

    The root of all that a client or an administrator is told.
    """

    status = 500
    code = "internal_error"
    retryable = False
    retry_after: int | None = None  # seconds, sent as Retry-After
    is_remembered = False  # it tells of an earlier failure, which was logged when it happened

    def __init__(self, message: str = "", **detail: Any) -> None:
        """Say ``message`` (default: the first line of the class's docstring) with the facts ``detail``."""
        super().__init__(message or (self.__doc__ or self.code).splitlines()[0])
        self.detail = detail
        self.headers: dict[str, str] = {}  # sent with the answer, for protocols that want more than a status

    @property
    def message(self) -> str:
        """The sentence for a person."""
        return str(self.args[0])


# ---- what a client did -------------------------------------------------------------------------------------------


class BadRequest(ServiceError):
    """The request is malformed."""

    status = 400
    code = "bad_request"


class BadJson(BadRequest):
    """The body is not the JSON that this route takes."""

    code = "bad_json"


class NotAuthorized(ServiceError):
    """No principal could be established for this request."""

    status = 401
    code = "not_authorized"


class Forbidden(ServiceError):
    """This principal or this peer may not do that."""

    status = 403
    code = "forbidden"


class NotFound(ServiceError):
    """There is no such thing, or it is not yours."""

    status = 404
    code = "not_found"


class MethodNotAllowed(ServiceError):
    """The route exists, but not with this method."""

    status = 405
    code = "method_not_allowed"


class Conflict(ServiceError):
    """The state of the resource forbids that."""

    status = 409
    code = "conflict"


class Gone(ServiceError):
    """It was here, and was deleted."""

    status = 410
    code = "gone"


class LengthRequired(ServiceError):
    """The body needs a Content-Length or chunked transfer encoding."""

    status = 411
    code = "length_required"


class PreconditionFailed(ServiceError):
    """A precondition of the request does not hold."""

    status = 412
    code = "precondition_failed"


class TooLarge(ServiceError):
    """The body is larger than this service takes."""

    status = 413
    code = "too_large"


class UnsupportedType(ServiceError):
    """The content type is not one that this route takes."""

    status = 415
    code = "unsupported_type"


class RangeNotSatisfiable(ServiceError):
    """No byte of the representation lies in the range."""

    status = 416
    code = "range_not_satisfiable"


class ChecksumMismatch(ServiceError):
    """The bytes received do not hash to the digest that the client declared."""

    status = 422
    code = "checksum_mismatch"


class ClientAborted(ServiceError):
    """The client went away before its body was complete."""

    status = 400
    code = "client_aborted"
    retryable = True


# ---- what the world did ------------------------------------------------------------------------------------------


class Overloaded(ServiceError):
    """Too much is going on; try again later."""

    status = 503
    code = "overloaded"
    retryable = True
    retry_after = 5


class DatabaseAway(ServiceError):
    """The database does not answer."""

    status = 503
    code = "database_away"
    retryable = True
    retry_after = 5


class NoSpace(ServiceError):
    """The volume has no room for this body."""

    status = 507
    code = "no_space"
    retryable = True
    retry_after = 60


class VolumeAway(ServiceError):
    """The volume takes no writes."""

    status = 503
    code = "volume_away"
    retryable = True
    retry_after = 30


class NeighbourAway(ServiceError):
    """An external service does not answer, or answers with a fault of its own."""

    status = 503
    code = "neighbour_away"
    retryable = True
    retry_after: int | None = 10

    def __init__(self, message: str = "", *, wait: float | None = None, **detail: Any) -> None:
        """Say which service; ``wait`` is what it asked for, in seconds."""
        super().__init__(message, **detail)
        self.wait = wait
        if wait is not None:
            self.retry_after = max(1, round(wait))


class ArchiveUnavailable(NeighbourAway):
    """The archive does not answer, or answers with a fault of its own."""

    code = "archive_unavailable"


class Damaged(ServiceError):
    """Bytes in the archive no longer match their digest."""

    status = 500
    code = "damaged"


class BadConfiguration(ServiceError):
    """The configuration cannot be used."""

    code = "bad_configuration"


class SchemaMismatch(ServiceError):
    """The database's schema is not the one that this version needs; run dbsync."""

    status = 503
    code = "schema_mismatch"


# ---- races and moves ---------------------------------------------------------------------------------------------


class IllegalMove(Conflict):
    """The state machine has no such move, or another worker made it first."""

    code = "illegal_move"


class NotClaimed(ServiceError):
    """The row is done, leased by another, or not due: whoever wanted to work on it drops the message."""

    status = 409
    code = "not_claimed"


class Cancelled(ServiceError):
    """Somebody cancelled this work."""

    status = 409
    code = "cancelled"
