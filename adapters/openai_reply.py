"""Reading what an endpoint sent; the client does not validate it."""

from __future__ import annotations

from typing import Any

from openai.types.chat import ChatCompletion

from harness.adapters.openai_prices import Price
from harness.types import RetryableError, Usage


def sound(completion: Any) -> ChatCompletion:
    """A completion that holds a choice.

    Raises:
        ValueError: not a completion.
        RetryableError: no choice in it.
    """
    if not isinstance(completion, ChatCompletion):
        start = " ".join(str(completion)[:80].split())
        raise ValueError(f"expected JSON, got {start!r}; check base_url= (it usually ends in /v1)")
    if not completion.choices:
        raise RetryableError("the response holds no choice", kind="no-choice")
    return completion


def usage_of(completion: ChatCompletion, price: Price, latency_s: float | None) -> Usage:
    """Tokens as counted by the endpoint, and what they cost."""
    counted = completion.usage
    if counted is None:
        return Usage(latency_s)
    tokens = counted.prompt_tokens, counted.completion_tokens
    return Usage(latency_s, *tokens, price.cost_usd(*tokens))


def text_of(content: Any) -> str:
    """An answer's text; some endpoints give a list of parts."""
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""
