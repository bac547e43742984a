"""Content that comes again: told of where it may be read, and looked for no longer than it takes."""

from dataclasses import dataclass

import pytest

from pacifica.common import draft, entry, ledger, orm, repetition
from pacifica.common.catalog import record
from pacifica.common.repetition import EACH, STEP, originals
from pacifica.common.volume import new_name

pytestmark = pytest.mark.usefixtures("database")

DIGEST = "ab" * 20
PREFIX = entry.prefix(DIGEST)


@dataclass
class Who:
    name: str
    administrator: bool = False
    service: bool = False


BOB, ROOT = Who("bob"), Who("root", administrator=True)


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """Let a machine be as slow as it is."""
    monkeypatch.setattr(repetition, "SECONDS", 600.0)


def held(transaction, first, count, owner="ann", digests=(DIGEST,)):
    """Archive files of ``owner``, the digests in turn, and enter them."""
    pack = draft.begin_pack(new_name(), "bundle", transaction, 1, first, count, 9999, owner)
    rows = [(id, 0, 4, 512, "sha1", digests[(id - first) % len(digests)], "", f"{id}", "text/plain", 1.5, 2.5)
            for id in range(first, first + count)]  # fmt: skip
    draft.add_files(pack, rows, lambda: None)
    with orm.transaction():
        record(transaction, owner=owner, submitter=10, project="p", instrument="i")
        draft.publish(pack)
        entry.enter_digests((entry.prefix(row[5]), row[0]) for row in rows)


def told(prefixes, who, **more):
    return [(position, original.told) for position, original in originals(prefixes, who, **more)]


def test_of_one_content_the_newest_place_that_may_be_read_is_told():
    held(1, 100, 1, "bob")
    held(2, 101, 1, "bob")
    held(3, 102, EACH - 1)
    assert told([PREFIX, -1, 7, PREFIX], BOB) == [
        (0, {"file": 101, "transaction": 2}),
        (3, {"file": 101, "transaction": 2}),
    ]
    assert told([PREFIX], ROOT) == [(0, {"file": 100 + EACH, "transaction": 3})]


def test_what_lies_behind_many_that_may_not_be_read_is_not_looked_for():
    held(1, 100, 1, "bob")
    held(3, 102, EACH)
    assert told([PREFIX], BOB) == []


def test_nothing_is_told_of_what_may_not_be_read_or_is_there_no_more():
    held(1, 100, 3)
    assert told([PREFIX], BOB) == []
    for id in (102, 101):
        ledger.delete_file(id, "ann")
    assert told([PREFIX], ROOT) == [(0, {"file": 100, "transaction": 1})]
    ledger.delete_file(100, "ann")
    assert told([PREFIX], ROOT) == []


def test_who_has_enough_pays_for_no_more(monkeypatch):
    digests = [f"{number:015x}" + "0" * 25 for number in range(3)]
    held(1, 100, 3, digests=digests)
    asked = []
    real = repetition.places
    monkeypatch.setattr(repetition, "places", lambda wanted, each: asked.append(len(wanted)) or real(wanted, each))
    found = originals([0, *range(10, STEP + 10), 1, *range(20_000, 20_000 + STEP), 2], ROOT)
    assert [next(found)[0], asked] == [0, [STEP]]
    assert [next(found)[0], asked] == [STEP + 1, [STEP] * 2]


def test_an_index_that_answers_slowly_keeps_nobody_waiting(monkeypatch):
    held(1, 100, 2, digests=["0" * 40, f"{1:015x}" + "0" * 25])
    prefixes = [0, *range(10, STEP + 10), 1]
    assert [position for position, _ in originals(prefixes, ROOT)] == [0, STEP + 1]
    monkeypatch.setattr(repetition, "SECONDS", 0.0)
    assert [position for position, _ in originals(prefixes, ROOT)] == [0]


def test_the_search_behind_what_may_not_be_read_has_an_end(monkeypatch):
    digests = [f"{number:015x}" + "0" * 25 for number in range(STEP // EACH * 4)]
    held(1, 100, len(digests), "bob", digests)
    held(2, 1000, len(digests), "ann", digests)
    prefixes = range(len(digests))
    assert [position for position, _ in originals(prefixes, BOB)] == list(prefixes)
    monkeypatch.setattr(repetition, "OLDER", STEP // EACH + 1)
    assert [position for position, _ in originals(prefixes, BOB)] == list(prefixes[: STEP // EACH])
