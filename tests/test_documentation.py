"""The examples of the documents, run as they stand there."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pacifica.tests.system.suite import Suite

DOCS = Path(__file__).parents[1] / "docs"
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


@pytest.mark.parametrize("name", ["ingest.md"])
def test_every_example_of_a_document_does_what_it_says(suite: Suite, name: str, tmp_path: Path) -> None:
    examples = EXAMPLE.findall((DOCS / name).read_text(encoding="utf-8"))
    assert examples
    script = "\n".join(f"echo '# example {number}'\n{text}" for number, text in enumerate(examples, 1))
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PACIFICA_DATABASE_PEEWEE_URL": f"sqlite:///{suite.data}/pacifica.db",
        "PACIFICA_ARCHIVE_PATH": str(suite.archive),
        "PACIFICA_CELERY_BROKER_URL": "memory://",
        "instrument": str(suite.data.parent / "instrument"),
        **suite.urls,
    }
    command = ["bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
