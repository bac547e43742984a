"""What a run says of the transaction that it was given: key-values in the catalogue, entered when the run is OK.

The suite's transaction stands where the original has an entity.  What the bundle itself said is never changed; what an
earlier run said under the same key is replaced.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ..common import catalog, orm
from ..common.catalog import Transaction, TransactionKeyValue
from ..common.errors import BadRequest
from . import creation
from .fields import Field
from .orm import Annotation, Data

MAX_VALUE = 64 << 10  # characters of one value


def annotate(data: Data, fields: list[Field], said: Mapping[str, Any]) -> list[str]:
    """Enter ``said`` for the one transaction of the inputs; return, for people, what could not be entered.

    Call it in the transaction that ends ``data``.
    """
    if not said:
        return []
    transactions = creation.transactions_of(fields, json.loads(data.input))
    if len(transactions) != 1:
        return [f"Nothing was annotated: the inputs name {len(transactions)} transactions, not one"]
    transaction = Transaction.get_or_none(Transaction.id == transactions.pop())
    if transaction is None or transaction.owner != data.owner:
        return ["Nothing was annotated: the transaction is not the owner's of this run"]
    return list(_enter(data, transaction.id, said))


def withdraw(data: Data) -> None:
    """Take back what ``data`` has said, when it is deleted."""
    with orm.transaction():
        for row in list(Annotation.select().where(Annotation.data == data.id)):
            _remove(row)


def _enter(data: Data, transaction: int, said: Mapping[str, Any]) -> Iterator[str]:
    for key, value in said.items():
        try:
            name, text = catalog.as_text(key), catalog.as_text(value)
        except BadRequest as error:
            yield f"{key} was not annotated: {error.message}"
            continue
        if not 0 < len(name) <= 255 or len(text) > MAX_VALUE:
            yield f"{name[:80]} was not annotated: a key has 1 to 255 characters, a value at most {MAX_VALUE}"
            continue
        for row in list(Annotation.select().where((Annotation.transaction == transaction) & (Annotation.key == name))):
            _remove(row)
        here = (TransactionKeyValue.transaction == transaction) & (TransactionKeyValue.key == name)
        if TransactionKeyValue.select().where(here).exists():
            yield f"{name} was not annotated: the transaction's own metadata has it"
            continue
        entered = TransactionKeyValue.insert(transaction=transaction, key=name, value=text).execute()
        Annotation.insert(data=data.id, transaction=transaction, key=name, entry=entered).execute()


def _remove(row: Annotation) -> None:
    TransactionKeyValue.delete().where(TransactionKeyValue.id == row.entry).execute()
    Annotation.delete().where(Annotation.id == row.id).execute()
