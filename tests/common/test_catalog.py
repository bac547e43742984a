"""The catalogue: what is recorded, listed and may be read."""

from dataclasses import dataclass

import pytest

from pacifica.common import draft, ledger, orm
from pacifica.common.catalog import (
    FileKeyValue,
    ProjectUser,
    Transaction,
    TransactionKeyValue,
    User,
    files_of,
    iso,
    may_read,
    readable_transactions,
    record,
)
from pacifica.common.errors import BadRequest
from pacifica.common.volume import new_name

pytestmark = pytest.mark.usefixtures("database")


@dataclass
class Who:
    name: str
    administrator: bool = False
    service: bool = False


def enter(id, **fields):
    about = {"owner": "poster", "submitter": 10, "project": "1234a", "instrument": 54} | fields
    with orm.transaction():
        record(id, **about)


def archived(job, first, count=2, owner="poster", publish=True):
    pack = draft.begin_pack(new_name(), "bundle", job, 1, first, count, 9999, owner)
    rows = ((id, 0, 4, 512, "sha1", "ab" * 20, "small/a", f"{id}.txt", "text/plain", 1795246628.0, 1795246628.9)
            for id in range(first, first + count))  # fmt: skip
    draft.add_files(pack, rows, lambda: None)
    if publish:
        with orm.transaction():
            draft.publish(pack)
    return pack


def person(id, network_id=None):
    User.insert(id=id, network_id=network_id, updated=orm.now()).execute()


def test_a_transaction_is_recorded_with_its_key_values():
    said, of_files = [("Temp C", "27"), ("Runs", 3), ("Temp C", "28")], [(5, "gain", "5.66%"), (6, "raw", True)]
    enter(1002, extra={"proposal": 7}, key_values=said, file_key_values=iter(of_files))
    row = Transaction.get_by_id(1002)
    assert (row.owner, row.submitter, row.project, row.instrument) == ("poster", "10", "1234a", "54")
    assert row.extra == '{"proposal": 7}'
    assert abs(row.created - orm.clock()) < 60
    rows = TransactionKeyValue.select().order_by(TransactionKeyValue.id)
    assert [(kv.transaction, kv.key, kv.value) for kv in rows] == [
        (1002, "Temp C", "27"), (1002, "Runs", "3"), (1002, "Temp C", "28"),
    ]  # fmt: skip
    rows = FileKeyValue.select().order_by(FileKeyValue.id)
    assert [(kv.file, kv.key, kv.value) for kv in rows] == [(5, "gain", "5.66%"), (6, "raw", "true")]


def test_recording_ends_with_the_callers_transaction():
    with pytest.raises(ZeroDivisionError), orm.transaction():
        record(1, owner="a", submitter=1, project="p", instrument="i", key_values=[("k", "v")])
        raise ZeroDivisionError
    assert Transaction.select().count() == TransactionKeyValue.select().count() == 0


@pytest.mark.parametrize("value", ["a\0b", "\ud800"])
def test_text_that_a_database_cannot_hold_is_refused(value):
    for fields in ({"project": value}, {"key_values": [("k", value)]}, {"file_key_values": [(1, value, "v")]}):
        with pytest.raises(BadRequest):
            enter(1, **fields)
    assert Transaction.select().count() == 0


def test_the_files_of_a_transaction_are_listed_as_pacifica_does(monkeypatch):
    archived(1002, first=100, count=3)
    archived(1003, first=200, count=1)
    monkeypatch.setattr("pacifica.common.batch.BATCH", 2)
    files = list(files_of(1002))
    assert [file["_id"] for file in files] == [100, 101, 102]
    created = files[0].pop("created")
    assert files[0].pop("updated") == created
    assert created[:2] == "20"
    assert len(created) == 19
    assert files[0] == {
        "_id": 100, "name": "100.txt", "subdir": "small/a", "mimetype": "text/plain", "size": 4,
        "hashsum": "ab" * 20, "hashtype": "sha1", "transaction": 1002, "transaction_id": 1002,
        "encoding": "UTF8", "suspense_date": None, "ctime": "2026-11-21T07:37:08",
        "mtime": "2026-11-21T07:37:08", "deleted": None,
    }  # fmt: skip
    assert list(files_of(9)) == []


def test_a_listing_passes_over_gaps_between_ids_and_over_what_is_not_published(monkeypatch):
    archived(1, first=1, count=9)
    archived(2, first=20, count=5, publish=False)
    for id in range(2, 8):
        ledger.delete_file(id, "bob")
    monkeypatch.setattr("pacifica.common.batch.BATCH", 2)
    assert [file["_id"] for file in files_of(1)] == [1, 8, 9]
    assert list(files_of(2)) == []


def test_unpublished_and_deleted_files_are_not_listed():
    archived(1, first=1, publish=False)
    archived(2, first=10)
    ledger.delete_file(10, "bob")
    assert list(files_of(1)) == []
    assert [file["_id"] for file in files_of(2)] == [11]


def test_times_no_date_can_hold_are_clamped():
    assert iso(-1e18) == "0001-01-01T00:00:00"
    assert iso(1e18) == "9999-12-31T23:59:59"


def test_administrators_and_services_read_every_published_file():
    archived(1, first=1)
    archived(2, first=10, publish=False)
    for who in (Who("x", administrator=True), Who("x", service=True)):
        assert may_read(who, [1, 2, 3, 10]) == {1, 2}
        assert readable_transactions(who, [5, 6]) == {5, 6}


def test_others_read_what_they_posted_submitted_or_are_related_to():
    person("10", "sue")
    person("11", "rob")
    person("12", "eve")
    ProjectUser.create(project="1234a", user="11")
    enter(1)
    enter(2, submitter="sue", project="other")
    archived(1, first=1)
    archived(2, first=10, owner="someone")
    archived(3, first=20, owner="loner")  # no transaction is recorded for these
    ids = [1, 2, 10, 11, 20, 21, 99]
    assert may_read(Who("poster"), ids) == {1, 2, 10, 11}  # posted both transactions
    assert may_read(Who("sue"), ids) == {1, 2, 10, 11}  # by her person's id, and by name
    assert may_read(Who("rob"), ids) == {1, 2}  # by project
    assert may_read(Who("loner"), ids) == {20, 21}  # by pack
    assert may_read(Who("eve"), ids) == set()
    assert may_read(Who("stranger"), ids) == set()


def test_a_name_that_is_another_persons_id_reads_nothing_of_theirs():
    person("10", "sue")
    enter(1, owner="x")
    archived(1, first=1, owner="x")
    assert may_read(Who("10"), [1, 2]) == set()


def test_a_nameless_owner_is_nobody():
    archived(1, first=1, owner="")
    assert may_read(Who(""), [1, 2]) == set()


def test_a_name_without_a_person_stands_for_itself():
    enter(1, owner="x", submitter="sue")
    ProjectUser.create(project="p", user="rob")
    enter(2, owner="x", submitter="y", project="p")
    archived(1, first=1, owner="x")
    archived(2, first=10, owner="x")
    assert may_read(Who("sue"), [1, 2, 10]) == {1, 2}
    assert may_read(Who("rob"), [1, 2, 10, 11]) == {10, 11}
