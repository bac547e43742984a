"""``/api/trigger``: the registered triggers and what they made of events (docs/flow.md#triggers)."""

from typing import Any

from ..common import rest
from . import lists
from .config import Settings
from .query import known, project
from .trigger_command import described, find, firings


class RestTrigger:
    """``/api/trigger`` and ``/api/trigger/<slug>``; registering and switching is done at the command line."""

    exposed = True

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def GET(self, name: str = "", /, **parameters: Any) -> Any:
        """Answer the list, or one trigger with ``firings``: what it made of the newest events of the caller."""
        wanted = str(parameters.get("fields", ""))
        if name:
            known(parameters)
            row, principal = find(name), rest.principal()
            owner = None if principal.administrator else principal.name
            return project(described(row) | {"firings": firings(row.slug, owner=owner)}, wanted)
        rows = lists.triggers(parameters, self.settings.flow.list_rows)
        return [project(described(row), wanted) for row in rows]
