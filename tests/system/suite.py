"""The suite as users run it: ``pacifica up`` in a process of its own, on free ports, killed and started at will."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import requests

T = TypeVar("T")
SERVICES = ("ingest", "cartd", "datasafe", "flow")
TAKING_IN = ("ingest", "datasafe")  # enough for uploads, and quicker to start than all
UP = (
    "import faulthandler, signal, sys; faulthandler.register(signal.SIGUSR1); "
    "from pacifica.common.cli import main; sys.exit(main())"
)


def until(ask: Callable[[], T], seconds: float = 30.0, what: str = "it") -> T:
    """Ask until the answer is true, and return it; AssertionError after ``seconds``."""
    end = time.monotonic() + seconds
    while not (answer := ask()):
        assert time.monotonic() < end, f"{what} did not happen within {seconds} s"
        time.sleep(0.01)  # between two questions, never instead of one
    return answer


class Suite:
    """One data folder and the process that serves it; ``environment`` adds to or replaces settings."""

    services: Iterable[str] = SERVICES  # what is started where each has processes of its own

    def __init__(self, data: Path, environment: dict[str, str] | None = None) -> None:
        self.data = data
        self.environment = {
            "PACIFICA_WORKER_LEASE_SECONDS": "2",
            "PACIFICA_WORKER_SWEEP_SECONDS": "0.5",  # more often it would be most of what a run of the tests does
            "PACIFICA_WORKER_RETRY_SECONDS": "0.1",
        } | (environment or {})
        self.process: subprocess.Popen[str] | None = None
        self.urls: dict[str, str] = {}
        self.log = data.parent / f"{data.name}.log"

    CODE = "import sys; from pacifica.common.cli import main; sys.exit(main())"

    def start(self, code: str = CODE) -> "Suite":
        """Start ``pacifica up`` and wait until every service answers; ``code`` may do something to it first."""
        command = [sys.executable, "-c", code, "up", "--data", str(self.data), "--ports", "auto", "--json"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, text=True, env=os.environ | self.environment
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the suite did not start:\n{self.log.read_text(errors='replace')[-4000:]}"
        self.urls = json.loads(line)
        return self

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End the process and return its exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            code = self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGUSR1)  # where does every thread stand?
            time.sleep(1)
            self.process.kill()
            raise AssertionError(f"the suite did not end:\n{self.log.read_text(errors='replace')[-20000:]}") from None
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    def pids(self) -> list[int]:
        """Return the processes that were started; what they started themselves is below them."""
        return [self.process.pid] if self.process is not None else []

    def kill(self) -> None:
        """End it as a power cut would."""
        self.stop(signal.SIGKILL)

    def register(self, folder: Path, *options: str) -> None:
        """Register the process definitions in ``folder``, as an administrator does."""
        code = "from pacifica.flow.__main__ import cmd; raise SystemExit(cmd())"
        command = [sys.executable, "-c", code, "--data", str(self.data), "register", str(folder), *options]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | self.environment, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def upload(self, bundle: bytes, **options: Any) -> dict[str, Any]:
        """POST ``bundle`` and return the state object."""
        answer = requests.post(f"{self.urls['ingest']}/upload", data=bundle, timeout=60, **options)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def state(self, job_id: int) -> dict[str, Any]:
        """Return the state object of a job."""
        return dict(requests.get(f"{self.urls['ingest']}/get_state", {"job_id": job_id}, timeout=10).json())

    def finished(self, job_id: int, seconds: float = 30.0) -> dict[str, Any]:
        """Wait for the end of a job and return its state object."""
        return until(lambda: (state := self.state(job_id))["complete"] and state, seconds, f"the end of job {job_id}")

    def files(self, transaction: int) -> list[dict[str, Any]]:
        """Return what the catalogue lists of a transaction."""
        answer = requests.get(f"{self.urls['metadata']}/files", {"transaction": transaction}, timeout=10)
        assert answer.status_code == 200, answer.text
        return list(answer.json())

    def content(self, file_id: int) -> bytes:
        """Return the bytes of an archived file."""
        answer = requests.get(f"{self.urls['archive']}/{file_id}", timeout=10)
        assert answer.status_code == 200, answer.text
        return answer.content

    def cart(self, uid: str) -> str:
        """Return the URL of a cart."""
        return f"{self.urls['cartd']}/{uid}"

    def fill_cart(self, entries: Iterable[dict[str, Any]], uid: str = "") -> str:
        """POST ``entries`` as a cart and return its uid once it is ready, or in error."""
        uid = uid or str(uuid.uuid4())
        answer = requests.post(self.cart(uid), json={"fileids": list(entries)}, timeout=60)
        assert answer.status_code == 201, answer.text
        until(
            lambda: requests.head(self.cart(uid), timeout=10).headers["X-Pacifica-Status"] != "staging", 30, "the cart"
        )
        return uid

    @property
    def administrators(self) -> dict[str, str]:
        """The environment in which commands are about this suite's database and archive."""
        ours = {
            "PACIFICA_DATABASE_PEEWEE_URL": f"sqlite:///{self.data}/pacifica.db",
            "PACIFICA_ARCHIVE_PATH": str(self.archive),
            "PACIFICA_CELERY_BROKER_URL": "memory://",
        }
        return os.environ | ours | self.environment

    def command(self, service: str, *words: object, code: int = 0) -> "subprocess.CompletedProcess[str]":
        """Run ``pacifica-<service>-cmd`` on this suite's database and archive; AssertionError for another exit code."""
        program = Path(sys.executable).with_name(f"pacifica-{service}-cmd")
        done = subprocess.run(
            [program, *map(str, words)], env=self.administrators, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == code, done.stderr
        return done

    # ---- what lies behind the URLs; for the tests that need to know that nothing does ----------------------------

    @property
    def archive(self) -> Path:
        """The root of the archive volume."""
        return self.data / "archive"

    def spooled(self) -> list[str]:
        """Return the names of what lies in the spool."""
        return sorted(path.name for path in (self.archive / "spool").glob("*"))  # it is made by the first upload

    def packs(self) -> list[str]:
        """Return the names of the archive's packs, without their sidecars."""
        files = [path for path in (self.archive / "packs").rglob("*") if path.is_file()]
        assert sorted(f"{path.name}.json" for path in files if not path.suffix) == sorted(
            path.name for path in files if path.suffix
        ), "every pack has a sidecar, every sidecar a pack"
        return sorted(path.name for path in files if not path.suffix)

    def query(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Ask the database, past every service."""
        with closing(sqlite3.connect(f"file:{self.data}/pacifica.db?mode=ro", uri=True, timeout=30)) as connection:
            return connection.execute(sql, values).fetchall()

    def log_of(self, job_id: int) -> list[str]:
        """Return the states that a job has been in, by its event log, without entries that are no move."""
        sql = "SELECT source, target FROM statechange WHERE kind = 'job' AND \"row\" = ? ORDER BY id"
        return [target for source, target in self.query(sql, str(job_id)) if source != target]


def wanted(
    files: Iterable[dict[str, Any]], path: Callable[[dict[str, Any]], str] | None = None
) -> list[dict[str, Any]]:
    """Return the entries of a cart that holds ``files``, as the catalogue lists them, each at its own path."""
    return [
        {
            "id": file["_id"],
            "path": path(file) if path else f"{file['subdir']}/{file['name']}".lstrip("/"),
            "hashtype": file["hashtype"],
            "hashsum": file["hashsum"],
        }
        for file in files
    ]
