"""What the sender of a bundle reads of a fault: printable, bounded, with its place and its code."""

from typing import Any

from ..common.errors import ServiceError

SHOWN = 200  # characters of a hostile name that an answer repeats
TOLD = 10  # faults that the text of a job's failure names one by one


def shown(name: str | bytes) -> str:
    """Return ``name`` as one printable line of bounded length, whatever it holds."""
    text = name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else name
    if len(text) <= SHOWN and text.isprintable():
        return text
    text = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text[: SHOWN + 1])
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def faults_of(error: ServiceError) -> list[dict[str, Any]]:
    """Return what is wrong, one object each: {code, message, and file, entry or offset where they are known}."""
    listed: list[dict[str, Any]] | None = error.detail.get("faults")
    return listed or [{**error.detail, "code": error.code, "message": error.message}]


def account(error: ServiceError) -> str:
    """Return what the sender of a bundle reads of ``error``: a line for each fault, with its place and its code."""
    found = faults_of(error)
    lines = [f"{_place(fault)}{fault['message']} [{fault['code']}]" for fault in found[:TOLD]]
    if len(found) > TOLD:
        lines.append(f"... and {len(found) - TOLD} more")
    return "\n".join(lines)


def _place(fault: dict[str, Any]) -> str:
    if fault.get("file"):
        return f"{fault['file']}: "
    for name in ("entry", "offset"):
        if name in fault:
            return f"{name} {fault[name]}: "
    return ""
