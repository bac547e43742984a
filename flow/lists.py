"""The lists of data objects and of processes: what they can be filtered and ordered by."""

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import peewee

from ..common.catalog import User
from ..common.errors import BadRequest
from .narrowing import Choice, Part, Search, choice, glanced, held, listed, rows, text, together
from .orm import Data, Process, State, TriggerRow
from .query import Field, conditions, ordering, page, select
from .words import RANKED, DataTag, found, rank, words_of

R = TypeVar("R")


def data(parameters: Mapping[str, Any], owner: str | None, most: int) -> list[Data]:
    """Return the objects of ``owner`` (None: of everybody) that ``parameters`` ask for, at most ``most``.

    BadRequest names the parameter that is wrong.
    """
    asked = conditions(parameters, DATA_FIELDS)
    columns = ordering(parameters, DATA_ORDER, "-created")
    limit, offset = page(parameters, most)
    words = _words(parameters) if parameters.get("text") else []
    every, filters = _search(asked, owner, None if words else columns[0].node)
    if not words and (asked or owner is not None):
        found = glanced(every.glance(filters), columns, limit, offset)
        if found is not None:
            return found
    search = every.whose()
    for one in filters:
        search = search and search.narrowed(one)
    if search is None:
        return []
    if words:
        return rows(_ranked(words, owner, search)[offset : offset + limit])
    return listed(search, columns, limit, offset)


def _search(asked: list[Any], owner: str | None, order: Any) -> tuple[Search, list[Choice | Part]]:
    """Return what is to be searched, in the order of a column, and the filters that an index may yet answer."""
    search = Search([] if owner is None else [Data.owner == owner], [], [], [], [])
    indexed: list[Choice | Part] = []
    filters: list[Choice | Part] = []
    for one in asked:
        (indexed if isinstance(one, Choice | Part) else search.along).append(one)
    for one in together(indexed):
        if isinstance(one, Choice) and one.column is not None and one.column is order:
            search.ranges.append(one.condition)
        else:
            filters.append(one)
    return search, filters


def _ranked(words: list[str], owner: str | None, search: Search) -> list[int]:
    """Return the ids of the newest objects that a text fits, the best first."""
    if not search.few:
        also = text(search.query(peewee.SQL("1")).where(Data.id == peewee.SQL("t.data"))) if search.along else None
        held = found(words, owner, also)
    else:
        held = list(search.query(Data.id, Data.name, Data.slug, Data.tags, Data.owner).tuples())
    texts = {id: ((tags, slug or "", name), who) for id, name, slug, tags, who in held}
    ranks = {id: worth for id, said in texts.items() if (worth := rank(words, *said)) is not None}
    return sorted(sorted(ranks, reverse=True)[:RANKED], key=lambda id: -ranks[id])


def processes(parameters: Mapping[str, Any], most: int) -> list[Process]:
    """Return the processes that ``parameters`` ask for; as ``data``."""
    query = Process.select()
    for condition in conditions(parameters, PROCESS_FIELDS):
        query = query.where(condition)
    if not parameters.get("text"):
        return list(select(query, parameters, PROCESS_ORDER, "id", most))
    every = query.order_by(Process.id.desc())
    return fitting({row: (row.category, row.type, row.slug, row.name) for row in every}, parameters, most)


def triggers(parameters: Mapping[str, Any], most: int) -> list[TriggerRow]:
    """Return the triggers that ``parameters`` ask for; as ``data``."""
    query = TriggerRow.select()
    for condition in conditions(parameters, TRIGGER_FIELDS):
        query = query.where(condition)
    if not parameters.get("text"):
        return list(select(query, parameters, TRIGGER_ORDER, "slug", most))
    said = {row: json.loads(row.document) for row in query.order_by(TriggerRow.slug)}
    texts = {row: (one["description"], one["process"], row.event, row.slug) for row, one in said.items()}
    return fitting(texts, parameters, most)


def fitting(texts: Mapping[R, tuple[str, ...]], parameters: Mapping[str, Any], most: int) -> list[R]:
    """Return those rows in whose ``texts``, the weightiest last, the words of ``text`` are; the best come first."""
    words, (limit, offset) = _words(parameters), page(parameters, most)
    ranks = {row: worth for row, said in texts.items() if (worth := rank(words, said)) is not None}
    return sorted(ranks, key=lambda row: -ranks[row])[offset : offset + limit]


def _words(parameters: Mapping[str, Any]) -> list[str]:
    if parameters.get("ordering"):
        raise BadRequest("A list by text is ordered by how well the text fits.", parameter="ordering")
    words = words_of(str(parameters["text"]))
    if not words:
        raise BadRequest("text must hold a word.", parameter="text")
    return words


def _named(condition: Any, lookup: str, value: str) -> Any:
    """A whole name has an index, and so have its parts."""
    if lookup == "isnull":
        return condition
    return choice(condition) if lookup in ("exact", "in") else Part(value, not lookup.startswith("i"), condition)


def _ranging(column: Any) -> Callable[[Any, str, str], Any]:
    """A column whose index finds whatever is asked of it, save for the time of day."""
    return lambda condition, lookup, value: condition if lookup == "time" else choice(condition, column)


def _within(condition: Any) -> Choice:
    """Turn a condition on processes into one on their objects."""
    ids = [id for (id,) in Process.select(Process.id).where(condition).tuples()]
    return choice(Data.process.in_(ids))


def _typed(prefix: str) -> Choice:
    """Objects whose type begins with ``prefix``."""
    return choice(Data.type.in_([type for type in held("type") if type.startswith(prefix)]))


def _of_people(text: str) -> Choice:
    """Objects of those in whose login, first or last name (as the catalogue has them) each word of ``text`` is."""
    words, owners = text.lower().split(), held("owner")
    known = User.select().where(User.network_id.in_(owners))
    people = {one.network_id: f"{one.first_name} {one.last_name}" for one in known}
    said = {owner: f"{owner} {people.get(owner, '')}".lower() for owner in owners}
    return choice(Data.owner.in_([owner for owner in owners if all(word in said[owner] for word in words)]))


def _tagged(text: str) -> list[Choice]:
    """Objects that have every tag of a comma list."""
    tags = [tag for tag in text.split(",") if tag]
    if not tags:
        raise BadRequest("tags must name a tag.", parameter="tags")
    having = [DataTag.select(DataTag.data).where(DataTag.tag == tag) for tag in tags]
    return [Choice(one, peewee.fn.EXISTS(one.where(DataTag.data == Data.id)), mine=False) for one in having]


def _in_state(words: list[str]) -> Choice:
    """Objects of these statuses; a workflow that follows its steps is shown as PR."""
    return choice(Data.state.in_([*words, *([str(State.FO)] if str(State.PR) in words else [])]))


DATA_FIELDS = {
    "id": Field(Data.id, "number", wrap=_ranging(Data.id)),
    "name": Field(Data.name, "text", wrap=_named),
    "slug": Field(Data.slug, "word", wrap=_ranging(Data.slug)),
    "created": Field(Data.created, "time", wrap=_ranging(Data.created)),
    "modified": Field(Data.updated, "time", wrap=_ranging(Data.updated)),
    "started": Field(Data.started, "time", wrap=_ranging(Data.started)),
    "finished": Field(Data.finished, "time", wrap=_ranging(Data.finished)),
    "contributor": Field(Data.owner, "word", wrap=_ranging(Data.owner)),
    "contributor_name": Field(Data.owner, "words", match=_of_people),
    "owners": Field(Data.owner, "word", wrap=_ranging(Data.owner)),
    "owners_name": Field(Data.owner, "words", match=_of_people),
    "status": Field(Data.state, "word", match=_in_state),
    "type": Field(Data.type, "prefix", match=_typed),
    "type__exact": Field(Data.type, "word", match=lambda types: choice(Data.type.in_(types))),
    "tags": Field(DataTag.tag, "words", match=_tagged),
    "process": Field(Data.process, "related", wrap=lambda condition, *_: choice(condition)),
    "process__slug": Field(Process.slug, "text", wrap=lambda condition, *_: _within(condition)),
    "process__name": Field(Process.name, "text", wrap=lambda condition, *_: _within(condition)),
}
DATA_ORDER = {
    "id": Data.id,
    "created": Data.created,
    "modified": Data.updated,
    "started": Data.started,
    "finished": Data.finished,
    "name": Data.name,
    "contributor": Data.owner,
    "contributor__first_name": User.first_name,
    "contributor__last_name": User.last_name,
    "process__name": Process.name,
    "process__type": Process.type,
}
PROCESS_FIELDS = {
    "id": Field(Process.id, "number"),
    "name": Field(Process.name, "text"),
    "slug": Field(Process.slug, "word"),
    "version": Field(Process.order, "version"),
    "created": Field(Process.created, "time"),
    "modified": Field(Process.modified, "time"),
    "contributor": Field(Process.contributor, "word"),
    "type": Field(Process.type, "prefix"),
    "category": Field(Process.category, "prefix"),
    "is_active": Field(Process.is_active, "boolean"),
    "scheduling_class": Field(Process.scheduling_class, "word"),
}
PROCESS_ORDER = {"id": Process.id, "created": Process.created, "modified": Process.modified, "name": Process.name}
PROCESS_ORDER["version"] = Process.order
TRIGGER_FIELDS = {
    "slug": Field(TriggerRow.slug, "word"),
    "event": Field(TriggerRow.event, "text"),
    "enabled": Field(TriggerRow.enabled, "boolean"),
    "created": Field(TriggerRow.created, "time"),
    "modified": Field(TriggerRow.modified, "time"),
}
TRIGGER_ORDER = {name: TRIGGER_FIELDS[name].column for name in ("slug", "event", "created", "modified")}
