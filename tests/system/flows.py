"""Flow, as a test talks to it."""

from pathlib import Path
from typing import Any

import requests

from pacifica.tests.system.suite import Suite, until

PROCESSES = Path(__file__).parents[1] / "flow" / "processes"


class Flow:
    """The flow service of a suite."""

    def __init__(self, suite: Suite) -> None:
        self.suite, self.url = suite, f"{suite.urls['flow']}/api"

    def create(self, slug: str, input: dict[str, Any] | None = None, **more: Any) -> int:
        """Create a data object and return its id."""
        document = {"process": {"slug": slug}, "input": input or {}, **more}
        answer = requests.post(f"{self.url}/data", json=document, timeout=60)
        assert answer.status_code == 201, answer.text
        return int(answer.json()["id"])

    def get(self, id: int, part: str = "") -> Any:
        """Return a data object, or a part of it (``/stdout`` as text)."""
        answer = requests.get(f"{self.url}/data/{id}{part}", timeout=60)
        assert answer.status_code == 200, answer.text
        return answer.text if part == "/stdout" else answer.json()

    def ended(self, id: int, seconds: float = 60.0) -> Any:
        """Wait until a data object has ended, and return it."""
        return until(lambda: (data := self.get(id))["status"] in ("OK", "ER") and data, seconds, f"the end of {id}")
