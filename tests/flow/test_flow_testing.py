"""The fixture for people who write processes, as they use it: in a pytest of its own."""

import os
import subprocess
import sys

from pacifica.tests.system.flows import PROCESSES

CONFTEST = f"""
from pathlib import Path
import pytest
pytest_plugins = ["pacifica.flow.testing"]

@pytest.fixture(scope="session")
def flow_processes():
    return [Path({str(PROCESSES)!r})]
"""
TESTS = """
import hashlib

def test_files_go_in_and_come_out(flow_run, tmp_path):
    path = tmp_path / "a b.dat"
    path.write_bytes(b"some bytes")
    (tmp_path / "empty").touch()
    assert flow_run("sum", {"file": path}).output["sha256"] == hashlib.sha256(b"some bytes").hexdigest()
    assert flow_run("sum", {"file": tmp_path / "empty"}).output["sha256"].startswith("e3b0c442")
    number = flow_run("number", {"value": 4}, tags=["t"])
    assert (number.status, number.error, number.rc, number.data["tags"]) == ("OK", [], None, ["t"])
    assert number.file("text") == number.read("number.txt") == b"4\\n"
    assert "re-save value 4" in number.stdout
    workflow = flow_run("twice", {"source": number})
    assert [step.output["value"] for step in workflow.steps()] == [5, 6]
    assert flow_run("cached", {"factor": 2}).json("made") == {"factor": 2}

def test_a_failure_is_what_was_asked_for(flow_run):
    failed = flow_run("fail", status="ER")
    assert (failed.status, failed.error) == ("ER", ["It went wrong"])
    assert flow_run("fail", status=None).id > failed.id

def test_fails_because_the_run_failed(flow_run):
    flow_run("fail")

def test_fails_because_the_input_is_refused(flow_run):
    flow_run("number", {"value": "x"})

def test_fails_because_it_takes_too_long(flow_run):
    flow_run("wait", seconds=0.2)
"""


def test_runs_succeed_and_fail_as_their_processes_do(tmp_path):
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_processes.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_processes.py"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280, check=False
    )
    assert "3 failed, 2 passed" in done.stdout, done.stdout + done.stderr
    assert "fail ended ER: ['It went wrong']" in done.stdout
    assert "number was not created: " in done.stdout
    assert "wait is still PR after 0.2 s" in done.stdout or "wait is still WT after 0.2 s" in done.stdout


def test_a_definition_that_is_refused_fails_the_tests(tmp_path):
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["pacifica.flow.testing"]\n')
    (tmp_path / "processes").mkdir()
    (tmp_path / "processes" / "bad.yml").write_text("- slug: bad\n  run: {}\n")
    (tmp_path / "test_it.py").write_text("def test_it(flow_run): pass\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 1
    assert "bad.yml:1: VALIDATION ERROR" in done.stdout
