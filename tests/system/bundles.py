"""Bundles for tests: right ones, made by tarfile, which is not ours."""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from typing import Any

TRANSACTION = (
    {"destinationTable": "Transactions.submitter", "value": 10},
    {"destinationTable": "Transactions.project", "value": "1234a"},
    {"destinationTable": "Transactions.instrument", "value": 54},
)


def entry(path: str, content: bytes, **changes: Any) -> dict[str, Any]:
    """Return the Files entry of a member, with ``changes``."""
    subdir, _, name = path.rpartition("/")
    return {
        "destinationTable": "Files",
        "name": name,
        "subdir": subdir,
        "size": len(content),
        "mimetype": "text/plain",
        "hashtype": "sha1",
        "hashsum": hashlib.sha1(content).hexdigest(),
        "ctime": "2026-11-21T07:37:08",
        "mtime": "2026-11-21T07:37:08",
    } | changes


def bundle(files: Mapping[str, bytes], metadata: list[dict[str, Any]] | bytes | None = None, **options: Any) -> bytes:
    """Return a tar of ``files`` (paths below data/) and a metadata.txt: ``metadata``, or what describes the files."""
    if metadata is None:
        metadata = [*TRANSACTION, *(entry(path, content) for path, content in files.items())]
    text = metadata if isinstance(metadata, bytes) else json.dumps(metadata).encode()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=options.pop("format", tarfile.PAX_FORMAT)) as tar:
        for name, content in [*((f"data/{path}", content) for path, content in files.items()), ("metadata.txt", text)]:
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(content), 1_795_000_000
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()
