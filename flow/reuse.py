"""Results used again: an equal earlier run answers for a new one, a running one is waited for, and why (not).

Only results of the same owner, that are OK, whose files the archive still has and has not found damaged.  The files
are shared, not copied: the archive lets go of one when the last object that names it is deleted.
"""

import json
from collections.abc import Mapping
from typing import Any

from ..common import ledger, orm
from ..common.batch import batches
from ..common.errors import IllegalMove
from . import fingerprint
from .config import settings
from .orm import Data, DataFile, Dependency, Process, State

ALLOWED = frozenset({"CACHED", "TEMP"})  # the process promises that equal inputs give equal results
RUNNING = (State.WT, State.PP, State.PR)
NEAREST = 200  # earlier runs that an explanation looks at
LOCKS = 1024
_COLUMNS = ("data", "attempt", "name", "file_id", "size", "sha256")


def answered(data: Data) -> bool:
    """Tell whether ``data``, in RE with all parents OK, need not run: it has ended OK, or waits for an equal one.

    In the caller's transaction, which has fenced ``data``.
    """
    identified = identify(data)
    if identified is None:
        return False
    key, parts = identified
    if key is None:
        data.progress(reuse_parts=json.dumps(parts))
        return False
    if not _alone(key):  # an equal one is being decided about: the sweeper looks again
        return True
    columns = {"reuse_key": key, "reuse_parts": json.dumps(parts)}
    for earlier in _results(data.owner, key):
        if earlier.id != data.id and _take(data, earlier, columns):
            return True
    running = (Data.reuse_key == key) & (Data.owner == data.owner) & Data.state.in_(RUNNING)
    twin = Data.select().where(running & Data.cancel.is_null() & (Data.id != data.id)).order_by(Data.id).first()
    data.progress(**columns, twin=twin.id if twin else None)
    return twin is not None


def allowed(process: Process, wanted: bool) -> bool:
    """Tell whether a run of ``process`` that ``wanted`` it may be answered by an earlier one."""
    return wanted and process.persistence in ALLOWED and settings().flow.reuse


def identify(data: Data) -> tuple[str | None, dict[str, str]] | None:
    """Return the reuse key of ``data`` and its parts; None where nothing is reused, no key where it has none."""
    process = Process.select(Process.id, Process.persistence).where(Process.id == data.process).first()
    if not data.reuse or process.persistence not in ALLOWED or not settings().flow.reuse:
        return None
    return _identity(Process.get_by_id(process.id), json.loads(data.input), json.loads(data.resources))


def confirm(data: Data, process: Process) -> None:
    """Identify ``data`` once more as its run begins: a definition or a tool may have changed while it waited."""
    if data.reuse_key is None or process.persistence not in ALLOWED:
        return
    key, parts = _identity(process, json.loads(data.input), json.loads(data.resources))
    if key != data.reuse_key:
        data.progress(reuse_key=key, reuse_parts=json.dumps(parts))


def find(process: Process, values: dict[str, Any], resources: Mapping[str, int], owner: str) -> Data | None:
    """Return the newest object of ``owner`` that is, or will be, the result of ``process`` on ``values``, if any."""
    if process.persistence not in ALLOWED:
        return None
    same = Data.checksum == fingerprint.checksum(process.slug, process.version, values)
    usable = (Data.owner == owner) & (Data.state != State.ER) & Data.cancel.is_null() & ~Data.invalidated
    key, _ = _identity(process, values, resources)
    fresh = Data.reuse_key.is_null() | (Data.reuse_key == key)  # else the definition or a tool is another by now
    held: Data | None = Data.select().where(same & usable & fresh).order_by(Data.id.desc()).first()
    if held is not None and (held.state != State.OK or _sound(held)):
        return held
    return next((row for row in _results(owner, key) if _sound(row)), None) if key else None


def invalidate(data: Data, *, graph: bool = False) -> list[int]:
    """Let nobody reuse the result of ``data``, or an equal one of its owner; with ``graph`` of what was made from it.

    Returns the ids, ``data`` first.
    """
    found: dict[int, None] = {}
    todo = [data.id]
    while todo:
        here = Data.get_or_none(Data.id == todo.pop(0))
        if here is None or here.id in found:
            continue
        found[here.id] = None
        if here.reuse_key:
            equal = (Data.reuse_key == here.reuse_key) & (Data.owner == here.owner)
            todo += [row.id for row in Data.select(Data.id).where(equal)]
        if graph:
            links = (Dependency.parent == here.id) & (Dependency.kind == "io")
            todo += [row.child for row in Dependency.select(Dependency.child).where(links)]
    for batch in batches(found, 500):
        Data.update(invalidated=True).where(Data.id.in_(batch)).execute()
    return list(found)


def explain(data: Data) -> dict[str, Any]:
    """Say whether ``data`` reuses a result, and why (not): held against the nearest earlier run of its owner.

    ``reuse`` is hit, joined, miss, never or waiting.  ``differs`` names the parts that differ, with both digests.
    """
    process = Process.get_by_id(data.process)
    parts = json.loads(data.reuse_parts)
    answer: dict[str, Any] = {"id": data.id, "key": data.reuse_key, "parts": parts, "invalidated": data.invalidated}
    if data.origin is not None:
        return answer | {"reuse": "hit", "from": data.origin, "reason": f"the result of {data.origin} was used"}
    if data.twin is not None and data.state == State.RE:
        return answer | {"reuse": "joined", "from": data.twin, "reason": f"waits for the equal run {data.twin}"}
    never = _never(data, process)
    if never:
        return answer | {"reuse": "never", "reason": never}
    if data.state == State.RE:
        return answer | {"reuse": "waiting", "reason": "its inputs are not all OK yet"}
    if "unknown" in parts:
        return answer | {"reuse": "miss", "reason": parts["unknown"]}
    nearest = _nearest(data, process.slug, parts)
    if nearest is None:
        return answer | {"reuse": "miss", "reason": "there is no earlier run of this process"}
    differs = _differing(parts, json.loads(nearest.reuse_parts))
    reason = "other " + ", ".join(differs) if differs else _unusable(nearest)
    return answer | {"reuse": "miss", "nearest": nearest.id, "differs": differs, "reason": reason}


def _identity(
    process: Process, values: dict[str, Any], resources: Mapping[str, int]
) -> tuple[str | None, dict[str, str]]:
    if process.definition.language == "workflow":
        return None, {"unknown": "a workflow is not reused as a whole; its steps are"}
    flow = settings().flow
    try:
        parts = fingerprint.parts(process, values, resources, flow.executor, flow.process_dirs)
    except fingerprint.NoContent as error:
        return None, {"unknown": error.message}
    return fingerprint.key(parts), parts


def _results(owner: str, key: str) -> list[Data]:
    equal = (Data.reuse_key == key) & (Data.owner == owner) & (Data.state == State.OK) & ~Data.invalidated
    return list(Data.select().where(equal).order_by(Data.id.desc()).limit(5))


def _take(data: Data, earlier: Data, columns: dict[str, Any]) -> bool:
    """End ``data`` with what ``earlier`` has found; False when that is no longer to be had."""
    try:
        earlier.fence()  # so that nobody deletes it meanwhile
    except IllegalMove:
        return False
    if not _sound(earlier):
        return False
    rows = DataFile.select().where(DataFile.data == earlier.id)
    shared = [(data.id, data.attempt, row.name, row.file_id, row.size, row.sha256) for row in rows]
    orm.insert_rows(DataFile, _COLUMNS, shared)
    origin = earlier.origin or earlier.id
    same = ("output", "content", "size", "process_info", "process_warning", "process_rc")
    data.end(
        State.OK,
        reason=f"The result of {origin} is used.",
        **columns,
        **{name: getattr(earlier, name) for name in same},
        origin=origin,
        twin=None,
        process_progress=100,
        started=orm.clock(),
    )
    return True


def _sound(data: Data) -> bool:
    """Tell whether the archive has every file of ``data`` and has found none damaged."""
    ids = {row.file_id for row in DataFile.select(DataFile.file_id).where(DataFile.data == data.id)}
    held = ledger.locate(ids)
    return len(held) == len(ids) and all(one.verdict != ledger.DAMAGED for one in held.values())


def _alone(key: str) -> bool:
    """Keep others from deciding about ``key`` until the transaction ends; False when another is at it.

    SQLite's transactions are alone anyway.  Few locks, never waited for: a workflow takes one for each step.
    """
    if not orm.is_postgres():
        return True
    return bool(orm.rows("SELECT pg_try_advisory_xact_lock(?, ?)", 0x666C6F77, int(key[:8], 16) % LOCKS)[0][0])


def _never(data: Data, process: Process) -> str:
    if process.persistence not in ALLOWED:
        return f"the process is {process.persistence}: it does not promise equal results"
    if not data.reuse:
        return "whoever created it wanted a run of its own"
    return "" if settings().flow.reuse else "[flow] reuse is off"


def _nearest(data: Data, slug: str, parts: Mapping[str, str]) -> Data | None:
    """Return, of the newest earlier runs, the one that differs in the fewest parts; of those one that is OK."""
    versions = [row.id for row in Process.select(Process.id).where(Process.slug == slug)]
    before = (Data.id < data.id) & (Data.owner == data.owner) & Data.process.in_(versions) & (Data.reuse_parts != "{}")
    rows = list(Data.select().where(before).order_by(Data.id.desc()).limit(NEAREST))
    rank = {row.id: (len(_differing(parts, json.loads(row.reuse_parts))), row.state != State.OK) for row in rows}
    return min(rows, key=lambda row: rank[row.id], default=None)


def _differing(here: Mapping[str, str], there: Mapping[str, str]) -> dict[str, dict[str, str | None]]:
    names = [name for name in {**here, **there} if here.get(name) != there.get(name)]
    return {name: {"here": here.get(name), "there": there.get(name)} for name in names}


def _unusable(earlier: Data) -> str:
    if earlier.invalidated:
        return "the equal run was invalidated"
    if earlier.state == State.ER:
        return "the equal run failed"
    if earlier.reuse_key is None:
        return "the equal run started others, which a copy of its result would not do"
    return "the equal run had not ended, or the archive no longer has all of its files"
