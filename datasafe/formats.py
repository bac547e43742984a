"""Which format a dataset's files have: detectors from entry points, then the EPR formats that LabInform knows.

A detector is what LabInform's plug-ins are: a class, entry-point group ``labinform_fileformats``, whose objects take
``data_filenames`` and ``metadata_filenames`` (ours are absolute: no change of the working directory) and offer
``detection_successful()`` and ``data_format()``.
"""

import logging
from collections.abc import Iterator, Sequence
from importlib.metadata import entry_points
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

GROUP = "labinform_fileformats"
UNDETECTED = "undetected"
UNKNOWN_METADATA = ("test", "0.1.0")  # LabInform's words for a metadata file that it does not know
METADATA_EXTENSIONS = (".info", ".yaml")  # LabInform's client takes these for metadata, the rest for data
HEAD_BYTES = 64 << 10  # a format shows in its first lines

log = logging.getLogger(__name__)


def data_format(paths: Sequence[Path]) -> str:
    """Return the format of the data files at ``paths``, or ``undetected``; the first detector that knows wins."""
    for detector in _detectors():
        found = _ask(detector, paths)
        if found:
            return found
    return _epr(paths) or UNDETECTED


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
        except (ImportError, AttributeError) as error:
            log.warning("format detector %s cannot be loaded: %s", point.name, error)


def _ask(detector: tuple[str, Any], paths: Sequence[Path]) -> str:
    """Return what a detector of somebody else says; one that raises knows nothing."""
    name, make = detector
    try:
        asked = make()
        asked.data_filenames = [str(path) for path in paths]
        return str(asked.data_format() or "") if asked.detection_successful() else ""
    except Exception as error:  # noqa: BLE001 - foreign code: the dataset is described without it
        log.warning("format detector %s failed: %s", name, error)
        return ""


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
