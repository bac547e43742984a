"""Registering: verdicts on found definitions become rows."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..common import orm
from .definition import Version
from .orm import Data, Process, order_of
from .register import Verdict, find, judge


def register(folders: Iterable[Path], who: str, *, force: bool = False) -> Iterator[Verdict]:
    """Register what ``folders`` hold and yield the verdict on each definition, refused ones included."""
    for verdict in judge(find(folders), _newest, force=force):
        definition = verdict.found.definition
        if definition is not None and verdict.action in ("insert", "update"):
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
                if verdict.action == "insert":
                    Process.create(**key, version=str(definition.version), **columns)
                else:
                    here = (Process.slug == key["slug"]) & (Process.order == key["order"])
                    Process.update(columns).where(here).execute()
        yield verdict


def retire(found: set[str]) -> tuple[list[str], list[str]]:
    """Take back processes whose slug is not in ``found``: (deleted, deactivated) by slug and version.

    Those that have data are deactivated; versions that are not the newest and have no data are deleted as well.
    """
    deleted, deactivated = [], []
    newest: set[str] = set()
    for process in Process.select().order_by(Process.slug, Process.order.desc()):
        label = f"{process.slug} {process.version}"
        is_newest = process.slug not in newest
        newest.add(process.slug)
        if process.slug in found and is_newest:
            continue
        if not Data.select().where(Data.process == process.id).exists():
            Process.delete().where(Process.id == process.id).execute()
            deleted.append(label)
        elif process.slug not in found and process.is_active:
            Process.update(is_active=False).where(Process.id == process.id).execute()
            deactivated.append(label)
    return deleted, deactivated


def _newest(slug: str) -> Version | None:
    held = Process.select(Process.version).where(Process.slug == slug).order_by(Process.order.desc()).first()
    return Version.parse(held.version) if held else None
