"""The Celery side of flow: ``celery -A pacifica.flow.tasks worker``."""

from functools import cache

from ..common import worker
from ..common.subscriber import Subscriber
from ..common.volume import Volume, open_volume
from . import dispatch, firing
from .choice import choose
from .config import settings
from .executor import Executor
from .orm import Data, State
from .running import run

app = worker.make_app("flow", settings)


@app.task(name=dispatch.RUN)
def run_data(data_id: int, attempt: int) -> None:
    """Run data object ``data_id``, as long as it was claimed ``attempt`` times, and follow its end."""
    try:
        with worker.working(Data, data_id, attempt, settings().worker) as data:
            run(data, executor(), volume(), settings())
    finally:
        dispatch.settle(data_id)


@cache
def executor() -> Executor:
    """The executor of the configuration in force."""
    return choose(settings().flow.executor)


def volume() -> Volume:
    """The archive volume of the configuration in force."""
    return open_volume(settings().archive)


app.duties += [worker.ringer(Data, dispatch.QUEUE, dispatch.RUN, [State.WT, State.PP, State.PR]), dispatch.sweep]
app.duties += [firing.catch_up]
app.listeners += [lambda settings: Subscriber("flow", settings, firing.keys, firing.receive)]
