"""Power is cut under load: what was answered is there and whole on a disk that has lost all that was not flushed.

The suite works on an ext4 image behind a loop device.  It is frozen, the image is copied as the device is then, and
the copy is mounted and served: what the kernel had not yet given to the device is not in it, as the controls show.
"""

import itertools
import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
import requests

from pacifica.datasafe.dataset import DatasetStore
from pacifica.tests.system.bundles import bundle
from pacifica.tests.system.crash import QUICK, Inspected
from pacifica.tests.system.datasets import unzipped, zipped
from pacifica.tests.system.disks import Disk
from pacifica.tests.system.load import Load
from pacifica.tests.system.nodes import freeze
from pacifica.tests.system.suite import until

SIZE = 512 << 20
LAZY = "commit=300"  # so that the kernel's own clock flushes nothing
QUIET = QUICK | {"PACIFICA_AUDIT_PERIOD_DAYS": "0", "PACIFICA_INGEST_IDLE_SECONDS": "20"}
CUTS = 5
SERIES = "42.1001/ds/exp/sa/42/cwepr"
FORGETFUL = "import os; os.fsync = lambda descriptor: None; " + Inspected.CODE


class Users(Load):
    """Clients that upload bundles and datasets, and what was acknowledged to them: content by job, and by LOI."""

    def __init__(self, suite: Inspected, large: bool = True) -> None:
        super().__init__(self.upload, self.upload, self.deposit)
        self.urls, self.large = dict(suite.urls), large
        self.jobs: dict[int, dict[str, bytes]] = {}
        self.datasets: dict[str, dict[str, bytes]] = {}

    def upload(self) -> None:
        for number in itertools.count():
            contents = {f"f{name}": os.urandom(1 + 700 * name) for name in range(4)}
            if self.large and number % 5 == 4:
                contents["large"] = os.urandom(3 << 20)
            with suppress(requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
                answer = requests.post(f"{self.urls['ingest']}/upload", data=bundle(contents), timeout=60)
                if answer.status_code == 200:
                    self.jobs[answer.json()["job_id"]] = contents
            if self.ended.wait(0.02):
                return

    def deposit(self) -> None:
        while not self.ended.wait(0.05):
            files = {"a.dat": os.urandom(3000), "x.info": b"meta"}
            with suppress(requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
                loi = requests.post(f"{self.urls['datasets']}/{SERIES}", timeout=60).text
                answer = requests.put(f"{self.urls['datasets']}/{loi}", data=zipped(files), timeout=60)
                if answer.status_code == 200:
                    self.datasets[loi] = files


class Cut:
    """A copy of the disk, and what had been acknowledged when it was made."""

    def __init__(self, suite: Inspected, disk: Disk, load: Users, place: Path) -> None:
        assert suite.process is not None
        freeze(suite.process.pid)
        try:
            self.control = os.urandom(5000)
            (disk.folder / f"careless-{place.name}").write_bytes(self.control)  # a new name: ext4 flushes what replaces
            with (disk.folder / f"careful-{place.name}").open("wb") as file:
                file.write(self.control)
                file.flush()
                os.fsync(file.fileno())
            self.disk = disk.after_power_cut(place.with_suffix(".img"), place)
            self.jobs, self.datasets = dict(load.jobs), dict(load.datasets)
        finally:
            os.kill(suite.process.pid, signal.SIGCONT)

    def lost(self) -> list[str]:
        """Serve the copy and return what was acknowledged and is not there, or not as it was."""
        with self.disk.mounted() as disk:
            careful, careless = (disk.folder / f"{how}-{disk.folder.name}" for how in ("careful", "careless"))
            assert careful.read_bytes() == self.control
            assert not careless.exists() or careless.read_bytes() != self.control, "the copy has what was not flushed"
            suite = Inspected(disk.folder / "data", QUIET)
            suite.log = self.disk.image.with_suffix(".log")
            try:
                suite.start()
                return self._lost_of(suite)
            finally:
                suite.kill()

    def _lost_of(self, suite: Inspected) -> list[str]:
        lost = []
        for job, contents in self.jobs.items():
            try:
                assert suite.finished(job, 60)["state"] == "OK"
                suite.is_archived(job, contents)
            except (AssertionError, KeyError, requests.RequestException) as error:
                lost.append(f"job {job}: {error!r}")
        for loi, files in self.datasets.items():
            answer = requests.get(f"{suite.urls['datasets']}/{loi}", timeout=60)
            if answer.status_code != 200 or unzipped(answer.content) != files:
                lost.append(f"{loi}: {answer.status_code}")
        if not lost:
            suite.settled(suite.newest_job())  # of what was not acknowledged nothing is half there either
            store = DatasetStore(suite.archive / "datasets", suite.archive / "work")
            assert all(store.verify(loi).sound for loi in store.datasets())
        return lost


def cuts(tmp_path: Path, count: int, code: str = Inspected.CODE, large: bool = True) -> list[Cut]:
    """Work on a disk, and cut its power ``count`` times at moments of chance."""
    found, chance = [], random.Random(5)
    with Disk(tmp_path / "disk.img", tmp_path / "disk", SIZE).mounted(LAZY) as disk:
        suite = Inspected(disk.folder / "data", QUIET)
        suite.log = tmp_path / "log"
        try:
            suite.start(code)
            with Users(suite, large) as load:
                for number in range(count):
                    seen = len(load.jobs) + len(load.datasets)
                    until(lambda seen=seen: len(load.jobs) + len(load.datasets) > seen + 8, 60, "some answers")  # type: ignore[misc]
                    time.sleep(chance.uniform(0, 0.1))  # the moment of the cut is what varies
                    found.append(Cut(suite, disk, load, tmp_path / f"cut{number}"))
        finally:
            suite.kill()
    assert found[-1].jobs and found[-1].datasets
    return found


@pytest.mark.timeout(900)
def test_what_was_acknowledged_outlives_a_power_cut(tmp_path: Path) -> None:
    for cut in cuts(tmp_path, CUTS):
        assert cut.lost() == []


@pytest.mark.timeout(600)
def test_a_suite_that_did_not_flush_would_be_found_out(tmp_path: Path) -> None:
    assert any(cut.lost() for cut in cuts(tmp_path, 3, FORGETFUL, large=False))  # the kernel may have been before one
