"""A transaction in the words of Pacifica's policy and metadata services."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from ..common import orm
from ..common.batch import batches
from ..common.catalog import (
    Instrument,
    Project,
    Reader,
    Transaction,
    TransactionKeyValue,
    User,
    files_of,
    iso,
    readable_transactions,
)
from ..common.errors import NotFound
from ..common.policy import number

PAGE = 1000  # transactions of one answer, where the client does not say


def by_id(id: int, reader: Reader) -> Iterator[bytes]:
    """Return the JSON object of transaction ``id`` in pieces, its files keyed by id; NotFound unless it is there.

    100,000 files are some 50 MB of JSON, which is never in memory at once.
    """
    row = Transaction.get_or_none(Transaction.id == id)
    if row is None or not readable_transactions(reader, [id]):
        raise NotFound(f"No Transaction with an ID of {id} was found", transaction=id)
    return _pieces(_described(row))


def listed(reader: Reader, id: int | None, page: int, per_page: int) -> list[dict[str, Any]]:
    """Return transactions that ``reader`` may read, in the order of their ids, as ``GET /transactions`` has them."""
    query = Transaction.select(Transaction.id, Transaction.created).order_by(Transaction.id)
    if id is not None:
        query = query.where(Transaction.id == id)
    rows = list(query.paginate(page, per_page).tuples())
    readable = readable_transactions(reader, [id for id, _ in rows])
    return [
        {"_id": id, "description": None, "suspense_date": None} | _dated(created)
        for id, created in rows
        if id in readable
    ]


def _described(row: Any) -> dict[str, Any]:
    """Return everything but the files."""
    submitter, instrument = number(row.submitter), number(row.instrument)
    user = User.get_or_none(User.id == row.submitter)
    project = Project.get_or_none(Project.id == row.project)
    device = Instrument.get_or_none(Instrument.id == row.instrument)
    said = TransactionKeyValue.select(TransactionKeyValue.key, TransactionKeyValue.value)
    return _dated(row.created) | {
        "_id": row.id,
        "submitter": submitter,
        "project": row.project,
        "instrument": instrument,
        "transaction_id": row.id,
        "submitter_id": submitter,
        "project_id": row.project,
        "instrument_id": instrument,
        "submitted": iso(row.created),
        "release_date": None,
        "release_state": "not_released",
        "release_state_display": "Not Released",
        "submitter_name": f"{user.first_name} {user.last_name}" if user else row.submitter,
        "project_name": project.title if project else row.project,
        "instrument_name": device.display_name if device else row.instrument,
        "key_values": dict(said.where(TransactionKeyValue.transaction == row.id).tuples()),
    }


def _pieces(head: dict[str, Any]) -> Iterator[bytes]:
    yield json.dumps(head)[:-1].encode() + b', "files": {'
    ids: list[int] = []
    for batch in batches(files_of(head["_id"]), 500):
        said = _key_values([file["_id"] for file in batch])
        text = ", ".join(
            f'"{file["_id"]}": {json.dumps(file | {"key_values": said.get(file["_id"], {})})}' for file in batch
        )
        yield (", " if ids else "").encode() + text.encode()
        ids += [file["_id"] for file in batch]
    yield b'}, "file_ids": ' + json.dumps(ids).encode() + b"}"


def _key_values(files: Iterable[int]) -> dict[int, list[dict[str, str]]]:
    wanted = list(files)
    marks = ", ".join("?" * len(wanted))
    found: dict[int, list[dict[str, str]]] = {}
    for file, key, value in orm.rows(f"SELECT file, key, value FROM filekeyvalue WHERE file IN ({marks})", *wanted):
        found.setdefault(file, []).append({"key": key, "value": value})
    return found


def _dated(created: float) -> dict[str, Any]:
    return {"created": iso(created), "updated": iso(created), "deleted": None}
