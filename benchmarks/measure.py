"""The measurements: each runs a part of the main job against a deployment and yields its rows."""

import http.client
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import bundle
import limit
from bundle import MANY, MOST, ONE, SMALL, Load
from client import Client, get, selection_of, wrk
from house import House
from row import Row, middle

from pacifica.tests.system import crowd

MIB = 1 << 20
GROWTH = 64.0  # MiB that a process may grow by
POST_TARGETS = {("scaled", ONE): 1.2, ("embedded", ONE): 1.5, ("scaled", MANY): 5.0, ("embedded", MANY): 8.0}
MOST_SECONDS = {"scaled": 2.0, "embedded": 3.0}
CART_SECONDS = {MANY: 0.5, MOST: 3.0}
SMALL_BUNDLES, SMALL_CLIENTS = 200, 8
RANGES = 20


class Bench:
    """The measurements of one deployment; ``bundles`` are files by load, ``served`` is the nginx beside it."""

    def __init__(
        self, house: House, bundles: dict[Load, Path], served: limit.Nginx, folder: Path, repeats: int
    ) -> None:
        self.house, self.bundles, self.served, self.folder, self.repeats = house, bundles, served, folder, repeats
        self.client = Client(house.suite.urls)
        self.jobs: dict[Load, int] = {}
        self.packs: dict[Load, Path] = {}
        self.growth: dict[str, dict[str, float]] = {}  # MiB by work and kind of process

    def rows(self) -> Iterator[Row]:
        """Measure everything, in an order in which each part finds what it needs."""
        self._warm_up()
        for load in (ONE, MANY, MOST):
            yield from self._posts(load)
        yield from self._resumable(ONE)
        for load in (ONE, MANY, MOST):
            yield from self._carts(load)
        yield self._beside_slow_readers()
        yield from self._small_bundles()
        yield from self._get_state()
        yield from self._memory()

    def _warm_up(self) -> None:
        """Let each process do each kind of work once, on little, before anything is measured."""
        path = bundle.make(SMALL, self.folder / "warm.tar", seed=0)
        for turn in range(6):
            files = self.client.files(self.client.post(path).job)
            self.client.cart(f"warm{turn}", selection_of(files))
            get(self.client.cart_url(f"warm{turn}", "data.tar"))
        self.house.settle()

    def _posts(self, load: Load) -> Iterator[Row]:
        path, name = self.bundles[load], f"POST of {load.name}"
        limit.warm(path)
        hashed, spooled, answered, archived = [], [], [], []
        for _ in range(self.repeats):
            hashed.append(limit.sha1sum(path))
            spooled.append(limit.spool(path, self.folder))
            with self._watched(name):
                posted = self.client.post(path)
            answered.append(posted.answered)
            archived.append(posted.archived)
            self.jobs[load] = posted.job
        self.packs[load] = self.house.packs[-1]
        common = {"deployment": self.house.name, "unit": "s"}
        target = POST_TARGETS.get((self.house.name, load))
        against = {"limit": middle(hashed), "limit_name": "sha1sum"}
        yield Row(job=f"{name}, to archived", figure=middle(archived), target=target, **against, **common)
        if load is MOST:
            seconds = MOST_SECONDS[self.house.name]
            yield Row(job=f"{name}, to archived", figure=middle(archived), target=seconds, **common)
            yield Row(job=f"{name}, to the answer", figure=middle(answered), target=1.5, **common)
        against = {"limit": middle(spooled), "limit_name": "write + fsync"}
        yield Row(job=f"{name}, to the answer", figure=middle(answered), **against, **common)

    def _resumable(self, load: Load) -> Iterator[Row]:
        """Upload by tus what was posted before; its bytes are read once more by the worker's scan."""
        path, name = self.bundles[load], f"tus upload of {load.name}"
        limit.warm(path)
        spooled, hashed, uploads = [], [], []
        for _ in range(self.repeats):
            spooled.append(limit.spool(path, self.folder))
            hashed.append(limit.sha1sum(path))
            with self._watched(name):
                uploads.append(self.client.resumable(path))
        common = {"deployment": self.house.name, "unit": "s"}
        against = {"limit": middle(spooled), "limit_name": "write + fsync"}
        yield Row(job=f"{name}, to the answer", figure=middle([one.answered for one in uploads]), **against, **common)
        against = {"limit": middle(hashed), "limit_name": "sha1sum"}
        yield Row(job=f"{name}, to archived", figure=middle([one.archived for one in uploads]), **against, **common)

    def _carts(self, load: Load) -> Iterator[Row]:
        with self._watched(f"file list of {load.name}"):
            files = self.client.files(self.jobs[load])
        selection, uid = selection_of(files), f"cart{load.count}"
        ready = []
        for turn in range(self.repeats):
            with self._watched(f"cart of {load.name}"):
                ready.append(self.client.cart(f"{uid}-{turn}", selection))
        if load in CART_SECONDS:
            yield Row(
                job=f"cart of {load.name}, create to ready", deployment=self.house.name, figure=middle(ready), unit="s",
                target=CART_SECONDS[load],
            )  # fmt: skip
        if load is not MANY:
            yield from self._downloads(load, f"{uid}-0")

    def _downloads(self, load: Load, uid: str) -> Iterator[Row]:
        limit.warm(self.bundles[load])
        limit.warm(self.packs[load])
        what = f"cart GET of {load.name}"
        for name, target in (("data", 0.9), ("renamed", 0.5)):
            title = f"{what}, {'names unchanged' if name == 'data' else 'every member renamed'}"
            url, static = self.client.cart_url(uid, f"{name}.tar"), self.served.url(self.bundles[load].name)
            with self._watched(title):
                planned = get(url)
            yield self._told(f"{title}, first under this name", planned.seconds)
            yield self._rates(title, url, static, target)
        if load is MOST:
            yield self._first_bytes(self.client.cart_url(uid, "data.tar"), planned.size)
        else:
            cold = f"{what}, both from disk"
            yield self._rates(
                cold, self.client.cart_url(uid, "data.tar"), static, None, (self.packs[load], self.bundles[load])
            )

    def _rates(self, title: str, url: str, static: str, target: float | None, evicted: tuple[Path, ...] = ()) -> Row:
        """Compare by bytes a second: a cart has no metadata.txt, so it is a little shorter than the bundle."""
        ours, theirs = [], []
        for _ in range(self.repeats + 2):
            for figures, each in ((theirs, static), (ours, url)):
                for path in evicted:
                    limit.evict(path)
                with self._watched(title):
                    figures.append(get(each).rate / MIB)
        return Row(
            job=title, deployment=self.house.name, figure=middle(ours), unit="MiB/s", limit=middle(theirs),
            limit_name="nginx static", target=target, sense="least",
        )  # fmt: skip

    def _first_bytes(self, url: str, size: int) -> Row:
        starts = [size * number // RANGES for number in range(RANGES)]
        first = [get(url, start, min(size, start + 65536)).first for start in starts]
        return Row(
            job=f"first byte of a Range of 100,000 files, slowest of {RANGES}", deployment=self.house.name,
            figure=max(first) * 1000, unit="ms", target=50,
        )  # fmt: skip

    def _beside_slow_readers(self) -> Row:
        url, alone, beside = self.client.cart_url(f"cart{ONE.count}-0", "data.tar"), [], []
        for _ in range(self.repeats):
            alone.append(get(url).seconds)
            with crowd.slow_readers(url), self._watched("slow readers"):
                beside.append(get(url).seconds)
        return Row(
            job=f"cart GET of {ONE.name} beside {crowd.READERS} slow readers", deployment=self.house.name,
            figure=middle(beside), unit="s", limit=middle(alone), limit_name="alone", target=1.5,
        )  # fmt: skip

    def _small_bundles(self) -> Iterator[Row]:
        """Post many bundles from several clients; the clock stops when the last one is archived."""
        bundles = [
            bundle.make(SMALL, self.folder / "small.tar", seed=number).read_bytes() for number in range(SMALL_BUNDLES)
        ]
        address = urlsplit(self.house.suite.urls["ingest"])

        def post(body: bytes) -> int:
            connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
            connection.request("POST", "/upload", body, {"Content-Type": "application/octet-stream"})
            job = int(json.loads(connection.getresponse().read())["job_id"])
            connection.close()
            return job

        started = time.perf_counter()
        with ThreadPoolExecutor(SMALL_CLIENTS) as clients:
            jobs = list(clients.map(post, bundles))
        answered = time.perf_counter() - started
        for job in jobs:
            self.client.archived(job)
        archived = time.perf_counter() - started
        what = f"{SMALL_BUNDLES} bundles of {SMALL.name} from {SMALL_CLIENTS} clients"
        common = {"deployment": self.house.name, "unit": "bundles/s", "sense": "least"}
        yield Row(job=f"{what}, to archived", figure=SMALL_BUNDLES / archived, target=50, **common)
        yield Row(job=f"{what}, to the answers", figure=SMALL_BUNDLES / answered, **common)

    def _get_state(self) -> Iterator[Row]:
        url = f"{self.house.suite.urls['ingest']}/get_state?job_id={self.jobs[ONE]}"
        figures = [wrk(url) for _ in range(self.repeats)]
        target = 2000.0 if self.house.name == "scaled" else None
        yield Row(
            job="get_state", deployment=self.house.name, figure=middle(figures), unit="requests/s", target=target,
            sense="least",
        )  # fmt: skip

    def _memory(self) -> Iterator[Row]:
        """Tell what each kind of process grew by at most, and by which work."""
        for kind in self.house.processes():
            work, most = max(((work, of[kind]) for work, of in self.growth.items()), key=lambda pair: pair[1])
            target = GROWTH if self.house.name == "scaled" else None
            yield Row(
                job=f"memory of {kind} (by {work})", deployment=self.house.name, figure=most, unit="MiB", target=target
            )

    def _told(self, job: str, seconds: float) -> Row:
        return Row(job=job, deployment=self.house.name, figure=seconds, unit="s")

    def _watched(self, work: str) -> "_Watch":
        return _Watch(self, work)


class _Watch:
    """Notes what the processes grew by at most while a block ran."""

    def __init__(self, bench: Bench, work: str) -> None:
        self.bench, self.work = bench, work

    def __enter__(self) -> None:
        self.bench.house.forget_peaks()

    def __exit__(self, *_: object) -> None:
        known = self.bench.growth.setdefault(self.work, {})
        for kind, grown in self.bench.house.growth().items():
            known[kind] = max(known.get(kind, 0.0), grown)
