"""What a search may ask for: a bad value is refused by its name, whatever it is, and never anything else happens."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pacifica.common.errors import BadRequest
from pacifica.datasafe.criteria import KINDS, Name, parse
from pacifica.datasafe.orm import SCHEMA
from pacifica.datasafe.search import search
from pacifica.tests.datasafe.world import WHO

PARAMETERS = ["kind", "text", "name", "checksum", "key", "value", "project", "instrument", "submitter"]
PARAMETERS += ["transaction", "loi", "since", "until", "limit", "cursor"]


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ({"nmae": "x"}, "nmae"),
        ({"text": ["a", "b"]}, "text"),
        ({"kind": "packs"}, "kind"),
        ({"kind": "dataset", "transaction": "7"}, "transaction"),
        ({"kind": "transaction", "name": "x"}, "name"),
        ({"loi": "42.1/ds", "transaction": "7"}, "transaction"),
        ({"text": ""}, "text"),
        ({"text": '*** " ( :'}, "text"),
        ({"text": "a*"}, "text"),
        ({"text": " ".join(map(str, range(33)))}, "text"),
        ({"text": "x" * 1001}, "text"),
        ({"project": "a\0b"}, "project"),
        ({"name": "\ud800"}, "name"),
        ({"name": "*"}, "name"),
        ({"name": "run/"}, "name"),
        ({"checksum": "xyz"}, "checksum"),
        ({"checksum": "sha1:12"}, "checksum"),
        ({"value": "v"}, "value"),
        ({"key": ["a", "b"], "value": "v"}, "value"),
        ({"key": ["k"] * 17}, "key"),
        ({"since": "yesterday"}, "since"),
        ({"until": "2026-13-01"}, "until"),
        ({"limit": "0"}, "limit"),
        ({"limit": "1001"}, "limit"),
        ({"limit": "-1"}, "limit"),
        ({"transaction": "1_0"}, "transaction"),
        ({"transaction": "٣"}, "transaction"),
        ({"loi": "42.1%"}, "loi"),
        ({"cursor": "file"}, "cursor"),
        ({"cursor": "file-9223372036854775808"}, "cursor"),
        ({"kind": "dataset", "cursor": "file-1"}, "cursor"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(query: dict[str, Any], parameter: str) -> None:
    with pytest.raises(BadRequest) as refused:
        parse(query)
    assert refused.value.detail["parameter"] == parameter


def test_only_kinds_that_can_have_all_of_it_are_searched() -> None:
    assert parse({}).kinds == KINDS
    assert parse({"project": "p"}).kinds == KINDS
    assert parse({"transaction": "7"}).kinds == ("transaction", "file")
    assert parse({"name": "x"}).kinds == ("dataset", "file")
    assert parse({"name": "x", "key": "k"}).kinds == ("dataset", "file")
    assert parse({"loi": "42"}).kinds == ("dataset",)


def test_values_are_read_once_and_rightly() -> None:
    query = {"text": "Ferritin, EPR* Größe", "key": ["a", "b"], "value": ["1", "2"], "checksum": "SHA1:" + "A" * 40}
    asked = parse(query)
    assert asked.words == {"ferritin", "grösse"} and asked.beginnings == {"epr"}
    assert asked.pairs == (("a", "1"), ("b", "2")) and (asked.hashtype, asked.hashsum) == ("sha1", "a" * 40)
    assert parse({"since": "1970-01-01T00:01:00Z"}).since == parse({"since": "60"}).since == 60.0
    assert [parse({"name": text}).name for text in ("a/b c", "x", "/x", "run/*", "sp*")] == [
        Name("a", "b c", False), Name(None, "x", False), Name("", "x", False), Name("run", "", True),
        Name(None, "sp", True),
    ]  # fmt: skip


HOSTILE = [
    '"',
    "'",
    "a AND b",
    "NEAR(a b)",
    "a:*",
    "x\\'",
    "{a b}: c",
    "^a",
    "-a",
    "a & !b | c",
    "%_%",
    "日本*",
    "a" * 70,
]
HOSTILE += ["\u0301ab*", "1e999", "99999999999", "f" * 64, "dataset-5", "ß*", "İİ"]


@pytest.fixture
def tables(database: Any) -> None:
    """Datasafe's tables, empty."""
    SCHEMA.sync()


@pytest.mark.usefixtures("tables")
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.sampled_from(PARAMETERS),
        st.one_of(
            st.text(max_size=30), st.sampled_from(HOSTILE), st.lists(st.text(min_size=1, max_size=8), max_size=3)
        ),
        max_size=4,
    )
)
def test_hostile_questions_are_answered_or_refused(query: dict[str, Any]) -> None:
    try:
        asked = parse(query)
    except BadRequest as refused:
        assert refused.detail["parameter"]
        return
    for who in (WHO[0], WHO[3]):
        assert search(asked, who).things == []
