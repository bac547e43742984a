"""How a list of data objects stays quick: what indexes find is counted first, and the rest follows the list's order.

An owner may have a million objects.  A filter that few of them pass is answered from its own index; one that many
pass is checked along the list's order, where a page is soon full.  Which of them it is, is counted first, because
SQLite has no statistics to guess by.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import peewee

from ..common import orm
from ..common.catalog import User
from .orm import Data, Process
from .parts import candidates

FEW = 5_000  # rows that are sorted within some ten milliseconds


@dataclass(frozen=True)
class Choice:
    """A filter that an index may answer: ``ids``, the query that uses it, or else the plain ``condition``.

    ``mine`` says whether the ids are still to be cut down to the owner's.
    """

    ids: Any
    condition: Any
    mine: bool = True

    def few(self, owner: list[Any]) -> Any:
        """Return what its objects' ids are in when they are few, [] for none; None when they are many."""
        ids = self.ids.where(*owner) if self.mine and owner else self.ids
        count = ids.limit(FEW + 1).count()
        return None if count > FEW else ids if count else []


@dataclass(frozen=True)
class Part:
    """A filter by a part of the name: the index leads to candidates, on which the ``condition`` is still asked."""

    text: str
    condition: Any

    def few(self, owner: list[Any]) -> Any:
        """As ``Choice.few``."""
        return candidates(self.text, FEW)


@dataclass
class Search:
    """What is asked of the objects of ``owner``: to be among a ``few``, and ``along`` the order what no index says."""

    owner: list[Any]
    few: list[Any]
    along: list[Any]

    def narrowed(self, one: Choice | Part) -> "Search | None":
        """Return it with ``one`` more condition; None when nothing can be found."""
        ids = one.few(self.owner)
        if isinstance(ids, list) and not ids:
            return None
        if ids is None:
            return Search(self.owner, self.few, [*self.along, unindexed(one.condition)])
        more = [one.condition] if isinstance(one, Part) else []
        return Search(self.owner, [*self.few, Data.id.in_(ids)], [*self.along, *more])

    def query(self, *columns: Any) -> Any:
        """Return the query for ``columns``, all of them where none is given."""
        conditions = [*self.few, *map(unindexed, [*self.owner, *self.along])] if self.few else None
        return _all(Data.select(*columns), conditions or [*self.owner, *self.along])


def grouped(search: Search, columns: list[Any], most: int) -> list[int]:
    """Return the ids of the first ``most`` objects by a column of their process or owner, then by ``columns[1:]``.

    There are few processes and owners: they are ordered, and the objects of one are listed after those of the other.
    """
    rest = columns[1:] or [Data.created.desc()]
    ids: list[int] = []
    for group in _groups(columns[0]):
        if len(ids) >= most:
            break
        here = search.narrowed(group)
        if here is not None:
            rows = ordered(here.query(Data.id), rest).limit(most - len(ids)).tuples()
            ids += [id for (id,) in rows]
    return ids


def ordered(query: Any, columns: list[Any]) -> Any:
    """Return ``query`` ordered by ``columns``, joined with the tables beside it that they are of."""
    if any(column.node.model is Process for column in columns):
        query = query.join_from(Data, Process, on=(Data.process == Process.id))
    if any(column.node.model is User for column in columns):
        query = query.join_from(Data, User, peewee.JOIN.LEFT_OUTER, on=(Data.owner == User.network_id))
    return query.order_by(*map(_column, columns))


def held(column: str) -> list[str]:
    """Return the values of ``column`` among all objects: there are few, and an index steps from one to the next."""
    sql = (
        f"WITH RECURSIVE held(value) AS (SELECT min({column}) FROM data UNION ALL"
        f" SELECT (SELECT min(d.{column}) FROM data d WHERE d.{column} > held.value) FROM held"
        " WHERE held.value IS NOT NULL) SELECT value FROM held WHERE value IS NOT NULL"
    )
    return [value for (value,) in orm.rows(sql)]


def choice(condition: Any) -> Choice:
    """Return the filter that some index knows."""
    return Choice(Data.select(Data.id).where(condition), condition)


def unindexed(condition: Any) -> Any:
    """Return ``condition`` in words that no index understands."""
    return peewee.NodeList((peewee.EnclosedNodeList([condition]), peewee.SQL("IS TRUE")))


def _groups(first: Any) -> Iterator[Choice]:
    """Yield a filter for all objects that are alike in ``first``, in its order."""
    groups: dict[str, list[Any]] = {}
    if first.node.model is Process:
        for id, value in Process.select(Process.id, first.node).order_by(first).tuples():
            groups.setdefault(value, []).append(id)
        yield from (choice(Data.process.in_(ids)) for ids in groups.values())
        return
    owners = held("owner")
    users = User.select(User.network_id, first.node).where(User.network_id.in_(owners)).order_by(first)
    names = dict(users.tuples())
    values = [value for value in dict.fromkeys(names.values()) if value]
    for value in [*values, ""] if first.direction == "DESC" else ["", *values]:
        yield choice(Data.owner.in_([owner for owner in owners if names.get(owner, "") == value]))


def _column(column: Any) -> Any:
    """Whom the catalogue does not know has an empty name."""
    return (
        peewee.Ordering(peewee.fn.COALESCE(column.node, ""), column.direction) if column.node.model is User else column
    )


def _all(query: Any, conditions: list[Any]) -> Any:
    return query.where(*conditions) if conditions else query
