"""A suite that dies where it is told to and is started again; and what has to hold afterwards."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import requests

from pacifica.tests.system import failpoint, nodes
from pacifica.tests.system.bundles import bundle
from pacifica.tests.system.faulty import external
from pacifica.tests.system.scaled import Scaled
from pacifica.tests.system.suite import Suite, until

CONTENTS = {"a": b"alpha", "run/b": bytes(range(256)) * 64, "run/empty": b"", "z": b"omega" * 300}
OPEN = ("RECEIVING", "RECEIVED", "VERIFIED", "ARCHIVING")
QUICK = {
    "PACIFICA_WORKER_LEASE_SECONDS": "0.5",
    "PACIFICA_WORKER_SWEEP_SECONDS": "0.05",
    "PACIFICA_INGEST_IDLE_SECONDS": "1",
    "PACIFICA_SERVER_BODY_TIMEOUT": "30",
}
HURRY = (
    "from pacifica.common.sweeper import Leadership; Leadership.__init__.__defaults__ = (0.5,); "
    "from pacifica.ingest import upload; upload.RING_SECONDS = 0.5; "
)
# With many processes: a lease that a busy machine cannot renew in time would be one more death.
PATIENT = {"PACIFICA_WORKER_LEASE_SECONDS": "1.5", "PACIFICA_WORKER_MAX_ATTEMPTS": "20"}
# Where few or none die: a lease that is not renewed at once, or a body that waits for a busy disk, is no death.
STEADY = {"PACIFICA_WORKER_LEASE_SECONDS": "2", "PACIFICA_INGEST_IDLE_SECONDS": "5"}


class Inspected(Suite):
    """A suite of which nothing may be left over, whatever was done to it."""

    armed: Path  # what its failpoints look into, where it has any

    def arm(self, step: str) -> None:
        """Let the process die that comes to ``step`` next."""
        failpoint.arm(self.armed, step)

    def struck(self, step: str, seconds: float = 30) -> None:
        """Wait until a process has died of ``step``, and is gone: until then it may still answer."""

        def is_gone() -> bool:
            pid = failpoint.victim(self.armed)
            return pid > 0 and nodes.is_gone(pid)

        until(is_gone, seconds, f"death at {step}")

    def newest_job(self) -> int:
        """Return the id of the job that was begun last, 0 when there is none."""
        return int(self.query("SELECT coalesce(max(id), 0) FROM job")[0][0])

    def settled(self, after: int = 0, contents: dict[str, bytes] | None = None) -> None:
        """Wait until every job has ended, and see that each did exactly once in effect, and that nothing else is left.

        Jobs with an id beyond ``after`` are looked at closely; they are taken to hold ``contents``.
        """
        contents = CONTENTS if contents is None else contents
        marks = ", ".join("?" * len(OPEN))
        until(lambda: not self.query(f"SELECT 1 FROM job WHERE state IN ({marks})", *OPEN), 60, "the end of every job")
        for job, state in self.query("SELECT id, state FROM job WHERE id > ?", after):
            log = self.log_of(job)
            assert log.count(state) == 1, log
            assert log[-1] == state, log
            assert ("RECEIVED" in log) == (state == "ARCHIVED"), log
            if state == "ARCHIVED":
                assert log == ["RECEIVING", "RECEIVED", "VERIFIED", "ARCHIVING", "ARCHIVED"]
            self._explains(job)
            self.is_archived(job, contents) if state == "ARCHIVED" else self.is_absent(job)
        until(lambda: not self.spooled(), 60, f"an empty spool instead of {self.spooled()}")
        assert self.packs() == sorted(name for (name,) in self.query("SELECT name FROM pack WHERE kind <> 'remote'"))
        assert not self.query("SELECT 1 FROM pack WHERE NOT published")
        ids = [id for (id,) in self.query("SELECT id FROM archivedfile")]
        assert len(set(ids)) == len(ids)
        until(lambda: not self.query("SELECT 1 FROM outbox"), 30, "an empty outbox")

    def is_archived(self, job: int, contents: dict[str, bytes]) -> None:
        """See that a job is archived once, and that it is ``contents``."""
        files = self.files(job)
        assert {
            f"{file['subdir']}/{file['name']}".lstrip("/"): self.bytes_of(file["_id"]) for file in files
        } == contents
        assert self.query('SELECT count(*) FROM archivedfile WHERE "transaction" = ?', job) == [(len(contents),)]
        assert self.query('SELECT count(*) FROM "transaction" WHERE id = ?', job) == [(1,)]
        assert self.query("SELECT count(*) FROM pack WHERE job = ?", job) == [(1,)]

    def bytes_of(self, id: int) -> bytes:
        """Return a file from where its bytes are."""
        return self.content(id)

    def is_absent(self, job: int) -> None:
        """See that nothing of a job is to be found."""
        assert self.files(job) == []
        for table, column in (("archivedfile", '"transaction"'), ('"transaction"', "id"), ("pack", "job")):
            rows: list[Any] = self.query(f"SELECT 1 FROM {table} WHERE {column} = ?", job)
            assert not rows, table

    def _explains(self, job: int) -> None:
        """See that the event log of ``job`` names each attempt that moved it, in order, up to the one that ended it."""
        sql = "SELECT attempt, who FROM statechange WHERE kind = 'job' AND \"row\" = ? ORDER BY id"
        entries = self.query(sql, str(job))
        attempts = [attempt for attempt, _ in entries]
        assert attempts == sorted(attempts)
        assert self.query("SELECT attempt FROM job WHERE id = ?", job) == [(attempts[-1],)]
        for attempt in set(attempts) - {0}:
            assert len({who for each, who in entries if each == attempt}) == 1, entries


class Mortal(Inspected):
    """A suite with failpoints around ``calls``; ``armed`` is what they look into (see ``failpoint``)."""

    def __init__(
        self, data: Path, calls: list[str], environment: dict[str, str] | None = None, *, hurried: bool = True
    ) -> None:
        """``hurried``: with short leases and sweeps; else with the settings that an administrator finds."""
        super().__init__(data, QUICK | (environment or {}))
        if not hurried:
            self.environment = dict(environment or {})
        self.armed = data.parent / "armed"
        self.code = (
            f"{_failpoints(self.armed, calls)}; {HURRY if hurried else ''}"
            "import sys; from pacifica.common.cli import main; sys.exit(main())"
        )

    def start(self, code: str = "", armed: str = "") -> "Mortal":
        """Start it, armed with nothing or with the step ``armed``."""
        self.armed.unlink(missing_ok=True)
        if armed:
            self.arm(armed)
        super().start(code or self.code)
        return self

    @property
    def is_dead(self) -> bool:
        """Whether the process has ended."""
        return self.process is None or self.process.poll() is not None

    def dies(self, step: str, patient: bool = True) -> int | None:
        """Arm ``step``, upload, and wait for death; return the job's id, if the client was answered one.

        Not ``patient``: return also when the job ends without it.
        """
        self.arm(step)
        answered = None
        with suppress(
            requests.ConnectionError, requests.exceptions.ChunkedEncodingError
        ):  # dead before it could answer
            answered = int(self.upload(bundle(CONTENTS))["job_id"])
        if answered is not None and not patient:
            job = answered
            gone = "SELECT 1 FROM job WHERE id = ? AND state = 'ARCHIVED' AND spool IS NULL"
            until(lambda: self.is_dead or self.query(gone, job), 60, f"death at {step}, or the job's end")
            if not self.is_dead:
                return answered
        self.died(step)
        return answered

    def died(self, step: str) -> None:
        """Wait until it died at ``step``."""
        until(lambda: self.is_dead, 30, f"death at {step}")
        assert self.stop() == 137


class MortalScaled(Scaled, Inspected):
    """The scaled deployment with the same failpoints in ingest's web processes and in its worker's children."""

    def __init__(self, data: Path, database: str, broker: str, calls: list[str], *, hurried: bool = True) -> None:
        """``hurried``: with short leases and sweeps; else with the settings that an administrator finds."""
        super().__init__(data, database, broker, QUICK | PATIENT)
        if not hurried:
            for name in {*QUICK, *PATIENT, "PACIFICA_WORKER_RETRY_SECONDS"}:
                del self.environment[name]
        self.armed = data.parent / "armed"
        site = data.parent / "site"
        site.mkdir()
        (site / "sitecustomize.py").write_text(f"{_failpoints(self.armed, calls)}\n{HURRY if hurried else ''}\n")
        self.environment["PYTHONPATH"] = str(site)

    def dies(self, step: str, main: bool = False) -> int | None:
        """Arm ``step``, upload, wait for the death of who does it, and bring back what does not come by itself.

        Returns the job's id, if the client was answered one.  ``main``: the worker's main process dies as well.
        """
        parent = self.armed.with_name("armed.parent")
        parent.touch() if main else parent.unlink(missing_ok=True)
        self.arm(step)
        answered = None
        with suppress(requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
            answered = int(self.upload(bundle(CONTENTS))["job_id"])
        self.struck(step)
        if main:
            until(lambda: self.workers["ingest"].poll() is not None, 30, "the death of the main process")
        self.restart()
        return answered


class MortalExternal(MortalScaled):
    """The same with external neighbours, which the datasafe of ``other`` plays."""

    def __init__(self, data: Path, database: str, broker: str, calls: list[str], other: Suite) -> None:
        super().__init__(data, database, broker, calls)
        self.other = other
        self.environment |= external(other.urls["datasafe"], self.archive)

    def settled(self, after: int = 0, contents: dict[str, bytes] | None = None) -> None:
        """See as well that the neighbours have every file and transaction once, and nothing else."""
        super().settled(after, contents)
        until(
            lambda: not self.query("SELECT 1 FROM shipped WHERE state <> 'WATCHED'"),
            30,
            "the end of what was sent in vain",
        )
        done = {job for (job,) in self.query("SELECT id FROM job WHERE state = 'ARCHIVED'")}
        assert {id for (id,) in self.other.query('SELECT id FROM "transaction"')} == done
        assert not self.other.query('SELECT 1 FROM archivedfile WHERE "transaction" IS NULL'), "an orphan"
        for job in {job for job in done if job > after}:
            there, here = self.other.files(job), self.files(job)
            assert [file["_id"] for file in there] == [file["_id"] for file in here]

    def bytes_of(self, id: int) -> bytes:
        """Return a file from the external archive."""
        return self.other.content(id)


def _failpoints(armed: Path, calls: list[str]) -> str:
    return (
        f"import sys; sys.path.append({str(Path(__file__).parent)!r}); import failpoint; from pathlib import Path; "
        f"failpoint.install(Path({str(armed)!r}), {calls!r})"
    )
