"""Values as people write them in an ini file or an environment variable, and back.

A kind of value is a type (``int``, ``Path``, ``Bytes``, ``tuple[str, ...]``, ...) or a function made by ``one_of`` or
``at_least``.  Every parser raises ValueError whose text says what is expected, and never repeats the value: it may be
a secret.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NewType, TypeVar

Bytes = NewType("Bytes", int)  # written "4 Mb", "10 GiB", "1048576"
Seconds = NewType("Seconds", float)  # written "30", "0.5", "10 min", "7 days"

N = TypeVar("N", int, float)

BOOLEANS = {"1": True, "yes": True, "true": True, "on": True, "0": False, "no": False, "false": False, "off": False}

# Pacifica's own units count decimal with a capital B and binary with a small b: "4 Mb" is 4 x 1024 x 1024 bytes.
SIZES = {"": 1, "B": 1, "b": 1}
for _power, _letter in enumerate("KMGTP", start=1):
    SIZES |= {f"{_letter}B": 1000**_power, f"{_letter}b": 1024**_power, f"{_letter}iB": 1024**_power}
SIZES["kB"] = 1000

DURATIONS = {
    unit: seconds
    for units, seconds in (
        ("ms", 0.001),
        (" s sec second seconds", 1),
        ("m min minute minutes", 60),
        ("h hour hours", 3600),
        ("d day days", 86400),
        ("w week weeks", 7 * 86400),
    )
    for unit in units.split(" ")
}

MASK = "********"


def parse(kind: Any, text: str) -> Any:
    """Return ``text`` as a value of ``kind``; ValueError says what is expected instead."""
    parser = PARSERS.get(kind)
    if parser is None:
        raise TypeError(f"no way to write a {kind} in a configuration file")
    return parser(text.strip())


def show(kind: Any, value: Any) -> str:
    """Return the text that ``parse`` reads back as ``value``."""
    if kind == tuple[str, ...]:
        return ", ".join(value)
    if kind is Bytes:
        return _show_bytes(value)
    if kind is bool:
        return "on" if value else "off"
    if kind in (float, Seconds):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return str(value)


def mask(text: str, *, secret: bool = True) -> str:
    """Hide what ``text`` must not show: a URL's passwords, or all of it when it is ``secret`` and no URL."""
    if "://" not in text:
        return MASK if secret and text else text
    # Greedy up to the last "@": a password may hold one, and showing too little does no harm.
    text = re.sub(r"(://[^:@/?#\s]*):\S*@", rf"\1:{MASK}@", text)
    return re.sub(r"(?i)([?&;][^=&;\s]*(?:pass|secret|token|key)[^=&;\s]*)=[^&;#\s]+", rf"\1={MASK}", text)


def one_of(*words: str) -> Callable[[str], str]:
    """Make the kind that takes one of ``words`` and nothing else."""

    def choose(text: str) -> str:
        if text not in words:
            raise ValueError(f"one of {', '.join(words)}")
        return text

    return choose


def at_least(kind: Callable[..., N], least: float) -> Callable[[str], N]:
    """Make the kind that takes an ``int``, ``float``, ``Bytes`` or ``Seconds`` not below ``least``."""

    def bounded(text: str) -> N:
        value: N = parse(kind, text)
        if value < least:
            raise ValueError(f"{_name(kind)}, at least {least:g}")
        return value

    return bounded


# ---- parsers -------------------------------------------------------------------------------------------------------


def _boolean(text: str) -> bool:
    try:
        return BOOLEANS[text.lower()]
    except KeyError:
        raise ValueError("on or off") from None


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("a whole number") from None


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError("a number") from None
    if value - value != 0:  # inf and nan would defeat every comparison with a limit
        raise ValueError("a finite number")
    return value


def _path(text: str) -> Path:
    if not text or "\0" in text:
        raise ValueError("a path")
    return Path(text).expanduser()


def _bytes(text: str) -> Bytes:
    number, factor = _quantity(text, SIZES, 'a size such as "4 Mb", "10 GiB" or a whole number of bytes')
    return Bytes(round(number * factor))


def _seconds(text: str) -> Seconds:
    number, factor = _quantity(text, DURATIONS, 'a time such as "30", "10 min" or "7 days"')
    return Seconds(number * factor)


def _texts(text: str) -> tuple[str, ...]:
    return tuple(part for part in (part.strip() for part in re.split(r"[,\n]", text)) if part)


PARSERS: dict[Any, Callable[[str], Any]] = {
    str: str,
    bool: _boolean,
    int: _integer,
    float: _number,
    Path: _path,
    Bytes: _bytes,
    Seconds: _seconds,
    tuple[str, ...]: _texts,
}


def _quantity(text: str, units: dict[str, Any], expected: str) -> tuple[float, float]:
    """Split ``text`` into its number and what its unit stands for."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text)
    if match is None or match[2] not in units:
        raise ValueError(expected)
    # Whole numbers stay whole: a float would round sizes above 2**53.
    return (float(match[1]) if "." in match[1] else int(match[1])), units[match[2]]


def _show_bytes(value: int) -> str:
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if value and value % SIZES[unit] == 0:
            return f"{value // SIZES[unit]} {unit}"
    return str(value)


def _name(kind: Any) -> str:
    return {int: "a whole number", Bytes: "a size", Seconds: "a time in seconds"}.get(kind, "a number")
