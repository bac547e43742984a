"""Process definitions: what is completed, what is refused and where."""

import json
from importlib import resources

import jsonschema
import pytest

from pacifica.flow.definition import Version, define, restore
from pacifica.flow.document import Refused, parse
from pacifica.flow.resources import effective

MINIMAL = """\
- slug: a
  name: A
  version: 1.0.0
  type: data:a
  run:
    program: echo
"""


def defined(text):
    return define(parse(text.encode()).part(0), "a.yml")


def with_lines(*lines):
    return MINIMAL + "".join(f"  {line}\n" for line in lines)


def with_input(*lines, key="input"):
    return with_lines(f"{key}:", *(f"  {line}" for line in lines))


def test_a_minimal_definition_is_completed():
    definition = defined(MINIMAL)
    assert (definition.slug, definition.type, definition.category, definition.persistence) == (
        "a",
        "data:a:",
        "Other:",
        "RAW",
    )
    assert (definition.scheduling_class, definition.language, definition.network) == ("batch", "bash", False)
    assert effective(definition, {"cores": 3}, {}) == {"cores": 3, "memory": 4096, "storage": 10}
    assert restore(json.loads(json.dumps(definition.document))).document == definition.document


def test_end_colons_are_added_inside_groups_and_not_to_the_group_itself():
    definition = defined(
        with_input("- {name: g, label: G, type: 'basic:group', group: [{name: f, label: F, type: 'basic:string'}]}")
    )
    assert definition.input[0]["type"] == "basic:group"
    assert definition.input[0]["group"][0]["type"] == "basic:string:"


def test_the_older_name_of_entity_is_understood():
    assert defined(with_lines("flow_collection: sample")).entity == {"type": "sample"}


def test_a_workflow_gets_its_output_steps():
    text = MINIMAL.replace("    program: echo", "    language: workflow\n    program: [{id: one, run: b}]")
    assert [field["name"] for field in defined(text).output] == ["steps"]


REFUSED = [
    (MINIMAL.replace("1.0.0", "1.0"), "version", 3),
    (MINIMAL.replace("1.0.0", "1.0.0.0"), "version", 3),
    (MINIMAL.replace("  name: A\n", ""), "'name' is a required property", 1),
    (MINIMAL.replace("1.0.0", '"1.0.0\\n"'), "version", 3),
    (MINIMAL.replace("slug: a", 'slug: "a\\n"'), "slug", 1),
    (MINIMAL.replace("name: A", 'name: "A\\0"'), "NUL", 2),
    (MINIMAL.replace("name: A", 'name: "A\\ud800"'), "surrogate", 2),
    (MINIMAL.replace("data:a", "'data:'"), "type", 4),
    (MINIMAL.replace("data:a", "data:A"), "type", 4),
    (MINIMAL.replace("slug: a", "slug: a b"), "slug", 1),
    (MINIMAL.replace("slug: a", "slug: " + "a" * 101), "slug", 1),
    (with_lines("colour: red"), "colour", 7),
    (with_lines("persistence: SOME"), "persistence", 7),
    (with_lines("requirements:", "  resources: {cores: 1.5}"), "cores", 8),
    (with_lines("requirements:", "  resources: {memory: 512.0}"), "memory", 8),
    (with_lines("requirements:", "  resources: {memory: 0}"), "memory", 8),
    (with_lines("requirements:", "  resources: {gpu: 1}"), "gpu", 8),
    (with_lines("requirements: {expression-engine: mako}"), "expression engine 'mako' not supported", 7),
    (with_lines("entity: {type: a}", "flow_collection: b"), "only one of", 8),
    (with_lines("entity: {input: a}"), "'entity' needs a 'type'", 7),
    (with_lines("entity: {type: a, input: b, always_create: true}"), "exclude each other", 7),
    (MINIMAL.replace("    program", "    language: python\n    program"), "execution engine 'python' not supported", 6),
    (MINIMAL.replace("    program", "    shell: zsh\n    program"), "shell", 6),
    (MINIMAL.replace("program: echo", "program: [1]"), "must be text", 6),
    (with_input("- {name: 1a, label: x, type: 'basic:string'}"), "input.0.name", 8),
    (with_input("- {name: a, type: 'basic:string'}"), "label", 8),
    (with_input("- {name: a, label: x}"), "group", 8),
    (with_input('- {name: "a\\n", label: x, type: "basic:string"}'), "input.0.name", 8),
    (with_input("- {name: a, label: x, type: 'basic:strin'}"), "input.0.type", 8),
    (with_input("- {name: a, label: x, type: 'list:basic:json'}"), "input.0.type", 8),
    (with_input("- {name: a, label: x, type: 'data:a', default: 1}"), "default", 8),
    (with_input("- {name: a, label: x, group: [], required: true}"), "required", 8),
    (with_input("- {name: a, label: x, type: 'basic:string', group: []}"), "group", 8),
    (with_input("- {name: a, label: x, type: 'basic:text', choices: [{label: a, value: a}]}"), "choices", 8),
    (with_input("- {name: a, label: x, type: 'basic:string', range: [1, 2]}"), "range", 8),
    (with_input("- {name: a, label: x, type: 'basic:integer', range: [1]}"), "range", 8),
    (with_input("- {name: a, label: x, type: 'basic:string', choices: []}"), "choices", 8),
    (with_input("- {name: a, label: x, type: 'basic:integer', default: 'x'}"), "default", 8),
    (
        with_input(
            "- name: g",
            "  label: G",
            "  group:",
            "    - name: a",
            "      label: x",
            "      type: basic:integer",
            "      range: [0, 5]",
            "      default: 7",
        ),
        "Default value of field 'a' is not valid.",
        15,
    ),
    (
        with_input("- {name: a, label: x, type: 'basic:string', default: c, choices: [{label: a, value: a}]}"),
        "Default value",
        8,
    ),
    (
        with_input("- {name: a, label: x, type: 'basic:string'}", "- {name: a, label: y, type: 'basic:string'}"),
        "defined twice",
        9,
    ),
    (with_input("- {name: a, label: x, type: 'basic:file', validate_regex: '('}"), "no regular expression", 8),
    (MINIMAL.replace("    program: echo", "    language: workflow\n    program: echo"), "must be a list of steps", 7),
    (
        MINIMAL.replace(
            "    program: echo", "    language: workflow\n    program:\n      - id: x\n        run: b\n      - id: y"
        ),
        'missing property "run"',
        10,
    ),
    (
        MINIMAL.replace("    program: echo", "    language: workflow\n    program: [{id: x, run: a}]"),
        "runs the workflow itself",
        7,
    ),
    (
        MINIMAL.replace("    program: echo", "    language: workflow\n    program: [{id: x, run: b}, {id: x, run: b}]"),
        "defined twice",
        7,
    ),
]


@pytest.mark.parametrize(
    ("text", "reason", "line"), REFUSED, ids=[f"{reason}-{n}" for n, (_, reason, _) in enumerate(REFUSED)]
)
def test_a_bad_definition_is_refused_with_reason_and_line(text, reason, line):
    with pytest.raises(Refused) as caught:
        defined(text)
    assert reason in caught.value.message
    assert caught.value.line == line


def test_what_is_accepted_and_cannot_work_is_said():
    notes = defined(
        with_input("- {name: a, label: x, type: 'list:basic:boolean'}")
        + "  requirements: {resources: {network: false}}\n"
    ).notes
    assert any("can never be given" in note for note in notes)
    assert any("no network" in note for note in notes)


def test_network_is_given_only_where_it_is_true():
    assert defined(with_lines("requirements: {resources: {network: true}}")).network
    assert not defined(with_lines("requirements: {resources: {network: false}}")).network


def test_versions_compare_as_numbers_and_missing_parts_are_zero():
    assert Version.parse("1.10") > Version.parse("1.9.999")
    assert Version.parse("999") == Version(999, 0, 0)
    assert str(Version.parse("2.1")) == "2.1.0"
    for bad in ("1000", "1.2.3.4", "", "1.", "v1", "1\n"):
        with pytest.raises(ValueError, match="not a version"):
            Version.parse(bad)


def test_the_digest_follows_what_can_change_a_result_and_nothing_else():
    one = defined(with_input("- {name: a, label: x, type: 'basic:string'}"))
    same = defined(
        with_input("- {name: a, label: other, description: more, type: 'basic:string:'}").replace("name: A", "name: B")
    )
    other = defined(
        with_input("- {name: a, label: x, type: 'basic:string'}").replace("program: echo", "program: echo 2")
    )
    assert one.digest == same.digest != other.digest


def test_the_published_schemas_are_schemas_and_the_field_schema_stands_alone():
    folder = resources.files("pacifica.flow") / "schemas"
    for name in ("field", "process"):
        jsonschema.Draft202012Validator.check_schema(json.loads((folder / f"{name}.json").read_text()))
    validator = jsonschema.Draft202012Validator(json.loads((folder / "field.json").read_text()))
    for item, _, _ in _fields():
        assert validator.is_valid([item]), item
    assert not validator.is_valid([{"name": "a", "label": "x", "type": "basic:string:", "group": []}])


def _fields():
    types = [
        "basic:string:",
        "basic:integer:",
        "basic:text:",
        "basic:file:html:",
        "data:a:",
        "list:data:",
        "data:",
        "list:basic:string:",
        "list:basic:decimal:",
        "list:basic:url:link:",
    ]
    yield from (({"name": "a", "label": "x", "type": type_}, None, None) for type_ in types)
    yield {"name": "g", "label": "x", "group": []}, None, None
