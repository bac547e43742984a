"""What the suite keeps for triggers, whoever changes them at the same time."""

import json
import threading
from typing import Any

import pytest

from pacifica.common import inbox, orm
from pacifica.flow import firing
from pacifica.flow.document import parse
from pacifica.flow.orm import SCHEMA, TriggerRow
from pacifica.flow.trigger import define
from pacifica.tests.system.suite import until

BLOCKED = "SELECT 1 FROM pg_locks l JOIN pg_database d ON d.oid = l.database AND d.datname = current_database()"


def enable(event: str) -> None:
    """Do what registering a trigger for ``event`` does."""
    slug = event.replace(".", "-")
    found = define(parse(f"trigger: {slug}\nevent: {event}\nprocess: p\n".encode()))
    columns = {"event": event, "document": json.dumps(found.document), "digest": found.digest}
    with orm.transaction():
        TriggerRow.create(slug=slug, **columns)
        firing.subscribe()


def test_of_two_that_change_triggers_at_once_neither_forgets_what_the_other_wants(
    postgresql: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    SCHEMA.sync()
    has_read, may_write, original = threading.Event(), threading.Event(), inbox.subscribe

    def subscribe(consumer: str, types: set[str]) -> None:
        if threading.current_thread() is first:
            has_read.set()
            assert may_write.wait(60)
        original(consumer, types)

    monkeypatch.setattr(firing.inbox, "subscribe", subscribe)
    first, second = (
        threading.Thread(target=enable, args=(event,)) for event in ("pacifica.ingest.archived", "pacifica.cart.ready")
    )
    first.start()
    assert has_read.wait(60)
    second.start()
    until(lambda: not second.is_alive() or orm.rows(f"{BLOCKED} WHERE NOT l.granted"), 60, "the second one's turn")
    may_write.set()
    first.join(60)
    second.join(60)
    kept = {row.type for row in inbox.Subscription.select()}
    assert kept == {"pacifica.ingest.archived", "pacifica.cart.ready"}
