"""The broker: what a message is, where it goes, and a connection to send it by.

Messages to workers are Celery tasks (message protocol 2) on durable classic queues; events go to the durable topic
exchange ``pacifica``.  On RabbitMQ every message is confirmed, many at a time; the in-memory broker of ``pacifica up``
is part of this process and needs no confirmation.
"""

import json
import logging
import select
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import celery
import kombu
from kombu.transport import TRANSPORT_ALIASES

EXCHANGE = kombu.Exchange("pacifica", type="topic", durable=True)
TRANSPORT_ALIASES["memory"] = "pacifica.common.inprocess:Transport"  # kombu's own looks for messages at intervals

logger = logging.getLogger(__name__)

_celery = celery.Celery("pacifica", set_as_current=False)  # for its message format only


@dataclass(frozen=True)
class Message:
    """One message; ``id`` is the caller's name for it.

    A task's ``key`` is its queue and its ``body`` JSON of ``{"task": name, "args": [...]}``; an event's ``key`` is its
    type and its ``body`` the CloudEvent's JSON text.
    """

    id: Any
    channel: str  # task | event
    key: str
    body: str


@dataclass
class Outcome:
    """What became of messages, by id; those in neither set may or may not have arrived: send them again later."""

    sent: set[Any] = field(default_factory=set)
    refused: set[Any] = field(default_factory=set)  # the broker answers, but not to these


def call(task: str, *args: Any) -> str:
    """Return the body of a message that calls ``task``."""
    return json.dumps({"task": task, "args": args})


def task_queue(name: str) -> kombu.Queue:
    """Return the queue ``name`` as both sides declare it."""
    return kombu.Queue(
        name, exchange=kombu.Exchange(""), routing_key=name, durable=True, queue_arguments={"x-queue-type": "classic"}
    )


class Link:
    """A connection with one channel."""

    errors: tuple[type[BaseException], ...] = ()  # what means that the connection is no longer good

    def __init__(self) -> None:
        self.declared: set[str] = set()
        self.channel: Any = None
        self.producer: Any = None

    def open(self, url: str, deadline: float) -> None:
        """Connect to ``url`` before ``deadline``, a moment of the monotonic clock."""
        raise NotImplementedError

    def send(self, messages: Iterable[Message], deadline: float, outcome: Outcome) -> None:
        """Send ``messages``, noting in ``outcome`` what became of each; raises what the transport raises."""
        raise NotImplementedError

    def drop(self) -> None:
        """Forget the connection, without waiting for anybody."""
        raise NotImplementedError

    def use(self, channel: Any) -> None:
        """Send over ``channel`` from now on."""
        self.declared, self.channel, self.producer = set(), channel, kombu.Producer(channel, auto_declare=False)

    def declare(self, message: Message) -> None:
        """Make sure, once a channel, that there is a place for the message."""
        name = message.key if message.channel == "task" else ""
        if name not in self.declared:
            (task_queue(name) if name else EXCHANGE)(self.channel).declare()
            self.declared.add(name)

    def put(self, message: Message) -> None:
        """Write one message to the channel."""
        if message.channel == "task":
            call = json.loads(message.body)
            headers, properties, body, _ = _celery.amqp.as_task_v2(
                str(uuid.uuid4()), call["task"], args=call["args"], ignore_result=True
            )
            self.producer.publish(
                body, exchange="", routing_key=message.key, serializer="json", headers=headers, delivery_mode=2,
                **properties,
            )  # fmt: skip
            return
        self.producer.publish(
            message.body.encode(), exchange=EXCHANGE.name, routing_key=message.key, delivery_mode=2,
            content_type="application/cloudevents+json", content_encoding="utf-8",
            message_id=json.loads(message.body)["id"],
        )  # fmt: skip


class MemoryLink(Link):
    """The broker is a dictionary of this process."""

    def open(self, url: str, deadline: float) -> None:
        """Take a channel."""
        self.connection = kombu.Connection(url)
        self.use(self.connection.channel())

    def send(self, messages: Iterable[Message], deadline: float, outcome: Outcome) -> None:
        """Put all into their queues."""
        for message in messages:
            self.declare(message)
            self.put(message)
            outcome.sent.add(message.id)

    def drop(self) -> None:
        """Give the channel back."""
        self.connection.release()


class ConfirmingLink(Link):
    """RabbitMQ: all messages of a batch are on their way before the first confirmation is waited for."""

    wire: Any = None  # py-amqp's connection

    def __init__(self) -> None:
        super().__init__()
        self.waiting: dict[int, Any] = {}  # delivery tag -> message id
        self.tag = 0
        self.outcome = Outcome()

    def open(self, url: str, deadline: float) -> None:
        """Connect, each step bounded by ``deadline``."""
        # confirm_publish would wait for each message alone; a heartbeat would need somebody to send it
        options = {"confirm_publish": False}
        connection = kombu.Connection(url, connect_timeout=_left(deadline), heartbeat=0, transport_options=options)
        self.errors = (*connection.connection_errors, *connection.channel_errors)
        self.refusals = connection.channel_errors
        self.wire = connection.transport.establish_connection()
        self._open_channel(deadline)

    def _open_channel(self, deadline: float) -> None:
        self._limit(deadline)
        self.waiting, self.tag = {}, 0
        self.use(self.wire.channel())
        self.channel.confirm_select()
        self.channel.events["basic_ack"].add(self._acknowledged)
        self.channel.events["basic_nack"].add(self._refused)

    def send(self, messages: Iterable[Message], deadline: float, outcome: Outcome) -> None:
        """Send all, then wait for their confirmations; TimeoutError when ``deadline`` comes first."""
        self.outcome = outcome
        self.waiting.clear()  # of an earlier batch that ran out of time
        self._hear()
        bad: set[str] = set()
        for message in messages:
            target = message.key if message.channel == "task" else ""
            self._limit(deadline)
            if target not in bad:
                try:
                    self.declare(message)
                except self.refusals as error:
                    logger.error("the broker refuses %r: %s", target or EXCHANGE.name, error)
                    bad.add(target)
                    self._open_channel(deadline)  # what was unconfirmed on the old one is sent again later
            if target in bad:
                outcome.refused.add(message.id)
                continue
            self.tag += 1
            self.waiting[self.tag] = message.id
            self.put(message)
        while self.waiting:
            self.wire.drain_events(timeout=_left(deadline))

    def _hear(self) -> None:
        # What the broker said since last time: most of all, that it closed the connection.
        while select.select([self.wire.sock], [], [], 0)[0]:
            self.wire.drain_events(timeout=0.1)

    def _limit(self, deadline: float) -> None:
        # py-amqp waits for answers without a limit of its own, and does not heed SO_RCVTIMEO.
        self.wire.sock.settimeout(_left(deadline))

    def _acknowledged(self, tag: int, multiple: bool) -> None:
        self.outcome.sent.update(self._settled(tag, multiple))

    def _refused(self, tag: int, multiple: bool) -> None:
        self.outcome.refused.update(self._settled(tag, multiple))

    def _settled(self, tag: int, multiple: bool) -> list[Any]:
        tags = [known for known in self.waiting if known <= tag] if multiple else [tag]
        return [self.waiting.pop(known) for known in tags if known in self.waiting]

    def drop(self) -> None:
        """Close the socket without a farewell: a frozen broker would make us wait for its answer."""
        if self.wire is not None:
            self.wire.collect()


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("out of time")
    return left
