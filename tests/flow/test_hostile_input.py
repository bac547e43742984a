"""Whatever a request says to flow: it is answered, never with a fault of ours, and the service goes on."""

import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SLUGS = ["number", "increment", "sum", "twice", "cached", "count-files", "nothing"]
IDS = st.one_of(st.integers(-2, 5), st.integers(2**31 - 2, 2**80), st.integers(-(2**80), -1))
TEXT = st.one_of(
    st.text(max_size=20), st.sampled_from(["archive:1", "archive:99999999999999999999", "transaction:1", "1"])
)
LEAF = st.one_of(st.none(), st.booleans(), IDS, st.floats(), TEXT)
FILE = st.fixed_dictionaries({"file": TEXT}, optional={"file_temp": LEAF, "size": LEAF, "refs": st.lists(LEAF)})
VALUE = st.recursive(
    st.one_of(LEAF, FILE),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
FIELDS = ["value", "source", "file", "files", "label", "factor", "x"]
INPUT = st.dictionaries(st.sampled_from(FIELDS), VALUE, max_size=3)
PROCESS = st.one_of(
    st.fixed_dictionaries({"slug": st.sampled_from(SLUGS)}),
    st.dictionaries(st.sampled_from(["id", "slug"]), LEAF),
    VALUE,
)
DOCUMENT = st.fixed_dictionaries(
    {"process": PROCESS},
    optional={
        "input": st.one_of(INPUT, VALUE),
        "name": VALUE,
        "slug": VALUE,
        "tags": VALUE,
        "resources": st.one_of(VALUE, st.dictionaries(st.sampled_from(["cores", "memory", "storage"]), VALUE)),
        "reuse": VALUE,
    },
)
WORD = st.sampled_from(
    ["id", "name", "slug", "created", "status", "type", "tags", "process", "process__slug", "text", "limit", "offset",
     "ordering", "fields", "contributor", "started"]
)  # fmt: skip
LOOKUP = st.sampled_from(["", "__exact", "__in", "__gt", "__isnull", "__date", "__time", "__icontains", "__startswith"])
QUERY = st.dictionaries(
    st.builds(str.__add__, WORD, LOOKUP), st.one_of(TEXT, IDS.map(str), st.just("2020-02-30")), max_size=3
)
MANY = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def answered(answer):
    assert answer.status_code < 500, (answer.request.url, answer.request.body, answer.text)
    if answer.status_code >= 400:
        assert answer.json()["traceback"] == ""


@MANY
@given(DOCUMENT)
def test_any_document_is_taken_or_refused(flow, document):
    body = json_of(document)
    answered(requests.post(f"{flow.url}/data", data=body, timeout=60))
    answered(requests.post(f"{flow.url}/data/get_or_create", data=body, timeout=60))
    answered(requests.post(f"{flow.url}/data/bulk", data=b"[" + body + b"]", timeout=60))


def json_of(document):
    """JSON as Python writes it, NaN and lone surrogates included."""
    return requests.compat.json.dumps(document).encode()


@MANY
@given(
    st.dictionaries(
        st.builds(str.__add__, WORD, LOOKUP), st.one_of(TEXT, IDS.map(str), st.just("2020-02-30")), max_size=3
    )
)
def test_any_query_is_answered_or_refused(flow, query):
    for resource in ("data", "process", "trigger"):
        answered(requests.get(f"{flow.url}/{resource}", params=query, timeout=60))


@MANY
@given(VALUE, st.sampled_from(["restart", "cancel", "invalidate", ""]), st.one_of(IDS, TEXT))
def test_any_change_is_made_or_refused(flow, body, part, id):
    id = requests.utils.quote(str(id), safe="")
    for one in (id, "1"):
        url = f"{flow.url}/data/{one}"
        if part:
            answered(requests.post(f"{url}/{part}", data=json_of(body), timeout=60))
        else:
            answered(requests.patch(url, data=json_of(body), timeout=60))
        answered(requests.get(f"{url}/stdout", params={"offset": id}, timeout=60))
