"""The header Idempotency-Key, as a draft of the IETF has it: a client's name for a request that it may send again."""

import re

from .errors import BadRequest, ServiceError

_KEY = re.compile(r'"([ !#-\[\]-~]{1,255})"|([!#-~]{1,255})')  # a string of RFC 9651, as the draft has it, or bare


class KeyReused(ServiceError):
    """This Idempotency-Key stands for another request."""

    status = 422
    code = "key_reused"


def parse(header: str | None) -> str | None:
    """Return the key that the header ``Idempotency-Key`` gives, or raise BadRequest."""
    if header is None:
        return None
    found = _KEY.fullmatch(header.strip())
    if found is None:
        raise BadRequest("Idempotency-Key: expected 1 to 255 visible characters, in quotes where there are spaces.")
    return found[1] or found[2]
