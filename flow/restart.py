"""Sending a failed object through again, and all that depends on it."""

import json
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from ..common import orm
from ..common.errors import Conflict, IllegalMove
from ..common.volume import Volume
from . import dispatch
from .orm import Data, Process, State
from .removal import remove, started_by
from .reuse import ALLOWED

_CLEARED: dict[str, object] = {
    "process_info": "[]",
    "process_warning": "[]",
    "process_error": "[]",
    "process_rc": None,
    "process_progress": 0,
    "started": None,
    "finished": None,
    "size": 0,
    "output": "{}",
    "run": "{}",
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


def restart(
    data: Data, who: str, volume: Volume, overrides: Mapping[int, Mapping[str, int]] | None = None
) -> list[int]:
    """Send a failed object and all that depends on it back to RE; return their ids.

    What they had started is deleted, but for results that their repeated steps can use.  ``overrides`` are resources
    by id.  Conflict unless ``data`` is in ER, all its parents are OK, and all that is to be deleted has ended.
    """
    if data.state != State.ER:
        raise Conflict("Only an object of status ER can be restarted.", id=data.id, status=data.state)
    if any(state != State.OK for state in dispatch.parent_states(data.id)):
        raise Conflict("All inputs must be OK before an object can be restarted.", id=data.id)
    failed = _failed(data)
    stale = [one for row in failed for one in started_by(row) if not _of_use(one)]
    running = [one.id for one in stale if one.state not in Data.FINAL]
    if running:
        raise Conflict("What it started still runs; cancel it first.", id=data.id, running=running)
    with orm.transaction():
        for row in failed:
            columns: dict[str, Any] = dict(_CLEARED)
            if row.id in (overrides or {}):
                columns["resources"] = json.dumps(dict((overrides or {})[row.id]))
            row.move(State.RE, who=who, reason="restart", **columns)
        dispatch.resolve(Data.get_by_id(data.id))
    for one in stale:
        with suppress(IllegalMove):  # somebody has sent it through again meanwhile
            remove(one, volume)
    dispatch.settle(data.id)
    return [row.id for row in failed]


def _failed(data: Data) -> list[Data]:
    """Return ``data`` and what depends on it and failed, each once, parents first."""
    found: dict[int, Data] = {}
    todo: deque[int] = deque([data.id])
    while todo:
        row = Data.get_or_none(Data.id == todo.popleft())
        if row is not None and row.id not in found and row.state == State.ER:
            found[row.id] = row
            todo.extend(dispatch.children(row.id))
    return list(found.values())


def _of_use(one: Data) -> bool:
    """Tell whether an equal run would be answered by ``one``."""
    persistence = Process.select(Process.persistence).where(Process.id == one.process).scalar()
    return one.state == State.OK and persistence in ALLOWED
