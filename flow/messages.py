"""The rules of the re-* commands: from a call to the messages that it means (``docs/flow-process.md#commands``)."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .channel import UNREADABLE, Call
from .plain import clean, code, read, text
from .shelf import Collector
from .view import View

# parameters as the commands declare them, for complaints about their number
PARAMETERS: dict[str, tuple[str, ...]] = {
    "save": ("key", "value"),
    "save_value": ("key", "value"),
    "save_list": ("key", "*values"),
    "save_file": ("key", "file_path", "*refs"),
    "save_file_list": ("key", "*files_refs"),
    "save_dir": ("key", "dir_path", "*refs"),
    "save_dir_list": ("key", "*dirs_refs"),
    "info": ("value",),
    "warning": ("value",),
    "error": ("value",),
    "progress": ("progress",),
    "checkrc": ("rc", "*args"),
    "export_file": ("file_path",),
    "run": ("process_slug", "run"),
    "annotate_entity": ("key", "value"),
}
FUNCTIONS = {"export": "export_file", "annotate-entity": "annotate_entity"}  # others by their own name, - as _
MAX_DOCUMENT = 64 << 20  # bytes of a JSON file that re-save reads


@dataclass(frozen=True)
class Message:
    """What a call means: ``update_output``, ``process_log``, ``progress``, ``update_rc``, ``export_files``, ``run``
    or ``annotate``, with its data."""

    kind: str
    data: Any


class Commands:
    """Applies the rules for one run; saved files are taken over on the way."""

    def __init__(self, view: View, collector: Collector) -> None:
        """Look at files through ``view``, take them over by ``collector``."""
        self.view, self.collector = view, collector

    def messages(self, call: Call) -> list[Message]:
        """Return what ``call`` means.  Whatever is wrong with it becomes a message too: nothing is raised but what
        the shelf raises on purpose (a ServiceError: cancelled, no space)."""
        if call.name == UNREADABLE:
            return [_log("error", "A message of the program could not be read.")]
        function = FUNCTIONS.get(call.name, call.name.replace("-", "_"))
        if function not in PARAMETERS:
            return [_log("error", f"Unknown command: {text(call.name)!r:.100}")]
        try:
            _check_count(function, len(call.arguments))
            rule: Callable[..., Iterator[Message]] = getattr(self, f"_{function}")
            return list(rule(call.directory, *call.arguments))
        except (ValueError, TypeError, OSError, RecursionError) as error:
            return [_log("error", f"Unexpected error in 're-{call.name}': {_reason(error)}")]

    def _save(self, base: str, key: str, value: str) -> Iterator[Message]:
        yield _output(key, self._value(value, base))

    def _save_value(self, base: str, key: str, value: str) -> Iterator[Message]:
        """As ``_save``, for what was no file's name when it was said, whatever has that name now."""
        yield _output(key, _json_or_text(value))

    def _save_list(self, base: str, key: str, *values: str) -> Iterator[Message]:
        yield _output(key, [self._value(value, base) for value in values])

    def _save_file(self, base: str, key: str, path: str, *refs: str) -> Iterator[Message]:
        yield self._entries(base, key, "file", [(path, list(refs))], single=True)

    def _save_dir(self, base: str, key: str, path: str, *refs: str) -> Iterator[Message]:
        yield self._entries(base, key, "dir", [(path, list(refs))], single=True)

    def _save_file_list(self, base: str, key: str, *specifications: str) -> Iterator[Message]:
        yield self._list(base, key, "file", specifications)

    def _save_dir_list(self, base: str, key: str, *specifications: str) -> Iterator[Message]:
        yield self._list(base, key, "dir", specifications)

    def _list(self, base: str, key: str, kind: str, specifications: tuple[str, ...]) -> Message:
        entries = []
        for specification in specifications:
            path, *refs = specification.split(":")
            if len(refs) > 1:
                return _log("error", f"Only one colon ':' allowed in {kind}-refs specification.")
            entries.append((path, [ref.strip() for ref in refs[0].split(",")] if refs and refs[0] else []))
        return self._entries(base, key, kind, entries, single=False)

    def _entries(
        self, base: str, key: str, kind: str, entries: list[tuple[str, list[str]]], *, single: bool
    ) -> Message:
        """Check all of ``entries`` before the first is taken over."""
        for path, refs in entries:
            if self._kind(path, base) != kind:
                word = "directory" if kind == "dir" else "file"
                return _log("error", f"Output '{text(key)}' set to a missing {word}: '{text(path)}'.")
            missing = [ref for ref in refs if not self._kind(ref, base)]
            if missing:
                return _log("error", f"Output '{text(key)}' set to missing references: '{text(', '.join(missing))}'.")
        saved = [self._take({kind: path, **({"refs": refs} if refs else {})}, kind, base) for path, refs in entries]
        return _output(key, saved[0] if single else saved)

    def _kind(self, path: str, base: str) -> str:
        """What is at ``path``, provided that the working directory holds it by name."""
        return self.view.kind(path, base) if self.view.name(path, base) is not None else ""

    def _take(self, value: dict[str, Any], kind: str, base: str) -> dict[str, Any]:
        """Take the files of ``value`` over and return it with sizes and with names relative to the directory."""
        refs = value.get("refs", [])
        size, total = self.collector.take(value[kind], refs, base)
        named = {**value, kind: self.view.name(value[kind], base)}
        if "refs" in value:
            named["refs"] = [self.view.name(ref, base) for ref in refs]
        return {**named, "size": size, "total_size": total}

    def _value(self, said: str, base: str) -> Any:
        """Apply the value rules of ``re-save``."""
        said = said.replace("\n", " ")
        try:
            value = read(said)
        except (ValueError, RecursionError):
            value = said
        if isinstance(value, dict):
            kind = next((kind for kind in ("file", "dir") if kind in value), "")
            if kind:
                refs = value.get("refs", [])
                if (
                    not isinstance(value[kind], str)
                    or not isinstance(refs, list)
                    or not all(isinstance(ref, str) for ref in refs)
                ):
                    raise ValueError(f"'{kind}' must be text and 'refs' a list of texts")
                return self._take(value, kind, base)
        elif isinstance(value, str) and self._kind(value, base) == "file":
            return self._document(value, base)
        return clean(value)

    def _document(self, path: str, base: str) -> Any:
        with os.fdopen(self.view.open(path, base), "rb") as file:
            content = file.read(MAX_DOCUMENT + 1)
        if len(content) > MAX_DOCUMENT:
            raise ValueError(f"The JSON file is larger than {MAX_DOCUMENT} bytes")
        try:
            return read(content)
        except (ValueError, RecursionError) as error:
            beginning = content[:1000].decode("utf-8", "replace")
            raise ValueError(f"Value must be a valid JSON, current: {beginning}") from error

    def _info(self, base: str, value: str) -> Iterator[Message]:
        yield _log("info", text(value))

    def _warning(self, base: str, value: str) -> Iterator[Message]:
        yield _log("warning", text(value))

    def _error(self, base: str, value: str) -> Iterator[Message]:
        yield _log("error", text(value))

    def _progress(self, base: str, value: str) -> Iterator[Message]:
        try:
            share = float(json.loads(value))
        except (TypeError, ValueError, OverflowError):
            yield _log("warning", "Progress must be a float.")
            return
        yield (
            Message("progress", round(share * 100))
            if 0 <= share <= 1
            else _log("warning", "Progress must be a float between 0 and 1.")
        )

    def _checkrc(self, base: str, rc: str, *rest: str) -> Iterator[Message]:
        codes, said = [], ""
        for position, word in enumerate((rc, *rest)):
            try:
                codes.append(code(word))
            except ValueError:
                if not 0 < position == len(rest):
                    yield _log("error", f"Invalid return code: '{text(word)}'.")
                    return
                said = text(word)
        given = 0 if codes[0] in codes[1:] else codes[0]
        yield Message("update_rc", {"rc": given, **({"error": said} if given and said else {})})

    def _export_file(self, base: str, path: str) -> Iterator[Message]:
        if self._kind(path, base) != "file":
            yield _log("error", f"Referenced file does not exist: '{text(path)}'.")
            return
        self.collector.take(path, [], base)
        yield Message("export_files", [self.view.name(path, base)])

    def _run(self, base: str, slug: str, values: str) -> Iterator[Message]:
        yield Message("run", {"process": text(slug), "input": _json_or_text(values)})

    def _annotate_entity(self, base: str, path: str, value: str) -> Iterator[Message]:
        yield Message("annotate", {text(path): _json_or_text(value)})


def _check_count(function: str, given: int) -> None:
    """Complain about a wrong number of arguments in Python's own words."""
    parameters = PARAMETERS[function]
    names = [name for name in parameters if not name.startswith("*")]
    if given < len(names):
        missing = [f"'{name}'" for name in names[given:]]
        raise TypeError(
            f"{function}() missing {len(missing)} required positional argument{'s'[: len(missing) > 1]}: "
            + " and ".join(missing)
        )
    if given > len(names) and len(names) == len(parameters):
        raise TypeError(
            f"{function}() takes {len(names)} positional argument{'s'[: len(names) > 1]} but {given} were given"
        )


def _json_or_text(said: str) -> Any:
    said = said.replace("\n", " ")
    try:
        return read(said)
    except (ValueError, RecursionError):
        return text(said)


def _output(key: str, value: Any) -> Message:
    return Message("update_output", {text(key): value})


def _log(level: str, said: str) -> Message:
    return Message("process_log", {level: said})


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeEncodeError):
        return "The name of the file is not UTF-8."
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {text(str(error.filename))!r}"  # a path as the program spelled it
    return str(error)[:2000]
