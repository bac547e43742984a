"""Registering: verdicts on found definitions become rows."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ..common import orm
from . import firing
from .definition import Definition, Version
from .orm import Data, Process, TriggerRow
from .register import Found, Verdict, circles, contract_faults, find, judge, judge_trigger, refused
from .versions import order_of


def register(folders: Iterable[Path], who: str, *, force: bool = False) -> Iterator[Verdict]:
    """Register what ``folders`` hold and yield the verdict on each definition, refused ones included.

    Triggers come last: they name processes.
    """
    found = list(find(folders))
    held = _held()
    known = held | {one.slug: one.definition for one in found if one.definition is not None}
    turning = circles(known)
    for verdict in judge(found, _newest, force=force):
        definition = verdict.found.definition
        if definition is not None and verdict.action in ("insert", "update"):
            if definition.slug in turning:
                verdict = refused(verdict.found, f"It runs in a circle: {' > '.join(turning[definition.slug])}")
            else:
                _store(definition, who, insert=verdict.action == "insert")
                held[definition.slug] = definition
        elif definition is not None and verdict.action == "skip":
            verdict = _revived(verdict, definition)
            held |= {definition.slug: definition} if verdict.action == "activate" else {}
        if definition is not None:
            broken = contract_faults(definition, known.values())
            verdict = replace(verdict, notes=(*verdict.notes, *broken))
        yield verdict
    for one in found:
        if one.kind == "trigger":
            yield _register_trigger(one, held, who)


class Retired(NamedTuple):
    """What was taken back: ``action`` is delete or deactivate, ``kind`` process (in a ``version``) or trigger."""

    action: str
    kind: str
    slug: str
    version: str | None

    def __str__(self) -> str:
        """Say it to people."""
        what = self.slug if self.kind == "trigger" else f"{self.slug} {self.version}"
        return f"{self.action.capitalize()}d {'trigger ' if self.kind == 'trigger' else ''}{what}"


def retire(processes: set[str], triggers: set[str]) -> list[Retired]:
    """Take back what is not among the slugs given, and return it.

    Processes that have data are deactivated; versions that are not the newest and have no data are deleted as well.
    """
    taken: list[Retired] = []
    newest: set[str] = set()
    for process in list(Process.select().order_by(Process.slug, Process.order.desc())):
        is_newest = process.slug not in newest
        newest.add(process.slug)
        if process.slug in processes and is_newest:
            continue
        if not Data.select().where(Data.process == process.id).exists():
            Process.delete().where(Process.id == process.id).execute()
            taken.append(Retired("delete", "process", process.slug, process.version))
        elif process.slug not in processes and process.is_active:
            Process.update(is_active=False).where(Process.id == process.id).execute()
            taken.append(Retired("deactivate", "process", process.slug, process.version))
    with orm.transaction():
        for row in TriggerRow.select().order_by(TriggerRow.slug):
            if row.slug not in triggers:
                TriggerRow.delete().where(TriggerRow.id == row.id).execute()
                taken.append(Retired("delete", "trigger", row.slug, None))
        firing.subscribe()
    return taken


def _store(definition: Definition, who: str, *, insert: bool) -> None:
    columns = {
        "name": definition.name,
        "type": definition.type,
        "category": definition.category,
        "persistence": definition.persistence,
        "scheduling_class": definition.scheduling_class,
        "document": json.dumps(definition.document),
        "digest": definition.digest,
        "source": definition.source,
        "is_active": True,
        "contributor": who,
        "modified": orm.clock(),
    }
    key = {"slug": definition.slug, "order": order_of(definition.version)}
    with orm.transaction():
        if insert:
            Process.create(**key, version=str(definition.version), **columns)
        else:
            here = (Process.slug == key["slug"]) & (Process.order == key["order"])
            Process.update(columns).where(here).execute()


def _revived(verdict: Verdict, definition: Definition) -> Verdict:
    """Return the verdict on a version that is held already: one that was retired runs again, if it is the same."""
    here = (Process.slug == definition.slug) & (Process.order == order_of(definition.version))
    row = Process.get_or_none(here & ~Process.is_active)
    if row is None or _newest(definition.slug) != definition.version:
        return verdict
    if row.digest != definition.digest:
        return replace(verdict, message=f"{verdict.message}, retired and not the same: --force overwrites it")
    Process.update(is_active=True, modified=orm.clock()).where(here).execute()
    return replace(verdict, action="activate", message=f"Activated {definition.slug}")


def _register_trigger(found: Found, held: dict[str, Definition], who: str) -> Verdict:
    """Store a trigger that is new or has changed; what the administrator has switched off stays off."""
    row = TriggerRow.get_or_none(TriggerRow.slug == found.slug)
    process = held.get(found.trigger.process) if found.trigger else None
    verdict = judge_trigger(found, process, row.digest if row else None)
    if found.trigger is None or verdict.action not in ("insert", "update"):
        return verdict
    columns = {
        "event": found.trigger.event,
        "document": json.dumps(found.trigger.document),
        "digest": found.trigger.digest,
        "source": f"{found.file.name}:{found.line}",
        "contributor": who,
        "modified": orm.clock(),
    }
    with orm.transaction():
        if verdict.action == "insert":
            TriggerRow.create(slug=found.slug, enabled=found.trigger.enabled, **columns)
        else:
            TriggerRow.update(columns).where(TriggerRow.slug == found.slug).execute()
        firing.subscribe()
    return verdict


def _held() -> dict[str, Definition]:
    """Return the newest active version of each process."""
    rows = Process.select().where(Process.is_active).order_by(Process.order)
    return {row.slug: row.definition for row in rows}


def _newest(slug: str) -> Version | None:
    held = Process.select(Process.version).where(Process.slug == slug).order_by(Process.order.desc()).first()
    return Version.parse(held.version) if held else None
