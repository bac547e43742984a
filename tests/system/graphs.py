"""A graph of 50 data objects with known ends, and the deployment that runs it whatever happens to its parts."""

import json
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import psycopg
import requests

from pacifica.tests.system.flows import PROCESSES, Flow
from pacifica.tests.system.nodes import PostgresNode, RabbitNode, children, descendants
from pacifica.tests.system.scaled import Scaled
from pacifica.tests.system.suite import until

GENERATIONS, WIDTH = 7, 7  # after the first object: a chain, and from each of its links a fan
OBJECTS = 1 + GENERATIONS * WIDTH
PLUS = """
- slug: plus
  name: Plus
  version: 1.0.0
  type: data:number:plus
  requirements:
    expression-engine: jinja
  input:
    - name: source
      label: Source
      type: data:number
  output:
    - name: value
      label: Value
      type: basic:integer
    - name: text
      label: As text
      type: basic:file
      required: false
  run:
    language: bash
    program: |
      re-save value {{ source.value + 1 }}
"""


class House:
    """What serves flow, and what can happen to it."""

    def __init__(self, folder: Path) -> None:
        self.postgres, self.rabbit = PostgresNode(), RabbitNode()
        self.postgres.start()
        self.rabbit.start()
        database, vhost = self.postgres.create_database(), self.rabbit.create_vhost()
        self.suite = Scaled(folder / "data", database, vhost, services=("flow",))

    def start(self, folder: Path) -> "House":
        """Start it with the processes of the tests; ``folder`` is for those that are made here."""
        self.suite.start()
        self.suite.register(PROCESSES)
        (folder / "plus.yml").write_text(PLUS)
        self.suite.register(folder)
        return self

    def remove(self) -> None:
        """End all of it."""
        if self.suite.urls:
            self.suite.kill()
        self.postgres.remove()
        self.rabbit.remove()

    def worker(self) -> list[int]:
        """Return the processes of the worker, its children first."""
        return descendants(self.suite.workers["flow"].pid)

    def pool(self) -> list[int]:
        """Return the worker's children, without what they run; those that were killed are replaced first."""
        return until(lambda: children(self.suite.workers["flow"].pid), 60, "a child of the worker")

    def signal(self, pid: int, number: int) -> None:
        """Send a signal."""
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return  # it has ended by itself: workers replace their children now and then

    def kill(self, *pids: int) -> None:
        """End processes as the kernel does that is out of memory."""
        for pid in pids:
            self.signal(pid, signal.SIGKILL)


class Graph:
    """Objects with an end that is known before: what each is made from, and what becomes of it.

    The first is 1.  A link of the chain, and what is fanned out from one, is one more than it; some save a file, some
    are workflows of two steps, one fails, and with it what is made from it.
    """

    def __init__(self, suite: Scaled, name: str) -> None:
        self.suite, self.name = suite, name
        self.ids: list[int] = []
        self.wanted: dict[int, int | None] = {}  # id -> value, None where it fails

    def create(self) -> "Graph":
        """Create all, a generation at a time, each once, whatever has to be asked again."""
        self._add([("number", 0)])
        for generation in range(GENERATIONS):
            link = 0 if not generation else 1 + (generation - 1) * WIDTH
            self._add([(slug, link) for slug in self._fan(generation)])
        return self

    def left(self) -> list[tuple[Any, ...]]:
        """Return what has not ended: id, state, attempt, the seconds that its lease still lasts."""
        now = "extract(epoch FROM clock_timestamp())"
        sql = f"SELECT id, state, attempt, lease_until - {now} FROM data WHERE id >= ? AND state NOT IN ('OK', 'ER')"
        return self.suite.query(sql, self.ids[0])

    def ended(self, seconds: float = 240.0) -> None:
        """Wait until all have; asks over one connection, since a new one each time would cost as much as a run."""
        sql = "SELECT 1 FROM data WHERE id >= %s AND state NOT IN ('OK', 'ER') LIMIT 1"
        with psycopg.connect(self.suite.database, autocommit=True) as connection:
            try:
                until(lambda: not connection.execute(sql, self.ids[:1]).fetchall(), seconds, "the end of every object")
            except AssertionError as error:
                raise AssertionError(f"{error}: left are {self.left()}") from None

    def check(self) -> None:
        """See that each ended once in effect, right or, where it fails, with its reason."""
        found = self.suite.query(
            "SELECT d.id, p.slug, d.state, d.output, d.process_error, d.attempt FROM data d"
            " JOIN process p ON p.id = d.process WHERE d.id >= ? ORDER BY d.id", self.ids[0],
        )  # fmt: skip
        rows = {row[0]: row for row in found}
        steps = {id: json.loads(rows[id][3])["steps"] for id in self.ids if rows[id][1] == "twice"}
        assert sorted([*self.ids, *(step for some in steps.values() for step in some)]) == sorted(rows)
        wanted = self.wanted | {
            step: (self.wanted[id] or 0) + place for id, some in steps.items() for place, step in enumerate(some)
        }
        ends = Counter(int(row) for (row,) in self.suite.query(
            "SELECT \"row\" FROM statechange WHERE kind = 'data' AND target IN ('OK', 'ER') AND target <> source"
            " AND CAST(\"row\" AS bigint) >= ?", self.ids[0]))  # fmt: skip
        assert ends == dict.fromkeys(rows, 1)
        for id, slug, state, output, errors, attempt in found:
            value = wanted[id]
            assert (state, errors == "[]") == (("ER", False) if value is None else ("OK", True)), rows[id]
            if value is not None and slug != "twice":
                assert json.loads(output)["value"] == value, rows[id]
            self._files(id, value if slug in ("number", "increment") else None, attempt)

    def _fan(self, generation: int) -> list[str]:
        first = "increment" if generation < 2 else "plus"
        rest = ["plus"] * (WIDTH - 1)
        if generation < 3:
            rest[0] = "twice"  # whose source has to have a file
        if generation == 4:
            rest[1] = "fail"
        return [first, *rest]

    def _add(self, wanted: list[tuple[str, int]]) -> None:
        documents = []
        for slug, place in wanted:
            input = {"source": self.ids[place]} if self.ids else {"value": 1}
            documents.append({"process": {"slug": slug}, "input": input})
        key = f"{self.name}-{len(self.ids)}"
        made = create(self.suite, key, documents)
        for id, (slug, place) in zip(made, wanted, strict=True):
            before = self.wanted[self.ids[place]] if self.ids else 0
            self.wanted[id] = None if slug == "fail" or before is None else before + 1
        self.ids += made

    def _files(self, id: int, value: int | None, attempt: int) -> None:
        """See that the one file of ``id`` is archived once, or that there is none."""
        named = self.suite.query("SELECT name, attempt, file_id FROM datafile WHERE data = ?", id)
        held = self.suite.query(
            "SELECT f.id FROM archivedfile f JOIN pack p ON p.id = f.pack WHERE f.subdir = ? AND p.published",
            f"flow/{id}",
        )
        if value is None:
            assert (named, held) == ([], [])
            return
        assert [row[:2] for row in named] == [("number.txt", attempt)]
        assert held == [(named[0][2],)]


def create(suite: Scaled, key: str, documents: list[Any]) -> list[int]:
    """Create objects, again and again until an answer comes, once."""

    def ask() -> list[int] | None:
        try:
            url, headers = f"{Flow(suite).url}/data/bulk", {"Idempotency-Key": key}
            answer = requests.post(url, json=documents, headers=headers, timeout=60)
        except requests.RequestException:
            return None
        assert answer.status_code in (200, 201, 503), answer.text
        return list(answer.json()["ids"]) if answer.status_code < 300 else None

    return until(ask, 90, "a creation") or []
