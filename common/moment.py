"""Times as text: written as Pacifica writes them, read from ISO 8601."""

from datetime import UTC, datetime


def utc(seconds: float) -> str:
    """Return epoch seconds as Pacifica writes times: ``2026-11-21 07:43:12.225954``, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat(" ", "microseconds")


def epoch(text: str) -> float:
    """Return the epoch seconds of an ISO 8601 time, in UTC where it names no offset; ValueError when it is none."""
    when = datetime.fromisoformat(text)
    try:
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except OverflowError as error:
        raise ValueError(text) from error
