"""The expression engine ``jinja``: programs with every printed variable shell-quoted, names, workflow inputs.

Templates run in Jinja's immutable sandbox: attributes that lead to Python's internals are an error.  What differs
from plain Jinja (``docs/flow-process.md#templates``):

- a printed variable is quoted for the shell, unless marked by ``safe``; what is known while the template is compiled
  (literals) is passed through HTML escaping instead, and text of the template is never touched;
- a name, attribute or item that is not there is empty, false, and nests without end;
- an exception inside a filter gives such an undefined.
"""

import functools
import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.compiler import CodeGenerator
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import generate_lorem_ipsum as lipsum
from jinja2.visitor import NodeTransformer

from ..common.errors import BadRequest
from . import metering
from .metering import NAME_SECONDS, NAME_STEPS, TooMuch, foreseen, metered, printable, sized

MAX_CHARACTERS = 16 << 20  # of a rendered text
_UNPRINTED = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
MAX_REPEAT = 1 << 20  # characters or items that one multiplication or power may make
MAX_BITS = 4096  # of a number that a multiplication or power makes


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

    ``filters`` are added to Jinja's own (``filters.py``); each is wrapped so that its exceptions give Nothing.  A
    rendering may take ``steps`` and ``seconds`` of processor time (``metering.py``), that of a name less.
    """

    def __init__(
        self,
        filters: Mapping[str, Callable[..., Any]] | None = None,
        *,
        steps: int = metering.STEPS,
        seconds: float = metering.SECONDS,
    ) -> None:
        self._steps, self._seconds = steps, seconds
        self._quoting = _Environment(autoescape=True, filters=filters or {})
        self._plain = _Environment(autoescape=False, filters=filters or {})

    def program(self, text: str, context: Mapping[str, Any]) -> str:
        """Render a bash program.  Raises BadTemplate."""
        return str(self._within(lambda: _render(self._quoting, text, context)))

    def text(self, text: str, context: Mapping[str, Any]) -> str:
        """Render ``text`` without any quoting.  Raises BadTemplate."""
        return str(self._within(lambda: _render(self._plain, text, context)))

    def name(self, text: str, context: Mapping[str, Any]) -> str:
        """Render ``data_name``: ``?`` where it cannot be evaluated, one line, and never more than 100 characters."""
        try:
            name = _guarded(lambda: _render(self._plain, text, context), NAME_STEPS, NAME_SECONDS)
        except BadTemplate:
            return "?"
        name = _UNPRINTED.sub(" ", name)
        return name if len(name) <= 100 else name[:97] + "..."

    def value(self, text: str, context: Mapping[str, Any]) -> Any:
        """Evaluate a workflow input: ``{{ one expression }}`` keeps its type, anything else renders as text."""
        stripped = text.strip()
        if stripped.startswith("{{") and stripped.endswith("}}"):
            return self.expression(stripped[2:-2], context)
        return self.text(stripped, context)

    def check(self, text: str) -> None:
        """Raise BadTemplate for a text that ``value`` can never evaluate: wrong syntax, or an unknown filter."""
        stripped = text.strip()
        if stripped.startswith("{{") and stripped.endswith("}}"):
            self._within(lambda: self._plain.compile_expression(stripped[2:-2]))
        else:
            self._within(lambda: self._plain.compiled(text))

    def expression(self, text: str, context: Mapping[str, Any]) -> Any:
        """Evaluate one expression and return its native value, None for Nothing.  Raises BadTemplate."""
        evaluate = self._plain.compile_expression
        return self._within(lambda: printable(evaluate(text, undefined_to_none=True)(**context)))

    def _within(self, work: Callable[[], Any]) -> Any:
        return _guarded(work, self._steps, self._seconds)


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
            self.write("(environment.quote if context.eval_ctx.autoescape else environment.plain)(")
        elif frame.eval_ctx.autoescape:
            self.write("environment.quote(")
        else:
            self.write("environment.plain(")
        if finalize.src is not None:
            self.write(finalize.src)

    def visit_Concat(self, node: nodes.Concat, frame: Any) -> None:
        self.write("environment.sized(")
        super().visit_Concat(node, frame)
        self.write(")")

    def visit_Add(self, node: nodes.BinExpr, frame: Any) -> None:
        self.write("environment.sized(")
        super().visit_Add(node, frame)
        self.write(")")


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
        self.filters["sum"] = metering.added
        self.filters.update(filters)
        self.filters = {name: _forgiving(name, function) for name, function in self.filters.items()}
        self.filters["safe"] = _safe
        self.policies["json.dumps_kwargs"] = {"sort_keys": True, "default": dict}  # lazy mappings print as objects
        self.quote = lambda value: sized(quote(printable(value)))
        self.plain = lambda value: sized(str(printable(value)))
        self.sized = sized
        self.compiled = functools.lru_cache(maxsize=256)(self.from_string)

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        marked = metering.Steps().visit(_Blocks().visit(source))
        marked.set_environment(self)
        return super()._generate(marked, *args, **kwargs)

    def unsafe_undefined(self, obj: Any, attribute: str) -> jinja2.Undefined:
        raise SecurityError(f"access to attribute {attribute!r} of {type(obj).__name__!r} is not allowed")

    @property
    def counted(self) -> bool:
        """True, and a step."""
        metering.step()
        return True

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Bound what is called: how often, and what methods of texts make."""
        metering.step()
        owner = getattr(getattr(__obj, "__wrapped__", __obj), "__self__", None)
        if isinstance(owner, str):
            foreseen(__obj.__name__, owner, args, kwargs)
        elif __obj is lipsum:
            foreseen("lipsum", "", [one * MAX_REPEAT for one in (*args, *kwargs.values()) if isinstance(one, int)], {})
        return sized(super().call(__context, __obj, *args, **kwargs))

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
            and (left.bit_length() * abs(right) > MAX_BITS)
        ):
            raise SecurityError("the power is too large")
        if operator == "*" and len(numbers) == 2 and sum(map(int.bit_length, numbers)) > MAX_BITS:
            raise TooMuch("it makes too large a number")
        if operator == "%" and isinstance(left, str):
            foreseen("format", left, right if isinstance(right, tuple) else [right], {})
        return sized(super().call_binop(context, operator, left, right))


def _render(environment: _Environment, text: str, context: Mapping[str, Any]) -> str:
    size, pieces = 0, []
    for piece in environment.compiled(text).generate(context):
        size += len(piece)
        if size > MAX_CHARACTERS:
            raise BadTemplate(f"The text is longer than {MAX_CHARACTERS} characters")
        pieces.append(piece)
    return "".join(pieces)


def _guarded(work: Callable[[], Any], steps: int, seconds: float) -> Any:
    try:
        with metered(steps, seconds):
            return work()
    except BadTemplate:
        raise
    except TooMuch as error:
        raise BadTemplate(f"The template does too much: {error}") from error
    except jinja2.TemplateSyntaxError as error:
        raise BadTemplate(f"Error in line {error.lineno}: {error.message}", line=error.lineno) from error
    except Exception as error:
        raise BadTemplate(f"{type(error).__name__}: {error}"[:1000]) from error


def _safe(value: Any) -> Any:
    return value if isinstance(value, Nothing) else Verbatim(value)


def _forgiving(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a filter so that an exception in it gives Nothing, unless that is for doing too much."""
    marked = 1 if hasattr(function, "jinja_pass_arg") else 0  # it is passed context or environment first

    @functools.wraps(function)  # copies the marks by which Jinja passes context or environment
    def filtered(*args: Any, **kwargs: Any) -> Any:
        metering.step()
        try:
            foreseen(name, args[marked], args[marked + 1 :], kwargs)
            return sized(function(*args, **kwargs))
        except TooMuch:
            raise
        except Exception:  # noqa: BLE001 - the rule of the language
            return Nothing()

    return filtered
