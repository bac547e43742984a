"""What a run may use: what the object or its process asks for, what the site gives by default and allows at most."""

from collections.abc import Mapping

from .config import settings
from .definition import Definition

MIB = 1 << 20
STORAGE_GIB = 10  # where nobody says anything


def effective(definition: Definition, override: Mapping[str, int]) -> dict[str, int]:
    """Return cores, memory (MB) and storage (GiB) of a run of ``definition``.

    The object's ``override`` comes first, then the settings' own for this process, then the definition, then the
    defaults; the site's maxima cap them all.
    """
    flow = settings().flow
    asked = {"cores": flow.cores, "memory": flow.memory_bytes // MIB, "storage": STORAGE_GIB}
    asked |= definition.requirements.get("resources", {})
    asked |= _of_site(flow.resources, definition.slug)
    asked |= override
    return {
        "cores": min(asked["cores"], flow.max_cores),
        "memory": min(asked["memory"], flow.max_memory_bytes // MIB),
        "storage": asked["storage"],
    }


def _of_site(entries: tuple[str, ...], slug: str) -> dict[str, int]:
    found = {}
    for entry in entries:
        name, _, amount = entry.partition("=")
        process, _, key = name.rpartition(".")
        if process == slug:
            found[key] = int(amount)
    return found
