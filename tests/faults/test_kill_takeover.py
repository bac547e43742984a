"""A takeover from LabInform, killed at many steps and run again: every dataset is there once, and whole."""

import json
import os
import subprocess
import sys
from pathlib import Path

from pacifica.datasafe.dataset import DatasetStore
from pacifica.tests.system import failpoint
from pacifica.tests.system.datasets import manifest_of
from pacifica.tests.system.suite import Suite

MORTAL = """
import sys, threading
from pathlib import Path
from pacifica.tests.system.failpoint import install
install(Path(sys.argv[1]))
from pacifica.datasafe.__main__ import cmd
codes = []
work = threading.Thread(target=lambda: codes.append(cmd(sys.argv[2:])), name="takeover")
work.start()
work.join()
sys.exit(codes[0])
"""
DIED = 137  # what a process ends with at its failpoint


def test_a_takeover_killed_at_any_step_is_brought_to_its_end_by_the_next(tmp_path: Path) -> None:
    files = {}
    for number in (1, 2, 3, 4):
        folder = tmp_path / f"tree/exp/sa/42/cwepr/{number}"
        folder.mkdir(parents=True)
        files[number] = {"a.dat": bytes([number]) * 5000, "x.info": b"meta"}
        for name, content in (files[number] | {"MANIFEST.yaml": manifest_of(files[number])}).items():
            (folder / name).write_bytes(content)
    suite, armed = Suite(tmp_path / "data"), tmp_path / "armed"
    suite.data.mkdir()
    suite.command("datasafe", "dbsync")
    words = ["--data", suite.data, "import", tmp_path / "tree", "--issuer", "1001", "--username", "root"]
    command = [sys.executable, "-c", MORTAL, *map(str, [armed, *words])]
    path = {"PYTHONPATH": str(Path(__file__).parents[2] / ".namespace")}
    killed = 0
    for step in (1, 4, 9, 15, 22, 30, 38, 47, 56):
        failpoint.arm(armed, f"event {step}")
        done = subprocess.run(command, env=os.environ | path, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode in (0, DIED), done.stderr
        killed += done.returncode == DIED
    assert killed > 3
    lines = suite.command("datasafe", *words[2:], "--json").stdout.splitlines()
    assert {json.loads(line)["state"] for line in lines} <= {"taken", "known"} and len(lines) == 4
    store = DatasetStore(suite.archive / "datasets", suite.archive / "work")
    for loi in store.datasets():
        assert store.verify(loi).sound and store.open(loi).number == 1
        assert store.open(loi).whole("a.dat") == files[loi.number]["a.dat"]
    assert len(list(store.datasets())) == 4
    suite.start()
    try:
        assert suite.query("SELECT count(*) FROM dataset WHERE version = 1") == [(4,)]
        assert suite.query("SELECT * FROM pending") == []
    finally:
        suite.kill()
