"""The audit: everything that is held is read again, oldest check first, and what is wrong is named (docs/audit.md).

The rows say when each thing was checked last, so that an audit that was stopped anywhere goes on from there.
"""

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from ..common import ledger, orm
from ..common.batch import BATCH, batches
from ..common.errors import ServiceError
from ..common.ledger import DAMAGED, SOUND
from ..common.outbox import announce
from . import packs, tree
from .dataset import NoSuchDataset
from .frames import Finding
from .loi import dataset
from .orm import SOURCE
from .orm import Finding as FindingRow
from .pace import Pace
from .safe import Safe

log = logging.getLogger(__name__)

TOLD = 100  # findings in an event
DUE = 0.75  # of the period: what is then due is read at the same rate as before, and so within the period
IDLE_SECONDS = 60.0  # at most, between two looks at what is due
ASIDE_SECONDS = 3600.0


class Thing(NamedTuple):
    """What is checked in one go: a pack, a dataset, a part of the volume; ``since`` is its last check, or its birth."""

    kind: str
    name: str
    owner: str
    size: int
    since: float
    suspected: float | None


class Outcome(NamedTuple):
    """What one check found; ``damaged`` are ids of archived files."""

    findings: tuple[Finding, ...]
    size: int
    misread: int = 0


def things(due_before: float | None = None, limit: int = 1000) -> list[Thing]:
    """Return what to check next: first what a reader suspects, then the oldest check first.

    ``due_before`` (epoch seconds) leaves out what was checked, or stored, after it and is not suspected.
    """
    where = "" if due_before is None else "WHERE suspected IS NOT NULL OR since < ?"
    given = () if due_before is None else (due_before,)
    found = orm.rows(
        f"SELECT kind, name, owner, size, since, suspected FROM ({THINGS}) AS t {where} "
        "ORDER BY CASE WHEN suspected IS NULL THEN 1 ELSE 0 END, since, name LIMIT ?",
        *given, limit,
    )  # fmt: skip
    return [Thing._make(row) for row in found]


def prepare() -> None:
    """Put the parts of the volume among the things; safe to repeat."""
    for name in tree.CHECKS:
        orm.execute(_PART, name)


def advance(safe: Safe, period_seconds: float, rate: int, seconds: float, aside: dict[tuple[str, str], float]) -> float:
    """Check what is due for about ``seconds``; return in how many seconds to go on, 0 when more is due now.

    A thing that could not be checked for a reason of its own goes into ``aside`` (kind, name -> when to try again).
    """
    pace, end = Pace(rate), time.monotonic() + seconds
    due = orm.clock() - period_seconds * DUE
    for thing in things(due, 1000):
        now = time.monotonic()
        if aside.get((thing.kind, thing.name), 0.0) > now:
            continue
        if now >= end:
            return 0.0
        try:
            check(safe, thing, pace)
        except (OSError, ServiceError) as error:
            if isinstance(error, ServiceError) and error.retryable:
                raise
            log.exception("%s %s could not be checked", thing.kind, thing.name)
            aside[thing.kind, thing.name] = now + ASIDE_SECONDS
    return IDLE_SECONDS


def check(safe: Safe, thing: Thing, pace: Pace) -> Outcome | None:
    """Check one thing and record the outcome; None when it is gone by now.  What ``pace`` raises leaves no trace."""
    begun = orm.clock()
    if thing.kind == "pack":
        return _pack(safe, thing, pace, begun)
    if thing.kind == "dataset":
        return _dataset(safe, thing, pace, begun)
    findings = tree.CHECKS[thing.name](safe, pace.check)
    return _record(thing, Outcome(tuple(findings), 0), begun, f"volume/{thing.name}", {}, lambda: True)


def _pack(safe: Safe, thing: Thing, pace: Pace, begun: float) -> Outcome | None:
    held = orm.rows(_PACK, thing.name)
    if not held:
        return None
    pack = packs.Pack._make(held[0])
    judged = packs.judge(safe.volume, pack, pace)
    _mark(pack, judged)
    files = {"files": judged.damaged[:TOLD], "files_count": len(judged.damaged)}
    outcome = Outcome(tuple(judged.findings), judged.bytes, judged.misread)
    return _record(thing, outcome, begun, f"packs/{thing.name}", files, lambda: bool(orm.rows(_PACK, thing.name)))


def _dataset(safe: Safe, thing: Thing, pace: Pace, begun: float) -> Outcome | None:
    def is_held() -> bool:
        return bool(orm.rows("SELECT 1 FROM dataset WHERE loi = ?", thing.name))

    loi = dataset(thing.name)
    if not is_held():
        return None
    try:
        verdict = safe.store.verify(loi, pace)
        outcome = Outcome(verdict.findings, verdict.bytes, verdict.misread)
        about: dict[str, Any] = {"loi": thing.name, "version": verdict.version}
    except NoSuchDataset:
        outcome = Outcome((Finding("missing", safe.store.place(loi)),), 0)
        about = {"loi": thing.name, "version": 0}
    return _record(thing, outcome, begun, f"datasets/{thing.name}", about, is_held)


def _mark(pack: packs.Pack, judged: packs.Judged) -> None:
    """Write the verdict on each file of a pack into the ledger, in short transactions."""
    if judged.damaged:
        bad = set(judged.damaged)
        ledger.mark(judged.damaged, DAMAGED)
        for batch in batches((id for id in judged.ids if id not in bad), BATCH):
            ledger.mark(batch, SOUND)
        return
    for batch in batches(judged.ids, BATCH):
        orm.execute(
            f"UPDATE archivedfile SET verdict = ?, checked = {orm.now().sql} WHERE pack = ? AND id BETWEEN ? AND ?",
            SOUND, pack.id, batch[0], batch[-1],
        )  # fmt: skip


def _record(
    thing: Thing, outcome: Outcome, begun: float, subject: str, about: dict[str, Any], is_held: Callable[[], bool]
) -> Outcome | None:
    """Enter an outcome, and announce damage that the last check did not know, in one commit."""
    with orm.transaction():
        if not is_held():
            return None  # deleted while it was read: what is missing now is no finding
        verdict = DAMAGED if outcome.findings else SOUND
        id = orm.rows(_INSPECTED, thing.kind, thing.name, thing.owner, verdict, outcome.size, outcome.misread, begun)[
            0
        ][0]
        rows = FindingRow.select().where(FindingRow.inspection == id)
        known = {(row.kind, row.path, row.files): row.since for row in rows}
        FindingRow.delete().where(FindingRow.inspection == id).execute()
        fresh = False
        for finding in outcome.findings:
            files = json.dumps(finding.files)
            since = known.get((finding.kind, finding.path, files))
            fresh = fresh or since is None
            FindingRow.insert(
                inspection=id, kind=finding.kind, path=finding.path, files=files, expected=finding.expected,
                found=finding.found, since=begun if since is None else since,
            ).execute()  # fmt: skip
        if fresh:
            data = {"owner": thing.owner, **about, "findings": list(told(outcome.findings[:TOLD])),
                    "count": len(outcome.findings)}  # fmt: skip
            announce("pacifica.dataset.damaged", subject, data, source=SOURCE)
            log.error("%s is damaged: %d findings, the first: %s %s", subject, len(outcome.findings),
                      outcome.findings[0].kind, outcome.findings[0].path)  # fmt: skip
    return outcome


def told(findings: Iterable[Finding]) -> Iterator[dict[str, Any]]:
    """Yield findings as JSON objects, what is empty left out."""
    for finding in findings:
        yield {name: list(value) if name == "files" else value for name, value in finding._asdict().items() if value}


# What there is to check, with its last check.
THINGS = """
SELECT 'pack' AS kind, p.name AS name, p.owner AS owner, p."size" AS "size",
       COALESCE(i.checked, p.created) AS since, i.suspected AS suspected, i.verdict AS verdict, i.checked AS checked
FROM pack p LEFT JOIN inspection i ON i.kind = 'pack' AND i.name = p.name WHERE p.published AND p.kind <> 'remote'
UNION ALL
SELECT 'dataset', d.loi, d.owner, COALESCE(NULLIF(i."size", 0), d."size"),
       COALESCE(i.checked, d.stored), i.suspected, i.verdict, i.checked
FROM dataset d LEFT JOIN inspection i ON i.kind = 'dataset' AND i.name = d.loi WHERE d.version > 0
UNION ALL
SELECT 'volume', i.name, '', 0, COALESCE(i.checked, i.suspected, 0), NULL, i.verdict, i.checked
FROM inspection i WHERE i.kind = 'volume'
"""

_PART = (
    "INSERT INTO inspection (kind, name, owner, \"size\", misread) VALUES ('volume', ?, '', 0, 0) "
    "ON CONFLICT (kind, name) DO NOTHING"
)

_PACK = "SELECT id, name, first_id, count, \"size\" FROM pack WHERE name = ? AND published AND kind <> 'remote'"

_INSPECTED = (
    'INSERT INTO inspection (kind, name, owner, verdict, "size", misread, checked) VALUES (?, ?, ?, ?, ?, ?, ?) '
    "ON CONFLICT (kind, name) DO UPDATE SET verdict = excluded.verdict, "
    '"size" = excluded."size", misread = inspection.misread + excluded.misread, checked = excluded.checked, '
    "suspected = CASE WHEN inspection.suspected > excluded.checked THEN inspection.suspected END RETURNING id"
)
