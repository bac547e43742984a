"""What a dataset costs in memory does not grow with it: one large file, and many small ones, in and out."""

import random
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import requests

from pacifica.datasafe import manifest
from pacifica.tests.system.bundles import bundle
from pacifica.tests.system.datasets import manifest_of
from pacifica.tests.system.suite import Suite

MOST = 64  # MiB above the idle process (design §13)
KINDS = {
    "one large file, stored": (1, 96 << 20, zipfile.ZIP_STORED),
    "one large file, deflated": (1, 96 << 20, zipfile.ZIP_DEFLATED),
    "many files": (30_000, 100, zipfile.ZIP_STORED),  # as objects, those of an upload were 50 MiB, of a PATCH 160
}


@pytest.fixture
def suite(tmp_path: Path) -> Iterator[Suite]:
    suite = Suite(tmp_path / "data", {"PACIFICA_AUDIT_PERIOD_DAYS": "0"})
    try:
        yield suite.start()
    finally:
        suite.kill()


def memory(suite: Suite, what: str) -> int:
    """Return a figure of the process in MiB: VmRSS is now, VmHWM the most there ever was."""
    assert suite.process is not None
    lines = Path(f"/proc/{suite.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:")) >> 10


def archive(path: Path, count: int, size: int, method: int, seed: int = 0) -> None:
    chance = random.Random(count + seed)
    files: Mapping[str, bytes] = {f"{number:05}.dat": chance.randbytes(min(size, 1 << 20)) for number in range(count)}
    files = {name: content * (size // len(content)) for name, content in files.items()} | {"x.info": b"meta"}
    with zipfile.ZipFile(path, "w", method, compresslevel=1) as out:
        for name, content in files.items():
            out.writestr(name, content)
        out.writestr(manifest.NAME, manifest_of(files))


@pytest.mark.parametrize("kind", KINDS)
def test_a_dataset_goes_in_and_out_in_bounded_memory(suite: Suite, tmp_path: Path, kind: str) -> None:
    archive(tmp_path / "upload.zip", *KINDS[kind])
    url = f"{suite.urls['datasets']}/42.1001/ds/exp/sa/42/cwepr"
    loi = requests.post(url, timeout=60).text
    requests.get(f"{suite.urls['datasets']}/{loi}", timeout=60)
    idle = memory(suite, "VmRSS")
    archive(tmp_path / "more.zip", *KINDS[kind], seed=1)
    patch = ["-X", "PATCH", "-T", tmp_path / "more.zip"]
    for words in (["-T", tmp_path / "upload.zip"], ["-o", tmp_path / "back.zip"], patch, ["-o", tmp_path / "back.zip"]):
        subprocess.run(["curl", "-fsS", *words, f"{suite.urls['datasets']}/{loi}"], check=True, capture_output=True)
        assert memory(suite, "VmHWM") - idle <= MOST, words
    assert (tmp_path / "back.zip").stat().st_size > KINDS[kind][0] * KINDS[kind][1]


FEW, COUNT = 2_000, 40_000
GROWTH = {"audit": 18, "rebuild": 34}  # MiB for COUNT files in a pack and in a dataset; of 100,000 it is 35 and 52


def peak(suite: Suite, command: str, database: Path) -> float:
    """Run ``pacifica-datasafe-cmd`` on a database of its own, without the suite; return its largest size in MiB."""
    code = (
        "import sys; from pathlib import Path; from pacifica.datasafe.__main__ import cmd\n"
        f"code = cmd(['dbsync']) or cmd(['{command}'])\n"
        "print([line for line in Path('/proc/self/status').read_text().splitlines() if 'VmHWM' in line][0])\n"
        "sys.exit(code)"
    )
    environment = suite.administrators | {"PACIFICA_DATABASE_PEEWEE_URL": f"sqlite:///{database}"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-2]) / 1024


def test_audit_and_rebuild_do_not_grow_with_what_they_read(suite: Suite, tmp_path: Path) -> None:
    grown = dict.fromkeys(GROWTH, 0.0)
    for count in FEW, COUNT:
        job = suite.upload(bundle({f"{number:05}": b"%d" % number for number in range(count)}))["job_id"]
        assert suite.finished(job)["state"] == "OK"
        archive(tmp_path / "upload.zip", count, 100, zipfile.ZIP_STORED)
        loi = requests.post(f"{suite.urls['datasets']}/42.1001/ds/exp/sa/42/cwepr", timeout=60).text
        url = f"{suite.urls['datasets']}/{loi}"
        subprocess.run(["curl", "-fsS", "-T", tmp_path / "upload.zip", url], check=True, capture_output=True)
        suite.stop()
        grown["rebuild"] = peak(suite, "rebuild", tmp_path / f"{count}.db") - grown["rebuild"]
        grown["audit"] = peak(suite, "audit", tmp_path / f"{count}.db") - grown["audit"]
        suite.start()
    for command, most in GROWTH.items():
        assert grown[command] <= most, grown
