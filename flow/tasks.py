"""The Celery side of flow: ``celery -A pacifica.flow.tasks worker``."""

from functools import cache

from ..common import worker
from ..common.errors import NotClaimed
from ..common.subscriber import Subscriber
from ..common.timekeeper import timekeeper
from ..common.volume import Volume, open_volume
from . import dispatch, firing, once, series
from .choice import choose
from .config import settings
from .executor import Executor
from .local import LocalExecutor, open_way
from .orm import Data, State
from .running import OPENING, clear, run

app = worker.make_app("flow", settings, also=[dispatch.QUICK])


@app.task(name=dispatch.RUN)
def run_data(data_id: int, attempt: int) -> None:
    """Run data object ``data_id``, as long as it was claimed ``attempt`` times, and others that wait in its queue."""
    series.through(data_id, attempt, _run)


def _run(data_id: int, attempt: int) -> bool:
    """Run one data object and follow its end; tell whether all went well, if only for another worker."""
    ended = followed = False
    try:
        with worker.working(Data, data_id, attempt, settings().worker, OPENING) as data:
            followed = run(data, executor(), volume(), settings())
            ended = True
    except NotClaimed:
        ended = True
    finally:
        if not followed:
            dispatch.settle(data_id)
    return ended


@cache
def executor() -> Executor:
    """The executor of the configuration in force."""
    chosen = choose(settings().flow.executor)
    if isinstance(chosen, LocalExecutor):
        open_way([volume().root, volume().work])
    return chosen


def volume() -> Volume:
    """The archive volume of the configuration in force."""
    return open_volume(settings().archive)


app.duties += [timekeeper(Data, [State.RE, State.WT, State.PP, State.PR], settings)]
_DUE = (State.WT, State.PP, State.PR)
app.duties += [
    worker.ringer(Data, queue, dispatch.RUN, _DUE, where=where, most=series.BELLS)
    for queue, where in ((dispatch.QUEUE, "NOT interactive"), (dispatch.QUICK, "interactive"))
]
app.duties += [dispatch.sweep]
app.duties += [firing.catch_up, once.forget, lambda: clear(volume())]
app.listeners += [lambda settings: Subscriber("flow", settings, firing.keys, firing.receive)]
