"""Formats of files, ours and those of plug-ins."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pacifica.datasafe import formats


def written(folder: Path, **files: str) -> list[Path]:
    paths = [folder / f"test.{suffix}" for suffix in files]
    for path, content in zip(paths, files.values(), strict=True):
        path.write_text(content)
    return paths


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"DSC": "", "dta": ""}, "Bruker BES3T"), ({"PAR": "DOS  Format\n", "spc": ""}, "Bruker EMX"),
        ({"par": "JSS 0\n"}, "Bruker ESP"), ({"XML": "<?xml?>\n<ESRXmlFile a='1'>\n"}, "Magnettech XML"),
        ({"csv": "Name,x\n\nRecipe,y\n"}, "Magnettech CSV"), ({"csv": "a,b"}, "undetected"),
        ({"dat": "\xff"}, "undetected"),
    ],
)  # fmt: skip
def test_spectrometers_are_known(tmp_path: Path, files: dict[str, str], found: str) -> None:
    assert formats.detect(written(tmp_path, **files), []) == (found, [])


@pytest.mark.parametrize(
    ("suffix", "content", "found"),
    [
        ("info", "cwEPR Info file - v. 0.1.4 (2020-01-21)\nx", ("cwEPR Info file", "0.1.4")),
        ("info", "nothing of the kind", ("test", "0.1.0")), ("info", "", ("test", "0.1.0")),
        ("yaml", "format: {type: meta, version: 1.0}", ("meta", "1.0")), ("yml", "[1]", ("test", "0.1.0")),
        ("yaml", "a: [", ("test", "0.1.0")), ("txt", "x", ("test", "0.1.0")),
    ],
)  # fmt: skip
def test_metadata_say_what_they_are(tmp_path: Path, suffix: str, content: str, found: tuple[str, str]) -> None:
    assert formats.metadata_format(written(tmp_path, **{suffix: content})[0]) == found


class Sure:
    """A detector that knows everything, and metadata in its own way, as LabInform's contract has it."""

    data_filenames: list[str]
    metadata_filenames: list[str]

    def detection_successful(self) -> bool:
        return all(Path(name).is_absolute() for name in (*self.data_filenames, *self.metadata_filenames))

    def data_format(self) -> str:
        return "sure"

    def metadata_format(self) -> list[dict[str, Any]]:
        return [
            {"name": name, "format": f"sure of {Path(name).name}", "version": 2} for name in self.metadata_filenames
        ]


class Unsure(Sure):
    """A detector that does not know the data."""

    def detection_successful(self) -> bool:
        return False


class Broken(Sure):
    """A detector that fails as LabInform's does on upper-case suffixes."""

    def detection_successful(self) -> bool:
        raise IndexError


class Forgetful(Sure):
    """A detector that fails on the metadata, as LabInform's does on a bad .info."""

    def metadata_format(self) -> list[dict[str, Any]]:
        raise ValueError("not enough values to unpack")


OURS = ("cwEPR Info file", "0.1.4")


@pytest.mark.parametrize(
    ("plugins", "found"),
    [
        ([Sure], ("sure", [("sure of test.info", "2")])), ([Broken, Sure], ("sure", [("sure of test.info", "2")])),
        ([Unsure, Sure], ("sure", [("sure of test.info", "2")])), ([Forgetful, Sure], ("sure", [OURS])),
        ([Broken], ("Bruker BES3T", [OURS])), ([Unsure], ("Bruker BES3T", [OURS])),
    ],
)  # fmt: skip
def test_the_first_plugin_that_knows_the_data_describes_the_metadata_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plugins: list[type], found: object
) -> None:
    points = [SimpleNamespace(name=f"p{at}", load=lambda kind=kind: kind) for at, kind in enumerate(plugins)]
    monkeypatch.setattr(formats, "entry_points", lambda group: points if group == "labinform_fileformats" else [])
    metadata = written(tmp_path, info="cwEPR Info file - v. 0.1.4 (2020-01-21)")
    assert formats.detect(written(tmp_path, dsc="", dta=""), metadata) == found


REAL = """
import importlib.util, json, sys
from importlib.metadata import entry_points
from pathlib import Path
spec = importlib.util.spec_from_file_location("formats", sys.argv[1])
formats = importlib.util.module_from_spec(spec)
spec.loader.exec_module(formats)
assert [point.value for point in entry_points(group=formats.GROUP)] == ["datasafe.manifest:EPRFormatDetector"]
formats._epr = lambda paths: "ours"  # so that it is seen who answers
for data in (["t.par", "t.spc"], ["T.PAR"]):
    print(json.dumps(formats.detect([Path(sys.argv[2], name) for name in data], [Path(sys.argv[2], "t.info")])))
"""


def test_the_published_detector_is_asked_as_it_wants_to_be(judge: Callable[..., str], tmp_path: Path) -> None:
    for name, content in (("t.par", "DOS"), ("t.spc", ""), ("T.PAR", ""), ("t.info", "Info - v. 3.1 (2020-01-21)")):
        (tmp_path / name).write_text(content)
    told = judge("-c", REAL, formats.__file__, tmp_path, cwd=tmp_path).splitlines()
    # the second one makes it fail: IndexError on an upper-case suffix
    assert [json.loads(line) for line in told] == [["Bruker EMX", [["Info", "3.1"]]], ["ours", [["Info", "3.1"]]]]


def test_an_installed_plugin_is_found(tmp_path: Path) -> None:
    facts = tmp_path / "mine-1.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1\n")
    (facts / "entry_points.txt").write_text("[labinform_fileformats]\nmine = mine:Detector\nzz = gone:Detector\n")
    (tmp_path / "mine.py").write_text(
        "class Detector:\n"
        "    def detection_successful(self): return True\n"
        "    def data_format(self): return 'mine'\n"
        "    def metadata_format(self): return [dict(name=n, format='f', version='v') for n in self.metadata_filenames]"
    )
    program = (
        "from pathlib import Path; from pacifica.datasafe import formats; "
        "print(formats.detect([Path('/x/a')], [Path('/x/b.info')]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.stdout == "Formats(data='mine', metadata=[('f', 'v')])\n", done.stderr
