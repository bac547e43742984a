"""Workers: the Celery app of a service, what happens when work fails, and who rings again.

A task gets an id and an attempt, claims the row, works, and moves it on.  Only this room turns an exception into a
FAILED row.
"""

import logging
import random
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import celery
from celery import bootsteps, signals

from . import memory, orm, publisher, watchdog
from .broker import Message, call, task_queue
from .embedded import WorkerThread, embedded_worker
from .errors import Cancelled, IllegalMove, NotClaimed, ServiceError
from .state import RING_SECONDS, Opening, Work, claim, describe, free
from .subscriber import Subscriber
from .sweeper import Duty, Sweeper

if TYPE_CHECKING:
    from .config import Shared
    from .config import Worker as Settings

__all__ = ["Duty", "Sweeper", "Task", "WorkerThread", "embedded_worker", "make_app", "queue_of", "ringer", "working"]

BACKOFF_MAX_SECONDS = 300.0
RINGER_ROWS = 500  # rung for in one pass
RINGER_SECONDS = 5.0  # what a pass spends on the broker at most

logger = logging.getLogger(__name__)

W = TypeVar("W", bound=Work)


class AttemptsExhausted(ServiceError):
    """The work was begun too many times without coming to an end."""

    code = "attempts_exhausted"


# ---- the app -----------------------------------------------------------------------------------------------------


class Task(celery.Task):
    """The base of every task: a message that came too late, or twice, is no error."""

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task; a row that another worker has, or that is done, ends it quietly."""
        try:
            return self.run(*args, **kwargs)
        except NotClaimed as error:
            logger.debug("%s%r: %s", self.name, args, error)
            return None


def queue_of(name: str) -> str:
    """Return the queue of the service ``name``."""
    return f"pacifica.{name}"


class App(celery.Celery):
    """A service's app; its tasks are its own, where Celery would register them with every app of the process."""

    queues: tuple[str, ...]
    duties: list[Duty]
    listeners: list[Callable[["Shared"], Subscriber]]

    def task(self, *args: Any, **options: Any) -> Any:
        """Register a task with this app alone."""
        return super().task(*args, **{"shared": False, **options})


def make_app(name: str, settings: Callable[[], "Shared"], *, also: Sequence[str] = ()) -> App:
    """Return the Celery app of the service ``name``, which reads ``settings`` when it is first used.

    It consumes the queue ``pacifica.<name>`` and those in ``also``, and nothing else.  Its worker's main process
    sweeps and listens; what for, the service appends to ``app.duties`` and ``app.listeners``.
    """
    app = App(name, set_as_current=False, task_cls=Task)
    app.queues = (queue_of(name), *also)
    app.add_defaults(lambda: _configuration(app.queues, settings()))
    app.duties, app.listeners = [], []
    app.steps["worker"].add(_sweeper_step(name, app, settings))

    def begin_process(**_: Any) -> None:  # a child of the prefork pool
        memory.restrain()
        memory.settle()
        orm.forked()
        _connect(settings())

    signals.worker_process_init.connect(begin_process, weak=False, dispatch_uid=f"pacifica.{name}")
    return app


def _configuration(queues: Sequence[str], settings: "Shared") -> dict[str, Any]:
    memory = settings.celery.broker_url.startswith("memory:")
    return {
        "broker_url": settings.celery.broker_url,
        "broker_transport_options": {} if memory else {"confirm_publish": True, "confirm_timeout": 5.0},
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_heartbeat": 0 if memory else 30,
        "task_queues": [task_queue(queue) for queue in queues],
        "task_default_queue": queues[0],
        "task_default_exchange": "",
        "task_default_routing_key": queues[0],
        "task_default_delivery_mode": 2,
        "task_create_missing_queues": False,
        "task_acks_late": False,  # a lost task is found by its lease
        "task_ignore_result": True,  # state is in SQL
        "result_backend": None,
        "task_serializer": "json",
        "accept_content": ["json"],
        "worker_consumer": "pacifica.common.consumer:Consumer",
        "worker_concurrency": settings.celery.concurrency,
        "worker_prefetch_multiplier": 1,
        "worker_cancel_long_running_tasks_on_connection_loss": False,  # the lease decides who may write
        "worker_max_tasks_per_child": 1000,
        "worker_max_memory_per_child": 512_000,  # KiB
        "worker_soft_shutdown_timeout": 30.0,
        "worker_enable_remote_control": False,
        "worker_redirect_stdouts": False,
        "worker_hijack_root_logger": False,
        "worker_send_task_events": False,
    }


def _sweeper_step(name: str, app: App, settings: Callable[[], "Shared"]) -> type[bootsteps.StartStopStep]:
    class SweeperStep(bootsteps.StartStopStep):
        """Sweeps and listens in the worker's main process, which never runs a task itself."""

        threads: Sequence[Sweeper | Subscriber] = ()
        requires = ("celery.worker.components:Pool",)  # so that the pool forks before there is a thread

        def include_if(self, worker: Any) -> bool:
            return not getattr(worker, "embedded", False)  # there, one sweeper serves all apps of the process

        def start(self, worker: Any) -> None:
            _connect(settings())
            watchdog.watch(worker, settings().worker.lease_seconds)
            self.threads = [Sweeper(name, app.duties, settings()), *(make(settings()) for make in app.listeners)]
            for thread in self.threads:
                thread.start()

        def stop(self, worker: Any) -> None:
            for thread in self.threads:
                thread.stop()

    return SweeperStep


def _connect(settings: "Shared") -> None:
    orm.connect(settings.database)
    publisher.configure(settings.celery.broker_url)


# ---- work and its failure ----------------------------------------------------------------------------------------


@contextmanager
def working(model: type[W], id: Any, attempt: int, settings: "Settings", opening: Opening | None = None) -> Iterator[W]:
    """Claim the row ``id`` for a block of work, with its ``opening``, and decide what an exception in it means.

    A failure that another try may mend (``retryable``, and whatever is not a ServiceError) makes the row wait, twice
    as long each time, until it was tried ``max_attempts`` times in one state; any other ends it: ``row.failed``.
    Either way the exception goes no further.  NotClaimed when the row is not to be had.
    """
    with claim(model, id, attempt, seconds=settings.lease_seconds, opening=opening) as row:
        if row.tries > settings.max_attempts:  # tries that ended by themselves; those that killed the worker count too
            row.failed(AttemptsExhausted(f"Given up after {row.tries - 1} attempts.", attempts=row.tries - 1))
            raise NotClaimed(f"{model.KIND} {id} was tried too often.", id=id)
        try:
            yield row
        except NotClaimed:
            raise
        except Exception as error:  # noqa: BLE001  # this is where every failure of work is decided, and logged
            _settle(row, error, settings)


def _settle(row: Work, error: Exception, settings: "Settings") -> None:
    what = f"{row.KIND} {row._pk} attempt {row.attempt}"
    try:
        if isinstance(error, Cancelled):
            row.cancelled(row.refresh().cancel or "")
        elif isinstance(error, ServiceError) and not error.retryable:
            logger.info("%s failed: %s", what, error)
            row.failed(error)
        elif row.tries >= settings.max_attempts:
            logger.error("%s failed for good", what, exc_info=error)
            row.failed(error)
        else:
            logger.warning("%s failed and is tried again", what, exc_info=error)
            _postpone(row, error, settings)
    except IllegalMove:
        logger.warning("%s was given to another worker; what it met last was %r", what, error)
    except ServiceError as trouble:  # the database is away as well: the lease runs out, and the sweeper rings
        logger.warning("%s: its failure could not be written: %s", what, trouble)


def _postpone(row: Work, error: Exception, settings: "Settings") -> None:
    doubled = settings.retry_seconds * 2 ** min(row.tries - 1, 30)
    delay = min(BACKOFF_MAX_SECONDS, doubled) * random.uniform(0.75, 1.25)
    with orm.transaction():
        row.progress(not_before=orm.now() + delay)
        row.note(f"Retry in {delay:.1f} s: {describe(error)[0]}")


# ---- ringing again -----------------------------------------------------------------------------------------------


def ringer(
    model: type[Work], queue: str, task: str, states: Collection[str], *, where: str = "TRUE", most: int = RINGER_ROWS
) -> Duty:
    """Return the duty that rings in ``queue`` for rows in ``states`` on which nobody works and which are due.

    ``where`` is a condition in SQL that says whose queue it is; ``most`` are rung for in one pass.

    ``task`` is a name: asking a Celery task for its own reads the configuration, which must not happen at import.

    It rings straight on the broker, without the outbox: what gets lost is rung for again.  The longer the backlog,
    the more time passes until then.
    """
    meta = model._meta
    table, key = meta.table_name, meta.primary_key.column_name
    wanted = ", ".join("?" * len(states))
    names = tuple(map(str, states))

    def ring_again() -> int:
        bell = publisher.current()
        if bell is None or bell.away:
            return 0
        now = orm.now().sql
        due = orm.rows(
            f'SELECT "{key}", leased_by, {now} - lease_until FROM "{table}" WHERE state IN ({wanted}) AND {where} '
            f"AND ring_at <= {now} AND {free()} AND (not_before <= {now} OR cancel IS NOT NULL) "
            "ORDER BY ring_at LIMIT ?",
            *names, most,
        )  # fmt: skip
        if not due:
            watchdog.rung(queue, [])
            return 0
        # Marked first: a worker that is quick would else find its own next due time overwritten.
        rung = _mark(table, key, [row[0] for row in due], RING_SECONDS * (1 + len(due) // 50))
        sent = bell.publish([_bell(queue, task, id, attempt) for id, attempt in rung], RINGER_SECONDS).sent
        unheard = [id for id, _ in rung if id not in sent]
        if unheard:
            _mark(table, key, unheard, 0.0)
        lost = [watchdog.Lost(holder, overdue) for _, holder, overdue in due if holder and overdue is not None]
        watchdog.rung(queue, [(id, attempt) for id, attempt in rung if id in sent], lost)
        return len(sent)

    ring_again.name = f"ring {queue}"  # type: ignore[attr-defined]
    return ring_again


def _mark(table: str, key: str, ids: list[Any], seconds: float) -> list[tuple[Any, ...]]:
    # Puts off the next ring for those rows that nobody claimed meanwhile; returns their keys and attempts.
    return orm.rows(
        f'UPDATE "{table}" SET ring_at = {orm.now().sql} + ? '
        f'WHERE "{key}" IN ({", ".join("?" * len(ids))}) AND {free()} RETURNING "{key}", attempt',
        seconds, *ids,
    )  # fmt: skip


def _bell(queue: str, task: str, id: Any, attempt: int) -> Message:
    return Message(id, "task", queue, call(task, id, attempt))
