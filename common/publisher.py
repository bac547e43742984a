"""The publisher of this process: one connection, used for moments, never waited for longer than allowed."""

import logging
import threading
import time
from collections.abc import Iterable, Sequence

from . import fork
from .broker import ConfirmingLink, Link, MemoryLink, Message, Outcome

AWAY_SECONDS = 5.0  # a broker that failed is not asked again for so long

logger = logging.getLogger(__name__)


class Publisher:
    """Publishes to one broker URL; usable from any thread, and skipped by all for 5 s after a failure."""

    def __init__(self, broker_url: str) -> None:
        self.broker_url = broker_url
        self._lock = threading.Lock()
        self._link: Link | None = None
        self._away_until = 0.0

    @property
    def away(self) -> bool:
        """Tell whether the broker failed a moment ago, so that publishing is not tried."""
        return time.monotonic() < self._away_until

    def publish(self, messages: Sequence[Message], seconds: float) -> Outcome:
        """Send ``messages`` in order and wait up to ``seconds`` in all until the broker has confirmed them.

        Never raises for the broker's sake: what it did not confirm is not in ``sent``.
        """
        outcome = Outcome()
        deadline = time.monotonic() + seconds
        if self.away or not messages or not self._lock.acquire(timeout=seconds):
            return outcome
        try:
            fresh = self._link is None
            try:
                self._send(messages, deadline, outcome)
            except _broken(self._link):
                if fresh or time.monotonic() >= deadline:
                    raise
                self._drop()  # an old connection that the broker closed long ago says nothing about the broker
                self._send([message for message in messages if message.id not in outcome.sent], deadline, outcome)
        except Exception as error:
            # Whatever the transport raised (it has many words for it), the messages wait in SQL.
            logger.warning("the broker does not answer (%s: %s); trying again in %g s", type(error).__name__, error,
                           AWAY_SECONDS)  # fmt: skip
            logger.debug("publishing failed", exc_info=True)
            self._drop()
            self._away_until = time.monotonic() + AWAY_SECONDS
        finally:
            self._lock.release()
        return outcome

    def close(self) -> None:
        """Close the connection; a later ``publish`` opens another."""
        with self._lock:
            self._drop()

    def _send(self, messages: Iterable[Message], deadline: float, outcome: Outcome) -> None:
        if self._link is None:
            self._link = (MemoryLink if self.broker_url.startswith("memory:") else ConfirmingLink)()
            self._link.open(self.broker_url, deadline)
        self._link.send(messages, deadline, outcome)

    def _drop(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.drop()


def _broken(link: Link | None) -> tuple[type[BaseException], ...]:
    return link.errors if link is not None else ()


# ---- the one of this process -------------------------------------------------------------------------------------

_publisher: Publisher | None = None


def configure(broker_url: str) -> Publisher:
    """Choose the broker of this process and return its publisher; the same URL again changes nothing.

    Kombu's other transports are not supported: their messages cannot be confirmed.
    """
    global _publisher
    if _publisher is None or _publisher.broker_url != broker_url:
        if _publisher is not None:
            _publisher.close()
        _publisher = Publisher(broker_url)
    return _publisher


def current() -> Publisher | None:
    """Return the publisher of this process, None before ``configure``."""
    return _publisher


@fork.in_child
def _forked() -> None:
    global _publisher
    if _publisher is not None:
        _inherited.append(_publisher)  # kept unclosed: the connection is the parent's
        _publisher = Publisher(_publisher.broker_url)


_inherited: list[Publisher] = []
