"""What one run starts: the steps of a workflow, and what a program asks for by ``re-run``."""

import json
import posixpath
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..common import orm
from ..common.errors import BadRequest, Conflict, NotFound
from . import creation, dispatch
from .definition import Definition
from .fields import leaves
from .orm import Data, Process, State
from .versions import newest
from .workflow import read_steps, step_input
from .world import SqlWorld, engine


def expand(data: Data, definition: Definition) -> None:
    """Create every step of a workflow in one transaction, and let it follow them."""
    values = json.loads(data.input)
    evaluate: Callable[..., Any] | None = None
    if definition.engine is not None:
        evaluate = engine(SqlWorld()).value
    owner, tags = creation.Owner(data.owner), json.loads(data.tags)
    try:
        with orm.transaction():
            ids: dict[str, int] = {}
            for step in read_steps(definition.program):
                given = step_input(step, values, ids, evaluate)
                process = _step_process(step.id, step.run)
                ids[step.id] = creation.create(process, given, owner, tags=tags, started_by=data.id).id
            if data.state != State.PR:
                data.move(State.PR, started=orm.now())
            data.move(State.FO, output=json.dumps({"steps": list(ids.values())}), lease_until=None, leased_by=None)
        dispatch.follow(data)  # whose steps may all have been answered by earlier results
    except BadRequest as error:
        data.end_badly(error.message)


def spawn(
    data: Data, wanted: Iterable[Mapping[str, Any]], exported: Mapping[str, int], files: Mapping[str, int]
) -> list[str]:
    """Create what the program of ``data`` asked for by ``re-run``, and return why some of it cannot be.

    The children have its owner and tags.  ``files`` are the ids of its archived files, by name; ``exported`` says of
    each that was put aside the how manyth it was: of each child ``exported`` says how many there had been.
    """
    refused = []
    owner, tags = creation.Owner(data.owner), json.loads(data.tags)
    for one in wanted:
        try:
            process = newest(one["process"])
            given = _given(process.definition, one, exported, files)
            creation.create(process, given, owner, tags=tags, started_by=data.id)
        except (BadRequest, NotFound, Conflict) as error:
            refused.append(error.message)
    return refused


def _given(
    definition: Definition, wanted: Mapping[str, Any], exported: Mapping[str, int], files: Mapping[str, int]
) -> dict[str, Any]:
    """Return the input of a child: a file that it names is one that its parent had exported before."""
    given = wanted["input"]
    if not isinstance(given, dict):
        raise BadRequest(f"The input of 're-run {definition.slug}' must be a JSON object.")

    def file(name: Any) -> Any:
        if not isinstance(name, str):
            return name
        stored = posixpath.normpath(name)
        if exported.get(stored, wanted["exported"]) >= wanted["exported"] or stored not in files:
            raise BadRequest(f"Use 're-export' to prepare the file for spawned process: {name}")
        return {"file": posixpath.basename(stored), "file_temp": f"archive:{files[stored]}"}

    for field, holder, _ in leaves(definition.input, given):
        value = holder.get(field["name"])
        if field["type"].startswith("basic:file:") and value is not None:
            holder[field["name"]] = file(value)
        elif field["type"].startswith("list:basic:file:") and isinstance(value, list):
            holder[field["name"]] = [file(one) for one in value]
    return given


def _step_process(step: str, slug: str) -> Process:
    process: Process | None = Process.select().where((Process.slug == slug) & Process.is_active).first()
    if process is None:
        raise BadRequest(f'Error in process script: Incorrect definition of step "{step}", invalid process "{slug}".')
    return newest(slug)
