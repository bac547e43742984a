"""An external HTTP service that we ask: bounded in time, patient with what passes, never asked twice for what it did.

Connection errors, timeouts and 5xx are tried again after a growing, jittered wait, or after what Retry-After says; any
other answer is the caller's to judge.  When the tries or the time are over, NeighbourAway: whoever works on a row lets
it wait in SQL, whoever serves a request answers 503 with Retry-After.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import requests

from .config import Neighbours
from .errors import ServiceError

T = TypeVar("T")

CONNECT_SECONDS = 5.0
WAIT_MAX_SECONDS = 30.0
AGAIN = frozenset({429, 500, 502, 503, 504})

log = logging.getLogger(__name__)


class NeighbourAway(ServiceError):
    """An external service does not answer, or answers with a fault of its own."""

    status = 503
    code = "neighbour_away"
    retryable = True
    retry_after = 10

    def __init__(self, message: str = "", *, wait: float | None = None, **detail: Any) -> None:
        """Say which service; ``wait`` is what it asked for, in seconds."""
        super().__init__(message, **detail)
        self.wait = wait
        if wait is not None:
            self.retry_after = max(1, round(wait))


class Neighbour:
    """The service called ``name`` at ``url``; one for a process, used by any thread."""

    def __init__(
        self,
        name: str,
        url: str,
        settings: Neighbours,
        is_final: Callable[[requests.Response], bool] = lambda answer: False,
    ) -> None:
        """Nothing is asked before the first question; ``is_final`` tells which answer of 500 is an answer."""
        self.name, self.url, self.settings, self.is_final = name, url.rstrip("/"), settings, is_final
        self._local = threading.local()

    def ask(
        self,
        method: str,
        path: str = "",
        *,
        body: Callable[[], Any] | None = None,
        headers: Mapping[str, str] | None = None,
        within: float | None = None,
        stream: bool = False,
    ) -> requests.Response:
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
    ) -> requests.Response:
        """Ask a single time; NeighbourAway for no answer, and for one that says to come again."""
        patience = self.settings.timeout if within is None else min(self.settings.timeout, max(0.1, within))
        try:
            answer = self._session().request(
                method,
                self.url + path,
                data=body() if body is not None else None,
                headers=dict(headers or {}),
                timeout=(min(CONNECT_SECONDS, patience), patience),
                stream=stream,
                allow_redirects=False,
            )
        except (requests.RequestException, OSError) as error:
            raise self.away(f"{self.name} does not answer ({type(error).__name__}).") from error
        if answer.status_code in AGAIN and not self.is_final(answer):
            answer.close()
            wait = _seconds(answer.headers.get("Retry-After"))
            raise self.away(f"{self.name} answers {answer.status_code}.", wait=wait)
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

    def away(self, message: str, wait: float | None = None) -> NeighbourAway:
        """Return the error that says that this service cannot be used now."""
        return NeighbourAway(message, wait=wait, service=self.name)

    def _session(self) -> requests.Session:
        session = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = requests.Session()
            session.trust_env = False  # neither proxies nor a .netrc of whoever started us
        return session


def json_of(answer: requests.Response, neighbour: Neighbour) -> Any:
    """Return the JSON of an answer; NeighbourAway when it is none, as of a proxy in between."""
    try:
        return answer.json()
    except ValueError as error:
        raise neighbour.away(f"{neighbour.name} answers {answer.status_code} without JSON.") from error


def _seconds(header: str | None) -> float | None:
    """Return what Retry-After says, as seconds from now; None when it says nothing."""
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass  # or it is a date
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
