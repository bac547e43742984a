"""What is told of a bundle whose contents are held already."""

from types import SimpleNamespace
from typing import Any

import pytest

from pacifica.common import draft, entry, orm
from pacifica.common.config import Auth
from pacifica.common.ledger import ARCHIVED_FILE_COLUMNS
from pacifica.common.volume import new_name
from pacifica.ingest import repeated
from pacifica.ingest.bundle import Limits, Scanner
from pacifica.ingest.declared import Bundle, check
from pacifica.ingest.repeated import Digests
from pacifica.tests.ingest.samples import TRANSACTION, bundle, listed

FILES = {f"run/{number}": b"content %d" % number for number in range(9)} | {"empty": b""}


@pytest.fixture
def posted() -> Bundle:
    data = bundle(FILES, [*TRANSACTION, *(listed(path, content) for path, content in FILES.items())])
    scanner = Scanner(Limits(), "sha1", length=len(data))
    scanner.feed(data)
    return check(scanner.close(), lambda offset, size: iter([data[offset : offset + size]]), Limits())


def archive(found: Bundle, first: int) -> None:
    """Hold the files of ``found`` from id ``first`` on, as those of alice."""
    pack = draft.begin_pack(new_name(), "bundle", None, 1, first, found.count, 9999, "alice")
    draft.add_files(pack, found.rows(first), lambda: None)
    hashsum = ARCHIVED_FILE_COLUMNS.index("hashsum")
    with orm.transaction():
        draft.publish(pack)
        entry.enter_digests((entry.prefix(row[hashsum]) or 0, row[0]) for row in found.rows(first))


def told(found: Bundle, owner: str = "alice") -> dict[str, Any]:
    digests = Digests()
    assert len(list(digests.noted(found.rows(501)))) == found.count
    job: Any = SimpleNamespace(owner=owner, first_id=501)
    settings: Any = SimpleNamespace(auth=Auth())
    return digests.repeated(job, found, settings)


@pytest.mark.usefixtures("sqlite")
def test_all_that_repeat_are_counted_up_to_a_number_from_which_on_it_is_at_least_that(
    posted: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert told(posted) == {"files": 0, "examples": []}
    archive(posted, 1)
    same = [{"file": 501 + n, "path": f"run/{n}", "same_as": {"file": 1 + n, "transaction": None}} for n in range(5)]
    assert told(posted) == {"files": 9, "examples": same}
    monkeypatch.setattr(repeated, "COUNTED", 9)
    assert told(posted) == {"files": 9, "examples": same}
    monkeypatch.setattr(repeated, "COUNTED", 8)
    assert told(posted) == {"files": 8, "at_least": True, "examples": same}
    assert told(posted, "bob") == {"files": 0, "examples": []}
