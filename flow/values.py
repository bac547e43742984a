"""The types a field may have, and which value each of them takes (``docs/flow-process.md#values``).

A value type ends with a colon (``basic:string:``); ``list:`` before a type means a list of such.  A data type fits a
wanted one when it starts with it: the end colon keeps ``data:map:`` from taking ``data:mapping:``.
"""

import re
from collections.abc import Callable
from typing import Any

from ..common.errors import BadRequest

_DATE = r"(19|20)\d\d-(0[1-9]|1[012])-(0[1-9]|[12][0-9]|3[01])"
DATE = re.compile(rf"^{_DATE}\Z", re.ASCII)
DATETIME = re.compile(rf"^{_DATE} (?:(?:([01]?\d|2[0-3]):)?([0-5]?\d):)?([0-5]?\d)\Z", re.ASCII)
HANDLE = re.compile(r"^[0-9a-f]{8}-[0-9a-f]{4}-[1-5][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\Z", re.ASCII)
DATA = re.compile(r"^(list:)?data:([a-z0-9]+:)*\Z", re.ASCII)


class BadValue(BadRequest):
    """A value does not fit the field that it was given to."""

    code = "bad_value"


def fits(given: str, wanted: str) -> bool:
    """Tell whether a data object of type ``given`` may stand where ``wanted`` is asked."""
    return given.startswith(wanted)


def is_data(type_: str) -> bool:
    """Tell whether ``type_`` is ``data:...`` or a list of such."""
    return DATA.match(type_) is not None


def fillable(type_: str) -> bool:
    """Tell whether any value at all has the type ``type_`` (lists of boolean, date and datetime have none)."""
    return type_ in _SINGLE or type_ in _LISTS or is_data(type_)


def check_type(name: str, type_: str, value: Any) -> None:
    """Raise BadValue unless ``value`` has the type ``type_``; ``name`` is the field that the complaint names."""
    single = type_.removeprefix("list:")
    if single == type_:
        valid = _test(type_)(value)
    else:
        known = type_ in _LISTS or is_data(type_)
        valid = known and isinstance(value, list) and all(map(_test(single), value))
    if not valid:
        raise BadValue(
            f"Value of field '{name}' is not a valid {type_} value. Current value: {value!r:.200}",
            field=name,
            type=type_,
        )


def _test(type_: str) -> Callable[[Any], bool]:
    """Return the predicate of a type that is no list; a type that nobody knows takes nothing."""
    return _integer if is_data(type_) else _SINGLE.get(type_, lambda value: False)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _boolean(value: Any) -> bool:
    return isinstance(value, bool)


def _integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_text, value))


def _matches(pattern: re.Pattern[str]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and pattern.match(value) is not None


def _record(required: str, keys: dict[str, Callable[[Any], bool]]) -> Callable[[Any], bool]:
    """Return the predicate of an object that needs ``required`` and has no key but ``keys``."""
    return lambda value: (
        isinstance(value, dict)
        and required in value
        and all(key in keys and keys[key](item) for key, item in value.items())
    )


_SIZES = {"size": _number, "total_size": _number, "refs": _texts}
_FILE = _record("file", {"file": _text, "file_temp": _text, "is_remote": _boolean, **_SIZES})
_URL = _record("url", {"url": _text, "name": _text, "refs": _texts})
_SINGLE: dict[str, Callable[[Any], bool]] = {
    "basic:string:": _text,
    "basic:text:": _text,
    "basic:boolean:": _boolean,
    "basic:integer:": _integer,
    "basic:decimal:": _number,
    "basic:date:": _matches(DATE),
    "basic:datetime:": _matches(DATETIME),
    "basic:file:": _FILE,
    "basic:file:html:": _FILE,
    "basic:dir:": _record("dir", {"dir": _text, **_SIZES}),
    "basic:url:download:": _URL,
    "basic:url:view:": _URL,
    "basic:url:link:": _URL,
    "basic:secret:": _record("handle", {"handle": _matches(HANDLE)}),
    "basic:json:": _number,
}
_LISTS = {f"list:{type_}" for type_ in _SINGLE} - {
    f"list:basic:{type_}:" for type_ in ("boolean", "date", "datetime", "secret", "json")
}
