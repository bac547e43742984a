"""The Celery side of datasafe: ``celery -A pacifica.datasafe.tasks worker``."""

from ..common import orm, worker
from ..common.timekeeper import timekeeper
from ..common.volume import open_volume
from . import audit as auditing
from . import entering, once
from .config import settings
from .orm import Auditor, State
from .safe import Safe

SLICE_SECONDS = 5.0  # of one task; what is begun then is brought to its end

app = worker.make_app("datasafe", settings)

_aside: dict[tuple[str, str], float] = {}


@app.task(name="pacifica.datasafe.audit")
def audit(auditor: int, attempt: int) -> None:
    """Check what is due for a while, as the one worker of all that audits."""
    with worker.working(Auditor, auditor, attempt, settings().worker) as row:
        wanted = settings().audit
        delay = auditing.advance(safe(), wanted.period_days * 86400, wanted.rate, SLICE_SECONDS, _aside)
        period = wanted.period_days * 86400
        row.progress(tries=0, not_before=orm.clock() + min(delay, period / 10), ring_at=0.0)


def safe() -> Safe:
    """The datasets of the configuration in force."""
    return Safe(open_volume(settings().archive), settings().datasafe)


def settle() -> int:
    """Finish what dead uploads and deletions left between the volume and the database."""
    return safe().settle()


def forget() -> int:
    """Forget the Idempotency-Keys that are too old."""
    return once.forget()


def watch() -> int:
    """See that there is the one row for which workers are rung to audit, unless no audit is wanted."""
    if not settings().audit.period_days or orm.rows("SELECT 1 FROM auditor"):
        return 0
    auditing.prepare()
    with orm.transaction():
        if not orm.rows("SELECT 1 FROM auditor"):
            Auditor.start(id=1, state=State.WATCHING, who="pacifica-datasafe")
    return 1


_ring = worker.ringer(Auditor, "pacifica.datasafe", "pacifica.datasafe.audit", [State.WATCHING])


def ring() -> int:
    """Ring for the audit, where one is wanted."""
    return _ring() if settings().audit.period_days else 0


def catalogue() -> int:
    """Enter what is new into the catalogue's index, for a moment."""
    return entering.enter(safe()) if entering.is_due() else 0


app.duties += [timekeeper(Auditor, [State.WATCHING], settings), settle, forget, watch, ring, catalogue]
