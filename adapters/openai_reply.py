"""Reading what an endpoint sent, which nobody has validated: servers that call themselves compatible differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from harness.adapters.openai_prices import Price
from harness.adapters.openai_probabilities import label_probabilities
from harness.tasks.parser import parse_answer
from harness.types import Answer, Item, Outcome, Refusal, RetryableError, Usage


@dataclass(frozen=True)
class Reply:
    """The first choice of a chat completion, and what came with it.

    Attributes:
        text: the answer; empty where there is none.
        refusal: the API's own field, empty where the model did not refuse.
        finish_reason: `stop`, `length`, `content_filter`, …
        tokens: `logprobs.content`: mappings with `token` and `top_logprobs`; empty where not given.
        model, system_fingerprint: as the endpoint names itself.
        prompt_tokens, completion_tokens: as the endpoint counts them.
    """

    text: str
    refusal: str
    finish_reason: str
    tokens: tuple[Mapping[str, Any], ...]
    model: str | None
    system_fingerprint: str | None
    prompt_tokens: int | None
    completion_tokens: int | None

    def usage(self, price: Price, latency_s: float | None = None) -> Usage:
        """Tokens and what they cost."""
        tokens = self.prompt_tokens, self.completion_tokens
        return Usage(latency_s, *tokens, price.cost_usd(*tokens))


def read_reply(body: Any) -> Reply:
    """The completion in a response's JSON (or its text, where it was none).

    Raises:
        ValueError: not a JSON object.
        RetryableError: no choice in it.
    """
    if not isinstance(body, dict):
        start = " ".join(str(body)[:80].split())
        raise ValueError(f"expected JSON, got {start!r}; check base_url= (it usually ends in /v1)")
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise RetryableError("the response holds no choice", kind="no-choice")
    choice, message, counted = choices[0], _object(choices[0].get("message")), _object(body.get("usage"))
    tokens = _object(choice.get("logprobs")).get("content")
    return Reply(
        text_of(message.get("content")),
        text_of(message.get("refusal")),
        str(choice.get("finish_reason")),
        tuple(token for token in tokens if isinstance(token, dict)) if isinstance(tokens, list) else (),
        _name(body.get("model")),
        _name(body.get("system_fingerprint")),
        _count(counted.get("prompt_tokens")),
        _count(counted.get("completion_tokens")),
    )


def outcome_of_reply(reply: Reply, item: Item, usage: Usage) -> Outcome:
    """What a reply says about an item: the API's refusals first, then what the parser reads from the text."""
    if reply.refusal or reply.finish_reason == "content_filter":
        return Refusal(reply.refusal or reply.text, usage)
    cut_off = reply.finish_reason == "length"
    found = parse_answer(reply.text, item.labels, usage, truncated=cut_off, explained=item.explanations)
    if isinstance(found, Answer) and reply.tokens:
        return replace(found, emotion_probs=label_probabilities(reply.tokens, found.emotion, item.labels))
    return found


def text_of(content: Any) -> str:
    """An answer's text; some endpoints give a list of parts."""
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _name(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
