"""How a list of data objects stays quick: what indexes find is counted, and the rest follows the list's order.

An owner may have a million objects.  A page that the first ``GLANCE`` of the order fill is had without a count.  Else
a filter that few pass is answered from its own index; one that many pass is checked along the list's order, where a
page is soon full.  Which of them it is, is counted first, because SQLite has no statistics to guess by.  Where the page
is not full after the first ``WALK`` objects, the filter that the fewest pass is counted further.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import peewee

from ..common import orm
from ..common.catalog import User
from .orm import Data, Process
from .parts import candidates

FEW = 5_000  # rows that are sorted within some ten milliseconds
MANY = 50_000  # that are sorted sooner than a million is looked through
GLANCE = 500  # rows that are looked through sooner than a filter's are counted
WALK = 15_000  # that are looked through next


@dataclass(frozen=True)
class Choice:
    """A filter that an index may answer: ``ids``, the query that uses it, or else the plain ``condition``.

    ``mine`` says whether the ids are still to be cut down to the owner's; ``column`` is what a range is of.
    """

    ids: Any
    condition: Any
    mine: bool = True
    column: Any = None

    def few(self, owner: list[Any], most: int) -> Any:
        """Return how many its objects are, and what their ids are in; None when they are more than ``most``."""
        ids = self.ids.where(*owner) if self.mine and owner else self.ids
        count = ids.limit(most + 1).count()
        return None if count > most else (count, ids)


@dataclass(frozen=True)
class Part:
    """A filter by a part of the name, in which ``capitals`` may count; the index leads to candidates."""

    text: str
    capitals: bool
    condition: Any

    def few(self, owner: list[Any], most: int) -> Any:
        """As ``Choice.few``."""
        ids = candidates(self.text, self.capitals, most) if self.text else None
        return None if ids is None else (len(ids), ids)


@dataclass
class Search:
    """What is asked of objects: whose they are, in which ``ranges`` of the order, to be among a ``few``, and the rest.

    What is asked ``along`` the order no index knows; ``many`` are the filters among it that one may yet answer.
    """

    owner: list[Any]
    ranges: list[Any]
    few: list[Any]
    along: list[Any]
    many: list[Choice | Part]

    def whose(self) -> "Search | None":
        """Return it cut down to its owner's objects where they are few; as ``narrowed``."""
        if not self.owner:
            return self
        whose = choice(self.owner[0])
        held = whose.few([], FEW)
        return self if held is None else replace(self, owner=[]).among(whose, held)

    def glance(self, filters: list[Choice | Part]) -> "Search":
        """Return it with all ``filters`` along its order."""
        return replace(self, along=[*self.along, *(one.condition for one in filters)])

    def narrowed(self, one: Choice | Part) -> "Search | None":
        """Return it with ``one`` more condition; None when nothing can be found.  Parts are not counted at first."""
        held = None if isinstance(one, Part) else one.few(self.owner, FEW)
        if held is None:
            along = [*self.along, one.condition]
            return replace(self, along=along, many=[*self.many, one])
        return self.among(one, held)

    def among(self, one: Choice | Part, held: tuple[int, Any]) -> "Search | None":
        """Return it cut down to what ``one`` was found to hold; None when that is nothing."""
        count, ids = held
        more = [one.condition] if isinstance(one, Part) else []
        return replace(self, few=[*self.few, Data.id.in_(ids)], along=[*self.along, *more]) if count else None

    def query(self, *columns: Any) -> Any:
        """Return the query for ``columns``, all of them where none is given."""
        order = [*self.owner, *self.ranges]
        conditions = [*self.few, *map(unindexed, order), *map(unindexed, self.along)] if self.few else None
        return _all(Data.select(*columns), conditions or [*order, *map(unindexed, self.along)])

    def fewest(self) -> "Search | None":
        """Return it cut down to the filter that the fewest pass, where they are not too many; as ``narrowed``."""
        best: Any = None
        for one in self.many:
            most = FEW if isinstance(one, Part) else MANY if best is None else best[1][0]
            held = one.few(self.owner, most)
            if held is not None and (best is None or held[0] < best[1][0]):
                best = one, held
        return self if best is None else self.among(*best)


def glanced(search: Search, columns: list[Any], limit: int, offset: int) -> list[Data] | None:
    """Return the objects of one page that the head of the order fills; None where it does not, or has no index."""
    if columns[0].node.model is not Data or offset + limit > GLANCE:
        return None
    ids = _walked(search, columns, offset + limit, GLANCE)
    return rows(ids[offset:]) if len(ids) == offset + limit else None


def listed(search: Search, columns: list[Any], limit: int, offset: int) -> list[Data]:
    """Return the objects of one page, in the order of ``columns``."""
    if columns[0].node.model is not Data:
        if not search.few:
            return rows(grouped(search, columns, offset + limit)[offset:])
    elif search.many and not search.few:
        ids = _walked(search, columns, offset + limit, WALK)
        if len(ids) == offset + limit:
            return rows(ids[offset:])
        narrower = search.fewest()
        if narrower is None:
            return []
        search = narrower
    return list(ordered(search.query(), columns, sorting=bool(search.few)).limit(limit).offset(offset))


def rows(ids: list[int]) -> list[Data]:
    """Return the objects in the order of ``ids``."""
    held = {row.id: row for row in Data.select().where(Data.id.in_(ids))} if ids else {}
    return [held[id] for id in ids if id in held]


def _walked(search: Search, columns: list[Any], most: int, among: int) -> list[int]:
    """Return the ids of the first ``most`` that fit among the first so many of the order.

    The first are called by the table's name, so that every condition is asked of them; they come in their order.
    """
    first, values = text(ordered(_all(Data.select(), [*search.owner, *search.ranges]), columns).limit(among))
    asked, more = text(_all(Data.select(Data.id), list(map(unindexed, search.along))).limit(most))
    if not orm.is_postgres():
        first = first.replace('FROM "data"', 'FROM "main"."data"', 1)  # the table, not what is called so here
    return [id for (id,) in orm.rows(f'WITH "data" AS ({first}) {asked}', *values, *more)]


def text(query: Any) -> tuple[str, list[Any]]:
    """Return the text of ``query`` with ``?`` placeholders, and its values."""
    sql, values = query.sql()
    return sql.replace("%s", "?"), values


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
            ids += [id for (id,) in ordered(here.query(Data.id), rest).limit(most - len(ids)).tuples()]
    return ids


def ordered(query: Any, columns: list[Any], *, sorting: bool = False) -> Any:
    """Return ``query`` ordered by ``columns``, joined with the tables beside it that they are of.

    By ``sorting``, for a few rows: no index knows the order, along which PostgreSQL would look for them.
    """
    if any(column.node.model is Process for column in columns):
        query = query.join_from(Data, Process, on=(Data.process == Process.id))
    if any(column.node.model is User for column in columns):
        query = query.join_from(Data, User, peewee.JOIN.LEFT_OUTER, on=(Data.owner == User.network_id))
    return query.order_by(*(_column(column, sorting) for column in columns))


def held(column: str) -> list[str]:
    """Return the values of ``column`` among all objects: there are few, and an index steps from one to the next."""
    sql = (
        f"WITH RECURSIVE held(value) AS (SELECT min({column}) FROM data UNION ALL"
        f" SELECT (SELECT min(d.{column}) FROM data d WHERE d.{column} > held.value) FROM held"
        " WHERE held.value IS NOT NULL) SELECT value FROM held WHERE value IS NOT NULL"
    )
    return [value for (value,) in orm.rows(sql)]


def choice(condition: Any, column: Any = None) -> Choice:
    """Return the filter that some index knows, maybe a range of ``column``."""
    return Choice(Data.select(Data.id).where(condition), condition, column=column)


def together(filters: list[Choice | Part]) -> list[Choice | Part]:
    """Return ``filters`` with all that is asked of one column as one of them, since an index finds it at once."""
    columns: dict[str, Choice] = {}
    for one in filters:
        if isinstance(one, Choice) and one.column is not None:
            held = columns.get(one.column.name)
            columns[one.column.name] = choice(held.condition & one.condition if held else one.condition, one.column)
    return [*columns.values(), *(one for one in filters if isinstance(one, Part) or one.column is None)]


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


def _column(column: Any, sorting: bool) -> Any:
    """Whom the catalogue does not know has an empty name."""
    if column.node.model is User or sorting:
        other = "" if column.node.model is User else column.node
        return peewee.Ordering(peewee.fn.COALESCE(column.node, other), column.direction)
    return column


def _all(query: Any, conditions: list[Any]) -> Any:
    return query.where(*conditions) if conditions else query
