"""Requests to a datasafe behind a URL: bounded in time, tried again where that is harmless, its errors by their names.

Nothing follows a redirection: credentials go where the user sent them and nowhere else.
"""

import json
import random
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlsplit

import requests

from ..common.errors import BadRequest, Damaged, NeighbourAway, ServiceError
from .faults import Fault, Refused

CONNECT_SECONDS, READ_SECONDS = 10.0, 60.0
STORE_SECONDS = 1800.0  # a large upload is checked before it is answered
TRIES = 5
WAIT_MAX_SECONDS = 30.0
ANSWER_BYTES = 512 << 20  # of JSON; a million files are 300 MB
PIECE = 1 << 20

_AGAIN = frozenset({429, 502, 503, 504})
_OWN = frozenset(
    ["status", "message", "traceback", "version", "type", "title", "detail", "instance", "code", "retryable", "trace"]
)  # of an error's JSON; the rest are facts


class Answered(ServiceError):
    """The server refused."""

    code = "answered"  # in place of the server's own, where it has none


class BadUrl(BadRequest):
    """This is no URL of a datasafe."""

    code = "bad_url"


class BadAnswer(NeighbourAway):
    """The server's answer is not one of a datasafe."""

    code = "bad_answer"


class _Bearer(requests.auth.AuthBase):
    """Sends a token, and keeps .netrc from replacing it."""

    def __init__(self, token: str) -> None:
        self.token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self.token}"
        return request


class Exchange:
    """The requests of one client to ``url``, for one thread; ``token`` is sent as Bearer, else .netrc is asked."""

    def __init__(self, url: str, token: str = "") -> None:
        """Ask nothing yet."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise BadUrl("The URL is http:// or https://, a host, and nothing behind the path.")
        if not (token.isascii() and token.isprintable()):
            raise BadRequest("The token is not one line of ASCII.")
        self.api = url.rstrip("/").removesuffix("/api") + "/api/"
        self._session = requests.Session()
        self._session.headers["Accept"] = "application/json, */*"
        self._session.auth = _Bearer(token) if token else None

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def ask(self, method: str, path: str, *, tries: int = TRIES, **options: Any) -> requests.Response:
        """Return the answer with status 2xx, its body not read yet; the caller closes it.

        What may pass (no connection, 429, 502 to 504) is tried again, ``tries`` times in all.
        """
        while True:
            tries -= 1
            try:
                return self._once(method, path, options)
            except ServiceError as error:
                if not (error.retryable and error.status in _AGAIN) or tries <= 0:
                    raise
                wait(TRIES - tries, error.retry_after)

    def json(self, path: str, **query: Any) -> Any:
        """GET ``path`` and return what its JSON says; BadAnswer where it is none, or too large."""
        with self.ask("GET", path, params=query, stream=True) as answer:
            body = bytearray()
            for piece in pieces(answer):
                body += piece
                if len(body) > ANSWER_BYTES:
                    raise BadAnswer("The server's answer is too large.")
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise BadAnswer("The server's answer is not JSON.") from error

    def _once(self, method: str, path: str, options: dict[str, Any]) -> requests.Response:
        options.setdefault("timeout", (CONNECT_SECONDS, READ_SECONDS))
        try:
            answer = self._session.request(method, self.api + quote(path), allow_redirects=False, **options)
        except requests.RequestException as error:
            raise _away(error) from error
        if answer.status_code < 300:
            return answer
        with answer:
            raise _refusal(answer)


def pieces(answer: requests.Response) -> Iterator[bytes]:
    """Yield an answer's body; NeighbourAway where it breaks off."""
    try:
        yield from answer.iter_content(PIECE)
    except requests.RequestException as error:
        raise _away(error) from error


def wait(attempt: int, seconds: float | None = None) -> None:
    """Wait before try ``attempt`` + 1, longer each time, or as long as the server asked."""
    growing = min(2.0 ** (attempt - 2), WAIT_MAX_SECONDS) * random.uniform(0.5, 1.0)
    time.sleep(min(seconds or growing, WAIT_MAX_SECONDS))


def _away(error: requests.RequestException) -> ServiceError:
    """Return what stands for a request that got no answer, without the URL, which may hold a password."""
    if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema):
        return BadUrl()
    away = NeighbourAway(f"The server does not answer, or broke off ({type(error).__name__}).")
    away.retry_after = None  # nobody said when to come back
    return away


def _refusal(answer: requests.Response) -> ServiceError:
    """Return the error that an answer tells, under the server's own code."""
    body = next(answer.iter_content(PIECE), b"")
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict):
        told = {}
    if answer.status_code == 422 and isinstance(told.get("faults"), list):
        return _refused(told)
    message = told.get("message")
    if not isinstance(message, str) or not message:
        message = f"The server answers with {answer.status_code}."
    if answer.is_redirect:
        message = f"The server sends elsewhere: give the URL {answer.headers['Location']!r} if you trust it."
    facts = {key: value for key, value in told.items() if key not in _OWN}
    code = str(told.get("code") or Answered.code)
    if code == Damaged.code:
        return Damaged(message, **facts)
    error = Answered(message, **facts)
    error.status, error.code = answer.status_code, code
    error.retryable = answer.status_code in _AGAIN
    after = answer.headers.get("Retry-After", "")
    error.retry_after = int(after) if after.isascii() and after.isdecimal() and len(after) < 9 else None
    return error


def _refused(told: dict[str, Any]) -> ServiceError:
    """Return a refused upload with its faults, which a server of any kind has written."""
    faults = [
        Fault(str(one.get("code")), str(one.get("message")), None if one.get("file") is None else str(one["file"]))
        for one in told["faults"]
        if isinstance(one, dict)
    ]
    faults = faults or [Fault("refused", str(told.get("message")))]
    return Refused(faults, data=told.get("data") is True, all=told.get("all") is True)
