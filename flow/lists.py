"""The lists of data objects and of processes: what they can be filtered and ordered by, and how they stay quick.

An owner may have a million objects.  A filter that few of them pass is answered from its own index; one that many
pass is checked along the list's order, where a page is soon full.  Which of them it is, is counted first, because
SQLite has no statistics to guess by.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import peewee

from ..common import orm
from ..common.catalog import User
from ..common.errors import BadRequest
from .orm import Data, Process, State
from .query import Field, conditions, page, select
from .words import DataTag, found, rank, words_of

FEW = 5_000  # rows that are sorted within some ten milliseconds


@dataclass(frozen=True)
class Choice:
    """A filter that an index may answer: ``ids``, the query that uses it, or else the plain ``condition``.

    ``mine`` says whether the ids are still to be cut down to the owner's.
    """

    ids: Any
    condition: Any
    mine: bool = True


def data(parameters: Mapping[str, Any], owner: str | None, most: int) -> list[Data]:
    """Return the objects of ``owner`` (None: of everybody) that ``parameters`` ask for, at most ``most``.

    BadRequest names the parameter that is wrong.
    """
    asked = conditions(parameters, DATA_FIELDS)
    limit, offset = page(parameters, most)
    mine = [] if owner is None else [Data.owner == owner]
    few, along = [], [*mine]
    for one in asked:
        if not isinstance(one, Choice):
            along.append(one)
            continue
        ids = one.ids.where(*mine) if one.mine and mine else one.ids
        count = ids.limit(FEW + 1).count()
        if not count:
            return []
        if count <= FEW:
            few.append(Data.id.in_(ids))
        else:
            along.append(_unindexed(one.condition))
    if parameters.get("text"):
        words = _words(parameters)
        few.append(Data.id.in_(found(words, owner)))
    query = Data.select().where(*few, *map(_unindexed, along)) if few else _all(Data.select(), along)
    if parameters.get("text"):
        rows = sorted(query.order_by(Data.id.desc()), key=lambda row: -rank(words, row.name, row.slug or "", row.tags))
        return rows[offset : offset + limit]
    if "process__" in str(parameters.get("ordering", "")):
        query = query.join(Process, on=(Data.process == Process.id))
    return list(select(query, parameters, DATA_ORDER, "-created", most))


def processes(parameters: Mapping[str, Any], most: int) -> list[Process]:
    """Return the processes that ``parameters`` ask for; as ``data``."""
    query = _all(Process.select(), conditions(parameters, PROCESS_FIELDS))
    if not parameters.get("text"):
        return list(select(query, parameters, PROCESS_ORDER, "id", most))
    words, (limit, offset) = _words(parameters), page(parameters, most)
    texts = {row: (row.name, row.slug, row.type, row.category) for row in query.order_by(Process.id.desc())}
    fitting = [row for row, said in texts.items() if all(rank([word], *said) for word in words)]
    return sorted(fitting, key=lambda row: -rank(words, *texts[row]))[offset : offset + limit]


def _words(parameters: Mapping[str, Any]) -> list[str]:
    if parameters.get("ordering"):
        raise BadRequest("A list by text is ordered by how well the text fits.", parameter="ordering")
    words = words_of(str(parameters["text"]))
    if not words:
        raise BadRequest("text must hold a word.", parameter="text")
    return words


def _all(query: Any, conditions: list[Any]) -> Any:
    return query.where(*conditions) if conditions else query


def _unindexed(condition: Any) -> Any:
    """Return ``condition`` in words that no index understands."""
    return peewee.NodeList((peewee.EnclosedNodeList([condition]), peewee.SQL("IS TRUE")))


def _choice(condition: Any) -> Choice:
    return Choice(Data.select(Data.id).where(condition), condition)


def _named(condition: Any, lookup: str) -> Any:
    """Parts of a name are in no index."""
    return _choice(condition) if lookup in ("exact", "in") else condition


def _within(condition: Any) -> Choice:
    """Turn a condition on processes into one on their objects."""
    ids = [id for (id,) in Process.select(Process.id).where(condition).tuples()]
    return _choice(Data.process.in_(ids))


def _typed(prefix: str) -> Choice:
    """Objects whose type begins with ``prefix``."""
    return _choice(Data.type.in_([type for type in _held("type") if type.startswith(prefix)]))


def _of_people(text: str) -> Choice:
    """Objects of those in whose login, first or last name (as the catalogue has them) each word of ``text`` is."""
    words, owners = text.lower().split(), _held("owner")
    known = User.select().where(User.network_id.in_(owners))
    people = {one.network_id: f"{one.first_name} {one.last_name}" for one in known}
    said = {owner: f"{owner} {people.get(owner, '')}".lower() for owner in owners}
    return _choice(Data.owner.in_([owner for owner in owners if all(word in said[owner] for word in words)]))


def _held(column: str) -> list[str]:
    """Return the values of ``column`` among all objects: there are few, and an index steps from one to the next."""
    sql = (
        f"WITH RECURSIVE held(value) AS (SELECT min({column}) FROM data UNION ALL"
        f" SELECT (SELECT min(d.{column}) FROM data d WHERE d.{column} > held.value) FROM held"
        " WHERE held.value IS NOT NULL) SELECT value FROM held WHERE value IS NOT NULL"
    )
    return [value for (value,) in orm.rows(sql)]


def _tagged(text: str) -> list[Choice]:
    """Objects that have every tag of a comma list."""
    tags = [tag for tag in text.split(",") if tag]
    if not tags:
        raise BadRequest("tags must name a tag.", parameter="tags")
    held = [DataTag.select(DataTag.data).where(DataTag.tag == tag) for tag in tags]
    return [Choice(one, peewee.fn.EXISTS(one.where(DataTag.data == Data.id)), mine=False) for one in held]


def _in_state(words: list[str]) -> Choice:
    """Objects of these statuses; a workflow that follows its steps is shown as PR."""
    return _choice(Data.state.in_([*words, *([str(State.FO)] if str(State.PR) in words else [])]))


DATA_FIELDS = {
    "id": Field(Data.id, "number"),
    "name": Field(Data.name, "text", wrap=_named),
    "slug": Field(Data.slug, "word"),
    "created": Field(Data.created, "time"),
    "modified": Field(Data.updated, "time"),
    "started": Field(Data.started, "time"),
    "finished": Field(Data.finished, "time"),
    "contributor": Field(Data.owner, "word"),
    "contributor_name": Field(Data.owner, "prefix", match=_of_people),
    "owners": Field(Data.owner, "word"),
    "owners_name": Field(Data.owner, "prefix", match=_of_people),
    "status": Field(Data.state, "word", match=_in_state),
    "type": Field(Data.type, "prefix", match=_typed),
    "type__exact": Field(Data.type, "word", match=lambda types: _choice(Data.type.in_(types))),
    "tags": Field(DataTag.tag, "prefix", match=_tagged),
    "process": Field(Data.process, "related", wrap=lambda condition, _: _choice(condition)),
    "process__slug": Field(Process.slug, "text", wrap=lambda condition, _: _within(condition)),
    "process__name": Field(Process.name, "text", wrap=lambda condition, _: _within(condition)),
}
DATA_ORDER = {
    "id": Data.id,
    "created": Data.created,
    "modified": Data.updated,
    "started": Data.started,
    "finished": Data.finished,
    "name": Data.name,
    "contributor": Data.owner,
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
