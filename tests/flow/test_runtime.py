"""The re-* commands as a program meets them: real bash, real pipes."""

import random
import shlex
import time
from pathlib import Path

import pytest

from pacifica.flow.channel import MAX_HELD, MAX_MESSAGE, MAX_OPEN, Channel
from pacifica.flow.local import LocalExecutor

ALL = [
    "re-save",
    "re-save-list",
    "re-save-file",
    "re-save-file-list",
    "re-save-dir",
    "re-save-dir-list",
    "re-info",
    "re-warning",
    "re-error",
    "re-progress",
    "re-checkrc",
    "re-export",
    "re-run",
    "re-annotate-entity",
]


def quoted(text):
    return "$'" + "".join(f"\\x{byte:02x}" for byte in text.encode("utf-8", "surrogateescape")) + "'"


def arguments(run, program, **options):
    ran = run(LocalExecutor(), program, on_call=(calls := []).append, **options)
    assert ran.outcome.noise == 0
    return calls


def test_any_bytes_arrive_as_they_were(run):
    random.seed(3)
    texts = [
        "",
        " ",
        '"',
        "\\",
        '\\"\\',
        "\n",
        "a\tb\r\n",
        "\x7f",
        "'",
        "$(x) `y` $z",
        "*",
        "&",
        "é€😀",
        b"\xff\xfe\xe2\x82".decode("utf-8", "surrogateescape"),
        "".join(map(chr, range(1, 128))),
    ]
    texts += ["".join(random.choice('a"\\\n\x01 \x1b&é') for _ in range(length)) for length in (399, 1900, 1901, 5000)]
    calls = arguments(run, "set +x\nre-save-list k " + " ".join(map(quoted, texts)))
    assert calls[0].arguments == ("k", *texts)


@pytest.mark.parametrize(
    "setting",
    [
        "set -u",
        "set -e",
        "set -f",
        "IFS=a",
        "shopt -s nullglob nocasematch extglob",
        "export LC_ALL=C",
        "LC_ALL=C.UTF-8",
        "set -o posix",
        "set -o noclobber",
        "shopt -u patsub_replacement",
        "printf() { :; }; read() { :; }; kill() { :; }",
        "unset LANG",
        "cd /",
        "shopt -s nocasematch; shopt -u extglob",
    ],
)
def test_settings_of_the_program_change_nothing(run, setting):
    calls = arguments(run, f'{setting}\nre-save k \'a "b" é & c\'\nre-save k "$-"\necho status $? $- $IFS\n')
    assert calls[0].arguments[1] == 'a "b" é & c'
    assert len(calls) == 2


def test_a_call_leaves_what_the_program_has_matched(run):
    calls = arguments(run, "[[ ab =~ a(.) ]]; re-save k 1; re-save k text; re-info ${BASH_REMATCH[1]}")
    assert calls[-1].arguments == ("b",)


def test_tracing_shows_the_call_and_nothing_of_its_inside(run):
    ran = run(LocalExecutor(), "re-info 'a b'\nre-save k v\n")
    assert ran.stdout == "+ re-info 'a b'\n+ re-save k v\n"


def test_every_command_is_an_executable_too(run):
    names = [name for name in ALL if name != "re-checkrc"] + ["_re-checkrc", "re-import"]
    calls = arguments(
        run,
        f"set +x\nfor n in {' '.join(names)}; do type -P $n >/dev/null || re-error $n; done\n"
        'env re-info a\npython3 -c \'import subprocess; subprocess.run(["re-save", "b", "2"])\'\n'
        "sh -c 're-info c'\nprintf d | xargs re-info\nenv _re-checkrc 5 x",
    )
    assert [(call.name, call.arguments) for call in calls] == [
        ("info", ("a",)),
        ("save-value", ("b", "2")),
        ("info", ("c",)),
        ("info", ("d",)),
        ("checkrc", ("5", "x")),
    ]


def test_checkrc_sees_the_code_of_the_command_before_it(run):
    calls = arguments(run, "(exit 7)\nre-checkrc 1 'no luck'\ntrue\nre-checkrc\nfalse; re-checkrc; re-info $?")
    assert [call.arguments for call in calls] == [("7", "1", "no luck"), ("0",), ("1",), ("0",)]


def test_many_shells_may_talk_at_once(run):
    program = """set +x
    for n in 1 2 3 4 5 6; do
        (for ((i = 0; i < 20; i++)); do re-save "$n.$i" "$(printf "%04000d" $n)"; done) &
    done
    wait"""
    calls = arguments(run, program)
    assert sorted(call.arguments[0] for call in calls) == sorted(f"{n}.{i}" for n in range(1, 7) for i in range(20))
    assert all(call.arguments[1] == f"{int(call.arguments[0][0]):04000d}" for call in calls)


@pytest.mark.parametrize("begun", ["1.1 =", "x" * 70_000, "1.1 (? "])
def test_what_others_have_begun_to_write_spoils_no_call(run, begun):
    ran = run(LocalExecutor(), f"printf %s {shlex.quote(begun)} >&$RE_OUT; re-save k 1; re-info heard")
    assert ran.outcome.ended == "exited"
    assert (ran.report.output, ran.report.info) == ({"k": 1}, ["heard"])


def test_a_shell_that_is_killed_while_it_waits_holds_up_nobody(run):
    def slow(call):
        calls.append(call.arguments[0])
        if call.arguments[0] == "first":
            Path(call.directory, "go").touch()
            deadline = time.monotonic() + 10
            while not Path(call.directory, "killed").exists() and time.monotonic() < deadline:
                pass

    calls = []
    program = (
        "set +x\nre-save first 1 & while [[ ! -e go ]]; do :; done; kill -9 $!; wait; echo >killed\n"
        "re-save second 2; (re-save third 3)"
    )
    assert run(LocalExecutor(), program, on_call=slow).outcome.ended == "exited"
    assert calls == ["first", "second", "third"]


def test_the_next_command_runs_when_the_save_is_done(run):
    ran = run(
        LocalExecutor(),
        "echo good >a; re-save-file f a; echo bad >a; rm a; mkdir d; echo x >d/y; re-save-dir g d; rm -r d",
    )
    assert (ran.shelf / "a").read_text() == "good\n"
    assert (ran.shelf / "d/y").read_text() == "x\n"
    assert ran.report.output["f"] == {"file": "a", "size": 5, "total_size": 5}
    assert ran.report.output["g"] == {"dir": "d", "size": 2, "total_size": 2}


def test_no_call_of_the_programs_shell_starts_a_process(run):
    program = "re-info one; re-save-list key 'some value'; re-progress 0.5; re-save n 1"
    calls = arguments(run, f"ulimit -u 1; {program}")  # which ends a shell that starts one
    assert [call.name for call in calls] == ["info", "save-list", "progress", "save-value"]


@pytest.mark.parametrize("value", ["5", "a", "a b", "", "[1]", "/no/such"])
def test_a_value_that_is_no_file_is_saved_without_waiting_whatever_comes_by_its_name(run, value):
    ran = run(LocalExecutor(), f"re-save k {value!r}; mkdir -p no; echo 7 >a; echo 7 >'a b'; sleep 0.1")
    assert [call.answer for call in ran.calls] == [b""]
    assert ran.report.output["k"] == {"5": 5, "[1]": [1]}.get(value, value)


def test_what_may_stand_for_a_file_is_waited_for(run):
    program = """echo 5 >a; echo 6 >5; re-save k a; re-save k '"a"'; re-save k '{"file": "a"}'; re-save k $'b\nc'
    re-save k; re-save k 1 2; re-save k 5; re-save-list k 1"""
    calls = arguments(run, program)
    assert [(call.name, call.answer != b"") for call in calls] == [("save", True)] * 7 + [("save-list", True)]


@pytest.mark.parametrize(
    ("name", "content", "call", "left"),
    [
        ("a.tab", b"x\n", "a.tab a.tab 'tab' tab 1.0 extract", {"a.tab": b"x\n"}),
        ("t1", b"x\n", "t1 Read.TXT 'csv|txt' txt 0.8 extract", {"Read.txt": b"x\n"}),
        ("t1", b"x\n", "t1 README 'txt|' txt 0.8 extract", {"README.txt": b"x\n"}),
    ],
)
def test_files_are_imported(run, name, content, call, left):
    ran = run(
        LocalExecutor(),
        f"printf %s {quoted(content.decode())} >{name}\nre-import {call}\n"
        "for f in *; do [[ $f == *out.txt ]] || re-save-file $f $f; done",
    )
    assert {name: (ran.shelf / name).read_bytes() for name in ran.kept} == left
    assert ran.report.progress in (100, 80)


def test_packed_files_are_imported_as_asked(run):
    ran = run(
        LocalExecutor(),
        "echo x >t; gzip t; cp t.gz u.gz; cp t.gz v.gz\nre-import u.gz a.gtf.gz 'gff|gtf' gtf 0.5 compress\n"
        "re-import v.gz b.gtf.gz 'gtf' gtf 0.5\nmkdir s; echo y >s/c.fa; tar cjf w -C s c.fa\n"
        "re-import w c.fa.tar.bz2 'fa|fasta' fasta 1 extract\nls; [[ ! -e a.gtf ]] || re-error there",
    )
    assert ran.report.error == []
    assert {"a.gtf.gz", "b.gtf", "b.gtf.gz", "c.fasta"} <= set(ran.stdout.split())


def test_a_file_of_another_format_ends_the_program(run):
    ran = run(LocalExecutor(), "echo >t; re-import t a.doc 'gff|gtf' gtf 0.5; re-info never")
    assert (ran.outcome.returncode, ran.report.info) == (1, [])
    assert ran.report.error == ["File a.doc has none of the endings gff|gtf"]


# ---- the channel itself: what arrives is not trusted ------------------------------------------------------------


def test_records_are_put_together_in_any_cut():
    data = b'1.1 =! ["info","/","a"]\n2.1 (? ["save","/",\n1.2 =? ["save","/"]\n2.1 +? "k",\n2.1 )? "v"]\n'
    for size in (1, 7, 1000):
        channel, calls = Channel(), []
        for at in range(0, len(data), size):
            calls += channel.feed(data[at : at + size])
        assert [(call.name, call.arguments, call.answer) for call in calls] == [
            ("info", ("a",), b""),
            ("save", (), b"1.2\n"),
            ("save", ("k", "v"), b"2.1\n"),
        ]


@pytest.mark.parametrize(
    "line", [b"garbage", b"1.1 ~! []", b"1.1 =x []", b"1.1 =![]", b"1.1 +! x", b"x" * 100 + b" =! []"]
)
def test_nonsense_is_counted_and_dropped(line):
    channel = Channel()
    calls = channel.feed(line + b"\n")
    assert all(call.name == "" for call in calls)
    assert channel.noise + len(calls) >= 1


@pytest.mark.parametrize("text", [b"[]", b"{}", b'["info"]', b'["info",1]', b"[" * 100000, b'"x"'])
def test_a_call_without_sense_is_answered_all_the_same(text):
    calls = (
        Channel().feed(b"1.1 =? " + text + b"\n")
        if len(text) < 5000
        else Channel().feed(b"1.1 (? " + text[:5000] + b"\n1.1 )? x\n")
    )
    assert [(call.name, call.answer) for call in calls] == [("", b"1.1\n")]


def test_many_messages_that_never_end_are_not_kept_together():
    channel, record = Channel(), b"x" * 60_000
    for number in range(100):
        channel.feed(b"%d.1 (! %s\n" % (number, record))
        for _ in range(100):
            channel.feed(b"%d.1 +! %s\n" % (number, record))
    held = sum(len(one or b"") for one in channel._open.values())
    assert held == channel._held <= MAX_HELD
    said = [call for number in range(100) for call in channel.feed(b"%d.1 )? x\n" % number)]
    assert [(call.name, call.answer) for call in said] == [("", b"%d.1\n" % number) for number in range(100)]
    assert (channel._held, len(channel.feed(b'1.1 =! ["info", "/", "still heard"]\n'))) == (0, 1)


def test_a_message_past_its_limit_is_refused_and_memory_stays_bounded():
    channel, piece = Channel(), b"x" * 60_000
    channel.feed(b"1.1 (? " + piece + b"\n")
    for _ in range(MAX_MESSAGE // len(piece) + 5):
        assert channel.feed(b"1.1 +? " + piece + b"\n") == []
    assert [(call.name, call.answer) for call in channel.feed(b"1.1 )? x\n")] == [("", b"1.1\n")]
    for number in range(MAX_OPEN * 2):
        channel.feed(b"%d.1 (! x\n" % number)
    assert len(channel._open) <= MAX_OPEN
    assert channel._held == sum(len(held or b"") for held in channel._open.values())
    channel.feed(b"z" * 200_000)
    assert len(channel._rest) == 0
