"""The thread that finds what waits, whoever forgot it: the reason why a lost message, worker or broker loses nothing.

Each worker's main process has one, and of those with one name the leader works.  Duties are safe to do twice, so
leadership only spares work: it is a row that expires.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import peewee

from . import fork, orm
from .errors import ServiceError
from .lease import new_holder
from .outbox import publish_pending

if TYPE_CHECKING:
    from .config import Shared

LEADER_SECONDS = 10.0  # after which a dead leader is replaced

logger = logging.getLogger(__name__)


class Duty(Protocol):
    """One pass of housekeeping: repeatable, and cheap when there is nothing to do (it reads before it writes)."""

    def __call__(self) -> int:
        """Do it; return how much was done."""


class SweeperLease(orm.Model):
    """Who leads the sweepers of one name, and until when."""

    name = peewee.CharField(max_length=64, primary_key=True)
    holder = peewee.TextField()
    until = peewee.DoubleField()


class Sweeper(threading.Thread):
    """Publishes what the outbox holds and does each duty, every ``sweep_seconds``, while it leads."""

    def __init__(self, name: str, duties: Sequence[Duty], settings: "Shared") -> None:
        super().__init__(name=f"pacifica-sweeper-{name}", daemon=True)
        self.duties = duties  # not copied: a service may append while it starts
        self._seconds = settings.worker.sweep_seconds
        self._ended = threading.Event()
        self._gate = fork.Gate()
        holder = new_holder()
        self._publishes = Leadership("outbox", holder)  # one for all services: it is one table
        self._sweeps = Leadership(name, holder)

    def run(self) -> None:
        """Sweep until ``stop``."""
        while not self._ended.is_set():
            begun = time.monotonic()
            with self._gate:
                self.sweep()
            self._ended.wait(max(self._seconds - (time.monotonic() - begun), self._seconds / 10))
        for leadership in (self._publishes, self._sweeps):
            _attempt("leadership", leadership.resign)

    def stop(self, seconds: float = 10.0) -> None:
        """End the thread after the duty that it is at, and give up leadership; waits ``seconds`` at most."""
        self._ended.set()
        if self.is_alive() and self is not threading.current_thread():
            self.join(seconds)

    def sweep(self) -> None:
        """Make one pass; a duty that fails is logged and keeps none of the others from their turn."""
        if _attempt("leadership", self._sweeps.leads):
            for duty in self.duties:
                if self._ended.is_set():
                    return
                _attempt(getattr(duty, "name", getattr(duty, "__name__", str(duty))), duty)
        if _attempt("leadership", self._publishes.leads):
            _attempt("outbox", publish_pending)


class Leadership:
    """A holder's claim to be the one of a name; renewed as it is used, for a third of its time without a write."""

    def __init__(self, name: str, holder: str, seconds: float = LEADER_SECONDS) -> None:
        self.name, self.holder, self.seconds = name, holder, seconds
        self._sure_until = 0.0  # monotonic

    def leads(self) -> bool:
        """Tell whether this holder leads, taking a lead that is free."""
        moment = time.monotonic()
        if moment < self._sure_until:
            return True
        now = orm.now().sql
        # A lead that lasts longer than any is given is from before the clock was set back.
        over = f"(sweeperlease.until <= {now} OR sweeperlease.until > {now} + {2 * LEADER_SECONDS})"
        other = orm.rows(
            f"SELECT 1 FROM sweeperlease WHERE name = ? AND holder <> ? AND NOT {over}", self.name, self.holder
        )
        taken = not other and orm.execute(
            f"INSERT INTO sweeperlease (name, holder, until) VALUES (?, ?, {now} + ?) "
            "ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until "
            f"WHERE sweeperlease.holder = excluded.holder OR {over}",
            self.name, self.holder, self.seconds,
        )  # fmt: skip
        self._sure_until = moment + self.seconds / 3 if taken else 0.0
        return bool(taken)

    def resign(self) -> int:
        """Let another lead at once."""
        self._sure_until = 0.0
        return orm.execute("DELETE FROM sweeperlease WHERE name = ? AND holder = ?", self.name, self.holder)


def _attempt(name: str, action: Callable[[], int | bool]) -> int | bool:
    try:
        return action()
    except ServiceError as error:  # the database or the disk, most likely: no need for a traceback each second
        logger.warning("sweeper: %s: %s (%s)", name, error, error.__cause__)
    except Exception:
        logger.exception("sweeper: %s failed", name)
    return 0
