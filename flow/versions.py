"""Processes by id or by name, in their versions."""

from ..common import orm
from ..common.errors import BadRequest, NotFound
from .definition import Version
from .orm import Process


def order_of(version: Version) -> int:
    """Return a version as a number that sorts like it."""
    return (version.major * 1000 + version.minor) * 1000 + version.patch


def registered(id: int, modified: float | None = None) -> Process:
    """Return the process ``id``; read again, and its definition with it, only when it was registered anew.

    ``modified`` is when that was last, for who knows it already.
    """
    if modified is None:
        found = orm.rows("SELECT modified FROM process WHERE id = ?", id)
        modified = found[0][0] if found else None
    held = _registered.get(id)
    if held is None or held.modified != modified:
        _registered[id] = held = Process.get_by_id(id)
    return held


_registered: dict[int, Process] = {}


def newest(slug: str) -> Process:
    """Return the newest active version of process ``slug``; NotFound without any, BadRequest without an active one."""
    held = list(Process.select().where(Process.slug == slug).order_by(Process.order.desc()))
    active = [process for process in held if process.is_active]
    if not held:
        raise NotFound(f"There is no process {slug!r:.120}.", process=slug)
    if not active:
        raise inactive(held[0])
    return active[0]


def inactive(process: Process) -> BadRequest:
    """Return what is raised where a process that was retired is to be run."""
    return BadRequest(f"The process {process.slug} is no longer active.", process=process.slug)
