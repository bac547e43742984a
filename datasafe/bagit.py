"""A dataset version as a bag (BagIt 1.0, RFC 8493), for those who want it without us."""

import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from . import manifest
from .snapshot import Snapshot

_DECLARATION = b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"
_ESCAPED = {"%": "%25", "\r": "%0D", "\n": "%0A"}  # RFC 8493 §2.1.3: these three, nothing else
_LINE_BREAKS = re.compile(r"[\r\n]+")


def export(snapshot: Snapshot, target: Path) -> None:
    """Write ``snapshot`` as a bag to the folder ``target``, which must not exist; it appears whole or not at all.

    MANIFEST.yaml is part of the payload.  Every byte is checked on the way; Damaged leaves nothing behind.
    """
    part = target.with_name(f".{target.name}.{os.urandom(4).hex()}.part")
    (part / "data").mkdir(parents=True)
    try:
        for name in snapshot.names:
            path = part / "data" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, snapshot.read(name))
        tags = tag_files(snapshot)
        for name, content in tags.items():
            _write(part / name, [content])
        if target.exists():
            raise FileExistsError(target)
        part.rename(target)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def tag_files(snapshot: Snapshot) -> dict[str, bytes]:
    """Return the tag files of a bag by name; the digests are those of the store, so no byte of payload is read."""
    tags = {
        "bagit.txt": _DECLARATION,
        "bag-info.txt": "".join(f"{label}: {value}\n" for label, value in _info(snapshot)).encode("utf-8"),
        "manifest-sha512.txt": _listing((snapshot.digests[name], f"data/{name}") for name in snapshot.names),
    }
    sums = [(hashlib.sha512(content).hexdigest(), name) for name, content in tags.items()]
    return {**tags, "tagmanifest-sha512.txt": _listing(sums)}


def _info(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    yield "External-Identifier", str(snapshot.loi)
    yield "Bagging-Date", datetime.now(UTC).date().isoformat()
    yield "Payload-Oxum", f"{snapshot.size}.{len(snapshot.names)}"
    yield "Internal-Sender-Identifier", f"version {snapshot.number}"
    author = snapshot.author
    if author.name:
        yield "Contact-Name", _LINE_BREAKS.sub(" ", author.name)
    if author.message:
        yield "Internal-Sender-Description", _LINE_BREAKS.sub(" ", author.message)
    yield "Bag-Group-Identifier", str(snapshot.loi.series)
    yield "Bag-Software-Agent", f"pacifica datasafe; the dataset's own list is data/{manifest.NAME}"


def _listing(sums: Iterable[tuple[str, str]]) -> bytes:
    return "".join(f"{digest}  {_escape(name)}\n" for digest, name in sums).encode("utf-8")


def _escape(name: str) -> str:
    return "".join(_ESCAPED.get(letter, letter) for letter in name)


def _write(path: Path, pieces: Iterable[bytes | memoryview]) -> None:
    with path.open("xb") as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
