"""The form of what the suite tells the world: CloudEvents 1.0, structured JSON (``docs/events.md``)."""

import json
import uuid
from typing import Any

from .moment import zulu

TYPES = frozenset(
    {
        "pacifica.ingest.archived",
        "pacifica.ingest.failed",
        "pacifica.cart.ready",
        "pacifica.cart.failed",
        "pacifica.dataset.stored",
        "pacifica.dataset.damaged",
        "pacifica.flow.done",
        "pacifica.flow.failed",
    }
)


def event(type: str, subject: str, data: dict[str, Any], *, source: str, moment: float) -> tuple[str, str]:
    """Return the id and the JSON text of an event that happened at ``moment`` (epoch seconds).

    ValueError for a type that docs/events.md does not list.
    """
    if type not in TYPES:
        raise ValueError(f"{type} is not an event of the suite")
    id = str(uuid.uuid4())
    envelope = {
        "specversion": "1.0",
        "id": id,
        "source": source,
        "type": type,
        "subject": subject,
        "time": zulu(moment),
        "datacontenttype": "application/json",
        "data": data,
    }
    return id, json.dumps(envelope, ensure_ascii=False, allow_nan=False)
