"""Figures that a monitor watches, and Prometheus' text format for them (docs/deployment.md#monitoring).

Those of the database are the whole deployment's, whichever process is asked.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Protocol

import peewee
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily

from . import orm
from .state import Work
from .version import VERSION

STUCK_SECONDS = 60.0  # work that is due for so long, and that nobody has taken up


Sample = tuple[tuple[str, ...], float]  # the values of the labels, and the figure


class Gauge(NamedTuple):
    """One figure by labels: what it means, and what it is."""

    name: str
    meaning: str
    labels: tuple[str, ...]
    samples: list[Sample]


Source = Callable[[], Iterable[Gauge]]


class HasFree(Protocol):
    """What is asked of a volume."""

    def free(self) -> int: ...


def of_work(models: Iterable[type[peewee.Model]]) -> Source:
    """Return the figures of the tables among ``models`` whose rows wait for workers, and of the outbox."""
    kinds = [model for model in models if issubclass(model, Work) and model.CLAIMABLE]

    def of_work() -> Iterator[Gauge]:
        now = orm.clock()
        counts, ages, stuck = list[Sample](), list[Sample](), list[Sample]()
        for model in kinds:
            found = _open(model, now)
            counts += [((model.KIND, state), float(count)) for state, count, _, _ in found]
            ages.append(((model.KIND,), max((now - oldest for _, _, oldest, _ in found), default=0.0)))
            stuck.append(((model.KIND,), float(sum(late for *_, late in found))))
        yield Gauge("pacifica_work", "Work to be done or being done.", ("kind", "state"), counts)
        yield Gauge("pacifica_work_oldest_seconds", "Age of the oldest work to be done.", ("kind",), ages)
        yield Gauge("pacifica_work_stuck", f"Work due for {STUCK_SECONDS:g} s that nobody took.", ("kind",), stuck)
        count, oldest = orm.rows("SELECT count(*), min(created) FROM outbox")[0]
        waiting = now - oldest if count else 0.0
        yield Gauge("pacifica_outbox_messages", "Messages the broker has not confirmed.", (), [((), float(count))])
        yield Gauge("pacifica_outbox_oldest_seconds", "Age of the oldest of them.", (), [((), waiting)])

    return of_work


def of_process(service: str, volume: HasFree) -> Source:
    """Return what one process knows: its version, and the free bytes of its volume."""

    def of_process() -> Iterator[Gauge]:
        yield Gauge("pacifica_info", "What answers.", ("service", "version"), [((service, VERSION), 1.0)])
        free = float(volume.free())
        yield Gauge("pacifica_volume_free_bytes", "Room on the archive's file system.", (), [((), free)])

    return of_process


def _open(model: type[Work], now: float) -> list[tuple[str, int, float, int]]:
    """Return (state, rows, time of the oldest, how many are stuck) of what workers of ``model`` have to do."""
    states = sorted(map(str, model.CLAIMABLE or ()))
    since = now - STUCK_SECONDS
    return orm.rows(
        "SELECT state, count(*), min(created), sum(CASE WHEN not_before < ? AND updated < ?"
        f' AND (lease_until IS NULL OR lease_until < ?) THEN 1 ELSE 0 END) FROM "{model._meta.table_name}"'
        f" WHERE state IN ({', '.join('?' * len(states))}) GROUP BY state ORDER BY state",
        since, since, since, *states,
    )  # fmt: skip


def written(gauges: Iterable[Gauge]) -> tuple[bytes, str]:
    """Return ``gauges`` in the text format, and its media type."""

    class Told:
        def collect(self) -> Iterator[GaugeMetricFamily]:
            for gauge in gauges:
                family = GaugeMetricFamily(gauge.name, gauge.meaning, labels=gauge.labels)
                for values, figure in gauge.samples:
                    family.add_metric(values, figure)
                yield family

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Told())
    return generate_latest(registry), CONTENT_TYPE_LATEST
