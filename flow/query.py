"""The query language of lists: filters with lookups, ordering, paging, projection (docs/flow.md#lists)."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, time
from typing import Any

import peewee

from ..common import orm
from ..common.errors import BadRequest
from ..common.letters import small
from .definition import Version
from .versions import order_of

ALWAYS = ("fields", "format", "limit", "offset", "ordering", "text")
_NUMBER = ("exact", "in", "gt", "gte", "lt", "lte", "isnull")
_TEXT = ("exact", "iexact", "contains", "icontains", "in", "startswith", "istartswith", "isnull")
LOOKUPS: dict[str, tuple[str, ...]] = {
    "number": _NUMBER,
    "version": _NUMBER,
    "text": _TEXT,
    "time": ("exact", "gt", "gte", "lt", "lte", "isnull", "date", "time"),
    "word": ("exact", "in"),
    "prefix": ("exact",),
    "words": ("exact",),
    "related": ("exact", "in", "isnull"),
    "boolean": ("exact",),
}


class Field:
    """What a list can be filtered by: a column, and the kind that says which lookups it has."""

    def __init__(
        self,
        column: Any,
        kind: str,
        *,
        match: Callable[[Any], Any] | None = None,
        wrap: Callable[[Any, str, str], Any] = lambda condition, lookup, value: condition,
    ) -> None:
        """Compare ``column``; a bare ``prefix`` matches the beginning, its ``exact`` the whole; ``words`` only match.

        ``match`` makes the condition itself: of the text of a prefix, of the list of words; ``wrap`` takes the
        condition that was made, with the lookup and the value, and gives the one to use.  Either may give what only its
        list knows.
        """
        self.column, self.kind, self.match, self.wrap = column, kind, match, wrap


def conditions(parameters: Mapping[str, Any], fields: Mapping[str, Field]) -> list[Any]:
    """Return what each filter among ``parameters`` asks for; BadRequest names what is unknown."""
    found: list[Any] = []
    for name, value in parameters.items():
        if name not in ALWAYS:
            made = _condition(name, value, fields)
            found += made if isinstance(made, list) else [made]
    return found


def known(parameters: Mapping[str, Any], *more: str) -> None:
    """Let pass what one object can be asked for, ``fields`` and ``more``; BadRequest names what is unknown."""
    for name in parameters:
        if name not in ("fields", "format", *more):
            allowed = ", ".join(sorted(["fields", "format", *more]))
            raise BadRequest(f"There is no parameter {name!r:.80}. Allowed: {allowed}.", parameter=name)


def ordering(parameters: Mapping[str, Any], order: Mapping[str, Any], default: str) -> list[Any]:
    """Return what to order by; BadRequest for a field that is not in ``order``."""
    names = [name for name in str(parameters.get("ordering") or "").split(",") if name]
    return [_ordering(name, order) for name in names or [default]]


def select(query: Any, parameters: Mapping[str, Any], order: Mapping[str, Any], default: str, most: int) -> Any:
    """Return ``query`` ordered and cut as ``parameters`` say, to ``most`` rows at most."""
    limit, offset = page(parameters, most)
    return query.order_by(*ordering(parameters, order, default)).limit(limit).offset(offset)


def page(parameters: Mapping[str, Any], most: int) -> tuple[int, int]:
    """Return limit and offset; ``most`` is what a list holds at most, and where nothing is said."""
    return min(_count(parameters, "limit", most), most), _count(parameters, "offset", 0)


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
    if "\0" in value:
        raise BadRequest(f"The value of {base} holds a NUL character.", parameter=name)
    if field.kind == "words" and field.match:
        return field.match(value)
    if field.kind == "prefix" and name == base:
        return field.match(value) if field.match else _starts(field.column, value)
    if field.kind == "word" and field.match:
        return field.match(value.split(",") if lookup == "in" else [value])
    return field.wrap(_COMPARE[lookup](field.column, value, _READ[field.kind]), lookup, value)


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
        number = int(text)
    except ValueError:
        number = 1 << 63
    if not -(1 << 63) <= number < 1 << 63:
        raise BadRequest(f"{text!r:.40} is not a whole number that an id can have.")
    return number


def _version(text: str) -> int:
    try:
        return order_of(Version.parse(text))
    except ValueError:
        raise BadRequest(f"{text!r:.40} is not a version as 1.2.3.") from None


def _time(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadRequest(f"{text!r:.40} is not a time as 2026-11-21T07:37:08.") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _day(column: Any, text: str, _: Callable[[str], Any]) -> Any:
    begin = _time(f"{text}T00:00:00")
    return (column >= begin) & (column < begin + 86400)


def _second(column: Any, text: str, _: Callable[[str], Any]) -> Any:
    try:
        moment = time.fromisoformat(text)
    except ValueError:
        raise BadRequest(f"{text!r:.40} is not a time of day as 07:37:08.") from None
    whole = peewee.fn.FLOOR(column) if orm.is_postgres() else column  # PostgreSQL's cast rounds
    seconds = whole.cast("BIGINT")
    return seconds - (seconds / 86400) * 86400 == moment.hour * 3600 + moment.minute * 60 + moment.second


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise BadRequest(f"{text!r:.40} is not true or false.")
    return text.lower() == "true"


_READ: dict[str, Callable[[str], Any]] = {
    "number": _number,
    "version": _version,
    "related": _number,
    "text": str,
    "time": _time,
    "word": str,
    "prefix": str,
    "boolean": _boolean,
}


def _contains(column: Any, text: Any) -> Any:
    """Compare letter by letter: LIKE does not tell cases apart on SQLite, and knows wildcards."""
    return (peewee.fn.STRPOS if orm.is_postgres() else peewee.fn.INSTR)(column, text) > 0


def _starts(column: Any, text: Any) -> Any:
    return peewee.fn.SUBSTR(column, 1, peewee.fn.LENGTH(text)) == text


def _lower(text: Any) -> Any:
    """Return a column or a value in small letters, as PostgreSQL has them."""
    if orm.is_postgres():
        return peewee.fn.LOWER(text)
    return small(text) if isinstance(text, str) else peewee.fn.SMALL(text)


_COMPARE: dict[str, Callable[[Any, str, Callable[[str], Any]], Any]] = {
    "exact": lambda column, value, read: column == read(value),
    "iexact": lambda column, value, read: _lower(column) == _lower(value),
    "contains": lambda column, value, read: _contains(column, value),
    "icontains": lambda column, value, read: _contains(_lower(column), _lower(value)),
    "in": lambda column, value, read: column.in_([read(one) for one in value.split(",")]),
    "startswith": lambda column, value, read: _starts(column, value),
    "istartswith": lambda column, value, read: _starts(_lower(column), _lower(value)),
    "gt": lambda column, value, read: column > read(value),
    "gte": lambda column, value, read: column >= read(value),
    "lt": lambda column, value, read: column < read(value),
    "lte": lambda column, value, read: column <= read(value),
    "isnull": lambda column, value, read: column.is_null(_boolean(value)),
    "date": _day,
    "time": _second,
}
