"""Fixtures of flow: the whole suite for its service, and its rooms alone."""

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest

from pacifica.flow.bubblewrap import BubblewrapExecutor
from pacifica.flow.executor import Limits, Program, Workplace
from pacifica.flow.local import LocalExecutor
from pacifica.flow.messages import Commands
from pacifica.flow.report import Report
from pacifica.flow.shelf import Collector, Folder
from pacifica.tests.system.flows import PROCESSES, Flow
from pacifica.tests.system.suite import Suite

CACHE = Path(__file__).parents[2] / ".cache" / "resolwe"
PINNED = {"resolwe": "45.2.0", "resolwe-bio": "64.1.0"}


@pytest.fixture(scope="module")
def flow(tmp_path_factory):
    """Flow in a suite of its own that has the processes of ``processes/``."""
    hurry = {"PACIFICA_FLOW_INTERACTIVE_CPU_SECONDS": "1"}
    suite = Suite(tmp_path_factory.mktemp("flow") / "data", hurry).start()
    suite.register(PROCESSES)
    yield Flow(suite)
    suite.stop()


@pytest.fixture(scope="session")
def published():
    """The packages whose process files we must take: name -> folder, downloaded once and never installed."""
    found = {}
    for name, version in PINNED.items():
        target = CACHE / f"{name}-{version}"
        if not target.exists():
            with tempfile.TemporaryDirectory() as folder:
                subprocess.run(
                    [
                        sys.executable,
                        "-m",
                        "pip",
                        "download",
                        "-q",
                        "--no-deps",
                        "--ignore-requires-python",
                        "-d",
                        folder,
                        f"{name}=={version}",
                    ],
                    check=True,
                    timeout=100,
                )
                part = target.with_suffix(".part")
                shutil.rmtree(part, ignore_errors=True)
                with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
                    wheel.extractall(part, [m for m in wheel.namelist() if m.endswith((".yml", ".yaml"))])
                part.rename(target)
        found[name] = target
    return found


@pytest.fixture(scope="session")
def open_folder():
    """A folder that other users may enter: where we are root, programs are somebody else."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(params=[LocalExecutor, BubblewrapExecutor], ids=["local", "bubblewrap"])
def executor(request):
    """Each real executor in turn."""
    return request.param()


@pytest.fixture
def sandbox():
    """The executor that isolates."""
    return BubblewrapExecutor()


class Ran:
    """A run that is over: outcome, report, text printed, files taken over."""

    def __init__(self, outcome, report, calls, stdout, kept, shelf):
        self.outcome, self.report, self.calls = outcome, report, calls
        self.stdout, self.kept, self.shelf = stdout, kept, shelf


@pytest.fixture
def run(open_folder):
    """Run a program with an executor as the dispatcher will: commands applied, files taken over."""
    places = []

    def run(executor, text, *, limits=None, cancelled=lambda: False, on_call=None, **options):
        place = Workplace.make(Path(tempfile.mkdtemp(dir=open_folder)) / "run")
        place.path.parent.chmod(0o755)
        places.append(place)
        program = Program(text=text, workplace=place, limits=limits or Limits(wall_seconds=20), **options)
        view = executor.view(program)
        collector = Collector(view, Folder(place.path / "shelf"))
        commands, calls = Commands(view, collector), []
        report = Report([], lambda document: 1)

        def receive(call):
            calls.append(call)
            for message in commands.messages(call):
                report.apply(message)

        outcome = executor.run(program, on_call or receive, cancelled)
        text = place.stdout.read_text("utf-8", "replace")
        return Ran(outcome, report, calls, text, collector.kept, place.path / "shelf")

    yield run
    for place in places:
        place.remove()
