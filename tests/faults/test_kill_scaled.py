"""Web process, worker child and worker main process killed with -9 at each step of a job: it ends once in effect."""

from collections.abc import Iterator
from typing import Any

import pytest

from pacifica.tests.system.crash import MortalScaled

WEB = [
    "pacifica.ingest.upload:open_job after 1",
    "pacifica.ingest.upload:receive after 1",
    "pacifica.ingest.upload:Spooled.save after 1",
    "pacifica.common.state:Work.move after 1",
    "pacifica.ingest.upload:ring after 1",
    "pacifica.ingest.rest:state_object before 1",
]
WORKER = [
    "pacifica.common.state:_take before 1",
    "pacifica.common.state:_take after 1",
    "pacifica.ingest.archiving:check after 1",
    "pacifica.common.ledger:begin_pack after 1",
    "pacifica.common.pack:Sidecar.write after 1",
    "pacifica.common.volume:_link after 1",
    "pacifica.ingest.archiving:keep after 1",
    "pacifica.common.ledger:add_files after 1",
    "pacifica.common.ledger:publish after 1",
    "pacifica.ingest.archiving:record after 1",
    "pacifica.ingest.archiving:announce_archived after 1",
    "pacifica.ingest.archiving:Spooled.discard before 1",
]


@pytest.fixture(scope="module")
def mortal(postgres: Any, rabbitmq: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MortalScaled]:
    """A deployment whose processes die in each test and live on in the next, with all that it archived before."""
    data = tmp_path_factory.mktemp("mortal") / "data"
    calls = sorted({step.split()[0] for step in [*WEB, *WORKER]})
    suite = MortalScaled(data, postgres.create_database(), rabbitmq.create_vhost(), calls)
    try:
        yield suite.start()
    finally:
        suite.kill()


def ends_once(mortal: MortalScaled, step: str, main: bool = False) -> None:
    before = mortal.newest_job()
    answered = mortal.dies(f"call {step}", main)
    mortal.settled(before)
    if answered is not None:
        assert mortal.state(answered)["state"] == "OK"


@pytest.mark.parametrize("step", WEB)
def test_a_job_whose_web_process_was_killed_ends_once(mortal: MortalScaled, step: str) -> None:
    ends_once(mortal, step)


@pytest.mark.parametrize("main", [False, True], ids=["child", "main"])
@pytest.mark.parametrize("step", WORKER)
def test_a_job_whose_worker_was_killed_ends_once(mortal: MortalScaled, step: str, main: bool) -> None:
    ends_once(mortal, step, main)
