"""The dispatcher: who may run now, what follows from an end, and cancel.

One event ``data_id`` means: look at that object, its children that wait for it, and the workflow that it is a step of.
Every look is safe to repeat, so that a message is only a doorbell; ``sweep`` looks where none came.
"""

import functools
import json
import logging
from collections import deque
from collections.abc import Callable

from ..common import orm, statement
from ..common.batch import batches
from ..common.errors import IllegalMove, ServiceError
from ..common.outbox import ring
from ..common.state import RING_SECONDS
from . import fingerprint, reuse
from .config import settings
from .orm import Data, Dependency, State

QUEUE, QUICK, RUN = "pacifica.flow", "pacifica.flow.interactive", "pacifica.flow.run"
PARENT_FAILED = "One or more inputs have status ERROR"
BATCH = 200

logger = logging.getLogger(__name__)


def queue_of(interactive: bool) -> str:
    """Return the queue of a scheduling class: what somebody waits for never waits behind a batch."""
    return QUICK if interactive else QUEUE


def resolve(data: Data) -> None:
    """Let ``data`` (in RE) wait for a worker when all its parents are OK and no earlier result answers for it.

    Ends it when one of its parents cannot be OK.
    """
    with orm.transaction():
        data.fence()
        states = parent_states(data.id)
        if any(state is None or state == State.ER for state in states):
            data.end_badly(PARENT_FAILED, process_rc=1)
        elif all(state == State.OK for state in states) and not reuse.answered(data):
            data.move(State.WT, ring_at=orm.now() + RING_SECONDS)
            ring(queue_of(data.interactive), RUN, data.id, data.attempt)


def lead_on(ended: Data) -> bool:
    """In the transaction that ends ``ended``: let its children wait for a worker whose parents are now all OK.

    For one of those in the queue of ``ended`` no doorbell is rung: who has ended that takes on what waits (``series``).

    Tells whether that was all there is to do.  What else may follow from an end is left to ``settle``, after the
    commit: it must not keep the end itself from being written.
    """
    rows = _neighbours(ended.id, lock=True)
    if ended.state != State.OK or any(row.state != State.RE or row.twin is not None for row in rows):
        return not rows
    known = _standing([row.id for row in rows]) if rows else {}
    is_taken = False
    for row in rows:
        if known[row.id] == (0, False):
            row.move(State.WT, ring_at=orm.now() + RING_SECONDS)
            if is_taken or row.interactive != ended.interactive:
                ring(queue_of(row.interactive), RUN, row.id, row.attempt)
            else:
                is_taken = True
    return not any(reusable for missing, reusable in known.values() if not missing)


def settle(data_id: int) -> None:
    """Follow the end of ``data_id`` through the graph: children and equal runs that wait for it, its workflow."""
    ended = deque([data_id])
    seen: set[int] = set()
    while ended:
        here = ended.popleft()
        if here in seen:
            continue
        seen.add(here)
        if orm.rows("SELECT 1 FROM data WHERE id = ? AND state IN ('OK', 'ER')", here):
            for row in _neighbours(here):
                if _quietly(follow if row.state == State.FO else resolve, row) and row.state in Data.FINAL:
                    ended.append(row.id)


def follow(workflow: Data) -> None:
    """Bring a workflow in FO up to its steps: progress is the share that ended, the first failure ends it badly."""
    with orm.transaction():
        workflow.fence()
        steps = json.loads(workflow.output).get("steps", [])
        states = dict(Data.select(Data.id, Data.state).where(Data.id.in_(steps)).tuples()) if steps else {}
        ended = [step for step in steps if states.get(step, State.ER) in Data.FINAL]
        if len(ended) < len(steps):
            percent = 100 * len(ended) // len(steps)
            if percent != workflow.process_progress:
                workflow.progress(process_progress=percent)
            return
        failed = [step for step in steps if states.get(step) != State.OK]
        if failed:
            workflow.end_badly(f"Step {failed[0]} failed.", process_progress=100)
        else:
            workflow.end(State.OK, process_progress=100, content=_content(steps))


def cancel(data: Data, who: str, *, graph: bool = False) -> list[int]:
    """Ask for the end of ``data``, with ``graph`` of its steps and dependants too; return whom we asked."""
    asked: list[int] = []
    todo: deque[int] = deque([data.id])
    seen: set[int] = set()
    while todo:
        here = todo.popleft()
        if here in seen:
            continue
        seen.add(here)
        row = Data.get_or_none(Data.id == here)
        if row is None:
            continue
        if row.state not in Data.FINAL and _quietly(lambda one: one.ask_cancel(who), row):
            asked.append(here)
        if graph:
            todo.extend(children(here, ("io", "subprocess")))
    for id in asked:
        settle(id)
    return asked


def sweep() -> int:
    """Look at objects that nobody rang for: those whose parents have all ended, workflows whose steps have."""
    now = orm.now().sql
    waiting = orm.rows(
        "SELECT d.id FROM data d WHERE d.state = 'RE' AND NOT EXISTS (SELECT 1 FROM dependency l JOIN data p"
        " ON p.id = l.parent WHERE l.child = d.id AND l.kind = 'io' AND p.state NOT IN ('OK', 'ER'))"
        " AND NOT EXISTS (SELECT 1 FROM data t WHERE t.id = d.twin AND t.state NOT IN ('OK', 'ER'))"
        f" AND d.not_before <= {now} LIMIT ?",
        BATCH,
    )
    following = orm.rows(
        "SELECT d.id FROM data d WHERE d.state = 'FO' AND NOT EXISTS (SELECT 1 FROM dependency l JOIN data s"
        " ON s.id = l.child WHERE l.parent = d.id AND l.kind = 'subprocess' AND s.state NOT IN ('OK', 'ER'))"
        f" AND d.not_before <= {now} LIMIT ?",
        BATCH,
    )
    looks = [(resolve, id) for (id,) in waiting] + [(follow, id) for (id,) in following]
    return sum(_looked(change, id) for change, id in looks)


def _looked(change: Callable[[Data], None], id: int) -> bool:
    """Look at one object; what goes wrong with it keeps no other from its turn, and ends it after some tries."""
    data = Data.get_or_none(Data.id == id)
    if data is None:
        return False  # deleted meanwhile
    try:
        moved = _quietly(change, data)
        settle(id)
    except Exception as error:
        if isinstance(error, ServiceError) and error.retryable:  # the database is away: for all of them
            raise
        logger.exception("data %s could not be looked at", id)
        return _quietly(functools.partial(_put_off, error=error), data)
    return moved


def _put_off(data: Data, error: Exception) -> None:
    """Look again after a while, twice as long each time; after ``max_attempts`` looks ``error`` ends the object."""
    worker, tries = settings().worker, data.tries + 1
    if tries >= worker.max_attempts:
        data.failed(error)
    else:
        data.progress(tries=tries, not_before=orm.now() + worker.retry_seconds * 2**tries)


def parent_states(child: int) -> list[str | None]:
    """Return the state of each io parent, None for one that is gone."""
    sql = "SELECT p.state FROM dependency l LEFT JOIN data p ON p.id = l.parent WHERE l.child = ? AND l.kind = 'io'"
    return [row[0] for row in orm.rows(sql, child)]


def _content(steps: list[int]) -> str | None:
    """Return the digest of what the steps have made, None where one of them has none."""
    found = dict(Data.select(Data.id, Data.content).where(Data.id.in_(steps)).tuples())
    contents = [found.get(step) for step in steps]
    return None if None in contents else fingerprint.digest(contents)


def _neighbours(id: int, *, lock: bool = False) -> list[Data]:
    """Return the children that wait for an object, equal runs that do, and the workflow that follows it.

    Most objects have none.  Their ids come first, since PostgreSQL may else look at all that wait for anything.
    """
    near = orm.rows(
        "SELECT child FROM dependency WHERE parent = ? AND kind = 'io' UNION ALL SELECT id FROM data WHERE twin = ?"
        " UNION ALL SELECT parent FROM dependency WHERE child = ? AND kind = 'subprocess' AND parent IS NOT NULL",
        id, id, id,
    )  # fmt: skip
    rest = f"AND state IN ('{State.RE}', '{State.FO}') ORDER BY id"
    if lock and orm.is_postgres():
        rest += " FOR UPDATE"
    return [
        row
        for batch in batches(sorted(one for (one,) in near), BATCH)
        for row in statement.select(Data, f"id IN ({', '.join('?' * len(batch))}) {rest}", *batch)
    ]


def _standing(ids: list[int]) -> dict[int, tuple[int, bool]]:
    """Return for each object how many of its parents are not OK, and whether an earlier result may answer for it."""
    found = orm.rows(
        "SELECT d.id, r.persistence, d.reuse, (SELECT count(*) FROM dependency l LEFT JOIN data p ON p.id = l.parent"
        " WHERE l.child = d.id AND l.kind = 'io' AND (p.state IS NULL OR p.state <> 'OK'))"
        f" FROM data d JOIN process r ON r.id = d.process WHERE d.id IN ({', '.join('?' * len(ids))})",
        *ids,
    )
    return {id: (missing, bool(wanted) and persistence in reuse.ALLOWED) for id, persistence, wanted, missing in found}


def children(parent: int, kinds: tuple[str, ...] = ("io",)) -> list[int]:
    """Return the ids of what ``parent`` is linked to by ``kinds``."""
    links = (Dependency.parent == parent) & Dependency.kind.in_(kinds)
    return [row.child for row in Dependency.select(Dependency.child).where(links)]


def _quietly(change: Callable[[Data], None], data: Data) -> bool:
    """Make a change that another may have made first; tell whether it was ours."""
    try:
        change(data)
    except IllegalMove:
        return False
    return True
