"""What a run may use, and who may say so."""

import pytest

from pacifica.common.errors import BadConfiguration
from pacifica.flow import resources
from pacifica.flow.definition import Definition, Version

MODULE = """
def estimate(slug, values):
    return {"memory": 10 * values["reads"], "storage": 3} if slug == "align" else {}

def wrong(slug, values):
    return {"memory": 1.5} if slug == "wrong" else {}
"""


def definition(slug):
    asked = {"resources": {"cores": 4, "memory": 100}}
    return Definition(slug=slug, name="A", version=Version(1), type="data:a:", requirements=asked)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package with two estimators, installed as pip does it."""
    (tmp_path / "site_estimates.py").write_text(MODULE)
    about = tmp_path / "site_estimates-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: site-estimates\nVersion: 1.0\n")
    points = "[pacifica.flow.estimators]\nreads = site_estimates:estimate\nwrong = site_estimates:wrong\n"
    (about / "entry_points.txt").write_text(points)
    monkeypatch.syspath_prepend(tmp_path)
    resources._estimators.cache_clear()
    yield
    resources._estimators.cache_clear()


def test_an_estimate_comes_before_the_definition_and_after_what_the_object_is_given(installed):
    reads = {"reads": 50}
    assert resources.effective(definition("align"), {}, reads) == {"cores": 4, "memory": 500, "storage": 3}
    assert resources.effective(definition("align"), {"memory": 7}, reads)["memory"] == 7
    assert resources.effective(definition("align"), {}, {"reads": 10**9})["memory"] == 64 << 10
    assert resources.effective(definition("sort"), {}, {}) == {"cores": 4, "memory": 100, "storage": 10}


def test_an_estimate_that_is_none_names_its_estimator(installed):
    with pytest.raises(BadConfiguration, match="The estimator wrong gives"):
        resources.effective(definition("wrong"), {}, {})
