"""One line of the table: a figure, the limit it is held against, and whether it is what we owe."""

from dataclasses import dataclass
from statistics import median
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Row:
    """A figure in ``unit``.  ``limit`` was measured in the same run; the target is on their ratio where there is one.

    ``sense`` says whether the target is the most or the least that is allowed; no target: told for information.
    """

    job: str
    deployment: str
    figure: float
    unit: str
    limit: float | None = None
    limit_name: str = ""
    target: float | None = None
    sense: Literal["most", "least"] = "most"

    @property
    def judged(self) -> float:
        """What the target is about."""
        return self.figure / self.limit if self.limit else self.figure

    @property
    def met(self) -> bool:
        """Whether we give what we owe."""
        if self.target is None:
            return True
        return self.judged <= self.target if self.sense == "most" else self.judged >= self.target

    def cells(self) -> tuple[str, ...]:
        """Return the words of the table's columns."""
        limit = f"{self.limit:.3g} {self.unit} ({self.limit_name})" if self.limit else ""
        ratio = f"{self.judged:.2f} x" if self.limit else ""
        owed = ""
        if self.target is not None:
            owed = f"{'<=' if self.sense == 'most' else '>='} {self.target:g} {'x' if self.limit else self.unit}"
        verdict = "" if self.target is None else "met" if self.met else "**missed**"
        return self.job, self.deployment, f"{self.figure:.3g} {self.unit}", limit, ratio, owed, verdict


COLUMNS = ("job", "deployment", "measured", "limit", "ratio", "owed", "")


def middle(figures: list[float]) -> float:
    """Return the median."""
    return median(figures)
