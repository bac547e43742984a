"""People, projects, instruments and their relations: loaded from a file, listed, edited by loading again.

The file is one JSON object.  Its keys are Pacifica's names of the tables, each a list of objects with Pacifica's keys
(docs/ingest-neighbours.md#policy-and-catalogue); keys of an object that the catalogue does not keep are passed by.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import orm
from .batch import batches
from .catalog import Instrument, InstrumentUser, Project, ProjectInstrument, ProjectUser, User, as_id
from .errors import BadRequest
from .policy import CUSTODIAN, MEMBER


@dataclass(frozen=True)
class Table:
    """One table of the file: its model, and what identifies a row of it."""

    model: Any
    keys: tuple[str, ...]
    defaults: Mapping[str, str]

    @property
    def columns(self) -> list[str]:
        """The names of what a row may say."""
        return [name for name in self.model._meta.fields if name not in ("id", "updated") or name in self.keys]


TABLES = {
    "users": Table(User, ("id",), {}),
    "projects": Table(Project, ("id",), {}),
    "instruments": Table(Instrument, ("id",), {}),
    "project_user": Table(ProjectUser, ("project", "user", "relationship"), {"relationship": MEMBER}),
    "instrument_user": Table(InstrumentUser, ("instrument", "user", "relationship"), {"relationship": CUSTODIAN}),
    "project_instrument": Table(ProjectInstrument, ("project", "instrument"), {}),
}


class BadCatalogue(BadRequest):
    """The catalogue's file is not what can be loaded."""

    code = "bad_catalogue"


def load(document: Any, *, replace: bool = False) -> dict[str, int]:
    """Enter the tables of ``document`` and return the number of rows of each; all of it, or nothing.

    A row that is there is changed.  With ``replace``, what a table of the document does not name is removed from it.
    BadCatalogue names table, row and key of what is wrong.
    """
    if not isinstance(document, dict):
        raise BadCatalogue("The catalogue is a JSON object of tables.")
    rows = {name: _parsed(name, said) for name, said in document.items()}
    with orm.transaction():
        for name, found in rows.items():
            if replace:
                TABLES[name].model.delete().execute()
            _enter(TABLES[name], found)
        _complete(rows)
    return {name: len(found) for name, found in rows.items()}


def listed(name: str) -> list[dict[str, Any]]:
    """Return the rows of table ``name`` as a file for ``load`` has them, in the order of their keys."""
    table = TABLES[name]
    order = [getattr(table.model, key) for key in table.keys]
    rows = table.model.select().order_by(*order)
    return [{_said(key): getattr(row, key) for key in table.columns} for row in rows]


def _parsed(name: str, said: Any) -> list[dict[str, Any]]:
    table = TABLES.get(name)
    if table is None:
        raise BadCatalogue(f"There is no table {name!r}; known are {', '.join(TABLES)}.", table=name)
    if not isinstance(said, list):
        raise BadCatalogue(f"{name} is not a list.", table=name)
    return [_row(name, table, number, one) for number, one in enumerate(said)]


def _row(name: str, table: Table, number: int, said: Any) -> dict[str, Any]:
    if not isinstance(said, dict):
        raise BadCatalogue(f"{name}[{number}] is no object.", table=name, row=number)
    row: dict[str, Any] = {}
    for key in table.columns:
        value = said.get(_said(key), said.get(key, said.get(f"{key}_id", table.defaults.get(key))))
        if key in table.keys:
            value = as_id(value)
            if not value:
                raise BadCatalogue(f"{name}[{number}] lacks {_said(key)}.", table=name, row=number, key=_said(key))
        elif value is None:
            continue
        elif key == "active":
            value = bool(value)
        elif not isinstance(value, str):
            raise BadCatalogue(f"{name}[{number}].{key} is no text.", table=name, row=number, key=key)
        elif key in ("network_id", "email_address"):
            value = value.lower()  # as Pacifica's metadata keeps them
        if isinstance(value, str) and "\0" in value:
            raise BadCatalogue(f"{name}[{number}].{key} holds a NUL character.", table=name, row=number, key=key)
        row[key] = value
    return row


def _enter(table: Table, rows: list[dict[str, Any]]) -> None:
    keys = [getattr(table.model, key) for key in table.keys]
    for row in rows:
        rest = {key: value for key, value in row.items() if key not in table.keys}
        if "updated" in table.model._meta.fields:
            rest["updated"] = orm.now()
        query = table.model.insert({**row, **rest})
        known = query.on_conflict(conflict_target=keys, update=rest) if rest else query.on_conflict_ignore()
        known.execute()


def _complete(rows: Mapping[str, list[dict[str, Any]]]) -> None:
    """Raise BadCatalogue for a relation in ``rows`` to somebody or something that is not in the catalogue."""
    for name in ("project_user", "instrument_user", "project_instrument"):
        for key, model in (("project", Project), ("user", User), ("instrument", Instrument)):
            named = sorted({row[key] for row in rows.get(name, ()) if key in row})
            for batch in batches(named, 500):
                known = {row.id for row in model.select(model.id).where(model.id.in_(batch))}
                if missing := [id for id in batch if id not in known]:
                    raise BadCatalogue(f"{name} names the unknown {key} {missing[0]!r}.", table=name, key=key)


def _said(key: str) -> str:
    """Return the name that Pacifica gives to ``key``."""
    return "_id" if key == "id" else key
