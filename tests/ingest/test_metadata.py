"""The text of metadata.txt: cut into pieces, whatever stands in it, and read as any JSON reader reads it."""

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pacifica.ingest import metadata
from pacifica.ingest.falsehood import BadEntry, BadMetadataJson
from pacifica.ingest.metadata import Entry, entries
from pacifica.tests.ingest.samples import listed

RUN = settings(max_examples=80, deadline=None)

TRICKY = ["}, {", '"}, {"', "\\", '\\"}, {', "[", "]", "é日本", "}\n,\n{", ""]


def values(text: bytes) -> list[Any]:
    return [each.value for each in entries(text) if isinstance(each, Entry)]


@RUN
@given(
    st.lists(st.sampled_from(TRICKY) | st.text(max_size=8), max_size=30), st.integers(1, 60), st.sampled_from([None, 1])
)
def test_cuts_are_never_made_inside_an_entry(said: list[str], size: int, indent: int | None) -> None:
    said = [each.encode("utf-8", "replace").decode() for each in said]
    text = json.dumps(
        [{"destinationTable": "T", "value": each, "more": [{"x": each}, {}]} for each in said], indent=indent
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metadata, "PIECE_BYTES", size)
        assert values(text.encode()) == said


@RUN
@given(st.binary(max_size=200), st.integers(1, 60))
def test_noise_is_refused_or_read_as_json_reads_it(noise: bytes, size: int) -> None:
    text = b'[{"destinationTable":"T","value":"' + noise + b'"},{"destinationTable":"T","value":1}]'
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metadata, "PIECE_BYTES", size)
        try:
            found = values(text)
        except BadMetadataJson:
            return
    assert found == [each["value"] for each in json.loads(text) if isinstance(each, dict) and "value" in each]


@pytest.mark.parametrize("text", [
    b"", b" ", b"{}", b"[", b"]", b"[{}", b"[{},]", b"[{} {}]", b"[{}]]", b"[{}]x", b"null", b"\xff\xfe[\0]\0",
    b'[{"a":"\xff"}]',
    b"[" * 100_000, b'[{"a":' * 50_000, b'[{"destinationTable":"T","value":"\\ud800"}]',
])  # fmt: skip
def test_what_is_no_json_list_in_utf8_is_refused(text: bytes) -> None:
    with pytest.raises(BadMetadataJson):
        list(entries(text))


@pytest.mark.parametrize(
    ("tail", "reason", "byte"),
    [
        (b',\n{"a": NaN}]', "invalid character", 8),
        (b',\n{"a": "\xff"}]', "it is not UTF-8", 9),
        (b',\n{"a": 1}]x', "trailing characters", 12),
    ],
)
def test_where_the_text_goes_wrong_is_told(tail: bytes, reason: str, byte: int) -> None:
    head = b"[" + b",\n".join([b'{"destinationTable": "T", "value": "\xc3\xa9"}'] * 20_000)
    with pytest.raises(BadMetadataJson) as told:
        list(entries(head + tail))
    assert told.value.detail == {"line": 20_001, "byte": len(head) + byte}
    assert told.value.message.endswith(f"{reason} near line 20001, byte {len(head) + byte}.")


def test_a_byte_order_mark_is_told() -> None:
    with pytest.raises(BadMetadataJson, match=r"it begins with a byte order mark near line 1, byte 0\."):
        list(entries(b"\xef\xbb\xbf[]"))


def test_an_entry_that_cannot_be_read_does_not_hide_its_neighbours() -> None:
    text = (
        b'[{"destinationTable":"T","value":1},7,{"destinationTable":"T","value":[]},{"destinationTable":"T","value":2}]'
    )
    assert [type(each) for each in entries(text)] == [Entry, BadEntry, BadEntry, Entry]


def test_keys_of_other_tables_are_no_fault_whatever_their_type() -> None:
    text = json.dumps([
        {"destinationTable": "Files", "name": "x", "value": None, "key": 1, "path": []},
        {"destinationTable": "TransactionKeyValue", "key": "k", "value": "v", "name": None, "size": "large"},
        {"destinationTable": "T", "value": "v", "displayFormat": {"a": [{"b": 1}]}},
    ]).encode()  # fmt: skip
    assert [type(each) for each in entries(text)] == [Entry] * 3


def test_one_entry_has_a_size_that_it_may_not_exceed() -> None:
    with pytest.raises(BadMetadataJson):
        list(entries(b'[{"a":"' + b"x" * (metadata.ENTRY_BYTES + 1) + b'"}]'))


def test_memory_does_not_grow_with_the_list() -> None:
    text = json.dumps([listed(f"run/{number}", b"") for number in range(20_000)]).encode()
    tracemalloc.start()
    try:
        assert sum(1 for _ in entries(text)) == 20_000
        assert tracemalloc.get_traced_memory()[1] < 12 * metadata.PIECE_BYTES
    finally:
        tracemalloc.stop()
