"""MANIFEST.yaml: read it with limits, check it against what is there, compute and write it.

The format is LabInform's (``docs/formats.md#manifest``).  Every scalar is read as text: a file named ``1e3``
stays what it is.  Anchors, aliases, tags and double keys have no place in a manifest and are refused.
"""

import hashlib
import re
from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from yaml import events

from .faults import Fault, refuse

NAME = "MANIFEST.yaml"
KIND = "datasafe dataset manifest"
VERSION = "0.1.0"

_MD5 = re.compile(r"[0-9a-f]{32}")
_METADATA_DEPTH = 4  # root, document, files, metadata
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


@dataclass(frozen=True, kw_only=True)
class ManifestLimits:
    """What a manifest may be."""

    max_bytes: int = 32 << 20
    max_nodes: int = 2_000_000
    max_depth: int = 16


@dataclass(frozen=True)
class Integrity:
    """LabInform's verdict: do the checksums over the data files, and over data and metadata files, agree?"""

    data: bool
    all: bool

    @property
    def sound(self) -> bool:
        """Whether both agree."""
        return self.data and self.all


@dataclass(frozen=True)
class Manifest:
    """What a manifest says; the names are listed in its order and may repeat."""

    loi: str
    data: tuple[str, ...]
    metadata: tuple[str, ...]
    data_sum: str
    all_sum: str
    data_format: str
    document: dict[str, Any]  # the whole tree, scalars as text

    def integrity(self, md5: Mapping[str, str]) -> Integrity:
        """Compare with ``md5`` (name -> lower-case hex); a listed name that is not in it (a folder) is skipped."""
        data, metadata = ([md5[name] for name in names if name in md5] for names in (self.data, self.metadata))
        return self.verdict(checksum(data), checksum(data + metadata))

    def verdict(self, data_sum: str, all_sum: str) -> Integrity:
        """Compare with the two sums."""
        return Integrity(data=data_sum == self.data_sum, all=all_sum == self.all_sum)

    def compare(self, files: Iterable[str], folders: Collection[str] = ()) -> Iterator[Fault]:
        """Yield a fault for each listed file that is not among ``files`` and each of ``files`` that is not listed.

        A listed name that is one of ``folders`` is passed over, as LabInform does.
        """
        listed = {*self.data, *self.metadata}
        if NAME in listed:
            yield Fault("manifest_lists_itself", "The manifest lists itself.", NAME)
        unlisted = []
        for name in files:
            if name in listed:
                listed.remove(name)
            elif name != NAME:
                unlisted.append(name)
        for name in sorted(listed.difference(folders)):
            yield Fault("file_absent", "The manifest lists a file that is not in the archive.", name)
        for name in sorted(unlisted):
            yield Fault("file_unlisted", "The archive has a file that the manifest does not list.", name)

    def roles(self, files: Iterable[str]) -> tuple["array[int]", "array[int]"]:
        """Return how often each of ``files``, in their order, is listed as data, and how often as metadata."""
        listed = Counter(self.data), Counter(self.metadata)
        data, metadata = array("I"), array("I")
        for name in files:
            data.append(listed[0][name])
            metadata.append(listed[1][name])
        return data, metadata


def checksum(digests: Iterable[str]) -> str:
    """Return LabInform's sum: MD5 of the concatenated, sorted hex MD5 digests of the files."""
    return checksum_of(map(bytes.fromhex, digests))


def checksum_of(digests: Iterable[bytes]) -> str:
    """Return the same of raw digests."""
    told = hashlib.md5(usedforsecurity=False)
    for digest in sorted(digests):
        told.update(digest.hex().encode("ascii"))
    return told.hexdigest()


def read(raw: bytes, limits: ManifestLimits = ManifestLimits(), *, names_alone: bool = False) -> Manifest:
    """Read a manifest; Refused with ``manifest_bad`` or ``manifest_incomplete`` when it cannot be used.

    ``names_alone`` leaves out of the document what is said of each metadata file: of many, that is most of it.
    """
    tree = _tree(raw, limits, names_alone)
    data = _texts(_at(tree, "files", "data", "names"))
    metadata = _texts([_name(entry) for entry in _list(_at(tree, "files", "metadata"))])
    sums = [(_field(entry, "span"), _field(entry, "value")) for entry in _list(_at(tree, "checksums"))]
    loi = _at(tree, "dataset", "loi")
    all_sum = next((value for span, value in sums if "metadata" in span), "").lower()
    data_sum = next((value for span, value in sums if "metadata" not in span), "").lower()
    if not data or not metadata or not all_sum or not data_sum:
        raise refuse("manifest_incomplete", "Some information missing: data, metadata or one of the checksums.", NAME)
    if not _MD5.fullmatch(all_sum) or not _MD5.fullmatch(data_sum) or not isinstance(loi, str):
        raise refuse("manifest_bad", "A checksum is not an MD5 sum in hex, or the LOI is no text.", NAME)
    kind = tree["files"]["data"].get("format", "")
    return Manifest(loi, data, metadata, data_sum, all_sum, kind if isinstance(kind, str) else "", tree)


def create(
    loi: str,
    data: Sequence[str],
    metadata: Sequence[tuple[str, str, str]],
    md5: Mapping[str, str],
    data_format: str = "undetected",
) -> dict[str, Any]:
    """Return the document of a new manifest; ``metadata`` are (name, format, version), ``md5`` is name -> hex."""
    data_sums = [md5[name] for name in data]
    all_sums = data_sums + [md5[name] for name, _, _ in metadata]
    return {
        "format": {"type": KIND, "version": VERSION},
        "dataset": {"loi": loi, "complete": False},
        "files": {
            "metadata": [{"name": name, "format": kind, "version": version} for name, kind, version in metadata],
            "data": {"format": data_format, "names": list(data)},
        },
        "checksums": [
            {"name": "CHECKSUM", "format": "MD5 checksum", "span": "data, metadata", "value": checksum(all_sums)},
            {"name": "CHECKSUM_data", "format": "MD5 checksum", "span": "data", "value": checksum(data_sums)},
        ],
    }


def write(document: Mapping[str, Any]) -> bytes:
    """Return the bytes of MANIFEST.yaml as LabInform writes them: order kept, non-ASCII escaped."""
    text: str = yaml.dump(dict(document), Dumper=_DUMPER, sort_keys=False, allow_unicode=False)
    return text.encode("ascii")


# ---- reading the tree --------------------------------------------------------------------------------------------


class _Named(str):
    """The name of a metadata file, of which nothing else is kept."""

    __slots__ = ()


def _name(entry: Any) -> str:
    return str(entry) if isinstance(entry, _Named) else _field(entry, "name")


def _tree(raw: bytes, limits: ManifestLimits, names_alone: bool) -> dict[str, Any]:
    """Build maps, lists and texts from the parser's events, within the limits."""
    if len(raw) > limits.max_bytes:
        raise refuse("manifest_large", "The manifest is too large.", NAME)
    try:
        tree = _build(yaml.parse(raw.decode("utf-8-sig"), Loader=_LOADER), limits, names_alone)
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise refuse("manifest_bad", "The manifest is not YAML in UTF-8.", NAME) from error
    if not isinstance(tree, dict):
        raise refuse("manifest_bad", "The manifest is not a map.", NAME)
    return tree


def _build(parsed: Iterable[events.Event], limits: ManifestLimits, names_alone: bool) -> Any:
    """Return the one document as a tree; a ``None`` key marks a map that waits for its next key."""
    root: list[Any] = []
    stack: list[tuple[Any, str | None]] = [(root, None)]  # container, key that waits for its value
    for count, event in enumerate(parsed):
        if isinstance(event, events.NodeEvent):
            _admit(event, count, len(stack), limits)
            value: Any = (
                event.value
                if isinstance(event, events.ScalarEvent)
                else {}
                if isinstance(event, events.MappingStartEvent)
                else []
            )
            _attach(stack, value)
            if isinstance(event, events.CollectionStartEvent):
                stack.append((value, None))
        elif isinstance(event, events.CollectionEndEvent):
            value, _ = stack.pop()
            holder = stack[-1][0]
            if names_alone and len(stack) == _METADATA_DEPTH and isinstance(holder, list) and isinstance(value, dict):
                holder[-1] = _Named(value["name"]) if isinstance(value.get("name"), str) else value
    if len(root) != 1:
        raise refuse("manifest_bad", "The manifest must be exactly one YAML document.", NAME)
    return root[0]


def _admit(event: events.NodeEvent, count: int, depth: int, limits: ManifestLimits) -> None:
    tag = getattr(event, "tag", None)
    if event.anchor is not None or tag not in (None, "!", "tag:yaml.org,2002:str"):
        raise refuse("manifest_bad", "The manifest has an anchor, an alias or a tag.", NAME)
    if count > limits.max_nodes or depth > limits.max_depth:
        raise refuse("manifest_large", "The manifest has too many entries or is too deep.", NAME)


def _attach(stack: list[tuple[Any, str | None]], value: Any) -> None:
    container, key = stack[-1]
    if isinstance(container, list):
        container.append(value)
    elif key is not None:
        container[key] = value
        stack[-1] = (container, None)
    elif isinstance(value, str) and value not in container:
        stack[-1] = (container, value)
    else:
        raise refuse("manifest_bad", "The manifest has a key twice, or a key that is no text.", NAME)


def _at(tree: Any, *keys: str) -> Any:
    for key in keys:
        if not isinstance(tree, dict) or key not in tree:
            raise refuse("manifest_incomplete", f"The manifest has no {'.'.join(keys)}.", NAME)
        tree = tree[key]
    return tree


def _list(value: Any) -> list[Any]:
    if value == "":
        return []  # "key:" with nothing after it
    if not isinstance(value, list):
        raise refuse("manifest_bad", "The manifest has something else where a list belongs.", NAME)
    return value


def _texts(value: Any) -> tuple[str, ...]:
    items = _list(value)
    if not all(isinstance(item, str) and item for item in items):
        raise refuse("manifest_bad", "The manifest lists a file without a name.", NAME)
    return tuple(items)


def _field(entry: Any, key: str) -> str:
    if not isinstance(entry, dict) or not isinstance(entry.get(key), str):
        raise refuse("manifest_incomplete", f"The manifest has an entry without {key}.", NAME)
    value: str = entry[key]
    return value
