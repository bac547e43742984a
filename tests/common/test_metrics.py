"""Figures for a monitor: what they count, and who is told."""

from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pacifica.common import health, metrics, orm, outbox, state
from pacifica.common.config import Auth
from pacifica.common.metrics import Gauge, written
from pacifica.common.monitor import Metrics
from pacifica.common.rest import Resource, application
from pacifica.tests.common.test_rest import call


class Chore(state.Work):
    """Something to work on."""

    KIND = "chore"
    MOVES = {"NEW": {"HALF"}, "HALF": {"DONE"}}
    FINAL = frozenset({"DONE"})
    CLAIMABLE = frozenset({"NEW", "HALF"})


def figures(text: bytes) -> dict[tuple[str, ...], float]:
    """Return the samples by name and values of the labels, as Prometheus' own parser reads them."""
    families = text_string_to_metric_families(text.decode())
    return {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}


def watched(source: metrics.Source) -> dict[tuple[str, ...], float]:
    return figures(written(source())[0])


@pytest.mark.usefixtures("database")
def test_work_is_counted_aged_and_called_stuck_once_nobody_takes_what_is_due():
    Chore.create_table()
    source = metrics.of_work([Chore, outbox.Outbox])
    assert watched(source)["pacifica_work_oldest_seconds", "chore"] == 0
    for where in ("NEW", "NEW", "HALF", "DONE"):
        Chore.start(state=where)
    first = Chore.select().order_by(Chore.id).first().id
    orm.execute("UPDATE chore SET created = created - 300, updated = updated - 300")
    orm.execute("UPDATE chore SET lease_until = ? WHERE state = 'HALF'", orm.clock() + 60)  # at work
    orm.execute("UPDATE chore SET not_before = ? WHERE id = ?", orm.clock() + 60, first)  # to be tried again later
    outbox.Outbox.insert(channel="task", routing_key="k", body="", created=orm.clock() - 9, ready_at=0).execute()
    found = watched(source)
    assert found["pacifica_work", "chore", "NEW"] == 2
    assert found["pacifica_work", "chore", "HALF"] == 1
    assert ("pacifica_work", "chore", "DONE") not in found
    assert found["pacifica_work_oldest_seconds", "chore"] >= 300
    assert found["pacifica_work_stuck", "chore"] == 1
    assert (found["pacifica_outbox_messages",], found["pacifica_outbox_oldest_seconds",] >= 9) == (1, True)


def test_labels_and_names_survive_the_text_format():
    gauge = Gauge("pacifica_x", "What it is: 1 \\ 2", ("a", "b"), [(('q"\n\\', "ü"), 1.5)])
    assert watched(lambda: [gauge]) == {("pacifica_x", 'q"\n\\', "ü"): 1.5}


def served(auth: Auth, *sources: metrics.Source) -> Any:
    root = Resource()
    root.metrics = Metrics(sources)
    return application(root, SimpleNamespace(auth=auth), service="test")


def test_administrators_and_services_are_told_and_others_are_not():
    proxy = Auth(mode="proxy", administrators=("root",), services=("prometheus",))
    app = served(proxy, metrics.of_process("test", SimpleNamespace(free=lambda: 5)))
    told = {who: call(app, "/metrics", HTTP_X_HTTP_AUTHED_USER=who) for who in ("root", "prometheus", "ann")}
    assert {who: status for who, (status, _, _) in told.items()} == {"root": 200, "prometheus": 200, "ann": 403}
    assert told["root"][1]["content-type"].startswith("text/plain; version=")
    assert figures(told["root"][2])["pacifica_volume_free_bytes",] == 5
    assert b"pacifica_" not in told["ann"][2]


def test_who_asks_often_makes_no_work(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(health, "_FRESH_SECONDS", 3600.0)
    runs = []
    app = served(Auth(), lambda: runs.append(1) or [])
    assert [call(app, "/metrics")[0] for _ in range(20)] == [200] * 20
    assert runs == [1]
