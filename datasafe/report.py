"""What the audit has to say: how much was read again, how long ago, and what is wrong (docs/audit.md)."""

import json
from collections.abc import Iterator
from typing import Any, Protocol

from ..common import orm
from ..common.metrics import Gauge
from ..common.moment import zulu
from .audit import THINGS
from .config import Audit
from .orm import VERDICTS

PAGE = 100


class Viewer(Protocol):
    """Who asks (``auth.Principal`` is one)."""

    @property
    def name(self) -> str:
        """The network name that the way in established."""

    @property
    def administrator(self) -> bool:
        """Sees all."""

    @property
    def service(self) -> bool:
        """Sees all."""


def summary(settings: Audit) -> dict[str, Any]:
    """Return coverage within the period, the age of the oldest check, and what was found, in numbers."""
    now = orm.clock()
    period = settings.period_days * 86400
    kinds: dict[str, dict[str, Any]] = {}
    for kind, verdict, count, size, fresh, fresh_size in orm.rows(_COUNTS, now - period, now - period):
        part = kinds.setdefault(kind, {"count": 0, "bytes": 0, "fresh": 0, "fresh_bytes": 0, **_NONE})
        part["count"] += count
        part["bytes"] += int(size or 0)
        part["fresh"] += int(fresh or 0)
        part["fresh_bytes"] += int(fresh_size or 0)
        part[VERDICTS[verdict]] += count
    total, fresh = (sum(part[name] for part in kinds.values()) for name in ("bytes", "fresh_bytes"))
    return {
        "period_days": settings.period_days,
        "rate": settings.rate,
        "rate_needed": round(total / period) if period else 0,
        "coverage": fresh / total if total else 1.0,
        "things": kinds,
        "oldest": _oldest(now),
        "misread": int(orm.rows("SELECT COALESCE(SUM(misread), 0) FROM inspection")[0][0]),
        "findings_count": int(orm.rows("SELECT count(*) FROM finding")[0][0]),
    }


def findings(viewer: Viewer | None = None, after: int = 0, limit: int = PAGE) -> list[dict[str, Any]]:
    """Return findings in the order of their ids: all, or those of things that belong to ``viewer`` or to nobody."""
    mine, given = "", ()  # type: str, tuple[Any, ...]
    if viewer is not None and not (viewer.administrator or viewer.service):
        mine, given = "AND i.owner IN (?, '')", (viewer.name,)
    found = orm.rows(f"{_FINDINGS} WHERE f.id > ? {mine} ORDER BY f.id LIMIT ?", after, *given, limit)
    return [
        {
            "id": id, "thing": thing, "name": name, "kind": kind, "path": path, "files": json.loads(files),
            "expected": expected, "found": seen, "since": zulu(since), "checked": zulu(checked),
        }
        for id, thing, name, kind, path, files, expected, seen, since, checked in found
    ]  # fmt: skip


def gauges() -> Iterator[Gauge]:
    """Yield what ``GET /metrics`` tells of the audit: the age of the oldest check, and how much is wrong."""
    oldest = _oldest(orm.clock())
    age = oldest["age_seconds"] if oldest else 0.0
    count = orm.rows("SELECT count(*) FROM finding")[0][0]
    yield Gauge("pacifica_audit_oldest_seconds", "Since the oldest check of a pack or dataset.", (), [((), age)])
    yield Gauge("pacifica_audit_findings", "What is damaged or missing.", (), [((), float(count))])


def _oldest(now: float) -> dict[str, Any] | None:
    columns = "kind, name, since, checked"
    found = orm.rows(f"SELECT {columns} FROM ({THINGS}) AS t WHERE kind <> 'volume' ORDER BY since LIMIT 1")
    if not found:
        return None
    kind, name, since, checked = found[0]
    told = {"kind": kind, "age_seconds": round(now - since, 3), "ever_checked": checked is not None}
    return told | {"name": name}


_NONE = dict.fromkeys(VERDICTS.values(), 0)

_COUNTS = f"""
SELECT kind, verdict, count(*), SUM("size"), SUM(CASE WHEN checked >= ? THEN 1 ELSE 0 END),
       SUM(CASE WHEN checked >= ? THEN "size" ELSE 0 END)
FROM ({THINGS}) AS t GROUP BY kind, verdict
"""

_FINDINGS = (
    "SELECT f.id, i.kind, i.name, f.kind, f.path, f.files, f.expected, f.found, f.since, i.checked "
    "FROM finding f JOIN inspection i ON i.id = f.inspection"
)
