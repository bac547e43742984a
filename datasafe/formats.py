"""Which format a dataset's files have: detectors from entry points, then the formats that LabInform knows.

A detector is what LabInform's plug-ins are: a class, entry-point group ``labinform_fileformats``, whose objects take
``data_filenames`` and ``metadata_filenames`` and offer ``detection_successful()``, ``data_format()`` and
``metadata_format()`` (a list of maps with ``name``, ``format``, ``version``).  The first that is successful describes
data and metadata.  The names that we give are absolute: the working directory is never changed.
"""

import logging
from collections.abc import Iterator, Sequence
from importlib.metadata import entry_points
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import yaml

GROUP = "labinform_fileformats"
UNDETECTED = "undetected"
UNKNOWN_METADATA = ("test", "0.1.0")  # LabInform's words for a metadata file that it does not know
METADATA_EXTENSIONS = (".info", ".yaml")  # LabInform's client takes these for metadata, the rest for data
HEAD_BYTES = 64 << 10  # a format shows in its first lines

log = logging.getLogger(__name__)


class Formats(NamedTuple):
    """What a dataset's files are: the data as a whole, and (format, version) of each metadata file in its order."""

    data: str
    metadata: list[tuple[str, str]]


def detect(data: Sequence[Path], metadata: Sequence[Path]) -> Formats:
    """Return what the files at these absolute paths are; the first detector that knows the data wins."""
    for detector in _detectors():
        found = _ask(detector, data, metadata)
        if found:
            return found
    return Formats(_epr(data) or UNDETECTED, [metadata_format(path) for path in metadata])


def metadata_format(path: Path) -> tuple[str, str]:
    """Return format and version of the metadata file at ``path``; ("test", "0.1.0") when it does not say."""
    if path.suffix == ".info":
        return _info(path) or UNKNOWN_METADATA
    if path.suffix in (".yaml", ".yml"):
        return _yaml(path) or UNKNOWN_METADATA
    return UNKNOWN_METADATA


def is_metadata(name: str) -> bool:
    """Say whether LabInform's client takes a file of this name for metadata."""
    return name.endswith(METADATA_EXTENSIONS)


def _detectors() -> Iterator[tuple[str, Any]]:
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        try:
            yield point.name, point.load()
        except Exception as error:  # noqa: BLE001 - foreign code: whatever its import raises, the dataset is described
            log.warning("format detector %s cannot be loaded: %s", point.name, error)


def _ask(detector: tuple[str, Any], data: Sequence[Path], metadata: Sequence[Path]) -> Formats | None:
    """Return what a detector of somebody else says; one that raises knows nothing."""
    name, make = detector
    try:
        asked = make()
        asked.data_filenames = [str(path) for path in data]
        asked.metadata_filenames = [str(path) for path in metadata]
        found = str(asked.data_format() or "") if asked.detection_successful() else ""
    except Exception as error:  # noqa: BLE001 - foreign code: the dataset is described without it
        log.warning("format detector %s failed: %s", name, error)
        return None
    return Formats(found, _told(name, asked, metadata)) if found else None


def _told(name: str, asked: Any, metadata: Sequence[Path]) -> list[tuple[str, str]]:
    """Return what a detector says of the metadata; what it does not say, or cannot, is found out here."""
    try:
        told = {str(one["name"]): (str(one["format"]), str(one["version"])) for one in asked.metadata_format()}
    except Exception as error:  # noqa: BLE001 - foreign code, as above
        log.warning("format detector %s failed on the metadata: %s", name, error)
        told = {}
    return [told.get(str(path)) or told.get(path.name) or metadata_format(path) for path in metadata]


def _epr(paths: Sequence[Path]) -> str:
    """Detect the formats of electron paramagnetic resonance spectrometers."""
    by_suffix = {path.suffix.lower(): path for path in reversed(paths)}
    if ".dsc" in by_suffix and ".dta" in by_suffix:
        return "Bruker BES3T"
    if ".par" in by_suffix:
        return "Bruker EMX" if "DOS" in _lines(by_suffix[".par"], 1)[0] else "Bruker ESP"
    if ".xml" in by_suffix and _lines(by_suffix[".xml"], 2)[1].startswith("<ESRXmlFile"):
        return "Magnettech XML"
    if ".csv" in by_suffix:
        first, _, third = _lines(by_suffix[".csv"], 3)
        if first.startswith("Name,") and third.startswith("Recipe"):
            return "Magnettech CSV"
    return ""


def _info(path: Path) -> tuple[str, str] | None:
    """Read ``NAME - v. VERSION (DATE)`` from the first line."""
    parts = _lines(path, 1)[0].split(" - ")
    words = parts[1].split() if len(parts) > 1 else []
    return (parts[0].strip(), words[1]) if len(words) == 3 else None


def _yaml(path: Path) -> tuple[str, str] | None:
    """Read ``format.type`` and ``format.version``."""
    try:
        with path.open("rb") as file:
            tree = yaml.safe_load(file.read(HEAD_BYTES * 16))
        return str(tree["format"]["type"]), str(tree["format"]["version"])
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, RecursionError):
        return None


def _lines(path: Path, count: int) -> list[str]:
    """Return the first ``count`` lines, empty where the file has fewer; any bytes are taken."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES).decode("utf-8", "replace").splitlines()
    return [*islice(head, count), *[""] * (count - len(head))]
