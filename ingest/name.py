"""The names that members of a bundle may have, one by one and together (docs/formats.md#bundle)."""

import re
from array import array
from collections import Counter
from collections.abc import Callable
from typing import Any

from .account import shown
from .fault import TooManyFolders
from .limits import Limits
from .misnomer import (
    AbsolutePath,
    ControlCharacter,
    DotPart,
    DuplicateName,
    EmptyPart,
    FileIsFolder,
    NameTooLong,
    NotUtf8,
    NulInName,
    OutsideData,
    ParentPart,
    PartTooLong,
    TooDeep,
)

DATA = "data"
METADATA = "metadata.txt"

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")  # C0, DEL, C1 and the two line breaks of Unicode


def plain(raw: bytes, max_depth: int) -> str:
    """Return the path in ``raw`` (at most 255 bytes) when it needs no closer look, as is usual; otherwise ""."""
    try:
        path = raw.decode()
    except UnicodeDecodeError:
        return ""
    if (
        path.startswith("data/")
        and path.isprintable()
        and "//" not in path
        and "/." not in path
        and path[-1] != "/"
        and path.count("/") < max_depth
    ):
        return path
    return ""


def decoded(raw: bytes, offset: int | None = None) -> str:
    """Return the name in ``raw`` as text, without one leading './'; NulInName, NotUtf8, NameTooLong."""
    if b"\0" in raw:
        raise NulInName(file=shown(raw), offset=offset)
    try:
        path = raw.decode()
    except UnicodeDecodeError:
        raise NotUtf8(file=shown(raw), offset=offset) from None
    return path[2:] if path.startswith("./") else path


def checked(path: str, limits: Limits, offset: int | None = None) -> str:
    """Return ``path`` when every rule of names allows it; a NameFault of the first broken rule otherwise."""
    facts: dict[str, Any] = {"file": shown(path), "offset": offset}
    if len(path.encode()) > limits.max_name_bytes:
        raise NameTooLong(limit=limits.max_name_bytes, **facts)
    if _CONTROL.search(path):
        raise ControlCharacter(**facts)
    if path.startswith("/"):
        raise AbsolutePath(**facts)
    parts = path.split("/")
    if ".." in parts:
        raise ParentPart(**facts)
    if "" in parts:
        raise EmptyPart(**facts)
    if "." in parts:
        raise DotPart(**facts)
    if len(parts) > limits.max_depth:
        raise TooDeep(limit=limits.max_depth, **facts)
    if any(len(part.encode()) > limits.max_part_bytes for part in parts):
        raise PartTooLong(limit=limits.max_part_bytes, **facts)
    return path


def inside(path: str, offset: int | None = None) -> str:
    """Return the checked ``path`` when it is a place for a file; OutsideData otherwise."""
    if path == METADATA or path.startswith("data/"):
        return path
    raise OutsideData(file=shown(path), offset=offset)


class Names:
    """The names seen in one bundle: hashes only (8 bytes a file), so that a million of them fit in memory.

    Python's string hash is keyed at random for each process, so nobody can make two names collide on purpose, and by
    chance a million of them do once in 10^7 bundles, which a second try then lets in.
    """

    def __init__(self, max_folders: int) -> None:
        """Start with no name."""
        self.max_folders = max_folders
        self._files = array("q")
        self._folders: set[int] = set()
        self._last = DATA

    def add(self, path: str) -> None:
        """Note the file ``path``; TooManyFolders when it lies in one too many."""
        self._files.append(hash(path))
        folder = path[: path.rfind("/")]
        if folder != self._last:
            self.enter(folder)

    def enter(self, folder: str) -> None:
        """Note ``folder`` and every folder that it lies in."""
        self._last = folder
        while folder != DATA and hash(folder) not in self._folders:
            self._folders.add(hash(folder))
            folder = folder[: folder.rfind("/")]
        if len(self._folders) > self.max_folders:
            raise TooManyFolders(limit=self.max_folders)

    def refuse_twins(self, path: Callable[[int], str]) -> None:
        """Raise DuplicateName or FileIsFolder where two members claim a name; ``path(n)`` is that of the n-th file."""
        files, passes = self._files, (len(self._files) >> 17) + 1  # a set of all hashes at once would double the memory
        for turn in range(passes):
            part = [each for each in files if each % passes == turn] if passes > 1 else files
            if len(set(part)) < len(part):
                (twin, _), *_ = Counter(part).most_common(1)
                raise DuplicateName(file=shown(path(files.index(twin))))
        for ordinal, each in enumerate(files):
            if each in self._folders:
                raise FileIsFolder(file=shown(path(ordinal)))
