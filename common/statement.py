"""Statements on one row, spelt here: peewee takes longer to spell one than PostgreSQL to execute it.

Columns are told by their fields' names; a value is what peewee takes, an expression such as ``orm.now() + 5`` included.
Conditions are text with ``?`` placeholders, and come with their parameters.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import peewee

from . import orm

M = TypeVar("M", bound=orm.Model)


def insert(model: type[M], columns: Mapping[str, Any]) -> M:
    """Insert a row of ``columns``, the others at their defaults, and return it as the database holds it."""
    fields = model._meta.fields
    others = {name: field for name, field in fields.items() if name not in columns and field.default is not None}
    given = {name: _default(field) for name, field in others.items()} | dict(columns)
    texts, values = _texts(model, given)
    names = ", ".join(f'"{fields[name].column_name}"' for name in given)
    sql = f'INSERT INTO "{model._meta.table_name}" ({names}) VALUES ({", ".join(texts)}) RETURNING {_all(model)}'
    return _loaded(model, orm.rows(sql, *values)[0])


def update(
    model: type[M], columns: Mapping[str, Any], where: str, *params: Any, beside: tuple[str, tuple[Any, ...]] = ("", ())
) -> dict[str, Any] | None:
    """Set ``columns`` of the row ``where``, and return them as the database holds them; None where there is no row.

    ``beside`` is an INSERT ... SELECT, and its parameters, that happens where there is one, in the same statement; only
    PostgreSQL knows how.
    """
    fields = [model._meta.fields[name] for name in columns]
    found = _update(model, columns, where, params, ", ".join(f'"{field.column_name}"' for field in fields), beside)
    if not found:
        return None
    return {field.name: field.python_value(value) for field, value in zip(fields, found[0], strict=True)}


def take(
    model: type[M], columns: Mapping[str, Any], where: str, *params: Any, also: str = "NULL",
    beside: tuple[str, tuple[Any, ...]] = ("", ()),
) -> tuple[M, Any] | None:  # fmt: skip
    """Set ``columns`` of the row ``where``, and return the whole row; None where there is none.

    With it comes the value of ``also``, an expression on the row.  ``beside`` as in ``update``.
    """
    found = _update(model, columns, where, params, f"{_all(model)}, {also} AS also", beside)
    return (_loaded(model, found[0][:-1]), found[0][-1]) if found else None


def select(model: type[M], where: str, *params: Any) -> list[M]:
    """Return the rows ``where``."""
    found = orm.rows(f'SELECT {_all(model)} FROM "{model._meta.table_name}" WHERE {where}', *params)
    return [_loaded(model, row) for row in found]


def _update(
    model: type[orm.Model], columns: Mapping[str, Any], where: str, params: Sequence[Any], returning: str,
    beside: tuple[str, tuple[Any, ...]] = ("", ()),
) -> list[tuple[Any, ...]]:  # fmt: skip
    fields = model._meta.fields
    texts, values = _texts(model, columns)
    changes = ", ".join(f'"{fields[name].column_name}" = {text}' for name, text in zip(columns, texts, strict=True))
    sql = f'UPDATE "{model._meta.table_name}" SET {changes} WHERE {where} RETURNING {returning}'
    if beside[0]:
        sql = f"WITH changed AS ({sql}), other AS ({beside[0]} FROM changed) SELECT * FROM changed"
    return orm.rows(sql, *values, *params, *beside[1])


def _texts(model: type[orm.Model], columns: Mapping[str, Any]) -> tuple[list[str], list[Any]]:
    """Return each value as text with ``?``, and the parameters of all of them."""
    texts, params = [], []
    for name, value in columns.items():
        if isinstance(value, peewee.SQL) and not value.params:
            texts.append(value.sql)
        elif isinstance(value, peewee.Node):
            text, more = orm.database.get_sql_context().sql(value).query()
            texts.append(text.replace(orm.database.param, "?"))
            params += more
        else:
            texts.append("?")
            params.append(model._meta.fields[name].db_value(value))
    return texts, params


def _default(field: peewee.Field) -> Any:
    return field.default() if callable(field.default) else field.default


def _all(model: type[orm.Model]) -> str:
    if model not in _columns:
        _columns[model] = ", ".join(f'"{field.column_name}"' for field in model._meta.sorted_fields)
    return _columns[model]


_columns: dict[type[orm.Model], str] = {}


def _loaded(model: type[M], values: Iterable[Any]) -> M:
    row = model(__no_default__=1)
    row.__data__ = {
        field.name: field.python_value(value) for field, value in zip(model._meta.sorted_fields, values, strict=True)
    }
    return row
