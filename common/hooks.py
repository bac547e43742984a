"""Hooks of a transaction: what to do once it is committed, what to take back when it is not."""

import logging
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass

logger = logging.getLogger(__name__)


@dataclass
class Hook:
    """A hook that cannot undo what was committed before it ran, and so logs its failure."""

    function: Callable[[], None]
    key: Hashable

    def __call__(self) -> None:
        """Run it."""
        try:
            self.function()
        except Exception:
            logger.exception("a hook after a commit failed")


class Pending(threading.local):
    """The hooks of this thread's open transaction."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all: no transaction is open."""
        self.open = False
        self.failed = False  # a block within it, without a savepoint of its own
        self.committed: list[Hook] = []
        self.undone: list[Callable[[], None]] = []
