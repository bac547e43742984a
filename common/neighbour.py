"""An external HTTP service that we ask: bounded in time, patient with what passes, never asked twice for what it did.

An answer has a deadline as a whole, beside the timeout for each silence (``deadline``).  Connection errors, timeouts
and 5xx are tried again after a growing, jittered wait, or after what Retry-After says; any
other answer is the caller's to judge.  When the tries or the time are over, NeighbourAway: whoever works on a row lets
it wait in SQL, whoever serves a request answers 503 with Retry-After.
"""

import logging
import math
import os
import random
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

import urllib3
from urllib3.exceptions import HTTPError

from . import deadline
from .config import Neighbours
from .errors import NeighbourAway

T = TypeVar("T")
Answer = urllib3.BaseHTTPResponse

CONNECT_SECONDS = 5.0
_DAY_SECONDS = 86400.0  # nobody is believed who wants more
WAIT_MAX_SECONDS = 30.0
PIECE = 256 << 10  # of a body that is sent
AGAIN = frozenset({429, 500, 502, 503, 504})

log = logging.getLogger(__name__)


class Neighbour:
    """The service called ``name`` at ``url``; one for a process, used by any thread."""

    def __init__(
        self,
        name: str,
        url: str,
        settings: Neighbours,
        *,
        is_final: Callable[[Answer], bool] = lambda answer: False,
        away: type[NeighbourAway] = NeighbourAway,
        connections: int = 8,
    ) -> None:
        """Nothing is asked before the first question.

        ``is_final`` tells which answer of 500 is an answer, ``away`` is raised where there is none, and ``connections``
        are kept; a user and a password in ``url`` are sent as HTTP Basic has it.
        """
        parts = urlsplit(url)
        self.name, self.settings, self.is_final, self.connections = name, settings, is_final, connections
        self.url = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))
        known = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else None
        self._headers = urllib3.make_headers(basic_auth=known, accept_encoding="identity")
        self._away, self._pool, self._owner = away, urllib3.PoolManager(), 0

    def ask(
        self,
        method: str,
        path: str = "",
        *,
        body: Callable[[], Any] | None = None,
        headers: Mapping[str, str] | None = None,
        within: float | None = None,
        stream: bool = False,
    ) -> Answer:
        """Ask until there is an answer below 500, and return it; NeighbourAway after the last try.

        ``body()`` gives the body anew for each try.  ``within`` bounds the seconds of all tries together (None: the
        tries alone bound it).  The answer of a ``stream`` is the caller's to close.
        """
        return self.again(
            lambda left: self.once(method, path, body=body, headers=headers, within=left, stream=stream), within
        )

    def once(
        self,
        method: str,
        path: str = "",
        *,
        body: Callable[[], Any] | None = None,
        headers: Mapping[str, str] | None = None,
        within: float | None = None,
        stream: bool = False,
    ) -> Answer:
        """Ask a single time; NeighbourAway for no answer, for one without end, and for one that says to come again."""
        patience = self.settings.timeout if within is None else min(self.settings.timeout, max(0.1, within))
        whole = self.allowed(int((headers or {}).get("Content-Length", 0)))
        with deadline.within(whole if within is None else min(whole, max(0.1, within))) as exchange:
            try:
                answer = self._connections().request(
                    method,
                    self.url + path,
                    body=body() if body is not None else None,
                    headers={**self._headers, **(headers or {})},
                    timeout=urllib3.Timeout(connect=min(CONNECT_SECONDS, patience), read=patience),
                    preload_content=not stream,
                    redirect=False,
                )
                again = answer.status in AGAIN and not self.is_final(answer)
            except (HTTPError, OSError) as error:
                why = "TooSlow" if exchange.expired else type(error).__name__
                raise self.away(f"{self.name} does not answer ({why}).") from error
        if exchange.expired:  # its end may be the one that we made
            answer.close()
            raise self.away(f"{self.name} does not answer (TooSlow).")
        if again:
            answer.close()
            wait = _seconds(answer.headers.get("Retry-After"))
            raise self.away(f"{self.name} answers {answer.status}.", wait=wait)
        return answer

    def again(self, ask: Callable[[float | None], T], within: float | None = None) -> T:
        """Call ``ask(seconds left)`` until it raises no NeighbourAway, or the tries or the seconds are over."""
        end = None if within is None else time.monotonic() + within
        for tries in range(1, self.settings.tries + 1):
            try:
                return ask(None if end is None else end - time.monotonic())
            except NeighbourAway as error:
                wait = error.wait
                if wait is None:
                    wait = self.settings.retry_seconds * 2 ** (tries - 1) * random.uniform(0.75, 1.25)
                late = end is not None and time.monotonic() + wait >= end
                if tries == self.settings.tries or late or wait > WAIT_MAX_SECONDS:
                    raise
                log.warning("%s; asked again in %.1f s", error, wait)
                time.sleep(wait)
        raise AssertionError("at least one try")

    def allowed(self, count: int) -> float:
        """Return the seconds that an exchange of ``count`` bytes may take."""
        return self.settings.answer_seconds + count / self.settings.min_rate

    def away(self, message: str, wait: float | None = None) -> NeighbourAway:
        """Return the error that says that this service cannot be used now."""
        return self._away(message, wait=wait, service=self.name)

    def _connections(self) -> urllib3.PoolManager:
        if self._owner != os.getpid():  # a child process must not speak through its parent's
            self._pool = deadline.pool(self.connections, retries=False, blocksize=PIECE)
            self._owner = os.getpid()
        return self._pool


def json_of(answer: Answer, neighbour: Neighbour) -> Any:
    """Return the JSON of an answer; NeighbourAway when it is none, as of a proxy in between."""
    try:
        return answer.json()
    except ValueError as error:
        raise neighbour.away(f"{neighbour.name} answers {answer.status} without JSON.") from error


def _seconds(header: str | None) -> float | None:
    """Return what Retry-After says, as seconds from now; None when it says nothing."""
    if header is None:
        return None
    with suppress(ValueError):  # or it is a date
        return min(max(0.0, float(header)), _DAY_SECONDS) if math.isfinite(float(header)) else None
    try:
        return min(max(0.0, parsedate_to_datetime(header).timestamp() - time.time()), _DAY_SECONDS)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
