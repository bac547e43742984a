"""Datasafe, as the commands and ``pacifica up`` start it."""

from ..common.service import Service
from .config import settings
from .orm import SCHEMA
from .report import gauges
from .rest import Root
from .tasks import app

SERVICE = Service(
    name="datasafe",
    port=8080,
    settings=settings,
    schema=SCHEMA,
    root=Root,
    worker=app,
    provides={
        "archive": "/archive",
        "policy": "/policy",
        "metadata": "/metadata",
        "uniqueid": "/uniqueid",
        "datasets": "/api",
        "catalog": "/catalog",
    },
    watched=[gauges],
)
