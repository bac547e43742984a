"""What every service is made of, told once, so that the commands and ``pacifica up`` can start any of them.

A service declares one ``Service`` in its room ``service`` and lists it under the entry-point group
``pacifica.services``; nothing on this floor names a service.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import entry_points
from typing import Any

import celery
import cherrypy

from . import memory, orm
from .config import Reader
from .errors import SchemaMismatch
from .health import Check, database_answers, volume_has_room
from .metrics import Source, of_process, of_work
from .monitor import Metrics
from .openapi import Docs, OpenApi
from .outbox import configure
from .rest import application
from .schema import Schema
from .volume import Volume, open_volume


@dataclass(frozen=True, kw_only=True, eq=False)
class Service:
    """One of the suite's services: how it is configured, stored, served and worked for."""

    name: str
    port: int
    address: str = "127.0.0.1"
    settings: Reader[Any]
    schema: Schema
    root: Callable[[Any, Volume], object]  # the CherryPy tree for settings and volume
    worker: celery.Celery | None = None
    provides: Mapping[str, str] = field(default_factory=dict)  # name in `up --json` -> path
    watched: Sequence[Source] = ()  # figures of its own for /metrics

    @cached_property
    def volume(self) -> Volume:
        """The archive volume of the configuration in force."""
        return open_volume(self.settings().archive)

    def connect(self, *, create: bool = False) -> None:
        """Connect to the database, or raise DatabaseAway.

        SchemaMismatch, saying which configuration was looked for, when it is a file that is absent and not to be made.
        """
        connect(self.settings, f"pacifica-{self.name}-cmd dbsync", create=create)

    def require_schema(self) -> None:
        """Raise SchemaMismatch, saying what to do, when the database cannot be used by this version."""
        if not self.schema.check():
            raise SchemaMismatch(
                f"The database is not at the schema of this version: run pacifica-{self.name}-cmd dbsync."
            )

    def application(self) -> cherrypy.Application:
        """Return the WSGI application; the database must be reachable and at this version's schema."""
        memory.restrain()
        self.connect()
        self.require_schema()
        settings = self.settings()
        configure(settings.celery.broker_url)
        checks: list[Check] = [database_answers, volume_has_room(self.volume)]
        root: Any = self.root(settings, self.volume)
        root.metrics = Metrics([of_process(self.name, self.volume), of_work(self.schema.models), *self.watched])
        root.docs = Docs(self.name)
        setattr(root, "openapi.yaml", OpenApi(self.name))
        made = application(root, settings, service=self.name, checks=checks)
        memory.settle()
        return made


def connect(settings: Reader[Any], maker: str, *, create: bool = False) -> None:
    """Connect to the database of ``settings``, as ``Service.connect`` does; ``maker`` is the command that makes one."""
    try:
        orm.connect(settings().database, create=create)
    except SchemaMismatch as error:
        raise SchemaMismatch(f"{error.message} {settings.told()} A new database is made by {maker}.") from error


def services() -> list[Service]:
    """Return the installed services in the order of their names."""
    return [point.load() for point in sorted(entry_points(group="pacifica.services"), key=lambda point: point.name)]
