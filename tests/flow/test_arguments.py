"""Inputs typed at a command line become the values that the process declares."""

import json

import pytest

from pacifica.common.errors import BadRequest
from pacifica.flow.arguments import MAX_BYTES, document, inputs

FIELDS = [
    {"name": "text", "type": "basic:string:"},
    {"name": "number", "type": "basic:integer:"},
    {"name": "flag", "type": "basic:boolean:"},
    {"name": "source", "type": "data:a:"},
    {"name": "sources", "type": "list:data:a:"},
    {"name": "names", "type": "list:basic:string:"},
    {"name": "file", "type": "basic:file:"},
    {"name": "files", "type": "list:basic:file:"},
    {"name": "folder", "type": "basic:dir:"},
    {"name": "url", "type": "basic:url:view:"},
    {"name": "group", "group": [{"name": "inner", "type": "basic:decimal:"}, {"name": "text", "type": "basic:text:"}]},
]


def read(*words, base=None):
    return inputs(FIELDS, words, base or {}, {"a-slug": 7}.__getitem__, lambda name: {"file": "x", "file_temp": name})


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (["text=12"], {"text": "12"}),
        (["text="], {"text": ""}),
        (["text=a=b"], {"text": "a=b"}),
        (["text=@@home"], {"text": "@home"}),
        (["number=12", "flag=true"], {"number": 12, "flag": True}),
        (["source=12"], {"source": 12}),
        (["source=a-slug"], {"source": 7}),
        (["sources=1", "sources=a-slug"], {"sources": [1, 7]}),
        (["sources=[1, 2]", "sources=3"], {"sources": [1, 2, 3]}),
        (["names=a", "names=b"], {"names": ["a", "b"]}),
        (["file=archive:3"], {"file": {"file": "x", "file_temp": "archive:3"}}),
        (['file={"file": "y"}'], {"file": {"file": "y"}}),
        (["file=@./x"], {"file": {"file": "x", "file_temp": "@./x"}}),
        (
            ["files=@a", "files=archive:2"],
            {"files": [{"file": "x", "file_temp": "@a"}, {"file": "x", "file_temp": "archive:2"}]},
        ),
        (["folder=transaction:4"], {"folder": {"dir": "transaction:4"}}),
        (["url=https://a"], {"url": {"url": "https://a"}}),
        (["group.inner=1.5", "group.text=t"], {"group": {"inner": 1.5, "text": "t"}}),
        (['group={"inner": 2}'], {"group": {"inner": 2}}),
        (["unknown=1"], {"unknown": 1}),
    ],
    ids=str,
)
def test_a_word_is_read_by_the_type_of_its_field(words, values):
    assert read(*words) == values


def test_words_stand_above_the_document_and_leave_it_as_it_was():
    base = {"number": 1, "group": {"inner": 2}}
    assert read("number=3", "group.text=x", base=base) == {"number": 3, "group": {"inner": 2, "text": "x"}}
    assert base == {"number": 1, "group": {"inner": 2}}


def test_a_value_and_a_document_may_stand_in_a_file(tmp_path):
    (tmp_path / "text").write_text("a\nb")
    (tmp_path / "document").write_text(json.dumps({"number": 2}))
    assert read(f"text=@{tmp_path}/text") == {"text": "a\nb"}
    assert document(f"@{tmp_path}/document") == {"number": 2}


@pytest.mark.parametrize(
    "word", ["text", "=x", "number=x", "flag=yes", "number=" + "[" * 100_000, "text=@/nowhere", "text.more=1"]
)
def test_a_word_that_cannot_be_read_is_refused(word):
    with pytest.raises(BadRequest):
        read("text=x", word)


def test_a_document_that_is_no_object_or_too_large_or_no_text_is_refused(tmp_path):
    with (tmp_path / "large").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    (tmp_path / "bytes").write_bytes(b"\xff")
    for text in ("[]", "3", "{", f"@{tmp_path}/large", f"@{tmp_path}/bytes", f"@{tmp_path}"):
        with pytest.raises(BadRequest):
            document(text)
