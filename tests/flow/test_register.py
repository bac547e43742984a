"""Walking process folders: a verdict on each definition; the published ones all register."""

import argparse
import json
from pathlib import Path

import pytest

from pacifica.flow.administration import extend
from pacifica.flow.definition import Version, define
from pacifica.flow.document import parse
from pacifica.flow.orm import SCHEMA, Data, Process
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


def test_what_the_original_passes_over_is_a_skip(tmp_path):
    python = "- {slug: p, name: P, version: 1.0.0, type: data:p, run: {language: python}}\n"
    both = "- {slug: b, name: B, version: 1.0.0, type: data:b, run: {}, entity: {type: e}, flow_collection: c}\n"
    (tmp_path / "a.yml").write_text(python + both)
    assert verdicts(tmp_path) == [
        ("skip", "Skip processor p: execution engine 'python' not supported: processes in Python come later"),
        ("skip", "Skip processor b: only one of 'flow_collection' and 'entity' fields allowed"),
    ]


@pytest.fixture
def register(sqlite, capsys):
    """The command, as ``pacifica-flow-cmd register`` runs it: its exit code, and the lines that it prints."""
    SCHEMA.sync()
    parser = argparse.ArgumentParser()
    extend(parser.add_subparsers())

    def register(*words):
        arguments = parser.parse_args(["register", *map(str, words)])
        code = arguments.command(arguments)
        return code, capsys.readouterr().out.splitlines()

    return register


def test_each_definition_is_told_with_its_place_for_people_and_as_json(tmp_path, register):
    write(tmp_path, "a.yml", ("a", "1.0.0", "a"), ("b", "1.0", "b"))
    code, lines = register(tmp_path)
    assert code == 1
    assert lines[0] == f"{tmp_path}/a.yml:1: Inserted a"
    assert lines[1].startswith(f"{tmp_path}/a.yml:8: VALIDATION ERROR: b: version")
    code, lines = register(tmp_path, "--json", "--force")
    told = [json.loads(line) for line in lines]
    assert [(one["slug"], one["kind"], one["version"], one["action"]) for one in told] == [
        ("a", "process", "1.0.0", "update"),
        ("b", "process", None, "refuse"),
    ]
    assert {"file": f"{tmp_path}/a.yml", "line": 1, "message": "Updated a", "notes": []}.items() <= told[0].items()


def test_what_the_folders_no_longer_hold_is_taken_back(tmp_path, register):
    names = ("kept", "used", "unused")
    write(tmp_path / "old", "a.yml", *((name, "1.0.0", name) for name in names))
    (tmp_path / "old" / "t.yml").write_text("- trigger: t\n  event: a.b\n  process: kept\n")
    write(tmp_path / "new", "a.yml", ("kept", "2.0.0", "kept"))
    assert register(tmp_path / "old")[0] == 0
    for name in ("kept", "used"):
        Data.create(state="OK", process=Process.get(Process.slug == name).id, type="data:a:", owner="ann")
    code, lines = register(tmp_path / "new", "--retire")
    assert (code, sorted(lines[1:])) == (0, ["Deactivated used 1.0.0", "Deleted trigger t", "Deleted unused 1.0.0"])
    held = {(row.slug, row.version): row.is_active for row in Process.select()}
    assert held == {("kept", "1.0.0"): True, ("kept", "2.0.0"): True, ("used", "1.0.0"): False}
    Data.delete().execute()
    told = [json.loads(line) for line in register(tmp_path / "new", "--retire", "--json")[1]]
    assert [(one["action"], one["slug"], one["version"]) for one in told] == [
        ("skip", "kept", "2.0.0"),
        ("delete", "kept", "1.0.0"),
        ("delete", "used", "1.0.0"),
    ]


def test_what_was_retired_runs_again_when_it_is_registered_again(tmp_path, register):
    write(tmp_path, "a.yml", ("a", "1.0.0", "a"))
    register(tmp_path)
    Process.update(is_active=False).execute()
    assert register(tmp_path) == (0, [f"{tmp_path}/a.yml:1: Activated a"])
    assert Process.get().is_active
    Process.update(is_active=False).execute()
    write(tmp_path, "a.yml", ("a", "1.0.0", "other"))
    retired = "Skip processor a: same version installed, retired and not the same: --force overwrites it"
    assert register(tmp_path) == (0, [f"{tmp_path}/a.yml:1: {retired}"])
    assert not Process.get().is_active
    assert register(tmp_path, "--force") == (0, [f"{tmp_path}/a.yml:1: Updated a"])
    assert Process.get().is_active


@pytest.mark.parametrize("spoil", ["- slug: [\n", None])
def test_what_cannot_be_read_takes_nothing_back(tmp_path, register, spoil):
    folder = tmp_path / "held"
    write(folder, "a.yml", ("a", "1.0.0", "a"))
    register(folder)
    if spoil is None:
        folder = tmp_path / "no-such-folder"
    else:
        (folder / "a.yml").write_text(spoil)
    code, lines = register(folder, "--retire")
    assert (code, len(lines)) == (1, 1)
    assert "cannot be read: No such file" in lines[0] or "Not valid YAML" in lines[0]
    assert Process.get().is_active


def test_one_file_may_be_named(tmp_path):
    write(tmp_path, "a.yml", ("a", "1.0.0", "a"))
    assert verdicts(tmp_path / "a.yml") == [("insert", "Inserted a")]


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
        ("resolwe", "skip"): 3,
        ("resolwe", "refuse"): 5,
        ("resolwe-bio", "insert"): 67,
    }
    # what the original refuses too: its own bad samples, an older syntax, and a file that holds no processes
    assert {slug for slug, _ in refused} == {
        "test-bloated",
        "test-broken-invalid-expression-engine",
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
