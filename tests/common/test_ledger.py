"""The ledger on both databases: ids that never repeat, rows that appear all at once."""

import hashlib
import random
import threading
from pathlib import Path

import pytest

from pacifica.common import ledger, orm
from pacifica.common.errors import Gone, IllegalMove, NotFound
from pacifica.common.ledger import ArchivedFile, Pack, Tombstone
from pacifica.common.pack import PackReader, Sidecar
from pacifica.common.spool import receive
from pacifica.common.volume import Volume, new_name

pytestmark = pytest.mark.usefixtures("database")
NAMESPACE = Path(__file__).parents[2] / ".namespace"


@pytest.fixture
def volume(tmp_path):
    return Volume(tmp_path, 0)


def no_fence():
    pass


def file_rows(first, count, **fields):
    about = {"header": 512, "hashtype": "sha1", "hashsum": "0" * 40, "subdir": "a/b", "mimetype": "text/plain"} | fields
    for id in range(first, first + count):
        yield (
            id, (id - first) * 1024 + 512, 300, about["header"], about["hashtype"], about["hashsum"], about["subdir"],
            f"file{id}", about["mimetype"], 1.5, 2.5,
        )  # fmt: skip


def draft(job, attempt=1, first=1, count=3, name=None):
    return ledger.begin_pack(name or new_name(), "bundle", job, attempt, first, count, 9999, "ann")


def archived(job, first=1, count=3):
    pack = draft(job, first=first, count=count)
    ledger.add_files(pack, file_rows(first, count), no_fence)
    with orm.transaction():
        ledger.publish(pack)
    return pack


def held():
    return sorted(row[0] for row in orm.rows("SELECT id FROM archivedfile"))


# ---- ids -----------------------------------------------------------------------------------------------------------


def test_modes_count_apart_and_a_rollback_takes_no_id():
    assert ledger.allocate("file", 10) == 1
    assert ledger.allocate("upload_job") == 1
    with pytest.raises(ZeroDivisionError), orm.transaction():
        assert ledger.allocate("file", 5) == 11
        raise ZeroDivisionError
    assert ledger.allocate("file", 1) == 11
    assert ledger.allocate("file", 1 << 40) == 12
    assert ledger.allocate("file", 1) == 12 + (1 << 40)
    with pytest.raises(ValueError, match="at least one"):
        ledger.allocate("file", 0)


# ---- a pack --------------------------------------------------------------------------------------------------------


def test_files_appear_with_their_pack_and_not_before():
    pack = draft(7, first=10, count=2)
    assert ledger.add_files(pack, file_rows(10, 2), no_fence) == 2
    assert ledger.locate([10, 11]) == {}
    with pytest.raises(NotFound):
        ledger.find(10)
    with orm.transaction():
        ledger.publish(pack)
    found = ledger.locate([11, 99, 10])
    assert list(found) == [11, 10]
    assert found[11]._asdict() == {
        "id": 11, "pack": pack.name, "offset": 1536, "size": 300, "header": 512, "hashtype": "sha1",
        "hashsum": "0" * 40, "mtime": 2.5, "subdir": "a/b", "name": "file11", "owner": "ann", "transaction": 7,
        "mimetype": "text/plain", "ctime": 1.5, "verdict": None, "kind": "bundle",
    }  # fmt: skip
    assert ledger.find(10) == found[10]


def test_publishing_belongs_to_the_callers_transaction():
    pack = draft(7, count=1)
    ledger.add_files(pack, file_rows(1, 1), no_fence)
    with pytest.raises(ZeroDivisionError), orm.transaction():
        ledger.publish(pack)
        raise ZeroDivisionError
    assert ledger.locate([1]) == {}
    with orm.transaction():
        ledger.publish(Pack.get_by_id(pack.id))
    assert list(ledger.locate([1])) == [1]
    with pytest.raises(IllegalMove):
        ledger.publish(pack)


def test_a_pack_that_lacks_rows_is_not_published():
    pack = draft(7, count=3)
    ledger.add_files(pack, file_rows(1, 2), no_fence)
    with pytest.raises(IllegalMove) as caught:
        ledger.publish(pack)
    assert caught.value.detail == {"held": 2, "count": 3}
    assert ledger.locate([1]) == {}


def test_each_batch_is_fenced_within_its_own_transaction(monkeypatch):
    monkeypatch.setattr(ledger, "BATCH", 4)
    pack = draft(7, count=10)
    fences = []

    def fence():
        assert orm.database.in_transaction()
        fences.append(len(held()))
        if len(fences) == 3:
            raise IllegalMove

    with pytest.raises(IllegalMove):
        ledger.add_files(pack, file_rows(1, 10), fence)
    assert fences == [0, 4, 8]
    assert held() == list(range(1, 9))


def test_a_new_attempt_starts_clean(monkeypatch):
    monkeypatch.setattr(ledger, "BATCH", 2)
    other = archived(8, first=100)
    old = draft(7, attempt=1, first=1, count=5)
    ledger.add_files(old, file_rows(1, 5), no_fence)
    new = draft(7, attempt=2, first=1, count=5)
    assert held() == [100, 101, 102]
    assert Pack.get_by_id(old.id).name == old.name  # for the reaper, which discards the bytes
    ledger.add_files(new, file_rows(1, 5), no_fence)
    same = draft(7, attempt=3, first=1, count=5, name=new.name)
    assert held() == [100, 101, 102]
    assert same.id not in (old.id, new.id, other.id)
    with pytest.raises(IllegalMove):
        draft(7, attempt=2)
    with pytest.raises(IllegalMove):
        draft(8, attempt=9)  # its pack is published


def test_a_job_of_several_packs_keeps_them_within_its_attempt():
    one = draft(7, attempt=1, first=1, count=1)
    ledger.add_files(one, file_rows(1, 1), no_fence)
    two = draft(7, attempt=1, first=2, count=1)
    ledger.add_files(two, file_rows(2, 1), no_fence)
    with orm.transaction():
        ledger.publish(one)
        ledger.publish(two)
    assert list(ledger.locate([1, 2])) == [1, 2]


def test_dropping_takes_rows_and_bytes_and_can_be_repeated(volume):
    kept = archived(8, first=50)
    pack = draft(7)
    ledger.add_files(pack, file_rows(1, 3), no_fence)
    volume.pack_path(pack.name).parent.mkdir(parents=True)
    volume.pack_path(pack.name).write_bytes(b"bytes")
    assert ledger.drop_unpublished(7, volume) == 1
    assert ledger.drop_unpublished(7, volume) == 0
    assert ledger.drop_unpublished(8, volume) == 0
    assert not volume.pack_path(pack.name).exists()
    assert held() == [50, 51, 52]
    with pytest.raises(IllegalMove):
        ledger.abandon(kept, volume)
    with pytest.raises(IllegalMove):  # whoever still held the draft cannot bring it back
        ledger.publish(pack)


def test_a_draft_of_no_job_is_an_orphan_once_it_is_old():
    fresh = ledger.begin_pack(new_name(), "file", None, 0, 1, 1, 5, "ann")
    draft(7)
    assert ledger.orphans(3600) == []
    Pack.update(created=orm.now() - 3601).execute()
    assert [pack.id for pack in ledger.orphans(3600)] == [fresh.id]


# ---- look-up -------------------------------------------------------------------------------------------------------


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


# ---- single files --------------------------------------------------------------------------------------------------


def put(volume, id, data):
    spooled = volume.spool / new_name()
    source = iter([data, b""])

    def fill(view):
        piece = next(source)
        view[: len(piece)] = piece
        return len(piece)

    received = receive(fill, spooled)
    hashsum = hashlib.sha1(data).hexdigest()
    facts = {"hashtype": "sha1", "hashsum": hashsum, "mtime": 3.5, "name": "x", "owner": "ann"}
    return ledger.put_file(volume, spooled, received, id, **facts)


def content(volume, id):
    found = ledger.find(id)
    with PackReader(volume, found.pack) as reader:
        return b"".join(reader.read(found.offset, found.size))


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
    pack = draft(7)
    ledger.add_files(pack, file_rows(1, 3), no_fence)
    with pytest.raises(IllegalMove):
        put(volume, 2, b"hello")
    assert [path for path in volume.packs.rglob("*") if path.is_file()] == []
    assert Pack.select().count() == 1
    with orm.transaction():
        ledger.publish(pack)


def test_concurrent_puts_of_one_id_leave_one_whole_holder(volume):
    contents = [bytes([number]) * 1000 for number in range(8)]
    threads = [threading.Thread(target=put, args=(volume, 42, data)) for data in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert content(volume, 42) in contents
    assert hashlib.sha1(content(volume, 42)).hexdigest() == ledger.find(42).hashsum


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
    pack = draft(7)
    ledger.add_files(pack, file_rows(1, 3), no_fence)
    with pytest.raises(NotFound):
        ledger.delete_file(1, "bob")
    assert held() == [1, 2, 3]
