"""JSON documents from strangers: decoded strictly, with bounds, and refused with what is wrong and where.

For bodies of at most some MiB.  Lists of 100,000 entries are read with ``Body.read_all`` and decoded by typed structs.
"""

import json
from dataclasses import dataclass
from typing import Any

from .errors import BadJson

MAX_DEPTH = 64
_LEAST, _MOST = -(1 << 63), (1 << 63) - 1  # what a database column can hold


@dataclass(frozen=True, slots=True)
class _Fault:
    """Stands in the decoded tree where the text was wrong, until the walk finds it and knows its place."""

    reason: str


def loads(data: bytes, max_depth: int = MAX_DEPTH) -> Any:
    """Decode UTF-8 JSON, or raise BadJson with ``reason`` and ``where`` (``$[3].name``, or line and column).

    Refuses what JSON libraries read differently or cannot carry on: NaN and infinities, a key given twice, lone
    surrogates, integers beyond 64 bits, nesting deeper than ``max_depth``.
    """
    try:
        tree = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object,
            parse_constant=lambda name: _Fault(f"{name} is not JSON"),
            parse_int=_integer,
            parse_float=_number,
        )
    except UnicodeDecodeError as error:
        raise _refusal("not UTF-8", f"byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise _refusal(error.msg, f"line {error.lineno} column {error.colno}") from error
    except RecursionError as error:
        raise _refusal(f"nested deeper than {max_depth}", "$") from error
    _inspect(tree, max_depth)
    return tree


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                result[key] = _Fault("key given twice")
            seen.add(key)
    return result


def _integer(text: str) -> int | _Fault:
    # 19 digits and a sign are the longest that can fit; int() of a long text would cost quadratic time
    value = int(text) if len(text) <= 20 else _MOST + 1
    return value if _LEAST <= value <= _MOST else _Fault("integer beyond 64 bits")


def _number(text: str) -> float | _Fault:
    value = float(text)
    return value if value - value == 0 else _Fault("number too large")


def _inspect(tree: Any, max_depth: int) -> None:
    """Walk the tree without recursion; the text was bounded, so the walk is."""
    waiting: list[tuple[Any, int, tuple[Any, ...]]] = [(tree, 1, ())]
    while waiting:
        node, depth, trail = waiting.pop()
        if isinstance(node, _Fault):
            raise _refusal(node.reason, _place(trail))
        if isinstance(node, str):
            if not node.isascii() and _lonely(node):
                raise _refusal("lone surrogate", _place(trail))
        elif isinstance(node, (dict, list)):
            if depth > max_depth:
                raise _refusal(f"nested deeper than {max_depth}", _place(trail))
            if isinstance(node, dict):
                for key in node:
                    if not key.isascii() and _lonely(key):
                        raise _refusal("lone surrogate in a key", _place(trail))
                waiting += [(value, depth + 1, (key, trail)) for key, value in node.items() if _notable(value)]
            else:
                waiting += [(value, depth + 1, (index, trail)) for index, value in enumerate(node) if _notable(value)]


def _notable(value: Any) -> bool:
    return value is not None and not isinstance(value, (int, float)) and not (type(value) is str and value.isascii())


def _lonely(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _place(trail: tuple[Any, ...]) -> str:
    parts: list[str] = []
    while trail:
        step, trail = trail
        parts.append(f"[{step}]" if isinstance(step, int) else f".{step.encode('utf-8', 'replace').decode()[:80]}")
    return "$" + "".join(reversed(parts))


def _refusal(reason: str, where: str) -> BadJson:
    return BadJson("Invalid JSON document", reason=reason, where=where)
