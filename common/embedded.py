"""A Celery worker inside this process: off the main thread, on threads, beside others, and stopped in time.

Celery takes a process to hold one app: a thread without a current app falls back to a default one, and shutdown is
a flag of the process.  Here the app travels with each task and each worker ends alone.
"""

import functools
import logging
import os
import socket
import threading
from typing import Any

import celery
from celery.bootsteps import RUN
from celery.concurrency.thread import TaskPool
from celery.worker import WorkController
from celery.worker.consumer import Consumer

STOP_SECONDS = 10.0

logger = logging.getLogger(__name__)


class WorkerThread:
    """A worker of one queue of an app; ``start`` returns when it consumes, ``stop`` when it has ended or time is up."""

    def __init__(self, app: celery.Celery, concurrency: int, queue: str) -> None:
        self._app, self._concurrency, self._queue = app, concurrency, queue
        self._controller: _Controller | None = None
        self._thread: threading.Thread | None = None

    def start(self, seconds: float = 30.0) -> None:
        """Start to consume the app's queue; TimeoutError when the broker does not let it within ``seconds``."""
        self._app.finalize()
        ready = threading.Event()
        self._controller = _Controller(
            app=self._app,
            hostname=f"{self._queue}-{os.getpid()}@{socket.gethostname()}",
            concurrency=self._concurrency,
            pool=_Pool,
            consumer_cls=_Consumer,
            use_eventloop=False,  # the event loop is one of the process; several workers must not share it
            ready_callback=lambda consumer: ready.set(),
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
        )
        self._controller.queue = self._queue
        self._thread = threading.Thread(
            target=self._controller.start, name=f"pacifica-worker-{self._queue.removeprefix('pacifica.')}", daemon=True
        )
        self._thread.start()
        if not ready.wait(seconds):
            self.stop(0.0)
            raise TimeoutError(f"the worker of {self._queue} did not start")

    @property
    def has_died(self) -> bool:
        """Whether it has ended although nobody stopped it."""
        return self._thread is not None and not self._thread.is_alive()

    def stop(self, seconds: float = STOP_SECONDS) -> bool:
        """Take no more tasks and let those at work end; False when some are still at it after ``seconds``.

        Their leases are renewed until the process ends, and run out after it.
        """
        if self._controller is None or self._thread is None:
            return True
        ending = threading.Thread(target=self._controller.stop, name=f"{self._thread.name}-stop", daemon=True)
        ending.start()
        ending.join(seconds)
        if ending.is_alive():
            logger.warning("%s: tasks are still at work after %g s", self._thread.name, seconds)
            return False
        self._thread.join(1.0)
        self._controller = self._thread = None
        return True


def embedded_worker(app: celery.Celery, concurrency: int, queue: str) -> WorkerThread:
    """Return a worker of the ``queue`` of ``app`` for this process, with ``concurrency`` threads, not yet started."""
    return WorkerThread(app, concurrency, queue)


class _Controller(WorkController):
    """Without signal handlers, log set-up and sweeper: those belong to the process."""

    embedded = True
    queue = ""


class _Pool(TaskPool):
    """Threads that are told which app a task belongs to."""

    def on_apply(self, target: Any, *args: Any, **kwargs: Any) -> Any:
        return super().on_apply(functools.partial(target, app=self.app), *args, **kwargs)


class _Consumer(Consumer):
    """Looks up often enough to end soon, and only when its own worker does."""

    def loop(
        self, obj: Any, connection: Any, consumer: Any, blueprint: Any, hub: Any, qos: Any, *args: Any, **kwargs: Any
    ) -> None:
        for queue in [queue for queue in self.app.queues if queue != self.controller.queue]:
            consumer.cancel_by_queue(queue)  # the queues of an app are one list for all its workers
        consumer.on_message = obj.create_task_handler()
        consumer.consume()
        obj.on_ready()
        while blueprint.state == RUN and obj.connection:
            if qos.prev != qos.value:
                qos.update()
            obj.perform_pending_operations()
            try:
                connection.drain_events(timeout=0.1)
            except TimeoutError:
                continue
            except OSError:
                if blueprint.state == RUN:
                    raise
