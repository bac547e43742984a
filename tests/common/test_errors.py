"""The codes are a public contract: every one is documented, and none twice."""

import inspect
import re
from pathlib import Path

from pacifica.common import connection, errors
from pacifica.common.errors import ServiceError

TABLE = Path(__file__).parents[2] / "docs" / "errors.md"


def classes() -> list[type[ServiceError]]:
    found = [kind for room in (errors, connection) for _, kind in inspect.getmembers(room, inspect.isclass)]
    return sorted({kind for kind in found if issubclass(kind, ServiceError)}, key=lambda kind: (kind.status, kind.code))


def row(kind: type[ServiceError]) -> str:
    retry = "yes" if kind.retryable else "no"
    after = "" if kind.retry_after is None else str(kind.retry_after)
    return f"| `{kind.code}` | {kind.status} | {retry} | {after} | {(kind.__doc__ or '').splitlines()[0]} |"


def test_every_code_of_the_ground_floor_is_documented_as_it_is():
    rows = re.findall(
        r"^\| `.*$", TABLE.read_text(encoding="utf-8").partition("## Codes of the ground floor")[2], re.MULTILINE
    )
    assert rows == [row(kind) for kind in classes()]


def test_no_code_means_two_things():
    codes = [kind.code for kind in classes()]
    assert len(codes) == len(set(codes))


def test_every_error_has_a_sentence():
    assert all(str(kind()).endswith(".") for kind in classes())
