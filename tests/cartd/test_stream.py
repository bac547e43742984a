"""The bytes of a cart: the tar that tarfile would read, any range of it, and never a byte that is not checked."""

import hashlib
import io
import random
import subprocess
import tarfile
import tracemalloc
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from xxhash import xxh3_128_digest

from pacifica.cartd import run
from pacifica.cartd.header import END, header, padding_size
from pacifica.cartd.plan import Member, Plan, build
from pacifica.cartd.run import Kind
from pacifica.cartd.stream import LARGE, READERS_MAX, stream
from pacifica.common.errors import Damaged
from pacifica.common.pace import Pace
from pacifica.common.pack import PackReader
from pacifica.common.sidecar import Sidecar
from pacifica.common.volume import Volume, new_name

MEBI = 1 << 20
NOISE = random.Random(7).randbytes(10 * MEBI)
SIZES = [
    0,
    1,
    511,
    512,
    513,
    4096,
    65_000,
    LARGE - 1,
    LARGE,
    LARGE + 1,
    MEBI - 513,
    MEBI - 512,
    MEBI - 1,
    MEBI,
    MEBI + 1,
    2 * MEBI,
]
NAMES = ["a", "sub/b.dat", "größe/дані", "n" * 120, "p" * 130 + "/" + "q" * 90, "/".join(["ü" * 40] * 6)]
STYLES = ["own", "gnu", "pax"]


class Site:
    """A volume with packs, and what each member of them holds."""

    def __init__(self, root: Path) -> None:
        self.volume, self.random = Volume(root, 0), random.Random(3)

    def reader(self, name: str) -> PackReader:
        return PackReader(self.volume, name, Pace())

    def pack(self, files: list[tuple[str, int, str]]) -> list[tuple[Member, bytes]]:
        """Write a bundle of (path, size, style of header); or one plain file, where its style is "file"."""
        name, content, kept = new_name(), bytearray(), []
        for number, (path, size, style) in enumerate(files):
            begin = self.random.randrange(len(NOISE) - size)
            data = NOISE[begin : begin + size]
            head = b"" if style == "file" else source_header("data/" + path, size, 1_700_000_000 + number, style)
            digest = hashlib.sha1(data).hexdigest()
            member = Member(
                path, size, 1_700_000_000.5 + number, name, len(content) + len(head), len(head), number, "sha1", digest
            )
            content += head + data
            kept.append((member, data))
            if style != "file":
                content += bytes(padding_size(size))
        content += b"" if files[0][2] == "file" else END
        self.write(name, bytes(content))
        return kept

    def write(self, name: str, content: bytes) -> None:
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        blocks = b"".join(xxh3_128_digest(content[at : at + MEBI]) for at in range(0, len(content), MEBI))
        facts = {"kind": "bundle", "job": 1, "owner": "o", "first_id": 1, "count": 1, "created": 0.0}
        Sidecar(pack=name, size=len(content), blocks=blocks, **facts).write(self.volume)

    def path(self, name: str) -> Path:
        return self.volume.pack_path(name)

    def flip(self, name: str, position: int) -> None:
        with self.path(name).open("r+b") as file:
            file.seek(position)
            byte = file.read(1)[0]
            file.seek(position)
            file.write(bytes([byte ^ 0x10]))


def source_header(name: str, size: int, mtime: int, style: str) -> bytes:
    if style == "own":
        return header(name.encode(), size, mtime)
    member = tarfile.TarInfo(name)
    member.size, member.mtime, member.uid, member.uname = size, mtime + (0.25 if style == "pax" else 0), 1000, "joe"
    return member.tobuf(tarfile.GNU_FORMAT if style == "gnu" else tarfile.PAX_FORMAT, "utf-8")


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


@contextmanager
def fresh_site():
    with TemporaryDirectory() as folder:
        yield Site(Path(folder))


def whole(plan: Plan, site: Site, start: int = 0, stop: int | None = None) -> bytes:
    return b"".join(stream(plan, site.reader, start, stop))


def expected(chosen: list[tuple[Member, bytes]], folder: str) -> bytes:
    """The tar as headers of ours make it, one member after the other."""
    pieces = []
    for member, data in chosen:
        pieces += [
            header(f"{folder}/{member.path}".encode(), member.size, int(member.mtime)),
            data,
            bytes(padding_size(len(data))),
        ]
    return b"".join(pieces) + END


def entries(tar: bytes) -> list[tuple[str, int, float, str]]:
    with tarfile.open(fileobj=io.BytesIO(tar), mode="r|", encoding="utf-8") as reader:
        return [(m.name, m.size, m.mtime, hashlib.sha1(reader.extractfile(m).read()).hexdigest()) for m in reader]


def told(chosen: list[tuple[Member, bytes]], folder: str) -> list[tuple[str, int, float, str]]:
    return [(f"{folder}/{m.path}", m.size, m.mtime // 1, m.hashsum) for m, _ in chosen]


@st.composite
def carts(draw):
    """Packs to write, members of them to ask for, names to give them, and ranges to ask for."""
    small = st.lists(
        st.tuples(st.sampled_from([0, 5, 512, 700, 4096]), st.sampled_from(STYLES)), min_size=2, max_size=40
    )
    mixed = st.lists(st.tuples(st.sampled_from(SIZES), st.sampled_from(STYLES)), min_size=1, max_size=5)
    single = st.tuples(st.sampled_from(SIZES), st.just("file")).map(lambda one: [one])
    uniform = st.tuples(st.sampled_from(STYLES), st.integers(2, 40)).map(lambda made: [(300, made[0])] * made[1])
    packs = draw(st.lists(small | mixed | uniform | single, min_size=1, max_size=3))
    order = draw(st.sampled_from(["kept", "kept", "reversed", "shuffled", "every second", "twice"]))
    rename = draw(st.sampled_from(["none", "none", "folder", "some", "long"]))
    return packs, order, rename, draw(st.randoms(use_true_random=False)), draw(st.sampled_from([2, 3, 16]))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(carts())
def test_every_cart_is_the_tar_that_its_members_make_and_any_range_is_a_slice_of_it(cart):
    packs, order, rename, chance, verbatim_min = cart
    with fresh_site() as site, pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "VERBATIM_MIN", verbatim_min)
        chosen = []
        for number, files in enumerate(packs):
            names = [f"{number}/{at}/{NAMES[at % len(NAMES)] if at % 5 == 4 else 'f'}" for at in range(len(files))]
            chosen += site.pack([(name, size, style) for name, (size, style) in zip(names, files, strict=True)])
        if order == "reversed":
            chosen.reverse()
        elif order == "shuffled":
            chance.shuffle(chosen)
        elif order == "every second":
            chosen = chosen[::2]
        elif order == "twice":
            chosen += [(member._replace(path=f"again/{member.path}"), data) for member, data in chosen]
        if rename in ("some", "long"):
            new = {"some": "renamed/{}", "long": "x" * 200 + "/{}"}[rename]
            chosen = [(m._replace(path=new.format(m.path)) if chance.random() < 0.3 else m, data) for m, data in chosen]
        folder = "other" if rename == "folder" else "data"

        target = site.volume.root / "plan"
        made = build([member for member, _ in chosen], folder, target)
        tar = whole(made, site)
        assert tar == expected(chosen, folder)
        assert entries(tar) == told(chosen, folder)
        assert made.size == len(tar)

        looked = build([member for member, _ in chosen], folder, target, site.reader)
        adopted = whole(looked, site)
        assert looked.size == len(adopted) == len(tar)
        assert entries(adopted) == told(chosen, folder)
        assert (adopted == tar) == (looked.etag == made.etag)

        edges = sorted({0, looked.size, *looked.table.starts, *(at + 512 for at in looked.table.starts)})
        for plan, content in ((made, tar), (looked, adopted)):
            for _ in range(12):
                near = [chance.choice(edges) + chance.randint(-2, 2) for _ in range(2)] + [chance.randint(0, plan.size)]
                start, stop = sorted(min(max(at, 0), plan.size) for at in chance.sample(near, 2))
                assert whole(plan, site, start, stop) == content[start:stop]


@settings(max_examples=40, deadline=None)
@given(carts(), st.integers(0, 2**32))
def test_a_flipped_bit_is_never_served(cart, where):
    packs, order, rename, chance, verbatim_min = cart
    with fresh_site() as site, pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "VERBATIM_MIN", verbatim_min)
        chosen = [
            pair
            for number, files in enumerate(packs)
            for pair in site.pack([(f"{number}/{at}", size, style) for at, (size, style) in enumerate(files)])
        ]
        if order == "shuffled":
            chance.shuffle(chosen)
        chosen = chosen[::2] if order == "every second" else chosen
        folder = "other" if rename == "folder" else "data"
        plan = build([member for member, _ in chosen], folder, site.volume.root / "plan", site.reader)
        good = whole(plan, site)
        with_data = [number for number, (member, _) in enumerate(chosen) if member.size]
        if not with_data:
            return
        hit = with_data[where % len(with_data)]
        member = chosen[hit][0]
        within = where % member.size
        site.flip(member.pack, member.offset + within)
        served = bytearray()
        with pytest.raises(Damaged) as failure:
            for piece in stream(plan, site.reader):
                served += piece
        bad = plan.table.starts[hit + 1] - padding_size(member.size) - member.size + within
        assert len(served) <= bad and good.startswith(served)
        detail = failure.value.detail
        assert (detail["file"], detail["file_id"], detail["pack"]) == (member.path, member.id, member.pack)
        with pytest.raises(Damaged):  # also when only that byte is asked for
            whole(plan, site, bad, bad + 1)


def test_any_range_within_a_small_cart_is_right_to_the_byte(site):
    chosen = site.pack([("a", 3, "own"), ("ü", 513, "pax"), ("c", 0, "own"), ("d", 1024, "gnu")])
    chosen += site.pack([("e", 700, "file")])
    plan = build([member for member, _ in chosen], "data", site.volume.root / "plan")
    tar = expected(chosen, "data")
    edges = sorted(
        {at + step for at in range(0, len(tar) + 1, 512) for step in (-1, 0, 1) if 0 <= at + step <= len(tar)}
    )
    for start in edges:
        for stop in edges:
            if start <= stop:
                assert whole(plan, site, start, stop) == tar[start:stop]


@pytest.mark.parametrize("style", ["own", "file"])
@pytest.mark.parametrize("size", [LARGE + 1, MEBI - 1, MEBI + 1, 2 * MEBI + 511, 3 * MEBI + 513])
def test_padding_follows_a_member_larger_than_a_piece(site, size, style):
    chosen = site.pack([("big", size, style)])
    chosen += site.pack([("after", 5, "own")])
    plan = build([member for member, _ in chosen], "other", site.volume.root / "plan")
    assert whole(plan, site) == expected(chosen, "other")


def test_a_range_outside_the_tar_is_refused_at_once(site):
    plan = build([], "data", site.volume.root / "plan")
    for start, stop in ((-1, 5), (5, 4), (0, 1025), (1025, 1025)):
        with pytest.raises(ValueError):
            stream(plan, site.reader, start, stop)
    assert whole(plan, site, 1024) == b""


def test_pieces_are_large_enough_for_a_network_and_small_enough_for_memory(site):
    chosen = site.pack([(f"f{number:04d}", 4096, "own") for number in range(900)])
    chance = random.Random(1)
    for folder, shuffle in (("data", False), ("other", False), ("other", True)):
        if shuffle:
            chance.shuffle(chosen)
        plan = build([member for member, _ in chosen], folder, site.volume.root / "plan", site.reader)
        lengths = [len(piece) for piece in stream(plan, site.reader)]
        assert max(lengths) <= 3 * MEBI // 2
        assert sum(length < LARGE for length in lengths) <= 2  # where the tar ends, and where a pack's first block does


def test_a_sweep_reads_each_block_once(site, monkeypatch):
    chosen = site.pack([(f"f{number:04d}", 4096, "own") for number in range(900)])[::2]
    plan = build([member for member, _ in chosen], "other", site.volume.root / "plan")
    blocks = []
    check = PackReader._block

    def counting(self, number):
        blocks.append(number)
        return check(self, number)

    monkeypatch.setattr(PackReader, "_block", counting)
    assert whole(plan, site) == expected(chosen, "other")
    assert blocks == sorted(set(blocks)) == list(range(4))


def test_a_damaged_neighbour_stops_no_member_that_is_sound(site):
    kept = site.pack([(f"f{number:03d}", 9728, "own") for number in range(300)])
    passed = kept[:150] + kept[151:]
    carts = {Kind.VERBATIM: (passed, site.reader), Kind.SWEEP: (passed, None), Kind.SMALL: (kept[151:152], None)}
    plans = {
        kind: build([member for member, _ in chosen], "data", site.volume.root / f"plan{kind}", readers)
        for kind, (chosen, readers) in carts.items()
    }
    site.flip(kept[150][0].pack, kept[150][0].offset + 77)
    for kind, plan in plans.items():
        assert set(plan.table.kinds) == {kind}
        tar = expected(carts[kind][0], "data")
        assert whole(plan, site) == tar
        for start in range(MEBI - 5, len(tar), 99_991):
            stop = min(start + 50_000, len(tar))
            assert whole(plan, site, start, stop) == tar[start:stop]


def test_damage_names_the_file_whose_bytes_are_bad(site):
    files = [(f"dir/f{number}", 9728, "own") for number in range(300)] + [("big", 9 * MEBI, "own")]
    kept = site.pack(files)
    plan = build([member for member, _ in kept], "data", site.volume.root / "plan", site.reader)
    for hit in (200, 300):
        member = kept[hit][0]
        site.flip(member.pack, member.offset + 3 * member.size // 4)
        with pytest.raises(Damaged) as failure:
            whole(plan, site)
        assert (failure.value.detail["file"], failure.value.detail["file_id"]) == (member.path, member.id)
        site.flip(member.pack, member.offset + 3 * member.size // 4)


def test_damage_that_may_be_a_neighbours_is_not_blamed_on_a_large_file(site):
    kept = site.pack([("small", 9728, "own"), ("big", 9 * MEBI, "own")])
    site.flip(kept[0][0].pack, kept[0][0].offset)
    plan = build([kept[1][0]], "data", site.volume.root / "plan")
    with pytest.raises(Damaged) as failure:
        whole(plan, site)
    assert "file_id" not in failure.value.detail


def test_a_damaged_header_of_the_pack_is_served_only_where_we_make_our_own(site):
    for style, served in (("own", True), ("gnu", False)):
        kept = site.pack([(f"f{number}", 9728, style) for number in range(300)])
        plan = build([member for member, _ in kept], "data", site.volume.root / "plan", site.reader)
        assert list(plan.table.kinds) == [Kind.VERBATIM]
        tar = whole(plan, site)
        member = kept[150][0]
        site.flip(member.pack, member.offset - 500)
        if served:
            assert whole(plan, site) == tar
            continue
        with pytest.raises(Damaged) as failure:
            whole(plan, site)
        assert "file_id" not in failure.value.detail
        site.flip(member.pack, member.offset + 5)
        with pytest.raises(Damaged) as failure:
            whole(plan, site, 150 * 10240)
        assert failure.value.detail["file_id"] == member.id


def test_a_missing_pack_is_damage_of_the_file_that_lies_in_it(site):
    chosen = site.pack([("here", 5, "own")]) + site.pack([("gone", 5, "own")])
    plan = build([member for member, _ in chosen], "data", site.volume.root / "plan", site.reader)
    site.path(chosen[1][0].pack).unlink()
    with pytest.raises(Damaged) as failure:
        whole(plan, site)
    assert failure.value.detail["file"] == "gone"


def test_a_download_over_many_packs_gives_every_reader_back(site):
    chosen = [
        pair
        for number in range(READERS_MAX * 2)
        for pair in site.pack([(f"{number}/a", 5, "own"), (f"{number}/b", 6, "own")])
    ]
    chosen = chosen[::2] + chosen[1::2]
    plan = build([member for member, _ in chosen], "data", site.volume.root / "plan")
    opened = []

    class Counted(PackReader):
        def __init__(self, *args):
            super().__init__(*args)
            opened.append(self)
            assert sum(not reader._closed for reader in opened) <= READERS_MAX

    assert b"".join(stream(plan, lambda name: Counted(site.volume, name))) == expected(chosen, "data")
    assert all(reader._closed for reader in opened)
    left = stream(plan, lambda name: Counted(site.volume, name))
    next(left)
    left.close()  # a client that goes away
    assert all(reader._closed for reader in opened)


def test_a_download_holds_no_more_than_the_blocks_in_hand(site):
    chosen = site.pack([(f"f{number:05d}", 4096, "own") for number in range(4000)] + [("big", 4 * MEBI, "own")])
    plan = build([member for member, _ in chosen], "other", site.volume.root / "plan")
    tracemalloc.start()
    for _ in stream(plan, site.reader):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * MEBI


def test_the_real_tars_unpack_a_cart(site, tmp_path):
    chosen = site.pack(
        [("dir/a", 3, "own"), ("dir/größe", 513, "pax"), ("p" * 130 + "/" + "q" * 90, 700, "gnu"), ("empty", 0, "own")]
    )
    plan = build([member for member, _ in chosen], "top", site.volume.root / "plan", site.reader)
    (tmp_path / "cart.tar").write_bytes(whole(plan, site))
    for number, command in enumerate((["tar", "-xf"], ["bsdtar", "-xf"], ["7z", "x", "-y", "-bso0"])):
        folder = tmp_path / str(number)
        folder.mkdir()
        done = subprocess.run(
            [*command, "../cart.tar"],
            cwd=folder,
            capture_output=True,
            text=True,
            env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"},
        )
        assert (done.returncode, done.stderr) == (0, "")
        for member, data in chosen:
            assert (folder / "top" / member.path).read_bytes() == data
