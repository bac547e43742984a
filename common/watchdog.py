"""Notices a worker that lives and does nothing: a pool that stands still, a consumer that lost its queue for good.

The sweeper's own rings are the proof.  The broker has confirmed them, the rows are free and due, the worker has a child
that is not at work; rung for again and again, and nothing was begun: then the worker ends, and whoever started it
(``docs/deployment.md``) starts it again.  A child is not at work when a row that it works on has lost its lease, which
a thread of its own renews, and its task does not end: then it is killed, and the pool starts another.  Only who leads
the sweepers rings, and so looks.
"""

import logging
import os
import signal
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from celery.worker import state

from . import lease

UNHEARD_SECONDS = 40.0  # from the first ring for a row to the last; more than Celery waits between two tries to connect
HANGING_SECONDS = 30.0  # that a task may go on which has lost its row: it learns that within a third of its lease
MOST_ROWS = 10_000  # remembered

logger = logging.getLogger(__name__)


class Lost(NamedTuple):
    """A lease that ran out ``overdue`` seconds ago; ``holder`` is as ``lease.new_holder`` names it."""

    holder: str
    overdue: float


class Watchdog:
    """Watches one worker, which consumes ``queues`` and works on ``slots`` tasks at once under leases of ``seconds``.

    ``end`` ends it, ``kill`` one of its children.
    """

    def __init__(
        self,
        queues: Collection[str],
        slots: int,
        seconds: float,
        end: Callable[[], None] | None = None,
        kill: Callable[[int], None] | None = None,
    ) -> None:
        self._queues, self._slots, self._seconds = frozenset(queues), slots, seconds
        self._end, self._kill = end or _exit, kill or _kill_child
        self._rings: dict[tuple[Any, ...], float] = {}
        self._lost: dict[str, float] = {}
        self._begun = 0

    def rung(self, queue: str, rows: Sequence[tuple[Any, int]], lost: Sequence[Lost] = ()) -> None:
        """Note rings on ``queue`` for ``rows`` (id, attempt); end the worker when it does not hear them.

        ``lost`` are leases that ran out on those rows.  No rows: the children alone are looked after.
        """
        if queue not in self._queues or is_stopping():
            return
        now = time.monotonic()
        busy = len(state.active_requests) - self._look(lost, now)
        begun = state.all_total_count[0]
        if begun != self._begun or busy >= self._slots:
            self._begun = begun
            self._rings.clear()
        known = [key for key in ((queue, *row) for row in rows) if key in self._rings]
        for row in rows[: MOST_ROWS - len(self._rings)]:
            self._rings.setdefault((queue, *row), now)
        if any(now - self._rings[key] >= UNHEARD_SECONDS for key in known):
            logger.critical("this worker hears no message of %s although it has room; it ends", queue)
            self._end()

    def _look(self, lost: Sequence[Lost], now: float) -> int:
        """Return how many tasks at work have lost their row, and kill the children that do not end for long."""
        active = {request.id: request for request in list(state.active_requests)}
        self._lost = {id: since for id, since in self._lost.items() if id in active}
        for id, request in active.items():
            if any(self._has_lost(request, one) for one in lost):
                self._lost.setdefault(id, now)
        for id, since in self._lost.items():
            if now - since >= HANGING_SECONDS and active[id].worker_pid:
                logger.critical("child %s hangs with a row that it has lost; it is killed", active[id].worker_pid)
                self._kill(active[id].worker_pid)
        return len(self._lost)

    def _has_lost(self, request: Any, one: Lost) -> bool:
        """Tell whether the lease was the task's: of its process, and renewed, or taken, since the task began."""
        if not request.time_start or not lease.is_of(one.holder, request.worker_pid):
            return False
        return one.overdue + self._seconds < time.time() - request.time_start


def watch(worker: Any, seconds: float) -> None:
    """Watch the Celery worker of this process from now on, which works under leases of ``seconds``."""
    global _watchdog
    _watchdog = Watchdog(worker.app.amqp.queues.consume_from, worker.concurrency, seconds)


def rung(queue: str, rows: Sequence[tuple[Any, int]], lost: Sequence[Lost] = ()) -> None:
    """Note rings, where a worker is watched."""
    if _watchdog is not None:
        _watchdog.rung(queue, rows, lost)


def is_stopping() -> bool:
    """Tell whether Celery was told to end: it takes no more tasks then, and waits for those at work."""
    told = (state.should_stop, state.should_terminate)  # exit codes, of which 0 is one
    return any(code is not None and code is not False for code in told)


def _kill_child(pid: int) -> None:
    """Kill a child of this process, and nothing else: the number may be another's by now."""
    with suppress(OSError):
        if int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) == os.getpid():
            os.kill(pid, signal.SIGKILL)


def _exit() -> None:
    logging.shutdown()
    os._exit(1)  # an orderly end would wait for the pool; the children end with their parent


_watchdog: Watchdog | None = None
