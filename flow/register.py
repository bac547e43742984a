"""Walk process folders and say of each definition what becomes of it.

Pure: what is held already comes in as arguments, what to store goes out as verdicts.  One bad definition never
stops the others.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from .definition import Definition, Version, define
from .document import MAX_BYTES, Document, Refused, Skipped, parse
from .fields import Field, check_value
from .trigger import Trigger
from .trigger import define as define_trigger
from .values import BadValue
from .workflow import find_circle, read_steps

SUFFIXES = (".yml", ".yaml")
LIBRARY = Path(__file__).with_name("library")  # the processes and triggers that come with flow


@dataclass(frozen=True)
class Found:
    """One definition that a file holds: sound (``definition`` or ``trigger``) or refused (``refusal``)."""

    file: Path
    line: int
    slug: str
    definition: Definition | None = None
    refusal: str = ""
    is_skipped: bool = False  # and no fault
    kind: str = "process"  # or trigger
    trigger: Trigger | None = None


@dataclass(frozen=True)
class Verdict:
    """What to do with a found definition; for people, why.

    ``action`` is ``insert``, ``update`` in place, ``activate`` what was retired, ``skip`` or ``refuse``.
    """

    found: Found
    action: str
    message: str
    notes: tuple[str, ...] = ()  # what an author should know although it is accepted

    def as_json(self) -> dict[str, object]:
        """The line of ``register --json``."""
        definition = self.found.definition
        return {
            "file": str(self.found.file),
            "line": self.found.line,
            "kind": self.found.kind,
            "slug": self.found.slug,
            "action": self.action,
            "version": str(definition.version) if definition else None,
            "message": self.message,
            "notes": list(self.notes),
        }


def find(folders: Iterable[Path]) -> Iterator[Found]:
    """Yield what each ``.yml`` and ``.yaml`` file below ``folders`` holds, in order of path; links are not followed.

    An entry with ``run`` is a process, one with ``trigger`` a trigger; any other is passed over, and so is a file that
    holds no list.  A folder that is a file stands for itself.
    """
    for folder in folders:
        faults: list[OSError] = []
        for path in _files(folder, faults.append):
            yield from read(path)
        for error in faults:
            yield Found(Path(error.filename), 1, "", refusal=f"The folder cannot be read: {error.strerror}")


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
                skipped = isinstance(error, Skipped)
                yield Found(path, error.line, slug, refusal=error.message, is_skipped=skipped)
        elif isinstance(entry, dict) and "trigger" in entry:
            yield _trigger(path, document.part(position))


def judge(found: Iterable[Found], newest: Callable[[str], Version | None], *, force: bool = False) -> Iterator[Verdict]:
    """Yield a verdict on each; ``newest(slug)`` is the newest version held before this run began.

    A version that this run has taken counts as held for what follows.  Triggers are passed over.
    """
    taken: dict[str, Version] = {}
    for item in found:
        definition, slug = item.definition, item.slug
        if item.kind == "trigger":
            continue
        if definition is None:
            is_skip = Verdict(item, "skip", f"Skip processor {slug}: {item.refusal}")
            yield is_skip if item.is_skipped else refused(item, item.refusal)
            continue
        held = taken.get(slug) or newest(slug)
        if held is not None and held > definition.version:
            yield Verdict(item, "skip", f"Skip processor {slug}: newer version installed", definition.notes)
        elif held == definition.version and (not force or slug in taken):
            yield Verdict(item, "skip", f"Skip processor {slug}: same version installed", definition.notes)
        else:
            taken[slug] = definition.version
            action, word = ("update", "Updated") if held == definition.version else ("insert", "Inserted")
            yield Verdict(item, action, f"{word} {slug}", definition.notes)


def judge_trigger(found: Found, process: Definition | None, held: str | None) -> Verdict:
    """Return the verdict on a trigger: ``process`` is what it would run, ``held`` the digest it is registered with."""
    trigger, slug = found.trigger, found.slug
    if trigger is None:
        return refused(found, found.refusal)
    if process is None:
        return _unfit(found, ("process",), f"There is no active process '{trigger.process}'")
    known = {field["name"]: field for field in process.input}
    for name, value in trigger.input.items():
        if name not in known:
            return _unfit(found, ("input", name), f"The process {process.slug} has no input '{name}'")
        if not isinstance(value, str | dict) and "type" in known[name]:
            try:
                check_value(known[name], value)
            except BadValue as error:
                return _unfit(found, ("input", name), error.message)
    missing = [
        name
        for name, field in known.items()
        if name not in trigger.input and "type" in field and field.get("required", True) and "default" not in field
    ]
    if missing:
        return _unfit(found, ("input",), f"The process {process.slug} also needs the input '{missing[0]}'")
    if held == trigger.digest:
        return Verdict(found, "skip", f"Skip trigger {slug}: the same is registered")
    action, word = ("update", "Updated") if held else ("insert", "Inserted")
    return Verdict(found, action, f"{word} trigger {slug}")


def refused(found: Found, reason: str) -> Verdict:
    """Return the verdict that refuses ``found`` for ``reason``."""
    return Verdict(found, "refuse", f"VALIDATION ERROR: {found.slug or found.file.name}: {reason}")


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


def _trigger(path: Path, part: Document) -> Found:
    slug = str(part.value["trigger"])[:100]
    try:
        return Found(path, part.line(), slug, kind="trigger", trigger=define_trigger(part))
    except Refused as error:
        return Found(path, error.line, slug, refusal=error.message, kind="trigger")


def _unfit(found: Found, where: tuple[str | int, ...], reason: str) -> Verdict:
    """Refuse a trigger for what stands at ``where`` in it."""
    lines = found.trigger.lines if found.trigger else {}
    return refused(replace(found, line=Document(None, lines).line(where)), reason)


def _files(folder: Path, unread: Callable[[OSError], None]) -> Iterator[Path]:
    if folder.is_file():
        yield folder
        return
    for parent, folders, names in os.walk(folder, onerror=unread):
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
