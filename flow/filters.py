"""The filters that process definitions have beside Jinja's own (``docs/flow-process.md#filters``)."""

import json
import posixpath
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any

from ..common.errors import BadConfiguration
from .hydrate import Record, StoredPath, World, hydrated_input

Filter = Callable[..., Any]


def filters(world: World, modules: Iterable[str] = ()) -> dict[str, Filter]:
    """Return the filters; each of ``modules`` adds its dictionary ``filters``, later ones win."""
    found: dict[str, Filter] = {
        "id": _each(lambda value: value["__id"]),
        "type": _each(lambda value: value["__type"]),
        "name": _each(lambda value: _record(world, value).name),
        "slug": _each(lambda value: _record(world, value).slug),
        "input": lambda value, path: hydrated_input(world, _record(world, value), path),
        "subtype": lambda value, wanted: _each(lambda item: item.startswith(wanted))(value),
        "basename": posixpath.basename,
        "dirname": posixpath.dirname,
        "yesno": lambda value, yes, no: yes if value else no,
        "data_by_slug": lambda slug: _there(world.data_by_slug(slug)),
        "relative_path": _relative_path,
        "get_url": lambda value: _url(world, value),
        "descriptor": lambda value, path="": _descriptor(_record(world, value), path),
        "all": all,
        "any": any,
    }
    for module in modules:
        found.update(_load(module))
    return found


def _each(function: Callable[[Any], Any]) -> Filter:
    """Apply ``function`` to a value, or to each item of a list."""
    return lambda value: [function(item) for item in value] if isinstance(value, list) else function(value)


def _there(value: Any) -> Any:
    if value is None:
        raise LookupError
    return value


def _record(world: World, value: Any) -> Record:
    """Find the data object that a hydrated value or a bare id names."""
    record: Record = _there(world.data(value if isinstance(value, int) else value["__id"]))
    return record


def _path(value: Any) -> StoredPath:
    path = value if isinstance(value, str) else value["file" if "file" in value else "dir"]
    if not isinstance(path, StoredPath):
        raise TypeError("not the path of a stored file")
    return path


def _relative_path(value: Any) -> str:
    return _path(value).name


def _url(world: World, value: Any) -> str:
    path = _path(value)
    return f"{world.host_url}/data/{path.data_id}/{path.name}"


def _descriptor(record: Record, path: str) -> Any:
    value: Any = record.descriptor
    for step in path.split(".") if path else ():
        value = value[step]
    return json.dumps(value) if isinstance(value, list | Mapping) else value


def _load(module: str) -> dict[str, Filter]:
    try:
        found = import_module(module).filters
    except (ImportError, AttributeError) as error:
        raise BadConfiguration(f"The filter module {module} cannot be used: {error}") from error
    if not isinstance(found, dict):
        raise BadConfiguration(f"The filters of module {module} are no dictionary")
    return found
