"""What a template may do is bounded, however its loops are written and whatever its inputs; what is usual passes."""

import pytest

from pacifica.flow.metering import TooMuch, metered, sized
from pacifica.flow.template import BadTemplate, Engine

ENGINE = Engine()
SMALL = Engine(steps=20_000, seconds=0.3)
LONG = "x" * (1 << 20)

ENDLESS = [
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% for a in range(99999) %}{% for b in range(99999) if false %}{% endfor %}{% endfor %}",
    "{% for a in [1, 2] recursive %}{{ loop([1, 2]) if loop.depth < 40 }}{% endfor %}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "{% macro f() %}{% for a in range(999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}{% endmacro %}{{ f() }}",
    "{% set x %}{% for a in range(99999) %}" + "constant " * 1000 + "{% endfor %}{% endset %}",
    "{% for a in range(99999) %}{{ range(99999) | sum }}{% endfor %}",
    "{% for a in range(99999) %}{% for b in range(99) %}{{ 'a'.upper() }}{% endfor %}{% endfor %}",
]
TWINS = "{% set n = namespace(x=[1]) %}{% for a in range(99) %}{% set n.x = [n.x, n.x] %}{% endfor %}"
HUGE = [
    "{% set n = namespace(s=10) %}{% for a in range(60) %}{% set n.s = n.s * n.s %}{% endfor %}",
    "{{ ([range(99999) | list] * 99999) | sum(start=[]) | length }}",
    "{{ range(99999) | map('string') | map('list') | sum(start=[1] * 99999) | length }}",
    TWINS + "{{ n.x }}",
    TWINS + "{{ n.x | tojson }}",
    TWINS + "{{ n.x | join }}",
    "{% set n = namespace(x=1) %}{% for a in range(99) %}{% set n.x = {1: n.x, 2: n.x} %}{% endfor %}{{ n.x }}",
    "{% set n = namespace(s='ab') %}{% for a in range(99) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
    "{% set n = namespace(s='ab') %}{% for a in range(99) %}{% set n.s = n.s + n.s %}{% endfor %}",
    "{% set n = namespace(s=[1]) %}{% for a in range(99) %}{% set n.s = n.s + n.s %}{% endfor %}",
    "{% set x %}{% for a in range(999) %}{{ long }}{% endfor %}{% endset %}",
    "{{ long | replace('x', long) }}",
    "{{ long.replace('x', long) }}",
    "{{ range(99999) | join(long) }}",
    "{{ long.join([1] * 99999) }}",
    "{{ ([long] * 99999) | join }}",
    "{{ 'a' | center(width) }}",
    "{{ 'a'.rjust(width) }}",
    "{{ ('\n' * 9999) | indent(width=9999) }}",
    "{{ '%*d' | format(width, 1) }}",
    "{{ '%s%s%s%s%s%s%s%s%s%s%s%s%s%s%s%s%s%s' | format(long) }}",
    "{{ '{:>1000000000}'.format(1) }}",
    "{{ '{:>{}}'.format(1, width) }}",
    "{{ long | wordwrap(1, wrapstring=long) }}",
    "{{ [1] | batch(width, 0) | list }}",
    "{{ {'a': [1]} | tojson(indent=width) }}",
    "{{ lipsum(width) }}",
]


@pytest.mark.parametrize("text", ENDLESS + HUGE)
def test_a_template_that_does_too_much_is_refused(text):
    with pytest.raises(BadTemplate, match="does too much"):
        SMALL.program(text, {"long": LONG, "width": 1_000_000_000})


def test_so_is_an_expression_or_a_name():
    assert SMALL.name(ENDLESS[0], {}) == "?"
    with pytest.raises(BadTemplate, match="does too much"):
        SMALL.value(ENDLESS[0], {})


def test_large_but_usual_templates_pass():
    text = "{% for a in range(300) %}{% for b in range(300) %}{{ a + b }} {% endfor %}\n{% endfor %}"
    assert len(ENGINE.program(text, {}).split()) == 90_000
    pieces = "{% set n = namespace(s='') %}{% for a in range(2000) %}{% set n.s = n.s ~ a %}{% endfor %}{{ n.s }}"
    assert ENGINE.program(pieces, {}) == "".join(map(str, range(2000)))
    assert ENGINE.program("{{ range(2000) | map('string') | join(',') }}", {}).endswith(",1999")
    assert ENGINE.program("{{ long }}", {"long": LONG}) == LONG
    assert ENGINE.program("{{ 'a'.center(9) }}{{ '{:>5}'.format(1) }}", {}) == "'    a    ''    1'"


def test_long_steps_end_by_the_clock_of_the_processor():
    with pytest.raises(TooMuch, match="seconds"), metered(seconds=0.0):
        while True:
            ENGINE._plain.counted  # noqa: B018 - a step
    with pytest.raises(LookupError):
        sized("outside of any rendering")


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("[[1], [2, 3]] | sum(start=[])", [1, 2, 3]),
        ("[0.5, 2] | sum", 2.5),
        ("[] | sum", 0),
        ("[{'a': 2}, {'a': 3}] | sum(attribute='a', start=1)", 6),
        ("[['a'], ['b']] | map('sum', start='') | list", ["a", "b"]),
        ("[1, 'a'] | sum", None),
        ("12345678 * 87654321", 1082152022374638),
    ],
)
def test_sums_and_products_are_what_they_were(text, result):
    assert ENGINE.expression(text, {}) == result
