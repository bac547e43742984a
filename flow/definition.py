"""Process definitions: from a document of YAML to a sound, completed, immutable definition."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

from .document import Document, Refused, Skipped
from .fields import Field, Values, leaves
from .shape import check_fields, validate
from .values import fillable
from .workflow import check_program

LANGUAGES = ("bash", "workflow")
LATER = {"python": "processes in Python come later"}
ENGINES = ("jinja",)
STEPS = {"name": "steps", "label": "Steps", "type": "list:data:"}
PLAIN = ("slug", "name", "type", "category", "data_name", "description", "persistence", "scheduling_class")
CATEGORY = re.compile(r"^([a-zA-Z0-9]+[:\-])*[a-zA-Z0-9]+:\Z", re.ASCII)
_VERSION = re.compile(r"^(?:\d{1,3}\.)?(?:\d{1,3}\.)?\d{1,3}\Z", re.ASCII)


class Version(NamedTuple):
    """Major, minor and patch, each 0 to 999; missing parts count as 0."""

    major: int
    minor: int = 0
    patch: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``1``, ``1.2`` or ``1.2.3``; ValueError for anything else."""
        if not _VERSION.match(text):
            raise ValueError(f"not a version: {text!r}")
        return cls(*map(int, text.split(".")))

    def __str__(self) -> str:
        return ".".join(map(str, self))


@dataclass(frozen=True, kw_only=True)
class Definition:
    """One process in one version, completed: every key has a value, every type its end colon."""

    slug: str
    name: str
    version: Version
    type: str
    category: str = "Other:"
    data_name: str = ""
    description: str = ""
    persistence: str = "RAW"
    scheduling_class: str = "batch"
    language: str = "bash"
    program: Any = ""
    input: list[Field] = field(default_factory=list)
    output: list[Field] = field(default_factory=list)
    requirements: dict[str, Any] = field(default_factory=dict)
    entity: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()  # what an author should know although it is accepted
    source: str = ""  # file name and line, for people
    line: int = 0

    @property
    def document(self) -> dict[str, Any]:
        """The definition as JSON; ``restore`` is the way back."""
        names = (*PLAIN, "input", "output", "requirements", "entity")
        return {
            "version": str(self.version),
            "run": {"language": self.language, "program": self.program},
            **{name: getattr(self, name) for name in names},
        }

    @property
    def digest(self) -> str:
        """SHA-256 (64 lower-case hex) of all that can change a result; names, labels and texts for people cannot."""
        said = {
            name: value
            for name, value in self.document.items()
            if name in ("slug", "version", "type", "run", "requirements")
        }
        said |= {"input": _bare(self.input), "output": _bare(self.output)}
        return hashlib.sha256(json.dumps(said, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    @property
    def engine(self) -> str | None:
        """The name of the expression engine that was asked for, if one was."""
        return self.requirements.get("expression-engine")

    @property
    def is_interactive(self) -> bool:
        """Whether somebody waits for its runs: they have a queue of their own and little time."""
        return self.scheduling_class == "interactive"

    @property
    def network(self) -> bool:
        """Whether the program may use the network: only where the key is there and true."""
        return self.requirements.get("resources", {}).get("network") is True


def restore(document: Mapping[str, Any]) -> Definition:
    """Build the definition that ``document`` (a ``Definition.document``) came from."""
    rest = {key: value for key, value in document.items() if key not in ("version", "run")}
    return Definition(
        version=Version.parse(document["version"]),
        language=document["run"]["language"],
        program=document["run"]["program"],
        **rest,
    )


def define(document: Document, source: str = "") -> Definition:
    """Check and complete one entry of a process file.  Raises Refused with the line of what is wrong."""
    value = document.value
    if not isinstance(value, dict):
        raise Refused("A process must be an object", document.line())
    value = _normalise(value, document)
    _check_shape(value, document)
    entity = _entity(value, document)
    run = value["run"]
    language = run.get("language", "bash")
    _check_engine(value, language, document)
    output = list(value.get("output", []))
    if language == "workflow":
        if any(item["name"] == "steps" for item in output):
            raise Refused("The output 'steps' is the workflow engine's own", document.line(("output",)))
        output.append(dict(STEPS))
    known = {name: value[name] for name in (*PLAIN, "requirements") if name in value}
    return Definition(
        version=Version.parse(value["version"]),
        language=language,
        program=run.get("program", ""),
        input=value.get("input", []),
        output=output,
        entity=entity,
        line=document.line(),
        source=source,
        notes=tuple(_notes(value)),
        **known,
    )


def _normalise(value: dict[str, Any], document: Document) -> dict[str, Any]:
    """Return a copy with ``flow_collection`` as entity type and an end colon on each type and on the category."""
    value = dict(value)
    if "flow_collection" in value:
        if "entity" in value:
            raise Skipped(
                "only one of 'flow_collection' and 'entity' fields allowed", document.line(("flow_collection",))
            )
        value["entity"] = {"type": value.pop("flow_collection")}
    for key in ("type", "category"):
        if isinstance(value.get(key), str) and not value[key].endswith(":"):
            value[key] += ":"
    for key in ("input", "output"):
        if isinstance(value.get(key), list):
            value[key] = [_colon(item) for item in value[key]]
    return value


def _colon(item: Any) -> Any:
    """Return the field with its type completed, inside groups too; ``basic:group`` stays as it is."""
    if not isinstance(item, dict):
        return item
    item = dict(item)
    if isinstance(item.get("group"), list):
        item["group"] = [_colon(inner) for inner in item["group"]]
    type_ = item.get("type")
    if isinstance(type_, str) and type_ != "basic:group" and not type_.endswith(":"):
        item["type"] = type_ + ":"
    return item


def _check_shape(value: dict[str, Any], document: Document) -> None:
    validate("process", value, document)
    for key in ("input", "output"):
        check_fields(value.get(key, []), document, key)


def _entity(value: dict[str, Any], document: Document) -> dict[str, Any] | None:
    entity: dict[str, Any] | None = value.get("entity")
    if entity is not None and "type" not in entity:
        raise Refused("'entity' needs a 'type'", document.line(("entity",)))
    if entity is not None and entity.get("always_create") is True and "input" in entity:
        raise Refused("'entity.input' and 'entity.always_create: true' exclude each other", document.line(("entity",)))
    return entity


def _check_engine(value: dict[str, Any], language: str, document: Document) -> None:
    if language not in LANGUAGES:
        later = f": {LATER[language]}" if language in LATER else ""
        raise Skipped(f"execution engine '{language}' not supported{later}", document.line(("run", "language")))
    engine = value.get("requirements", {}).get("expression-engine")
    if engine is not None and engine not in ENGINES:
        raise Refused(
            f"expression engine '{engine}' not supported", document.line(("requirements", "expression-engine"))
        )
    program = value["run"].get("program", "")
    if language == "workflow":
        check_program(program, document.part("run"), value["slug"])
    elif not isinstance(program, str):
        raise Refused("The program of the bash engine must be text", document.line(("run", "program")))


def _notes(value: dict[str, Any]) -> Iterator[str]:
    """Say what is accepted and yet cannot work, or works otherwise than the author may think."""
    for key in ("input", "output"):
        for item, _, path in leaves(value.get(key, []), {}):
            if not fillable(item["type"]):
                yield f"{key} '{path}': no value has the type {item['type']}, so it can never be given"
    if not CATEGORY.match(value.get("category", "Other:")):
        yield f"the category '{value['category']}' is outside the pattern {CATEGORY.pattern}"
    resources_ = value.get("requirements", {}).get("resources", {})
    if resources_.get("network") is False:
        yield "'network: false' means no network (Resolwe 45 would open it)"
    if "docker" in value.get("requirements", {}).get("executor", {}):
        yield "the container image is ignored: the program runs with what this host has installed"


def _bare(fields: list[Field]) -> list[Values]:
    """Return the fields without what is for people only."""
    told = ("label", "description", "placeholder", "hidden", "disabled", "collapsed")
    bare = [{key: value for key, value in item.items() if key not in told} for item in fields]
    return [{**item, "group": _bare(item["group"])} if "group" in item else item for item in bare]
