"""What ``/api/`` answers with: the bodies, and the headers that belong to them (docs/datasafe.md)."""

import base64
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import cherrypy

from ..common.batch import batches
from ..common.errors import Damaged
from ..common.pace import Pace
from ..common.ranges import header_text, respond_range
from . import listing
from .orm import Dataset, suspect
from .snapshot import Snapshot
from .snapshots import Opened
from .stored import Stored

TEXT = "text/html; charset=utf-8"  # what LabInform calls its sentences


def sentence(text: str) -> bytes:
    """Answer with a bare sentence."""
    cherrypy.serving.response.headers["Content-Type"] = TEXT
    return text.encode()


def verdict(stored: Stored) -> bytes:
    """Answer an upload with what its bytes were worth."""
    response = cherrypy.serving.response
    response.headers["X-Pacifica-Version"] = str(stored.facts.number)
    if stored.warnings:
        told = [f'199 - "{header_text(warning.message)}"' for warning in stored.warnings[:10]]
        response.headers["Warning"] = ", ".join(told)
    said = {"all": stored.integrity.all, "data": stored.integrity.data}
    return json.dumps(said, separators=(",", ":")).encode() + b"\n"  # as Flask writes it


def versions(row: Dataset, held: Iterable[Any]) -> dict[str, Any]:
    """List the versions of a dataset, ``held`` from the first on."""
    told = [listing.version(number, *one) for number, one in enumerate(held, 1)]
    return {"loi": row.loi, "owner": row.owner, "versions": told}


def files(row: Dataset, snapshot: Snapshot) -> Iterator[bytes]:
    """Yield the JSON of a version's files as it is made: a million of them are 200 MB."""
    head = json.dumps({"loi": row.loi, "version": snapshot.number, "files": []})[:-2]
    with suspecting(row):
        for at, some in enumerate(batches(listing.files(snapshot), 1000)):
            yield ((", " if at else head) + json.dumps(some)[1:-1]).encode()
    yield b"]}"


def zipped(row: Dataset, opened: Opened) -> Iterator[bytes]:
    """Stream a version as a zip, or the range of it that was asked for."""
    snapshot = opened.snapshot
    return respond_range(
        opened.zip.length,
        opened.etag,
        snapshot.created,
        lambda start, stop: _suspecting_all(row, opened.zip.stream(start, stop)),
        content_type="application/zip",
        filename=f"{str(snapshot.loi).replace('/', '_')}_v{snapshot.number}.zip",
    )


def single(row: Dataset, opened: Opened, path: str) -> Iterator[bytes]:
    """Stream one file of a version, or a range of it."""
    snapshot = opened.snapshot
    with suspecting(row):
        content = snapshot.content(path)
    sha512 = snapshot.digests[path]
    raw = base64.b64encode(bytes.fromhex(sha512)).decode("ascii")
    cherrypy.serving.response.headers["Repr-Digest"] = f"sha-512=:{raw}:"
    return respond_range(
        content.size,
        sha512,
        snapshot.created,
        lambda start, stop: _suspecting_all(row, snapshot.read(path, start, stop, Pace())),
        content_type="application/octet-stream",
        filename=path.rpartition("/")[2],
    )


@contextmanager
def suspecting(row: Dataset) -> Iterator[None]:
    """Ask for an audit of a dataset when a reader meets damage in it; the error goes on."""
    try:
        yield
    except Damaged:
        suspect("dataset", row.loi, row.owner)
        raise


def _suspecting_all(row: Dataset, pieces: Iterator[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    with suspecting(row):
        yield from pieces
