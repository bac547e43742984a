"""Flow, as the commands and ``pacifica up`` start it."""

from ..common.service import Service
from .config import settings
from .orm import SCHEMA
from .rest import Root
from .tasks import app

SERVICE = Service(name="flow", port=8069, settings=settings, schema=SCHEMA, root=Root, worker=app)
