"""The suite as it is measured: embedded and scaled, with what the processes of each cost in memory."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pacifica.tests.system import nodes, scaled, suite

CALM = {"PACIFICA_WORKER_LEASE_SECONDS": "30", "PACIFICA_WORKER_SWEEP_SECONDS": "1"}  # as they are by default
MIB = 1 << 20


@dataclass
class House:
    """A running deployment; ``name`` is ``embedded`` or ``scaled``."""

    name: str
    suite: Any
    idle: dict[int, int] = field(default_factory=dict)  # bytes of each process once it has worked a little

    @property
    def packs(self) -> list[Path]:
        """The files of archived bytes, the oldest first."""
        found = [path for path in (self.suite.data / "archive" / "packs").glob("*/*/*") if not path.suffix]
        return sorted(found, key=lambda path: path.stat().st_mtime_ns)

    def processes(self) -> dict[str, list[int]]:
        """Return the process ids by what they are: ``up``, or ``web ingest``, ``worker ingest``, ..."""
        if self.name == "embedded":
            return {"up": [self.suite.process.pid]}
        groups = {f"web {name}": process.pid for name, process in self.suite.web.items()}
        groups |= {f"worker {name}": process.pid for name, process in self.suite.workers.items()}
        return {name: nodes.descendants(pid) for name, pid in groups.items()}

    def settle(self) -> None:
        """Take what the processes hold now as what they hold when idle."""
        self.idle = {pid: _status(pid, "VmRSS") for pids in self.processes().values() for pid in pids}

    def forget_peaks(self) -> None:
        """Let the peaks be measured from now on."""
        for pids in self.processes().values():
            for pid in pids:
                Path(f"/proc/{pid}/clear_refs").write_text("5")

    def growth(self) -> dict[str, float]:
        """Return for each kind of process how many MiB the one that grew most was above its idle size, at its peak."""
        return {
            name: max((_status(pid, "VmHWM") - self.idle.get(pid, 0)) / MIB for pid in pids if pid in self.idle)
            for name, pids in self.processes().items()
        }


@contextmanager
def embedded(folder: Path) -> Iterator[House]:
    """Run ``pacifica up``."""
    running = suite.Suite(folder / "embedded", CALM)
    try:
        yield House("embedded", running.start())
    finally:
        running.stop()


@contextmanager
def outgrown(folder: Path) -> Iterator[House]:
    """Run uWSGI, Celery workers, PostgreSQL (which syncs, unlike in the tests) and RabbitMQ."""
    with ExitStack() as stack:
        database, broker = nodes.PostgresNode(durable=True), nodes.RabbitNode()
        for node in (database, broker):
            stack.callback(node.remove)
            node.start()
        running = scaled.Scaled(folder / "scaled", database.create_database(), broker.url, CALM)
        stack.callback(running.stop)
        yield House("scaled", running.start())


def _status(pid: int, key: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(key)
