"""How much one rendering may do: steps, characters made, processor time (``docs/flow-process.md#templates``).

A definition may loop in a loop, and users' inputs decide how often.  Each round of a loop, each call and each filter is
a step, and so are 128 characters of a body; what operations make is measured, and what some would make is estimated
before they do.  Processor time, not wall time, ends what takes few long steps: a busy host must not.
"""

import functools
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from jinja2 import Environment, nodes, pass_environment
from jinja2.filters import make_attrgetter
from jinja2.visitor import NodeTransformer

MAX_VALUE = 16 << 20  # characters of one text, or items of one list
MAX_ITEMS = 1_000_000  # of what is made a text, one within the other
MAX_MADE = 128 << 20  # of all texts and lists of one rendering
STEPS, SECONDS = 1_000_000, 10.0  # of a program, or of one input
NAME_STEPS, NAME_SECONDS = 100_000, 1.0  # of a name, which is rendered while a request waits
_PRINTING = frozenset({"tojson", "pprint", "string", "join", "escape", "e", "forceescape", "format", "replace"})
_WIDE = re.compile(r"%[^%a-zA-Z]*(\*|\d{4,})|\{[^{}]*(\{|:[^{}]*\d{4,})")  # a width given apart, or of four digits
_TEXT_OF_A_STEP = 128
_STEPS_OF_A_LOOK = 64  # at the clock

T = TypeVar("T")


class TooMuch(Exception):
    """The template does more than is allowed."""


class Meter:
    """What is left to one rendering."""

    def __init__(self, steps: int, seconds: float) -> None:
        self.steps, self.seconds, self.allowed = steps, seconds, steps
        self.made = 0
        self._end = time.thread_time() + seconds

    def step(self) -> None:
        """Take a step.  Raises TooMuch."""
        self.steps -= 1
        if self.steps < 0:
            raise TooMuch(f"it takes more than {self.allowed} steps")
        if self.steps % _STEPS_OF_A_LOOK == 0 and time.thread_time() > self._end:
            raise TooMuch(f"it takes more than {self.seconds:g} seconds")

    def make(self, size: int) -> None:
        """Account for a text or list of ``size``.  Raises TooMuch."""
        self.made += size
        if size > MAX_VALUE or self.made > MAX_MADE:
            raise TooMuch("it makes too long a text or list")


_current: ContextVar[Meter] = ContextVar("meter of the template")


@contextmanager
def metered(steps: int = STEPS, seconds: float = SECONDS) -> Iterator[None]:
    """Allow what is rendered in the block ``steps`` and ``seconds`` of processor time."""
    token = _current.set(Meter(steps, seconds))
    try:
        yield
    finally:
        _current.reset(token)


def step() -> None:
    """Take a step of the rendering that is under way.  Raises TooMuch."""
    _current.get().step()


def sized(value: T) -> T:
    """Return ``value``, which an operation has just made, when it is not too much.  Raises TooMuch."""
    if isinstance(value, str | list | tuple):
        _current.get().make(len(value))
    return value


@pass_environment
def added(environment: Environment, iterable: Any, attribute: str | int | None = None, start: Any = 0) -> Any:
    """Jinja's filter ``sum``, which joins lists too: what they make on the way counts.  Raises TooMuch."""
    items = iterable if attribute is None else map(make_attrgetter(environment, attribute), iterable)
    return functools.reduce(lambda left, right: sized(left + right), items, start)


def printable(value: T) -> T:
    """Return ``value`` when it may be made a text: lists that hold one another twice grow with each print."""
    stack: list[Any] = [value]
    left = MAX_ITEMS
    while stack:
        one = stack.pop()
        inner = one if isinstance(one, list | tuple) else list(one.values()) if isinstance(one, dict) else ()
        left -= 1 + len(inner)
        if left < 0:
            raise TooMuch(f"it makes a text of more than {MAX_ITEMS} items")
        stack.extend(part for part in inner if isinstance(part, list | tuple | dict))
    return value


def foreseen(name: str, value: Any, args: Sequence[Any], named: Mapping[str, Any]) -> None:
    """Raise TooMuch where the filter or method ``name`` would make too much of ``value`` and its arguments."""
    if name in _PRINTING:
        printable(value)
    if any(type(one) is int and abs(one) > MAX_VALUE for one in (*args, *named.values())):
        raise TooMuch(f"{name} is given too large a number")
    estimate = _GROWTH.get(name)
    if estimate is not None and estimate(value, *args, **named) > MAX_VALUE:
        raise TooMuch(f"{name} would make too long a text or list")


class Steps(NodeTransformer):
    """Has each round of a loop, also one that its condition drops, and each call of a macro count."""

    def visit_For(self, node: nodes.For) -> Any:
        """Count in the body, and in the condition."""
        self.generic_visit(node)
        if node.test is not None:
            node.test = nodes.And(_counted(), node.test)
        return _counting(node)

    def visit_Macro(self, node: nodes.Macro) -> Any:
        """Count in the body."""
        self.generic_visit(node)
        return _counting(node)

    def visit_CallBlock(self, node: nodes.CallBlock) -> Any:
        """Count in the body."""
        self.generic_visit(node)
        return _counting(node)


def _counted() -> nodes.Expr:
    return nodes.EnvironmentAttribute("counted")


def _counting(node: Any) -> Any:
    text = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
    node.body = [*(nodes.ExprStmt(_counted()) for _ in range(1 + text // _TEXT_OF_A_STEP)), *node.body]
    return node


def _length(value: Any) -> int:
    return len(value) if isinstance(value, str | list | tuple) else 16  # about as long as a number


def _replaced(value: Any, old: Any = "", new: Any = "", *_: Any, **__: Any) -> int:
    return str(value).count(str(old)) * _length(new)


def _joined(value: Any, d: Any = "", *_: Any, **__: Any) -> int:
    """As a filter the items come first, as a method the separator does."""
    separator, items = (value, d) if isinstance(value, str) and not isinstance(d, str) else (d, value)
    return sum(map(_length, items)) + len(items) * _length(separator) if isinstance(items, Sequence) else 0


def _formatted(value: Any, *args: Any, **named: Any) -> int:
    if _WIDE.search(str(value)):
        raise TooMuch("a wide or computed width in a format is not allowed")
    return (str(value).count("%") + str(value).count("{")) * max(map(_length, (*args, *named.values())), default=0)


def _indented(value: Any, width: Any = 4, *_: Any, **__: Any) -> int:
    return (str(value).count("\n") + 1) * (width if isinstance(width, int) else _length(width))


def _wrapped(value: Any, width: Any = 79, breaks: Any = True, wrapstring: Any = "", *_: Any, **__: Any) -> int:
    return _length(value) // max(1, width if isinstance(width, int) else 1) * _length(wrapstring)


_GROWTH: dict[str, Callable[..., int]] = {
    "replace": _replaced,
    "indent": _indented,
    "wordwrap": _wrapped,
    "expandtabs": lambda value, size=8: value.count("\t") * size,
    "join": _joined,
    "format": _formatted,
    "format_map": _formatted,
    "tojson": lambda value, indent=0: (indent or 0) * 100_000,
}
