"""Run nothing and say that it went well; for tests of all the rest."""

from collections.abc import Callable

from .channel import Call
from .executor import Outcome, Program, Workplace
from .view import View


class NullExecutor:
    """Ends every program at once with 0."""

    name = "null"

    def view(self, program: Program) -> View:
        """Return the view of the empty working directory."""
        return View("/work", program.workplace.work)

    def input_root(self, workplace: Workplace) -> str:
        """Return the directory in which inputs would lie."""
        return "/inputs"

    def run(self, program: Program, on_call: Callable[[Call], None], cancelled: Callable[[], bool]) -> Outcome:
        """Do nothing."""
        return Outcome(returncode=0, not_enforced=("everything: nothing was run",))
