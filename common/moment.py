"""Times as text: written as Pacifica and RFC 3339 write them, read from ISO 8601."""

import re
from datetime import UTC, datetime

from .errors import BadRequest


def utc(seconds: float) -> str:
    """Return epoch seconds as Pacifica writes times: ``2026-11-21 07:43:12.225954``, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat(" ", "microseconds")


def zulu(seconds: float) -> str:
    """Return epoch seconds as RFC 3339 has them, to the millisecond: ``2026-11-21T07:43:12.225Z``."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def iso(seconds: float) -> str:
    """Return epoch seconds as ISO 8601 has them, in UTC and without saying so: ``2026-11-21T07:43:12``."""
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat(timespec="seconds")


def epoch(text: str) -> float:
    """Return the epoch seconds of an ISO 8601 time, in UTC where it names no offset; ValueError when it is none."""
    when = datetime.fromisoformat(text)
    try:
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except OverflowError as error:
        raise ValueError(text) from error


def asked(parameter: str, text: str, seconds: re.Pattern[str]) -> float:
    """Return the epoch seconds that a request's ``parameter`` means: such, where ``seconds`` matches, or ISO 8601.

    BadRequest when it is neither.
    """
    if seconds.fullmatch(text):
        return float(text)
    try:
        return epoch(text)
    except ValueError:
        message = f"{parameter} must be a time like 2026-11-21T07:43:12Z, or epoch seconds."
        raise BadRequest(message, parameter=parameter) from None
