"""Prompts: Jinja2 templates over `labels`, `ratings` and `context`, in a sandbox in which another name is an error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from harness.types import CONTEXT_MARK, UserError

if TYPE_CHECKING:
    from jinja2.nodes import Template

DEFAULT_PROMPT = (
    "Look at this painting. Which one of these emotions does it make you feel most: {{ labels | join(', ') }}?\n"
    'Answer in one sentence of the form "<emotion> because <explanation>": the emotion exactly as spelled in the '
    "list, then why you feel it, naming what you see in the painting."
)
"""Zero-shot prompt of tasks whose card gives none.

It asks for the form in which SEVLM answers. The prompts that the SEVLM paper gave to LLaVA and GPT-4V are not
published; this one does not imitate them.
"""


def render(template: str, labels: Sequence[str], ratings: Mapping[str, Sequence[float]] | None = None) -> str:
    """Render a prompt template.

    Args:
        template: Jinja2 text. Names defined in it: `labels`, the task's emotions in order; `ratings`, dimension ->
            [lowest, highest]; `context`, which renders as `harness.types.CONTEXT_MARK` and is replaced by each
            picture's own text when it is shown.
        labels: the emotions.
        ratings: the task's rating scales.

    Raises:
        UserError: the template has a syntax error, uses another name, leaves the sandbox, or renders to nothing.
    """
    from jinja2 import StrictUndefined, TemplateSyntaxError
    from jinja2.sandbox import SandboxedEnvironment

    environment = SandboxedEnvironment(undefined=StrictUndefined)
    try:
        _check_effort(environment.parse(template), labels)
        pieces = environment.from_string(template).generate(
            labels=tuple(labels), ratings=dict(ratings or {}), context=CONTEXT_MARK
        )
        text = _joined(pieces)
    except TemplateSyntaxError as error:
        raise UserError(f"prompt template, its line {error.lineno}: {error.message}") from error
    except Exception as error:  # a template may fail in any way that Python code can
        raise UserError(
            f"prompt template: {error} (only `labels`, `ratings` and `context` are defined in a prompt)"
        ) from error
    text = text.strip()
    if not text:
        raise UserError("prompt template: renders to an empty prompt")
    return text


def _joined(pieces: Iterator[str]) -> str:
    text: list[str] = []
    length = 0
    for piece in pieces:
        text.append(piece)
        length += len(piece)
        if length > LONGEST:
            raise UserError(f"it renders to more than {LONGEST:,} characters")
    return "".join(text)


def _check_effort(template: Template, labels: Sequence[str]) -> None:
    """Refuse what could compute for ever or fill the memory: a card may come from anybody.

    Allowed are text, conditions, `for` in at most two levels, and filters and methods whose result is about as long as
    what they get; there is no multiplication, no assignment and no macro.

    Raises:
        UserError: something else.
    """
    from jinja2 import nodes

    for node in template.find_all(nodes.Node):
        known = type(node).__name__ in _NODES
        if isinstance(node, nodes.Filter):
            known = node.name in _FILTERS
        if isinstance(node, nodes.Call):
            known = isinstance(node.node, nodes.Getattr) and node.node.attr in _METHODS
        if isinstance(node, nodes.For):
            levels = 1 + any(node.find_all(nodes.For))
            deep = any(any(inner.find_all(nodes.For)) for inner in node.find_all(nodes.For))
            longest = len(labels) + max(map(len, labels), default=0)
            known = not node.recursive and not deep and longest**levels <= LONGEST
        if not known:
            raise UserError(f"its line {node.lineno}: {type(node).__name__.lower()} is more than a prompt may do")


LONGEST = 1_000_000
"""Characters of a rendered prompt, and rounds of its loops."""
_FILTERS = frozenset(
    {"join", "lower", "upper", "title", "capitalize", "trim", "first", "last", "length", "list", "sort"}
)
_METHODS = frozenset({"items", "keys", "values", "lower", "upper", "title", "capitalize", "strip"})
_NODES = frozenset({"Template", "Output", "TemplateData", "Name", "Const", "If", "CondExpr", "Getattr", "Getitem"}) | {
    *("Compare", "Operand", "And", "Or", "Not", "Tuple", "List", "Test", "Slice", "Add", "Sub", "Concat", "For", "Neg")
}
