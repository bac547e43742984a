"""Trace ids: which request caused this line of the log, this row, this event (W3C Trace Context, level 1).

A request's ``traceparent`` is continued, or a new trace is begun; the answer carries ours.  Threads that work for
nobody's request have no trace: ``current()`` is then empty.
"""

import re
import secrets
from contextvars import ContextVar
from dataclasses import dataclass

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(?:-.*)?")
_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")


@dataclass(frozen=True, slots=True)
class Trace:
    """One request in one trace."""

    trace_id: str  # 32 lower-case hex
    parent: str  # the traceparent that we send on: our own span in that trace
    request_id: str  # the client's X-Request-Id where it is a plain word, else the trace id


_CURRENT: ContextVar[Trace | None] = ContextVar("pacifica_trace", default=None)


def begin(traceparent: str | None, request_id: str | None) -> Trace:
    """Continue the client's trace, or begin one, and make it this thread's current trace."""
    known = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
    fresh = secrets.token_hex(24)
    trace_id, flags = known.groups() if known else (fresh[16:], "01")
    named = request_id if request_id and _REQUEST_ID.fullmatch(request_id) else trace_id
    trace = Trace(trace_id, f"00-{trace_id}-{fresh[:16]}-{flags}", named)
    _CURRENT.set(trace)
    return trace


def end() -> None:
    """Forget the current trace: the thread goes back to its pool."""
    _CURRENT.set(None)


def current() -> str:
    """Return the current trace id, or an empty string where no request is being answered."""
    trace = _CURRENT.get()
    return trace.trace_id if trace else ""
