"""The pytest fixture ``flow_run``, for people who write processes (docs/flow.md#test-a-process).

    # conftest.py
    pytest_plugins = ["pacifica.flow.testing"]

    def test_words_are_counted(flow_run):
        assert flow_run("count-words", {"text": "the cat sat"}).output["words"] == 3

It is no entry point: a run of pytest that tests no process should not load this.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import requests

ANSWER_SECONDS = 60.0  # of one request
STOP_SECONDS = 60.0
POLL_SECONDS = 0.02
_UP = "import sys; from pacifica.common.cli import main; sys.exit(main())"
_COMMAND = "import sys; from pacifica.flow.__main__ import cmd; sys.exit(cmd())"


class Run:
    """A run that has ended.  ``data`` is the object as REST shows it."""

    def __init__(self, suite: "PrivateSuite", data: dict[str, Any]) -> None:
        """Tell of the object ``data`` of ``suite``."""
        self._suite, self.data = suite, data
        self.id, self.status, self.output = int(data["id"]), str(data["status"]), dict(data["output"])
        self.info, self.warning = list(data["process_info"]), list(data["process_warning"])
        self.error, self.rc = list(data["process_error"]), data["process_rc"]

    @cached_property
    def stdout(self) -> str:
        """All that the program printed, its trace too (at most 1 MiB)."""
        return self._suite.get(f"/data/{self.id}/stdout").text

    @cached_property
    def files(self) -> dict[str, int]:
        """The archive's id of each saved file, by its name in the working directory."""
        return {file["name"]: file["file_id"] for file in self._suite.get(f"/data/{self.id}/files").json()}

    def read(self, name: str) -> bytes:
        """Return the bytes of the saved file ``name``; KeyError without it."""
        return self._suite.content(self.files[name])

    def file(self, key: str) -> bytes:
        """Return the bytes of the file in the output ``key``, which may lead into groups by dots."""
        return self.read(self._output(key)["file"])

    def json(self, key: str) -> Any:
        """Return the document of the ``basic:json:`` output ``key``."""
        return self._suite.get(f"/storage/{self._output(key)}").json()["json"]

    def steps(self) -> "list[Run]":
        """Return what it started, by ``re-run`` or as a workflow, each when it has ended."""
        links = self._suite.get(f"/data/{self.id}/graph").json()["edges"]
        ids = [link["child"] for link in links if link["parent"] == self.id and link["kind"] == "subprocess"]
        return [Run(self._suite, self._suite.ended(id, ANSWER_SECONDS)) for id in ids]

    def _output(self, key: str) -> Any:
        value: Any = self.output
        for part in key.split("."):
            value = value[part]
        return value


class PrivateSuite:
    """``pacifica up`` on a folder of its own and on free ports."""

    def __init__(self, folder: Path) -> None:
        """Start it, and return when it answers."""
        self.data, self._log = folder / "data", folder / "suite.log"
        command = [sys.executable, "-c", _UP, "up", "--data", str(self.data), "--ports", "auto", "--json"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            self.stop()
            raise RuntimeError(f"The suite did not start:\n{self._log.read_text('utf-8', 'replace')[-4000:]}")
        self.urls: dict[str, str] = json.loads(line)

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()

    def register(self, folder: Path) -> None:
        """Register the definitions in ``folder``; AssertionError, saying why, where one is refused."""
        command = [sys.executable, "-c", _COMMAND, "--data", str(self.data), "register", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"A definition was refused:\n{done.stdout}{done.stderr}"

    def run(self, slug: str, values: Mapping[str, Any], seconds: float, options: Mapping[str, Any]) -> Run:
        """Run a process to its end."""
        document = {"process": {"slug": slug}, "input": self._given(values), **options}
        answer = requests.post(f"{self.urls['flow']}/api/data", json=document, timeout=ANSWER_SECONDS)
        assert answer.status_code == 201, f"{slug} was not created: {answer.json()['message']}"
        return Run(self, self.ended(answer.json()["id"], seconds))

    def ended(self, id: int, seconds: float) -> dict[str, Any]:
        """Return the object when it has ended; AssertionError after ``seconds``."""
        end = time.monotonic() + seconds
        while (data := self.get(f"/data/{id}").json())["status"] not in ("OK", "ER"):
            if time.monotonic() > end:
                requests.post(f"{self.urls['flow']}/api/data/{id}/cancel", json={"graph": True}, timeout=ANSWER_SECONDS)
                raise AssertionError(f"{data['process']['slug']} is still {data['status']} after {seconds} s")
            time.sleep(POLL_SECONDS)
        return dict(data)

    def get(self, path: str) -> requests.Response:
        """Ask flow for ``path`` below ``/api``."""
        answer = requests.get(f"{self.urls['flow']}/api{path}", timeout=ANSWER_SECONDS)
        answer.raise_for_status()
        return answer

    def content(self, file_id: int) -> bytes:
        """Return the bytes of an archived file."""
        answer = requests.get(f"{self.urls['archive']}/{file_id}", timeout=ANSWER_SECONDS)
        answer.raise_for_status()
        return answer.content

    def _given(self, value: Any) -> Any:
        """Return ``value`` with each path as an archived file and each run as its id."""
        if isinstance(value, Run):
            return value.id
        if isinstance(value, os.PathLike):
            return self._archived(Path(value))
        if isinstance(value, Mapping):
            return {key: self._given(one) for key, one in value.items()}
        return [self._given(one) for one in value] if isinstance(value, list | tuple) else value

    def _archived(self, path: Path) -> dict[str, str]:
        asked = requests.get(f"{self.urls['uniqueid']}/getid?range=1&mode=file", timeout=ANSWER_SECONDS)
        asked.raise_for_status()
        id = asked.json()["startIndex"]
        with path.open("rb") as file:
            body = file if path.stat().st_size else b""  # requests would send an empty file without a length
            headers = {"Content-Type": "application/octet-stream"}
            requests.put(f"{self.urls['archive']}/{id}", data=body, headers=headers, timeout=None).raise_for_status()
        return {"file": path.name, "file_temp": f"archive:{id}"}


@pytest.fixture(scope="session")
def flow_processes(pytestconfig: pytest.Config) -> list[Path]:
    """The folders whose definitions are registered: ``processes`` in the root; override it for others."""
    return [pytestconfig.rootpath / "processes"]


@pytest.fixture(scope="session")
def flow_suite(tmp_path_factory: pytest.TempPathFactory, flow_processes: list[Path]) -> Iterator[PrivateSuite]:
    """A suite for the whole run of pytest, with the processes registered."""
    suite = PrivateSuite(tmp_path_factory.mktemp("flow-suite"))
    try:
        for folder in flow_processes:
            suite.register(folder)
        yield suite
    finally:
        suite.stop()


@pytest.fixture
def flow_run(flow_suite: PrivateSuite) -> Callable[..., Run]:
    """Run a process: ``flow_run(slug, inputs, status="OK", seconds=60, **options)`` returns its ``Run``.

    A ``Path`` among the inputs is archived and becomes a file, a ``Run`` the data object that it made; ``options`` are
    ``name``, ``tags``, ... of ``POST /api/data``.  AssertionError, with errors and output, when it ends otherwise than
    in ``status`` (None: either).
    """

    def run(
        slug: str,
        inputs: Mapping[str, Any] | None = None,
        *,
        status: str | None = "OK",
        seconds: float = 60.0,
        **options: Any,
    ) -> Run:
        ended = flow_suite.run(slug, inputs or {}, seconds, options)
        if status is not None and ended.status != status:
            raise AssertionError(f"{slug} ended {ended.status}: {ended.error}\n{ended.stdout[-4000:]}")
        return ended

    return run
