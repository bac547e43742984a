"""YAML of administrators: what it says and where, or why it is refused."""

import pytest

from pacifica.flow.document import MAX_BYTES, Refused, parse

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "\n".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)

REFUSED = {
    "- a: 1\n  a: 2\n": ("The key 'a' is given twice", 2),
    "- [1\n": ("Not valid YAML", 2),
    "- !!python/object:os.system x\n": ("has no place here", 1),
    "- !!set {a, b}\n": ("has no place here", 1),
    "- {1: a}\n": ("A key must be text: quote 1", 1),
    "- [a]: b\n": ("A key must be text", 1),
    "- {[a]: b}\n": ("A key must be text", 1),
    "- 2020-01-01\n": ("quote it", 1),
    "\n- .nan\n": ("not a JSON number", 2),
    "- .inf\n": ("not a JSON number", 1),
    "- &a [*a]\n": ("holds it", 1),
    "- &a {b: *a}\n": ("holds it", 1),
    BOMB: ("once aliases are expanded", 1),
    "a: &a {x: 1}\nb:\n  <<: 3\n": ("merge key", 3),
    "- a\n---\n- b\n": ("expected a single document", 2),
    "[" * 100_000: ("Nested deeper", 1),
    "- " * 5000: ("Nested deeper", 1),
    "x" * (MAX_BYTES + 1): ("larger than", 1),
    "- 0x" + "f" * 10 + "\n- 1" + "0" * 5000: ("not a number that can be kept", 2),
}


@pytest.mark.parametrize(("text", "reason"), REFUSED.items(), ids=[reason for reason, _ in REFUSED.values()])
def test_a_bad_document_is_refused_with_reason_and_line(text, reason):
    with pytest.raises(Refused) as caught:
        parse(text.encode())
    assert reason[0] in caught.value.message
    assert caught.value.line == reason[1] or text is BOMB


def test_text_that_is_not_utf8_is_refused_with_its_line():
    with pytest.raises(Refused) as caught:
        parse(b"- a\n- \xff\n")
    assert caught.value.line in (1, 2)


def test_parts_know_their_lines():
    document = parse(b"- a: 1\n  b:\n    - x\n    - y\n- c: 3\n")
    assert document.value == [{"a": 1, "b": ["x", "y"]}, {"c": 3}]
    assert document.line((0, "b", 1)) == 4
    part = document.part(1)
    assert (part.value, part.line(("c",)), part.line(("c", "deeper"))) == ({"c": 3}, 5, 5)


def test_aliases_and_merge_keys_that_stay_small_are_taken():
    document = parse(b"a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  y: 3\nc: *a\n")
    assert document.value == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}, "c": {"x": 1, "y": 2}}


def test_tabs_in_block_texts_are_taken_as_published_definitions_have_them():
    assert parse(b"- d: |\n     \tindented by a tab\n").value[0]["d"].startswith("\tindented")
