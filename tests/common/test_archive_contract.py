"""What every archive keeps: the volume's own, and the one behind Pacifica's archive interface."""

import hashlib
import io
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pacifica.common.archive import LocalArchive, make_archive
from pacifica.common.config import Neighbours
from pacifica.common.errors import ChecksumMismatch, ClientAborted, Gone, NotFound, RangeNotSatisfiable
from pacifica.common.interface import Archive, Held, Incoming
from pacifica.common.remote import RemoteArchive
from pacifica.common.rest import application
from pacifica.common.server import HttpServer
from pacifica.common.volume import BLOCK, Volume
from pacifica.datasafe.config import Settings
from pacifica.datasafe.orm import SCHEMA
from pacifica.datasafe.rest import Root

DATA = random.Random(5).randbytes(2 * BLOCK + 333)


@pytest.fixture(params=["local", "http"])
def archive(request: pytest.FixtureRequest, sqlite: Any, tmp_path: Path) -> Iterator[Archive]:
    volume = Volume(tmp_path / "archive", 0)
    if request.param == "local":
        yield LocalArchive(volume)
        return
    settings = Settings()
    SCHEMA.sync()
    root = application(Root(settings, volume), settings, service="datasafe")
    server = HttpServer(root, "127.0.0.1", 0, settings.server)
    server.start()
    try:
        archive = make_archive(f"{server.url}/archive", volume, Neighbours(timeout=20.0, tries=1))
        assert isinstance(archive, RemoteArchive)
        yield archive
    finally:
        server.stop()


def put(archive: Archive, id: int, data: bytes, length: int | None = -1, **fields: Any) -> Held:
    size = len(data) if length == -1 else length
    return archive.put(id, Incoming(fill=io.BytesIO(data).readinto, length=size, mtime=1.0, **fields))


@pytest.mark.parametrize("size", [0, 5, BLOCK, len(DATA)])
@pytest.mark.parametrize("known", [True, False])
def test_what_is_put_comes_back_whole_and_in_ranges(archive: Archive, size: int, known: bool):
    found = put(archive, 7, DATA[:size], size if known else None)
    assert (found.size, found.hashsum) == (size, hashlib.sha1(DATA[:size]).hexdigest())
    assert b"".join(archive.open(7)) == DATA[:size]
    for start, stop in ((0, 0), (0, size // 2), (size // 3, size), (size, size)):
        assert b"".join(archive.open(7, start, stop)) == DATA[start:stop]
    archive.stage(7)
    held = archive.stat(7)
    assert (held.size, held.mtime, held.on_disk) == (size, 1.0, True)


def test_a_put_with_a_wrong_digest_leaves_nothing(archive: Archive):
    with pytest.raises(ChecksumMismatch):
        put(archive, 7, b"other", hashtype="sha256", hashsum="0" * 64)
    with pytest.raises((NotFound, Gone)):
        archive.stat(7)
    put(archive, 7, b"other", hashtype="sha256", hashsum=hashlib.sha256(b"other").hexdigest().upper())
    assert b"".join(archive.open(7)) == b"other"


def test_a_put_whose_source_fails_leaves_nothing_and_says_so(archive: Archive):
    def fill(view: memoryview) -> int:
        raise ClientAborted

    with pytest.raises(ClientAborted):
        archive.put(7, Incoming(fill=fill, length=10, mtime=0.0))
    with pytest.raises((NotFound, Gone)):
        archive.stat(7)


def test_a_later_put_of_the_same_id_supersedes(archive: Archive):
    put(archive, 7, b"first")
    put(archive, 7, b"second")
    assert b"".join(archive.open(7)) == b"second"


def test_a_range_beyond_the_end_is_refused_before_a_byte(archive: Archive):
    put(archive, 7, b"12345")
    for start, stop in ((0, 6), (3, 2), (6, 6)):
        with pytest.raises(RangeNotSatisfiable):
            archive.open(7, start, stop)


def test_what_is_deleted_or_never_was_is_not_found(archive: Archive):
    put(archive, 7, b"x")
    archive.delete(7, "ann")
    for id in (7, 8):
        for ask in (archive.stat, archive.stage, archive.open, lambda id: archive.delete(id, "ann")):
            with pytest.raises((NotFound, Gone)):
                ask(id)
