"""With the settings that an administrator finds: a job whose worker was killed goes on within a lease and a sweep."""

from pathlib import Path
from typing import Any

from pacifica.common.sections import Worker
from pacifica.tests.system.crash import Mortal, MortalScaled

STEP = "pacifica.ingest.archiving:check after 1"
PROMISED = Worker().lease_seconds + Worker().sweep_seconds  # docs/reliability.md
WORK = 20.0  # what the job itself, and the question whether it is done, may take on a machine that is busy


def test_a_killed_suite_goes_on_within_a_lease_and_a_sweep(tmp_path: Path) -> None:
    mortal = Mortal(tmp_path / "data", [STEP.split()[0]], hurried=False)
    try:
        mortal.start()
        job = mortal.dies(f"call {STEP}") or 1
        mortal.start()
        assert mortal.finished(job, PROMISED + WORK)["state"] == "OK"
        mortal.settled()
    finally:
        mortal.kill()


def test_a_killed_worker_goes_on_within_a_lease_and_a_sweep(postgres: Any, rabbitmq: Any, tmp_path: Path) -> None:
    calls = [STEP.split()[0]]
    mortal = MortalScaled(tmp_path / "data", postgres.create_database(), rabbitmq.create_vhost(), calls, hurried=False)
    mortal.services = ("ingest", "datasafe")
    try:
        mortal.start()
        job = mortal.dies(f"call {STEP}", main=True) or 1
        assert mortal.finished(job, PROMISED + WORK)["state"] == "OK"
        mortal.settled()
    finally:
        mortal.kill()
