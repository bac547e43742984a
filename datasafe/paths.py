"""Names of files inside a dataset: which are refused, and which are twins of each other.

A name is a relative path with ``/``.  What is accepted here can be written below a folder on Linux, macOS and
most other systems without leaving it, hitting another file, or changing its spelling.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .faults import Fault

_DRIVE = re.compile(r"[A-Za-z]:")
_HARMLESS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=,@~ -]*(?:/[A-Za-z0-9_][A-Za-z0-9_.+=,@~ -]*)*")  # most names


@dataclass(frozen=True, kw_only=True)
class NameLimits:
    """How long and deep a name may be."""

    max_bytes: int = 1024  # of the whole path, as UTF-8
    max_component: int = 255  # bytes; what file systems take
    max_depth: int = 32  # components


def judge(name: str, limits: NameLimits) -> Fault | None:
    """Return what is wrong with ``name`` (a file's, without a last slash), or None."""
    if len(name) <= min(limits.max_bytes, limits.max_component) and _HARMLESS.fullmatch(name):
        return _too_deep(name, limits)
    if not name or name.startswith("/") or _DRIVE.match(name):
        return Fault("name_absolute", "The name is empty, absolute or has a drive letter.", name)
    if "\\" in name:
        return Fault("name_backslash", "The name has a backslash, which some systems take for a folder.", name)
    if any(part in ("", ".", "..") for part in name.split("/")):
        return Fault("name_traversal", "The name has an empty part, '.' or '..'.", name)
    if any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in name):
        return Fault("name_control", "The name has control characters or is not Unicode.", name)
    raw = name.encode("utf-8")
    if len(raw) > limits.max_bytes or any(len(part) > limits.max_component for part in raw.split(b"/")):
        return Fault("name_long", "The name, or a part of it, is too long.", name)
    return _too_deep(name, limits)


def twins(names: Iterable[str]) -> Iterator[Fault]:
    """Yield a fault for each name that equals an earlier one, differs only in case or Unicode form, or in a folder's,
    and for each that is a file where another needs a folder."""
    files: set[str] = set()
    folders: dict[str, str] = {"": ""}
    for name in names:
        key = _folded(name)
        if key in files:
            yield Fault("name_twin", "Two names are equal or differ only in case or Unicode form.", name)
        files.add(key)
        yield from _folder_twins(name, folders)
    for key, folder in folders.items():
        if key in files:
            yield Fault("name_twin", "The same name is a file and a folder.", folder)


def _folder_twins(name: str, folders: dict[str, str]) -> Iterator[Fault]:
    folder = name.rpartition("/")[0]
    while folder:
        key = _folded(folder)
        known = folders.get(key)
        if known == folder:
            return  # and so are its parents
        if known is not None:
            yield Fault("name_twin", "Two folders differ only in case or Unicode form.", name)
            return
        folders[key] = folder
        folder = folder.rpartition("/")[0]


def _folded(name: str) -> str:
    """Return the key under which a case-insensitive, normalising file system would find ``name``."""
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _too_deep(name: str, limits: NameLimits) -> Fault | None:
    if name.count("/") >= limits.max_depth:
        return Fault("name_deep", "The name has too many folders.", name)
    return None
