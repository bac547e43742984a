"""Many data objects at once: each checked as one alone is, all inserted by the driver's bulk path, or none."""

import itertools
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ..common import orm, trace
from ..common.batch import batches
from ..common.catalog import Reader
from ..common.errors import BadRequest, ServiceError
from ..common.outbox import ring
from ..common.state import RING_SECONDS, StateChange
from . import creation, dispatch, fingerprint, reuse, series
from .fields import Values, leaves
from .given import document, options
from .orm import Data, Dependency, Process, State
from .slug import alone, automatic
from .versions import newest

MOST = 10_000  # objects of one request
MAKING_SECONDS = 60.0  # of processor time that one request may take for names
TOLD = 100  # faults of one answer
_LOG = ("kind", "row", "at", "who", "source", "target", "attempt", "trace", "reason")


class BadBulk(BadRequest):
    """Some of the objects cannot be created, so none was; ``faults`` says which, by their index, and why."""

    code = "bad_bulk"


@dataclass
class _Wanted:
    """One object to be: its process, its completed input, what else it was given, and its parents."""

    process: Process
    values: Values
    options: dict[str, Any]
    parents: list[int]


def create(given: list[Any], principal: Reader) -> list[int]:
    """Create what the documents ``given`` say and return the ids, in order; in one transaction.

    BadBulk, with nothing stored, when one of them cannot be.
    """
    if len(given) > MOST:
        raise BadRequest(f"At most {MOST} objects are created at once.", most=MOST)
    wanted = _checked(given, principal)
    with alone(*(one.options["slug"] for one in wanted)), orm.transaction():
        moment = orm.clock()
        ids = _ids(len(wanted))
        ready = _ready(wanted)
        rows = list(_rows(zip(ids, wanted, ready, strict=True), principal.name, moment))
        waiting = [row for row in rows if row["state"] == State.WT]
        for row in waiting:
            row["ring_at"] = moment + RING_SECONDS
        for row in _first(waiting):
            ring(dispatch.queue_of(row["interactive"]), dispatch.RUN, row["id"], 0)
        names = [field.name for field in Data._meta.sorted_fields]
        orm.insert_rows(Data, names, ([row[name] for name in names] for row in rows))
        links = ((parent, id, "io") for id, one in zip(ids, wanted, strict=True) for parent in one.parents)
        orm.insert_rows(Dependency, ("parent", "child", "kind"), links)
        orm.insert_rows(StateChange, _LOG, _log(rows, moment))
    return ids


def _first(waiting: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield those of each queue that are rung for."""
    for interactive in (True, False):
        yield from itertools.islice((row for row in waiting if row["interactive"] is interactive), series.BELLS)


def _checked(given: list[Any], principal: Reader) -> list[_Wanted]:
    wanted: list[_Wanted] = []
    faults: list[dict[str, Any]] = []
    find, slugs = _Finder(), set[str]()
    known = creation.known(principal, _named(given, find))
    for index, item in enumerate(given):
        try:
            wanted.append(_check(item, principal, find, known))
            slug = wanted[-1].options["slug"]
            if slug is not None and slug in slugs:
                raise BadRequest(f"The slug {slug} is given twice.", slug=slug)
            slugs.add(slug)
        except ServiceError as error:
            if error.status >= 500:
                raise
            if len(faults) < TOLD:
                faults.append({"index": index, "code": error.code, "message": error.message, **error.detail})
    if faults:
        raise BadBulk(faults=faults)
    return wanted


def _check(item: Any, principal: Reader, find: "_Finder", known: Any) -> _Wanted:
    asked = document(item)
    process = creation.process_of(asked.get("process"), find)
    values = creation.checked(process, asked.get("input", {}), principal, known)
    return _Wanted(process, values, options(asked), creation.parents_of(process.definition.input, values))


class _Finder:
    """Finds the newest version of a process, once each."""

    def __init__(self) -> None:
        self._held: dict[str, Process] = {}

    def __call__(self, slug: str) -> Process:
        if slug not in self._held:
            self._held[slug] = newest(slug)
        return self._held[slug]


def _named(given: list[Any], find: _Finder) -> Iterator[int]:
    """Yield the ids of data objects that the documents seem to name, to be looked up together."""
    for item in given:
        try:
            process = creation.process_of(item["process"], find)
            for field, holder, _ in leaves(process.definition.input, item.get("input", {})):
                value = holder.get(field["name"])
                if field["type"].removeprefix("list:").startswith("data:"):
                    yield from (one for one in (value if isinstance(value, list) else [value]) if type(one) is int)
        except (ServiceError, KeyError, TypeError, AttributeError):
            continue  # it is refused with its reason when it is checked


def _ids(count: int) -> list[int]:
    if not count:
        return []
    if orm.is_postgres():
        taken = "SELECT nextval(pg_get_serial_sequence('data', 'id')) FROM generate_series(1, ?)"
        return sorted(id for (id,) in orm.rows(taken, count))
    last = orm.rows("SELECT seq FROM sqlite_sequence WHERE name = 'data'")  # nobody else writes before our commit
    first = last[0][0] + 1 if last else 1
    return list(range(first, first + count))


def _ready(wanted: list[_Wanted]) -> list[bool]:
    """Tell of each whether it may run at once; the others are looked at by the dispatcher, after the commit."""
    states: dict[int, str] = {}
    for some in batches({parent for one in wanted for parent in one.parents}, 500):
        marks = ", ".join("?" * len(some))
        states |= dict(orm.rows(f"SELECT id, state FROM data WHERE id IN ({marks})", *some))
    return [
        not reuse.allowed(one.process, one.options["reuse"])
        and all(states.get(parent) == State.OK for parent in one.parents)
        for one in wanted
    ]


def _rows(wanted: Iterable[tuple[int, _Wanted, bool]], owner: str, moment: float) -> Iterator[dict[str, Any]]:
    """Yield what is inserted; BadRequest when making it, names above all, takes too long: others wait to write."""
    end = time.thread_time() + MAKING_SECONDS
    rows = list(wanted)
    slugs = automatic(
        ((id, one.process.slug) for id, one, _ in rows if one.options["slug"] is None),
        {one.options["slug"] for _, one, _ in rows},
    )
    for id, one, ready in rows:
        yield _row(id, one, ready, owner, moment) | {"slug": one.options["slug"] or slugs[id]}
        if time.thread_time() > end:
            raise BadRequest(f"The names of these objects take more than {MAKING_SECONDS:g} s to make.")


def _row(id: int, one: _Wanted, ready: bool, owner: str, moment: float) -> dict[str, Any]:
    definition = one.process.definition
    row = {field.name: field.default for field in Data._meta.sorted_fields}
    row |= {
        "id": id,
        "state": str(State.WT if ready else State.RE),
        "owner": owner,
        "trace": trace.current() or None,
        "created": moment,
        "updated": moment,
        "process": one.process.id,
        "type": definition.type,
        "interactive": definition.is_interactive,
        "name": one.options["name"] or "",
        "named_by_user": one.options["name"] is not None,
        "tags": json.dumps(one.options["tags"]),
        "input": json.dumps(one.values),
        "resources": json.dumps(one.options["resources"]),
        "reuse": one.options["reuse"],
        "checksum": fingerprint.checksum(definition.slug, str(definition.version), one.values),
    }
    if one.options["name"] is None:
        row["name"] = creation.name_of(one.process, id, one.values, one.options["resources"])
    return row


def _log(rows: Iterable[dict[str, Any]], moment: float) -> Iterator[tuple[Any, ...]]:
    for row in rows:
        entry = (moment, row["owner"])
        yield Data.KIND, str(row["id"]), *entry, None, str(State.RE), 0, row["trace"], ""
        if row["state"] == State.WT:
            yield Data.KIND, str(row["id"]), *entry, str(State.RE), str(State.WT), 0, row["trace"], ""
