"""What templates may ask of the suite, answered from SQL; and which files a program turned out to need."""

import json
from typing import Any

from .config import settings
from .filters import filters
from .hydrate import Record
from .orm import Data, Process, Storage
from .template import Engine

ARCHIVED = "archive:"  # a ``file_temp`` that names an archived file by its id
TRANSACTION = "transaction:"  # a ``dir`` that names the files of a transaction by its id


class SqlWorld:
    """The World of one run.

    ``needed`` are the (data id, stored name), ``archived`` the file ids and ``transactions`` the ids asked for.
    """

    def __init__(self, input_root: str = "/inputs") -> None:
        """Paths lie below ``input_root``, as the program sees it."""
        self.host_url = settings().flow.host_url
        self.input_root = input_root
        self.needed: set[tuple[int, str]] = set()
        self.archived: set[int] = set()
        self.transactions: set[int] = set()
        self._records: dict[int, Record | None] = {}

    def data(self, id: int) -> Record | None:
        """Return the data object, None when it is gone."""
        if id not in self._records:
            self._records[id] = _record(id)
        return self._records[id]

    def data_by_slug(self, slug: str) -> int | None:
        """Return the id of the data object with ``slug``."""
        found = Data.select(Data.id).where(Data.slug == slug).first()
        return found.id if found else None

    def document(self, id: int) -> Any:
        """Return the stored document of a ``basic:json:`` value."""
        return json.loads(Storage.get_by_id(id).json)

    def path(self, data_id: int, name: str) -> str:
        """Return where the program will find the stored file ``name`` of ``data_id``."""
        self.needed.add((data_id, name))
        return f"{self.input_root}/{data_id}/{name}"

    def upload(self, name: str) -> str:
        """Return where the program will find the archived file that ``name`` (``archive:<id>``) means."""
        file_id = archived_id(name)
        self.archived.add(file_id)
        return f"{self.input_root}/{archived_name(file_id)}"

    def folder(self, name: str) -> str:
        """Return where the program will find the folder with the files that ``name`` (``transaction:<id>``) means."""
        transaction = transaction_id(name)
        self.transactions.add(transaction)
        return f"{self.input_root}/{transaction_name(transaction)}"


def engine(world: SqlWorld) -> Engine:
    """Return the template engine with the filters of flow and of the site's modules."""
    return Engine(filters(world, settings().flow.filter_modules))


def archived_id(file_temp: str) -> int:
    """Return the id in ``archive:<id>``; ValueError for any other text."""
    return _number(file_temp, ARCHIVED, "file_temp must be archive:<file id>")


def transaction_id(folder: str) -> int:
    """Return the id in ``transaction:<id>``; ValueError for any other text."""
    return _number(folder, TRANSACTION, "dir must be transaction:<id>")


def transaction_name(transaction: int) -> str:
    """Return the path of a transaction's files below the inputs."""
    return f"transaction/{transaction}"


def archived_name(file_id: int) -> str:
    """Return the path of an archived file below the inputs."""
    return f"archive/{file_id}"


def _number(text: str, prefix: str, complaint: str) -> int:
    digits = text.removeprefix(prefix)
    if digits == text or not (digits.isascii() and digits.isdecimal() and len(digits) < 19):
        raise ValueError(complaint)
    return int(digits)


def _record(id: int) -> Record | None:
    data = Data.get_or_none(Data.id == id)
    if data is None:
        return None
    definition = Process.get_by_id(data.process).definition
    return Record(
        id=data.id,
        type=data.type,
        name=data.name,
        slug=data.slug or "",
        input=json.loads(data.input),
        input_schema=definition.input,
        output=json.loads(data.output),
        output_schema=definition.output,
        named_by_user=data.named_by_user,
    )
