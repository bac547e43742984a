"""The examples of the documents, run as they stand there."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from pacifica.tests.system.called import Calls, Route, document_of, every_route
from pacifica.tests.system.datasets import zipped
from pacifica.tests.system.suite import Suite

DOCS = Path(__file__).parents[1] / "docs"
LOI = "42.1001/ds/exp/sa/42/cwepr/1"
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLE = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """A suite that has seen nothing yet."""
    folder = tmp_path_factory.mktemp("documentation")
    (folder / "instrument").mkdir()
    found = Suite(folder / "data", {"PACIFICA_INGEST_MOVE_ROOTS": str(folder / "instrument")})
    try:
        yield found.start()
    finally:
        found.kill()


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> set[Route]:
    """Every route of the suite."""
    return every_route(tmp_path_factory.mktemp("routes"))


@pytest.mark.parametrize("name", ["ingest.md", "ingest-neighbours.md", "datasafe.md", "catalogue.md", "flow.md"])
def test_every_example_of_a_document_does_what_it_says_and_each_route_has_one(
    suite: Suite, routes: set[Route], name: str, tmp_path: Path
) -> None:
    examples = EXAMPLE.findall((DOCS / name).read_text(encoding="utf-8"))
    assert examples
    script = "\n".join(f"echo '# example {number}'\n{text}" for number, text in enumerate(examples, 1))
    for number, text in enumerate(PYTHON.findall((DOCS / name).read_text(encoding="utf-8"))):
        (tmp_path / f"example{number}.py").write_text(text)
        script += f"python example{number}.py $datasafe\npython example{number}.py\n"  # over HTTP, and in process
    calls = Calls(tmp_path)
    run(suite, script, tmp_path, calls)
    mine = {route for route in routes if document_of(*route[:2]) == name}
    assert mine
    assert calls.routes(suite.urls, routes) >= mine, mine - calls.routes(suite.urls, routes)


def blocks(name: str, kind: re.Pattern[str]) -> list[str]:
    return kind.findall((DOCS / name).read_text(encoding="utf-8"))


def run(suite: Suite, script: str, folder: Path, calls: Calls | None = None) -> "subprocess.CompletedProcess[str]":
    """Run ``script`` by bash in ``folder``, with the suite's database and archive; it must end well."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {
        "PATH": f"{calls.folder}:{path}" if calls else path,
        "PACIFICA_DATABASE_PEEWEE_URL": f"sqlite:///{suite.data}/pacifica.db",
        "PACIFICA_ARCHIVE_PATH": str(suite.archive),
        "PACIFICA_CELERY_BROKER_URL": "memory://",
        "instrument": str(suite.data.parent / "instrument"),
        **suite.urls,
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done


@pytest.fixture
def first(suite: Suite) -> dict[str, bytes]:
    """The dataset that the documents speak of, with two more versions; the files of the last one."""
    url = f"{suite.urls['datasets']}/{LOI}"
    while requests.get(url, timeout=60).status_code == 404:
        requests.post(url, timeout=60).raise_for_status()
    files: dict[str, bytes] = {}
    for mark in (b"old", b"new"):
        files = {"a.dat": mark, "sub/b.dat": b"same", "x.info": b"meta"}
        if requests.put(url, zipped(files), timeout=60).status_code == 405:
            requests.patch(url, zipped(files), timeout=60).raise_for_status()
    return files


def test_what_is_archived_is_read_without_us_as_the_document_says(
    suite: Suite, first: dict[str, bytes], tmp_path: Path
) -> None:
    checking, restoring = blocks("formats.md", PYTHON)
    (tmp_path / "check.py").write_text(checking)
    (tmp_path / "restore.py").write_text(restoring)
    (tmp_path / "datasets").symlink_to(suite.archive / "datasets")
    requests.put(f"{suite.urls['archive']}/987654", b"x" * 3_000_000, timeout=60).raise_for_status()
    (pack,) = (path for path in suite.archive.glob("packs/*/*/*") if path.stat().st_size == 3_000_000)
    newest = len(requests.get(f"{suite.urls['datasets']}/{LOI}?versions", timeout=60).json()["versions"])
    (script,) = blocks("formats.md", EXAMPLE)
    script = script.replace("find datasets", "find datasets/")  # here it is a link
    script += f'python restore.py "$folder" v{newest} newest; python check.py {pack}'
    assert "damaged" not in run(suite, script, tmp_path).stdout
    assert (tmp_path / "restored" / "MANIFEST.yaml").is_file()
    found = {str(path.relative_to(tmp_path / "newest")): path for path in (tmp_path / "newest").rglob("*")}
    assert {name: found[name].read_bytes() for name in first} == first
    content = bytearray(pack.read_bytes())
    content[2_000_000] ^= 1
    (tmp_path / "damaged").write_bytes(content)
    (tmp_path / "damaged.json").write_bytes(pack.with_suffix(".json").read_bytes())
    assert run(suite, f"python check.py {tmp_path / 'damaged'}", tmp_path).stdout == "block 1 is damaged\n"


def test_the_audit_and_the_rebuild_run_as_their_document_says(
    suite: Suite, routes: set[Route], first: dict[str, bytes], tmp_path: Path
) -> None:
    audit, rebuild = blocks("audit.md", EXAMPLE)
    calls = Calls(tmp_path)
    told = run(suite, audit, tmp_path, calls).stdout
    assert told.count(" 0 damaged, 0 unreadable, 0 left") == 2 and '"findings": []' in told
    assert calls.routes(suite.urls, routes) >= {route for route in routes if document_of(*route[:2]) == "audit.md"}
    script = f"export PACIFICA_DATABASE_PEEWEE_URL=sqlite:///{tmp_path}/new.db\n{rebuild}"
    assert " versions added" in run(suite, script, tmp_path).stdout
