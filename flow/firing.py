"""Events become runs: each once for each trigger that they fit, however often and by whatever way they come.

They come over the exchange, and stay in the inbox until they are dealt with, so that a broker or a worker that is lost
delays them and no more.  What a trigger made of an event is one row, whose unique key is what "once" rests on.
"""

import json
import logging
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

import msgspec
import peewee

from ..common import catalog, events, inbox, orm
from ..common.errors import BadRequest, Conflict, NotFound
from . import creation
from .config import settings
from .orm import Dependency, Firing, TriggerRow
from .trigger import FILE, NotFired, Trigger, about, restore
from .versions import newest
from .world import SqlWorld, engine

CONSUMER = "flow"
MAX_ANCESTORS = 64

logger = logging.getLogger(__name__)


class Event(msgspec.Struct):
    """What we need of a CloudEvent 1.0."""

    id: str
    source: str
    type: str
    data: dict[str, Any]
    subject: str = ""

    @property
    def key(self) -> str:
        """What tells it from every other event: its id, with its source where that is not the suite's."""
        return self.id if self.type in events.TYPES else f"{self.source}#{self.id}"


def keys() -> set[str]:
    """Return the binding keys of what enabled triggers want to hear."""
    return {row.event for row in TriggerRow.select(TriggerRow.event).where(TriggerRow.enabled).distinct()}


def subscribe() -> None:
    """Have the suite keep for us, from this commit on, what enabled triggers want to hear.

    Call it in the transaction that changes a trigger, behind the change.
    """
    if orm.is_postgres():  # one after the other: each would else want what it alone knows of, and nothing more
        orm.execute("LOCK TABLE subscription IN SHARE ROW EXCLUSIVE MODE")
    triggers = [restore(json.loads(row.document)) for row in TriggerRow.select().where(TriggerRow.enabled)]
    inbox.subscribe(CONSUMER, {type for type in events.TYPES if any(one.hears(type) for one in triggers)})


def receive(body: bytes) -> None:
    """Deal with a message of the exchange; one that is no event is dropped.  DatabaseAway: let it come again."""
    try:
        event = read(body)
    except BadRequest as error:
        logger.warning("a message on the exchange is no event: %s", error)
        return
    try:
        handle(event)
    except Exception as error:
        logger.warning("event %s could not be dealt with; it is tried again", event.key, exc_info=error)
        inbox.keep(CONSUMER, event.key, body.decode())


def catch_up() -> int:
    """Deal with events that no message brought, or that failed before; return how many.  The sweeper's part."""
    waiting = inbox.waiting(CONSUMER)
    for document, tries in waiting:
        event = msgspec.convert(document, Event)
        try:
            handle(event, last=tries + 1 >= inbox.MAX_TRIES)
        except Exception:
            logger.exception("event %s could not be dealt with (try %d)", event.key, tries + 1)
            inbox.postpone(CONSUMER, event.key)
    return len(waiting)


def read(body: bytes) -> Event:
    """Read a CloudEvent.  BadRequest for what is none, or for one whose names are too long to keep."""
    try:
        event = msgspec.json.decode(body, type=Event)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadRequest(f"Not a CloudEvent: {error}") from error
    if not event.id or len(event.key) > 200 or len(event.type) > 100 or "\0" in event.key + event.type + event.subject:
        raise BadRequest("Its id, source or type is empty or too long.")
    return event


def handle(event: Event, *, last: bool = False) -> list[int]:
    """Run what each enabled trigger wants for ``event``; return the ids of the new objects.

    None for an event whose source is not trusted.  Safe to repeat.  With ``last``, what else goes wrong than the
    event's own fault is kept as the trigger's error.
    """
    made: list[int] = []
    if not trusted(event):
        logger.warning("event %s is passed over: its source %r is not trusted", event.key, event.source[:200])
        inbox.done(CONSUMER, event.key)
        return made
    for row in list(TriggerRow.select().where(TriggerRow.enabled).order_by(TriggerRow.slug)):
        trigger = restore(json.loads(row.document))
        if fits(trigger, event) and not _fired(trigger, event):
            try:
                made += fire(trigger, event)
            except Exception as error:
                if not last:
                    raise
                logger.exception("trigger %s gives up on event %s", trigger.slug, event.key)
                _note(trigger, event, error=f"{type(error).__name__}: given up after {inbox.MAX_TRIES} tries")
    inbox.done(CONSUMER, event.key)
    return made


def trusted(event: Event) -> bool:
    """Tell whether events of this source may fire triggers: the site says whose."""
    return any(fnmatchcase(event.source, pattern) for pattern in settings().flow.trusted_sources)


def fits(trigger: Trigger, event: Event) -> bool:
    """Tell whether ``trigger`` wants ``event``: its type, its data, and the files of its transaction."""
    if not trigger.hears(event.type) or not trigger.matches(event.data):
        return False
    return FILE not in trigger.where or any(trigger.wants(path) for _, path, _ in _files(_transaction(event)))


def fire(trigger: Trigger, event: Event) -> list[int]:
    """Create the run that ``trigger`` makes of ``event``; its id, or nothing where that was done before.

    What is the event's or the trigger's own fault is kept as an error of the trigger.
    """
    lineage = _lineage(event)
    try:
        if trigger.slug in lineage:
            raise NotFired("The event comes from a run that this trigger started.")
        owner = _owner(event)
        given = inputs(trigger, event)
        with orm.transaction():
            # first: of two that deal with one event, the second waits here and fails
            firing = _note(trigger, event, owner=owner, lineage=json.dumps([*lineage, trigger.slug]))
            process = newest(trigger.process)
            data = creation.create(process, given, creation.Owner(owner), tags=trigger.tags)
            Firing.update(data=data.id).where(Firing.id == firing).execute()
        return [int(data.id)]
    except peewee.IntegrityError:
        if not _fired(trigger, event):
            raise
    except (BadRequest, NotFound, Conflict) as error:
        logger.warning("trigger %s makes nothing of event %s: %s", trigger.slug, event.key, error.message)
        _note(trigger, event, owner=str(event.data.get("owner", "")), error=error.message[:1000])
    return []


def inputs(trigger: Trigger, event: Event) -> dict[str, Any]:
    """Return the inputs of the run that ``trigger`` would make of ``event``.  NotFired where there can be none."""
    transaction = _transaction(event)
    seen = about(transaction, lambda: _files(transaction), trigger)
    document = {"id": event.id, "source": event.source, "type": event.type, "subject": event.subject}
    return trigger.inputs({**document, "data": event.data}, seen, engine(SqlWorld()))


def _note(trigger: Trigger, event: Event, **columns: Any) -> int:
    facts = {"trigger": trigger.slug, "event": event.key, "type": event.type, "subject": event.subject[:1000]}
    return int(Firing.insert({**facts, **columns, "created": orm.now()}).execute())


def _fired(trigger: Trigger, event: Event) -> bool:
    return bool(orm.rows('SELECT 1 FROM firing WHERE "trigger" = ? AND event = ?', trigger.slug, event.key))


def _owner(event: Event) -> str:
    """Return who owns the run: who posted the transaction, else whom the event names."""
    held = catalog.Transaction.get_or_none(catalog.Transaction.id == _transaction(event))
    owner = held.owner if held is not None else event.data.get("owner")
    if not isinstance(owner, str) or not owner or "\0" in owner:
        raise NotFired("The event names no owner.")
    return owner


def _transaction(event: Event) -> int | None:
    number = event.data.get("transaction")
    return number if type(number) is int and 0 < number < 1 << 62 else None


def _files(transaction: int | None) -> Iterator[tuple[int, str, int]]:
    for file in catalog.files_of(transaction) if transaction is not None else ():
        yield file["_id"], f"{file['subdir']}/{file['name']}".lstrip("/"), file["size"]


def _lineage(event: Event) -> list[str]:
    """Return the triggers that led to the run which ``event`` tells of, the first one first."""
    here = event.data.get("data") if event.type.startswith("pacifica.flow.") else None
    for _ in range(MAX_ANCESTORS):
        if type(here) is not int:
            break
        held = Firing.get_or_none(Firing.data == here)
        if held is not None:
            return [str(slug) for slug in json.loads(held.lineage)]
        started = (Dependency.child == here) & (Dependency.kind == "subprocess")
        link = Dependency.select(Dependency.parent).where(started).first()
        here = link.parent if link is not None else None
    return []
