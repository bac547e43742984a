"""Field lists: walk them, complete values by their defaults, check values against them.

A field list is the ``input`` or ``output`` of a process: objects with ``name``, ``label`` and either ``type`` or
``group`` (a field list again).  The shape of a definition is checked in ``definition.py``; here it is taken as sound.
"""

import copy
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .values import BadValue, check_type, fits

Field = dict[str, Any]
Values = dict[str, Any]
NAME_CHOICES = "Value of field '{}' must match one of predefined choices. Current value: {}"
NAME_RANGE = "Value of field '{}' is out of range. It should be between {} and {}."


@dataclass(frozen=True)
class References:
    """Answers what values point at; each call raises nothing and returns None or False for "no such thing"."""

    data_type: Callable[[int], str | None]  # the type of a data object that exists and that the user may see
    storage_exists: Callable[[int], bool]


def leaves(fields: list[Field], values: Values, prefix: str = "") -> Iterator[tuple[Field, Values, str]]:
    """Yield (field, the object that holds its value, dotted path) of each field that is no group, in schema order."""
    for field in fields:
        path = prefix + field["name"]
        if "group" in field:
            inner = values.get(field["name"], {})
            if not isinstance(inner, dict):
                raise BadValue(
                    f"Value of field '{field['name']}' is not a valid group. Current value: {inner!r:.200}",
                    field=field["name"],
                )
            yield from leaves(field["group"], inner, path + ".")
        else:
            yield field, values, path


def find(fields: list[Field], path: str) -> Field:
    """Return the field at the dotted ``path``; KeyError when there is none."""
    first, _, rest = path.partition(".")
    field = next((field for field in fields if field["name"] == first), None)
    if field is None or (rest and "group" not in field):
        raise KeyError(path)
    return find(field["group"], rest) if rest else field


def complete(fields: list[Field], values: Values) -> Values:
    """Return a copy of ``values`` in which each missing group is ``{}`` and each missing default is filled in."""
    completed = copy.deepcopy(values)
    _fill(fields, completed)
    return completed


def check(fields: list[Field], values: Any, *, references: References | None = None, required: bool = True) -> None:
    """Raise BadValue with the first complaint about ``values``.

    Order: the first type or rule error in schema order; else an unknown key; else the missing required fields, all
    at once (not with ``required=False``).  Without ``references`` nothing that a value points at is looked up.
    """
    if not isinstance(values, dict):
        raise BadValue(f"Values must be an object, not {values!r:.200}")
    missing = []
    for field, holder, _ in leaves(fields, values):
        name, is_required = field["name"], field.get("required", True)
        if name not in holder:
            missing += [name] if is_required else []
        elif holder[name] is not None or is_required:
            check_value(field, holder[name], references)
    _refuse_unknown(fields, values)
    if required and missing:
        raise BadValue(
            "Required fields {} not given.".format(", ".join(f'"{name}"' for name in missing)), fields=missing
        )


def check_value(field: Field, value: Any, references: References | None = None) -> None:
    """Raise BadValue unless ``value`` has the field's type, is one of its choices, and is in its range."""
    name, type_ = field["name"], field["type"]
    check_type(name, type_, value)
    choices = [choice["value"] for choice in field.get("choices", [])]
    # the whole value is compared, for lists too; True == 1 in Python, so types are compared as well
    if choices and not field.get("allow_custom_choice", False) and not any(_same(value, choice) for choice in choices):
        raise BadValue(NAME_CHOICES.format(name, value), field=name)
    single, items = type_.removeprefix("list:"), value if type_.startswith("list:") else [value]
    for item in items:
        _check_rules(field, single, item, references)


def parents(fields: list[Field], values: Values) -> list[int]:
    """Return the ids of the data objects that ``values`` name, each once, in schema order."""
    found: dict[int, None] = {}
    for field, holder, _ in leaves(fields, values):
        if field["type"].startswith(("data:", "list:data:")):
            value = holder.get(field["name"])
            found.update(
                dict.fromkeys(item for item in (value if isinstance(value, list) else [value]) if item is not None)
            )
    return list(found)


def _fill(fields: list[Field], values: Values) -> None:
    for field in fields:
        if "group" in field:
            inner = values.setdefault(field["name"], {})
            if isinstance(inner, dict):
                _fill(field["group"], inner)
        elif "default" in field and field["name"] not in values:
            values[field["name"]] = copy.deepcopy(field["default"])


def _same(value: Any, choice: Any) -> bool:
    return bool(value == choice) and isinstance(value, bool) == isinstance(choice, bool)


def _check_rules(field: Field, type_: str, item: Any, references: References | None) -> None:
    """Check what goes beyond the type of one item: file name, range, existence of what it points at."""
    if type_ == "basic:file:" and field.get("validate_regex"):
        if not re.search(field["validate_regex"], item["file"]):
            raise BadValue(
                f"File name {item['file']} does not match regex {field['validate_regex']}", field=field["name"]
            )
    elif type_ in ("basic:integer:", "basic:decimal:") and field.get("range"):
        low, high = field["range"]
        if not low <= item <= high:  # written so that NaN is out of every range
            raise BadValue(NAME_RANGE.format(field["name"], low, high), field=field["name"])
    elif references is not None and type_.startswith("data:"):
        given = references.data_type(item)
        if given is None:
            raise BadValue(f"Referenced `Data` object does not exist (id:{item})", field=field["name"], id=item)
        if not fits(given, type_):
            raise BadValue(
                f"Data object of type `{type_}` is required, but type `{given}` is given. (id:{item})",
                field=field["name"],
                id=item,
            )
    elif references is not None and type_ == "basic:json:" and not references.storage_exists(item):
        raise BadValue(f"Referenced `Storage` object does not exist (id:{item})", field=field["name"], id=item)


def _refuse_unknown(fields: list[Field], values: Values) -> None:
    known = {field["name"]: field for field in fields}
    for key, value in values.items():
        if key not in known:
            raise BadValue(f"Field definition ({key}) missing in schema", field=key)
        if "group" in known[key]:
            _refuse_unknown(known[key]["group"], value)
