"""Prompts: Jinja2 templates over `labels`, `ratings` and `context`, in a sandbox in which another name is an error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from types import BuiltinMethodType
from typing import TYPE_CHECKING, Any

from harness.errors import UserError

if TYPE_CHECKING:
    from jinja2 import Environment

CONTEXT_MARK = "⟨the text that goes with this picture⟩"
"""Stands in a rendered prompt where each image's `Example.context` is put."""

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
            [lowest, highest]; `context`, which renders as `CONTEXT_MARK` and is replaced by each
            image's own text when it is shown.
        labels: the emotions.
        ratings: the task's rating scales.

    Raises:
        UserError: the template has a syntax error, uses another name, leaves the sandbox, or renders to nothing.
    """
    from jinja2 import TemplateSyntaxError

    try:
        pieces = (
            _environment()
            .from_string(template)
            .generate(labels=tuple(labels), ratings=dict(ratings or {}), context=CONTEXT_MARK)
        )
        text = ""
        for piece in pieces:
            text += piece
            if len(text) > LONGEST:
                raise UserError(f"it renders to more than {LONGEST:,} characters")
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


@cache
def _environment() -> Environment:
    """Jinja's sandbox without what could compute for ever or fill the memory: a card may come from anybody.

    Loops run over what a prompt is given, calls reach a few methods of text and mappings, and `*`, `**` and `%` are
    refused, so that a prompt is about as long as what goes into it.
    """
    from jinja2 import StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    class Sandbox(SandboxedEnvironment):
        intercepted_binops = frozenset({"*", "**", "%"})

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            raise UserError(f"a prompt may not compute with {operator}")

        def is_safe_callable(self, obj: Any) -> bool:
            return isinstance(obj, BuiltinMethodType) and obj.__name__ in _METHODS

    environment = Sandbox(undefined=StrictUndefined)
    environment.globals.clear()
    environment.filters = {name: found for name, found in environment.filters.items() if name in _FILTERS}
    return environment


LONGEST = 1_000_000
"""Characters of a rendered prompt."""
_FILTERS = frozenset(
    {"join", "lower", "upper", "title", "capitalize", "trim", "first", "last", "length", "list", "sort"}
)
_METHODS = frozenset({"items", "keys", "values", "lower", "upper", "title", "capitalize", "strip"})
