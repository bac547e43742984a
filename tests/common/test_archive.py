"""The archive interface over a local volume."""

import hashlib
import io
import random

import pytest

from pacifica.common import draft, ledger, orm, volume
from pacifica.common.archive import LocalArchive, make_archive
from pacifica.common.errors import (
    BadConfiguration,
    ChecksumMismatch,
    ClientAborted,
    Damaged,
    Gone,
    NoSpace,
    NotFound,
    RangeNotSatisfiable,
)
from pacifica.common.interface import Incoming
from pacifica.common.sidecar import Sidecar
from pacifica.common.spool import receive
from pacifica.common.volume import BLOCK, Volume, keep, new_name

pytestmark = pytest.mark.usefixtures("sqlite")
DATA = random.Random(5).randbytes(2 * BLOCK + 333)


@pytest.fixture
def archive(tmp_path):
    return LocalArchive(Volume(tmp_path / "archive", 0))


def put(archive, id, data, **fields):
    return archive.put(id, Incoming(fill=io.BytesIO(data).readinto, length=len(data), mtime=1.5, **fields))


def packs(archive):
    return [path for path in archive.volume.packs.rglob("*") if path.is_file()]


def flip(archive, id, at):
    held = ledger.find(id)
    with archive.volume.pack_path(held.pack).open("r+b") as file:
        file.seek(held.offset + at)
        byte = file.read(1)[0]
        file.seek(held.offset + at)
        file.write(bytes([byte ^ 4]))


@pytest.mark.parametrize("size", [0, 5, BLOCK, len(DATA)])
def test_what_is_put_comes_back_whole_and_in_ranges(archive, size):
    found = put(archive, 7, DATA[:size], owner="ann")
    assert (found.size, found.hashsum) == (size, hashlib.sha1(DATA[:size]).hexdigest())
    assert b"".join(archive.open(7)) == DATA[:size]
    for start, stop in ((0, 0), (0, size // 2), (size // 3, size), (size, size)):
        assert b"".join(archive.open(7, start, stop)) == DATA[start:stop]
    assert archive.stat(7) == found
    held = ledger.find(7)
    assert (held.size, held.hashsum, held.owner) == (size, found.hashsum, "ann")
    start = held.offset
    assert archive.volume.pack_path(held.pack).read_bytes()[start : start + size] == DATA[:size]
    assert list(archive.volume.spool.iterdir()) == []


def test_a_put_with_a_wrong_digest_changes_nothing(archive):
    put(archive, 7, b"held")
    with pytest.raises(ChecksumMismatch):
        put(archive, 7, b"other", hashtype="sha256", hashsum="0" * 64)
    assert b"".join(archive.open(7)) == b"held"
    assert len(packs(archive)) == 2  # a pack and its sidecar
    put(archive, 7, b"other", hashtype="sha256", hashsum=hashlib.sha256(b"other").hexdigest().upper())
    assert b"".join(archive.open(7)) == b"other"


def test_a_put_whose_client_leaves_changes_nothing(archive):
    def fill(view):
        raise ClientAborted

    with pytest.raises(ClientAborted):
        archive.put(7, Incoming(fill=fill, length=10, mtime=0.0))
    with pytest.raises(NotFound):
        archive.stat(7)
    assert packs(archive) == []
    assert list(archive.volume.spool.iterdir()) == []


def test_a_put_that_cannot_fit_is_refused_before_its_body_is_asked_for(archive):
    def fill(view):
        pytest.fail("asked")

    with pytest.raises(NoSpace):
        archive.put(7, Incoming(fill=fill, length=1 << 60, mtime=0.0))


def test_a_put_of_unknown_length_holds_room_as_it_grows_and_ends_where_there_is_none(archive):
    """The others must not be promised what it will take."""
    sent, held = io.BytesIO(bytes(24 * BLOCK)), []

    def fill(view):
        held.append(sum(volume._reserved.values()))
        if sent.tell() >= 8 * BLOCK:
            archive.volume.min_free = 1 << 60
        return sent.readinto(view)

    with pytest.raises(NoSpace):
        archive.put(7, Incoming(fill=fill, length=None, mtime=1.5))
    assert sent.tell() < 24 * BLOCK
    assert min(held[8:]) >= BLOCK and sum(volume._reserved.values()) == 0
    assert packs(archive) == [] and not any(archive.volume.spool.iterdir())


def test_unknown_and_deleted_files_are_named_as_such_before_a_byte_is_asked_for(archive):
    put(archive, 7, b"x")
    archive.delete(7, "bob", "why not")
    for method in (archive.open, archive.stat, archive.stage):
        with pytest.raises(Gone):
            method(7)
        with pytest.raises(NotFound):
            method(8)
    with pytest.raises(Gone):
        archive.delete(7, "bob")


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (0, 6), (6, None), (3, 2)])
def test_a_range_outside_the_file_is_refused_before_a_byte_is_asked_for(archive, start, stop):
    put(archive, 7, b"hello")
    with pytest.raises(RangeNotSatisfiable):
        archive.open(7, start, stop)


@pytest.mark.parametrize(("size", "at", "served"), [(5000, 4999, 0), (len(DATA), BLOCK + 9, BLOCK)])
def test_a_damaged_file_is_not_served_and_marked(archive, size, at, served):
    put(archive, 7, DATA[:size])
    flip(archive, 7, at)
    got = []
    with pytest.raises(Damaged):
        got.extend(archive.open(7))
    assert b"".join(got) == DATA[:served]
    assert ledger.find(7).verdict == ledger.DAMAGED


def test_a_damaged_neighbour_does_no_harm(archive):
    """Three members in one pack, two small ones in the block that the large one ends in."""
    sizes = (BLOCK + 1000, 5000, 700)
    spooled, name = archive.volume.spool / new_name(), new_name()
    received = receive(io.BytesIO(DATA).readinto, spooled)
    pack = draft.begin_pack(name, "bundle", 1, 1, 1, 3, received.size, "ann")
    rows, offset = [], 0
    for id, size in enumerate(sizes, 1):
        hashsum = hashlib.sha1(DATA[offset : offset + size]).hexdigest()
        rows.append((id, offset, size, 0, "sha1", hashsum, "", str(id), "text/plain", 0.0, 0.0))
        offset += size
    draft.add_files(pack, rows, lambda: None)
    Sidecar.of(pack, received.blocks).write(archive.volume)
    keep(spooled, archive.volume.pack_path(name))
    with orm.transaction():
        draft.publish(pack)
    flip(archive, 2, 10)
    assert b"".join(archive.open(3)) == DATA[sizes[0] + sizes[1] : sum(sizes)]
    with pytest.raises(Damaged):
        list(archive.open(2))
    with pytest.raises(Damaged):  # its last block does not check, though the bad byte is not its own
        list(archive.open(1))
    assert [ledger.find(id).verdict for id in (1, 2, 3)] == [None, ledger.DAMAGED, None]


def test_a_put_after_a_damage_heals_the_file(archive):
    put(archive, 7, b"hello")
    flip(archive, 7, 0)
    with pytest.raises(Damaged):
        list(archive.open(7))
    put(archive, 7, b"hello")
    assert b"".join(archive.open(7)) == b"hello"
    assert ledger.find(7).verdict is None


def test_an_url_names_the_volume_or_is_refused(tmp_path):
    volume = Volume(tmp_path / "a b", 0)
    for url in ("", "file://", f"file://{tmp_path}/a%20b", f"file://localhost{tmp_path}/a%20b/"):
        assert make_archive(url, volume).volume is volume
    for url in ("s3://bucket", "ftp:", "file:///elsewhere", "file://host/x", "nonsense"):
        with pytest.raises(BadConfiguration):
            make_archive(url, volume)
