"""What a run has said so far: outputs, messages, return code, progress.  Pure; the dispatcher writes it to SQL.

Once a run has an error, its later saves and messages are refused, so that the first cause stands; ``refused`` counts
them, because a program that runs on after a failed ``re-checkrc`` would otherwise lose work without a word.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .fields import Field, References, check, find
from .messages import Message
from .values import BadValue

MAX_TEXT = 255
MAX_TEXTS = 1000  # of each kind
MAX_STARTED = 1000  # by re-run
MAX_BYTES = 64 << 20  # of all outputs, documents, annotations and inputs of what is started, as JSON
MAX_GROUPS = 64  # within each other, as deep as a definition can be
NO_ERROR = "Unspecified error"
BAD_EXIT = "Process return code is not 0."


@dataclass
class Report:
    """The account of one run.

    ``store`` keeps a document of a ``basic:json:`` output and returns its id; ``changed`` names what ``apply`` has
    touched since the caller last cleared it.
    """

    output_schema: list[Field]
    store: Callable[[Any], int]
    output: dict[str, Any] = field(default_factory=dict)
    info: list[str] = field(default_factory=list)
    warning: list[str] = field(default_factory=list)
    error: list[str] = field(default_factory=list)
    rc: int | None = None
    progress: int = 0
    failed: bool = False
    exported: dict[str, int] = field(default_factory=dict)  # which of them it was, by name
    spawned: list[dict[str, Any]] = field(default_factory=list)
    annotations: dict[str, Any] = field(default_factory=dict)
    refused: int = 0
    changed: set[str] = field(default_factory=set)
    _sizes: dict[tuple[str, object], int] = field(default_factory=dict)
    _bytes: int = 0  # the sum of these

    def apply(self, message: Message) -> None:
        """Take one message; refused, and counted, once the run has an error."""
        if self.failed:
            self.refused += 1
            return
        try:
            getattr(self, f"_{message.kind}")(message.data)
        except BadValue as error:
            self.fail(error.message)

    def fail(self, text: str) -> None:
        """Add an error; the run will end ER."""
        self._process_log({"error": text})

    def finish(
        self, exit_code: int, values: dict[str, Any], input_schema: list[Field], references: References | None = None
    ) -> None:
        """Close the account: return code, then, if nothing failed, the check of inputs and outputs."""
        self.progress = 100
        self.changed.add("progress")
        if exit_code != 0:
            if not self.failed:
                self.fail(BAD_EXIT)
            self.rc = exit_code
            self.changed.add("rc")
        if not self.failed:
            try:
                check(input_schema, values, references=references)
                check(self.output_schema, self.output, references=references)
            except BadValue as error:
                self.fail(error.message)
        if self.refused:
            text = f"{self.refused} later messages of the program were refused because of the error above"
            self._add("warning", text)

    @property
    def status(self) -> str:
        """``ER`` or ``OK``, as it would be if the run ended now."""
        return "ER" if self.failed else "OK"

    def _update_output(self, data: dict[str, Any]) -> None:
        for key, value in data.items():
            try:
                item: Field | None = find(self.output_schema, key)
            except KeyError:
                item = None  # kept, and complained about at the end
            if value is None and item is not None and not item.get("required", True):
                _put(self.output, key, None)
                continue
            if item is not None and item.get("type") == "basic:json:":
                self._weigh("document", len(self._sizes), value)  # an earlier one of this key stays where it is
                value = self.store(value)
            self._weigh("output", key, value)
            _put(self.output, key, value)
        self.changed.add("output")

    def warn(self, text: str) -> None:
        """Add a warning of our own."""
        self._add("warning", text)

    def _process_log(self, data: dict[str, Any]) -> None:
        for level, text in data.items():
            self._add(level, str(text))
            self.failed = self.failed or level == "error"

    def _add(self, level: str, text: str) -> None:
        texts: list[str] = getattr(self, level)
        text = text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 3] + "..."
        if text not in texts and len(texts) < MAX_TEXTS:
            texts.append(text)
            self.changed.add(level)

    def _progress(self, percent: int) -> None:
        self.progress = percent
        self.changed.add("progress")

    def _update_rc(self, data: dict[str, Any]) -> None:
        rc = data["rc"]
        if rc not in (0, self.rc):
            if not self.rc:
                self.fail(data.get("error", NO_ERROR))
            self.rc = rc
            self.changed.add("rc")

    def _export_files(self, names: list[str]) -> None:
        for name in names:
            self.exported.setdefault(name, len(self.exported))

    def _run(self, data: dict[str, Any]) -> None:
        if len(self.spawned) >= MAX_STARTED:
            raise BadValue(f"A program starts at most {MAX_STARTED} others")
        self._weigh("run", len(self.spawned), data)
        self.spawned.append({**data, "exported": len(self.exported)})
        self.changed.add("spawned")

    def _annotate(self, data: dict[str, Any]) -> None:
        if len(self.annotations) + len(data) > MAX_TEXTS:
            self._add("warning", f"More than {MAX_TEXTS} annotations: the others are dropped")
            return
        for key, value in data.items():
            self._weigh("annotation", key, value)
        self.annotations.update(data)

    def _weigh(self, kind: str, key: object, value: Any) -> None:
        """Count what is to be kept, in the place of what has the same key.  BadValue when it is too much."""
        size = len(str(key)) + len(json.dumps(value)) + 100  # what a name and a value of nothing take
        total = self._bytes + size - self._sizes.get((kind, key), 0)
        if total > MAX_BYTES:
            raise BadValue(f"What the program saves takes more than {MAX_BYTES >> 20} MiB beside its files")
        self._sizes[kind, key], self._bytes = size, total


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    *groups, last = key.split(".")
    if len(groups) > MAX_GROUPS:
        raise BadValue(f"Field definition ({key}) missing in schema", field=key[:MAX_TEXT])
    for group in groups:
        inner = values.setdefault(group, {})
        if not isinstance(inner, dict):
            raise BadValue(f"Value of field '{group}' is not a valid group. Current value: {inner!r:.200}", field=group)
        values = inner
    values[last] = value
