"""A new data object: its process found, its input completed and checked, its place in the graph."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..common import orm, trace
from ..common.batch import batches
from ..common.catalog import Reader, Transaction, may_read, readable_transactions
from ..common.errors import BadRequest, NotFound
from ..common.ledger import owners
from . import dispatch, fingerprint
from .fields import Field, References, Values, check, complete, leaves
from .hydrate import URLS, context
from .orm import Data, Dependency, Process, State, Storage
from .resources import effective
from .slug import alone, automatic
from .values import BadValue
from .versions import inactive
from .world import SqlWorld, archived_id, engine, transaction_id


class Owner:
    """The owner of something, on whose behalf the suite itself creates an object: no more rights than that."""

    administrator = service = False

    def __init__(self, name: str) -> None:
        self.name = name


def create(
    process: Process,
    given: Values,
    principal: Reader,
    *,
    name: str | None = None,
    slug: str | None = None,
    tags: list[str] | None = None,
    resources: Mapping[str, int] | None = None,
    reuse: bool = True,
    started_by: int | None = None,
) -> Data:
    """Insert a run of ``process`` on the input ``given`` for ``principal``, ready or waiting for its parents.

    Unless ``reuse`` is false an equal earlier run may answer for it, so that it is OK at once.

    BadValue, with nothing stored, for an input that the process does not take; NotFound for what it points at.
    """
    definition = process.definition
    values = checked(process, given, principal)
    with alone(slug), orm.transaction():
        data = Data.start(
            state=State.RE,
            process=process.id,
            type=definition.type,
            interactive=definition.is_interactive,
            owner=principal.name,
            trace=trace.current() or None,
            name=name or "",
            named_by_user=name is not None,
            slug=slug,
            tags=json.dumps(tags or []),
            input=json.dumps(values),
            resources=json.dumps(dict(resources or {})),
            reuse=reuse,
            checksum=fingerprint.checksum(definition.slug, str(definition.version), values),
        )
        changes: dict[str, Any] = {} if slug else {"slug": automatic([(data.id, definition.slug)])[data.id]}
        if name is None:
            changes["name"] = name_of(process, data.id, values, dict(resources or {}))
        data.progress(**changes)
        links = [(parent, data.id, "io") for parent in parents_of(definition.input, values)]
        links += [(started_by, data.id, "subprocess")] if started_by is not None else []
        orm.insert_rows(Dependency, ("parent", "child", "kind"), links)
        dispatch.resolve(data)
    return data


def checked(process: Process, given: Values, principal: Reader, known: References | None = None) -> Values:
    """Return the input ``given`` completed; BadValue or NotFound as ``create``."""
    if not isinstance(given, dict):
        raise BadValue("The input must be an object, by names of fields.")
    fields = process.definition.input
    values = complete(fields, given)
    check(fields, values, references=known or references(principal))
    check_files(fields, values, principal)
    return values


def references(principal: Reader) -> References:
    """Answer what values may point at: the principal's own data and documents, or everybody's for an administrator."""
    return known(principal, ())


def known(principal: Reader, expected: Iterable[int]) -> References:
    """Answer as ``references``; the data objects ``expected`` are looked up together, before the first question."""
    found: dict[int, tuple[str, str]] = {}
    for some in batches(set(expected), 500):
        marks = ", ".join("?" * len(some))
        rows = orm.rows(f"SELECT id, type, owner FROM data WHERE id IN ({marks})", *some)
        found |= {id: (type, owner) for id, type, owner in rows}

    def visible(owner: str) -> bool:
        return owner == principal.name or principal.administrator or principal.service

    def data_type(id: int) -> str | None:
        held = found.get(id) or next(iter(orm.rows("SELECT type, owner FROM data WHERE id = ?", id)), None)
        return held[0] if held and visible(held[1]) else None

    def storage_exists(id: int) -> bool:
        held = Storage.get_or_none(Storage.id == id)
        return held is not None and visible(held.owner)

    return References(data_type, storage_exists)


def parents_of(fields: list[Field], values: Values) -> list[int]:
    """Return the ids of the data objects that ``values`` point at, each once, in schema order."""
    found: list[int] = []
    for field, holder, _ in leaves(fields, values):
        value = holder.get(field["name"])
        if value is not None and field["type"].removeprefix("list:").startswith("data:"):
            found += value if isinstance(value, list) else [value]
    return list(dict.fromkeys(found))


def rendered_name(data: Data, process: Process) -> str:
    """Return the name that the process gives ``data``, empty where it gives none."""
    return name_of(process, data.id, json.loads(data.input), json.loads(data.resources))


def name_of(process: Process, id: int, values: Values, resources: Mapping[str, int]) -> str:
    """Return the name that ``process`` gives the object ``id`` with these ``values``, empty where it gives none."""
    definition = process.definition
    if definition.engine is None or not definition.data_name:
        return definition.data_name[:100]
    world = SqlWorld()
    allowed = effective(definition, resources, values)
    names = context(world, id, definition.input, values, definition.requirements, allowed, names=True)
    return engine(world).name(definition.data_name, names)


def check_files(fields: list[Field], values: Values, principal: Reader) -> None:
    """Raise BadValue for a file or folder that names nothing archived, NotFound for what is not the principal's."""
    for path, transaction in _folders(fields, values):
        if not readable_transactions(principal, [transaction]) or not Transaction.select().where(
            Transaction.id == transaction
        ):
            raise NotFound(f"There is no transaction {transaction} in the archive.", id=transaction, field=path)
    for path, temporary in _temporaries(fields, values):
        if temporary.startswith(URLS):
            continue
        try:
            file_id = archived_id(temporary)
        except ValueError as error:
            raise BadValue(f"Value of field '{path}': {error}", field=path) from error
        if not may_read(principal, [file_id]):
            raise NotFound(f"There is no file {file_id} in the archive.", file_id=file_id, field=path)


def transactions_of(fields: list[Field], values: Values) -> set[int]:
    """Return the transactions whose files ``values`` name, as folders or one by one."""
    named = [archived_id(one) for _, one in _temporaries(fields, values) if not one.startswith(URLS)]
    found = {transaction for _, _, transaction in owners(named) if transaction is not None}
    return found | {transaction for _, transaction in _folders(fields, values)}


def process_of(wanted: Any, find: Any) -> Process:
    """Return the active process that ``{"id": n}`` or ``{"slug": s}`` names; ``find(slug)`` finds the newest."""
    if isinstance(wanted, dict) and isinstance(wanted.get("slug"), str):
        return find(wanted["slug"])
    if isinstance(wanted, dict) and type(wanted.get("id")) is int:
        held = abs(wanted["id"]) < 1 << 63
        process: Process | None = Process.get_or_none(Process.id == wanted["id"]) if held else None
        if process is None:
            raise NotFound(f"There is no process {wanted['id']}.")
        if not process.is_active:
            raise inactive(process)
        return process
    raise BadRequest('process must be {"slug": text} or {"id": number}.')


def _folders(fields: list[Field], values: Values) -> Iterator[tuple[str, int]]:
    for field, holder, path in leaves(fields, values):
        value = holder.get(field["name"])
        if value is not None and field["type"].removeprefix("list:") == "basic:dir:":
            for one in value if isinstance(value, list) else [value]:
                try:
                    yield path, transaction_id(one["dir"])
                except ValueError as error:
                    raise BadValue(f"Value of field '{path}': {error}", field=path) from error


def _temporaries(fields: list[Field], values: Values) -> Iterator[tuple[str, str]]:
    for field, holder, path in leaves(fields, values):
        value = holder.get(field["name"])
        if value is not None and field["type"].removeprefix("list:").startswith("basic:file:"):
            for one in value if isinstance(value, list) else [value]:
                if not one.get("file_temp"):
                    raise BadValue(f"Value of field '{path}': file_temp must be archive:<file id>", field=path)
                yield path, one["file_temp"]
