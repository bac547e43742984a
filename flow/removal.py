"""Taking a data object away: its files, its annotations, its logs; what waits for it fails."""

from ..common import orm
from ..common.errors import Conflict, IllegalMove
from ..common.volume import Volume
from . import annotating, dispatch, logs
from .keeping import withdraw
from .orm import Data, Dependency


def remove(data: Data, volume: Volume) -> None:
    """Delete an object that has ended, with its files; nothing is left to do where another has deleted it meanwhile.

    Conflict for one that has not ended, IllegalMove for one that was sent through again since ``data`` was read.
    """
    if data.state not in Data.FINAL:
        raise Conflict("Only an object that has ended can be deleted; cancel it first.", id=data.id, status=data.state)
    try:
        children = _take_away(data)
    except IllegalMove:
        if Data.get_or_none(Data.id == data.id) is not None:
            raise
        return
    logs.forget(volume, data)
    for child in children:
        dispatch.settle(child)


def _take_away(data: Data) -> list[int]:
    """Delete an object that is as it was read; return the children that wait for it."""
    withdraw(data, data.fence)
    with orm.transaction():
        data.fence()
        annotating.withdraw(data)
        waits = (Dependency.parent == data.id) & (Dependency.kind == "io")
        children = [row.child for row in Dependency.select().where(waits)]
        Dependency.update(parent=None).where(Dependency.parent == data.id).execute()
        Dependency.delete().where(Dependency.child == data.id).execute()
        Data.delete().where(Data.id == data.id).execute()
    return children


def started_by(data: Data) -> list[Data]:
    """Return all that ``data`` started, by ``re-run`` or as its steps, what these started included; the last first."""
    found: dict[int, Data] = {}
    todo = [data.id]
    while todo:
        links = (Dependency.parent == todo.pop()) & (Dependency.kind == "subprocess")
        for row in Data.select().join(Dependency, on=(Dependency.child == Data.id)).where(links).order_by(Data.id):
            if row.id not in found:
                found[row.id] = row
                todo.append(row.id)
    return sorted(found.values(), key=lambda row: -row.id)
