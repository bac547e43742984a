"""What can be wrong with an uploaded dataset: named faults, and the one refusal that carries them all.

The codes are part of the contract (``docs/formats.md#faults``).  The answer also has LabInform's two words
``data`` and ``all``, so that its client returns a dictionary with false in it instead of failing on the JSON.
"""

from collections.abc import Sequence
from typing import NamedTuple

from ..common.errors import ServiceError

SHOWN = 100  # faults told to a client; the rest is a number


class Fault(NamedTuple):
    """One thing that is wrong: ``code`` for programs, ``message`` for people, ``file`` as the archive spells it."""

    code: str
    message: str
    file: str | None = None

    def shown(self) -> dict[str, str]:
        """Return the JSON object of this fault; undecodable parts of a name are escaped, never sent raw."""
        told = {"code": self.code, "message": self.message}
        if self.file is not None:
            told["file"] = self.file.encode("utf-8", "backslashreplace").decode("utf-8")
        return told


class Refused(ServiceError):
    """The upload is not a sound dataset; nothing was stored."""

    status = 422
    code = "dataset_refused"

    def __init__(self, faults: Sequence[Fault], *, data: bool = False, all: bool = False) -> None:
        """Carry ``faults`` and LabInform's verdicts ``data`` and ``all`` (false where they could not be computed)."""
        self.faults = tuple(faults)
        told = [fault.shown() for fault in self.faults[:SHOWN]]
        super().__init__(self.faults[0].message, data=data, all=all, faults=told, count=len(self.faults))


def refuse(code: str, message: str, file: str | None = None) -> Refused:
    """Make the refusal for one fault."""
    return Refused([Fault(code, message, file)])
