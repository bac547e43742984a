"""Walk process folders and say of each definition what becomes of it.

Pure: what is held already comes in as arguments, what to store goes out as verdicts.  One bad definition never
stops the others.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .definition import Definition, Version, define
from .document import MAX_BYTES, Refused, parse
from .fields import Field
from .workflow import find_circle, read_steps

SUFFIXES = (".yml", ".yaml")


@dataclass(frozen=True)
class Found:
    """One definition that a file holds: sound (``definition``) or refused (``refusal``)."""

    file: Path
    line: int
    slug: str
    definition: Definition | None = None
    refusal: str = ""


@dataclass(frozen=True)
class Verdict:
    """What to do with a found definition: ``insert``, ``update`` in place, ``skip`` or ``refuse``; for people, why."""

    found: Found
    action: str
    message: str

    def as_json(self) -> dict[str, object]:
        """The line of ``register --json``."""
        definition = self.found.definition
        return {
            "file": str(self.found.file),
            "line": self.found.line,
            "slug": self.found.slug,
            "action": self.action,
            "version": str(definition.version) if definition else None,
            "message": self.message,
            "notes": list(definition.notes) if definition else [],
        }


def find(folders: Iterable[Path]) -> Iterator[Found]:
    """Yield what each ``.yml`` and ``.yaml`` file below ``folders`` holds, in order of path; links are not followed.

    An entry without ``run`` is no process and is passed over; so is a file that holds no list.
    """
    for folder in folders:
        for path in _files(folder):
            yield from read(path)


def read(path: Path) -> Iterator[Found]:
    """Yield what the one file ``path`` holds."""
    try:
        with path.open("rb") as file:
            document = parse(file.read(MAX_BYTES + 1))
    except Refused as error:
        yield Found(path, error.line, "", refusal=error.message)
        return
    except OSError as error:
        yield Found(path, 1, "", refusal=f"The file cannot be read: {error.strerror}")
        return
    if not isinstance(document.value, list):
        if document.value is not None:
            yield Found(path, document.line(), "", refusal="A process file must hold a list of processes")
        return
    for position, entry in enumerate(document.value):
        if isinstance(entry, dict) and "run" in entry:
            part = document.part(position)
            slug = str(entry.get("slug", ""))[:100]
            try:
                yield Found(path, part.line(), slug, define(part, f"{path.name}:{part.line()}"))
            except Refused as error:
                yield Found(path, error.line, slug, refusal=error.message)


def judge(found: Iterable[Found], newest: Callable[[str], Version | None], *, force: bool = False) -> Iterator[Verdict]:
    """Yield a verdict on each; ``newest(slug)`` is the newest version held before this run began.

    A version that this run has taken counts as held for what follows.
    """
    taken: dict[str, Version] = {}
    for item in found:
        definition, slug = item.definition, item.slug
        if definition is None:
            yield Verdict(item, "refuse", f"VALIDATION ERROR: {slug or item.file.name}: {item.refusal}")
            continue
        held = taken.get(slug) or newest(slug)
        if held is not None and held > definition.version:
            yield Verdict(item, "skip", f"Skip processor {slug}: newer version installed")
        elif held == definition.version and (not force or slug in taken):
            yield Verdict(item, "skip", f"Skip processor {slug}: same version installed")
        else:
            taken[slug] = definition.version
            action, word = ("update", "Updated") if held == definition.version else ("insert", "Inserted")
            yield Verdict(item, action, f"{word} {slug}")


def circles(definitions: Mapping[str, Definition]) -> dict[str, list[str]]:
    """Return, by slug, the circle that each workflow among ``definitions`` would run into."""

    def runs(slug: str) -> list[str]:
        held = definitions.get(slug)
        return [step.run for step in read_steps(held.program)] if held and held.language == "workflow" else []

    found = {slug: find_circle(slug, runs) for slug in definitions}
    return {slug: circle for slug, circle in found.items() if circle}


def contract_faults(definition: Definition, others: Iterable[Definition]) -> list[str]:
    """Say where ``definition`` breaks the contract of its type.

    It must offer each output of every other process whose type is its own or a supertype, with the same schema;
    label and description are free, and an optional output may become required.
    """
    faults = []
    for other in others:
        if other.slug != definition.slug and definition.type.startswith(other.type):
            faults += [
                f"type {other.type} ({other.slug}): {fault}" for fault in _missing(other.output, definition.output, "")
            ]
    return faults


def _files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(parent, name)
            if path.suffix in SUFFIXES and path.is_file():
                yield path


def _missing(wanted: list[Field], offered: list[Field], prefix: str) -> Iterator[str]:
    held = {field["name"]: field for field in offered}
    for field in wanted:
        path = prefix + field["name"]
        mine = held.get(field["name"])
        if mine is None:
            yield f"output '{path}' is missing"
        elif ("group" in field) != ("group" in mine):
            yield f"output '{path}' has another schema"
        elif "group" in field:
            yield from _missing(field["group"], mine["group"], path + ".")
        else:
            rules, mine_rules = _rules(field), _rules(mine)
            if field.get("required", True) and not mine.get("required", True):
                yield f"output '{path}' must be required"
            if rules != mine_rules:
                yield f"output '{path}' has another schema"


def _rules(field: Field) -> Field:
    return {key: value for key, value in field.items() if key not in ("label", "description", "required")}
