"""The grammar of lab object identifiers, and the original's words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacifica.datasafe import loi, ocfl

DATASETS = [
    "42.1001/ds/exp/sa/42/cwepr/1", "42.1001/ds/exp/ba/7/trepr/12", "42.1001/ds/exp/2021-11-05/cwepr/1",
    "42.1001/ds/calc/geo/1", "42.1001/ds/calc/result/3", "42.1/ds/exp/2024-02-29/trepr/123456789012345678",
]  # fmt: skip
OTHERS = [
    "42.1001/rec/42", "42.1001/img", "42.1001/img/", "42.1001/img/any thing", "42.1001/info/tb/sample/batch/9",
    "42.1001/info/cm/calculation/molecule/1", "42.1001/info/tb/person/abc", "42.1001/info/ms/device/a-b_9",
]  # fmt: skip
WRONG = [
    "42/ds/exp/sa/42/cwepr/1", "43.1/ds/exp/sa/42/cwepr/1", "420.1/ds/exp/sa/42/cwepr/1", " 42.1001/rec/42", "42.1001",
    "42.1001/", "42.1001/DS/exp/sa/42/cwepr/1", "42.1001/foo/1", "42.1001/ds", "42.1001/rec", "42.1001/info",
    "42.1001/ds/exp/2021-1-5/cwepr/1", "42.1001/ds/exp/sa/42/nmr/1", "42.1001/ds/exp/sa/42/CWEPR/1",
    "42.1001/ds/exp/SA/42/cwepr/1", "42.1001/ds/exp/sa/a42/cwepr/1", "42.1001/ds/exp/sa//cwepr/1",
    "42.1001/ds/exp/../../x", "42.1001/ds/exp/sa/42/cwepr", "42.1001/ds/exp/sa/42/cwepr/abc",
    "42.1001/ds/exp/sa/42/cwepr/-1", "42.1001/ds/exp/sa/42/cwepr/1\n", "42.1001/ds/calc/other/1",
    "42.1001/ds/calc/geo/x",
    "42.1001/info/tb/person/äbc", "42.1001/info/tb/project/My Project", "42.1001/info/jp/sample/tube/x",
    "42.1001/info/xx/person/a", "42./ds/exp/sa/42/cwepr/1", "42.abc/ds/exp/sa/42/cwepr/1",
    "42.1 0/ds/exp/sa/42/cwepr/1", "42.../ds/exp/sa/42/cwepr/1", "42.10.01/ds/exp/sa/42/cwepr/1",
    "42.1001/ds/exp/2021-19-39/cwepr/1", "42.1001/ds/exp/0000-00-00/cwepr/1", "42.1001/ds/exp/2023-02-29/cwepr/1",
    "42.1001/ds/exp/sa/\u0664\u0662/cwepr/\u0661", "42.1001/ds/exp/sa/42/cwepr/1/trailing",
    "42.1001/ds/exp/sa/42/cwepr/1/../../x",
    "42.1001/rec/1/x", "42.1001/ds/exp/sa/42/cwepr/007", "42.1001/ds/exp/sa/42/cwepr/0",
    "42.1001/ds/exp/sa/42/cwepr/1/",
    "42.01/rec/1", "42.1001/ds/exp/sa/42/cwepr/" + "9" * 300, "42.1001/img/" + "x" * 600, "42.1001/img/a\x00b",
]  # fmt: skip


@pytest.mark.parametrize("text", DATASETS + OTHERS)
def test_what_the_grammar_has_is_valid_and_is_written_as_it_was_read(text: str) -> None:
    assert str(loi.parse(text)) == text.removesuffix("img/") + ("img" if text.endswith("img/") else "")


@pytest.mark.parametrize("text", WRONG)
def test_everything_else_is_invalid(text: str) -> None:
    with pytest.raises(loi.InvalidLoi, match=r"String is not a valid LOI\."):
        loi.parse(text)


def test_a_dataset_has_issuer_series_and_number() -> None:
    found = loi.dataset("42.1001/ds/exp/2021-11-05/cwepr/17")
    assert (found.issuer, found.type, found.id) == ("1001", "ds", "exp/2021-11-05/cwepr/17")
    assert (str(found.series), found.number) == ("42.1001/ds/exp/2021-11-05/cwepr", 17)
    assert found.series.loi(18) == loi.dataset("42.1001/ds/exp/2021-11-05/cwepr/18")
    assert loi.series_named(str(found.series)) == found.series


@pytest.mark.parametrize("text", OTHERS)
def test_only_type_ds_is_a_dataset(text: str) -> None:
    with pytest.raises(loi.NotDatasafeLoi, match=r"^LOI is not a datasafe LOI\.$"):
        loi.dataset(text)


def test_an_empty_loi_has_its_own_words() -> None:
    with pytest.raises(loi.MissingLoi, match=r"^No LOI provided\.$"):
        loi.parse("")


@pytest.mark.parametrize("last", ["", "/", "/77", "/abc"])
def test_a_creation_ignores_the_number(last: str) -> None:
    assert str(loi.series(f"42.1001/ds/exp/sa/42/cwepr{last}")) == "42.1001/ds/exp/sa/42/cwepr"


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("42.1001/rec/42", loi.NotDatasafeLoi, "LOI is not a datasafe LOI."),
        ("42.1001/ds/calc/geo/1", loi.NotExperimentLoi, "Loi ist not a valid experiment LOI."),
        ("42.1001/ds/exp/sa/42/nmr/1", loi.InvalidLoi, "String is not a valid LOI."),
        ("42.1001/ds/exp/sa/42/cwepr/..", loi.InvalidLoi, "String is not a valid LOI."),
        ("42.1001/ds/exp/sa/42/cwepr/1/2", loi.InvalidLoi, "String is not a valid LOI."),
        ("42.1001/ds/exp/2021-13-01/cwepr/", loi.InvalidLoi, "String is not a valid LOI."),
    ],
)
def test_a_creation_is_refused_in_the_words_of_the_original(text: str, error: type, words: str) -> None:
    with pytest.raises(loi.InvalidLoi) as caught:
        loi.series(text)
    assert (type(caught.value), caught.value.message, caught.value.status) == (error, words, 404)


def test_a_foreign_issuer_is_refused_where_issuers_are_listed() -> None:
    assert loi.dataset(DATASETS[0], issuers=("1001",))
    with pytest.raises(loi.UnknownIssuer, match="not a valid LOI"):
        loi.dataset(DATASETS[0], issuers=("1002",))


@given(st.text(max_size=80) | st.from_regex(r"42\.1001/ds/exp/.{0,40}", fullmatch=True))
def test_no_text_becomes_a_path_outside_the_root(text: str) -> None:
    try:
        found = loi.dataset(text)
    except loi.InvalidLoi:
        return
    place = ocfl.place(found)
    assert place.isascii() and place.count("/") == 2 and "." not in place
