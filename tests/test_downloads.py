"""Downloads as people do them: every command of docs/cartd.md, and connections that break, in both deployments."""

import hashlib
import io
import os
import random
import re
import socket
import subprocess
import sys
import tarfile
import uuid
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from pacifica.tests.system.bundles import bundle
from pacifica.tests.system.called import Calls, every_route
from pacifica.tests.system.suite import Suite, wanted

CHAPTER = Path(__file__).parents[1] / "docs" / "cartd.md"
NOISE = random.Random(5).randbytes(1 << 20)
FILES = {
    "a.txt": b"alpha",
    "sub/b.dat": NOISE * 3,
    "sub/leer": b"",
    "größe/дані €.txt": b"names",
    "long/" + "/".join(["n" * 60] * 5) + "/file": b"beyond ustar",
    "p" * 101: b"one byte too long for the name field",
    "a block": NOISE[:512],
    "a block and one": NOISE[:513],
    **{f"many/{number:03}": NOISE[number * 100 : number * 100 + number] for number in range(300)},
}


@pytest.fixture(scope="module")
def files(deployment: Suite) -> list[dict[str, Any]]:
    """The files of one archived bundle."""
    job = deployment.upload(bundle(FILES))
    assert deployment.finished(job["job_id"], 60)["state"] == "OK"
    return deployment.files(job["job_id"])


@pytest.fixture(scope="module")
def cart(deployment: Suite, files: list[dict[str, Any]]) -> str:
    """The URL of a cart that holds them."""
    return deployment.cart(deployment.fill_cart(wanted(files)))


def run(blocks: list[str], folder: Path, environment: dict[str, str], **variables: str) -> str:
    """Run blocks of shell commands one after the other; AssertionError for one that fails or complains."""
    path = f"{Path(sys.executable).parent}:{environment['PATH']}"
    said = ""
    for block in blocks:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block], cwd=folder, capture_output=True, timeout=60, check=False,
            env=environment | variables | {"PATH": path, "LC_ALL": "C.UTF-8"},
        )  # fmt: skip
        assert (done.returncode, done.stderr.decode()) == (0, ""), block
        said += done.stdout.decode()
    return said


def commands(of: str) -> list[str]:
    """Return the blocks of commands of the chapter's part ``of``: user or administrator."""
    parts = dict(zip(("user", "administrator"), CHAPTER.read_text().split("\n## Administration\n"), strict=True))
    blocks = re.findall(r"^```sh\n(.*?)^```$", parts[of], re.DOTALL | re.MULTILINE)
    assert len(blocks) == len(re.findall(r"^```sh$", parts[of], re.MULTILINE))
    return blocks


def test_every_command_of_the_chapter_does_what_it_says(
    deployment: Suite, files: list[dict[str, Any]], tmp_path: Path
) -> None:
    blocks = commands("user")
    assert len(blocks) >= 10
    urls = {name: deployment.urls[name] for name in ("cartd", "datasafe")}
    job = str(files[0]["transaction_id"])
    (tmp_path / "called").mkdir()
    calls, routes = Calls(tmp_path / "called"), every_route(tmp_path / "called")
    environment = os.environ | {"PATH": f"{calls.folder}:{os.environ['PATH']}"}
    said = run(blocks, tmp_path, environment, **urls, uid=str(uuid.uuid4()), job=job)
    mine = {route for route in routes if route[0] == "cartd"}
    assert calls.routes(deployment.urls, routes) >= mine
    assert "X-Pacifica-Status: ready" in said
    assert "Cart Deleted Successfully" in said
    for folder in ("run", "piped/run", "with-bsdtar/run", "with-7z/run"):
        found = {
            str(path.relative_to(tmp_path / folder)): path.read_bytes()
            for path in (tmp_path / folder).rglob("*")
            if path.is_file()
        }
        assert found == FILES, folder


def test_every_command_of_the_administrator_does_what_it_says(
    deployment: Suite, files: list[dict[str, Any]], tmp_path: Path
) -> None:
    blocks = commands("administrator")
    assert {word for block in blocks for word in block.split()} >= {"dbchk", "dump", "fixit", "purge"}
    uid = deployment.fill_cart(wanted(files))
    said = run(blocks, tmp_path, deployment.administrators, uid=uid).splitlines()
    assert f"{uid}\tready\troot\t" in said
    assert f"{uid}: ready" in said
    assert said[-1] == "0 carts purged"
    assert len(requests.get(deployment.cart(uid), timeout=30).content) > len(NOISE)


def test_every_reader_of_tar_reads_it_without_a_word(cart: str, tmp_path: Path) -> None:
    (tmp_path / "run.tar").write_bytes(requests.get(f"{cart}?filename=run.tar", timeout=30).content)
    environment = os.environ | {"LC_ALL": "C.UTF-8"}
    for command in (["tar", "-tf"], ["bsdtar", "-tf"], ["7z", "t"]):
        done = subprocess.run([*command, "run.tar"], cwd=tmp_path, env=environment, capture_output=True, timeout=30)
        assert (done.returncode, done.stderr) == (0, b""), command
        assert b"WARN" not in done.stdout.upper(), command
    with tarfile.open(tmp_path / "run.tar", "r|") as tar:
        assert [member.name for member in tar] == [f"run/{path}" for path in FILES]


def test_a_range_at_every_edge_of_every_header_is_that_part_of_the_tar(
    deployment: Suite, files: list[dict[str, Any]]
) -> None:
    few = [file for file in files if file["subdir"] != "many" or file["name"] == "001"]
    few = [file for file in few if file["size"] < 1000]
    url = deployment.cart(deployment.fill_cart(wanted(few)))
    with requests.Session() as session:
        whole = session.get(url, params={"filename": "run.tar"}, timeout=30).content
        edges = {0, len(whole)}
        with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
            members = tar.getmembers()
        assert len(members) == len(few) == len(FILES) - 300
        for member in members:
            edges |= {member.offset, member.offset_data, member.offset_data + member.size}
            edges |= set(range(member.offset, member.offset_data, 512))  # a PAX header has several blocks
        near = sorted({at + step for at in edges for step in (-1, 0, 1) if 0 <= at + step <= len(whole)})
        for start, stop in [*pairwise(near), *((at, len(whole)) for at in near), *((0, at) for at in near)]:
            if start < stop:
                asked = {"Range": f"bytes={start}-{stop - 1}"}
                part = session.get(url, params={"filename": "run.tar"}, headers=asked, timeout=30)
                told = part.status_code, part.headers["Content-Range"]
                assert told == (206, f"bytes {start}-{stop - 1}/{len(whole)}")
                assert part.content == whole[start:stop]


def test_fifty_breaks_at_random_offsets_and_fifty_resumptions_give_the_same_bytes(cart: str) -> None:
    whole = requests.get(f"{cart}?filename=run.tar", timeout=30)
    tag, size = whole.headers["ETag"], len(whole.content)
    place, chance = urlsplit(cart), random.Random(8)
    got = b""
    stops = sorted(chance.randrange(1, size) for _ in range(50))
    for stop in stops:
        if stop == len(got):
            continue
        with socket.create_connection((place.hostname, place.port), 30) as connection:  # type: ignore[arg-type]
            request = f"GET {place.path}?filename=run.tar HTTP/1.1\r\nHost: {place.netloc}\r\nIf-Range: {tag}\r\n"
            connection.sendall(f"{request}Range: bytes={len(got)}-\r\n\r\n".encode())
            reader = connection.makefile("rb")
            assert b" 206 " in reader.readline()
            while reader.readline().strip():
                pass
            part = reader.read(stop - len(got))
            got += part  # and the connection breaks here, with the answer under way
            reader.close()
    rest = requests.get(
        f"{cart}?filename=run.tar", headers={"Range": f"bytes={len(got)}-", "If-Range": tag}, timeout=30
    )
    assert rest.status_code == 206
    assert hashlib.sha256(got + rest.content).digest() == hashlib.sha256(whole.content).digest()


def test_a_part_of_another_cart_is_never_put_behind_a_part_of_this_one(
    deployment: Suite, files: list[dict[str, Any]], cart: str
) -> None:
    other = deployment.cart(deployment.fill_cart(wanted(files[1:])))
    tag = requests.get(f"{cart}?filename=run.tar", headers={"Range": "bytes=0-0"}, timeout=30).headers["ETag"]
    answer = requests.get(f"{other}?filename=run.tar", headers={"Range": "bytes=1000-", "If-Range": tag}, timeout=30)
    assert answer.status_code == 200
    assert answer.headers["ETag"] != tag


def test_a_download_of_a_cart_that_was_posted_anew_begins_anew(
    deployment: Suite, files: list[dict[str, Any]], tmp_path: Path
) -> None:
    url = f"{deployment.cart(uid := deployment.fill_cart(wanted(files)))}?filename=run.tar"
    old = requests.get(url, timeout=30)
    deployment.fill_cart(wanted(files[:4]), uid)
    new = requests.get(url, timeout=30)
    for tag, status, content in (
        (old.headers["ETag"], 200, new.content),
        (new.headers["ETag"], 206, new.content[700:]),
    ):
        command = ["curl", "-fsS", "-r", "700-", "-H", f"If-Range: {tag}", "-o", "got", "-w", "%{http_code}", url]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=30, check=True)
        assert (int(done.stdout), (tmp_path / "got").read_bytes()) == (status, content)
    assert len(new.content) != len(old.content)
    weak = {"Range": "bytes=700-", "If-Range": f"W/{new.headers['ETag']}"}
    assert requests.get(url, headers=weak, timeout=30).status_code == 200


def test_the_wrong_range_of_a_complete_download_ends_curl_and_wget_well(cart: str, tmp_path: Path) -> None:
    whole = requests.get(f"{cart}?filename=run.tar", timeout=30).content
    target = tmp_path / "run.tar"
    for command in (["wget", "-q", "-c", "-O", target], ["curl", "-sS", "-C", "-", "-o", target]):
        target.write_bytes(whole)
        done = subprocess.run([*command, f"{cart}?filename=run.tar"], capture_output=True, timeout=30)
        assert done.returncode == 0, (command, done.stderr)
        assert target.read_bytes() == whole


def test_wget_takes_the_name_from_us(cart: str, tmp_path: Path) -> None:
    command = ["wget", "-q", "--content-disposition", f"{cart}?filename=named.tar"]
    assert subprocess.run(command, cwd=tmp_path, timeout=30).returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["named.tar"]


def test_many_downloads_at_once_are_all_the_same(cart: str) -> None:
    def digest(number: int) -> str:
        return hashlib.sha256(requests.get(f"{cart}?filename=run.tar", timeout=60).content).hexdigest()

    with ThreadPoolExecutor(12) as pool:
        assert len(set(pool.map(digest, range(24)))) == 1
