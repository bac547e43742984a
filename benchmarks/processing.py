"""Flow: chains, crowds, bulk creation, lists and re-* calls, on RabbitMQ and PostgreSQL with two worker processes.

``python benchmarks/processing.py`` runs it alone; ``rows`` is for run.py.  Raw Celery runs on the same broker in the
same run; the figures of the original are those of its own measurement (Resolwe 45.2, two cores), for comparison.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import celery
import psycopg
import requests
from house import CALM
from row import COLUMNS, Row, middle

from pacifica.tests.system import nodes, scaled
from pacifica.tests.system.suite import until

HERE = Path(__file__).parent
STEPS, CROWD, BULK, HELD, CALLS = 100, 1000, 10_000, 1_000_000, 2000
LOOK_SECONDS = 0.02
STEP_MS = {"bubblewrap": 25.0, "local": 15.0}
ORIGINAL = "Resolwe 45.2, as it was measured"
PROCESSES = """
- slug: first
  name: First
  version: 1.0.0
  type: data:step
  run:
    language: bash
    program: re-progress 1
- slug: next
  name: Next
  version: 1.0.0
  type: data:step
  input:
    - {name: source, label: Source, type: "data:step"}
  run:
    language: bash
    program: re-progress 1
- slug: calls
  name: Calls
  version: 1.0.0
  type: data:calls
  output:
    - {name: info, label: Info, type: basic:decimal}
    - {name: save, label: Save, type: basic:decimal}
    - {name: wait, label: Wait, type: basic:decimal}
    - {name: value, label: Value, type: basic:string}
    - {name: values, label: Values, type: list:basic:string}
  run:
    language: bash
    program: |
      set +x
      begun=${EPOCHREALTIME/./}
      for ((i = 0; i < COUNT; i++)); do re-info one; done
      info=$((${EPOCHREALTIME/./} - begun))
      begun=${EPOCHREALTIME/./}
      for ((i = 0; i < COUNT; i++)); do re-save value some; done
      save=$((${EPOCHREALTIME/./} - begun))
      begun=${EPOCHREALTIME/./}
      for ((i = 0; i < COUNT; i++)); do re-save-list values some; done
      wait=$((${EPOCHREALTIME/./} - begun))
      re-save info $info.0
      re-save save $save.0
      re-save wait $wait.0
""".replace("COUNT", str(CALLS))
LISTS = (
    "status=OK&limit=25",
    "type=data:step&ordering=-created&limit=25",
    "process__slug=next&created__gte=2026-01-01&limit=25",
    "status=ER&type=data:step&limit=25",
    "name__startswith=object 99&ordering=-created&limit=25",
    "tags=none&limit=25",
    "name__icontains=T 4711&limit=25",
    "name__contains=q&limit=25",
    "ordering=process__name&limit=25",
    "ordering=-finished&limit=25",
    "finished__lt=2026-01-01&limit=25",
    "text=object 4711&limit=25",
    "text=object&limit=25",
)


class Bench:
    """The measurements of one executor."""

    def __init__(self, running: scaled.Scaled, executor: str, waiting: psycopg.Connection[Any]) -> None:
        """Measure ``running``; ``waiting`` is a connection on which ends are waited for."""
        self.suite, self.executor, self._waiting = running, executor, waiting
        self.url = f"{running.urls['flow']}/api/data"

    def rows(self, limits: dict[str, float]) -> Iterator[Row]:
        """Measure."""
        self._ended(self._create([{"process": {"slug": "first"}}] * 20))
        step = self._chain()
        name = f"flow, chain of {STEPS}, a step ({self.executor})"
        yield Row(job=name, deployment="scaled", figure=step, unit="ms", target=STEP_MS[self.executor])
        yield Row(job=name, deployment="scaled", figure=step, unit="ms", limit=limits["step"], limit_name="raw Celery")
        rate = self._crowd()
        name = f"flow, {CROWD} independent objects ({self.executor})"
        least = 150.0 if self.executor == "local" else None
        yield Row(job=name, deployment="scaled", figure=rate, unit="objects/s", target=least, sense="least")
        yield Row(job=name, deployment="scaled", figure=rate, unit="objects/s", limit=limits["rate"],
                  limit_name="raw Celery", sense="least")  # fmt: skip
        yield from self._calls()
        if self.executor == "local":
            yield self._bulk()
            yield from self._lists()

    def _create(self, documents: list[dict[str, Any]]) -> list[int]:
        answer = requests.post(f"{self.url}/bulk", json=documents, timeout=120)
        answer.raise_for_status()
        return list(answer.json()["ids"])

    def _ended(self, ids: list[int], seconds: float = 300.0) -> None:
        """Wait for the end of all.  On one connection: to open one for each look took a fifth of what flow took."""
        left = f"SELECT 1 FROM data WHERE id BETWEEN {ids[0]} AND {ids[-1]} AND state NOT IN ('OK', 'ER') LIMIT 1"
        end = time.monotonic() + seconds
        while self._waiting.execute(left).fetchone():
            if time.monotonic() > end:
                raise TimeoutError(f"{len(ids)} objects did not end within {seconds} s")
            time.sleep(LOOK_SECONDS)
        failed = f"SELECT process_error FROM data WHERE id BETWEEN {ids[0]} AND {ids[-1]} AND state <> 'OK' LIMIT 1"
        if errors := self.suite.query(failed):
            raise RuntimeError(errors[0][0])

    def _chain(self) -> float:
        """Return the median of the milliseconds between the ends of two steps; the chain is there before it starts."""
        ids = self._create([{"process": {"slug": "first"}}])
        for _ in range(STEPS):
            ids += self._create([{"process": {"slug": "next"}, "input": {"source": ids[-1]}}])
        self._ended(ids)
        again = f"UPDATE data SET state = 'RE', finished = NULL WHERE id BETWEEN {ids[0]} AND {ids[-1]} RETURNING 1"
        self.suite.query(again)
        self.suite.query(f"UPDATE data SET state = 'WT', ring_at = 0 WHERE id = {ids[0]} RETURNING 1")
        self._ended(ids)
        found = self.suite.query(f"SELECT finished FROM data WHERE id BETWEEN {ids[0]} AND {ids[-1]} ORDER BY id")
        ends = [row[0] for row in found]
        return middle([1000 * (later - earlier) for earlier, later in pairwise(ends)])

    def _crowd(self) -> float:
        """Return objects a second, from the request that creates all to the end of the last."""
        started = time.perf_counter()
        self._ended(self._create([{"process": {"slug": "first"}}] * CROWD))
        return CROWD / (time.perf_counter() - started)

    def _calls(self) -> Iterator[Row]:
        (id,) = self._create([{"process": {"slug": "calls"}}])
        self._ended([id])
        output = requests.get(f"{self.url}/{id}", timeout=30).json()["output"]
        calls = {"info": "a message", "save": "a value is saved", "wait": "a list is saved, which is waited for"}
        for word, what in calls.items():
            yield Row(job=f"a re-* call ({what}, {self.executor})", deployment="scaled", unit="ms",
                      figure=output[word] / CALLS / 1000, target=0.2)  # fmt: skip

    def _bulk(self) -> Row:
        document = {"process": {"slug": "next"}, "input": {"source": self._create([{"process": {"slug": "first"}}])[0]}}
        started = time.perf_counter()
        ids = self._create([document] * BULK)
        seconds = time.perf_counter() - started
        self.suite.query(f"UPDATE data SET state = 'ER' WHERE id BETWEEN {ids[0]} AND {ids[-1]} RETURNING 1")
        return Row(
            job=f"flow, {BULK} objects created in bulk", deployment="scaled", figure=seconds, unit="s", target=10
        )

    def _lists(self) -> Iterator[Row]:
        columns = [row[0] for row in self.suite.query(
            "SELECT column_name FROM information_schema.columns WHERE table_name = 'data' AND column_name <> 'id'")
        ]  # fmt: skip
        own = {"slug": "'held-' || g", "name": "'object ' || g", "created": "created - g", "finished": "finished - g"}
        chosen = ", ".join(own.get(name, f'"{name}"') for name in columns)
        names = ", ".join(f'"{name}"' for name in columns)
        fill = f"INSERT INTO data ({names}) SELECT {chosen} FROM generate_series(1, {HELD}) g, "
        one = "(SELECT * FROM data WHERE state = 'OK' LIMIT 1) d"
        self.suite.query(f"WITH made AS ({fill}{one} RETURNING 1) SELECT count(*) FROM made")
        with psycopg.connect(self.suite.database, autocommit=True) as connection:
            connection.execute("ANALYZE")  # of what is kept for searches as well, as autovacuum does it in time
        for wanted in LISTS:
            seconds = []
            for _ in range(7):
                started = time.perf_counter()
                requests.get(f"{self.url}?{wanted}", timeout=60).raise_for_status()
                seconds.append(time.perf_counter() - started)
            yield Row(job=f"flow, list at {HELD:,} objects: {wanted}", deployment="scaled",
                      figure=1000 * middle(seconds), unit="ms", target=50.0)  # fmt: skip


def rows(folder: Path) -> Iterator[Row]:
    """Measure both executors and raw Celery, each beside the figures of the original."""
    with ExitStack() as stack:
        database, broker = nodes.PostgresNode(durable=True), nodes.RabbitNode()
        for node in (database, broker):
            stack.callback(node.remove)
            node.start()
        limits = _raw(broker.create_vhost(), folder)
        for executor in STEP_MS:
            with (
                _running(folder / f"flow-{executor}", database, broker, executor) as suite,
                psycopg.connect(suite.database, autocommit=True) as waiting,
            ):
                yield from Bench(suite, executor, waiting).rows(limits)
    for job, figure, unit in (
        ("chain of 10, a step, without containers", 1680, "ms"),
        ("30 independent objects, without containers", 0.9, "objects/s"),
        ("10,000 objects created, one by one", 350, "s"),
        ("a re-* call", 25, "ms"),
    ):
        yield Row(job=f"flow, {job}", deployment=ORIGINAL, figure=figure, unit=unit)


@contextmanager
def _running(folder: Path, database: Any, broker: Any, executor: str) -> Iterator[scaled.Scaled]:
    settings = {**CALM, "PACIFICA_FLOW_EXECUTOR": executor, "PACIFICA_CELERY_CONCURRENCY": "2"}
    suite = scaled.Scaled(folder, database.create_database(), broker.create_vhost(), settings, services=("flow",))
    for path in (folder, folder / "archive", folder / "archive" / "work", folder / "archive" / "work" / "flow"):
        path.mkdir(parents=True)
        path.chmod(0o755)  # programs that run without a sandbox are somebody else, who must come this way
    try:
        suite.start()
        (folder / "processes").mkdir()
        (folder / "processes" / "steps.yml").write_text(PROCESSES)
        suite.register(folder / "processes")
        yield suite
    finally:
        suite.kill()


def _raw(url: str, folder: Path) -> dict[str, float]:
    """Return what Celery alone takes: ms a step of a chain, and tasks a second."""
    done = folder / "raw"
    done.touch()
    environment = os.environ | {"RAW_BROKER": url, "RAW_FILE": str(done), "PYTHONPATH": str(HERE)}
    words = ["celery", "-A", "raw", "worker", "-c", "2", "-Q", "raw", "--loglevel", "error"]
    worker = subprocess.Popen([Path(sys.executable).with_name(words[0]), *words[1:]], cwd=folder, env=environment)

    def ended(count: int) -> float:
        started = time.perf_counter()
        until(lambda: done.stat().st_size >= count, 300, "the end of raw Celery's tasks")
        return time.perf_counter() - started

    try:
        app = celery.Celery("raw", broker=url, set_as_current=False)
        app.conf.task_default_queue = "raw"
        app.send_task("raw.step", args=[10])
        ended(10)
        before = done.stat().st_size
        app.send_task("raw.step", args=[STEPS])
        chain = ended(before + STEPS)
        before = done.stat().st_size
        started = time.perf_counter()
        for _ in range(CROWD):
            app.send_task("raw.step", args=[1])
        ended(before + CROWD)
        return {"step": 1000 * chain / STEPS, "rate": CROWD / (time.perf_counter() - started)}
    finally:
        worker.terminate()
        worker.wait(60)


def main() -> None:
    """Measure and print."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    with tempfile.TemporaryDirectory(prefix="pacifica-bench-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        print(" | ".join(COLUMNS))
        for row in rows(Path(name)):
            print(" | ".join(row.cells()), flush=True)
    print(f"Load average now: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
