"""Datasets in and out: ours beside labinform-datasafe, and both against unzip, md5sum, zip and sha256sum, in one run.

Limit and figure take turns, each on a file system that was synced, and nothing is removed before the last turn: what
ext4 has to do for a new file grows tenfold with what was removed minutes ago.  Both write as durably: the limit ends
with ``sync -f``, PUT with its answer.

``python benchmarks/datasets.py`` runs it alone; ``rows`` is for run.py.  The original runs in the judges' environment
(``.cache/judges``), which is made where it is not there; where that fails, the table lacks its rows, and says so.
"""

import argparse
import hashlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import house
import limit
import requests
from row import COLUMNS, Row, middle

from pacifica.datasafe import loi, manifest, staging
from pacifica.datasafe.dataset import DatasetStore
from pacifica.tests.system import apart
from pacifica.tests.system.nodes import free_port
from pacifica.tests.system.suite import until

SERIES = "42.1001/ds/exp/sa/42/cwepr"
FLASK = """
import sys
from datasafe.server import create_http_server
create_http_server().run(port=int(sys.argv[1]), threaded=True)
"""


@dataclass(frozen=True)
class Load:
    """``count`` files of ``size`` bytes that do not compress, and what GET may cost against ``zip -0``."""

    name: str
    count: int
    size: int
    get_target: float


LOADS = (Load("256 MiB", 1, 256 << 20, 1.2), Load("5,000 x 4 KiB", 5000, 4096, 1.5))


def rows(deployment: str, api: str, archive: Path, folder: Path, repeats: int) -> Iterator[Row]:
    """Measure the datasets of a running suite: ``api`` is its /api, ``archive`` its volume, ``folder`` is ours."""
    with ExitStack() as stack:
        judge = _judge()
        original = stack.enter_context(_original(judge, folder / "labinform")) if judge else None
        for load in LOADS:
            upload, files = _make(load, folder)
            limits, ours, theirs = Times(), Times(), Times()
            for turn in range(repeats):
                limits.put.append(_unpack(upload, folder / "unpacked" / str(turn)))
                given = _transfer(api, upload, folder, ours)
                limits.get.append(_zip(files, folder))
                if original is not None:
                    _transfer(original, upload, folder, theirs)
            yield from _compared(deployment, load, ours, limits)
            yield _audit(deployment, load, archive, given, files, repeats)
            if original is not None:
                yield from _compared("labinform-datasafe", load, theirs, limits, owes=False)
            for tree in (files, folder / "unpacked"):
                shutil.rmtree(tree)
            upload.unlink()


@dataclass
class Times:
    """Seconds of each turn."""

    put: list[float] = field(default_factory=list)
    get: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)  # until the first byte of GET


def _compared(deployment: str, load: Load, times: Times, limits: Times, *, owes: bool = True) -> Iterator[Row]:
    job = f"dataset {{}} {load.name}"
    for name, taken, limits_, what, target in (
        ("PUT", times.put, limits.put, "unzip + md5sum + sync", 1.3),
        ("GET", times.get, limits.get, "zip -0", load.get_target),
    ):
        yield Row(job=job.format(name), deployment=deployment, figure=middle(taken), unit="s", limit=middle(limits_),
                  limit_name=what, target=target if owes else None)  # fmt: skip
    yield Row(job=job.format("GET, first byte of"), deployment=deployment, figure=middle(times.first) * 1000,
              unit="ms", target=50.0 if owes else None)  # fmt: skip


def _transfer(api: str, upload: Path, folder: Path, times: Times) -> str:
    """PUT and GET once, and return the LOI."""
    given = requests.post(f"{api}/{SERIES}", timeout=60).text
    os.sync()
    times.put.append(_curl("%{time_total}", "-T", upload, "-o", os.devnull, f"{api}/{given}")[0])
    first, total = _curl("%{time_starttransfer} %{time_total}", "-o", folder / "got", f"{api}/{given}")
    times.get.append(total)
    times.first.append(first)
    (folder / "got").unlink()
    return given


def _audit(deployment: str, load: Load, archive: Path, given: str, files: Path, repeats: int) -> Row:
    store = DatasetStore(archive / "datasets", archive / "work")
    paths = sorted(files.iterdir())
    summed, read = [], []
    for _ in range(repeats):
        for path in paths:
            limit.evict(path)
        summed.append(limit.seconds(lambda: _each(["sha256sum"], paths)))
        read.append(limit.seconds(lambda: store.verify(loi.dataset(given))))
    size = load.count * load.size / (1 << 20)
    return Row(job=f"audit of {load.name}", deployment=deployment, figure=size / middle(read), unit="MiB/s",
               limit=size / middle(summed), limit_name="sha256sum, cold", target=0.8, sense="least")  # fmt: skip


def _make(load: Load, folder: Path) -> tuple[Path, Path]:
    """Return the zip of a dataset and the folder of its files."""
    files, upload = folder / "files", folder / "upload.zip"
    files.mkdir()
    (folder / "unpacked").mkdir()
    staging.spread(folder / "unpacked")  # what ours are given, the limit has too
    chance = random.Random(load.name)
    names = [f"{number:05}.dat" for number in range(load.count)]
    contents = {name: _noise(chance, load.size) for name in names} | {"x.info": b"meta"}
    md5 = {name: hashlib.md5(content, usedforsecurity=False).hexdigest() for name, content in contents.items()}
    listing = manifest.write(manifest.create("", names, [("x.info", "test", "0.1.0")], md5))
    with zipfile.ZipFile(upload, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {**contents, manifest.NAME: listing}.items():
            (files / name).write_bytes(content)
            archive.writestr(name, content)
    return upload, files


def _noise(chance: random.Random, size: int) -> bytes:
    piece = 1 << 20
    return b"".join(chance.randbytes(min(piece, size - at)) for at in range(0, size, piece))


def _unpack(upload: Path, target: Path) -> float:
    def work() -> None:
        subprocess.run(["unzip", "-q", upload, "-d", target], check=True)
        _each(["md5sum"], sorted(target.iterdir()))
        subprocess.run(["sync", "-f", target], check=True)

    os.sync()
    return limit.seconds(work)


def _zip(files: Path, folder: Path) -> float:
    target = folder / "packed.zip"
    command = ["zip", "-0", "-q", "-r", target, "."]
    try:
        return limit.seconds(lambda: subprocess.run(command, cwd=files, check=True))
    finally:
        target.unlink()


def _each(command: list[str], paths: list[Path]) -> None:
    subprocess.run([*command, *map(str, paths)], check=True, stdout=subprocess.DEVNULL)


def _curl(wanted: str, *words: object) -> list[float]:
    command = ["curl", "-fsS", "-w", f"\n{wanted}", *map(str, words)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [float(word) for word in done.stdout.splitlines()[-1].split()]


def _judge() -> Path | None:
    """Return the Python that has the original, None where it cannot be installed."""
    try:
        return apart.programs("judges") / "python"
    except (subprocess.SubprocessError, OSError) as error:
        sys.stderr.write(f"labinform-datasafe cannot be installed: {error}\n")
        return None


@contextmanager
def _original(judge: Path, folder: Path) -> Iterator[str]:
    """Run labinform-datasafe and give its /api."""
    folder.mkdir()
    port = free_port()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([judge, "-c", FLASK, str(port)], cwd=folder, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: _answers(f"{url}/heartbeat"), 60, "the original's first answer")
        yield f"{url}/api"
    finally:
        process.terminate()
        process.wait(30)


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).status_code == 200
    except requests.RequestException:
        return False


def main() -> None:
    """Measure the embedded suite and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="pacifica-bench-", dir=arguments.folder))
    say: Callable[..., None] = print
    try:
        with house.embedded(folder) as running:
            say(" | ".join(COLUMNS))
            suite = running.suite
            for row in rows("embedded", suite.urls["datasets"], suite.archive, folder, arguments.repeats):
                say(" | ".join(row.cells()), flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
