"""Archived files are found, judged and taken away by their ids; on both databases."""

import random

import pytest

from pacifica.common import draft, ledger, orm
from pacifica.common.errors import Gone, NotFound
from pacifica.common.ledger import ArchivedFile, Tombstone
from pacifica.common.volume import Volume
from pacifica.tests.common.drafts import archived, content, drafted, file_rows, held, no_fence, put

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def volume(tmp_path):
    return Volume(tmp_path, 0)


def test_scattered_ids_are_found_in_bulk(monkeypatch):
    monkeypatch.setattr(ledger, "BATCH", 1000)
    for job in range(1, 4):
        archived(job, first=job * 10_000, count=2500)
    wanted = random.Random(3).sample([*range(10_000, 12_500), *range(20_000, 22_500), *range(40_000, 41_000)], 4000)
    found = ledger.locate(wanted)
    assert list(found) == [id for id in wanted if id < 40_000]
    assert all(found[id].transaction == id // 10_000 for id in found)
    assert {row[0] for row in ledger.locate_rows(iter(wanted))} == set(found)


def test_what_no_id_can_be_is_not_found():
    archived(1)
    assert list(ledger.locate([-1, 0, 1, 1 << 63, 1 << 70])) == [1]
    with pytest.raises(NotFound):
        ledger.find(1 << 70)


def test_the_files_over_a_range_of_a_pack_are_named():
    pack = archived(1, first=5, count=4)  # at 512, 1536, 2560, 3584, 300 bytes each
    assert ledger.overlapping(pack.name, 811, 1536) == [5]
    assert ledger.overlapping(pack.name, 812, 1536) == []
    assert ledger.overlapping(pack.name, 0, 1 << 20) == [5, 6, 7, 8]


def test_a_verdict_is_noted_with_its_time():
    archived(1)
    ledger.mark([1, 2], ledger.SOUND)
    ledger.mark_damaged(2)
    assert [ledger.find(id).verdict for id in (1, 2, 3)] == [ledger.SOUND, ledger.DAMAGED, None]
    assert abs(ArchivedFile.get_by_id(2).checked - orm.clock()) < 60
    assert ArchivedFile.get_by_id(3).checked is None


def test_a_deleted_file_is_gone_and_says_who_and_why(volume):
    put(volume, 42, b"hello")
    ledger.delete_file(42, "bob", "by mistake")
    assert ledger.locate([42]) == {}
    with pytest.raises(Gone):
        ledger.find(42)
    with pytest.raises(Gone):
        ledger.delete_file(42, "bob")
    with pytest.raises(NotFound):
        ledger.delete_file(43, "bob")
    stone = Tombstone.get_by_id(42)
    assert (stone.who, stone.reason, stone.size) == ("bob", "by mistake", 5)
    put(volume, 42, b"again")
    assert content(volume, 42) == b"again"
    assert Tombstone.select().count() == 0


def test_a_file_of_an_unfinished_job_is_not_deleted():
    pack = drafted(7)
    draft.add_files(pack, file_rows(1, 3), no_fence)
    with pytest.raises(NotFound):
        ledger.delete_file(1, "bob")
    assert held() == [1, 2, 3]
