"""The dispatcher: who may run now, what follows from an end, restart and cancel.

One event ``data_id`` means: look at that object, its children that wait for it, and the workflow that it is a step of.
Every look is safe to repeat, so that a message is only a doorbell; ``sweep`` looks where none came.
"""

import json
from collections import deque

from ..common import orm
from ..common.errors import Conflict, IllegalMove
from ..common.outbox import ring
from ..common.state import RING_SECONDS
from . import fingerprint, reuse
from .orm import Data, Dependency, State

QUEUE, RUN = "pacifica.flow", "pacifica.flow.run"
PARENT_FAILED = "One or more inputs have status ERROR"
BATCH = 200


def resolve(data: Data) -> None:
    """Let ``data`` (in RE) wait for a worker when all its parents are OK and no earlier result answers for it.

    Ends it when one of its parents cannot be OK.
    """
    with orm.transaction():
        data.fence()
        states = _parent_states(data.id)
        if any(state is None or state == State.ER for state in states):
            data.end_badly(PARENT_FAILED, process_rc=1)
        elif all(state == State.OK for state in states) and not reuse.answered(data):
            data.move(State.WT, ring_at=orm.clock() + RING_SECONDS)
            ring(QUEUE, RUN, data.id, data.attempt)


def settle(data_id: int) -> None:
    """Follow the end of ``data_id`` through the graph: children and equal runs that wait for it, its workflow."""
    ended = deque([data_id])
    seen: set[int] = set()
    while ended:
        here = ended.popleft()
        if here in seen:
            continue
        seen.add(here)
        row = Data.get_or_none(Data.id == here)
        if row is None or row.state not in Data.FINAL:
            continue
        for child in (*_waiting_children(here), *_joined(here)):
            if _quietly(resolve, child) and child.state in Data.FINAL:
                ended.append(child.id)
        for workflow in _workflows_of(here):
            if _quietly(follow, workflow) and workflow.state in Data.FINAL:
                ended.append(workflow.id)


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


def restart(data: Data, who: str) -> list[int]:
    """Send a failed object and all that depends on it back to RE; return their ids.

    Conflict unless it is in ER and all its parents are OK.
    """
    if data.state != State.ER:
        raise Conflict("Only an object of status ER can be restarted.", id=data.id, status=data.state)
    if any(state != State.OK for state in _parent_states(data.id)):
        raise Conflict("All inputs must be OK before an object can be restarted.", id=data.id)
    again: list[int] = []
    with orm.transaction():
        todo: deque[int] = deque([data.id])
        while todo:
            here = todo.popleft()
            row = Data.get_or_none(Data.id == here)
            if here in again or row is None or row.state != State.ER:
                continue
            again.append(here)
            row.move(State.RE, who=who, reason="restart", **_cleared())
            todo.extend(_children(here))
        resolve(Data.get_by_id(data.id))
    settle(data.id)
    return again


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
            todo.extend(_children(here, ("io", "subprocess")))
    for id in asked:
        settle(id)
    return asked


def sweep() -> int:
    """Look at objects that nobody rang for: those whose parents have all ended, workflows whose steps have."""
    waiting = orm.rows(
        "SELECT d.id FROM data d WHERE d.state = 'RE' AND NOT EXISTS (SELECT 1 FROM dependency l JOIN data p"
        " ON p.id = l.parent WHERE l.child = d.id AND l.kind = 'io' AND p.state NOT IN ('OK', 'ER'))"
        " AND NOT EXISTS (SELECT 1 FROM data t WHERE t.id = d.twin AND t.state NOT IN ('OK', 'ER')) LIMIT ?",
        BATCH,
    )
    following = orm.rows(
        "SELECT d.id FROM data d WHERE d.state = 'FO' AND NOT EXISTS (SELECT 1 FROM dependency l JOIN data s"
        " ON s.id = l.child WHERE l.parent = d.id AND l.kind = 'subprocess' AND s.state NOT IN ('OK', 'ER')) LIMIT ?",
        BATCH,
    )
    moved = 0
    for (id,) in waiting:
        moved += _quietly(resolve, Data.get_by_id(id))
        settle(id)
    for (id,) in following:
        moved += _quietly(follow, Data.get_by_id(id))
        settle(id)
    return moved


def _cleared() -> dict[str, object]:
    return {
        "process_info": "[]",
        "process_warning": "[]",
        "process_error": "[]",
        "process_rc": None,
        "process_progress": 0,
        "started": None,
        "finished": None,
        "size": 0,
        "output": "{}",
        "content": None,
        "reuse_key": None,
        "reuse_parts": "{}",
        "origin": None,
        "twin": None,
        "cancel": None,
        "not_before": 0.0,
        "exception": "",
        "code": None,
    }


def _parent_states(child: int) -> list[str | None]:
    """Return the state of each io parent, None for one that is gone."""
    sql = "SELECT p.state FROM dependency l LEFT JOIN data p ON p.id = l.parent WHERE l.child = ? AND l.kind = 'io'"
    return [row[0] for row in orm.rows(sql, child)]


def _waiting_children(parent: int) -> list[Data]:
    waits = (Dependency.parent == parent) & (Dependency.kind == "io") & (Data.state == State.RE)
    return list(Data.select().join(Dependency, on=(Dependency.child == Data.id)).where(waits))


def _joined(twin: int) -> list[Data]:
    return list(Data.select().where((Data.twin == twin) & (Data.state == State.RE)))


def _content(steps: list[int]) -> str | None:
    """Return the digest of what the steps have made, None where one of them has none."""
    found = dict(Data.select(Data.id, Data.content).where(Data.id.in_(steps)).tuples())
    contents = [found.get(step) for step in steps]
    return None if None in contents else fingerprint.digest(contents)


def _workflows_of(step: int) -> list[Data]:
    follows = (Dependency.child == step) & (Dependency.kind == "subprocess") & (Data.state == State.FO)
    return list(Data.select().join(Dependency, on=(Dependency.parent == Data.id)).where(follows))


def _children(parent: int, kinds: tuple[str, ...] = ("io",)) -> list[int]:
    links = (Dependency.parent == parent) & Dependency.kind.in_(kinds)
    return [row.child for row in Dependency.select(Dependency.child).where(links)]


def _quietly(change: object, data: Data) -> bool:
    """Make a change that another may have made first; tell whether it was ours."""
    try:
        change(data)  # type: ignore[operator]
    except IllegalMove:
        return False
    return True
