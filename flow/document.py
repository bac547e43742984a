"""Read a YAML file of an administrator: plain data and the line of each part, or a reason to refuse it.

Built on the safe loader's parser.  Refused besides wrong syntax: files past ``MAX_BYTES``, nesting past
``MAX_DEPTH``, documents whose aliases expand past ``MAX_NODES``, aliases of something inside itself, keys given
twice, keys that are no text, texts that no database takes (NUL, lone surrogates), and every tag that has no place in
JSON (dates, binary, sets, Python objects).
"""

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from ..common.errors import ServiceError

MAX_BYTES = 1 << 20
MAX_DEPTH = 64
MAX_NODES = 100_000
Path = tuple[str | int, ...]

_SCALARS = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null")}
_UNFIT = re.compile("[\0\ud800-\udfff]")
_MERGE = "tag:yaml.org,2002:merge"
_Loader: Any = yaml.SafeLoader  # not the C parser: it refuses tabs in block texts, which published definitions have


class Refused(ServiceError):
    """A definition is not taken; the message is the reason, ``line`` counts from 1."""

    status = 422
    code = "definition_refused"

    def __init__(self, reason: str, line: int = 1, **detail: Any) -> None:
        """Refuse for ``reason``, which the file shows at ``line``."""
        super().__init__(reason, line=line, **detail)
        self.line = line


class Skipped(Refused):
    """A definition is passed over for what it asks for, as the original does, which is no fault."""


@dataclass
class Document:
    """Plain data (``value``) and where it was written; paths are tuples of keys and positions."""

    value: Any
    lines: dict[Path, int] = field(default_factory=dict)

    def line(self, path: Path = ()) -> int:
        """Return the line of ``path``, or of the nearest part above it that was written down."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def part(self, *path: str | int) -> "Document":
        """Return what is at ``path`` as a document of its own."""
        value = self.value
        for step in path:
            value = value[step]
        size = len(path)
        return Document(value, {key[size:]: line for key, line in self.lines.items() if key[:size] == path})


def parse(content: bytes) -> Document:
    """Read one YAML document; an empty one has the value None.  Raises Refused."""
    if len(content) > MAX_BYTES:
        raise Refused(f"The file is larger than {MAX_BYTES} bytes")
    try:
        _check_depth(content)
        loader = _Loader(content)
        try:
            root = loader.get_single_node()
            document = Document(None)
            if root is not None:
                document.value = _Reader(loader, document.lines).read(root, ())
            return document
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        said = (getattr(error, "context", None), getattr(error, "problem", None))
        text = ", ".join(filter(None, said)) or str(error).splitlines()[0]
        raise Refused(f"Not valid YAML: {text}", mark.line + 1 if mark else 1) from error
    except UnicodeDecodeError as error:
        raise Refused("The file is not UTF-8 text", content.count(b"\n", 0, error.start) + 1) from error


def _check_depth(text: bytes) -> None:
    """Walk the events, which costs no stack, before anything recursive sees the text."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                mark = event.start_mark
                raise Refused(f"Nested deeper than {MAX_DEPTH} levels", mark.line + 1 if mark else 1)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


class _Reader:
    """Turns nodes into plain data, counting as it goes."""

    def __init__(self, loader: Any, lines: dict[Path, int]) -> None:
        self.loader, self.lines, self.nodes = loader, lines, 0
        self.open: set[int] = set()  # nodes being read: meeting one again means that it holds itself

    def read(self, node: yaml.Node, path: Path) -> Any:
        line = node.start_mark.line + 1
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise Refused(f"More than {MAX_NODES} values once aliases are expanded", line)
        self.lines.setdefault(path, line)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, line)
        if id(node) in self.open or len(path) > MAX_DEPTH:
            raise Refused("An alias names something that holds it", line)
        self.open.add(id(node))
        try:
            if isinstance(node, yaml.SequenceNode) and node.tag.endswith(":seq"):
                return [self.read(item, (*path, position)) for position, item in enumerate(node.value)]
            if isinstance(node, yaml.MappingNode) and node.tag.endswith(":map"):
                return self._mapping(node, path)
        finally:
            self.open.discard(id(node))
        raise Refused(f"The tag {node.tag} has no place here", line)

    def _scalar(self, node: yaml.ScalarNode, line: int) -> Any:
        if node.tag not in _SCALARS:
            plain = node.tag.endswith((":timestamp", ":value"))
            hint = "quote it" if plain else f"the tag {node.tag} has no place here"
            raise Refused(f"{node.value!r:.80} is not text, number, boolean or null: {hint}", line)
        try:
            value = self.loader.construct_object(node)
        except ValueError as error:
            raise Refused(f"{node.value!r:.80} is not a number that can be kept", line) from error
        if isinstance(value, str) and _UNFIT.search(value):
            raise Refused("The text holds a NUL byte or half a surrogate pair", line)
        if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
            raise Refused(f"{node.value} is not a JSON number", line)
        return value

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == _MERGE:
                sources = value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
                for source in sources:
                    if not isinstance(source, yaml.MappingNode):
                        raise Refused("A merge key takes mappings only", line)
                    for key, value in self.read(source, path).items():
                        merged.setdefault(key, value)
                continue
            key = self.read(key_node, (*path, "")) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                raise Refused("A key must be text" + (f": quote {key_node.value}" if key is not None else ""), line)
            if key in own:
                raise Refused(f"The key '{key}' is given twice", line)
            self.lines[(*path, key)] = line
            own[key] = self.read(value_node, (*path, key))
        return {**merged, **own}
