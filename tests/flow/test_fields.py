"""Values against field lists: messages, and the order of complaints."""

import pytest

from pacifica.flow.fields import References, check, complete, find, parents
from pacifica.flow.values import BadValue, check_type, fits

GOOD = {
    "basic:string:": ["", "a"],
    "basic:text:": ["a\nb"],
    "basic:boolean:": [True, False],
    "basic:integer:": [0, -3],
    "basic:decimal:": [0, 1.5, -2],
    "basic:date:": ["2020-02-31", "1999-12-01"],
    "basic:datetime:": ["2020-01-01 10:11:12", "2020-01-01 10:11", "2020-01-01 7"],
    "basic:file:": [
        {"file": "a"},
        {"file": "a", "size": 1, "total_size": 2, "is_remote": False, "file_temp": "t", "refs": ["b"]},
    ],
    "basic:dir:": [{"dir": "d", "size": 1, "total_size": 1, "refs": []}],
    "basic:url:view:": [{"url": "anything", "name": "n", "refs": []}],
    "basic:secret:": [{"handle": "123e4567-e89b-12d3-a456-426614174000"}],
    "basic:json:": [7],
    "data:a:": [7],
    "list:data:a:": [[], [1, 1]],
    "list:basic:string:": [[], ["a", "a"]],
    "list:basic:file:": [[{"file": "a"}]],
    "list:basic:integer:": [[1, 2]],
}
BAD = {
    "basic:string:": [1, None, []],
    "basic:boolean:": [1, "true"],
    "basic:integer:": [True, 1.0, "1"],
    "basic:decimal:": [True, "1"],
    "basic:date:": ["1899-01-01", "2020-13-01", "2020-1-1", "2020-01-01\n", 5],
    "basic:datetime:": ["2020-01-01", "2020-01-01T10:11:12", "2020-01-01 ", "2020-01-01 24:00:00"],
    "basic:file:": ["a", {}, {"file": 1}, {"file": "a", "more": 1}, {"file": "a", "refs": "b"}],
    "basic:dir:": [{"dir": "d", "is_remote": False}, {"file": "f"}],
    "basic:url:view:": [{"name": "n"}, "http://x"],
    "basic:secret:": [{"handle": "123E4567-E89B-12D3-A456-426614174000"}, {"handle": "x", "a": 1}],
    "basic:json:": [{"a": 1}, True],
    "data:a:": [True, "1"],
    "list:data:a:": [1, [None]],
    "list:basic:boolean:": [[], [True]],
    "list:basic:date:": [["2020-01-01"]],
    "basic:group:": [{}],
}


@pytest.mark.parametrize("type_", GOOD)
def test_values_of_a_type_are_taken(type_):
    for value in GOOD[type_]:
        check_type("f", type_, value)


@pytest.mark.parametrize("type_", BAD)
def test_values_of_another_type_are_refused(type_):
    for value in BAD[type_]:
        with pytest.raises(BadValue, match="Value of field 'f' is not"):
            check_type("f", type_, value)


def test_a_type_fits_what_it_starts_with_colon_included():
    assert fits("data:map:a:", "data:map:")
    assert fits("data:anything:", "data:")
    assert not fits("data:mapping:", "data:map:")
    assert not fits("data:map:", "data:map:a:")


def field(name="f", type_="basic:string:", **more):
    return {"name": name, "label": name, "type": type_, **more}


def choices(*values):
    return [{"label": str(value), "value": value} for value in values]


COMPLAINTS = [
    (
        [field(choices=choices("a", "b"))],
        {"f": "c"},
        "Value of field 'f' must match one of predefined choices. Current value: c",
    ),
    (
        [field(type_="list:basic:string:", choices=choices("a", "b"))],
        {"f": ["a"]},
        "Value of field 'f' must match one of predefined choices. Current value: ['a']",
    ),
    (
        [field(type_="basic:integer:", range=[0, 5])],
        {"f": 6},
        "Value of field 'f' is out of range. It should be between 0 and 5.",
    ),
    (
        [field(type_="list:basic:decimal:", range=[0, 5])],
        {"f": [1, 5.1]},
        "Value of field 'f' is out of range. It should be between 0 and 5.",
    ),
    (
        [field(type_="basic:file:", validate_regex=r"\.txt$")],
        {"f": {"file": "a.csv"}},
        r"File name a.csv does not match regex \.txt$",
    ),
    (
        [field(type_="list:basic:file:", validate_regex=r"\.txt$")],
        {"f": [{"file": "a.txt"}, {"file": "b"}]},
        r"File name b does not match regex \.txt$",
    ),
    ([field(type_="data:a:")], {"f": 9}, "Referenced `Data` object does not exist (id:9)"),
    (
        [field(type_="data:a:")],
        {"f": 1},
        "Data object of type `data:a:` is required, but type `data:b:` is given. (id:1)",
    ),
    ([field(type_="basic:json:")], {"f": 9}, "Referenced `Storage` object does not exist (id:9)"),
    ([], {"x": 1}, "Field definition (x) missing in schema"),
    ([field("a"), field("b")], {}, 'Required fields "a", "b" not given.'),
    ([field("a"), {"name": "g", "label": "g", "group": [field("b")]}], {"a": "x"}, 'Required fields "b" not given.'),
    (
        [field("a"), field("b", "basic:integer:")],
        {"b": "x", "y": 1},
        "Value of field 'b' is not a valid basic:integer: value. Current value: 'x'",
    ),
    ([field("a")], {"y": 1}, "Field definition (y) missing in schema"),
    (
        [{"name": "g", "label": "g", "group": [field("b")]}],
        {"g": 3},
        "Value of field 'g' is not a valid group. Current value: 3",
    ),
    ([field("a")], {"a": None}, "Value of field 'a' is not a valid basic:string: value. Current value: None"),
]


@pytest.mark.parametrize(("fields", "values", "text"), COMPLAINTS, ids=[text for *_, text in COMPLAINTS])
def test_complaints_have_their_words_and_their_order(fields, values, text):
    known = References({1: "data:b:"}.get, lambda id: id == 1)
    with pytest.raises(BadValue) as caught:
        check(fields, values, references=known)
    assert caught.value.message == text


def test_null_in_an_optional_field_counts_as_missing():
    check([field(required=False)], {"f": None})


def test_custom_choices_and_regexes_of_other_types_are_not_enforced():
    check([field(choices=choices("a"), allow_custom_choice=True, validate_regex="^z")], {"f": "c"})


def test_true_is_not_the_choice_one():
    with pytest.raises(BadValue):
        check([field(type_="basic:decimal:", choices=choices(1))], {"f": True})


def test_defaults_are_completed_at_every_depth_and_not_shared():
    fields = [
        field("a", default="x", hidden="b"),
        {"name": "g", "label": "g", "group": [field("b", "list:basic:integer:", default=[1]), field("c")]},
    ]
    given = {"g": {"c": "z"}}
    completed = complete(fields, given)
    assert completed == {"a": "x", "g": {"b": [1], "c": "z"}}
    completed["g"]["b"].append(2)
    assert complete(fields, {}) == {"a": "x", "g": {"b": [1]}}
    assert given == {"g": {"c": "z"}}


def test_parents_are_found_once_and_in_order():
    fields = [field("l", "list:data:a:"), {"name": "g", "label": "g", "group": [field("d", "data:a:")]}, field("n")]
    assert parents(fields, {"l": [3, 2, 3], "g": {"d": 2}, "n": "5"}) == [3, 2]


def test_a_dotted_path_finds_a_field_in_a_group():
    fields = [{"name": "g", "label": "g", "group": [field("b")]}]
    assert find(fields, "g.b")["name"] == "b"
    for path in ("g.c", "b", "g.b.c"):
        with pytest.raises(KeyError):
            find(fields, path)
