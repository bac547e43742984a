"""The query language of lists: filters with lookups, ordering, paging, projection (docs/flow.md#lists)."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import peewee

from ..common.errors import BadRequest

ALWAYS = ("fields", "format", "limit", "offset", "ordering")
MAX_ROWS = 1000
_NUMBER = ("exact", "in", "gt", "gte", "lt", "lte", "isnull")
_TEXT = ("exact", "iexact", "contains", "icontains", "in", "startswith", "istartswith", "isnull")
LOOKUPS: dict[str, tuple[str, ...]] = {
    "number": _NUMBER,
    "text": _TEXT,
    "time": ("exact", "gt", "gte", "lt", "lte", "isnull", "date"),
    "word": ("exact", "in"),
    "prefix": ("exact",),
}


class Field:
    """What a list can be filtered by: a column, and the kind that says which lookups it has."""

    def __init__(self, column: Any, kind: str, name: str | None = None) -> None:
        """Compare ``column``; a bare ``prefix`` matches the beginning, its ``exact`` the whole."""
        self.column, self.kind, self.name = column, kind, name


def select(
    query: Any, parameters: Mapping[str, Any], fields: Mapping[str, Field], order: Mapping[str, Any], default: str
) -> Any:
    """Return ``query`` filtered, ordered and cut as ``parameters`` say; BadRequest names what is unknown."""
    for name, value in parameters.items():
        if name not in ALWAYS:
            query = query.where(_condition(name, value, fields))
    columns = [_ordering(name, order) for name in str(parameters.get("ordering", default)).split(",") if name]
    limit = _count(parameters, "limit", MAX_ROWS)
    return query.order_by(*columns).limit(min(limit, MAX_ROWS)).offset(_count(parameters, "offset", 0))


def project(value: Any, wanted: str) -> Any:
    """Keep only the parts of ``value`` that ``wanted`` names (``a,b__c``); nothing named keeps all."""
    names = [name for name in wanted.split(",") if name]
    return _project(value, [name.split("__") for name in names]) if names else value


def _project(value: Any, paths: list[list[str]]) -> Any:
    if isinstance(value, list):
        return [_project(item, paths) for item in value]
    if not isinstance(value, dict):
        return value
    kept: dict[str, Any] = {}
    for key in value:
        below = [path[1:] for path in paths if path[0] == key]
        if below:
            kept[key] = value[key] if any(not rest for rest in below) else _project(value[key], below)
    return kept


def _condition(name: str, value: Any, fields: Mapping[str, Field]) -> Any:
    base, _, lookup = (name, "", "exact") if name in fields else name.rpartition("__")
    field = fields.get(base)
    if field is None or isinstance(value, list):
        allowed = ", ".join(sorted([*fields, *ALWAYS]))
        raise BadRequest(f"There is no filter {name!r:.80}. Allowed: {allowed}.", parameter=name)
    if lookup not in LOOKUPS[field.kind]:
        raise BadRequest(f"{base} has no lookup {lookup!r:.40}.", parameter=name, lookups=LOOKUPS[field.kind])
    if field.kind == "prefix" and name == base:
        return field.column.startswith(value)
    return _COMPARE[lookup](field.column, value, _READ[field.kind])


def _ordering(name: str, order: Mapping[str, Any]) -> Any:
    column = order.get(name.removeprefix("-"))
    if column is None:
        raise BadRequest(f"Ordering by field '{name.removeprefix('-')}' is not supported.", parameter="ordering")
    return column.desc() if name.startswith("-") else column.asc()


def _count(parameters: Mapping[str, Any], name: str, default: int) -> int:
    text = str(parameters.get(name, default))
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise BadRequest(f"{name} must be a whole number.", parameter=name)
    return int(text)


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise BadRequest(f"{text!r:.40} is not a whole number.") from None


def _time(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadRequest(f"{text!r:.40} is not a time as 2026-11-21T07:37:08.") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _day(column: Any, text: str, _: Callable[[str], Any]) -> Any:
    begin = _time(f"{text}T00:00:00")
    return (column >= begin) & (column < begin + 86400)


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise BadRequest(f"{text!r:.40} is not true or false.")
    return text.lower() == "true"


_READ: dict[str, Callable[[str], Any]] = {
    "number": _number,
    "text": str,
    "time": _time,
    "word": str,
    "prefix": str,
    "boolean": _boolean,
}
LOOKUPS["boolean"] = ("exact",)
_COMPARE: dict[str, Callable[[Any, str, Callable[[str], Any]], Any]] = {
    "exact": lambda column, value, read: column == read(value),
    "iexact": lambda column, value, read: peewee.fn.LOWER(column) == value.lower(),
    "contains": lambda column, value, read: column.contains(value),
    "icontains": lambda column, value, read: peewee.fn.LOWER(column).contains(value.lower()),
    "in": lambda column, value, read: column.in_([read(one) for one in value.split(",")]),
    "startswith": lambda column, value, read: column.startswith(value),
    "istartswith": lambda column, value, read: peewee.fn.LOWER(column).startswith(value.lower()),
    "gt": lambda column, value, read: column > read(value),
    "gte": lambda column, value, read: column >= read(value),
    "lt": lambda column, value, read: column < read(value),
    "lte": lambda column, value, read: column <= read(value),
    "isnull": lambda column, value, read: column.is_null(_boolean(value)),
    "date": _day,
}
