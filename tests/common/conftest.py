"""Servers for the tests of the web floor: the same application under cheroot and under real uWSGI."""

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
import requests

from pacifica.common.config import Server
from pacifica.common.server import HttpServer

ROOT = Path(__file__).parents[2]
WIRE = Path(__file__).with_name("wire.py")


@dataclass(frozen=True)
class Served:
    """A running server of ``wire.application``."""

    kind: str
    url: str

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def curl(self, path: str, *options: str | Path) -> "subprocess.CompletedProcess[bytes]":
        """Run curl against ``path`` and return what it did, with the body on stdout."""
        command = ["curl", "-s", "--max-time", "20", *map(str, options), self.url + path]
        return subprocess.run(command, capture_output=True, check=False)

    def seen(self, done: Callable[[list[str]], bool]) -> list[str]:
        """Return what the application saw, once ``done`` is content with it or half a minute has passed."""
        deadline = time.monotonic() + 30
        while not done(said := requests.get(f"{self.url}/seen", timeout=5).json()) and time.monotonic() < deadline:
            time.sleep(0.02)
        return list(said)


@pytest.fixture(scope="session")
def wire() -> ModuleType:
    """The module ``wire``, its application made afresh for this process."""
    spec = importlib.util.spec_from_file_location("pacifica_test_wire", WIRE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["pacifica_test_wire"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def cheroot(wire: ModuleType) -> Iterator[Served]:
    """The built-in server."""
    server = HttpServer(wire.application, settings=Server(threads=8))
    server.start()
    yield Served("cheroot", server.url)
    server.stop(1)


@pytest.fixture(scope="session")
def uwsgi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """uWSGI as an administrator starts it, on a free port that it takes itself."""
    yield from _uwsgi(tmp_path_factory.mktemp("uwsgi"), "--http-socket")


@pytest.fixture(scope="session")
def uwsgi11(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """uWSGI with connections kept alive."""
    yield from _uwsgi(tmp_path_factory.mktemp("uwsgi11"), "--http11-socket")


@pytest.fixture
def hasty(tmp_path: Path) -> Iterator[Served]:
    """uWSGI that waits a second and no longer for what it reads itself."""
    yield from _uwsgi(tmp_path, "--http-socket", "1")


@pytest.fixture(params=["cheroot", "uwsgi", "uwsgi11"])
def served(request: pytest.FixtureRequest) -> Served:
    """Each server in turn, with nothing seen yet."""
    found: Served = request.getfixturevalue(request.param)
    requests.delete(f"{found.url}/seen", timeout=5)
    return found


def _uwsgi(directory: Path, socket_option: str, timeout: str = "20") -> Iterator[Served]:
    log = directory / "log"
    binary = Path(sys.executable).with_name("uwsgi")
    options = [
        "--master",
        "--processes",
        "1",
        "--threads",
        "4",
        "--need-app",
        "--die-on-term",
        "--socket-timeout",
        timeout,
        "--disable-logging",
    ]
    command = [binary, socket_option, "127.0.0.1:0", *options, "--wsgi-file", WIRE]
    environment = os.environ | {"PYTHONPATH": str(ROOT / ".namespace")}
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment, cwd=directory)
    try:
        yield Served(socket_option, f"http://127.0.0.1:{_port_of(process, log)}")
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _port_of(process: "subprocess.Popen[bytes]", log: Path) -> int:
    """Read the port that uWSGI was given off its log."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        text = log.read_text(errors="replace")
        if "WSGI app 0" in text and "spawned uWSGI worker 1" in text:
            line = next(line for line in text.splitlines() if "bound to TCP address" in line)
            return int(line.split("address ")[1].split()[0].rpartition(":")[2])
        time.sleep(0.05)
    pytest.fail(f"uWSGI did not start:\n{log.read_text(errors='replace')[-2000:]}")
