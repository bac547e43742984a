"""Formats of files, ours and those of plug-ins."""

from pathlib import Path
from types import SimpleNamespace

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
    assert formats.data_format(written(tmp_path, **files)) == found


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
    """A detector that knows everything."""

    data_filenames: list[str]

    def detection_successful(self) -> bool:
        return Path(self.data_filenames[0]).is_absolute()

    def data_format(self) -> str:
        return "sure"


class Broken(Sure):
    """A detector that fails as LabInform's does on upper-case suffixes."""

    def detection_successful(self) -> bool:
        raise IndexError


@pytest.mark.parametrize(("plugins", "found"), [([Sure], "sure"), ([Broken, Sure], "sure"), ([Broken], "Bruker BES3T")])
def test_plugins_come_first_and_a_broken_one_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plugins: list[type], found: str
) -> None:
    points = [SimpleNamespace(name=f"p{at}", load=lambda kind=kind: kind) for at, kind in enumerate(plugins)]
    monkeypatch.setattr(formats, "entry_points", lambda group: points if group == "labinform_fileformats" else [])
    assert formats.data_format(written(tmp_path, dsc="", dta="")) == found
