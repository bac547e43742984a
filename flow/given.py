"""What a request may say of a data object: read and refused here, before anything is stored."""

from typing import Any

from ..common.errors import BadRequest
from .orm import Data

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
        "slug": free_slug(text(given, "slug", 100)),
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


def free_slug(slug: str | None) -> str | None:
    """Return ``slug``; BadRequest when another object has it."""
    if slug is not None and Data.select().where(Data.slug == slug).exists():
        raise BadRequest(f"The slug {slug} is taken.", slug=slug)
    return slug


def tags(value: Any) -> list[str]:
    """Return a list of tags, or raise BadRequest."""
    if not isinstance(value, list) or not all(isinstance(tag, str) and 0 < len(tag) <= 255 for tag in value):
        raise BadRequest("tags must be a list of texts of at most 255 characters.")
    return value


def resources(value: Any) -> dict[str, int]:
    """Return overrides of cores, memory (MB) and storage (GiB), or raise BadRequest."""
    is_known = isinstance(value, dict) and set(value) <= {"cores", "memory", "storage"}
    if not is_known or not all(type(number) is int and number > 0 for number in value.values()):
        raise BadRequest("resources holds cores, memory (MB) and storage (GiB), whole numbers above 0.")
    return value
