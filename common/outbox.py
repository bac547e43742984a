"""Messages that a commit owes the world: rows written with the change that they report, deleted once published.

After the commit they are tried once, within half a second; what is left the sweeper publishes.  A message may thus
arrive twice, never not at all: a worker's claim drops the second, a consumer of events knows it by its id.
"""

from collections.abc import Callable, Collection
from typing import Any

import peewee

from . import orm, sent
from .broker import Message, call
from .events import event
from .inbox import delivery
from .publisher import Publisher, configure, current

__all__ = ["Outbox", "Publisher", "announce", "configure", "publish_pending", "ring"]

REQUEST_SECONDS = 0.5  # what a request spends on the broker at most
SWEEP_SECONDS = 5.0  # what one pass of the sweeper spends on it
GRACE_SECONDS = 2.0  # a row this young belongs to who wrote it
REFUSED_SECONDS = 60.0  # before a message that the broker refused is tried again


class Outbox(orm.Model):
    """One message to publish."""

    channel = peewee.CharField(max_length=8)  # task | event
    routing_key = peewee.TextField()  # the queue of a task, the type of an event
    body = peewee.TextField()
    created = peewee.DoubleField()
    ready_at = peewee.DoubleField(index=True)  # the sweeper leaves the row alone until then


def ring(queue: str, task: str, id: Any, attempt: int) -> None:
    """Tell the workers of ``queue`` to look at row ``id``, which was claimed ``attempt`` times, once this commits."""
    _post("task", queue, call(task, id, attempt))


def announce(type: str, subject: str, data: dict[str, Any], *, source: str, moment: float | None = None) -> str:
    """Publish an event once this commits; return its id.  Call it in the transaction of the change that it reports.

    ``moment`` is when that was by the database's clock, for who knows it already.
    """
    id, body = event(type, subject, data, source=source, moment=orm.clock() if moment is None else moment)
    _post("event", type, body, delivery(id, type, body))
    return id


def publish_pending(limit: int = 500) -> int:
    """Publish the oldest messages whose writers did not; return how many are out.  The sweeper's part."""
    publisher = current()
    if publisher is None or publisher.away:
        return 0
    now = orm.now().sql  # a row that is due later than any is put off was written before the clock was set back
    ready = (
        "SELECT id, channel, routing_key, body FROM outbox "
        f"WHERE ready_at <= {now} OR ready_at > {now} + {2 * REFUSED_SECONDS} ORDER BY id LIMIT ?"
    )
    found = [Message(*row) for row in orm.rows(ready, limit)]
    return _publish(publisher, found, SWEEP_SECONDS, sent.delete) if found else 0


class _Batch:
    """The hook of one transaction: publishes what it wrote."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def __call__(self) -> None:
        publisher = current()
        if publisher is None or publisher.away:
            return
        _publish(publisher, self.messages, REQUEST_SECONDS, sent.delete_soon)


def _post(channel: str, key: str, body: str, beside: tuple[str, tuple[Any, ...]] | None = None) -> None:
    """Write the row, and with it what ``beside`` inserts: PostgreSQL takes both as one statement."""
    publisher = current()
    grace = 0.0 if publisher is None or publisher.away else GRACE_SECONDS
    now = orm.now().sql
    insert = f"INSERT INTO outbox (channel, routing_key, body, created, ready_at) VALUES (?, ?, ?, {now}, {now} + ?)"
    values: tuple[Any, ...] = (channel, key, body, grace)
    with orm.transaction():
        if beside is not None and orm.is_postgres():
            insert, values = f"WITH other AS ({beside[0]}) {insert}", beside[1] + values
        elif beside is not None:
            orm.execute(beside[0], *beside[1])
        id = orm.rows(f"{insert} RETURNING id", *values)[0][0]
        batch: Any = orm.after_commit(_Batch(), key=_Batch)
        message = Message(id, channel, key, body)
        batch.messages.append(message)
        orm.on_rollback(lambda: batch.messages.remove(message))


def _publish(
    publisher: Publisher, messages: list[Message], seconds: float, delete: Callable[[Collection[Any]], None]
) -> int:
    outcome = publisher.publish(messages, seconds)
    if outcome.sent:
        delete(outcome.sent)
    if outcome.refused:
        marks = ", ".join("?" * len(outcome.refused))
        later = f"UPDATE outbox SET ready_at = {orm.now().sql} + ? WHERE id IN ({marks})"
        orm.execute(later, REFUSED_SECONDS, *outcome.refused)
    return len(outcome.sent)
