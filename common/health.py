"""Is it alive, and could it work?  ``/healthz`` and ``/readyz``, open to everybody and cheap to ask.

A check is a function that returns when all is well and raises when not.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

import cherrypy

from . import orm
from .auth import public
from .errors import ServiceError

LOG = logging.getLogger(__name__)

Check = Callable[[], None]

_FRESH_SECONDS = 1.0  # whoever asks cannot make us work more often than this

T = TypeVar("T")


class Recent(Generic[T]):
    """What ``make`` returned last, made anew when it is older than a second; one thread makes it, the others wait."""

    def __init__(self, make: Callable[[], T]) -> None:
        """Make nothing yet."""
        self._make, self._lock = make, threading.Lock()
        self._until, self._made = 0.0, list[T]()

    def __call__(self) -> T:
        """Return it; what ``make`` raises is raised, and the next one tries again."""
        with self._lock:
            if time.monotonic() >= self._until:
                self._made = [self._make()]
                self._until = time.monotonic() + _FRESH_SECONDS
            return self._made[0]


class HasRoom(Protocol):
    """What the volume check needs to know of a volume."""

    def require_room(self) -> None: ...


@public
class Healthz:
    """``GET /healthz``: this process answers."""

    exposed = True

    def GET(self) -> dict[str, str]:
        """Answer without touching anything."""
        return {"status": "ok"}


@public
class Readyz:
    """``GET /readyz``: everything needed to take work is there; else 503 with the reasons."""

    exposed = True

    def __init__(self, checks: Sequence[Check]) -> None:
        """Run ``checks`` in this order, at most once a second."""
        self._reasons = Recent(lambda: dict(filter(None, map(_reason, checks))))

    def GET(self) -> dict[str, Any]:
        """Answer from the last run where it is fresh."""
        reasons = self._reasons()
        if reasons:
            cherrypy.serving.response.status = 503
            cherrypy.serving.response.headers["Retry-After"] = "5"
        return {"status": "unavailable" if reasons else "ok", "reasons": reasons}


def database_answers() -> None:
    """Raise unless the database takes a write: a transaction is begun and ended, nothing is changed."""
    with orm.transaction():
        orm.clock()


def volume_has_room(volume: HasRoom) -> Check:
    """Return a check that fails when the volume takes no uploads: it is full, or not writable."""

    def volume_has_room() -> None:
        volume.require_room()

    return volume_has_room


def _reason(check: Check) -> tuple[str, str] | None:
    name = getattr(check, "__name__", type(check).__name__)
    try:
        check()
    except ServiceError as error:
        return name, error.code
    except Exception:
        LOG.exception("check %s failed", name)
        return name, "internal_error"
    return None
