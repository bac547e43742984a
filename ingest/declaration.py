"""One file as metadata.txt declares it: where it should lie, what it should hash to, when it was made.

Each function takes what stands in an entry and returns what the suite keeps, or raises the falsehood that it is.
"""

import hashlib
import re
from datetime import datetime

from ..common.metadata import MIMETYPES
from .account import shown
from .falsehood import BadHashsum, BadMimetype, BadPath, BadTime, UnknownHashtype, VariableHashtype
from .limits import Limits
from .misnomer import NameFault
from .name import DATA, checked

_MIMETYPE = re.compile(r"([A-Za-z]+)/[A-Za-z0-9!#$&^_.+-]{1,127}(;[ -~]{0,200})?", re.ASCII)
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:?\d\d)?", re.ASCII)
_EPOCH = datetime(1970, 1, 1)  # without a zone, as most times come: they mean UTC
_HEX = re.compile(r"[0-9a-f]+", re.ASCII)


def _hex_lengths() -> dict[str, int]:
    """Return the length in hex of every digest that hashlib computes here and that has a length of its own."""
    found = {}
    for name in hashlib.algorithms_available:
        try:
            size = hashlib.new(name).digest_size
        except ValueError:  # OpenSSL lists it, but its provider is not loaded
            continue
        if size:
            found[name.lower()] = 2 * size
    return found


HASHTYPES = _hex_lengths()


def data_path(subdir: str, name: str, limits: Limits) -> str:
    """Return the member that ``subdir`` and ``name`` mean, by Pacifica's rule; BadPath when no member may be named so.

    The rule: ``data/`` and the parts of both, without empty ones, and without one leading ``data`` unless it is all.
    """
    joined = f"{subdir}/{name}" if subdir else name
    if not name or name.endswith("/") or joined.startswith("/"):
        raise BadPath(file=shown(joined))
    parts = [part for part in joined.split("/") if part]
    if len(parts) > 1 and parts[0] == DATA:
        del parts[0]
    try:
        return checked("/".join([DATA, *parts]), limits)
    except NameFault as error:
        raise BadPath(f"The subdir and name of a file are no path: {error.message}", file=shown(joined)) from None


def digest(hashtype: str, hashsum: str, file: str) -> tuple[str, str]:
    """Return hashtype and hashsum as the suite keeps them: lower case, without the prefix ``<hashtype>:``."""
    kind, width = hashtype, HASHTYPES.get(hashtype)
    if width is None:
        kind = hashtype.lower()
        width = HASHTYPES.get(kind)
        if kind.startswith("shake"):
            raise VariableHashtype(file=file, hashtype=shown(hashtype))
        if width is None:
            raise UnknownHashtype(file=file, hashtype=shown(hashtype))
    found = hashsum.lower().removeprefix(kind + ":")
    if len(found) != width or not _HEX.fullmatch(found):
        raise BadHashsum(file=file, hashtype=kind, hashsum=shown(hashsum))
    return kind, found


def check_mimetype(mimetype: str, file: str) -> None:
    """Raise BadMimetype unless the catalogue takes ``mimetype``."""
    form = _MIMETYPE.fullmatch(mimetype)
    if not form or form[1].lower() not in MIMETYPES:
        raise BadMimetype(file=file, mimetype=shown(mimetype))


def moment(text: str, path: str) -> float:
    """Return the epoch seconds of an ISO date and time, UTC where it names no offset; BadTime when it is none."""
    try:
        if not _TIME.fullmatch(text):
            raise ValueError
        when = datetime.fromisoformat(text)
        return when.timestamp() if when.tzinfo else (when - _EPOCH).total_seconds()
    except (ValueError, OverflowError):
        raise BadTime(file=shown(path), time=shown(text)) from None
