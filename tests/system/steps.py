"""The steps of a job, in the order of its life: where who works on it is killed, with either kind of neighbours."""

from typing import NamedTuple

WEB, WORKER = "web", "worker"  # whose step it is
EMBEDDED, EXTERNAL = "embedded", "external"  # neighbours


class Step(NamedTuple):
    """The moment ``before`` or ``after`` the ``count``-th call of ``call``, ``<module>:<function>``."""

    who: str
    call: str
    when: str = "after"
    count: int = 1
    only: str = ""  # with neighbours of this kind

    def __str__(self) -> str:
        return f"{self.call} {self.when} {self.count}"


STEPS = [
    Step(WEB, "pacifica.ingest.upload:job_id"),
    Step(WEB, "pacifica.ingest.upload:open_job"),
    Step(WEB, "pacifica.ingest.upload:receive"),
    Step(WEB, "pacifica.ingest.upload:Spooled.save", "before"),
    Step(WEB, "pacifica.ingest.upload:Spooled.save"),
    Step(WEB, "pacifica.common.state:Work.move"),
    Step(WEB, "pacifica.ingest.upload:ring"),
    Step(WEB, "pacifica.ingest.rest:state_object", "before"),
    Step(WORKER, "pacifica.common.state:_take", "before"),
    Step(WORKER, "pacifica.common.state:_take"),
    Step(WORKER, "pacifica.ingest.archiving:check"),
    Step(WORKER, "pacifica.ingest.archiving:file_ids"),
    Step(WORKER, "pacifica.common.draft:begin_pack", "before"),
    Step(WORKER, "pacifica.common.draft:begin_pack"),
    Step(WORKER, "pacifica.ingest.archiving:admit", "before"),
    Step(WORKER, "pacifica.ingest.archiving:admit"),
    Step(WORKER, "pacifica.common.sidecar:Sidecar.write", only=EMBEDDED),
    Step(WORKER, "pacifica.common.volume:_link", only=EMBEDDED),
    Step(WORKER, "pacifica.ingest.archiving:keep", only=EMBEDDED),
    Step(WORKER, "pacifica.ingest.shipping:_announce", only=EXTERNAL),
    Step(WORKER, "pacifica.common.remote:RemoteArchive._send", only=EXTERNAL),
    Step(WORKER, "pacifica.ingest.shipping:_send", only=EXTERNAL),
    Step(WORKER, "pacifica.common.remote:RemoteArchive._send", count=3, only=EXTERNAL),
    Step(WORKER, "pacifica.ingest.shipping:_found_sound", "before", only=EXTERNAL),
    Step(WORKER, "pacifica.ingest.shipping:_found_sound", only=EXTERNAL),
    Step(WORKER, "pacifica.common.draft:add_files"),
    Step(WORKER, "pacifica.ingest.archiving:register", "before", only=EXTERNAL),
    Step(WORKER, "pacifica.ingest.archiving:register", only=EXTERNAL),
    Step(WORKER, "pacifica.ingest.archiving:settle", only=EXTERNAL),
    Step(WORKER, "pacifica.common.draft:publish"),
    Step(WORKER, "pacifica.ingest.archiving:record"),
    Step(WORKER, "pacifica.ingest.archiving:announce_archived"),
    Step(WORKER, "pacifica.ingest.archiving:Spooled.discard", "before"),
    Step(WORKER, "pacifica.ingest.archiving:Spooled.discard"),
]


def matrix(neighbours: str, *who: str) -> list[str]:
    """Return the steps of ``who`` with ``neighbours``, as failpoints are armed with them."""
    return [str(step) for step in STEPS if step.only in ("", neighbours) and step.who in (who or (WEB, WORKER))]


def calls(steps: list[str]) -> list[str]:
    """Return the functions that ``steps`` name."""
    return sorted({step.split()[0] for step in steps})
