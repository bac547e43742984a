"""Walking process folders: a verdict on each definition; the published ones all register."""

from pathlib import Path

from pacifica.flow.definition import Version, define
from pacifica.flow.document import parse
from pacifica.flow.register import circles, contract_faults, find, judge

PROCESS = "- slug: {slug}\n  name: A\n  version: {version}\n  type: data:{type}\n  run: {{program: echo}}\n"


def write(folder: Path, name: str, *processes: tuple[str, str, str]) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("".join(PROCESS.format(slug=s, version=v, type=t) for s, v, t in processes))


def verdicts(folder, held=None, **options):
    return [(v.action, v.message) for v in judge(find([folder]), (held or {}).get, **options)]


def test_one_bad_definition_does_not_stop_the_others(tmp_path):
    write(tmp_path, "a.yml", ("a", "1.0.0", "a"), ("b", "1.0", "b"), ("c", "2.0.0", "c"))
    (tmp_path / "b.yaml").write_text("- slug: [\n")
    (tmp_path / "notes.txt").write_text("no process")
    (tmp_path / "c.yml").write_text("- slug: only-a-schema\n  schema: []\n")
    found = list(judge(find([tmp_path]), lambda slug: None))
    assert [(v.found.slug, v.action, v.found.line) for v in found] == [
        ("a", "insert", 1),
        ("b", "refuse", 8),
        ("c", "insert", 11),
        ("", "refuse", 2),
    ]
    assert found[1].as_json()["message"].startswith("VALIDATION ERROR: b: version")


def test_lower_and_same_versions_are_skipped_and_force_overwrites(tmp_path):
    write(tmp_path, "a.yml", ("a", "1.0.0", "a"))
    assert verdicts(tmp_path) == [("insert", "Inserted a")]
    assert verdicts(tmp_path, {"a": Version(0, 9)}) == [("insert", "Inserted a")]
    assert verdicts(tmp_path, {"a": Version(1)}) == [("skip", "Skip processor a: same version installed")]
    assert verdicts(tmp_path, {"a": Version(1)}, force=True) == [("update", "Updated a")]
    assert verdicts(tmp_path, {"a": Version(2)}, force=True) == [("skip", "Skip processor a: newer version installed")]


def test_a_file_that_cannot_be_read_is_a_verdict(tmp_path):
    write(tmp_path, "b.yml", ("b", "1.0.0", "b"))
    (tmp_path / "a.yml").symlink_to("a.yml")
    (tmp_path / "d.yml").mkdir()
    (tmp_path / "e.yml").write_bytes(b"{}")
    assert [action for action, _ in verdicts(tmp_path)] == ["insert", "refuse"]


def test_all_published_definitions_register_as_the_original_would(published):
    totals, refused = {}, []
    for name, folder in published.items():
        package = next(folder.iterdir())
        for verdict in judge(find([package]), lambda slug: None):
            totals[name, verdict.action] = totals.get((name, verdict.action), 0) + 1
            if verdict.action == "refuse":
                refused.append((verdict.found.slug or verdict.found.file.name, verdict.message))
    assert totals == {
        ("resolwe", "insert"): 54,
        ("resolwe", "skip"): 2,
        ("resolwe", "refuse"): 6,
        ("resolwe-bio", "insert"): 67,
    }
    # what the original refuses too: its own bad samples, an older syntax, and a file that holds no processes
    assert {slug for slug, _ in refused} == {
        "test-bloated",
        "test-broken-invalid-expression-engine",
        "test-broken-invalid-execution-engine",
        "test-wrong-type",
        "test-out-of-range",
        "data.yaml",
    }


def definition(slug, type_, output="[]", program="echo", language="bash"):
    text = (
        f"- slug: {slug}\n  name: A\n  version: 1.0.0\n  type: '{type_}'\n  output: {output}\n"
        f"  run: {{language: {language}, program: {program}}}\n"
    )
    return define(parse(text.encode()).part(0))


def test_a_subtype_must_offer_what_its_supertypes_offer():
    base = definition(
        "base",
        "data:a:",
        "[{name: f, label: F, type: 'basic:file'}, {name: o, label: O, type: 'basic:string', required: false}]",
    )
    good = definition(
        "good",
        "data:a:b:",
        "[{name: f, label: other, type: 'basic:file'}, "
        "{name: o, label: O, type: 'basic:string'}, {name: x, label: X, type: 'data:'}]",
    )
    bad = definition("bad", "data:a:b:", "[{name: f, label: F, type: 'basic:dir', required: false}]")
    assert contract_faults(good, [base]) == []
    assert contract_faults(base, [good]) == []
    assert contract_faults(bad, [base]) == [
        "type data:a: (base): output 'f' must be required",
        "type data:a: (base): output 'f' has another schema",
        "type data:a: (base): output 'o' is missing",
    ]
    assert contract_faults(definition("other", "data:ab:"), [base]) == []


def test_workflows_that_run_in_a_circle_are_found():
    held = {
        slug: definition(slug, "data:w:", program=f"[{{id: s, run: {run}}}]", language="workflow")
        for slug, run in (("a", "b"), ("b", "c"), ("c", "a"), ("d", "e"))
    }
    assert circles(held) == {"a": ["a", "b", "c", "a"], "b": ["b", "c", "a", "b"], "c": ["c", "a", "b", "c"]}
