"""What an installation from the wheel holds, and that it works away from the checkout."""

import io
import json
import os
import runpy
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import requests
import setuptools
import yaml

from pacifica.tests.system.bundles import bundle
from pacifica.tests.system.suite import Suite, wanted

ROOT = Path(__file__).parents[1]
HOUSES = ("common", "config", "ingest", "cartd", "datasafe", "flow")


@pytest.fixture(scope="module")
def described() -> dict:
    """Return what setup.py tells setuptools."""
    told: dict = {}
    original = setuptools.setup
    setuptools.setup = lambda **keywords: told.update(keywords)
    try:
        runpy.run_path(str(ROOT / "setup.py"))
    finally:
        setuptools.setup = original
    return told


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Build the wheel from a copy of the tree, so that no leftover of an earlier build comes along."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("setup.py", "pyproject.toml", "__init__.py"):
        shutil.copy(ROOT / name, source)
    for house in HOUSES:
        shutil.copytree(ROOT / house, source / house, ignore=shutil.ignore_patterns("__pycache__"))
    (source / "tests").mkdir()
    (source / "tests" / "stray.py").write_text("")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "-w", str(folder), str(source)], check=True, timeout=100)
    (built,) = folder.glob("*.whl")
    return built


def test_every_house_is_listed(described):
    assert described["package_dir"] == {f"pacifica.{house}": house for house in HOUSES}
    assert set(described["packages"]) == set(described["package_dir"])
    assert {path.parent.name for path in ROOT.glob("*/__init__.py")} == set(HOUSES)


def test_each_extra_and_dependency_is_pinned_for_make(described):
    def name(requirement: str) -> str:
        return requirement.split("[")[0].split("=")[0].rstrip("<>!~").lower().replace("_", "-")

    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = {name(line) for line in lines if not line.startswith("#")}
    wanted = [*described["install_requires"], *(one for extra in described["extras_require"].values() for one in extra)]
    assert {name(one) for one in wanted} - pins == set()
    assert all(line.startswith("#") or line.count("==") == 1 for line in lines)


def test_the_wheel_holds_every_module_and_configuration_file_and_nothing_else_of_the_checkout(wheel):
    held = {info.filename: info for info in zipfile.ZipFile(wheel).infolist() if ".dist-info/" not in info.filename}
    assert all(name.startswith("pacifica/") and name.split("/")[1] in HOUSES for name in held)
    assert "pacifica/__init__.py" not in held  # it would end the namespace for every other distribution
    for house in HOUSES:
        for path in (ROOT / house).rglob("*"):
            # what is compiled there just now has passing names
            if "__pycache__" not in path.parts and path.is_file() and path.suffix != ".md":
                info = held[f"pacifica/{path.relative_to(ROOT).as_posix()}"]
                executable = bool(path.stat().st_mode & 0o100)
                assert bool(info.external_attr >> 16 & 0o100) == executable, info.filename


def test_the_wheel_works_away_from_the_checkout(wheel, tmp_path):
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    script = (
        "import pacifica.ingest.config as here, importlib.metadata as m, importlib.resources as r;"
        "print(here.__file__);"
        "print(m.version('pacifica-suite'), here.settings().database.connect_attempts);"
        "print(r.files('pacifica.config').joinpath('ingest.ini').is_file())"
    )
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(site)}
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert run.stderr == ""
    place, *said = run.stdout.splitlines()
    assert Path(place).is_relative_to(site)
    assert said == [f"{version()} 10", "True"]


class Installed(Suite):
    """``pacifica up`` of another environment, in a folder where nothing of the checkout is in sight."""

    def __init__(self, home: Path, environment: Path) -> None:
        super().__init__(home / "data")
        self.home, self.program = home, environment / "bin" / "pacifica"

    def start(self, code: str = "") -> "Installed":
        """Start it and wait until every service answers."""
        clean = {"PATH": f"{self.program.parent}:/usr/bin:/bin", "HOME": str(self.home)}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [self.program, "up", "--data", self.data, "--ports", "auto", "--json"],
                cwd=self.home, env=clean | self.environment, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the suite did not start:\n{self.log.read_text(errors='replace')[-4000:]}"
        self.urls = json.loads(line)
        return self


@pytest.mark.timeout(400)
def test_the_main_job_runs_from_an_empty_environment(wheel, tmp_path):
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True, timeout=100)
    install = [environment / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*install, "--constraint", ROOT / "constraints.txt", wheel], cwd=tmp_path, check=True, timeout=300)
    home = tmp_path / "home"
    home.mkdir()
    suite = Installed(home, environment)
    try:
        suite.start()
        for service in ("ingest", "cartd", "datasafe", "flow"):
            answer = requests.get(f"{suite.urls[service]}/openapi.yaml", timeout=30)
            assert yaml.safe_load(answer.content)["info"]["title"] == f"Pacifica {service}"
            assert requests.get(f"{suite.urls[service]}/docs", timeout=30).status_code == 200
        contents = {"a.txt": b"alpha", "run/b.dat": bytes(range(256)) * 8192, "run/empty": b""}
        job = suite.finished(suite.upload(bundle(contents))["job_id"], 60)
        assert (job["state"], job["task_percent"]) == ("OK", "100.00000")
        files = suite.files(job["job_id"])
        assert [suite.content(file["_id"]) for file in files] == list(contents.values())
        url = suite.cart(suite.fill_cart(wanted(files)))
        with tarfile.open(fileobj=io.BytesIO(requests.get(f"{url}?filename=t", timeout=30).content)) as tar:
            found = {member.name: tar.extractfile(member).read() for member in tar}
        assert found == {f"t/{path}": content for path, content in contents.items()}
        assert suite.stop() == 0
    finally:
        suite.kill()


def version() -> str:
    return str(runpy.run_path(str(ROOT / "common" / "version.py"))["VERSION"])
