"""Searches find what a naive reading of everything finds, in the same order, for everybody, with both databases."""

from hashlib import md5, sha1, sha512
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pacifica.common import orm
from pacifica.common.entry import waiting
from pacifica.common.errors import BadRequest
from pacifica.common.tables import CommonSystem
from pacifica.datasafe import entering
from pacifica.datasafe.criteria import KINDS, parse
from pacifica.datasafe.entering import enter
from pacifica.datasafe.orm import SCHEMA, DatasafeSystem
from pacifica.datasafe.search import search
from pacifica.tests.datasafe.world import (
    BYTES,
    FOLDERS,
    MANIFEST,
    NAMES,
    WHO,
    WORDS,
    Deal,
    File,
    World,
    expected,
    whole,
)

pytestmark = pytest.mark.usefixtures("database")

words = st.sampled_from(
    [*WORDS, *NAMES, "spec*", "Fer* 01", "MEASURED", "again", "csv", "ein*", "run", "10", "42.1001"]
)
digests = [kind(content).hexdigest() for content in BYTES for kind in (sha1, sha512, md5)]
names = st.sampled_from(
    [
        *NAMES,
        *(f"{folder}/{name}" for folder in FOLDERS for name in NAMES),
        *("spec*", "run/*", "/*", "fer*", "Fer*", "ﬁt-e*", "ﬁt*", "_*", "größ*", "single *"),
        *("run/a/x", "x.info", "neu.txt"),
    ]
)
QUERIES = st.fixed_dictionaries(
    {},
    optional={
        "kind": st.sampled_from(KINDS),
        "text": st.lists(words, min_size=1, max_size=3).map(" ".join),
        "name": names,
        "checksum": st.sampled_from([*digests, *(f"md5:{one}" for one in digests), "sha1:" + "0" * 40]),
        "key": st.lists(st.sampled_from([*WORDS, *(key for key, _ in MANIFEST)]), min_size=1, max_size=2),
        "value": st.lists(st.sampled_from([*WORDS, *(value for _, value in MANIFEST)]), min_size=1, max_size=2),
        "project": st.sampled_from(["p1", "p2", "p3"]),
        "instrument": st.sampled_from(["i1", "54"]),
        "submitter": st.sampled_from(["ann", "bob", "10", "eve"]),
        "transaction": st.sampled_from(["1", "2", "9", "77"]),
        "loi": st.sampled_from(["42.1001", "sa/2", "/cwepr/1", "ds/exp", "sa/9"]),
        "since": st.sampled_from(["1003", "1003.5", "2002", "5000.5"]),
        "until": st.sampled_from(["1007", "2004", "4000"]),
        "limit": st.sampled_from(["1", "2", "5", "1000"]),
    },
)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path).fill()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(query=QUERIES, who=st.sampled_from(WHO))
def test_what_is_found_is_what_a_reading_of_everything_finds(world: World, query: dict[str, Any], who: Any) -> None:
    try:
        asked = parse(query)
    except BadRequest:
        return  # what no kind of thing has; test_criteria tells which
    assert whole(search, asked, who) == list(expected(world, asked, who))


def test_everything_is_found_when_nothing_is_asked(world: World) -> None:
    asked = parse({})
    for who in WHO:
        assert whole(search, asked, who) == list(expected(world, asked, who))
    everything = whole(search, asked, WHO[0])
    assert len(everything) == len(set(everything)) == len(world.files) + len(world.deals) + len(world.datasets)


def test_a_page_is_not_moved_by_what_comes_or_goes_meanwhile(world: World) -> None:
    asked = parse({"limit": "2", "kind": "file"})
    before = whole(search, parse({"kind": "file"}), WHO[0])
    first = search(asked, WHO[0])
    world.put(40_000, None, "ann")
    world.enter()
    told = [("file", one["id"]) for one in first.things]
    rest = whole(search, parse({"kind": "file", "cursor": first.next}), WHO[0])
    assert told + rest == before


def test_work_for_one_page_is_bounded_and_the_next_page_goes_on(world: World, monkeypatch: Any) -> None:
    monkeypatch.setattr("pacifica.datasafe.search.WORK", 3)
    for query in ({"text": "ferritin"}, {"name": "spectrum.DTA"}, {"kind": "file", "text": "no"}, {"project": "p2"}):
        asked = parse(query)
        for who in (WHO[0], WHO[3]):
            assert whole(search, asked, who) == list(expected(world, asked, who))


def test_what_waits_to_be_entered_is_found_by_facts_and_not_yet_by_words(world: World) -> None:
    world.deal(10, first=50_000, count=1)
    found = search(parse({"kind": "transaction", "transaction": "10"}), WHO[0]).things
    assert [one["transaction"] for one in found] == [10]
    assert search(parse({"kind": "file", "transaction": "10"}), WHO[0]).things == []
    world.enter()
    assert len(search(parse({"kind": "file", "transaction": "10"}), WHO[0]).things) == 1


def test_a_thing_that_cannot_be_entered_keeps_none_of_the_others_waiting(world: World, monkeypatch: Any) -> None:
    def broken(*_: Any) -> Any:
        raise ValueError("on purpose")

    world.dataset(7)
    world.deal(10, first=50_000, count=1)
    monkeypatch.setattr(type(world.safe.store), "open", broken)
    while enter(world.safe):
        pass
    assert [kind for (kind,) in orm.rows("SELECT kind FROM unentered")] == ["dataset"]
    assert len(search(parse({"kind": "file", "transaction": "10"}), WHO[0]).things) == 1


@pytest.mark.parametrize("kind", ["transaction", "pack"])
def test_a_row_that_cannot_be_entered_is_put_off_and_those_beside_it_are_entered(
    world: World, monkeypatch: Any, kind: str
) -> None:
    world.deal(10, first=50_000, count=1)
    world.deal(11, first=60_000, count=1)
    (bad,) = orm.rows("SELECT subject FROM unentered WHERE kind = ? ORDER BY id LIMIT 1", kind)[0]
    enters = getattr(entering, f"_{kind}")

    def broken(id: int, *given: Any) -> Any:
        if id != bad:
            return enters(id, *given)
        orm.execute("DELETE FROM entry")  # is taken back with all else that it did
        raise ValueError("on purpose")

    before = orm.rows("SELECT count(*) FROM entry")[0][0]
    monkeypatch.setattr(entering, f"_{kind}", broken)
    while enter(world.safe):
        pass
    assert orm.rows("SELECT kind, subject FROM unentered") == [(kind, bad)]
    assert orm.rows("SELECT count(*) FROM entry") == [(before + 3,)]


@pytest.mark.parametrize("older", [(1, 0), (1, 1)])
def test_a_database_without_an_index_is_brought_up_and_its_index_made_bit_by_bit(
    world: World, older: tuple[int, int]
) -> None:
    queries = [
        {"text": "ferritin"},
        {"name": "spectrum.DTA"},
        {"checksum": digests[0]},
        {"key": "EPR"},
        {"key": "dataset.complete"},
        {},
    ]
    before = [whole(search, parse(query), WHO[0]) for query in queries]
    assert all(before)
    for table in ("entry", "fulltext", "contentdigest", "unentered", "samecontent", "datasetfile", "datasetkeyvalue"):
        orm.execute(f"DROP TABLE {table}")
    orm.execute("DROP INDEX transactionkeyvalue_said")
    CommonSystem.set_version((1, 0))
    DatasafeSystem.set_version(older)
    assert not SCHEMA.check()  # no service starts on it
    SCHEMA.sync()
    assert SCHEMA.check(equal=True)
    assert waiting() >= len(world.deals) + len(world.datasets)
    facts = {"kind": "transaction", "project": "p1"}
    assert whole(search, parse(facts), WHO[0]) == list(expected(world, parse(facts), WHO[0]))
    for _ in range(1000):
        enter(world.safe, 0.0001)  # a worker that ends after each of its steps
    assert not waiting()
    assert [whole(search, parse(query), WHO[0]) for query in queries] == before


def test_long_names_and_long_values_are_cut_into_entries_that_a_database_takes(world: World) -> None:
    names = [f"{'lang ' * 48}{number}.dat" for number in range(1000)]
    said = [("abstract", " ".join(f"word{number}" for number in range(60_000)))]
    many = [File(60_000 + at, 11, "ann", "f" * 200, name, b"x", 1.0) for at, name in enumerate(names)]
    many[5].said = said
    world.bring(Deal(11, "ann", "10", "p1", "i1", 3000.0, said), many)
    world.enter()
    assert len(search(parse({"kind": "file", "transaction": "11", "limit": "1000"}), WHO[0]).things) == 1000
    assert [one["id"] for one in search(parse({"name": names[7]}), WHO[0]).things] == [60_007]
    found = search(parse({"text": "word5000 lang word9"}), WHO[0]).things
    assert len(found) == 100 and {one["transaction"] for one in found} == {11}
    assert orm.rows("SELECT count(*) FROM entry WHERE first >= 60000")[0][0] > 1
