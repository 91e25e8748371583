"""Prompts: Jinja2 templates over `labels`, `ratings` and `context`, in a sandbox in which another name is an error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.types import CONTEXT_MARK, UserError

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
        text = environment.from_string(template).render(
            labels=tuple(labels), ratings=dict(ratings or {}), context=CONTEXT_MARK
        )
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
