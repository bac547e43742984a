"""Flow in thirty random rounds: each part of it killed, stopped or frozen at any moment of a graph of 50 objects."""

import os
import random
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from pacifica.tests.system.graphs import OBJECTS, Graph, House
from pacifica.tests.system.nodes import Node
from pacifica.tests.system.suite import until

pytestmark = pytest.mark.xdist_group("restarts")
ROUNDS = 30
STILL_SECONDS = 4.0  # a standstill lasts up to so long: twice a lease
ENDED = "SELECT count(*) FROM data WHERE id > %s AND state IN ('OK', 'ER')"


class Faults:
    """What can be done to a house; each ends with everything there again."""

    def __init__(self, house: House, chance: random.Random) -> None:
        self.house, self.chance = house, chance

    def all(self) -> dict[str, Callable[[], None]]:
        """Return the faults by name."""
        names = [name for name in vars(Faults) if not name.startswith("_") and name != "all"]
        return {name: getattr(self, name) for name in names}

    def kill_child(self) -> None:
        """The kernel kills one child of the worker's pool, or all of them."""
        pool = self.house.pool()
        self.house.kill(*self.chance.sample(pool, self.chance.randint(1, len(pool))))

    def kill_main(self) -> None:
        """The worker dies as a whole, and is started again."""
        worker = self.house.suite.workers["flow"]
        self.house.kill(worker.pid)
        worker.wait(30)
        self.house.suite.restart()

    def stop_child(self) -> None:
        """A child of the pool stands still, longer than its lease or not, and goes on."""
        self._still(self.chance.choice(self.house.pool()))

    def stop_worker(self) -> None:
        """The same happens to the worker's main process alone, or to all of it."""
        main = self.house.suite.workers["flow"].pid
        self._still(*self.chance.choice([[main], self.house.worker()]))

    def kill_web(self) -> None:
        """The web processes die, and are started again."""
        self.house.suite.kill("web")
        self.house.suite.restart()

    def stop_broker(self) -> None:
        """The broker ends, orderly or not, and is started again."""
        self.chance.choice([self.house.rabbit.stop, self.house.rabbit.kill])()
        self.house.rabbit.start()

    def freeze_broker(self) -> None:
        """The broker stands still, and goes on."""
        self._frozen(self.house.rabbit)

    def stop_database(self) -> None:
        """The database crashes, and is started again."""
        self.house.postgres.stop("immediate")
        self.house.postgres.start()

    def freeze_database(self) -> None:
        """The database stands still, and goes on."""
        self._frozen(self.house.postgres)

    def _still(self, *pids: int) -> None:
        for pid in pids:
            self.house.signal(pid, signal.SIGSTOP)
        time.sleep(self.chance.uniform(0.1, STILL_SECONDS))
        for pid in pids:
            self.house.signal(pid, signal.SIGCONT)

    def _frozen(self, node: Node) -> None:
        node.freeze()
        time.sleep(self.chance.uniform(0.1, STILL_SECONDS))
        node.thaw()


def strike_at(house: House, fault: Callable[[], None], after: int, count: int) -> None:
    """Let ``fault`` happen once ``count`` objects beyond the id ``after`` have ended: the graph says when."""
    with psycopg.connect(house.suite.database, autocommit=True) as connection:
        until(lambda: connection.execute(ENDED, (after,)).fetchall()[0][0] >= count, 120, "the moment")
    fault()


@pytest.mark.timeout(2400)
def test_whatever_dies_or_stands_still_at_any_moment_each_object_of_a_graph_ends_once(house: House):
    seed = int(os.environ.get("PACIFICA_ROUNDS_SEED") or random.SystemRandom().getrandbits(32))
    chance = random.Random(seed)
    faults = Faults(house, chance).all()
    order = [*faults] * (ROUNDS // len(faults))
    order += chance.sample([*faults], ROUNDS - len(order))
    chance.shuffle(order)
    for number, name in enumerate(order):
        count = chance.randrange(OBJECTS)
        try:
            strike(house, faults[name], count, f"{seed}-{number}")
        except Exception as error:
            raise AssertionError(f"seed {seed}, round {number}: {name} after {count} ends") from error
    suite = house.suite
    until(lambda: not suite.query("SELECT 1 FROM outbox"), 30, "an empty outbox")
    runs = suite.archive / "work" / "flow"
    until(lambda: not [*runs.glob("[0-9]*.[0-9]*")], 60, "the end of every run directory")
    held = {path.name for path in (suite.archive / "packs").rglob("*")}  # and what the killed left, for ingest's reaper
    assert {name for (name,) in suite.query("SELECT name FROM pack WHERE published")} <= held


def strike(house: House, fault: Callable[[], None], count: int, name: str) -> None:
    """Let ``fault`` happen to a graph once ``count`` of its objects have ended, and see what becomes of each."""
    before = house.suite.query("SELECT coalesce(max(id), 0) FROM data")[0][0]
    with ThreadPoolExecutor(1) as pool:
        struck = pool.submit(strike_at, house, fault, before, count)
        graph = Graph(house.suite, name).create()
        struck.result()
    graph.ended()
    graph.check()
