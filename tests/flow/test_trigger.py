"""Triggers as they are written: which events fit, what inputs they make, which definitions are refused and where."""

from pathlib import Path

import pytest

from pacifica.flow import trigger
from pacifica.flow.document import parse
from pacifica.flow.firing import Event, read
from pacifica.flow.register import LIBRARY, find, judge, judge_trigger
from pacifica.flow.template import Engine

DATA = {
    "transaction": 7,
    "owner": "ada",
    "project": "1234a",
    "instrument": 54,
    "files": {"count": 2},
    "tags": ["a", "b"],
}
FILES = [(1, "run/a.raw", 3), (2, "run/b.txt", 4), (3, "c.RAW", 5)]


def defined(**keys):
    lines = {"trigger": "t", "event": "pacifica.ingest.archived", "process": "p", **keys}
    return trigger.define(parse("".join(f"{key}: {value}\n" for key, value in lines.items()).encode()))


@pytest.mark.parametrize(
    ("pattern", "type", "fits"),
    [
        ("pacifica.ingest.archived", "pacifica.ingest.archived", True),
        ("pacifica.ingest.archived", "pacifica.ingest.archived.twice", False),
        ("pacifica.*.archived", "pacifica.ingest.archived", True),
        ("pacifica.*", "pacifica.ingest.archived", False),
        ("pacifica.#", "pacifica.ingest.archived", True),
        ("pacifica.ingest.archived.#", "pacifica.ingest.archived", True),
        ("site.#", "pacifica.ingest.archived", False),
    ],
)
def test_types_are_compared_as_a_topic_exchange_does(pattern, type, fits):
    assert defined(event=f'"{pattern}"').hears(type) is fits


@pytest.mark.parametrize(
    ("where", "fits"),
    [
        ("{}", True),
        ("{project: 1234a}", True),
        ("{project: '12*', instrument: 54}", True),
        ("{project: '12*', instrument: 55}", False),
        ("{instrument: [1, '5?']}", True),
        ("{files.count: 2}", True),
        ("{files.missing: '*'}", False),
        ("{nothing: '*'}", False),
        ("{tags: b}", True),
        ("{project: '12*A'}", False),
    ],
)
def test_every_part_of_where_must_fit(where, fits):
    assert defined(where=where).matches(DATA) is fits


def test_a_file_pattern_without_a_slash_sees_the_name_alone():
    one = defined(where="{file: ['*.raw', 'run/*.txt']}")
    assert [path for _, path, _ in FILES if one.wants(path)] == ["run/a.raw", "run/b.txt"]


def inputs(text, **keys):
    one = defined(input=text, **keys)
    asked = []

    def files():
        asked.append(1)
        return FILES

    event = {"id": "e", "type": one.event, "data": DATA}
    return one.inputs(event, trigger.about(7, files, one), Engine()), len(asked)


def test_inputs_are_rendered_and_keep_their_type():
    made, asked = inputs(
        "{n: '{{ data.instrument }}', t: 'by {{ data.owner }}', d: '{{ transaction.dir }}', l: ['{{']}"
    )
    assert made == {"n": 54, "t": "by ada", "d": {"dir": "transaction:7"}, "l": ["{{"]}
    assert asked == 0
    made, asked = inputs("{all: '{{ transaction.files }}', one: '{{ transaction.file }}'}", where="{file: '*.raw'}")
    assert made["all"] == [{"file": "a.raw", "file_temp": "archive:1", "size": 3}]
    assert made["one"] == made["all"][0]
    assert asked == 1


@pytest.mark.parametrize("text", ["{n: '{{ data.__class__ }}'}", "{n: '{{ 1 + nothing }}'}", "{n: '{{ data.items }}'}"])
def test_an_input_that_cannot_be_made_says_so(text):
    with pytest.raises(trigger.NotFired):
        inputs(text)


def test_the_library_is_sound():
    found = list(find([LIBRARY]))
    assert [one.refusal for one in found] == [""] * len(found)
    processes = {one.slug: one.definition for one in found if one.definition}
    verdicts = [judge_trigger(one, processes[one.trigger.process], None) for one in found if one.trigger]
    assert [verdict.action for verdict in verdicts] == ["insert", "insert"]


BAD = {
    "unknown key": ("- trigger: a\n  event: x.y\n  process: p\n  nonsense: 1\n", 4, "nonsense"),
    "no process": ("- trigger: a\n  event: x.y\n", 1, "'process' is a required property"),
    "name": ("- trigger: a b\n  event: x.y\n  process: p\n", 1, "trigger"),
    "event": ("- trigger: a\n  event: '#.x'\n  process: p\n", 2, "event"),
    "where": ("- trigger: a\n  event: x.y\n  process: p\n  where:\n    project: {a: 1}\n", 5, "where.project"),
    "template": ("- trigger: a\n  event: x.y\n  process: p\n  input:\n    v: '{{ data. }}'\n", 5, "input.v"),
    "filter": ("- trigger: a\n  event: x.y\n  process: p\n  input:\n    v: '{{ data | nonsense }}'\n", 5, "nonsense"),
    "yaml": ("- trigger: a\n  trigger: b\n", 2, "given twice"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_trigger_is_refused_with_its_line_and_reason(tmp_path: Path, name):
    text, line, reason = BAD[name]
    (tmp_path / "t.yml").write_text(text)
    (found,) = find([tmp_path])
    assert reason in found.refusal
    assert found.line == line
    assert list(judge([found], lambda slug: None)) == [] or found.kind == "process"


PROCESS = """
- slug: p
  name: P
  version: 1.0.0
  type: "data:p:"
  input:
    - {name: n, label: N, type: "basic:integer:"}
    - {name: s, label: S, type: "basic:string:", required: false}
  run: {program: echo}
"""


@pytest.mark.parametrize(
    ("input", "line", "reason"),
    [
        ("n: '{{ 1 }}'", 0, ""),
        ("n: 3", 0, ""),
        ("n: true", 15, "not a valid basic:integer:"),
        ("s: x", 14, "also needs the input 'n'"),
        ("n: 1\n    x: 2", 16, "no input 'x'"),
    ],
)
def test_a_trigger_that_its_process_cannot_take_is_refused(tmp_path: Path, input, line, reason):
    (tmp_path / "t.yml").write_text(f"{PROCESS}\n- trigger: t\n  event: x.y\n  process: p\n  input:\n    {input}\n")
    process, one = find([tmp_path])
    verdict = judge_trigger(one, process.definition, None)
    assert (verdict.action == "refuse") is bool(reason)
    assert reason in verdict.message
    assert not line or verdict.found.line == line
    assert judge_trigger(one, None, None).action == "refuse"
    if not reason:
        assert judge_trigger(one, process.definition, one.trigger.digest).action == "skip"


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"id": 1}', b"\xff", b'{"id":"","source":"s","type":"t","data":{}}'],
)
def test_what_is_no_event_is_refused(body):
    with pytest.raises(Exception, match=r"."):
        read(body)


def test_another_programs_event_is_told_apart_by_its_source():
    ours = Event(id="1", source="/ingest", type="pacifica.ingest.archived", data={})
    other = Event(id="1", source="/crane", type="site.crane.stopped", data={})
    assert (ours.key, other.key) == ("1", "/crane#1")
