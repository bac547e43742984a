"""Lists of data objects and processes: what each filter, lookup, order and page means, on both databases."""

import json
import random
from contextlib import suppress
from datetime import UTC, datetime

import pytest

from pacifica.common import orm
from pacifica.common.catalog import User
from pacifica.common.errors import BadRequest
from pacifica.flow import lists, narrowing, words
from pacifica.flow.orm import SCHEMA, Data, FlowSystem, Process
from pacifica.flow.query import LOOKUPS
from pacifica.flow.words import words_of

WORDS = ["Mouse", "liver", "raw", "Über", "run", "42", "a_b", "liverwort", "Łódź", "ΟΔΟΣ"]
TAGS = ["t", "t1", "x,y", "ü", 'quote"d']
MOMENT = 1_700_000_000.25


@pytest.fixture
def objects(database):
    """A hundred objects of two owners, as one owner's list of (row, tags) and a function that lists."""
    SCHEMA.sync()
    random.seed(7)
    slugs = ["align", "sort", "count"]
    for number, slug in enumerate(slugs):
        facts = {"name": slug.title(), "category": "Test:", "persistence": "RAW", "scheduling_class": "batch"}
        document = {"slug": slug, "version": "1.0.0", "run": {"language": "bash", "program": ""}}
        Process.create(slug=slug, version="1.0.0", order=number, type=f"data:{slug}:", document=json.dumps(document),
                       digest="", **facts)  # fmt: skip
    for number in range(100):
        name = " ".join(random.sample(WORDS, 2))
        Data.create(
            state=random.choice(["OK", "ER", "FO", "PR"]), process=random.choice([1, 2, 3]), created=MOMENT + number,
            type=random.choice(["data:reads:", "data:reads:fastq:", "data:readset:", "data:Reads:"]),
            owner=random.choice(["ann", "ann", "bob"]), name=name, slug=f"{random.choice(slugs)}-{number}",
            tags=json.dumps(random.sample(TAGS, random.randrange(3))),
            started=random.choice([None, MOMENT + 86_400 * number]),
        )  # fmt: skip
    for login, first in (("ann", "Anna"), ("bob", "Robert")):
        User.create(id=login, network_id=login, first_name=first, last_name="Roe", updated=MOMENT)
    return lambda owner="ann", most=1000, **asked: lists.data(asked, owner, most)


def ids(rows):
    return {row.id for row in rows}


def held(fits, owner="ann"):
    """The ids of the objects that ``fits`` says fit, found without SQL's help."""
    return {row.id for row in Data.select() if owner in (None, row.owner) and fits(row)}


CASES = {
    "type": ("data:reads:", lambda row: row.type.startswith("data:reads:")),
    "type__exact": ("data:reads:", lambda row: row.type == "data:reads:"),
    "tags": ("t", lambda row: "t" in json.loads(row.tags)),
    "tags__exact": ("t", lambda row: "t" in json.loads(row.tags)),
    "owners_name__exact": ("ann", lambda row: True),
    "status": ("PR", lambda row: row.state in ("PR", "FO")),
    "status__in": ("OK,ER", lambda row: row.state in ("OK", "ER")),
    "process": ("2", lambda row: row.process == 2),
    "process__in": ("1,3", lambda row: row.process in (1, 3)),
    "process__slug": ("sort", lambda row: row.process == 2),
    "process__name__istartswith": ("co", lambda row: row.process == 3),
    "name__contains": ("liver", lambda row: "liver" in row.name),
    "name__contains=LIVER": ("LIVER", lambda row: False),
    "name__contains=a_b": ("a_b", lambda row: "a_b" in row.name),
    "name__contains=%": ("% a", lambda row: False),
    "name__contains=42 r": ("42 r", lambda row: "42 r" in row.name),
    "name__icontains=short": ("RU", lambda row: "ru" in row.name.lower()),
    'name__contains="': ('a"b', lambda row: False),
    "name__contains=b": ("b", lambda row: "b" in row.name),
    "name__contains=q": ("q", lambda row: False),
    "name__contains=Üb": ("Üb", lambda row: "Üb" in row.name),
    "name__contains=_": ("_", lambda row: "_" in row.name),
    "name__contains=": ("", lambda row: True),
    "name__icontains=üB": ("üB", lambda row: "Üb" in row.name),
    "name__icontains=Ü": ("Ü", lambda row: "Üb" in row.name),
    "name__icontains=ŁÓDŹ": ("ŁÓDŹ", lambda row: "Łódź" in row.name),
    "name__icontains=sigma": ("\u03c3", lambda row: "ΟΔΟΣ" in row.name),
    "name__istartswith=łó": ("łó", lambda row: row.name.startswith("Łódź")),
    "name__iexact=ł": ("łÓDŹ \u03bf\u03b4\u03bf\u03c2", lambda row: False),
    "name__icontains=M": ("M", lambda row: "m" in row.name.lower()),
    "name__icontains=mO": ("mO", lambda row: "mo" in row.name.lower()),
    "name__istartswith=l": ("l", lambda row: row.name.startswith("l")),
    "finished__isnull": ("true", lambda row: True),
    "modified__gt": ("2001-01-01", lambda row: True),
    "name__icontains": ("LIVER", lambda row: "liver" in row.name),
    "name__startswith": ("mouse", lambda row: row.name.startswith("mouse")),
    "name__istartswith": ("mouse", lambda row: row.name.startswith("Mouse")),
    "name": ("Mouse raw", lambda row: row.name == "Mouse raw"),
    "name__iexact": ("mOUSE raw", lambda row: row.name == "Mouse raw"),
    "name__in": ("Mouse raw,raw liver", lambda row: row.name in ("Mouse raw", "raw liver")),
    "slug__in": ("align-0,align-1,sort-1", lambda row: row.slug in ("align-0", "align-1", "sort-1")),
    "id__gte": ("50", lambda row: row.id >= 50),
    "id__in": ("1,2,3,4,5", lambda row: row.id <= 5),
    "created__lt": ("2023-11-14T22:14:00", lambda row: row.created < 1_700_000_040),
    "created__date": ("2023-11-14", lambda row: True),
    "started__isnull": ("true", lambda row: row.started is None),
    "started__date": ("2023-11-20", lambda row: row.started is not None and day(row.started) == "2023-11-20"),
    "created__time": ("22:13:25", lambda row: int(row.created) == 1_700_000_005),
    "contributor": ("bob", lambda row: False),
    "owners__in": ("ann,bob", lambda row: True),
    "contributor_name": ("roe ANN", lambda row: True),
    "owners_name": ("robert", lambda row: False),
}


def day(seconds):
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


@pytest.mark.parametrize(
    ("few", "many", "walk"),
    [(5_000, 50_000, 20_000), (0, 0, 20_000), (0, 0, 7), (0, 50_000, 7), (5_000, 50_000, 7)],
    ids=["by index", "along the order", "past the first", "by the smallest index", "parts by index"],
)
def test_each_filter_gives_just_the_objects_that_fit(objects, monkeypatch, few, many, walk):
    for name, value in (("FEW", few), ("MANY", many), ("WALK", walk)):
        monkeypatch.setattr(narrowing, name, value)
    for case, (value, fits) in CASES.items():
        name = case.partition("=")[0]
        assert ids(objects(**{name: value})) == held(fits), case
        assert ids(objects(owner=None, **{name: value})) >= held(fits), case
    assert ids(objects(owner=None, owners_name="roe bob")) == held(lambda row: row.owner == "bob", None)
    both = objects(type="data:reads:", tags="t", process__slug="sort", status="PR")
    assert ids(both) == held(
        lambda row: row.type.startswith("data:reads:") and "t" in json.loads(row.tags)
        and row.process == 2 and row.state in ("PR", "FO")
    )  # fmt: skip
    assert objects(type="data:nothing:") == objects(tags="nothing") == objects(process__slug="nothing") == []
    assert ids(objects(tags="t,t1")) == held(lambda row: {"t", "t1"} <= set(json.loads(row.tags)))


@pytest.mark.parametrize("glance", [0, 7, 500])
def test_a_page_at_the_head_of_a_list_is_the_head_of_the_whole_list(objects, monkeypatch, glance):
    monkeypatch.setattr(narrowing, "GLANCE", glance)
    for case, (value, _) in CASES.items():
        for owner in ("ann", "bob", None):
            asked = {case.partition("=")[0]: value, "ordering": "-created,id", "owner": owner}
            whole = [row.id for row in objects(**asked)]
            assert [row.id for row in objects(limit="3", offset="1", **asked)] == whole[1:4], case
    assert [row.id for row in objects(limit="2")] == [row.id for row in objects()][:2]


def test_tags_and_words_follow_every_change_of_a_row(objects):
    for row in list(Data.select().where(Data.id.in_(range(3, 100, 3)))):
        Data.update(tags=json.dumps(["new", "new"]), name="changed").where(Data.id == row.id).execute()
    Data.delete().where(Data.id.in_(range(5, 101, 5))).execute()
    assert ids(objects(tags="new")) == held(lambda row: "new" in json.loads(row.tags))
    assert ids(objects(tags="t")) == held(lambda row: "t" in json.loads(row.tags))
    assert ids(objects(name__contains="hang")) == held(lambda row: row.name == "changed")
    assert ids(objects(name__contains="Mou")) == held(lambda row: "Mou" in row.name)
    assert ids(objects(text="changed")) == held(lambda row: row.name == "changed")
    assert ids(objects(text="mouse")) == held(lambda row: "Mouse" in row.name)


def test_the_most_that_may_be_said_of_an_object_is_found_again(objects):
    tags = [f"{number:03}" + "ü" * 252 for number in range(100)]
    row = Data.create(state="OK", process=1, type="data:a:", owner="ann", name="ß" * 100, tags=json.dumps(tags))
    assert ids(objects(tags=tags[7])) == ids(objects(text="ß" * 100)) == {row.id}


@pytest.mark.parametrize("few", [5_000, 0], ids=["one by one", "by index"])
def test_a_text_fits_where_each_of_its_words_begins_a_word_and_the_best_come_first(objects, monkeypatch, few):
    monkeypatch.setattr(narrowing, "FEW", few)

    def begins(row, text):
        said = words_of(f"{row.name} {row.slug} {row.tags} {row.owner}")
        return all(any(one.startswith(word) for one in said) for word in words_of(text))

    for text in ("liver", "LIVER mou", "über", "42", "b a", "sort", "quote", "ann", "nothing", "li; DROP TABLE data"):
        assert ids(objects(text=text)) == held(lambda row, text=text: begins(row, text)), text
    names = [row.name.split() for row in objects(text="liver")]
    assert names == sorted(names, key=lambda one: "liver" not in one)
    assert {"liver" in one for one in names} == {True, False}
    assert ids(objects(text="liver", status="OK")) == held(lambda row: row.state == "OK" and "liver" in row.name)
    assert [row.id for row in objects(text="liver", limit="2", offset="1")] == [
        row.id for row in objects(text="liver")
    ][1:3]


def test_lists_are_ordered_and_cut(objects):
    everything = objects()
    assert [row.created for row in everything] == sorted((row.created for row in everything), reverse=True)
    assert [row.id for row in objects(ordering="name,-id", limit="7", offset="2")] == [
        row.id for row in sorted(everything, key=lambda row: (row.name.encode(), -row.id))
    ][2:9] or not orm.is_postgres()
    assert len(objects(most=5)) == len(objects(most=5, limit="50")) == 5


@pytest.mark.parametrize("few", [5_000, 0], ids=["by index", "along the order"])
def test_lists_are_ordered_by_what_processes_and_people_are_called(objects, monkeypatch, few):
    monkeypatch.setattr(narrowing, "FEW", few)
    User.update(last_name="Ah").where(User.id == "bob").execute()
    Data.create(state="OK", process=1, type="data:a:", owner="eve", name="raw", tags="[]")
    names = {row.id: row.name for row in Process.select()}
    people = {"ann": ("Anna", "Roe"), "bob": ("Robert", "Ah"), "eve": ("", "")}
    for asked, key in {
        "process__name,-id": lambda row: (names[row.process], -row.id),
        "process__type,process__name,id": lambda row: (names[row.process], row.id),
        "-contributor__last_name,id": lambda row: (-ord((people[row.owner][1] or "\0")[0]), row.id),
        "contributor__first_name,-id": lambda row: (people[row.owner][0], -row.id),
        "contributor__last_name,process__name,id": lambda row: (people[row.owner][1], names[row.process], row.id),
        "process__name": lambda row: (names[row.process], -row.created),
    }.items():
        for filters in ({}, {"name__contains": "raw"}, {"status": "OK", "tags": "t"}):
            fitting = objects(owner=None, ordering=asked, **filters)
            if "," in asked or not filters:
                assert fitting == sorted(fitting, key=key), (asked, filters)
            page = objects(owner=None, ordering=asked, limit="3", offset="2", **filters)
            if "," in asked:
                assert page == fitting[2:5], (asked, filters)


@pytest.mark.parametrize(
    "asked",
    [
        {"nonsense": "1"},
        {"status__gt": "OK"},
        {"id": "x"},
        {"id": "99999999999999999999"},
        {"created__gt": "yesterday"},
        {"created__time": "25:00"},
        {"started__isnull": "maybe"},
        {"tags": ","},
        {"name": "a\0b"},
        {"text": "...", "limit": "1"},
        {"text": "a", "ordering": "name"},
        {"ordering": "checksum"},
        {"limit": "-1"},
        {"offset": "x"},
        {"name": ["a", "b"]},
        {"process__gt": "1"},
    ],
    ids=str,
)
def test_a_bad_parameter_is_refused(objects, asked):
    with pytest.raises(BadRequest):
        objects(**asked)


def test_processes_are_found_by_text_and_filters(objects):
    assert [row.slug for row in lists.processes({"text": "sor"}, 10)] == ["sort"]
    assert [row.slug for row in lists.processes({"type": "data:co", "is_active": "true"}, 10)] == ["count"]
    assert [row.slug for row in lists.processes({"ordering": "-version", "limit": "1"}, 10)] == ["count"]
    assert [row.slug for row in lists.processes({"version__gte": "0.0.1", "version__lt": "0.0.2"}, 10)] == ["sort"]
    with pytest.raises(BadRequest, match="not a version"):
        lists.processes({"version": "1.x"}, 10)
    with pytest.raises(BadRequest, match=r"Allowed: .*category"):
        lists.processes({"status": "OK"}, 10)


def test_every_lookup_of_every_field_is_answered_or_refused(objects):
    asked = {
        lists.data: lists.DATA_FIELDS, lists.processes: lists.PROCESS_FIELDS, lists.triggers: lists.TRIGGER_FIELDS,
    }  # fmt: skip
    for function, fields in asked.items():
        for name, field in fields.items():
            taken = 0
            for lookup in LOOKUPS[field.kind]:
                for value in ("1", "2020-02-29", "true", "12:30:00", "a,b", "1.2.3"):
                    with suppress(BadRequest):
                        function({f"{name}__{lookup}": value}, *([None] if function is lists.data else []), 10)
                        taken += 1
            assert taken >= len(LOOKUPS[field.kind]), name


def test_a_database_of_the_version_before_gets_the_indexes_with_what_it_holds(objects):
    for statement in ("DROP TABLE datatag", "DROP INDEX data_owner_type_created"):
        orm.execute(statement + (" CASCADE" if orm.is_postgres() else ""))
    for trigger in ("insert", "update", "delete"):
        on = " ON data" if orm.is_postgres() else ""
        orm.execute(f"DROP TRIGGER IF EXISTS datatag_{trigger}{on}")
    for column in ("run", "interactive"):
        orm.execute(f"ALTER TABLE data DROP COLUMN {column}")
    FlowSystem.set_version((1, 0))
    SCHEMA.sync()
    assert FlowSystem.is_equal()
    assert ids(objects(tags="t")) == held(lambda row: "t" in json.loads(row.tags))
    assert "data_owner_type_created" in {index.name for index in orm.database.get_indexes("data")}


def test_words_and_parts_of_names_are_found_after_an_upgrade(objects):
    if orm.is_postgres():
        orm.execute("DROP TABLE datatext CASCADE")
        for name in ("enter", "change", "forget"):
            orm.execute(f"DROP FUNCTION datatext_{name} CASCADE")
        orm.execute("CREATE INDEX data_words ON data (name)")
    else:
        for trigger in ("insert", "update", "delete"):
            orm.execute(f"DROP TRIGGER dataletter_{trigger}")
        orm.execute("DROP TABLE dataletter")
        orm.execute("CREATE VIRTUAL TABLE datapart USING fts5(name, content='data', content_rowid='id')")
    FlowSystem.set_version((1, 4))
    SCHEMA.sync()
    SCHEMA.sync()
    Data.update(name="Zy").where(Data.id == 7).execute()
    assert ids(objects(owner=None, name__contains="Zy")) == ids(objects(owner=None, text="zy")) == {7}
    assert ids(objects(name__icontains="LIVER")) == held(lambda row: "liver" in row.name)
    assert ids(objects(text="liver")) == held(lambda row: "liver" in row.name)
    assert {"data_words"}.isdisjoint(index.name for index in orm.database.get_indexes("data"))
    assert "datapart" not in orm.database.get_tables()


def test_a_text_is_looked_for_among_all_that_pass_the_filters(objects, monkeypatch):
    monkeypatch.setattr(words, "RANKED", 3)
    monkeypatch.setattr(narrowing, "FEW", 0)
    for status in ("OK", "ER"):
        fitting = held(lambda row, status=status: row.state == status and "liver" in row.name)
        assert len(objects(text="liver", status=status)) == min(3, len(fitting)) > 0
        assert ids(objects(text="liver", status=status)) <= fitting


def test_the_newest_of_many_blocks_of_ids_come_first(objects, monkeypatch):
    for shift in (3 * words.BLOCK, 17 * words.BLOCK, 41 * words.BLOCK):
        Data.create(id=shift, state="OK", process=1, type="data:a:", owner="ann", name="rare", tags="[]")
    monkeypatch.setattr(narrowing, "FEW", 0)
    assert [row.id // words.BLOCK for row in objects(text="rare")] == [41, 17, 3]
    assert [row.id // words.BLOCK for row in objects(text="rare", limit="1", offset="1")] == [17]
