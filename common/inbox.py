"""Events that a part of the suite must not miss: kept for it in the commit that announces them, until it is done.

The broker only says sooner that there is one.  What the broker lost, or had no queue for yet, is found here.
"""

import json
from collections.abc import Iterable
from typing import Any

import peewee

from . import orm

GRACE_SECONDS = 2.0  # so long an event is left to the message about it
MAX_TRIES = 5
BACKOFF_SECONDS = 5.0  # after the first failure; it doubles each time


class Subscription(orm.Model):
    """``consumer`` wants every event of ``type``."""

    consumer = peewee.CharField(max_length=40)
    type = peewee.CharField(max_length=100)

    class Meta:
        """Each once."""

        indexes = ((("type", "consumer"), True),)


class Inbox(orm.Model):
    """One event that ``consumer`` has still to deal with; ``body`` is the CloudEvent's JSON text."""

    consumer = peewee.CharField(max_length=40)
    event = peewee.TextField()
    body = peewee.TextField()
    created = peewee.DoubleField()
    not_before = peewee.DoubleField()
    tries = peewee.IntegerField(default=0)

    class Meta:
        """An event lies there once; the oldest is found first."""

        indexes = ((("consumer", "event"), True), (("consumer", "not_before"), False))


def subscribe(consumer: str, types: Iterable[str]) -> None:
    """Want the events of ``types`` from this commit on, and no others any more."""
    wanted = set(types)
    with orm.transaction():
        held = {row.type for row in Subscription.select().where(Subscription.consumer == consumer)}
        gone = (Subscription.consumer == consumer) & Subscription.type.in_(held - wanted)
        Subscription.delete().where(gone).execute()
        for type in sorted(wanted - held):
            Subscription.insert(consumer=consumer, type=type).on_conflict_ignore().execute()


def delivery(event: str, type: str, body: str) -> tuple[str, tuple[Any, ...]]:
    """Return the INSERT, and its parameters, that puts an event into the inbox of each who wants its type.

    For the transaction that announces it.
    """
    now = orm.now().sql
    sql = (
        f"INSERT INTO inbox (consumer, event, body, created, not_before, tries) SELECT consumer, ?, ?, {now}, {now} + ?"
        ", 0 FROM subscription WHERE type = ?"
    )
    return sql, (event, body, GRACE_SECONDS, type)


def keep(consumer: str, event: str, body: str) -> None:
    """Put an event that came from elsewhere into the inbox of ``consumer``, unless it lies there."""
    now = orm.now()
    row = {"consumer": consumer, "event": event, "body": body, "created": now, "not_before": now}
    Inbox.insert(row).on_conflict_ignore().execute()


def waiting(consumer: str, limit: int = 100) -> list[tuple[dict[str, Any], int]]:
    """Return the oldest events that are due, each with the number of tries so far."""
    due = f"consumer = ? AND not_before <= {orm.now().sql} ORDER BY not_before LIMIT ?"
    found = orm.rows(f"SELECT body, tries FROM inbox WHERE {due}", consumer, limit)
    return [(json.loads(body), tries) for body, tries in found]


def postpone(consumer: str, event: str) -> None:
    """Try an event again later: the wait doubles with each try."""
    orm.execute(
        f"UPDATE inbox SET tries = tries + 1, not_before = {orm.now().sql} + ? * (1 << tries)"
        " WHERE consumer = ? AND event = ?",
        BACKOFF_SECONDS, consumer, event,
    )  # fmt: skip


def done(consumer: str, event: str) -> None:
    """Take an event that was dealt with out of the inbox."""
    orm.execute("DELETE FROM inbox WHERE consumer = ? AND event = ?", consumer, event)
