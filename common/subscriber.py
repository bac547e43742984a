"""The thread that hears the exchange ``pacifica`` for a part of the suite, over RabbitMQ and in one process alike.

A message that was dealt with is acknowledged, any other comes again.  The queue is durable and shared by all processes
that listen under one name, so events of the time in which none ran are there when one does.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import kombu

from . import fork
from .broker import EXCHANGE
from .errors import ServiceError

if TYPE_CHECKING:
    from .config import Shared

LOOK_SECONDS = 2.0  # how often the wanted keys are asked for
RETRY_SECONDS = 2.0  # after a broker that failed
PREFETCH = 16

logger = logging.getLogger(__name__)


class Subscriber(threading.Thread):
    """Hands each message's body to ``receive``; idle, without a connection, while ``keys`` wants nothing.

    ``keys`` returns binding keys of the topic exchange.  ``receive`` raises a ServiceError for what must come again.
    """

    def __init__(
        self, name: str, settings: "Shared", keys: Callable[[], set[str]], receive: Callable[[bytes], None]
    ) -> None:
        super().__init__(name=f"pacifica-subscriber-{name}", daemon=True)
        self._queue_name, self._url = f"pacifica.{name}.events", settings.celery.broker_url
        self._keys, self._receive = keys, receive
        self._ended = threading.Event()
        self._gate = fork.Gate()

    def run(self) -> None:
        """Listen until ``stop``."""
        while not self._ended.is_set():
            try:
                wanted = self._wanted()
                if wanted:
                    self._listen(wanted)
                else:
                    self._ended.wait(LOOK_SECONDS)
            except Exception as error:
                logger.warning("no events for now (%s: %s)", type(error).__name__, error)
                logger.debug("listening failed", exc_info=True)
                self._ended.wait(RETRY_SECONDS)

    def stop(self, seconds: float = 10.0) -> None:
        """End the thread after the message that it is at; waits ``seconds`` at most."""
        self._ended.set()
        if self.is_alive():
            self.join(seconds)

    def _listen(self, bound: set[str]) -> None:
        """Consume until nothing is wanted any more, the connection breaks or ``stop`` is called."""
        with kombu.Connection(self._url, connect_timeout=5, heartbeat=30) as connection:
            queue = self._declare(connection.default_channel, bound)
            consumer = kombu.Consumer(
                connection.default_channel, [queue], on_message=self._hear, auto_declare=False, prefetch_count=PREFETCH
            )
            with consumer:
                due = time.monotonic() + LOOK_SECONDS
                while bound and not self._ended.is_set():
                    try:
                        connection.drain_events(timeout=0.5)
                    except TimeoutError:
                        connection.heartbeat_check()
                    if time.monotonic() >= due:
                        bound = self._rebind(queue, bound, self._wanted())
                        due = time.monotonic() + LOOK_SECONDS

    def _wanted(self) -> set[str]:
        with self._gate:
            return self._keys()

    def _declare(self, channel: Any, keys: set[str]) -> Any:
        EXCHANGE(channel).declare()
        queue = kombu.Queue(self._queue_name, durable=True, queue_arguments={"x-queue-type": "classic"})(channel)
        queue.queue_declare()
        for key in keys:
            queue.bind_to(EXCHANGE, routing_key=key)
        return queue

    def _rebind(self, queue: Any, bound: set[str], wanted: set[str]) -> set[str]:
        for key in wanted - bound:
            queue.bind_to(EXCHANGE, routing_key=key)
        for key in bound - wanted:
            queue.unbind_from(EXCHANGE, routing_key=key)
        return wanted

    def _hear(self, message: Any) -> None:
        body = message.body
        try:
            with self._gate:
                self._receive(body.encode() if isinstance(body, str) else bytes(body))
        except ServiceError as error:  # the database is away, most likely
            logger.warning("an event could not be dealt with and comes again: %s", error)
            self._ended.wait(RETRY_SECONDS)
            message.requeue()
        else:
            message.ack()
