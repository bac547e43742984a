"""A pack becomes visible with all its rows at once, or not at all; on both databases."""

import hashlib
import threading

import pytest

from pacifica.common import draft, ledger, orm
from pacifica.common.errors import IllegalMove, NotFound
from pacifica.common.ledger import Pack
from pacifica.common.sidecar import Sidecar
from pacifica.common.volume import Volume, new_name
from pacifica.tests.common.drafts import archived, content, drafted, file_rows, held, no_fence, put

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def volume(tmp_path):
    return Volume(tmp_path, 0)


def test_files_appear_with_their_pack_and_not_before():
    pack = drafted(7, first=10, count=2)
    assert draft.add_files(pack, file_rows(10, 2), no_fence) == 2
    assert ledger.locate([10, 11]) == {}
    with pytest.raises(NotFound):
        ledger.find(10)
    with orm.transaction():
        draft.publish(pack)
    found = ledger.locate([11, 99, 10])
    assert list(found) == [11, 10]
    assert found[11]._asdict() == {
        "id": 11, "pack": pack.name, "offset": 1536, "size": 300, "header": 512, "hashtype": "sha1",
        "hashsum": "0" * 40, "mtime": 2.5, "subdir": "a/b", "name": "file11", "owner": "ann", "transaction": 7,
        "mimetype": "text/plain", "ctime": 1.5, "verdict": None, "kind": "bundle",
    }  # fmt: skip
    assert ledger.find(10) == found[10]


def test_publishing_belongs_to_the_callers_transaction():
    pack = drafted(7, count=1)
    draft.add_files(pack, file_rows(1, 1), no_fence)
    with pytest.raises(ZeroDivisionError), orm.transaction():
        draft.publish(pack)
        raise ZeroDivisionError
    assert ledger.locate([1]) == {}
    with orm.transaction():
        draft.publish(Pack.get_by_id(pack.id))
    assert list(ledger.locate([1])) == [1]
    with pytest.raises(IllegalMove):
        draft.publish(pack)


def test_a_pack_that_lacks_rows_is_not_published():
    pack = drafted(7, count=3)
    draft.add_files(pack, file_rows(1, 2), no_fence)
    with pytest.raises(IllegalMove) as caught:
        draft.publish(pack)
    assert caught.value.detail == {"held": 2, "count": 3}
    assert ledger.locate([1]) == {}


def batches(monkeypatch, size):
    for name in ("BATCH", "BATCH_POSTGRES"):
        monkeypatch.setattr(draft, name, size)


def test_each_batch_is_fenced_within_its_own_transaction(monkeypatch):
    batches(monkeypatch, 4)
    pack = drafted(7, count=10)
    fences = []

    def fence():
        assert orm.database.in_transaction()
        fences.append(len(held()))
        if len(fences) == 3:
            raise IllegalMove

    with pytest.raises(IllegalMove):
        draft.add_files(pack, file_rows(1, 10), fence)
    assert fences == [0, 4, 8]
    assert held() == list(range(1, 9))


def test_a_new_attempt_starts_clean(monkeypatch):
    batches(monkeypatch, 2)
    other = archived(8, first=100)
    old = drafted(7, attempt=1, first=1, count=5)
    draft.add_files(old, file_rows(1, 5), no_fence)
    new = drafted(7, attempt=2, first=1, count=5)
    assert held() == [100, 101, 102]
    assert Pack.get_by_id(old.id).name == old.name  # for the reaper, which discards the bytes
    draft.add_files(new, file_rows(1, 5), no_fence)
    same = drafted(7, attempt=3, first=1, count=5, name=new.name)
    assert held() == [100, 101, 102]
    assert same.id not in (old.id, new.id, other.id)
    with pytest.raises(IllegalMove):
        drafted(7, attempt=2)
    with pytest.raises(IllegalMove):
        drafted(8, attempt=9)  # its pack is published


def test_a_job_of_several_packs_keeps_them_within_its_attempt():
    one = drafted(7, attempt=1, first=1, count=1)
    draft.add_files(one, file_rows(1, 1), no_fence)
    two = drafted(7, attempt=1, first=2, count=1)
    draft.add_files(two, file_rows(2, 1), no_fence)
    with orm.transaction():
        draft.publish(one)
        draft.publish(two)
    assert list(ledger.locate([1, 2])) == [1, 2]


def test_dropping_takes_rows_and_bytes_and_can_be_repeated(volume):
    kept = archived(8, first=50)
    pack = drafted(7)
    draft.add_files(pack, file_rows(1, 3), no_fence)
    volume.pack_path(pack.name).parent.mkdir(parents=True)
    volume.pack_path(pack.name).write_bytes(b"bytes")
    assert draft.drop_unpublished([7], volume) == 1
    assert draft.drop_unpublished([7], volume) == 0
    assert draft.drop_unpublished([8], volume) == 0
    assert not volume.pack_path(pack.name).exists()
    assert held() == [50, 51, 52]
    with pytest.raises(IllegalMove):
        draft.abandon(kept, volume)
    with pytest.raises(IllegalMove):  # whoever still held the draft cannot bring it back
        draft.publish(pack)


def test_a_draft_of_no_job_is_an_orphan_once_it_is_old():
    fresh = draft.begin_pack(new_name(), "file", None, 0, 1, 1, 5, "ann")
    drafted(7)
    assert draft.orphans(3600) == []
    Pack.update(created=orm.now() - 3601).execute()
    assert [pack.id for pack in draft.orphans(3600)] == [fresh.id]


def test_a_single_file_is_a_pack_of_its_own(volume):
    pack = put(volume, 42, b"hello")
    assert content(volume, 42) == b"hello"
    found = ledger.find(42)
    assert (found.kind, found.transaction, found.header, found.mtime, found.name) == ("file", None, 0, 3.5, "x")
    sidecar = Sidecar.read(volume, pack.name)
    assert (sidecar.first_id, sidecar.count, sidecar.extra["hashsum"]) == (42, 1, found.hashsum)
    assert list(volume.spool.iterdir()) == []


def test_a_put_supersedes_an_older_holder_and_leaves_its_bytes_alone(volume):
    old = put(volume, 42, b"hello")
    ledger.mark_damaged(42)
    put(volume, 42, b"world!")
    assert content(volume, 42) == b"world!"
    assert ledger.find(42).verdict is None
    assert volume.pack_path(old.name).read_bytes() == b"hello"
    assert held() == [42]


def test_a_put_of_no_job_leaves_a_file_in_its_transaction(volume):
    archived(7)
    put(volume, 2, b"mended")
    assert content(volume, 2) == b"mended"
    assert ledger.find(2).transaction == 7


def test_a_put_does_not_take_an_id_from_an_unfinished_job(volume):
    pack = drafted(7)
    draft.add_files(pack, file_rows(1, 3), no_fence)
    with pytest.raises(IllegalMove):
        put(volume, 2, b"hello")
    assert [path for path in volume.packs.rglob("*") if path.is_file()] == []
    assert Pack.select().count() == 1
    with orm.transaction():
        draft.publish(pack)


def test_concurrent_puts_of_one_id_leave_one_whole_holder(volume):
    contents = [bytes([number]) * 1000 for number in range(8)]
    threads = [threading.Thread(target=put, args=(volume, 42, data)) for data in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert content(volume, 42) in contents
    assert hashlib.sha1(content(volume, 42)).hexdigest() == ledger.find(42).hashsum
