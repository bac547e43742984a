"""Running programs: what they see, how they end, and that they cannot get out.  Everything here really runs."""

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from pacifica.flow.bubblewrap import BubblewrapExecutor, _kill
from pacifica.flow.choice import choose
from pacifica.flow.doctor import examine
from pacifica.flow.executor import MIB, ExecutorFailed, Limits, Program, Workplace, program_user, reachable
from pacifica.flow.local import LocalExecutor
from pacifica.tests.system.suite import until


def quick(**limits):
    return Limits(**{"wall_seconds": 10, **limits})


def alive(mark):
    return [path for path in Path("/proc").iterdir() if path.name.isdigit() and mark in _command(path)]


def _command(path):
    said = b""
    for name in ("cmdline", "environ"):  # the latter is not for everybody
        with suppress(OSError):
            said += (path / name).read_bytes()
    return said.decode("utf-8", "replace")


def gone(mark, seconds=30.0):
    deadline = time.monotonic() + seconds
    while alive(mark) and time.monotonic() < deadline:
        pass
    return not alive(mark)


# ---- both executors ---------------------------------------------------------------------------------------------


def test_a_program_gets_its_directory_environment_and_trace(run, executor):
    ran = run(
        executor,
        'echo $DATA_ID {a,b}; ls -A; pwd; echo "$TMPDIR" >t; [[ -w $TMPDIR ]] || exit 9; echo error >&2\n'
        "[[ $HOME == $PWD ]] || exit 8; env >e; re-save-file e e; exit 3",
        environment={"DATA_ID": "7"},
    )
    assert ran.outcome.returncode == 3 and ran.outcome.ended == "exited"
    lines = ran.stdout.splitlines()
    assert lines[:2] == ["+ echo 7 '{a,b}'", "7 {a,b}"]
    assert {"stdout.txt", "jsonout.txt", ".tmp", "error"} <= set(lines)
    known = dict(line.split("=", 1) for line in (ran.shelf / "e").read_text().splitlines())
    assert known["RUNNING_IN_CONTAINER"] == known["RUNNING_IN_DOCKER"] == "1"
    assert known["RESOLWE_HOST_URL"] == "localhost"
    assert not {"VIRTUAL_ENV", "PYTHONPATH", "SSH_AUTH_SOCK", "PYTEST_CURRENT_TEST"} & set(known)


def test_only_the_last_commands_code_counts(run, executor):
    assert run(executor, "false; true").outcome.returncode == 0
    assert run(executor, "true; false").outcome.returncode == 1
    assert run(executor, "kill -9 $$").outcome.returncode == 137


def test_programs_are_never_root(run, executor):
    ran = run(
        executor,
        'set +x; re-info $UID; re-info "$(grep NoNewPrivs /proc/self/status | cut -f2)"; re-info '
        '"$(grep CapBnd /proc/self/status | cut -f2)"',
    )
    uid, privileges, bound = ran.report.info
    assert int(uid) != 0 and privileges == "1"
    assert os.geteuid() != 0 or int(bound, 16) == 0 or executor.name == "bubblewrap"


def test_inputs_are_read_and_cannot_be_changed(run, executor, open_folder):
    source = open_folder / "archived"
    source.write_text("kept")
    source.chmod(0o644)
    place_of = executor.input_root
    program = "set +x; f=$INPUT; cat $f; echo more >>$f; rm -f $f; ln -s $f l; re-save-file x l"
    original = executor.run

    def started(program_, on_call, cancelled):
        root = place_of(program_.workplace)
        environment = {**program_.environment, "INPUT": f"{root}/12/ab.txt"}
        return original(type(program_)(**{**vars(program_), "environment": environment}), on_call, cancelled)

    executor.run = started
    ran = run(executor, program, inputs={"12/ab.txt": source})
    assert source.read_text() == "kept"
    assert "kept" in ran.stdout
    if executor.name == "bubblewrap":
        assert (ran.shelf / "l").read_text() == "kept"


def test_a_program_speaks_utf_8(run, executor):
    ran = run(executor, 'set +x; word=é; re-info "${#word}"; re-info "$(printenv LANG)"')
    assert ran.report.info == ["1", "C.UTF-8"]
    ran = run(executor, 're-info "$(printenv LANG)"', environment={"LANG": "C"})
    assert ran.report.info == ["C"]


def test_tools_come_last_in_the_path(run, executor, open_folder):
    tools = open_folder / "tools"
    tools.mkdir(exist_ok=True)
    for name in ("mytool", "cat"):
        (tools / name).write_text("#!/usr/bin/python3\nprint('tool of ours')\n")
        (tools / name).chmod(0o755)
    ran = run(executor, "set +x; mytool; echo plain | cat", tools=(tools,))
    assert ran.stdout == "+ set +x\ntool of ours\nplain\n"


def test_a_program_past_its_wall_time_is_ended_with_all_it_started(run, executor):
    mark = f"33{time.monotonic_ns() % 10**9}"
    ran = run(
        executor,
        f"sleep {mark} & setsid sleep {mark} & (trap '' TERM HUP; sleep {mark}) & sleep {mark}",
        limits=Limits(wall_seconds=0.4),
    )
    assert (ran.outcome.ended, ran.outcome.returncode) == ("wall_time", 137)
    assert ran.outcome.reason
    assert gone(mark)


def test_what_is_left_over_is_ended_too(run, executor):
    mark = f"44{time.monotonic_ns() % 10**9}"
    ran = run(executor, f"sleep {mark} & setsid sleep {mark} & disown -a")
    assert ran.outcome.returncode == 0
    assert gone(mark)


def test_cancelling_ends_a_program(run, executor):
    cancelled = threading.Event()
    mark = f"55{time.monotonic_ns() % 10**9}"
    ran = run(
        executor, f"re-info started; sleep {mark}", cancelled=cancelled.is_set, on_call=lambda call: cancelled.set()
    )
    assert (ran.outcome.ended, ran.outcome.reason) == ("cancelled", "Processing was cancelled.")
    assert gone(mark)


def test_an_exception_of_the_host_ends_the_program(run, executor):
    def broken(call):
        raise LookupError(call.name)

    mark = f"66{time.monotonic_ns() % 10**9}"
    with pytest.raises(LookupError):
        run(executor, f"re-info x; sleep {mark}", on_call=broken)
    assert gone(mark)


def test_a_flood_of_output_is_cut_and_the_program_goes_on(run, executor):
    # the nine are the trace of the first command
    ran = run(executor, "set +x; head -c 3000000 /dev/zero | tr '\\0' x; re-info done", limits=quick(stdout_bytes=MIB))
    assert ran.report.info == ["done"]
    assert (ran.outcome.stdout_bytes, ran.outcome.stdout_dropped) == (MIB, 3_000_009 - MIB)
    assert ran.stdout.endswith(f"... {3_000_009 - MIB} bytes more were printed and not kept\n")


def test_output_can_be_followed_while_the_program_runs(run, executor, open_folder):
    seen = []

    def look(call):
        seen.append(call.arguments)

    run(
        executor,
        "echo first; re-save a 1; until grep -q ^first stdout.txt; do sleep 0.01; done; re-info seen",
        on_call=look,
    )
    assert seen == [("a", "1"), ("seen",)]


def test_memory_of_one_process_is_limited(run, executor):
    ran = run(
        executor,
        "python3 -c 'x = bytearray(400 << 20); print(len(x))' || re-info refused",
        limits=quick(memory_bytes=200 * MIB),
    )
    assert ran.report.info == ["refused"] or ran.outcome.ended == "memory"


def test_memory_of_a_whole_run_is_limited(run, executor):
    hog = "python3 -c 'import time; x = bytearray(b\"1\") * (90 << 20); time.sleep(50)' &"
    ran = run(executor, f"{hog} {hog} {hog} wait", limits=quick(memory_bytes=200 * MIB, wall_seconds=50))
    assert ran.outcome.ended == "memory"
    assert ran.outcome.memory_bytes > 200 * MIB


def test_shared_memory_does_not_slip_through(run, executor):
    hog = "python3 -c 'import mmap, time; m = mmap.mmap(-1, 300 << 20); m.write(b\"1\" * (300 << 20)); time.sleep(9)'"
    ran = run(executor, hog, limits=quick(memory_bytes=200 * MIB))
    assert ran.outcome.ended == "memory" or ran.outcome.returncode != 0


def test_cpu_time_is_limited_though_the_work_is_shared_out(run, executor):
    ran = run(executor, "set +x; while :; do :; done & while :; do :; done", limits=Limits(cpu_seconds=1))
    assert ran.outcome.ended == "cpu_time"


def test_a_file_past_its_limit_is_not_written(run, executor):
    ran = run(
        executor, "set +x; head -c 5000000 /dev/zero >big; re-info $(stat -c %s big)", limits=quick(file_bytes=MIB)
    )
    assert ran.report.info == [str(MIB)]


@pytest.mark.parametrize(
    "filler",
    [
        "for ((i = 0; ; i++)); do head -c 1000000 /dev/zero >f$i; done",
        "mkdir d; cd d; for ((i = 0; ; i++)); do head -c 1000000 /dev/zero >$TMPDIR/f$i; done",
        "exec 9>x; rm x; head -c 200000000 /dev/zero >&9; sleep 9",
        "for ((i = 0; ; i++)); do >e$i; done",
    ],
)
def test_a_disk_filler_is_ended(run, executor, filler):
    ran = run(executor, "set +x; " + filler, limits=Limits(disk_bytes=40 * MIB, disk_files=3000))
    assert ran.outcome.ended == "disk"


def test_what_others_write_is_not_blamed_on_a_program(run, executor, open_folder):
    def fill(call):
        with (open_folder / "others").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, 200 * MIB)

    program = "set +x; exec 9>x; rm x; head -c 1000000 /dev/zero >&9; re-info filled; sleep 1"
    ran = run(executor, program, limits=Limits(disk_bytes=40 * MIB, wall_seconds=20), on_call=fill)
    assert (ran.outcome.ended, ran.outcome.returncode) == ("exited", 0)


def test_a_fork_bomb_is_bounded_and_ended(run, executor):
    mark = f"77{time.monotonic_ns() % 10**9}"
    bomb = "set +x; b() { b | b & }; b 2>/dev/null; sleep 5"
    ran = run(executor, bomb, limits=Limits(wall_seconds=1.0, processes=60), environment={"MARK": mark})
    assert ran.outcome.ended in ("wall_time", "exited")
    assert gone(mark)


def test_nested_directories_and_closed_ones_are_removed(run, executor):
    run(
        executor,
        "mkdir -p a/b; chmod 0 a/b; chmod 0 a; set +x\n"
        'python3 -c \'\nimport os\nfor i in range(3000):\n os.mkdir("d"); os.chdir("d")\'',
    )


def test_only_the_pipes_are_inherited(run, executor, open_folder):
    secret = open_folder / "secret"
    secret.write_text("key")
    held = os.open(secret, os.O_RDONLY)
    os.set_inheritable(held, True)
    try:
        ran = run(
            executor,
            "set +x; for f in /proc/$$/fd/*; do readlink $f; done | sort | uniq -c; re-info $(ls /proc/$$/fd | wc -l)",
        )
    finally:
        os.close(held)
    assert "secret" not in ran.stdout
    assert int(ran.report.info[0]) <= 6


def test_a_program_that_is_all_bytes_is_run_as_it_is(run, executor):
    ran = run(executor, "set +x\nre-save k 'é\\'\ncat <<'X'\n{{ not rendered }} $HOME\nX\n")
    assert ran.calls[0].arguments == ("k", "é\\") and ran.stdout == "+ set +x\n{{ not rendered }} $HOME\n"


# ---- the sandbox ------------------------------------------------------------------------------------------------

REFUSED = {
    "network": "exec 3<>/dev/tcp/127.0.0.1/{port}",
    "write to /usr": "echo x >/usr/bin/x",
    "write to the root": "echo x >/x",
    "write to /etc": "echo x >>/etc/passwd",
    "write to the runtime": "echo x >>/runtime/functions.sh",
    "write to /dev": "echo x >/dev/x",
    "read /etc/shadow": "cat /etc/shadow",
    "read the project": "cat '{project}/setup.py' || ls '{project}'",
    "read the home folder": "ls /root || ls /home",
    "see a process of the host": "grep -lz [p]ytest /proc/*/cmdline",
    "kernel settings": "echo 1 >/proc/sys/kernel/panic",
    "mount": "mount -t tmpfs none /tmp",
    "write to /usr in a namespace of its own": "unshare -Urm sh -c 'mount -o remount,bind,rw /usr; echo x >/usr/x'",
    "read the host's names in command lines": 'p={project}; grep -z "${{p%?}}[${{p: -1}}]" /proc/*/cmdline',
    "remount": "unshare -Urm mount -o remount,rw /usr",
    "become root": "setpriv --reuid=0 true",
    "set-uid programs": "su -c true </dev/null",
    "block devices": "ls /dev/vda /dev/sda /dev/mem 2>/dev/null",
    "raise a limit": "ulimit -Hu 100000",
}


@pytest.mark.parametrize("attempt", REFUSED.values(), ids=REFUSED.keys())
def test_the_sandbox_refuses(run, sandbox, attempt, listener):
    attempt = attempt.format(port=listener, project=Path(__file__).parents[2])
    ran = run(sandbox, f"set +x\nif ( {attempt} ) >/dev/null; then re-info escaped; fi\nre-info tried")
    assert ran.report.info == ["tried"]


@pytest.fixture(scope="module")
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_the_network_is_there_on_request(run, sandbox, listener):
    program = f'exec 3<>/dev/tcp/127.0.0.1/{listener} && re-info connected; re-save hosts "$(</etc/hosts)"'
    ran = run(sandbox, program, network=True)
    assert ran.calls[-1].arguments == ("hosts", Path("/etc/hosts").read_text().rstrip("\n"))
    assert ran.report.info == ["connected"]


def test_kill_all_reaches_the_program_only(run, sandbox):
    sleeper = subprocess.Popen(["sleep", "60"], user=program_user()[0] if os.geteuid() == 0 else None)
    try:
        ran = run(sandbox, "kill -9 -1; re-info survived; kill -9 0")
        assert ran.outcome.returncode == 137
        assert sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait()


def test_who_ends_bubblewrap_before_it_has_told_its_child_ends_that_too(tmp_path):
    child = tmp_path / "child"
    bash = ["bash", "-c", f"sleep 100 & echo $! >{child}.part; mv {child}.part {child}; kill -STOP $$"]
    process = subprocess.Popen(bash, start_new_session=True)
    until(child.exists, what="the child")
    _kill(process.pid, False)
    assert process.wait(10) == -signal.SIGKILL
    path = Path("/proc") / child.read_text().strip() / "stat"
    until(lambda: not path.exists() or path.read_text().rpartition(")")[2].split()[0] == "Z", what="the child's end")


def test_a_run_directory_of_the_same_attempt_is_made_anew(open_folder):
    for _ in range(2):
        place = Workplace.make(open_folder / "77.1")
        assert sorted(path.name for path in place.work.iterdir()) == [".tmp", "jsonout.txt", "stdout.txt"]
        assert place.stdout.stat().st_size == 0
        (place.work / "left").touch()
        place.stdout.write_text("of the claim that was lost")
    place.remove()


def test_two_sandboxes_do_not_share_their_limit_on_processes(run, sandbox):
    results = []
    work = "set +x; for ((i = 0; i < 40; i++)); do sleep 100 & done; re-info $(jobs -r | wc -l); kill $(jobs -p)"
    threads = [
        threading.Thread(target=lambda: results.append(run(sandbox, work, limits=quick(processes=60, wall_seconds=60))))
        for _ in range(3)
    ]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert [ran.report.info for ran in results] == [["40"]] * 3


def test_a_symlinked_output_shows_nothing_of_the_host(run, sandbox):
    ran = run(
        sandbox,
        "ln -s /etc/shadow a; ln -s /proc/1/environ b; ln -s ../stdout.txt c; ln -s /work/../etc/shadow d\n"
        "for f in a b c d; do re-save-file $f $f; done; re-save-file e stdout.txt",
    )
    assert ran.report.output == {} and set(ran.kept) == {"stdout.txt"}
    assert ran.report.error == ["Output 'a' set to a missing file: 'a'."]


def test_logs_that_are_swapped_harm_nothing(run, sandbox, open_folder):
    victim = open_folder / "victim"
    victim.write_text("whole")
    ran = run(
        sandbox,
        f"rm -f stdout.txt jsonout.txt; ln -s {victim} stdout.txt; ln -s {victim} jsonout.txt; echo printed; re-info x",
    )
    assert victim.read_text() == "whole" and "printed" in ran.stdout


def test_messages_that_are_forged_are_only_messages(run, sandbox):
    ran = run(
        sandbox,
        'set +x; head -c 200000 /dev/urandom >&$RE_OUT; echo >&$RE_OUT; printf \'1.1 =& ["save","/"]\\n\' >&$RE_OUT\n'
        'rm -rf .tmp; ln -s /etc .tmp; printf \'7.1 =& ["info","/","y"]\\n\' >&$RE_OUT; re-info fine',
    )
    assert ran.outcome.returncode == 0 and ran.outcome.noise > 0


def test_inputs_may_lie_behind_closed_folders(run, sandbox, tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "pack").write_text("x")
    (closed / "pack").chmod(0o644)
    ran = run(
        sandbox,
        "set +x; cat /inputs/7/f; echo more >/inputs/7/f || rm /inputs/7/f || re-info kept",
        inputs={"7/f": closed / "pack"},
    )
    assert ran.stdout.startswith("+ set +x\nx") and ran.report.info == ["kept"]


# ---- the rest ---------------------------------------------------------------------------------------------------


def test_a_program_that_cannot_be_started_says_so(run, tmp_path, monkeypatch):
    with pytest.raises(ExecutorFailed, match="not started"):
        run(BubblewrapExecutor(), "true", inputs={"1/x": tmp_path / "nowhere"})
    with pytest.raises(ExecutorFailed):
        choose("docker")
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ExecutorFailed, match="not installed"):
        BubblewrapExecutor()


def test_the_local_executor_needs_a_folder_that_programs_can_enter_and_never_runs_as_root(tmp_path):
    tmp_path.chmod(0o700)
    place = Workplace.make(tmp_path / "run")
    program = Program(text="exit $((UID == 0))", workplace=place)
    if program_user()[0] == os.geteuid():
        assert LocalExecutor().run(program, print, lambda: False).returncode == 0
    else:
        with pytest.raises(ExecutorFailed, match="may not enter"):
            LocalExecutor().run(program, print, lambda: False)
        with pytest.raises(ExecutorFailed, match="never run as root"):
            program_user(0)
    assert reachable(Path("/"), 65534) is None


def test_the_null_executor_runs_nothing(run):
    assert run(choose("null"), "exit 3").outcome.returncode == 0


def test_what_is_not_enforced_is_said(run, executor):
    said = " ".join(run(executor, "true").outcome.not_enforced)
    assert ("isolation" in said) == (executor.name == "local") and "disk" in said


def test_the_sandbox_works_for_a_worker_that_is_not_root(open_folder):
    somebody = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
    folder = open_folder / "worker"
    for room in ("flow", "common"):  # without what other processes of a run compile and rename there just now
        source, ignored = Path(__file__).parents[2] / room, shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, folder / "pacifica" / room, symlinks=True, ignore=ignored)
    (folder / "w").mkdir()
    if somebody:
        shutil.chown(folder / "w", 65534, 65534)
    code = (
        "import sys; sys.path.insert(0, '.')\nfrom pathlib import Path\nfrom pacifica.flow.executor import *\n"
        "from pacifica.flow.choice import choose\n"
        "for name in ('local', 'bubblewrap'):\n"
        " place = Workplace.make(Path('w').resolve() / name); calls = []\n"
        " text = 're-info $(ulimit -u); re-save a 1; (re-save b 2); env re-save c 3; unshare -U true; exit 5'\n"
        " limits = Limits(wall_seconds=60)\n"
        " outcome = choose(name).run(Program(text=text, workplace=place, limits=limits), calls.append, lambda: False)\n"
        " print(name, outcome.returncode, [call.arguments for call in calls]); place.remove()\n"
    )
    python = shutil.which("python3", path="/usr/local/bin:/usr/bin")
    assert python is not None, "the system's own Python, which other users may start"
    said = subprocess.run(
        [python, "-c", code],
        cwd=folder,
        env={"PATH": os.environ["PATH"]},
        **somebody,
        capture_output=True,
        text=True,
    )
    assert said.stdout.splitlines() == [
        "local 5 [('1024',), ('a', '1'), ('b', '2'), ('c', '3')]",
        "bubblewrap 5 [('1024',), ('a', '1'), ('b', '2'), ('c', '3')]",
    ], said.stderr


def test_the_doctor_finds_this_host_fit_for_the_sandbox():
    findings = {finding.name: finding for finding in examine()}
    for name in (
        "bash",
        "bwrap",
        "bubblewrap",
        "bubblewrap: root",
        "bubblewrap: net",
        "bubblewrap: shadow",
        "bubblewrap: proc",
        "bubblewrap: fork",
    ):
        assert findings[name].ok, findings[name]
    assert not findings["local: isolation"].ok


def test_the_doctor_makes_nothing_that_was_not_there(tmp_path):
    findings = {finding.name: finding for finding in examine(tmp_path / "archive" / "work")}
    assert "is not there yet" in findings["archive"].text
    assert list(tmp_path.iterdir()) == []
