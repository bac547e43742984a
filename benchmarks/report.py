"""The table in words: docs/benchmarks.md."""

import datetime
import os
import platform
import re
import sqlite3
import subprocess
from importlib.metadata import version
from pathlib import Path

from row import COLUMNS, Row

FILE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
WIDTHS = (72, 8, 16, 32, 7, 10, 10)
Growth = dict[str, dict[str, dict[str, float]]]  # MiB by deployment, work and kind of process

_INTRODUCTION = """\
# Benchmarks

Written by `make bench ARGS=--write`.  A figure is the median of {repeats}, and so is the limit that it is held against:
what this machine takes, in the same run, for hashing the bundle (`sha1sum`), writing it (`write + fsync`) or serving
the same bytes (nginx, `sendfile`).  For the PUT of a dataset it is `unzip`, `md5sum` of all files and `sync -f`, since
PUT answers when everything is durable.  Ratios travel, absolute times do not.  Clients, servers and databases
share the cores.

*to archived*: from the first byte of the POST to durable, verified, in the ledger and in the catalogue.  *embedded* is
`pacifica up`; *scaled* is uWSGI with two processes a service by config/uwsgi-*.ini, Celery workers, PostgreSQL (with
fsync) and RabbitMQ.  A bundle is posted, and a cart downloaded, by curl.  {original}

"""
_BESIDE = """*labinform-datasafe* is the original,
measured in the same run on the same datasets, in an environment of its own."""
_ABSENT = """The original of the datasets,
labinform-datasafe, could not be installed where this ran, so its figures are missing."""


def text(rows: list[Row], growth: Growth, repeats: int, busy: float) -> str:
    """Return the whole document; ``busy`` is the load average before the run."""
    measured = any(row.deployment == "labinform-datasafe" for row in rows)
    lines = [
        _INTRODUCTION.format(repeats=repeats, original=_BESIDE if measured else _ABSENT),
        f"{_conditions()}  Load average before the run: {busy:.1f}.\n",
        "## What is owed and what is given\n",
    ]
    lines += _table(COLUMNS, [row.cells() for row in rows])
    for deployment, works in growth.items():
        kinds = list(next(iter(works.values())))
        lines += [f"\n## Memory, {deployment}\n", "MiB above the idle process, at the peak, by work.\n"]
        lines += _table(("", *kinds), [(work, *(f"{of[kind]:.0f}" for kind in kinds)) for work, of in works.items()])
    return "\n".join(lines) + "\n"


def _table(head: tuple[str, ...], body: list[tuple[str, ...]]) -> list[str]:
    rows = [head, tuple("---" for _ in head), *body]
    return ["| " + " | ".join(cells) + " |" for cells in rows]


def _conditions() -> str:
    day = datetime.datetime.now(datetime.UTC).date()
    found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    cpu = found[1] if found else platform.machine()
    packages = ", ".join(
        f"{name} {version(name)}" for name in ("cherrypy", "cheroot", "celery", "peewee", "psycopg", "uwsgi")
    )
    programs = ", ".join(
        (
            f"Linux {platform.release()}",
            f"Python {platform.python_version()}",
            f"SQLite {sqlite3.sqlite_version}",
            f"nginx {_said('nginx', '-v')}",
            f"PostgreSQL {_said('psql', '--version')}",
            f"RabbitMQ {_rabbitmq()}",
        )
    )
    return f"{day}, {os.cpu_count()} cores ({cpu}); {programs}; {packages}; pacifica {version('pacifica-suite')}."


def _said(*command: str) -> str:
    output = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"\d+(\.\d+)+", output.stdout + output.stderr)
    return found[0] if found else "?"


def _rabbitmq() -> str:
    found = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*"))
    return found[-1].name.rpartition("-")[2] if found else "?"
