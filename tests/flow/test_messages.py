"""The rules of the re-* commands and their texts, without a shell."""

import os

import pytest

from pacifica.flow.channel import Call
from pacifica.flow.messages import Commands, Message
from pacifica.flow.report import Report
from pacifica.flow.shelf import Collector, Folder
from pacifica.flow.view import View


@pytest.fixture
def work(tmp_path):
    """A working directory with a few files."""
    folder = tmp_path / "work"
    (folder / "dir/sub").mkdir(parents=True)
    (folder / "a.txt").write_text("12345")
    (folder / "dir/b.txt").write_text("123")
    (folder / "dir/sub/c.txt").write_text("12")
    (folder / "good.json").write_text('{"x": [1]}')
    (folder / "bad.json").write_text("{x")
    return folder


@pytest.fixture
def say(work, tmp_path):
    """Call a command and get its messages; ``say.kept`` is what was taken over."""
    view = View("/work", work)
    collector = Collector(view, Folder(tmp_path / "shelf"))

    def say(name, *arguments, directory="/work"):
        return Commands(view, collector).messages(Call(name, directory, arguments))

    say.kept = collector.kept
    return say


def log(level, text):
    return [Message("process_log", {level: text})]


def output(key, value):
    return [Message("update_output", {key: value})]


SAID = [
    (("save", "k", "1"), output("k", 1)),
    (("save", "k", '"1"'), output("k", "1")),
    (("save", "k", "some text"), output("k", "some text")),
    (("save", "k", "a\nb"), output("k", "a b")),
    (("save", "k", '{"a":\n[1, null, true]}'), output("k", {"a": [1, None, True]})),
    (("save", "k", "NaN"), output("k", "NaN")),
    (("save", "k", ""), output("k", "")),
    (("save", "k", "a\\b"), output("k", "a\\b")),
    (("save", "k", "good.json"), output("k", {"x": [1]})),
    (("save", "k", "bad.json"), log("error", "Unexpected error in 're-save': Value must be a valid JSON, current: {x")),
    (("save", "k", "dir"), output("k", "dir")),
    (("save", "k", '{"file": "a.txt"}'), output("k", {"file": "a.txt", "size": 5, "total_size": 5})),
    (
        ("save", "k", '{"dir": "dir", "refs": ["a.txt"]}'),
        output("k", {"dir": "dir", "refs": ["a.txt"], "size": 5, "total_size": 10}),
    ),
    (
        ("save", "k"),
        log("error", "Unexpected error in 're-save': save() missing 1 required positional argument: 'value'"),
    ),
    (
        ("save",),
        log(
            "error", "Unexpected error in 're-save': save() missing 2 required positional arguments: 'key' and 'value'"
        ),
    ),
    (
        ("save", "k", "v", "w"),
        log("error", "Unexpected error in 're-save': save() takes 2 positional arguments but 3 were given"),
    ),
    (("save-list", "k"), output("k", [])),
    (("save-list", "k", "1", "x", '{"a": 1}'), output("k", [1, "x", {"a": 1}])),
    (
        ("save-list",),
        log("error", "Unexpected error in 're-save-list': save_list() missing 1 required positional argument: 'key'"),
    ),
    (("save-file", "k", "a.txt"), output("k", {"file": "a.txt", "size": 5, "total_size": 5})),
    (("save-file", "k", "./dir/../a.txt"), output("k", {"file": "a.txt", "size": 5, "total_size": 5})),
    (("save-file", "k", "/work/a.txt"), output("k", {"file": "a.txt", "size": 5, "total_size": 5})),
    (
        ("save-file", "k", "a.txt", "dir", "a.txt"),
        output("k", {"file": "a.txt", "refs": ["dir", "a.txt"], "size": 5, "total_size": 10}),
    ),
    (("save-file", "k", "none"), log("error", "Output 'k' set to a missing file: 'none'.")),
    (("save-file", "k", "dir"), log("error", "Output 'k' set to a missing file: 'dir'.")),
    (("save-file", "k", "a.txt", "x", "dir", "y"), log("error", "Output 'k' set to missing references: 'x, y'.")),
    (
        ("save-file", "k"),
        log(
            "error",
            "Unexpected error in 're-save-file': save_file() missing 1 required positional argument: 'file_path'",
        ),
    ),
    (
        ("save-file-list", "k", "a.txt", "dir/b.txt:a.txt, dir"),
        output(
            "k",
            [
                {"file": "a.txt", "size": 5, "total_size": 5},
                {"file": "dir/b.txt", "refs": ["a.txt", "dir"], "size": 3, "total_size": 10},
            ],
        ),
    ),
    (("save-file-list", "k"), output("k", [])),
    (("save-file-list", "k", "a:b:c"), log("error", "Only one colon ':' allowed in file-refs specification.")),
    (("save-dir-list", "k", "a:b:c"), log("error", "Only one colon ':' allowed in dir-refs specification.")),
    (("save-dir", "k", "dir"), output("k", {"dir": "dir", "size": 5, "total_size": 5})),
    (("save-dir", "k", "a.txt"), log("error", "Output 'k' set to a missing directory: 'a.txt'.")),
    (
        ("save-dir-list", "k", "dir", "dir/sub:a.txt"),
        output(
            "k",
            [
                {"dir": "dir", "size": 5, "total_size": 5},
                {"dir": "dir/sub", "refs": ["a.txt"], "size": 2, "total_size": 7},
            ],
        ),
    ),
    (("info", "x"), log("info", "x")),
    (("warning", "x"), log("warning", "x")),
    (("error", "x"), log("error", "x")),
    (("info",), log("error", "Unexpected error in 're-info': info() missing 1 required positional argument: 'value'")),
    (
        ("info", "a", "b"),
        log("error", "Unexpected error in 're-info': info() takes 1 positional argument but 2 were given"),
    ),
    (("info", "bad \udcff"), log("info", "bad \ufffd")),
    (("info", "half \ud800"), log("info", "half ?")),
    (("half \ud800", "x"), log("error", "Unknown command: 'half ?'")),
    (("save", "k", "1e400"), output("k", "1e400")),
    (("save", "k", "1e-400"), output("k", 0.0)),
    (("save", "k", '["\\ud800", "\\u0000"]'), output("k", ["?", "\ufffd"])),
    (("progress", "0.5"), [Message("progress", 50)]),
    (("progress", "0.125"), [Message("progress", 12)]),
    (("progress", "1"), [Message("progress", 100)]),
    (("progress", "x"), log("warning", "Progress must be a float.")),
    (("progress", "[1]"), log("warning", "Progress must be a float.")),
    (("progress", "1.01"), log("warning", "Progress must be a float between 0 and 1.")),
    (("progress", "-1"), log("warning", "Progress must be a float between 0 and 1.")),
    (("progress", "NaN"), log("warning", "Progress must be a float between 0 and 1.")),
    (("checkrc", "0"), [Message("update_rc", {"rc": 0})]),
    (("checkrc", "2"), [Message("update_rc", {"rc": 2})]),
    (("checkrc", "2", "1", "2"), [Message("update_rc", {"rc": 0})]),
    (("checkrc", "2", "2", "text"), [Message("update_rc", {"rc": 0})]),
    (("checkrc", "2", "1", "text"), [Message("update_rc", {"rc": 2, "error": "text"})]),
    (("checkrc", "2", "x", "text"), log("error", "Invalid return code: 'x'.")),
    (("checkrc", "x"), log("error", "Invalid return code: 'x'.")),
    (("checkrc", "2147483648"), log("error", "Invalid return code: '2147483648'.")),
    (("checkrc", "9" * 5000), log("error", f"Invalid return code: '{'9' * 5000}'.")),
    (("export", "a.txt"), [Message("export_files", ["a.txt"])]),
    (("export", "dir"), log("error", "Referenced file does not exist: 'dir'.")),
    (("run", "slug", '{"a": 1}'), [Message("run", {"process": "slug", "input": {"a": 1}})]),
    (("run", "slug", "text"), [Message("run", {"process": "slug", "input": "text"})]),
    (
        ("run", "slug"),
        log("error", "Unexpected error in 're-run': run() missing 1 required positional argument: 'run'"),
    ),
    (("annotate-entity", "a.b", "3"), [Message("annotate", {"a.b": 3})]),
    (("_list", "k"), log("error", "Unknown command: '_list'")),
    (("",), log("error", "A message of the program could not be read.")),
    (("save", "k", "[" * 50000), output("k", "[" * 50000)),
]


@pytest.mark.parametrize(("call", "messages"), SAID, ids=[str(call)[:60] for call, _ in SAID])
def test_commands_mean_what_the_original_ones_mean(say, call, messages):
    assert say(*call) == messages


def test_a_document_is_as_sound_as_a_value(say, work):
    (work / "far.json").write_text('{"a": 1e400}')
    assert say("save", "k", "far.json")[0].data["error"].startswith("Unexpected error in 're-save': Value must be")
    (work / "deep.json").write_text("[" * 700 + "]" * 700)
    assert say("save", "k", "deep.json")[0].data["error"].startswith("Unexpected error in 're-save': Value must be")
    (work / "half.json").write_text('{"\\ud800": "\\u0000"}')
    assert say("save", "k", "half.json") == output("k", {"?": "\ufffd"})


def test_paths_are_relative_to_where_the_command_was_called(say):
    assert say("save-file", "k", "b.txt", directory="/work/dir") == output(
        "k", {"file": "dir/b.txt", "size": 3, "total_size": 3}
    )
    assert set(say.kept) == {"dir/b.txt"}


def test_what_is_kept_is_hashed(say):
    say("save-dir", "k", "dir")
    assert {name: kept.size for name, kept in say.kept.items()} == {"dir/b.txt": 3, "dir/sub/c.txt": 2}
    assert say.kept["dir/b.txt"].sha256 == "a665a45920422f9d417e4867efdc4fb8a04a1f3fff1fa07e998e86f7f7a27ae3"


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../outside",
        "link",
        "linkdir/passwd",
        "up",
        "fifo",
        "/dev/null",
        "a\0b",
        "../work/../outside",
        "dir/../../outside",
        "loop",
        "chain",
        "",
        "dangling",
    ],
)
def test_nothing_outside_is_ever_taken_over(say, work, tmp_path, path):
    (tmp_path / "outside").write_text("secret")
    for name, target in {
        "link": "/etc/passwd",
        "linkdir": "/etc",
        "up": "../outside",
        "loop": "loop",
        "chain": "link",
        "dangling": "nowhere",
    }.items():
        (work / name).symlink_to(target)
    os.mkfifo(work / "fifo")
    messages = say("save-file", "k", path)
    assert messages[0].kind == "process_log" and "error" in messages[0].data
    assert say.kept == {}


def test_links_within_and_to_inputs_are_followed(work, tmp_path):
    (tmp_path / "pack").write_text("from the archive")
    (work / "in").symlink_to("/inputs/3/x.txt")
    (work / "dir/near").symlink_to("../a.txt")
    (work / "dir/round").symlink_to(".")
    view = View("/work", work, {"/inputs/3/x.txt": tmp_path / "pack"})
    collector = Collector(view, Folder(tmp_path / "shelf"))
    commands = Commands(view, collector)
    assert commands.messages(Call("save-file", "/work", ("k", "in")))[0].data["k"]["size"] == 16
    assert commands.messages(Call("save-dir", "/work", ("k", "dir")))[0].data["k"]["size"] == 10
    assert (tmp_path / "shelf/in").read_text() == "from the archive"
    assert not (tmp_path / "shelf/in").is_symlink()
    assert commands.messages(Call("save-file", "/work", ("k", "/inputs/3/x.txt")))[0].data == {
        "error": "Output 'k' set to a missing file: '/inputs/3/x.txt'."
    }


def test_a_directory_with_a_link_outside_is_refused(say, work):
    (work / "dir/link").symlink_to("/etc/passwd")
    assert "error" in say("save-dir", "k", "dir")[0].data


def test_a_name_that_is_no_utf8_is_refused(say, work):
    name = os.fsdecode(b"bad\xff")
    (work / name).write_text("x")
    assert say("save-file", "k", name)[0].data == {
        "error": "Unexpected error in 're-save-file': The name of the file is not UTF-8."
    }


# ---- the account of a run ---------------------------------------------------------------------------------------

SCHEMA = [
    {"name": "n", "label": "n", "type": "basic:integer:"},
    {"name": "o", "label": "o", "type": "basic:string:", "required": False},
    {"name": "doc", "label": "d", "type": "basic:json:", "required": False},
    {"name": "g", "label": "g", "group": [{"name": "x", "label": "x", "type": "basic:string:", "required": False}]},
]


def report(*calls):
    kept = []
    account = Report(SCHEMA, lambda document: kept.append(document) or 40 + len(kept))
    commands = Commands(View("/work", "/nowhere"), None)
    for call in calls:
        for message in commands.messages(Call(call[0], "/work", call[1:])):
            account.apply(message)
    return account


def finished(*calls, code=0):
    account = report(*calls)
    account.finish(code, {}, [])
    return account


def test_a_good_run_is_ok_with_a_null_return_code():
    account = finished(("save", "n", "3"), ("save", "g.x", "y"), ("save", "doc", '{"a": 1}'), ("save", "o", "null"))
    assert (account.status, account.rc, account.progress) == ("OK", None, 100)
    assert account.output == {"n": 3, "g": {"x": "y"}, "doc": 41, "o": None}


def test_the_first_cause_stands_and_what_is_refused_is_said():
    account = finished(("error", "first"), ("save", "n", "3"), ("error", "second"), ("progress", "0.5"))
    assert (account.status, account.error, account.output, account.rc) == ("ER", ["first"], {}, None)
    assert account.warning == ["3 later messages of the program were refused because of the error above"]


@pytest.mark.parametrize(
    ("calls", "code", "rc", "error"),
    [
        ([], 2, 2, ["Process return code is not 0."]),
        ([("error", "x")], 2, 2, ["x"]),
        ([("checkrc", "3")], 0, 3, ["Unspecified error"]),
        ([("checkrc", "3", "broken")], 0, 3, ["broken"]),
        ([("checkrc", "3", "broken")], 5, 5, ["broken"]),
        ([("checkrc", "3", "3"), ("save", "n", "1")], 0, None, []),
        ([], 0, None, ['Required fields "n" not given.']),
        ([("save", "n", "x")], 0, None, ["Value of field 'n' is not a valid basic:integer: value. Current value: 'x'"]),
        ([("save", "n", "1"), ("save", "zz", "1")], 0, None, ["Field definition (zz) missing in schema"]),
    ],
)
def test_return_codes_and_checks_at_the_end(calls, code, rc, error):
    account = finished(*calls, code=code)
    assert (account.rc, account.error) == (rc, error)


def test_texts_are_cut_and_kept_once():
    account = report(("info", "a"), ("info", "a"), ("info", "x" * 256), ("info", "y" * 255))
    assert account.info == ["a", "x" * 252 + "...", "y" * 255]


def test_a_key_of_more_groups_than_a_definition_can_have_is_an_error():
    report = Report([], lambda document: 1)
    report.apply(Message("update_output", {"a." * 5000 + "b": 1}))
    assert (report.output, report.failed) == ({}, True)
    assert report.error[0].startswith("Field definition (a.a.a.")


def test_what_is_kept_of_a_run_beside_its_files_is_bounded():
    report, half = Report([{"name": "doc", "label": "D", "type": "basic:json:"}], lambda document: 1), "x" * (40 << 20)
    for _ in range(3):
        report.apply(Message("update_output", {"k": half}))  # in the place of the one before
    assert not report.failed
    for message in (
        Message("update_output", {"other": half}),
        Message("update_output", {"doc": half}),
        Message("annotate", {"a": half}),
        Message("run", {"process": "p", "input": half}),
    ):
        report.apply(message)
        assert report.error == ["What the program saves takes more than 64 MiB beside its files"]
        report.failed, report.error = False, []
    assert list(report.output) == ["k"]
    for _ in range(1001):
        report.apply(Message("run", {"process": "p", "input": {}}))
    assert (len(report.spawned), report.error) == (1000, ["A program starts at most 1000 others"])


def test_saved_files_are_no_larger_together_than_the_run_may_store(work, tmp_path):
    collector = Collector(View("/work", work), Folder(tmp_path / "shelf"), most=12)
    commands = Commands(collector.view, collector)

    def save(name):
        (message,) = commands.messages(Call("save-file", "/work", ("k", name)))
        return message.data

    for _ in range(5):
        assert "k" in save("a.txt")  # the same file counts once
    (work / "b.txt").hardlink_to(work / "a.txt")
    assert "k" in save("b.txt")
    (work / "hole").touch()
    os.truncate(work / "hole", 1 << 40)
    wrong = {"error": "Unexpected error in 're-save-file': Saved files may have 12 bytes together"}
    assert save("hole") == save("dir/b.txt") == wrong
    (work / "a.txt").write_text("1")
    assert "k" in save("a.txt")
    assert "k" in save("dir/b.txt")
    assert (sorted(collector.kept), collector.size) == (["a.txt", "b.txt", "dir/b.txt"], 9)


def test_a_dotted_key_through_a_value_is_an_error():
    assert finished(("save", "n", "3"), ("save", "n.x", "3")).error == [
        "Value of field 'n' is not a valid group. Current value: 3"
    ]
