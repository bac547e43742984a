"""Triggers: which events run which process, and on what (``docs/flow.md#triggers``).

Pure: an event and the transaction that it is about come in as arguments, inputs go out.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

from ..common.errors import BadRequest
from .document import Document, Refused
from .filters import filters
from .hydrate import Lazy
from .shape import validate
from .template import BadTemplate, Engine
from .workflow import evaluated

FILE = "file"  # the name in ``where`` that asks for the names of files
MAX_FILES = 10_000  # that ``transaction.files`` may hold


class NotFired(BadRequest):
    """A trigger that fits an event cannot make a run of it."""

    code = "not_fired"


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """One trigger; ``where`` maps dotted names of the event's data to patterns."""

    slug: str
    event: str
    process: str
    where: dict[str, list[str]] = field(default_factory=dict)
    input: dict[str, Any] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    description: str = ""
    enabled: bool = True
    lines: dict[tuple[str | int, ...], int] = field(default_factory=dict, compare=False)

    @property
    def document(self) -> dict[str, Any]:
        """The trigger as JSON; ``restore`` is the way back."""
        names = ("slug", "event", "process", "where", "input", "tags", "description")
        return {name: getattr(self, name) for name in names}

    @property
    def digest(self) -> str:
        """SHA-256 (64 lower-case hex) of all that it says."""
        return hashlib.sha256(json.dumps(self.document, sort_keys=True).encode()).hexdigest()

    def hears(self, type: str) -> bool:
        """Tell whether events of ``type`` concern it, by the topic exchange's rules."""
        return _fits(self.event.split("."), type.split("."))

    def matches(self, data: Mapping[str, Any]) -> bool:
        """Tell whether an event's ``data`` is as ``where`` wants it; names of files are not asked."""
        return all(_any(patterns, _at(data, name)) for name, patterns in self.where.items() if name != FILE)

    def wants(self, path: str) -> bool:
        """Tell whether a file at ``path`` is one that it asks for; a pattern without a slash sees the name alone."""
        name = path.rpartition("/")[2]
        patterns = self.where.get(FILE)
        return patterns is None or any(fnmatchcase(path if "/" in one else name, one) for one in patterns)

    def inputs(self, event: Mapping[str, Any], transaction: Mapping[str, Any], engine: Engine) -> dict[str, Any]:
        """Return the inputs of the run.  NotFired when a template cannot be evaluated or gives what is no JSON."""
        names = {"event": event, "data": event["data"], "transaction": transaction}
        try:
            made = dict(evaluated(self.input, names, engine.value))
            return dict(json.loads(json.dumps(made, allow_nan=False)))
        except (BadTemplate, TypeError, ValueError, RecursionError) as error:
            raise NotFired(f"The input cannot be made: {error}"[:1000]) from error


def define(document: Document) -> Trigger:
    """Check one entry of a process file that has the key ``trigger``.  Raises Refused, with its line."""
    value = document.value
    validate("trigger", value, document)
    for path, text in _texts(value.get("input", {}), ("input",)):
        try:
            _checker().check(text)
        except BadTemplate as error:
            raise Refused(f"{'.'.join(map(str, path))}: {error.message}", document.line(path)) from error
    names = ("event", "process", "input", "tags", "description", "enabled")
    known = {name: value[name] for name in names if name in value}
    return Trigger(slug=value["trigger"], where=_patterns(value.get("where", {})), lines=document.lines, **known)


def restore(document: Mapping[str, Any]) -> Trigger:
    """Build the trigger that ``document`` (a ``Trigger.document``) came from."""
    return Trigger(**document)


def about(
    transaction: int | None, files: Callable[[], Iterable[tuple[int, str, int]]], trigger: Trigger
) -> Mapping[str, Any]:
    """Return what a template sees as ``transaction``: ``id``, ``dir``, and of its files those that ``trigger`` wants.

    ``files`` yields (id, path, size); it is not asked before a template asks.
    """
    if transaction is None:
        return {}

    def wanted() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for id, path, size in files():
            if trigger.wants(path):
                if len(found) >= MAX_FILES:
                    raise NotFired(f"More than {MAX_FILES} files fit: give the folder (transaction.dir) instead.")
                found.append({"file": path.rpartition("/")[2], "file_temp": f"archive:{id}", "size": size})
        return found

    held = Lazy({"files": wanted})
    makers: dict[str, Callable[[], Any]] = {
        "id": lambda: transaction,
        "dir": lambda: {"dir": f"transaction:{transaction}"},
        "files": lambda: held["files"],
        "file": lambda: next(iter(held["files"]), None),
    }
    return Lazy(makers)


@cache
def _checker() -> Engine:
    return Engine(filters(None))  # type: ignore[arg-type]  # no filter is called


def _patterns(where: Mapping[str, Any]) -> dict[str, list[str]]:
    return {name: [_word(one) for one in (said if isinstance(said, list) else [said])] for name, said in where.items()}


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _any(patterns: Iterable[str], value: Any) -> bool:
    """Tell whether one pattern fits ``value``, or an item of it where it is a list; nothing fits what is not there."""
    values = value if isinstance(value, list) else [value]
    return any(one is not None and fnmatchcase(_word(one), pattern) for pattern in patterns for one in values)


def _at(data: Any, name: str) -> Any:
    for step in name.split("."):
        data = data.get(step) if isinstance(data, Mapping) else None
    return data


def _fits(pattern: list[str], words: list[str]) -> bool:
    if pattern[-1] == "#":
        pattern, words = pattern[:-1], words[: len(pattern) - 1]
    return len(pattern) == len(words) and all(one in ("*", word) for one, word in zip(pattern, words, strict=True))


def _texts(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield path and text of each template; texts inside lists are none, as in workflows."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _texts(inner, (*path, key))
