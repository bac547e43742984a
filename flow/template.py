"""The expression engine ``jinja``: programs with every printed variable shell-quoted, names, workflow inputs.

Templates run in Jinja's immutable sandbox: attributes that lead to Python's internals are an error.  What differs
from plain Jinja (``docs/flow-process.md#templates``):

- a printed variable is quoted for the shell, unless marked by ``safe``; what is known while the template is compiled
  (literals) is passed through HTML escaping instead, and text of the template is never touched;
- a name, attribute or item that is not there is empty, false, and nests without end;
- an exception inside a filter gives such an undefined.
"""

import functools
import itertools
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.compiler import CodeGenerator
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from ..common.errors import BadRequest

MAX_CHARACTERS = 16 << 20  # of a rendered text
_WIDE = re.compile(r"%[^%a-zA-Z]*(\*|\d{4,})")  # a width that is given apart, or of four digits
MAX_REPEAT = 1 << 20  # characters or items that one multiplication or power may make


class BadTemplate(BadRequest):
    """A template or an expression cannot be evaluated."""

    code = "bad_template"


class Verbatim(str):
    """Text that is printed as it is; any operation on it gives plain text again, which is quoted."""

    __slots__ = ()


class Nothing(jinja2.Undefined):
    """The value of what is not there: empty, false, without items, and whatever is asked of it is nothing again."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        if name[:2] == "__":
            raise AttributeError(name)
        return self

    def _itself(self, *args: Any, **kwargs: Any) -> Any:
        return self

    __getitem__ = __call__ = _itself


class Engine:
    """Renders programs, names and expressions; thread-safe, one per process is enough.

    ``filters`` are added to Jinja's own (``filters.py``); each is wrapped so that its exceptions give Nothing.
    """

    def __init__(self, filters: Mapping[str, Callable[..., Any]] | None = None) -> None:
        self._quoting = _Environment(autoescape=True, filters=filters or {})
        self._plain = _Environment(autoescape=False, filters=filters or {})

    def program(self, text: str, context: Mapping[str, Any]) -> str:
        """Render a bash program.  Raises BadTemplate."""
        return str(_guarded(lambda: _render(self._quoting, text, context)))

    def text(self, text: str, context: Mapping[str, Any]) -> str:
        """Render ``text`` without any quoting.  Raises BadTemplate."""
        return str(_guarded(lambda: _render(self._plain, text, context)))

    def name(self, text: str, context: Mapping[str, Any]) -> str:
        """Render ``data_name``: ``?`` where it cannot be evaluated, and never more than 100 characters."""
        try:
            name = self.text(text, context)
        except BadTemplate:
            return "?"
        return name if len(name) <= 100 else name[:97] + "..."

    def value(self, text: str, context: Mapping[str, Any]) -> Any:
        """Evaluate a workflow input: ``{{ one expression }}`` keeps its type, anything else renders as text."""
        stripped = text.strip()
        if stripped.startswith("{{") and stripped.endswith("}}"):
            return self.expression(stripped[2:-2], context)
        return self.text(text, context)

    def check(self, text: str) -> None:
        """Raise BadTemplate for a text that ``value`` can never evaluate: wrong syntax, or an unknown filter."""
        stripped = text.strip()
        if stripped.startswith("{{") and stripped.endswith("}}"):
            _guarded(lambda: self._plain.compile_expression(stripped[2:-2]))
        else:
            _guarded(lambda: self._plain.compiled(text))

    def expression(self, text: str, context: Mapping[str, Any]) -> Any:
        """Evaluate one expression and return its native value, None for Nothing.  Raises BadTemplate."""
        return _guarded(lambda: self._plain.compile_expression(text, undefined_to_none=True)(**context))


def quote(value: Any) -> str:
    """Return ``value`` as one shell word.

    Markup is quoted with Markup's own methods, by which the added quote signs become entities: what the language
    has always done to ``tojson`` without ``safe``, and definitions are written around it.
    """
    if isinstance(value, Verbatim):
        return str(value)
    return str(shlex.quote(value if isinstance(value, str) else str(value)))


class _Generator(CodeGenerator):
    """Wraps each value that is printed at run time by ``environment.quote`` instead of HTML escaping."""

    def _output_child_pre(self, node: nodes.Expr, frame: Any, finalize: Any) -> None:
        if frame.eval_ctx.volatile:
            self.write("(environment.quote if context.eval_ctx.autoescape else str)(")
        elif frame.eval_ctx.autoescape:
            self.write("environment.quote(")
        else:
            self.write("str(")
        if finalize.src is not None:
            self.write(finalize.src)


class _Blocks(NodeTransformer):
    """Marks what ``{% set x %}...{% endset %}`` makes as Verbatim: the variables inside it are quoted already."""

    def visit_AssignBlock(self, node: nodes.AssignBlock) -> Any:
        self.generic_visit(node)
        if isinstance(node.target, nodes.NSRef):
            source: nodes.Expr = nodes.Getattr(nodes.Name(node.target.name, "load"), node.target.attr, "load")
        elif isinstance(node.target, nodes.Name):
            source = nodes.Name(node.target.name, "load")
        else:
            return node
        marked = nodes.Assign(node.target, nodes.Filter(source, "safe", [], [], None, None))
        return [node, marked.set_lineno(node.lineno)]


class _Environment(ImmutableSandboxedEnvironment):
    code_generator_class = _Generator
    intercepted_binops = frozenset({"*", "**", "%"})

    def __init__(self, *, autoescape: bool, filters: Mapping[str, Callable[..., Any]]) -> None:
        super().__init__(undefined=Nothing, autoescape=autoescape, keep_trailing_newline=True, cache_size=0)
        self.filters.update(filters)
        self.filters = {name: _forgiving(function) for name, function in self.filters.items()}
        self.filters["safe"] = _safe
        self.policies["json.dumps_kwargs"] = {"sort_keys": True, "default": dict}  # lazy mappings print as objects
        self.quote = quote
        self.compiled = functools.lru_cache(maxsize=256)(self.from_string)

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        marked = _Blocks().visit(source)
        marked.set_environment(self)
        return super()._generate(marked, *args, **kwargs)

    def unsafe_undefined(self, obj: Any, attribute: str) -> jinja2.Undefined:
        raise SecurityError(f"access to attribute {attribute!r} of {type(obj).__name__!r} is not allowed")

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Bound what a short text can make grow: repetition, powers and old-style formatting."""
        sizes = [len(side) for side in (left, right) if isinstance(side, str | list | tuple)]
        numbers = [abs(side) for side in (left, right) if isinstance(side, int)]
        if operator == "*" and sizes and numbers and sizes[0] * numbers[0] > MAX_REPEAT:
            raise SecurityError("the repetition is too long")
        if (
            operator == "**"
            and isinstance(left, int)
            and isinstance(right, int)
            and (left.bit_length() * abs(right) > 4096)
        ):
            raise SecurityError("the power is too large")
        if operator == "%" and isinstance(left, str) and _WIDE.search(left):
            raise SecurityError("a width in a format is not allowed")
        return super().call_binop(context, operator, left, right)


def _render(environment: _Environment, text: str, context: Mapping[str, Any]) -> str:
    size, pieces = 0, []
    for piece in _within(environment.compiled(text).generate(context)):
        size += len(piece)
        if size > MAX_CHARACTERS:
            raise BadTemplate(f"The text is longer than {MAX_CHARACTERS} characters")
        pieces.append(piece)
    return "".join(pieces)


def _within(pieces: Iterator[str]) -> Iterator[str]:
    """Stop a template that prints nothing much for ever: each piece costs, however short."""
    yield from itertools.islice(pieces, MAX_CHARACTERS)


def _guarded(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except BadTemplate:
        raise
    except jinja2.TemplateSyntaxError as error:
        raise BadTemplate(f"Error in line {error.lineno}: {error.message}", line=error.lineno) from error
    except Exception as error:
        raise BadTemplate(f"{type(error).__name__}: {error}"[:1000]) from error


def _safe(value: Any) -> Any:
    return value if isinstance(value, Nothing) else Verbatim(value)


def _forgiving(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a filter so that an exception in it gives Nothing."""

    @functools.wraps(function)  # copies the marks by which Jinja passes context or environment
    def filtered(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception:  # noqa: BLE001 - the rule of the language
            return Nothing()

    return filtered
