"""One doorbell, many runs: who has ended an object takes on the next that waits in the same queue.

Each has a claim of its own, as if it had been rung for.  Thus a worker that is at work needs no message for each
object: so many doorbells are rung as wake those who sleep (``bulk``, ``dispatch.lead_on``).
"""

import random
import time
from collections.abc import Callable

from ..common import orm
from ..common.outbox import ring
from ..common.state import free
from . import dispatch
from .orm import State

SECONDS = 0.5  # after which the doorbell is handed on, so that a worker hears of its end, and of other queues
BELLS = 64  # rung at once, for however many that wait: as many workers wake, and take on the others
CHOICE = 16  # of so many one is taken by chance: workers seldom want the same


def through(data_id: int, attempt: int, run: Callable[[int, int], bool]) -> None:
    """Call ``run`` with the object ``data_id`` and its attempt, and as long as all goes well with others that wait."""
    end = time.monotonic() + SECONDS
    goes_on = run(data_id, attempt)
    while (found := _next(data_id)) is not None:
        id, attempt, interactive = found
        if not goes_on or time.monotonic() > end:
            with orm.transaction():
                ring(dispatch.queue_of(bool(interactive)), dispatch.RUN, id, attempt)
            return
        goes_on = run(id, attempt)


def _next(like: int) -> tuple[int, int, bool] | None:
    """Return an object that waits in the queue of ``like``: its id, the attempt by which it is claimed, its class.

    One of those that wait longest, about: to sort ten thousand for each run would cost more than the run.
    """
    found = orm.rows(
        "SELECT id, attempt, interactive FROM data"
        f" WHERE state = '{State.WT}' AND interactive = (SELECT interactive FROM data WHERE id = ?)"
        f" AND {free()} AND not_before <= {orm.now().sql} AND cancel IS NULL LIMIT ?",
        like, CHOICE,
    )  # fmt: skip
    return random.choice(found) if found else None
