"""What programs say, made fit for every database and for JSON: texts without NUL or surrogates, numbers that end."""

import json
import math
from typing import Any

MAX_CODE = 1 << 31  # return codes are kept in 32 bits


def text(value: str) -> str:
    """Return text that any database takes: bytes that are no UTF-8 become U+FFFD, and so do NUL and surrogates."""
    try:
        found = value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    except UnicodeEncodeError:  # a surrogate that JSON spelled out
        found = value.encode("utf-8", "replace").decode()
    return found.replace("\0", "\ufffd")


def read(document: str | bytes) -> Any:
    """Return the value of a JSON document; ValueError or RecursionError where there is none.

    NaN, Infinity and numbers past every float, which Python would take for it, are none.
    """
    return clean(json.loads(document, parse_constant=_constant, parse_float=_float))


def clean(value: Any) -> Any:
    """Return a JSON value whose texts any database takes."""
    if isinstance(value, str):
        return text(value)
    if isinstance(value, list):
        return [clean(item) for item in value]
    if isinstance(value, dict):
        return {text(key): clean(item) for key, item in value.items()}
    return value


def code(word: str) -> int:
    """Return a return code; ValueError for what is no whole number of 32 bits."""
    value = int(word)
    if not -MAX_CODE <= value < MAX_CODE:
        raise ValueError("no return code")
    return value


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"{digits:.40} is larger than any number")
    return value
