"""The main job over real HTTP: a bundle goes in, is verified and archived, and comes out by curl, byte for byte."""

import hashlib
import io
import itertools
import json
import subprocess
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pacifica.tests.system.bundles import TRANSACTION, bundle, entry
from pacifica.tests.system.suite import Suite, wanted

FILES = {
    "a.txt": b"alpha",
    "run/b.dat": bytes(range(256)) * 5000,
    "run/empty": b"",
    "run/block": b"c" * 512,
    "große Datei/ü €.txt": "€".encode() * 1000,
    "long/" + "/".join(["n" * 60] * 6): b"long",
    "part/" + "p" * 200: b"beyond the name field of ustar",
}


def curl(*words: object, cwd: Path | None = None) -> str:
    """Run curl, which has to succeed, and return what it prints."""
    done = subprocess.run(["curl", "-fsS", *map(str, words)], capture_output=True, text=True, cwd=cwd, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def archived(deployment: Suite, posted: bytes, **options: Any) -> list[dict[str, Any]]:
    """Upload ``posted``, see it archived, and return the files of its transaction."""
    job = deployment.upload(posted, **options)
    state = deployment.finished(job["job_id"], 60)
    assert (state["state"], state["task"], state["task_percent"]) == ("OK", "ingest metadata", "100.00000"), state
    return deployment.files(job["job_id"])


def path_of(file: dict[str, Any]) -> str:
    return f"{file['subdir']}/{file['name']}".lstrip("/")


def tar_of(content: bytes) -> dict[str, bytes]:
    """Return the members of a tar by name, each of them once."""
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        members = tar.getmembers()
        found = {member.name: tar.extractfile(member).read() for member in members}  # type: ignore[union-attr]
    assert len(found) == len(members)
    return found


@pytest.fixture(scope="module")
def files(deployment: Suite) -> list[dict[str, Any]]:
    """The files of one archived bundle."""
    return archived(deployment, bundle(FILES))


@pytest.fixture(scope="module")
def cart(deployment: Suite, files: list[dict[str, Any]]) -> str:
    """The URL of a cart that holds them."""
    return deployment.cart(deployment.fill_cart(wanted(files)))


# ---- in ------------------------------------------------------------------------------------------------------------


def test_what_was_posted_is_listed_in_the_order_of_the_metadata_and_served_by_id(
    deployment: Suite, files: list[dict[str, Any]]
) -> None:
    assert [path_of(file) for file in files] == list(FILES)
    assert [file["_id"] for file in files] == list(range(files[0]["_id"], files[0]["_id"] + len(FILES)))
    for file, content in zip(files, FILES.values(), strict=True):
        assert (file["size"], file["hashsum"]) == (len(content), hashlib.sha1(content).hexdigest())
        assert deployment.content(file["_id"]) == content


def test_the_state_object_has_pacificas_eight_keys_from_the_first_answer_on(deployment: Suite) -> None:
    posted = deployment.upload(bundle({"x": b"x"}))
    ended = deployment.finished(posted["job_id"])
    keys = ["job_id", "state", "task", "task_percent", "complete", "updated", "created", "exception"]
    assert list(posted) == list(ended) == keys
    assert (posted["state"], posted["exception"]) == ("OK", "")
    assert isinstance(posted["task_percent"], str)
    assert ended["complete"] is True
    assert posted["created"] == ended["created"] <= ended["updated"]
    assert " " in ended["created"]


@pytest.mark.parametrize("route", ["upload", "ingest"])
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [10, 3 << 20])
def test_both_routes_take_bodies_with_a_length_and_in_chunks(
    deployment: Suite, tmp_path: Path, route: str, chunked: bool, size: int
) -> None:
    (tmp_path / "bundle.tar").write_bytes(bundle({"x": b"x" * size}))
    how = ["-T", tmp_path / "bundle.tar", "-X", "POST"]
    if chunked:
        how += ["-H", "Transfer-Encoding: chunked"]
    state = json.loads(curl(*how, f"{deployment.urls['ingest']}/{route}"))
    assert deployment.finished(state["job_id"])["state"] == "OK"
    assert [file["size"] for file in deployment.files(state["job_id"])] == [size]


@pytest.mark.parametrize(
    "content_type",
    [
        "application/octet-stream",
        "application/x-tar",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=xyz",
        "multipart/form-data",
        "application/json",
        "text/plain; charset=nonsense",
        "not a type at all",
    ],
)
def test_the_content_type_of_a_bundle_is_not_asked(deployment: Suite, content_type: str) -> None:
    assert archived(deployment, bundle({"x": b"x"}), headers={"Content-Type": content_type})


def test_a_bundle_of_curl_data_binary_is_taken_as_it_is(deployment: Suite, tmp_path: Path) -> None:
    (tmp_path / "bundle.tar").write_bytes(bundle({"x": b"a=b&c=%00\r\n" * 1000}))
    state = json.loads(curl("--data-binary", f"@{tmp_path}/bundle.tar", f"{deployment.urls['ingest']}/upload"))
    assert deployment.finished(state["job_id"])["state"] == "OK"


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_tar_format_brings_its_names(deployment: Suite, form: int) -> None:
    contents = {"a": b"1", "sub/" + "d" * 90 + "/" + "e" * 90: b"2"}
    if form != tarfile.USTAR_FORMAT:
        contents |= {"sub/" + "f" * 250: b"3", "ü/" + "ß" * 120: b"4"}
    found = archived(deployment, bundle(contents, format=form))
    assert {path_of(file): deployment.content(file["_id"]) for file in found} == contents


def test_ids_follow_the_metadata_when_the_tar_has_another_order(deployment: Suite) -> None:
    contents = {f"f{number}": b"%d" % number * number for number in range(9)}
    order = [4, 0, 8, 3, 1, 7, 2, 6, 5]
    said = [*TRANSACTION, *(entry(f"f{number}", contents[f"f{number}"]) for number in order)]
    found = archived(deployment, bundle(contents, said))
    assert [file["name"] for file in found] == [f"f{number}" for number in order]
    for file in found:
        assert deployment.content(file["_id"]) == contents[file["name"]]


@pytest.mark.parametrize("hashtype", ["md5", "sha1", "sha256", "sha512"])
@pytest.mark.parametrize("upper", [False, True])
@pytest.mark.parametrize("prefix", [False, True])
def test_a_digest_may_be_of_any_kind_and_case_and_carry_its_prefix(
    deployment: Suite, hashtype: str, upper: bool, prefix: bool
) -> None:
    digest = hashlib.new(hashtype, b"alpha").hexdigest()
    said = (f"{hashtype}:" if prefix else "") + (digest.upper() if upper else digest)
    listed = entry("x", b"alpha", hashtype=hashtype, hashsum=said)
    (file,) = archived(deployment, bundle({"x": b"alpha"}, [*TRANSACTION, listed]))
    assert (file["hashtype"], file["hashsum"]) == (hashtype, digest)


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.one_of(
            st.integers(0, 1100),
            st.sampled_from([511, 512, 513, (1 << 20) - 1, 1 << 20, (1 << 20) + 1]),
            st.integers(0, 300_000),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_files_of_any_sizes_come_back_by_id_and_by_cart(deployment: Suite, sizes: list[int]) -> None:
    contents = {f"d{i % 3}/f{i}": hashlib.shake_128(b"%d" % i).digest(size) for i, size in enumerate(sizes)}
    found = archived(deployment, bundle(contents))
    for file in found:
        assert deployment.content(file["_id"]) == contents[path_of(file)]
    url = deployment.cart(deployment.fill_cart(wanted(found)))
    assert tar_of(requests.get(url, {"filename": "t"}, timeout=30).content) == {
        f"t/{k}": v for k, v in contents.items()
    }


def test_ten_thousand_files_go_in_and_come_out(deployment: Suite) -> None:
    contents = {f"d{number % 100}/f{number}": b"%d" % number for number in range(10_000)}
    found = archived(deployment, bundle(contents))
    assert len(found) == 10_000
    assert [file["_id"] for file in found] == list(range(found[0]["_id"], found[0]["_id"] + 10_000))
    url = deployment.cart(deployment.fill_cart(wanted(found)))
    assert tar_of(requests.get(url, {"filename": "t"}, timeout=60).content) == {
        f"t/{k}": v for k, v in contents.items()
    }
    assert len(requests.get(f"{url}/files", timeout=60).json()["files"]) == 10_000


def test_uploads_at_the_same_time_get_ids_of_their_own(deployment: Suite) -> None:
    jobs = [deployment.upload(bundle({f"{n}/{i}": b"%d" % n for i in range(5)}))["job_id"] for n in range(6)]
    assert {deployment.finished(job)["state"] for job in jobs} == {"OK"}
    ids = [file["_id"] for job in jobs for file in deployment.files(job)]
    assert len(set(ids)) == len(ids) == 30


# ---- single files --------------------------------------------------------------------------------------------------


def test_a_range_of_a_file_is_served(deployment: Suite, files: list[dict[str, Any]]) -> None:
    url, content = f"{deployment.urls['archive']}/{files[1]['_id']}", FILES["run/b.dat"]
    for said, expected in {
        "0-0": content[:1],
        "100-": content[100:],
        "-7": content[-7:],
        "5-99999999": content[5:],
    }.items():
        answer = requests.get(url, headers={"Range": f"bytes={said}"}, timeout=10)
        assert (answer.status_code, answer.content) == (206, expected), said
    beyond = requests.get(url, headers={"Range": f"bytes={len(content)}-"}, timeout=10)
    assert (beyond.status_code, beyond.json()["code"]) == (416, "range_not_satisfiable")


def test_head_of_a_file_tells_its_size(deployment: Suite, files: list[dict[str, Any]]) -> None:
    for file in files:
        answer = requests.head(f"{deployment.urls['archive']}/{file['_id']}", timeout=10)
        assert (answer.status_code, answer.headers["X-Content-Length"]) == (204, str(file["size"]))
        assert answer.headers["X-Pacifica-File"] == str(file["_id"])


@pytest.mark.parametrize("id", ["0", "999999999", "-1", "1_0", "x", "1.0", "9" * 30, "\u0661", "", "%00", "1%2F2"])
def test_a_file_id_that_is_none_is_refused(deployment: Suite, id: str) -> None:
    answer = requests.get(f"{deployment.urls['archive']}/{id}", timeout=10)
    assert answer.status_code in (400, 404), answer.text
    assert answer.json()["code"] in ("bad_request", "not_found")


@pytest.mark.parametrize("id", ["0", "999999999", "-1", "1_0", "x", "1.0", "9" * 5000, "\u0661", "", "%20" + "1"])
def test_a_job_id_that_is_none_is_refused(deployment: Suite, files: list[dict[str, Any]], id: str) -> None:
    answer = requests.get(f"{deployment.urls['ingest']}/get_state?job_id={id}", timeout=10)
    assert answer.status_code in (400, 404), answer.text
    assert answer.json()["code"] in ("bad_request", "not_found")


# ---- carts ---------------------------------------------------------------------------------------------------------


def test_head_promises_what_get_delivers(cart: str) -> None:
    head = requests.head(cart, timeout=10)
    assert (head.status_code, head.headers["X-Pacifica-Status"], head.headers["X-Pacifica-Message"]) == (
        204,
        "ready",
        "",
    )
    answer = requests.get(cart, timeout=10)
    assert len(answer.content) == int(answer.headers["Content-Length"]) == int(head.headers["X-Content-Length"])
    assert answer.headers["Content-Disposition"]
    assert requests.get(cart, timeout=10).content == answer.content


def test_the_tar_holds_every_file_below_its_own_name(cart: str) -> None:
    answer = requests.get(cart, {"filename": "mine.tar"}, timeout=10)
    assert tar_of(answer.content) == {f"mine/{path}": content for path, content in FILES.items()}
    unnamed = tar_of(requests.get(cart, timeout=10).content)
    assert {name.partition("/")[2]: content for name, content in unnamed.items()} == FILES


def test_curl_takes_the_name_from_us_and_tar_unpacks_it(cart: str, tmp_path: Path) -> None:
    curl("-O", "-J", f"{cart}?filename=docs.tar", cwd=tmp_path)
    subprocess.run(["tar", "xf", "docs.tar"], cwd=tmp_path, check=True)
    unpacked = {
        str(path.relative_to(tmp_path / "docs")): path.read_bytes()
        for path in (tmp_path / "docs").rglob("*")
        if path.is_file()
    }
    assert unpacked == FILES
    assert len(list(tmp_path.iterdir())) == 2


def test_a_download_that_broke_off_is_resumed(cart: str, tmp_path: Path) -> None:
    whole = requests.get(f"{cart}?filename=d", timeout=10).content
    for cut in (0, 1, 511, 512, 700_000, len(whole) - 1):
        part = tmp_path / f"part{cut}"
        part.write_bytes(whole[:cut])
        curl("-C", "-", "-o", part, f"{cart}?filename=d")
        assert part.read_bytes() == whole, cut


def test_any_range_of_the_tar_is_a_part_of_it(cart: str) -> None:
    whole = requests.get(cart, timeout=10).content
    etag = requests.get(cart, timeout=10).headers["ETag"]
    edges = [0, 1, 511, 513, 1024, len(whole) // 2, len(whole) - 1025, len(whole) - 1]
    for low, high in itertools.combinations(edges, 2):
        answer = requests.get(cart, headers={"Range": f"bytes={low}-{high}", "If-Range": etag}, timeout=10)
        assert (answer.status_code, answer.content) == (206, whole[low : high + 1])
    changed = requests.get(cart, headers={"Range": "bytes=5-9", "If-Range": '"another"'}, timeout=10)
    assert (changed.status_code, changed.content) == (200, whole)


def test_one_file_of_a_cart_is_served_alone(cart: str) -> None:
    listed = requests.get(f"{cart}/files", timeout=10).json()["files"]
    assert {file["path"]: file["size"] for file in listed} == {path: len(content) for path, content in FILES.items()}
    for path, content in FILES.items():
        answer = requests.get(f"{cart}/files/{requests.utils.quote(path)}", timeout=10)
        assert (answer.status_code, answer.content) == (200, content), path


def test_a_second_cart_under_the_same_uid_takes_its_place(deployment: Suite, files: list[dict[str, Any]]) -> None:
    uid = deployment.fill_cart(wanted(files[:1]))
    url = deployment.cart(deployment.fill_cart(wanted(files[2:4]), uid))
    names = {name.partition("/")[2] for name in tar_of(requests.get(url, timeout=10).content)}
    assert names == {path_of(file) for file in files[2:4]}
    assert requests.delete(url, timeout=10).status_code == 200
    assert requests.get(url, timeout=10).status_code == 404


def test_a_cart_ends_with_delete(deployment: Suite, files: list[dict[str, Any]]) -> None:
    url = deployment.cart(deployment.fill_cart(wanted(files)))
    deleted = requests.delete(url, timeout=10)
    assert (deleted.status_code, deleted.json()) == (200, {"message": "Cart Deleted Successfully"})
    for method in ("GET", "DELETE"):
        answer = requests.request(method, url, timeout=10)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    head = requests.head(url, timeout=10)
    assert (head.status_code, head.headers["X-Pacifica-Status"]) == (404, "error")
    assert "found" in head.headers["X-Pacifica-Message"]
    assert deployment.content(files[0]["_id"]) == FILES["a.txt"]


def test_a_download_under_way_outlives_its_cart(deployment: Suite) -> None:
    contents = {f"f{number}": hashlib.shake_128(b"%d" % number).digest(4 << 20) for number in range(8)}
    url = deployment.cart(deployment.fill_cart(wanted(archived(deployment, bundle(contents)))))
    with requests.get(url, {"filename": "t"}, stream=True, timeout=30) as answer:
        pieces: Iterator[bytes] = answer.iter_content(64 << 10)
        begun = next(pieces)
        assert requests.delete(url, timeout=10).status_code == 200
        whole = b"".join([begun, *pieces])
    assert tar_of(whole) == {f"t/{name}": content for name, content in contents.items()}


def test_files_of_many_bundles_come_in_one_cart_under_new_names(deployment: Suite) -> None:
    contents = [{f"f{i}": b"%d-%d" % (n, i) * 99 for i in range(4)} for n in range(5)]
    found = [file for each in contents for file in archived(deployment, bundle(each))]
    mixed = [*found[::2], *found[1::2]]
    url = deployment.cart(deployment.fill_cart(wanted(mixed, lambda file: f"new/{file['_id']}")))
    expected = {f"t/new/{file['_id']}": deployment.content(file["_id"]) for file in found}
    assert tar_of(requests.get(url, {"filename": "t.tar"}, timeout=10).content) == expected


@pytest.mark.parametrize("hashtype", ["md5", "sha256"])
def test_a_cart_may_declare_another_digest_than_the_archive_holds(
    deployment: Suite, files: list[dict[str, Any]], hashtype: str
) -> None:
    entries = [
        one | {"hashtype": hashtype, "hashsum": hashlib.new(hashtype, FILES[one["path"]]).hexdigest()}
        for one in wanted(files)
    ]
    url = deployment.cart(deployment.fill_cart(entries))
    assert requests.head(url, timeout=10).headers["X-Pacifica-Status"] == "ready"
    entries[3]["hashsum"] = hashlib.new(hashtype, b"something else").hexdigest()
    head = requests.head(deployment.cart(deployment.fill_cart(entries)), timeout=10)
    assert (head.status_code, head.headers["X-Pacifica-Status"]) == (500, "error")
    assert "does not match" in head.headers["X-Pacifica-Message"]


def test_a_cart_of_what_is_not_there_is_in_error_and_says_so(deployment: Suite, files: list[dict[str, Any]]) -> None:
    entries = wanted(files)
    for broken in (entries[1] | {"id": 999_999_999}, entries[1] | {"hashsum": "0" * 40}):
        url = deployment.cart(deployment.fill_cart([entries[0], broken]))
        head = requests.head(url, timeout=10)
        assert (head.status_code, head.headers["X-Pacifica-Status"]) == (500, "error")
        assert head.headers["X-Pacifica-Message"]
        answer = requests.get(url, timeout=10)
        assert (answer.status_code, answer.json()["traceback"]) == (500, "")
        assert requests.delete(url, timeout=10).status_code == 200


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"fileids": []}',
        b'{"fileids": {}}',
        b'{"fileids": [1]}',
        b'{"fileids": [{"id": 1}]}',
        b"[" * 100_000,
        b'{"fileids": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"\xff\xfe",
        *(
            json.dumps({"fileids": [{"id": id, "path": path, "hashtype": "sha1", "hashsum": "0" * 40}]}).encode()
            for id, path in [("1", "../x"), ("1", "/../x"), ("1", "a//b"), ("1", ""), ("1", "a\nb"), ("1", "a\0b"),
                             ("1", "/"), ("x", "a"), (-1, "a"), (0, "a"), (1 << 70, "a"), ("1", "n" * 256),
                             ("1", "\ud800")]
        ),
        json.dumps({"fileids": [{"id": 1, "path": "a", "hashtype": "sha1", "hashsum": "0"}] * 2}).encode(),
    ],
)  # fmt: skip
def test_a_selection_that_is_none_is_refused_and_leaves_no_cart(deployment: Suite, document: bytes) -> None:
    url = deployment.cart(str(uuid.uuid4()))
    answer = requests.post(url, data=document, headers={"Content-Type": "application/json"}, timeout=10)
    assert answer.status_code == 400, answer.text
    assert answer.json()["code"] in ("bad_json", "bad_selection")
    assert requests.get(url, timeout=10).status_code == 404


@pytest.mark.parametrize(
    "name", ["..", ".", "a/b", "a\nb", "a\x00b", "x" * 300, "/", "\\..\\x\r\ny", "back\\slash.tar"]
)
def test_a_download_name_that_is_none_is_refused(cart: str, name: str) -> None:
    answer = requests.get(cart, {"filename": name}, timeout=10)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


@pytest.mark.parametrize("name", ['quo"te.tar', "ü€.tar", "semi;colon.tar", "no-end", "a b.tar"])
def test_a_download_name_may_be_anything_printable(cart: str, name: str, tmp_path: Path) -> None:
    answer = requests.get(cart, {"filename": name}, timeout=10)
    assert answer.status_code == 200
    folder = name.removesuffix(".tar")
    assert {member.partition("/")[0] for member in tar_of(answer.content)} == {folder}


@pytest.mark.parametrize(
    "uid", ["healthz", "readyz", "metrics", "docs", "openapi.yaml", "x" * 256, "..%2f", "a%0ab", "%2e%2e"]
)
def test_a_uid_that_is_none_is_refused(deployment: Suite, files: list[dict[str, Any]], uid: str) -> None:
    answer = requests.post(deployment.cart(uid), json={"fileids": wanted(files)}, timeout=10)
    assert answer.status_code in (400, 404, 405), answer.text
