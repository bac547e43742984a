"""Notices a worker that lives and hears nothing: a pool that stands still, a consumer that lost its queue for good.

The sweeper's own rings are the proof.  The broker has confirmed them, the rows are free and due, the worker has a child
without a task; rung for again and again, and nothing was begun: then the worker ends, and whoever started it
(``docs/deployment.md``) starts it again.  Only who leads the sweepers rings, and so looks.
"""

import logging
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import Any

from celery.worker import state

UNHEARD_RINGS = 5  # for one row; ten seconds apart, which is more than Celery waits between two tries to connect
MOST_ROWS = 10_000  # remembered

logger = logging.getLogger(__name__)


class Watchdog:
    """Watches one worker, which consumes ``queues`` and works on ``slots`` tasks at once; ``end`` ends it."""

    def __init__(self, queues: Collection[str], slots: int, end: Callable[[], None] | None = None) -> None:
        self._queues, self._slots, self._end = frozenset(queues), slots, end or _exit
        self._rings: Counter[tuple[Any, ...]] = Counter()
        self._begun = 0

    def rung(self, queue: str, rows: Iterable[tuple[Any, int]]) -> None:
        """Note rings on ``queue`` for ``rows`` (id, attempt), and end the worker when it does not hear them."""
        if queue not in self._queues or is_stopping():
            return
        begun = state.all_total_count[0]
        if begun != self._begun or len(state.active_requests) >= self._slots or len(self._rings) > MOST_ROWS:
            self._begun = begun
            self._rings.clear()
        self._rings.update((queue, *row) for row in rows)
        if any(count >= UNHEARD_RINGS for count in self._rings.values()):
            logger.critical("this worker hears no message of %s although it has room; it ends", queue)
            self._end()


def watch(worker: Any) -> None:
    """Watch the Celery worker of this process from now on."""
    global _watchdog
    _watchdog = Watchdog(worker.app.amqp.queues.consume_from, worker.concurrency)


def rung(queue: str, rows: Iterable[tuple[Any, int]]) -> None:
    """Note rings, where a worker is watched."""
    if _watchdog is not None:
        _watchdog.rung(queue, rows)


def is_stopping() -> bool:
    """Tell whether Celery was told to end: it takes no more tasks then, and waits for those at work."""
    told = (state.should_stop, state.should_terminate)  # exit codes, of which 0 is one
    return any(code is not None and code is not False for code in told)


def _exit() -> None:
    logging.shutdown()
    os._exit(1)  # an orderly end would wait for the pool; the children end with their parent


_watchdog: Watchdog | None = None
