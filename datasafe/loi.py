"""Lab object identifiers: the strict grammar, and the original's words for what is wrong.

``42.<issuer>/<type>/<id>`` (reference: LabInform; where we are stricter, ``docs/formats.md#loi`` says why).
Digits are ASCII, numbers start at 1 without leading zeros, dates exist, and the grammar ends where it ends.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date

from ..common.errors import ServiceError

ROOT = "42"
LONGEST = 512  # characters; the longest dataset LOI has about 100

_NUMBER = r"[1-9][0-9]{0,17}"  # fits a 64-bit column
_METHOD = r"(?:cwepr|trepr)"
_SUBJECT = rf"(?:[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}|(?:ba|sa)/{_NUMBER})"
_SAMPLE = "(?:batch|sample|substrate|synthesis|cell|tube)"
_CALCULATION = "(?:molecule|geometry|calculation)"
_NAMED = "(?:project|publication|grant|device|chemical|person)"

_HEAD = re.compile(rf"42\.(?P<issuer>{_NUMBER})/(?P<type>ds|rec|img|info)(?:/(?P<id>.*))?", re.DOTALL)
_CREATE = re.compile(rf"(?P<series>exp/{_SUBJECT}/{_METHOD})(?:/[0-9A-Za-z_-]*)?")
_ID = {
    "ds": re.compile(rf"exp/{_SUBJECT}/{_METHOD}/{_NUMBER}|calc/(?:geo|result)/{_NUMBER}"),
    "rec": re.compile(_NUMBER),
    "img": re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]*"),
    "info": re.compile(
        rf"(?:tb|ms|jp|dm|cm)/(?:sample/{_SAMPLE}/{_NUMBER}|calculation/{_CALCULATION}/{_NUMBER}|{_NAMED}/[a-z0-9_-]+)"
    ),
}


class InvalidLoi(ServiceError):
    """String is not a valid LOI."""

    status = 404
    code = "invalid_loi"


class MissingLoi(InvalidLoi):
    """No LOI provided."""

    code = "missing_loi"


class NotDatasafeLoi(InvalidLoi):
    """LOI is not a datasafe LOI."""

    code = "not_datasafe_loi"


class NotExperimentLoi(InvalidLoi):
    """Loi ist not a valid experiment LOI."""  # so spelt by the original, and clients compare it

    code = "not_experiment_loi"


class UnknownIssuer(InvalidLoi):
    """The issuer is not one of this datasafe, so this is not a valid LOI here."""

    code = "unknown_issuer"


@dataclass(frozen=True, order=True)
class Series:
    """What numbers are counted in: everything of a dataset LOI before its last number, one per issuer."""

    issuer: str
    path: str  # such as exp/sa/42/cwepr

    def __str__(self) -> str:
        """Return ``42.<issuer>/ds/<path>``."""
        return f"{ROOT}.{self.issuer}/ds/{self.path}"

    def loi(self, number: int) -> "Loi":
        """Return the LOI of ``number`` in this series."""
        return parse(f"{self}/{number}")


@dataclass(frozen=True, order=True)
class Loi:
    """A valid LOI; make it with ``parse`` or ``dataset``."""

    issuer: str
    type: str
    id: str  # everything after the type; empty only for ``img``

    def __str__(self) -> str:
        """Return the LOI as it is written."""
        return f"{ROOT}.{self.issuer}/{self.type}" + (f"/{self.id}" if self.id else "")

    @property
    def series(self) -> Series:
        """The series of a dataset LOI."""
        return Series(self.issuer, self.id.rpartition("/")[0])

    @property
    def number(self) -> int:
        """The number of a dataset LOI in its series."""
        return int(self.id.rpartition("/")[2])


def parse(text: str) -> Loi:
    """Read a LOI of any type; MissingLoi when empty, InvalidLoi when it breaks the grammar."""
    issuer, kind, identifier = _head(text)
    if not _ID[kind].fullmatch(identifier) or not _dated(identifier, kind):
        raise InvalidLoi
    return Loi(issuer, kind, identifier)


def dataset(text: str, issuers: Collection[str] = ()) -> Loi:
    """Read the LOI of a dataset; ``issuers`` are those served here, empty for any.

    Raises what ``parse`` raises, NotDatasafeLoi for the other types, and UnknownIssuer.
    """
    loi = parse(text)
    if loi.type != "ds":
        raise NotDatasafeLoi
    _known(loi.issuer, issuers)
    return loi


def series(text: str, issuers: Collection[str] = ()) -> Series:
    """Read what a POST names: an experiment's series; a last part after the method is ignored, as the original does.

    Raises NotDatasafeLoi, NotExperimentLoi (a ``ds`` that is no ``exp``), InvalidLoi and UnknownIssuer.
    """
    issuer, kind, identifier = _head(text)
    if kind != "ds":
        parse(text)
        raise NotDatasafeLoi
    if identifier.partition("/")[0] != "exp":
        raise NotExperimentLoi
    found = _CREATE.fullmatch(identifier)
    if not found or not _dated(identifier, kind):
        raise InvalidLoi
    _known(issuer, issuers)
    return Series(issuer, found["series"])


def series_named(text: str) -> Series:
    """Read a series as ``str(Series)`` writes it (a column of the database); also those of ``calc``."""
    found = parse(f"{text}/1")
    if found.type != "ds":
        raise NotDatasafeLoi
    return found.series


def _head(text: str) -> tuple[str, str, str]:
    """Split issuer, type and id, checking everything but the id."""
    if not text:
        raise MissingLoi
    found = _HEAD.fullmatch(text) if len(text) <= LONGEST else None
    if not found or (found["id"] is None and found["type"] != "img"):
        raise InvalidLoi
    return found["issuer"], found["type"], found["id"] or ""


def _dated(identifier: str, kind: str) -> bool:
    """Say whether the date in an experiment's id, if it has one, is in the calendar."""
    second = identifier.split("/")[1] if kind == "ds" and identifier.startswith("exp/") else ""
    if "-" not in second:
        return True
    try:
        date.fromisoformat(second)
    except ValueError:
        return False
    return True


def _known(issuer: str, issuers: Collection[str]) -> None:
    if issuers and issuer not in issuers:
        raise UnknownIssuer
