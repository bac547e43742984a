"""What becomes of times in rows when the database's clock is set back: nobody waits until it is that late again.

A clock that jumps ahead needs no care: leases and waits are over at once, and attempts decide whose changes count.
"""

import logging
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from . import orm
from .state import Work
from .sweeper import Duty

if TYPE_CHECKING:
    from .config import Shared

JUMP_SECONDS = 5.0  # less is no jump: what a transaction wrote may be older than its commit, and hosts differ a little
RING_MAX_SECONDS = 600.0  # nobody puts off a ring for so long

logger = logging.getLogger(__name__)


def timekeeper(model: type[Work], states: Collection[str], settings: Callable[[], "Shared"]) -> Duty:
    """Return the duty that mends rows of ``model`` in ``states`` which were written before the clock was set back.

    No lease ends later than two of its terms from now, no ring is later than ``RING_MAX_SECONDS``; a row that was
    changed in what is now the future waits, and has until its deadline, as long as was meant then.
    """
    table = model._meta.table_name
    wanted = ", ".join("?" * len(states))
    names = tuple(map(str, states))

    def keep_time() -> int:
        now, term = orm.now().sql, float(settings().worker.lease_seconds)
        jumped = f"updated > {now} + {JUMP_SECONDS}"
        late = (
            f"state IN ({wanted}) AND "
            f"({jumped} OR lease_until > {now} + {2 * term} OR ring_at > {now} + {RING_MAX_SECONDS})"
        )
        if not orm.rows(f'SELECT 1 FROM "{table}" WHERE {late} LIMIT 1', *names):
            return 0
        shifted = ", ".join(
            f"{name} = CASE WHEN {jumped} AND {name} > updated THEN {name} - updated + {now} ELSE {name} END"
            for name in ("not_before", "deadline")
        )
        mended = orm.execute(
            f'UPDATE "{table}" SET {shifted}, '
            f"lease_until = CASE WHEN lease_until > {now} + {2 * term} THEN {now} + {term} ELSE lease_until END, "
            f"ring_at = CASE WHEN ring_at > {now} + {RING_MAX_SECONDS} OR {jumped} THEN {now} ELSE ring_at END, "
            f"updated = CASE WHEN {jumped} THEN {now} ELSE updated END WHERE {late}",
            *names,
        )
        logger.warning("the clock was set back: the times of %d rows of %s were mended", mended, table)
        return mended

    keep_time.name = f"times of {table}"  # type: ignore[attr-defined]
    return keep_time
