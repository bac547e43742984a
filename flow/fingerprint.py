"""What the result of a run depends on, as digests: the parts of its reuse key (docs/flow.md#reuse).

The parts are the process definition, the runtime and the executor, the tools folders, and each input: a data object
counts by the content of its outputs, a file by its name and the digest that the archive has of it, a document by its
text, anything else by its value.  A part can only be known once all parents are OK.
"""

import hashlib
import json
import re
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..common import ledger
from ..common.errors import BadRequest
from .definition import Definition
from .executor import RUNTIME
from .fields import Field, Values, leaves
from .hydrate import URLS
from .orm import Data, Process, Storage
from .register import LIBRARY
from .resources import effective
from .world import archived_id

RULES = 1  # raise it when templates, hydration or the re-* commands come to mean something else
# what shows a template who its parents are, and not only what they hold
_IDENTITY = re.compile(r"\|\s*(id|name|slug|input|descriptor|get_url|data_by_slug)\b|__(id|name)\b")


class NoContent(BadRequest):
    """An input has no digest, so that nothing can be said about a run on it."""

    code = "no_content"


def checksum(slug: str, version: str, values: Values) -> str:
    """Return the original's key of ``get_or_create``: SHA-256 (64 lower-case hex) of completed input, slug, version."""
    text = json.dumps(values, sort_keys=True) + slug + version
    return hashlib.sha256(text.encode()).hexdigest()


def parts(
    process: Process, values: Values, resources: Mapping[str, int], executor: str, folders: Iterable[str]
) -> dict[str, str]:
    """Return the digest of each part of a run of ``process``, by name; inputs are ``input.<path>``.

    ``resources`` are the object's overrides, ``folders`` the process folders.  NoContent when an input has none.
    """
    definition = process.definition
    program = json.dumps(definition.program)
    found = {
        "process": process.digest,
        "runtime": digest([RULES, _folder(RUNTIME), executor]),
        "tools": digest([_folder(tools) for tools in _tools(folders) if tools.is_dir()]),
    }
    if "requirements" in program:
        found["resources"] = digest(effective(definition, resources, values))
    inputs = _Inputs(definition, values, identity=bool(_IDENTITY.search(program)))
    return found | {f"input.{path}": digest(inputs.content(field, value)) for field, value, path in inputs.given}


def _tools(folders: Iterable[str]) -> list[Path]:
    return [Path(folder) / "tools" for folder in (*folders, str(LIBRARY))]


def key(parts: Mapping[str, str]) -> str:
    """Return the reuse key (64 lower-case hex) of ``parts``."""
    return digest(parts)


def content(output: Mapping[str, Any], schema: list[Field], files: Iterable[tuple[str, str]]) -> str:
    """Return the digest of a result: its outputs, the text of its documents, and its ``files`` (name, sha256)."""
    documents = {}
    for field, holder, path in leaves(schema, dict(output)):
        value = holder.get(field["name"])
        if field["type"] == "basic:json:" and value is not None:
            documents[path] = _document(value)
    return digest([_without(output, documents), documents, sorted(files)])


def digest(value: Any) -> str:
    """Return the SHA-256 (64 lower-case hex) of ``value`` as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class _Inputs:
    """The inputs of one run; what they point at is asked for once."""

    def __init__(self, definition: Definition, values: Values, *, identity: bool) -> None:
        self.identity = identity
        self.given = [
            (field, holder[field["name"]], path)
            for field, holder, path in leaves(definition.input, values)
            if field["name"] in holder
        ]
        data, files = set[int](), set[int]()
        for field, value, _ in self.given:
            for one in value if isinstance(value, list) else [value]:
                if one is not None and _single(field).startswith("data:"):
                    data.add(one)
                elif one is not None and _single(field).startswith("basic:file:"):
                    files |= {archived_id(name) for name in [one.get("file_temp") or ""] if not name.startswith(URLS)}
        self.parents = {row.id: row for row in Data.select().where(Data.id.in_(list(data)))} if data else {}
        self.files = ledger.locate(files)

    def content(self, field: Field, value: Any) -> Any:
        if isinstance(value, list):
            return [self._one(_single(field), item) for item in value]
        return self._one(_single(field), value)

    def _one(self, type_: str, value: Any) -> Any:
        if value is None:
            return None
        if type_.startswith("data:"):
            return self._parent(value)
        if type_.startswith("basic:file:"):
            return self._file(value)
        return _document(value) if type_ == "basic:json:" else value

    def _parent(self, id: int) -> Any:
        row = self.parents.get(id)
        if row is None:
            raise NoContent(f"Data object {id} is gone.")
        # of unknown content, as a workflow whose steps have none, it stands for itself
        known = [row.type, row.content] if row.content else [row.id]
        return [*known, row.id, row.name, row.slug] if self.identity else known

    def _file(self, value: Mapping[str, Any]) -> Any:
        name = value.get("file_temp") or ""
        held = None if name.startswith(URLS) else self.files.get(archived_id(name))
        if held is None:
            raise NoContent(f"{name[:80]} is not in the archive.")
        return [value["file"], held.hashtype, held.hashsum, held.size]


def _single(field: Field) -> str:
    return str(field["type"]).removeprefix("list:")


def _document(id: int) -> str:
    held = Storage.get_or_none(Storage.id == id)
    if held is None:
        raise NoContent(f"Document {id} is gone.")
    return hashlib.sha256(held.json.encode()).hexdigest()


def _without(output: Mapping[str, Any], paths: Iterable[str], prefix: str = "") -> dict[str, Any]:
    kept = {}
    for name, value in output.items():
        path = prefix + name
        if path not in paths:
            kept[name] = _without(value, paths, f"{path}.") if isinstance(value, dict) else value
    return kept


_read: dict[Path, tuple[Any, str]] = {}
_reading = threading.Lock()


def _folder(root: Path) -> str:
    """Return a digest of the names, rights and bytes below ``root``; the bytes are read again when a file changed."""
    while True:
        with suppress(FileNotFoundError):  # somebody takes something away just now: what is left counts
            return _look(root)


def _look(root: Path) -> str:
    seen = []
    for path in sorted(path for path in root.rglob("*") if "__pycache__" not in path.parts):
        state = path.stat() if path.exists() else path.lstat()
        seen.append((str(path.relative_to(root)), state.st_mode, state.st_size, state.st_mtime_ns, state.st_ino))
    with _reading:
        held = _read.get(root)
    if held is None or held[0] != seen:
        files = [(name, mode, _bytes(root / name)) for name, mode, *_ in seen if (root / name).is_file()]
        held = (seen, digest(files))
        with _reading:
            _read[root] = held
    return held[1]


def _bytes(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
