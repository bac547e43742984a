"""``make bench``: what the suite takes for its jobs, held against what this machine can do at most.

Prints the table and, with ``--write``, puts it into docs/benchmarks.md.  Everything is made anew in a temporary folder
and removed again: 1.5 GiB of bundles, and about 6 GiB of archive for each deployment while it is measured.
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

import bundle
import datasets
import house
import limit
import processing
import report
from bundle import MANY, MOST, ONE
from measure import Bench
from row import Row

DEPLOYMENTS = {"embedded": house.embedded, "scaled": house.outgrown}


def main() -> int:
    """Measure; the exit code is 1 when something that is owed was missed."""
    arguments = _parse()
    busy = os.getloadavg()[0]
    folder = Path(tempfile.mkdtemp(prefix="pacifica-bench-", dir=arguments.folder))
    folder.chmod(0o755)  # programs that flow runs without a sandbox are somebody else, who must come this way
    try:
        rows, growth = _measure(folder, arguments.deployment or list(DEPLOYMENTS), arguments.repeats)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    text = report.text(rows, growth, arguments.repeats, busy)
    if arguments.write:
        report.FILE.write_text(text)
    missed = [row for row in rows if not row.met]
    print(f"\n{len(rows)} rows, {len(missed)} missed what is owed.  Load average before the run: {busy:.1f}.")
    return 1 if missed and arguments.strict else 0


def _measure(folder: Path, deployments: list[str], repeats: int) -> tuple[list[Row], report.Growth]:
    rows: list[Row] = []
    growth: report.Growth = {}
    static = folder / "static"
    static.mkdir()
    print("Making the bundles ...", flush=True)
    bundles = {load: bundle.make(load, static / f"{load.count}.tar") for load in (ONE, MANY, MOST)}
    with ExitStack() as stack:
        served = stack.enter_context(limit.Nginx(static, folder / "nginx"))
        for name in deployments:
            with DEPLOYMENTS[name](folder) as running:
                bench = Bench(running, bundles, served, folder, repeats)
                rows += map(_told, chain(bench.rows(), _datasets(running, folder, repeats)))
                growth[name] = bench.growth
            shutil.rmtree(folder / name, ignore_errors=True)
    if "scaled" in deployments:  # with servers of its own, once for each executor
        rows += map(_told, processing.rows(folder))
    return rows, growth


def _told(row: Row) -> Row:
    print(" | ".join(cell.ljust(width) for cell, width in zip(row.cells(), report.WIDTHS, strict=True)), flush=True)
    return row


def _datasets(running: house.House, folder: Path, repeats: int) -> Iterator[Row]:
    own = folder / f"datasets-{running.name}"
    own.mkdir()
    suite = running.suite
    yield from datasets.rows(running.name, suite.urls["datasets"], suite.archive, own, repeats)
    shutil.rmtree(own)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--deployment", action="append", choices=DEPLOYMENTS, help="only this one (default: both)")
    parser.add_argument("--repeats", type=int, default=3, help="how often each is measured; medians are told")
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made (default: the system's)")
    parser.add_argument("--write", action="store_true", help=f"write {report.FILE.name}")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when something was missed")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
