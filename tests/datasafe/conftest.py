"""A store on a real file system, zips of any kind, and the judges: programs of others in an environment apart."""

import itertools
import json
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pacifica.datasafe import intake, manifest
from pacifica.datasafe.dataset import DatasetStore
from pacifica.datasafe.intake import Deposit
from pacifica.datasafe.inventory import Author
from pacifica.datasafe.loi import Loi, dataset
from pacifica.datasafe.snapshot import Snapshot
from pacifica.tests.system import apart
from pacifica.tests.system.datasets import Files, manifest_of

AUTHOR = Author(name="ada", address="mailto:ada@example.org", message="measured")
AT = 1_700_000_000.0


@pytest.fixture
def pack(tmp_path: Path) -> Callable[..., Path]:
    """Make a zip of files and, unless told otherwise, their manifest."""
    numbers = itertools.count(1)

    def zipped(files: Files, listing: bytes | None = b"", method: int = zipfile.ZIP_DEFLATED) -> Path:
        path = tmp_path / f"upload{next(numbers)}.zip"
        with zipfile.ZipFile(path, "w", method) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
            if listing is not None:
                archive.writestr(manifest.NAME, listing or manifest_of(files))
        return path

    return zipped


@pytest.fixture
def loi() -> Loi:
    return dataset("42.1001/ds/exp/sa/42/cwepr/1")


@pytest.fixture
def store(tmp_path: Path) -> DatasetStore:
    return DatasetStore(tmp_path / "datasets", tmp_path / "work")


@pytest.fixture
def put(pack: Callable[..., Path]) -> Callable[..., Snapshot]:
    """Put, or patch when there is one (``new``: never), files under a LOI, by way of a zip."""

    def store_files(store: DatasetStore, loi: Loi, files: Files, new: bool = False, at: float = AT) -> Snapshot:
        source = pack(files)
        with store.stage() as stage:
            held = store.holding(loi).holds if not new and store.exists(loi) else None
            deposit: Deposit = intake.take(source, stage.content, held=held)
            facts = (store.patch if held else store.put)(loi, stage, deposit, AUTHOR, at)
            return store.open(loi, facts.number)

    return store_files


@pytest.fixture(scope="session")
def judge() -> Callable[..., str]:
    """Run a program in the judges' environment, made once from tests/judges.txt; returns its standard output."""
    program = apart.programs("judges") / "python"

    def run(*arguments: object, **settings: object) -> str:
        command = [str(program), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, **settings)  # type: ignore[call-overload]
        assert done.returncode == 0, done.stdout + done.stderr
        return str(done.stdout)

    return run


@pytest.fixture
def ocfl_judge(judge: Callable[..., str]) -> Callable[[Path], None]:
    """Let ocfl-py validate a storage root and each object in it; our extensions' folders are the warnings allowed."""
    program = """
import json, sys, ocfl
from pathlib import Path
from ocfl.validator import Validator
root = ocfl.StorageRoot(root=sys.argv[1])
sound = root.validate(log_warnings=True)
told = [str(root.errors), str(root.log)]
for declaration in sorted(Path(sys.argv[1]).rglob("0=ocfl_object_1.1")):
    checker = Validator(log_warnings=True)
    sound = checker.validate_object(str(declaration.parent)) and sound
    told.append(checker.status_str())
print(json.dumps([sound, root.num_objects, root.good_objects, told]))
"""

    def validate(root: Path) -> None:
        sound, objects, good, told = json.loads(judge("-c", program, root).splitlines()[-1])
        assert sound and objects == good, told
        warnings = [line for line in "\n".join(told).splitlines() if "[W" in line]
        ours = (("W013", "pacifica-blocks"), ("W901", "pacifica-register"))  # our extensions are not registered
        assert all(any(code in line and name in line for code, name in ours) for line in warnings), warnings

    return validate
