"""Templates: quoting, undefined, filters, and no way to Python's internals."""

import random
import subprocess
import threading

import pytest

from pacifica.common.errors import BadConfiguration
from pacifica.flow.filters import filters
from pacifica.flow.hydrate import Record, StoredPath, context
from pacifica.flow.template import BadTemplate, Engine, Nothing

ENGINE = Engine()

RENDERED = [
    ("echo {{ x }}", {"x": "a'b c"}, "echo 'a'\"'\"'b c'"),
    ("{{ x }} {{ y }} {{ z }}", {"x": "safe-1.txt", "y": "", "z": None}, "safe-1.txt '' None"),
    ("{{ x }}", {"x": ["a", 1]}, "'['\"'\"'a'\"'\"', 1]'"),
    ("{{ x }}", {"x": True}, "True"),
    ('"{{ x }}" & <a>', {"x": "a b"}, "\"'a b'\" & <a>"),
    ("{{ 'a b' }} {{ '<' }} {{ 2 + 3 }} {{ 'a b' | upper }}", {}, "a b &lt; 5 A B"),
    ("{{ x | safe }} {{ x | safe | upper }} {{ (x | safe) ~ 'c' }}", {"x": "a b"}, "a b 'A B' 'a bc'"),
    ("{{ x | tojson }}", {"x": {"a": "b"}}, '&#39;{"a": "b"}&#39;'),
    ("{{ x | tojson | safe }}", {"x": {"a": "b"}}, '{"a": "b"}'),
    ("{% autoescape false %}{{ x }}{% endautoescape %} {{ x }}", {"x": "a b"}, "a b 'a b'"),
    ("{% set t %}ls {{ x }}{% endset %}{{ t }}", {"x": "a b"}, "ls 'a b'"),
    ("{% macro m(a) %}-{{ a }}{% endmacro %}{{ m('x') }}", {}, "-x"),
    ("{{ nope }}|{{ nope.a.b[0](1) }}|{{ nope | default('d') }}|{{ nope | length }}", {}, "''|''|d|0"),
    (
        "{% if nope %}y{% else %}n{% endif %}{% for a in nope %}y{% endfor %}{% if x.y is defined %}y{% endif %}",
        {"x": {}},
        "n",
    ),
    ("{{ x | round }}|{{ 'a' | round }}|", {"x": "a"}, "''||"),
    (
        "{% set ns = namespace(d={}) %}{% for k in x %}{% set ns.d = dict(ns.d, **{k: 1}) %}{% endfor %}"
        "{{ ns.d | tojson | safe }}",
        {"x": ["a", "b"]},
        '{"a": 1, "b": 1}',
    ),
]


@pytest.mark.parametrize(("text", "names", "rendered"), RENDERED, ids=[text for text, *_ in RENDERED])
def test_programs_render_as_the_language_says(text, names, rendered):
    assert ENGINE.program(text, names) == rendered


ESCAPES = [
    "{{ x.__class__ }}",
    "{{ ''.__class__.__mro__ }}",
    "{{ x['__class__'] }}",
    "{{ cycler.__init__.__globals__ }}",
    "{{ '%s' % x.__class__ }}",
    "{{ '{0.__class__}'.format(x) }}",
    "{{ x.append(1) }}",
    "{{ d.update(a=1) }}",
    "{{ f.__code__ }}",
    "{{ namespace.__init__ }}",
    "{{ lipsum.__globals__['os'] }}",
    "{% include 'x' %}",
    "{% import 'os' as os %}",
    "{{ self.__init__ }}",
    "{{ d.__setitem__('a', 1) }}",
    "{{ 'a' * 10 ** 9 }}",
    "{{ 9 ** 99999 }}",
    "{{ [0] * 2000000 }}",
    "{{ '%999999d' % 1 }}",
    "{{ range(10000000) | list }}{{ u + 1 }}",
]


@pytest.mark.parametrize("text", ESCAPES)
def test_templates_that_reach_for_internals_are_an_error(text):
    with pytest.raises(BadTemplate):
        ENGINE.program(text, {"x": [1], "d": {}, "f": lambda: 1})


@pytest.mark.parametrize("text", ["{{ x | attr('__class__') }}", "{{ x | map(attribute='__class__') | first }}"])
def test_filters_give_no_way_around(text):
    assert "class" not in ENGINE.program(text, {"x": [1]})


@pytest.mark.parametrize("text", ["{{ x + 1 }}", "{{ 1 | nofilter }}", "{% nosuch %}", "{{ a b }}", "{{", "{% for %}"])
def test_errors_of_evaluation_are_told(text):
    with pytest.raises(BadTemplate):
        ENGINE.program(text, {})
    assert ENGINE.name(text, {}) == "?"


def test_text_that_grows_without_end_is_stopped():
    with pytest.raises(BadTemplate, match="longer than"):
        ENGINE.text("{% for a in range(99999) %}{{ x }}{% endfor %}", {"x": "y" * 1000})


def test_names_are_not_quoted_and_are_cut():
    assert ENGINE.name("{{ x }} {{ x | safe }}", {"x": "a b"}) == "a b a b"
    assert ENGINE.name("{{ x }}", {"x": "y" * 101}) == "y" * 97 + "..."
    assert len(ENGINE.name("{{ x }}", {"x": "y" * 100})) == 100


def test_the_text_of_an_input_is_stripped_as_an_expression_is():
    assert Engine().value("  a {{ x }} ", {"x": "b "}) == "a b "


def test_a_name_is_one_line_that_any_database_takes():
    assert Engine().name("{{ x }}", {"x": "a\nb\0c\ud800d\u2028e"}) == "a b c d e"


def test_expressions_keep_their_native_type():
    assert ENGINE.value(" {{ x }} ", {"x": [1, 2]}) == [1, 2]
    assert ENGINE.value("{{ nope }}", {}) is None
    assert ENGINE.value("a{{ 1 }}", {}) == "a1"
    with pytest.raises(BadTemplate):
        ENGINE.value("{{ a }} {{ b }}", {"a": 1, "b": 2})


def test_whatever_a_value_holds_bash_sees_one_word():
    random.seed(7)
    for _ in range(20):
        value = "".join(chr(random.choice([*range(1, 128), 0x2028, 0xE9, 0x1F600])) for _ in range(40))
        said = subprocess.run(
            ["bash", "-c", ENGINE.program("printf %s {{ x }}", {"x": value})], check=True, stdout=subprocess.PIPE
        ).stdout
        assert said.decode() == value


def test_one_engine_serves_many_threads():
    wrong = []

    def work(number):
        for round_ in range(50):
            if ENGINE.program(f"{{{{ x }}}} {round_}", {"x": f"{number} "}) != f"'{number} ' {round_}":
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert wrong == []


class World:
    """A small world: one object with a file, a directory and a document."""

    host_url = "localhost"
    loaded = 0
    record = Record(
        id=7,
        type="data:reads:fastq:",
        name="My reads",
        slug="my-reads",
        input={"src": {"file": "a.gz", "file_temp": "t1"}, "g": {"n": 5}},
        input_schema=[
            {"name": "src", "type": "basic:file:"},
            {"name": "g", "group": [{"name": "n", "type": "basic:integer:"}]},
        ],
        output={"fastq": {"file": "reads/a b.fq", "size": 3}, "doc": 31, "folder": {"dir": "d", "refs": ["r.txt"]}},
        output_schema=[
            {"name": "fastq", "type": "basic:file:"},
            {"name": "doc", "type": "basic:json:"},
            {"name": "folder", "type": "basic:dir:"},
        ],
        descriptor={"sample": {"age": 3}, "tags": ["x"]},
    )

    def data(self, id):
        return self.record if id == 7 else None

    def data_by_slug(self, slug):
        return 7 if slug == "my-reads" else None

    def document(self, id):
        self.loaded += 1
        return {"id": id}

    def path(self, data_id, name):
        return f"/inputs/{data_id}/{name}"

    def upload(self, name):
        return f"/uploads/{name}"


FIELDS = [
    {"name": "reads", "type": "data:reads:"},
    {"name": "many", "type": "list:data:reads:"},
    {"name": "src", "type": "basic:file:"},
    {"name": "url", "type": "basic:file:"},
    {"name": "gone", "type": "data:"},
]
VALUES = {
    "reads": 7,
    "many": [7, None, 9],
    "src": {"file": "x.txt", "file_temp": "tmp1"},
    "url": {"file": "x", "file_temp": "https://host/x"},
    "gone": 9,
    "proc": "shadowed",
}

FILTERED = [
    ("{{ reads.fastq.file }} {{ reads.fastq.refs }}", "'/inputs/7/reads/a b.fq' '[]'"),
    ("{{ reads.folder.dir }} {{ reads.folder.refs[0] }}", "/inputs/7/d /inputs/7/r.txt"),
    ("{{ reads.__id }} {{ reads | id }} {{ reads | type }} {{ many | id }}", "7 7 data:reads:fastq: ''"),
    (
        "{{ reads | name }} {{ 7 | name }} {{ reads | slug }} {{ [reads] | slug | first }}",
        "'My reads' My reads my-reads my-reads",
    ),
    ("{{ reads | input('g.n') }} {{ reads | input('src.file_temp') }} {{ reads | input('zz') }}", "5 /uploads/t1 ''"),
    ("{{ reads | type | subtype('data:reads:') }} {{ 'data:b:' | subtype('data:a:') }}", "True False"),
    ("{{ reads.fastq.file | basename }} {{ reads.fastq.file | dirname }}", "'a b.fq' /inputs/7/reads"),
    (
        "{{ reads.fastq | relative_path }} {{ reads.fastq.file | relative_path }} {{ 'x' | relative_path }}",
        "'reads/a b.fq' 'reads/a b.fq' ",
    ),
    ("{{ reads.fastq | get_url }}", "'localhost/data/7/reads/a b.fq'"),
    ("{{ reads | descriptor('sample.age') }} {{ reads | descriptor('sample') }}", "3 '{\"age\": 3}'"),
    ("{{ gone }} {{ gone.file }} {{ gone | id }}", "'{}' '' ''"),
    ("{{ src.file_temp }} {{ url.file_temp }}", "/uploads/tmp1 https://host/x"),
    (
        "{{ (x is defined) | yesno('a', 'b') }} {{ [true, false] | any }} "
        "{{ 'my-reads' | data_by_slug }} {{ 'no' | data_by_slug }}",
        "b True 7 ",
    ),
    ("{{ proc.data_id }} {{ requirements.resources.cores }}", "3 2"),
    ("{{ reads.doc.id }} {{ reads | tojson | safe | length > 10 }} {{ 'fastq' in reads }}", "31 True True"),
]


@pytest.mark.parametrize(("text", "rendered"), FILTERED, ids=[text for text, _ in FILTERED])
def test_inputs_and_filters(text, rendered):
    world = World()
    names = context(world, 3, FIELDS, VALUES, {"expression-engine": "jinja"}, {"cores": 2})
    assert Engine(filters(world)).program(text, names) == rendered


def test_a_site_adds_filters_of_its_own_and_later_ones_win(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "site_one.py").write_text("filters = {'shout': str.upper, 'twice': lambda text: text * 2}")
    (tmp_path / "site_two.py").write_text("filters = {'shout': lambda text: text + '!'}")
    (tmp_path / "site_bad.py").write_text("filters = []")
    engine = Engine(filters(World(), ["site_one", "site_two"]))
    assert engine.program("{{ x | shout }} {{ x | twice }} {{ 3 | shout }}", {"x": "a"}) == "'a!' aa "
    for module in ("site_bad", "site_none", "site_one.filters"):
        with pytest.raises(BadConfiguration, match=module.partition(".")[0]):
            filters(World(), [module])


def test_documents_are_loaded_when_first_used_and_once():
    world = World()
    names = context(world, 3, FIELDS, VALUES, {}, {})
    engine = Engine(filters(world))
    assert engine.program("{{ reads.fastq.size }}", names) == "3"
    assert world.loaded == 0
    engine.program("{{ reads.doc.id }}{{ reads.doc.id }}", names)
    assert world.loaded == 1


def test_names_of_data_see_stored_names():
    names = context(World(), 3, FIELDS, VALUES, {}, {}, names=True)
    assert Engine().name("{{ reads.fastq.file }}", names) == "reads/a b.fq"


def test_stored_paths_are_text_that_remembers():
    path = StoredPath("/inputs/7/a", 7, "a")
    assert (path, path.data_id, path.name) == ("/inputs/7/a", 7, "a")
    assert not Nothing()
