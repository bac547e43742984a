"""What a run may use: what the object or its process asks for, what the site gives by default and allows at most."""

from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from ..common.errors import BadConfiguration
from .config import settings
from .definition import Definition

MIB = 1 << 20
STORAGE_GIB = 10  # where nobody says anything
ESTIMATORS = "pacifica.flow.estimators"  # the group of entry points of a site's own functions
Estimator = Callable[[str, Mapping[str, Any]], Mapping[str, int]]


def effective(definition: Definition, override: Mapping[str, int], values: Mapping[str, Any]) -> dict[str, int]:
    """Return cores, memory (MB) and storage (GiB) of a run of ``definition`` on the input ``values``.

    The object's ``override`` comes first, then the settings' own for this process, then the site's estimators, then
    the definition, then the defaults; the site's maxima cap them all.
    """
    flow = settings().flow
    asked = {"cores": flow.cores, "memory": flow.memory_bytes // MIB, "storage": STORAGE_GIB}
    asked |= definition.requirements.get("resources", {})
    for name, estimate in _estimators().items():
        asked |= _sound(name, estimate(definition.slug, values))
    asked |= _of_site(flow.resources, definition.slug)
    asked |= override
    return {
        "cores": int(min(asked["cores"], flow.max_cores)),
        "memory": int(min(asked["memory"], flow.max_memory_bytes // MIB)),
        "storage": int(min(asked["storage"], flow.max_storage_bytes >> 30)),
    }


@cache
def _estimators() -> dict[str, Estimator]:
    """Return the functions that installed packages offer, by name, in its order; later ones win."""
    return {point.name: point.load() for point in sorted(entry_points(group=ESTIMATORS), key=lambda one: one.name)}


def _sound(name: str, found: Any) -> dict[str, int]:
    is_known = isinstance(found, Mapping) and set(found) <= {"cores", "memory", "storage"}
    if not is_known or not all(type(amount) is int and amount > 0 for amount in found.values()):
        raise BadConfiguration(f"The estimator {name} gives {found!r:.100}: not cores, memory and storage above 0")
    return dict(found)


def _of_site(entries: tuple[str, ...], slug: str) -> dict[str, int]:
    found = {}
    for entry in entries:
        name, _, amount = entry.partition("=")
        process, _, key = name.rpartition(".")
        if process == slug:
            found[key] = int(amount)
    return found
