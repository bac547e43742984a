"""Notices a worker that lives and does nothing: a pool that stands still, a consumer that lost its queue for good.

The sweeper's own rings are the proof.  The broker has confirmed them, the rows are free and due, the worker has a child
that is not at work; rung for again and again, and nothing was begun: then the worker ends, and whoever started it
(``docs/deployment.md``) starts it again.  A child is not at work when its task's row has lost its lease, which a
thread of its own renews, and it does not end: then it is killed, and the pool starts another.  Only who leads the
sweepers rings, and so looks.
"""

import logging
import os
import signal
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from celery.worker import state

UNHEARD_SECONDS = 40.0  # from the first ring for a row to the last; more than Celery waits between two tries to connect
HANGING_SECONDS = 30.0  # that a task may go on which has lost its row: it learns that within a third of its lease
MOST_ROWS = 10_000  # remembered

logger = logging.getLogger(__name__)


class Watchdog:
    """Watches one worker, which consumes ``queues`` and works on ``slots`` tasks at once.

    ``end`` ends it, ``kill`` one of its children.
    """

    def __init__(
        self,
        queues: Collection[str],
        slots: int,
        end: Callable[[], None] | None = None,
        kill: Callable[[int], None] | None = None,
    ) -> None:
        self._queues, self._slots, self._end, self._kill = frozenset(queues), slots, end or _exit, kill or _kill_child
        self._rings: dict[tuple[Any, ...], float] = {}
        self._lost: dict[str, float] = {}
        self._begun = 0

    def rung(self, queue: str, task: str, rows: Sequence[tuple[Any, int]]) -> None:
        """Note rings on ``queue`` for ``rows`` (id, attempt) of a ``task``; end the worker when it does not hear them.

        No rows: the children alone are looked after.
        """
        if queue not in self._queues or is_stopping():
            return
        now = time.monotonic()
        busy = len(state.active_requests) - self._look(task, dict(rows), now)
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

    def _look(self, task: str, free: Mapping[Any, int], now: float) -> int:
        """Return how many tasks at work have lost their row, and kill the children that do not end for long.

        A task was given its row's id and attempt before its claim, which raised that: a free row with more was lost.
        """
        active = {request.id: request for request in list(state.active_requests)}
        self._lost = {id: since for id, since in self._lost.items() if id in active}
        for id, request in active.items():
            if request.name == task and len(request.args) == 2 and free.get(request.args[0], -1) > request.args[1]:
                self._lost.setdefault(id, now)
        for id, since in self._lost.items():
            if now - since >= HANGING_SECONDS and active[id].worker_pid:
                logger.critical("child %s hangs with a row that it has lost; it is killed", active[id].worker_pid)
                self._kill(active[id].worker_pid)
        return len(self._lost)


def watch(worker: Any) -> None:
    """Watch the Celery worker of this process from now on."""
    global _watchdog
    _watchdog = Watchdog(worker.app.amqp.queues.consume_from, worker.concurrency)


def rung(queue: str, task: str, rows: Sequence[tuple[Any, int]]) -> None:
    """Note rings, where a worker is watched."""
    if _watchdog is not None:
        _watchdog.rung(queue, task, rows)


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
