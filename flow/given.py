"""What a request may say of a data object: read and refused here, before anything is stored."""

from typing import Any

from ..common.errors import BadRequest
from . import slug

MAX_TAGS = 100
KEYS = frozenset({"process", "input", "name", "slug", "tags", "resources", "reuse"})


def document(given: Any) -> dict[str, Any]:
    """Return the document of a new object; BadRequest names the keys that are unknown."""
    if not isinstance(given, dict):
        raise BadRequest("The document must be an object.")
    unknown = set(given) - KEYS
    if unknown:
        raise BadRequest("There is no such key in a data object.", keys=sorted(unknown))
    return given


def options(given: dict[str, Any]) -> dict[str, Any]:
    """Return what a new object is given beside its process and its input, as ``creation.create`` takes it."""
    if not isinstance(given.get("reuse", True), bool):
        raise BadRequest("reuse must be true or false.")
    return {
        "name": text(given, "name", 100),
        "slug": slug.free(text(given, "slug", 100)),
        "tags": tags(given.get("tags", [])),
        "resources": resources(given.get("resources", {})),
        "reuse": given.get("reuse", True),
    }


def text(given: dict[str, Any], key: str, most: int) -> str | None:
    """Return the text under ``key``, None without one; BadRequest beyond ``most`` characters."""
    value = given.get(key)
    if value is not None and (not isinstance(value, str) or not 0 < len(value) <= most or not value.isprintable()):
        raise BadRequest(f"{key} must be printable text of at most {most} characters.", key=key)
    return value


def tags(value: Any) -> list[str]:
    """Return a list of tags, or raise BadRequest."""
    if not isinstance(value, list) or len(value) > MAX_TAGS or not all(map(_is_tag, value)):
        raise BadRequest(f"tags must be a list of at most {MAX_TAGS} printable texts of at most 255 characters.")
    return value


def _is_tag(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 255 and value.isprintable()


def overrides(given: dict[str, Any]) -> dict[int, dict[str, int]]:
    """Return the ``resource_overrides`` of a restart, by id; BadRequest for what is none, and for any other key."""
    value = given.get("resource_overrides", {})
    if set(given) - {"resource_overrides"} or not isinstance(value, dict):
        raise BadRequest("A restart takes resource_overrides: an object of resources by id.")
    if not all(id.isascii() and id.isdecimal() and len(id) < 19 for id in value):
        raise BadRequest("resource_overrides are named by id.")
    return {int(id): resources(asked) for id, asked in value.items()}


def resources(value: Any) -> dict[str, int]:
    """Return overrides of cores, memory (MB) and storage (GiB), or raise BadRequest."""
    is_known = isinstance(value, dict) and set(value) <= {"cores", "memory", "storage"}
    if not is_known or not all(type(number) is int and number > 0 for number in value.values()):
        raise BadRequest("resources holds cores, memory (MB) and storage (GiB), whole numbers above 0.")
    return value
