"""Inputs as templates see them: ids replaced by the parents' outputs, stored names by paths.

Pure: rows come in as ``Record`` through the functions of a ``World``.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from .fields import Field

URLS = ("http://", "https://", "ftp://", "s3://")


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a template may know of a data object."""

    id: int
    type: str = "data:"
    name: str = ""
    slug: str = ""
    input: Mapping[str, Any] = field(default_factory=dict)
    input_schema: list[Field] = field(default_factory=list)
    output: Mapping[str, Any] = field(default_factory=dict)
    output_schema: list[Field] = field(default_factory=list)
    descriptor: Mapping[str, Any] = field(default_factory=dict)
    named_by_user: bool = True  # the name of an unnamed parent is empty
    entity_id: int | None = None
    entity_name: str | None = None


class World(Protocol):
    """What hydration and filters ask of the rest of the suite."""

    host_url: str

    def data(self, id: int) -> Record | None:
        """Return the data object, None when it is gone."""

    def data_by_slug(self, slug: str) -> int | None:
        """Return the id of the data object with ``slug``."""

    def document(self, id: int) -> Any:
        """Return the stored document of a ``basic:json:`` value."""

    def path(self, data_id: int, name: str) -> str:
        """Return where the program will find the stored file ``name`` of ``data_id``."""

    def upload(self, name: str) -> str:
        """Return where the program will find the uploaded file ``name`` (a ``file_temp``)."""

    def folder(self, name: str) -> str:
        """Return where the program will find the folder ``name`` (a ``dir`` of its own input)."""


class StoredPath(str):
    """The path of a stored file: text that remembers its owner and its name there."""

    data_id: int
    name: str

    def __new__(cls, path: str, data_id: int, name: str) -> "StoredPath":
        """Say that ``path`` is the file ``name`` of data object ``data_id``."""
        self = super().__new__(cls, path)
        self.data_id, self.name = data_id, name
        return self


class Lazy(Mapping[str, Any]):
    """An object whose values are made when they are first asked for; a value of it is made once."""

    def __init__(self, makers: Mapping[str, Callable[[], Any]]) -> None:
        """Keep ``makers``, by key."""
        self._makers, self._made = makers, dict[str, Any]()

    def __getitem__(self, key: str) -> Any:
        if key not in self._made:
            self._made[key] = self._makers[key]()
        return self._made[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)

    def __repr__(self) -> str:
        return repr(dict(self))  # printed as the object that it stands for


def context(
    world: World,
    data_id: int,
    fields: list[Field],
    values: Mapping[str, Any],
    requirements: Mapping[str, Any],
    resources: Mapping[str, int],
    *,
    names: bool = False,
) -> dict[str, Any]:
    """Return the names that a program's template sees: inputs, then ``proc`` and ``requirements``, which shadow them.

    ``resources`` are the effective cores, memory and storage.  With ``names`` (for ``data_name``) stored names stand
    where paths would.
    """
    hydrated = _group(world, fields, values, None, names)
    return {**hydrated, "proc": {"data_id": data_id}, "requirements": {**requirements, "resources": dict(resources)}}


def hydrated_data(world: World, id: int | None, *, names: bool = False) -> Any:
    """Return a data object as a template sees it: its outputs and ``__id``, ``__type``, ...; ``{}`` if it is gone."""
    if id is None:
        return None
    record = world.data(id)
    if record is None:
        return {}
    makers = _makers(world, record.output_schema, record.output, record.id, names)
    facts = {
        "__id": record.id,
        "__type": record.type,
        "__name": record.name if record.named_by_user else "",
        "__descriptor": record.descriptor,
        "__entity_id": record.entity_id,
        "__entity_name": record.entity_name,
        "__output_schema": record.output_schema,
    }
    return Lazy({**makers, **{key: _constant(value) for key, value in facts.items()}})


def hydrated_input(world: World, record: Record, path: str) -> Any:
    """Return the hydrated value at the dotted ``path`` of ``record``'s inputs; KeyError when it is not there."""
    value: Any = _group(world, record.input_schema, record.input, None, False)
    for step in path.split("."):
        value = value[step]
    return value


def _group(world: World, fields: list[Field], values: Mapping[str, Any], owner: int | None, names: bool) -> Lazy:
    return Lazy(_makers(world, fields, values, owner, names))


def _makers(
    world: World, fields: list[Field], values: Mapping[str, Any], owner: int | None, names: bool
) -> dict[str, Callable[[], Any]]:
    """Return how to make each value; a value whose field is unknown stays as it is."""
    known = {item["name"]: item for item in fields}
    return {key: _maker(world, known.get(key), value, owner, names) for key, value in values.items()}


def _maker(world: World, item: Field | None, value: Any, owner: int | None, names: bool) -> Callable[[], Any]:
    if item is None:
        return lambda: value
    if "group" in item:
        return lambda: _group(world, item["group"], value or {}, owner, names)
    if item["type"].startswith("list:"):
        single = item["type"].removeprefix("list:")
        return lambda: (
            None
            if value is None
            else [
                _value(world, single, part, owner, names)
                for part in value
                if part is not None or not single.startswith("data:")
            ]
        )
    return lambda: _value(world, item["type"], value, owner, names)


def _value(world: World, type_: str, value: Any, owner: int | None, names: bool) -> Any:
    if value is None:
        return None
    if type_.startswith("data:"):
        return hydrated_data(world, value, names=names)
    if type_ == "basic:json:":
        return world.document(value)
    if type_.startswith(("basic:file:", "basic:dir:")) and isinstance(value, dict):
        return _stored(world, value, owner, names) if owner is not None else _own_file(world, value)
    return value


def _stored(world: World, value: Mapping[str, Any], owner: int, names: bool) -> dict[str, Any]:
    """A file or directory in a parent's output: paths, and ``refs`` even if empty."""

    def place(name: str) -> StoredPath:
        return StoredPath(name if names else world.path(owner, name), owner, name)

    changed = {key: place(value[key]) for key in ("file", "dir") if key in value}
    return {**value, **changed, "refs": [place(name) for name in value.get("refs", [])]}


def _own_file(world: World, value: Mapping[str, Any]) -> dict[str, Any]:
    """A file or folder in the object's own input: a ``file_temp`` lies in the upload folder, unless it is a URL."""
    if "dir" in value:
        return {**value, "dir": world.folder(value["dir"])}
    temporary = value.get("file_temp")
    if not temporary or temporary.startswith(URLS):
        return dict(value)
    return {**value, "file_temp": world.upload(temporary)}


def _constant(value: Any) -> Callable[[], Any]:
    return lambda: value
