"""The published shapes of ``schemas/``, and what they cannot say of fields.

A field has exactly one of nine shapes, and its type says which: so each field is checked against that shape alone,
and the complaint names what is wrong with it instead of nine ways in which it is none of them.
"""

import json
import re
from collections.abc import Iterator
from functools import cache
from importlib import resources
from typing import Any

import jsonschema
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend
from referencing import Registry, Resource

from .document import Document, Path, Refused
from .fields import Field, check_value, leaves
from .values import BadValue


def validate(name: str, value: Any, document: Document, path: Path = ()) -> None:
    """Raise Refused, with the line in ``document``, unless ``value`` has the published shape ``name``."""
    errors: list[ValidationError] = sorted(_validator(name).iter_errors(value), key=lambda error: str(error.path))
    if not errors:
        return
    error = errors[0]
    where = (*path, *error.path)
    if error.validator == "additionalProperties" and isinstance(error.instance, dict):
        known = error.schema.get("properties", {})
        where = (*where, next(key for key in error.instance if key not in known))
    dotted = ".".join(map(str, where))
    raise Refused(
        f"{dotted or 'process'}: {error.message:.300}",
        document.line(where),
        path=dotted,
        validator=str(error.validator),
    )


def check_fields(fields: list[Any], document: Document, key: str) -> None:
    """Check the completed field list that stands under ``key`` of ``document``: shapes, names, patterns, defaults.

    Raises Refused with the line of what is wrong.
    """
    _check_fields(fields, document, (key,))
    for item, _, path in leaves(fields, {}):
        _check_default(item, path, document.line((key, *_where(fields, path))))


@cache
def _validator(name: str) -> Any:
    """Return the validator of ``process``, of ``trigger``, or of one shape of a field (``number``)."""
    folder = resources.files(__package__) / "schemas"
    parts = ("process", "field", "trigger")
    documents = {part: json.loads((folder / f"{part}.json").read_text("utf-8")) for part in parts}
    registry: Registry[Any] = Registry().with_resources(
        (document["$id"], Resource.from_contents(document)) for document in documents.values()
    )
    if name == "process":  # its fields are checked one by one, by shape
        free = {"type": "array"}
        schema = {**documents[name], "properties": {**documents[name]["properties"], "input": free, "output": free}}
    elif name == "trigger":
        schema = documents[name]
    else:
        schema = {"$ref": f"urn:pacifica:flow:field#/$defs/{name}"}
    return _Validator(schema, registry=registry)


def _pattern(_: Any, pattern: str, value: Any, __: Any) -> Iterator[ValidationError]:
    """Let ``$`` be the end, as JSON Schema means it; to Python it may stand before a last newline too."""
    if isinstance(value, str) and not re.search(re.sub(r"\$\Z", r"\\Z", pattern), value):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


def _is_integer(_: Any, value: Any) -> bool:
    """Take whole numbers as they were in draft-04: ``1.0`` is none."""
    return isinstance(value, int) and not isinstance(value, bool)


_Validator: Any = extend(
    jsonschema.Draft202012Validator,
    {"pattern": _pattern},
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_integer),
)


def _check_fields(fields: list[Any], document: Document, path: Path) -> None:
    names: set[str] = set()
    for position, item in enumerate(fields):
        here = (*path, position)
        validate(_shape(item, document.line(here)), item, document, here)
        if item["name"] in names:
            raise Refused(f"The field '{item['name']}' is defined twice", document.line(here))
        names.add(item["name"])
        for pattern in filter(None, [item.get("validate_regex")]):
            try:
                re.compile(pattern)
            except re.error as error:
                raise Refused(
                    f"validate_regex of field '{item['name']}' is no regular expression: {error}",
                    document.line((*here, "validate_regex")),
                ) from error
        _check_fields(item.get("group", []), document, (*here, "group"))


def _shape(item: Any, line: int) -> str:
    """Name the one shape that a field of this type can have."""
    if not isinstance(item, dict):
        raise Refused("A field must be an object", line)
    type_ = item.get("type", "basic:group")
    if type_ == "basic:group":
        return "group"
    if not isinstance(type_, str):
        raise Refused("The type of a field must be text", line)
    single, suffix = type_.removeprefix("list:"), "_list" if type_.startswith("list:") else ""
    kinds = {"basic:string:": "string", "basic:integer:": "number", "basic:decimal:": "number"}
    return ("data" if single.startswith("data:") else kinds.get(single, "plain")) + suffix


def _check_default(item: Field, path: str, line: int) -> None:
    if "default" in item:
        try:
            check_value(item, item["default"])
        except BadValue as error:
            raise Refused(
                f"Default value of field '{item['name']}' is not valid. {error.message}", line, path=path
            ) from error


def _where(fields: list[Field], path: str) -> Path:
    """Turn the dotted name of a field into positions and keys of the document."""
    first, _, rest = path.partition(".")
    position = next(index for index, item in enumerate(fields) if item["name"] == first)
    return (position, "group", *_where(fields[position]["group"], rest)) if rest else (position, "default")
