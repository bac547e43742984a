"""Inputs as they are typed at a command line: ``key=value``, read by the type of the field that ``key`` names."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..common.errors import BadRequest
from .fields import Field, Values, find

MAX_BYTES = 8 << 20  # of a file that is read as a value
TEXTS = ("basic:string:", "basic:text:", "basic:date:", "basic:datetime:")

Find = Callable[[str], Any]


def document(text: str) -> Values:
    """Return the JSON object ``text``, or that in the file ``@PATH``.  BadRequest for anything else."""
    given = _json(_content(text), "--input")
    if not isinstance(given, dict):
        raise BadRequest("--input must be a JSON object.")
    return given


def inputs(fields: list[Field], words: Sequence[str], base: Values, data: Find, file: Find) -> Values:
    """Return ``base`` with each ``key=value`` of ``words`` put into it; dots lead into groups.

    A value ``@PATH`` is what the file holds, ``@@...`` a text that begins with ``@``.  Texts are taken as they are,
    other values as JSON; a key of a list given again adds an item.  ``data(slug)`` gives the id of an object, ``file``
    the value that ``archive:<id>`` stands for, or ``@PATH`` where a file is wanted.  BadRequest names the word that is
    wrong.
    """
    values = json.loads(json.dumps(base))
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise BadRequest(f"An input is given as key=value, not {word!r:.80}.")
        try:
            field: Field | None = find(fields, key)
        except KeyError:
            field = None  # whether the process knows it is the check's to say
        type_ = "basic:json:" if field is None or "group" in field else str(field["type"])
        wants_file = type_.removeprefix("list:").startswith("basic:file:") and not text.startswith("@@")
        said = text if wants_file else _content(text)
        _put(values, key, _read(type_, said, key, data, file), is_list=type_.startswith("list:"))
    return values


def _content(text: str) -> str:
    if text.startswith("@@"):
        return text[1:]
    if not text.startswith("@"):
        return text
    try:
        with Path(text[1:]).open("rb") as source:
            held = source.read(MAX_BYTES + 1)
    except OSError as error:
        raise BadRequest(f"{text[1:]!r:.200} cannot be read: {error.strerror}.") from error
    if len(held) > MAX_BYTES:
        raise BadRequest(f"{text[1:]!r:.200} is larger than {MAX_BYTES} bytes.")
    try:
        return held.decode()
    except UnicodeDecodeError as error:
        raise BadRequest(f"{text[1:]!r:.200} is not UTF-8 text.") from error


def _read(type_: str, text: str, key: str, data: Find, file: Find) -> Any:
    if type_.startswith("list:"):
        if text.lstrip().startswith("["):
            return _json(text, key)
        return [_read(type_.removeprefix("list:"), text, key, data, file)]
    if type_ in TEXTS:
        return text
    if type_.startswith("data:") and not text.isdecimal():
        return data(text)
    if type_.startswith("basic:file:") and text.startswith(("archive:", "@")):
        return file(text)
    if type_ == "basic:dir:" and text.startswith("transaction:"):
        return {"dir": text}
    if type_.startswith("basic:url:") and not text.lstrip().startswith("{"):
        return {"url": text}
    return _json(text, key)


def _json(text: str, key: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"The value of {key} is not JSON: {text!r:.80}.") from error


def _put(values: Values, key: str, value: Any, *, is_list: bool) -> None:
    *groups, last = key.split(".")
    for group in groups:
        inner = values.setdefault(group, {})
        if not isinstance(inner, dict):
            raise BadRequest(f"{group} is no group, so {key} cannot be in it.")
        values = inner
    if is_list and isinstance(values.get(last), list):
        values[last] += value
    else:
        values[last] = value
