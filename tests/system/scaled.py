"""The suite as a facility runs it: uWSGI and ``celery worker`` for each service, on PostgreSQL and RabbitMQ."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psycopg
import requests

from pacifica.tests.system.nodes import descendants, members
from pacifica.tests.system.suite import SERVICES, Suite, until

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
PROVIDED = {
    "archive": "/archive",
    "datasets": "/api",
    "catalog": "/catalog",
    "policy": "/policy",
    "metadata": "/metadata",
    "uniqueid": "/uniqueid",
}
START_SECONDS = 90.0


class Scaled(Suite):
    """A data folder, a database and a vhost, and the processes that serve them; used like a ``Suite``.

    ``plain`` starts uWSGI as Pacifica documents it, without our ini files; the database may be ``synced`` already.
    """

    def __init__(
        self, data: Path, database: str, broker: str, environment: dict[str, str] | None = None, *,
        services: Iterable[str] = SERVICES, plain: bool = False, synced: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(data, environment)
        self.environment |= {
            "PACIFICA_DATABASE_PEEWEE_URL": database,
            "PACIFICA_CELERY_BROKER_URL": broker,
            "PACIFICA_ARCHIVE_PATH": str(data / "archive"),
        } | (environment or {})
        self.database, self.services, self.plain, self.synced = database, services, plain, synced
        self.web: dict[str, subprocess.Popen[bytes]] = {}
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self.ports: dict[str, str] = {}

    def start(self, code: str | None = None) -> "Scaled":
        """Bring the database up to date, start every process and wait until all of them are at work."""
        self.data.mkdir(parents=True, exist_ok=True)
        if not self.synced:
            self.sync()
        for name in self.services:
            self.start_web(name, wait=False)
        for name in self.services:
            self.start_worker(name, wait=False)
        for name in self.services:
            self._await_web(name)
        for name in self.services:
            self._await_worker(name)
        return self

    def sync(self) -> None:
        """Bring the database up to date as an administrator does."""
        self.data.mkdir(parents=True, exist_ok=True)
        for name in self.services:
            subprocess.run([BIN / f"pacifica-{name}-cmd", "dbsync"], env=self._environment(), cwd=self.data, check=True)
        self.synced = True

    def start_web(self, name: str, *, wait: bool = True) -> None:
        """Start uWSGI for a service, on the port that it had before or on a free one."""
        listen = self.listen(name)
        if self.plain:
            options = ["--http-socket", listen, "--master", "--module", f"pacifica.{name}.wsgi"]
        else:
            options = ["--ini", str(ROOT / "config" / f"uwsgi-{name}.ini")]
        self.web[name] = self._spawn(f"web-{name}", [BIN / "uwsgi", *options], **{f"{name.upper()}_SOCKET": listen})
        if wait:
            self._await_web(name)

    def start_twin(self, name: str) -> str:
        """Start another uWSGI for a service, as on another machine, and return its URL; it ends with the rest."""
        twin = f"{name}-twin"
        command = [BIN / "uwsgi", "--ini", str(ROOT / "config" / f"uwsgi-{name}.ini")]
        self.web[twin] = self._spawn(f"web-{twin}", command, **{f"{name.upper()}_SOCKET": "127.0.0.1:0"})
        self._await_web(twin)
        return self.urls[twin]

    def listen(self, name: str) -> str:
        """Return the address to bind."""
        return f"127.0.0.1:{self.ports.get(name, '0')}"

    def find(self, name: str) -> str:
        """Return the URL that a service was bound to, once it was."""

        def bound() -> str | None:
            self._require(f"web-{name}", self.web[name])
            found = re.search(r"bound to TCP address \S+:(\d+)", self.logged(f"web-{name}"))
            return found[1] if found else None

        self.ports[name] = until(bound, START_SECONDS, f"uWSGI of {name}") or ""
        return f"http://127.0.0.1:{self.ports[name]}"

    def start_worker(self, name: str, *, wait: bool = True) -> None:
        """Start the Celery worker of a service."""
        command = [BIN / "celery", "-A", f"pacifica.{name}.tasks", "worker", "--loglevel", "info"]
        self.workers[name] = self._spawn(f"worker-{name}", command)
        if wait:
            self._await_worker(name)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End every process and return the worst exit code."""
        running = [*self.web.values(), *self.workers.values()]
        for process in running:
            if process.poll() is None:
                # by itself uWSGI takes SIGTERM for a reload
                process.send_signal(signal.SIGINT if self.plain and process in self.web.values() else number)
        codes = []
        for process in running:
            try:
                codes.append(abs(process.wait(60)))
            finally:
                _kill_all(process)
        return max(codes, default=0)

    def kill(self, part: str = "all") -> None:
        """End processes as a power cut would: ``web``, ``worker main``, ``worker child``, or ``all`` of both kinds.

        The children of workers alone are replaced by Celery; what else was killed must be started again.
        """
        if part == "worker child":
            for process in self.workers.values():
                for pid in descendants(process.pid)[:-1]:
                    _signal(pid, signal.SIGKILL)
            return
        victims = {"web": [self.web], "worker main": [self.workers], "all": [self.web, self.workers]}[part]
        for process in [process for group in victims for process in group.values()]:
            if part == "worker main":
                _signal(process.pid, signal.SIGKILL)
            else:
                _kill_all(process)
            process.wait(30)

    def pids(self) -> list[int]:
        """Return the master of each uWSGI and the main process of each worker."""
        return [process.pid for process in (*self.web.values(), *self.workers.values())]

    def restart(self) -> None:
        """Start again what is not running."""
        for group, start in ((self.web, self.start_web), (self.workers, self.start_worker)):
            for name in [name for name, process in group.items() if process.poll() is not None]:
                start(name)

    def logged(self, name: str) -> str:
        """Return what the process ``name`` (``web-ingest``, ``worker-cartd``) has written since it was last started."""
        return self._log(name).read_text(errors="replace")

    def query(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Ask the database, past every service; ``sql`` has SQLite's placeholders."""
        with psycopg.connect(self.database, autocommit=True) as connection:
            return connection.execute(sql.replace("%", "%%").replace("?", "%s"), values).fetchall()

    def _spawn(self, name: str, command: list[Any], **environment: str) -> "subprocess.Popen[bytes]":
        with self._log(name).open("wb") as log:
            return subprocess.Popen(
                [*map(str, command)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.data,
                env=self._environment() | environment, start_new_session=True,
            )  # fmt: skip

    def _await_web(self, name: str) -> None:
        url = self.urls[name] = self.find(name)
        if name == "datasafe":
            self.urls |= {word: url + path for word, path in PROVIDED.items()}

        def answers() -> bool:
            self._require(f"web-{name}", self.web[name])
            try:
                return requests.get(f"{url}/healthz", timeout=5).status_code == 200
            except (requests.ConnectionError, requests.Timeout):  # the application is being loaded
                return False

        try:
            until(answers, START_SECONDS, f"an answer of {name}")
        except AssertionError as error:
            raise AssertionError(f"{error}:\n{self.logged(f'web-{name}')[-4000:]}") from None

    def _await_worker(self, name: str) -> None:
        def ready() -> bool:
            self._require(f"worker-{name}", self.workers[name])
            return " ready." in self.logged(f"worker-{name}")

        until(ready, START_SECONDS, f"the worker of {name}")

    def _require(self, name: str, process: "subprocess.Popen[bytes]") -> None:
        assert process.poll() is None, f"{name} ended with {process.returncode}:\n{self.logged(name)[-4000:]}"

    def _log(self, name: str) -> Path:
        return self.data.parent / f"{self.data.name}-{name}.log"

    def _environment(self) -> dict[str, str]:
        return os.environ | self.environment


def _kill_all(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process with what it started, and also what outlived it: all are of one session."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait(30)
    until(lambda: not members(process.pid), 30, "the end of all that was started")  # until then a port is taken


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
