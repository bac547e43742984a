"""``pacifica dataset`` as users call it: what it prints, and its exit codes; in process and over HTTP."""

import hashlib
import io
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest

from pacifica.common import config, orm
from pacifica.common.cli import main
from pacifica.datasafe import manifest
from pacifica.tests.system.datasets import manifest_of
from pacifica.tests.system.suite import Suite, until

SERIES = "42.1001/ds/exp/sa/42/cwepr"
FILES = {"a.dat": b"data", "sub/b.dat": b"more", "x.info": b"meta"}


class Done(NamedTuple):
    """What a command printed."""

    stdout: str
    stderr: str


Command = Callable[..., Done]


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    suite = Suite(tmp_path_factory.mktemp("command") / "data", {"PACIFICA_AUTH_ADMINISTRATORS": "root"})
    try:
        yield suite.start()
    finally:
        suite.kill()


@pytest.fixture(params=["local", "remote"])
def place(request: pytest.FixtureRequest, suite: Suite) -> list[str]:
    return ["--data", str(suite.data)] if request.param == "local" else ["--url", suite.urls["datasafe"]]


@pytest.fixture
def command(place: list[str]) -> Iterator[Command]:
    """Run ``pacifica dataset <verb> ... <place>`` in this process; AssertionError for another exit code."""

    def run(*words: object, code: int = 0) -> Done:
        orm.disconnect()
        with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
            try:
                found = main(["dataset", *map(str, words), *place])
            except SystemExit as error:  # argparse
                found = int(str(error.code))
        assert found == code, out.getvalue() + err.getvalue()
        return Done(out.getvalue(), err.getvalue())

    yield run
    orm.disconnect()
    config.embed(None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        path = tmp_path / "measured" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "measured"


def test_every_verb_does_what_it_says(command: Command, folder: Path, tmp_path: Path) -> None:
    loi = command("create", SERIES).stdout.strip()
    assert command("upload", loi, folder).stdout == f"{loi} version 1: 4 files, {size(folder, loi)} bytes\n"
    (folder / "a.dat").write_bytes(b"calibrated")
    assert "version 2" in command("update", loi, folder, "--message", "calibrated").stdout
    assert command("download", loi, tmp_path / "back", "--version", "1").stdout.endswith(f"in {tmp_path / 'back'}\n")
    assert (tmp_path / "back" / "a.dat").read_bytes() == b"data"
    assert command("verify", loi, tmp_path / "back", "--version", "1").stdout.endswith("sound\n")
    different = command("verify", loi, tmp_path / "back", code=3).stdout.splitlines()
    assert different[:-1] == ["changed MANIFEST.yaml", "changed a.dat"] and different[-1].endswith("not sound")
    assert command("verify", loi).stdout.endswith("sound\n")
    assert command("ls", loi).stdout.startswith(f"{loi}  2  4  ")
    assert [line.split("  ")[-1] for line in command("ls", loi, "--files").stdout.splitlines()] == [
        "MANIFEST.yaml", "a.dat", "sub/b.dat", "x.info",
    ]  # fmt: skip
    assert [line.split("  ")[-1] for line in command("versions", loi).stdout.splitlines()] == ["Stored.", "calibrated"]
    command("export", loi, tmp_path / "bag")
    assert (tmp_path / "bag" / "bagit.txt").is_file()


def size(folder: Path, loi: str) -> int:
    listing = manifest.write(manifest.create(loi, ["a.dat", "sub/b.dat"], [("x.info", "test", "0.1.0")], sums(folder)))
    return sum(map(len, FILES.values())) + len(listing)


def sums(folder: Path) -> dict[str, str]:
    return {name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in FILES}


def test_json_is_one_object_a_line_for_successes_and_for_failures(command: Command, folder: Path) -> None:
    loi = json.loads(command("create", SERIES, "--json").stdout)["loi"]
    (folder / ".hidden").touch()
    sent = json.loads(command("upload", loi, folder, "--json").stdout)
    assert (sent["loi"], sent["version"], sent["all"], sent["left"]) == (loi, 1, True, [".hidden"])
    assert json.loads(command("verify", loi, "--json").stdout)["findings"] == []
    assert json.loads(command("ls", loi, "--json").stdout)["stored"].endswith("Z")
    failed = command("upload", loi, folder, "--json", code=1)
    assert json.loads(failed.stdout)["code"] == "dataset_exists" and "Directory not empty." in failed.stderr
    (folder / "x.info").unlink()
    refused = json.loads(command("update", loi, folder, "--json", code=1).stdout)
    assert refused["faults"][0]["code"] == "manifest_incomplete"


def test_a_takeover_tells_what_became_of_each_dataset(command: Command, place: list[str], tmp_path: Path) -> None:
    issuer = {"--data": "3001", "--url": "3002"}[place[0]]
    tree = tmp_path / "root" / "exp" / "sa" / "7" / "cwepr"
    for number in (1, 2):
        (tree / str(number)).mkdir(parents=True)
        for name, content in (FILES | {manifest.NAME: manifest_of(FILES)}).items():
            path = tree / str(number) / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
    (tree / "2" / "a.dat").write_bytes(b"rot!")
    words = ["import", tmp_path / "root", "--issuer", issuer, "--owner", "ada"]
    told = [line.split()[:2] for line in command(*words, code=3).stdout.splitlines()]
    assert told == [["taken", f"42.{issuer}/ds/exp/sa/7/cwepr/1"], ["damaged", f"42.{issuer}/ds/exp/sa/7/cwepr/2"]]
    (tree / "2" / "a.dat").write_bytes(b"data")
    (tree / "2" / "more").write_bytes(b"")
    assert json.loads(command(*words, "--json", code=5).stdout.splitlines()[1])["state"] == "left"


def test_mistakes_are_told_in_a_sentence(command: Command, folder: Path, tmp_path: Path) -> None:
    assert "not a valid LOI" in command("download", "42.1001/ds/../x", tmp_path / "x", code=1).stderr
    assert "does not exist" in command("download", f"{SERIES}/99999", tmp_path / "x", code=1).stderr
    assert "No such file" in command("upload", f"{SERIES}/1", tmp_path / "absent", code=1).stderr
    loi = command("create", SERIES).stdout.strip()
    command("upload", loi, folder)
    assert "File exists" in command("download", loi, folder, code=1).stderr
    command("download", loi, code=2)
    command("ls", "--version", "1", code=1)


def test_names_never_reach_a_terminal_raw(command: Command, folder: Path) -> None:
    loi = command("create", SERIES).stdout.strip()
    (folder / "evil\x1b[2J.dat").touch()
    told = command("upload", loi, folder, code=1).stderr
    assert "\x1b" not in told and "evil\\x1b[2J.dat" in told
    (folder / "evil\x1b[2J.dat").unlink()
    assert "control characters" in command("upload", loi, folder, "--message", "a\x1b[2Jb", code=1).stderr
    command("upload", loi, folder, "--message", "two\nlines")
    assert command("versions", loi).stdout.endswith("  two\\nlines\n")


def test_the_installed_command_does_the_same_and_fails_soon_and_plainly_without_a_server(
    suite: Suite, tmp_path: Path
) -> None:
    program = [Path(sys.executable).with_name("pacifica"), "dataset", "create", SERIES]
    for url, code, said in (
        (suite.urls["datasafe"], 0, ""), ("http://127.0.0.1:1", 1, "does not answer"), ("ftp://127.0.0.1", 1, "http://")
    ):  # fmt: skip
        done = subprocess.run([*program, "--url", url], capture_output=True, text=True, timeout=60)
        assert done.returncode == code and said in done.stderr and "Traceback" not in done.stderr


def test_a_download_that_is_ended_or_killed_leaves_nothing_for_long(suite: Suite, folder: Path, tmp_path: Path) -> None:
    program = [Path(sys.executable).with_name("pacifica"), "dataset"]
    place = ["--data", str(suite.data)]
    made = subprocess.run([*program, "create", SERIES, *place], capture_output=True, text=True, timeout=60)
    loi = made.stdout.strip()
    (folder / "large.dat").write_bytes(bytes(300 << 20))
    subprocess.run([*program, "upload", loi, folder, *place], check=True, capture_output=True, timeout=100)
    target = tmp_path / "there" / "back"
    for number, left in ((signal.SIGTERM, 0), (signal.SIGKILL, 1)):
        process = subprocess.Popen([*program, "download", loi, target, *place], stderr=subprocess.PIPE)
        until(lambda: list(target.parent.glob(".back.*/large.dat")), 60, "a part of the download")
        process.send_signal(number)
        assert process.wait(60) == (130 if number == signal.SIGTERM else -number)
        assert process.stderr is not None and b"Traceback" not in process.stderr.read()
        process.stderr.close()
        assert len(list(target.parent.iterdir())) == left, number
    subprocess.run([*program, "download", loi, target, *place], check=True, capture_output=True, timeout=100)
    assert list(target.parent.iterdir()) == [target]
