"""The codes are a public contract: every one is documented, each in the table of its house, and none is made up."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

from pacifica.common.errors import ServiceError

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "docs" / "errors.md"
HOUSES = {"common": "the ground floor", "ingest": "ingest", "cartd": "cartd", "datasafe": "datasafe", "flow": "flow"}


def classes(house: str) -> list[type[ServiceError]]:
    """Return the errors that the modules of ``house`` declare with a code of their own."""
    found = set()
    for path in (ROOT / house).rglob("*.py"):
        if "code = " not in path.read_text(encoding="utf-8"):
            continue
        module = importlib.import_module(".".join(("pacifica", *path.relative_to(ROOT).with_suffix("").parts)))
        found |= {kind for _, kind in inspect.getmembers(module, inspect.isclass) if kind.__module__ == module.__name__}
    ours = [kind for kind in found if issubclass(kind, ServiceError) and "code" in vars(kind)]
    return sorted(ours, key=lambda kind: (kind.status, kind.code, kind.__name__))


def row(kind: type[ServiceError]) -> str:
    retry = "yes" if kind.retryable else "no"
    after = "" if kind.retry_after is None else str(kind.retry_after)
    return f"| `{kind.code}` | {kind.status} | {retry} | {after} | {(kind.__doc__ or '').splitlines()[0]} |"


def rows(house: str) -> list[str]:
    section = TABLE.read_text(encoding="utf-8").partition(f"## Codes of {HOUSES[house]}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| `.*$", section, re.MULTILINE)


@pytest.mark.parametrize("house", HOUSES)
def test_every_code_is_documented_as_it_is_and_no_other(house: str):
    assert rows(house) == [row(kind) for kind in classes(house)]


def test_no_code_of_the_ground_floor_means_two_things():
    codes = [kind.code for kind in classes("common")]
    assert len(codes) == len(set(codes))


def test_every_error_of_the_ground_floor_has_a_sentence():
    assert all(str(kind()).endswith(".") for kind in classes("common"))
