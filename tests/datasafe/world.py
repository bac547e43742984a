"""A small archive with everything in it that a search can meet, and the same as plain facts to search naively."""

import io
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from hashlib import md5, sha1, sha512
from pathlib import Path
from typing import Any

from pacifica.common import draft, ledger, orm
from pacifica.common.catalog import Project, ProjectUser, Transaction, User, record
from pacifica.common.volume import Volume, new_name
from pacifica.common.words import words
from pacifica.datasafe.config import Datasafe
from pacifica.datasafe.entering import enter
from pacifica.datasafe.inventory import Author
from pacifica.datasafe.loi import dataset, series
from pacifica.datasafe.orm import SCHEMA, Dataset
from pacifica.datasafe.safe import Safe
from pacifica.tests.system.datasets import manifest_of, zipped

NAMES = (
    "spectrum.DTA",
    "spectrum.DSC",
    "Ferritin_01.csv",
    "ferritin 02.csv",
    "größe.txt",
    "ﬁt-e\u0301.dat",
    "x",
    "_.~",
)
FOLDERS = ("", "run", "run/a", "Run")
WORDS = ("ferritin", "EPR", "42", "Größe", "temp C", "a'b\"c", "x* OR y", "cwepr", "ß", "日本")
MANIFEST = [  # what the manifests of these datasets say
    ("format.type", "datasafe dataset manifest"),
    ("format.version", "0.1.0"),
    ("dataset.complete", "false"),
    ("files.metadata.format", "cwEPR Info file"),
    ("files.metadata.version", "0.1.4"),
    ("files.data.format", "undetected"),
]
BYTES = tuple(f"content {number}".encode() for number in range(6))


@dataclass
class File:
    id: int
    transaction: int | None
    owner: str
    subdir: str
    name: str
    content: bytes
    created: float
    said: list[tuple[str, str]] = field(default_factory=list)

    @property
    def digests(self) -> dict[str, str]:
        return {"sha1": sha1(self.content).hexdigest()}


@dataclass
class Deal:
    """A transaction."""

    id: int
    owner: str
    submitter: str
    project: str
    instrument: str
    created: float
    said: list[tuple[str, str]]


@dataclass
class Held:
    """A dataset."""

    id: int
    loi: str
    owner: str
    message: str
    stored: float
    files: dict[str, bytes]
    about: dict[str, str] = field(default_factory=dict)  # what its manifest says below dataset

    @property
    def said(self) -> list[tuple[str, str]]:
        return [*MANIFEST, *((f"dataset.{key}", value) for key, value in self.about.items())]

    @property
    def manifest(self) -> bytes:
        lines = "".join(f"  {key}: {value}\n" for key, value in self.about.items()).encode()
        return manifest_of({**self.files, "x.info": b""}).replace(
            b"  complete: false\n", b"  complete: false\n" + lines
        )


@dataclass(frozen=True)
class Who:
    name: str
    administrator: bool = False
    service: bool = False


WHO = (Who("root", administrator=True), Who("cartd", service=True), Who("ann"), Who("bob"), Who("eve"), Who("nobody"))


class World:
    """Made anew in the connected database and below ``folder``."""

    def __init__(self, folder: Path) -> None:
        SCHEMA.sync()
        self.files: list[File] = []
        self.deals: list[Deal] = []
        self.datasets: list[Held] = []
        self.random = random.Random(7)
        self.safe = Safe(Volume(folder, 0), Datasafe())
        User.insert(id="10", network_id="bob", updated=0.0).execute()
        Project.insert(id="p1", updated=0.0).execute()
        ProjectUser.create(project="p1", user="eve")

    def fill(self) -> "World":
        """Bring in what there is, and enter it."""
        for number in range(1, 9):
            self.deal(number, first=number * 1000, count=self.random.choice((1, 3, 7)))
        for number in range(6):
            self.dataset(number)
        self.put(20_000, None, "bob")
        self.supersede(self.files[2])
        self.delete(self.files[5])
        self.patch(self.datasets[0])
        self.remove(self.datasets[1])
        self.enter()
        self.deal(9, first=30_000, count=2)  # later than what is entered
        self.enter()
        return self

    def enter(self) -> None:
        """Enter all that waits."""
        while enter(self.safe):
            pass
        assert orm.rows("SELECT count(*) FROM unentered") == [(0,)]

    # ---- what happens ------------------------------------------------------------------------------------------------

    def deal(self, id: int, first: int, count: int) -> None:
        choice = self.random.choice
        said = [(choice(WORDS), choice(WORDS)) for _ in range(choice((0, 1, 3)))]
        people = choice(("ann", "bob")), choice(("10", "ann", "eve"))
        made = Deal(id, *people, choice(("p1", "p2")), choice(("i1", "54")), 1000.0 + id, said)
        files = [
            File(first + at, id, made.owner, choice(FOLDERS), choice(NAMES), choice(BYTES), made.created)
            for at in range(count)
        ]
        for file in files[::2]:
            file.said = [(choice(WORDS), choice(WORDS))]
        self.bring(made, files)

    def bring(self, made: Deal, files: list[File]) -> None:
        """Archive ``files``, whose ids are consecutive, as the transaction ``made``."""
        pack = draft.begin_pack(new_name(), "bundle", made.id, 1, files[0].id, len(files), 9, made.owner)
        draft.add_files(pack, [row(file) for file in files], lambda: None)
        with orm.transaction():
            draft.publish(pack)
            of_files = [(file.id, *one) for file in files for one in file.said]
            about = {"owner": made.owner, "submitter": made.submitter, "project": made.project}
            record(made.id, **about, instrument=made.instrument, key_values=made.said, file_key_values=of_files)
            Transaction.update(created=made.created).where(Transaction.id == made.id).execute()
            ledger.Pack.update(created=made.created).where(ledger.Pack.id == pack.id).execute()
        self.deals.append(made)
        self.files += files

    def put(self, id: int, transaction: int | None, owner: str) -> File:
        """Put a single file, as ``draft.put_file`` does it."""
        made = File(id, transaction, owner, "", "single spectrum.DTA", BYTES[0], 5000.0)
        pack = draft.begin_pack(new_name(), "file", None, 0, id, 1, 9, owner)
        with orm.transaction():
            draft.hold(pack, row(made))
            draft.publish(pack)
            ledger.Pack.update(created=made.created).where(ledger.Pack.id == pack.id).execute()
        self.files.append(made)
        return made

    def supersede(self, file: File) -> None:
        """Put anew what a bundle brought: it keeps its transaction, and what was said of it."""
        self.files.remove(file)
        self.put(file.id, file.transaction, "eve").said = file.said

    def delete(self, file: File) -> None:
        self.files.remove(file)
        ledger.delete_file(file.id, "root")

    def dataset(self, number: int) -> None:
        owner = ("ann", "bob")[number % 2]
        loi = self.safe.create(series(f"42.{1001 + number % 2}/ds/exp/sa/{number + 1}/cwepr", ()), owner)
        names = "run/spectrum.DTA", "Ferritin_01.csv", "run/a/x"
        files = {name: self.random.choice(BYTES) for name in names}
        about = ({}, {"project": "p1"}, {"project": "p2", "instrument": "54"})[number % 3]
        held = Held(0, str(loi), owner, f"{WORDS[number]} measured", 2000.0 + number, files, about)
        self.datasets.append(held)
        self._store(held, first=True)

    def patch(self, held: Held) -> None:
        held.files = {name: content for name, content in held.files.items() if name != "run/a/x"} | {"neu.txt": b"new"}
        held.message = "again"
        self._store(held, first=False)

    def remove(self, held: Held) -> None:
        self.datasets.remove(held)
        self.safe.delete(dataset(held.loi), "root", "mistake")

    def _store(self, held: Held, *, first: bool) -> None:
        body = io.BytesIO(zipped({**held.files, "x.info": b""}, held.manifest))
        self.safe.put(
            dataset(held.loi), body.readinto, None, Author(name=held.owner, message=held.message), first=first
        )
        Dataset.update(stored=held.stored).where(Dataset.loi == held.loi).execute()
        held.id = Dataset.get(Dataset.loi == held.loi).id


def row(file: File) -> tuple[Any, ...]:
    """Return a file as the ledger takes it."""
    return (file.id, 0, len(file.content), 512, "sha1", file.digests["sha1"], file.subdir, file.name, "text/plain", 1.0,
            2.0)  # fmt: skip


# ---- the naive search ----------------------------------------------------------------------------------------------


def expected(world: World, asked: Any, who: Who) -> Iterator[tuple[str, Any]]:
    """Yield (kind, id) of everything that ``asked`` means, in the order of an answer; all of it is read for that."""

    def hears(text: str) -> bool:
        said = set(words(text))
        whole = all(word in said for word in asked.words)
        return whole and all(any(word.startswith(one) for word in said) for one in asked.beginnings)

    def named(subdir: str, name: str) -> bool:
        if asked.name is None:
            return True
        if asked.name.subdir not in (None, subdir):
            return False
        return name.startswith(asked.name.name) if asked.name.is_beginning else name == asked.name.name

    def timely(at: float) -> bool:
        return (asked.since is None or at >= asked.since) and (asked.until is None or at < asked.until)

    def has(digests: dict[str, str]) -> bool:
        if asked.hashsum is None:
            return True
        return any(one == asked.hashsum and asked.hashtype in (None, kind) for kind, one in digests.items())

    def said(pairs: list[tuple[str, str]]) -> bool:
        return all(any(key == k and value in (None, v) for k, v in pairs) for key, value in asked.pairs)

    everything = who.administrator or who.service
    mine = {deal.id for deal in world.deals if everything or who.name == deal.owner or who.name == deal.submitter
            or (who.name, deal.submitter) == ("bob", "10") or (who.name, deal.project) == ("eve", "p1")}  # fmt: skip

    def about(deal: Deal | None) -> bool:
        if deal is None:
            return (asked.project, asked.instrument, asked.submitter, asked.transaction) == (None,) * 4
        people = {deal.submitter} | ({"bob"} if deal.submitter == "10" else set())
        return (asked.project in (None, deal.project) and asked.instrument in (None, deal.instrument)
                and asked.transaction in (None, deal.id) and asked.submitter in (None, *people))  # fmt: skip

    def text(deal: Deal | None) -> str:
        if deal is None:
            return ""
        facts = (str(deal.id), deal.owner, deal.submitter, deal.project, deal.instrument)
        return "\n".join((*facts, *(part for pair in deal.said for part in pair)))

    for held in sorted(world.datasets, key=lambda one: -one.id) if "dataset" in asked.kinds else []:
        head = "\n".join((held.loi, held.owner, held.message, *(part for pair in held.said for part in pair)))
        files = [(*split(path), content) for path, content in {**held.files, "x.info": b""}.items()]
        if not everything and who.name != held.owner:
            continue
        if not said(held.said):
            continue
        if asked.project not in (None, held.about.get("project")):
            continue
        if asked.instrument not in (None, held.about.get("instrument")):
            continue
        if asked.submitter not in (None, held.owner) or (asked.loi or "") not in held.loi or not timely(held.stored):
            continue
        if not (hears(head) or any(hears(f"{head}\n{subdir}\n{name}") for subdir, name, _ in files)):
            continue
        if any(named(subdir, name) and has({"sha512": sha512(content).hexdigest(), "md5": md5(content).hexdigest()})
               for subdir, name, content in files):  # fmt: skip
            yield "dataset", held.loi
    deals = {deal.id: deal for deal in world.deals}
    for deal in sorted(world.deals, key=lambda one: -one.id) if "transaction" in asked.kinds else []:
        if deal.id in mine and about(deal) and timely(deal.created) and said(deal.said) and hears(text(deal)):
            yield "transaction", deal.id
    for file in sorted(world.files, key=lambda one: -one.id) if "file" in asked.kinds else []:
        of = deals.get(file.transaction or 0)
        if not everything and file.transaction not in mine and file.owner != who.name:
            continue
        own = "\n".join((file.subdir, file.name, *(part for pair in file.said for part in pair)))
        if (about(of) and timely(file.created) and named(file.subdir, file.name) and has(file.digests)
                and all(said_of(file, of, pair) for pair in asked.pairs) and hears(f"{own}\n{text(of)}")):  # fmt: skip
            yield "file", file.id


def said_of(file: File, of: Deal | None, pair: tuple[str, str | None]) -> bool:
    """Tell whether a key-value is said of a file or of its transaction."""
    key, value = pair
    return any(key == k and value in (None, v) for k, v in [*file.said, *(of.said if of else ())])


def split(path: str) -> tuple[str, str]:
    subdir, _, name = path.rpartition("/")
    return subdir, name


def whole(search: Any, asked: Any, who: Who) -> list[tuple[str, Any]]:
    """Read an answer to its end, page by page, and return (kind, id) of everything in it."""
    found: list[tuple[str, Any]] = []
    for _ in range(1000):
        page = search(asked, who)
        assert len(page.things) <= asked.limit
        found += [(one["kind"], one.get("loi") or (one["id"] if one["kind"] == "file" else one["transaction"]))
                  for one in page.things]  # fmt: skip
        if page.next is None:
            return found
        kind, _, id = page.next.rpartition("-")
        asked = replace(asked, begin=(kind, int(id)))
    raise AssertionError("an answer without an end")
