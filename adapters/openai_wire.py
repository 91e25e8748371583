"""What goes over the wire to an endpoint that speaks as OpenAI does: address and key, parameters, the two APIs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import openai

from harness.adapters.endpoint_address import Endpoint
from harness.adapters.endpoint_client import CONNECT_S, http_client
from harness.adapters.endpoint_errors import (
    EndpointError,
    ResponseRefused,
    error_in_success,
    in_short,
    of_sdk,
    outcome_of_error,
)
from harness.adapters.endpoint_images import Turn
from harness.adapters.endpoint_parameters import ITS_VALUE, is_rejection, rejected_among
from harness.adapters.endpoint_prices import Price
from harness.adapters.endpoint_reply import (
    Reply,
    as_list,
    as_object,
    completion_count,
    count,
    ending_of,
    listed_tokens,
    text_of,
    thoughts_of,
)
from harness.types import RetryableError, UserError

# ---------------------------------------------------------------------------------------------------------- connecting


def connect(endpoint: Endpoint) -> openai.AsyncOpenAI:
    """A client for the running event loop, without retries of its own.

    Raises:
        UserError: there is no key, or the proxy cannot be used.
    """
    (address, query), key = endpoint.address_and_query(), endpoint.key() or "none"
    pool = http_client(endpoint, openai)
    return openai.AsyncOpenAI(
        api_key=key,
        base_url=address,
        default_query=query,
        default_headers={"api-key": key} if (urlsplit(address).hostname or "").endswith(".azure.com") else {},
        timeout=pool.timeout,
        max_retries=0,
        http_client=pool,
    )


async def check_reachable(endpoint: Endpoint, client: openai.AsyncOpenAI) -> list[dict[str, Any]]:
    """Fail early if the endpoint is down or rejects the key.

    Returns:
        The models that it says it serves; empty if it does not say.

    Raises:
        UserError: nobody answers, or the key is refused.
    """
    try:
        async with asyncio.timeout(CONNECT_S):
            listed: Any = await client.get("/models", cast_to=object)
    except (TimeoutError, ResponseRefused):
        return []  # slow to list its models, or too many, yet there
    except (openai.OpenAIError, ValueError) as sdk_error:
        error = of_sdk(sdk_error, openai)
        if isinstance(error, EndpointError) and error.status == 401:
            outcome_of_error(error, endpoint.key_env)
        if isinstance(error, RetryableError) and error.kind in ("unreachable", "connection"):
            mend = "is the proxy right, and base_url=?" if "proxy" in endpoint.route() else "check base_url="
            raise UserError(f"nobody answers at {endpoint.route()} ({error}); {mend}") from None
        return []  # an endpoint need not list its models, nor at this very address
    data = listed.get("data") if isinstance(listed, dict) else None
    return [model for model in data if isinstance(model, dict)] if isinstance(data, list) else []


def served_model(listed: Sequence[Mapping[str, Any]], model: str) -> list[Mapping[str, Any]]:
    """What identifies the model that answers, among those that an endpoint lists: its entry, or all of a short list."""
    kept = [entry for entry in listed if entry.get("id") == model] or (listed if len(listed) <= 5 else [])
    keys = ("id", "root", "parent", "meta", "digest")
    return [{key: entry[key] for key in keys if entry.get(key)} for entry in kept]


# -------------------------------------------------------------------------------------------------- request parameters


TOP_LOGPROBS = 20
"""The most that OpenAI gives."""


@dataclass(frozen=True)
class RequestParameters:
    """Token limit, temperature, schema and so on, in the form that an endpoint was found to accept.

    Newer models take `max_completion_tokens` instead of `max_tokens`, and only their default temperature; many servers
    know neither schemas nor log-probabilities.

    Attributes:
        max_tokens, temperature: None: left to the endpoint.
        effort: how much a reasoning model should think.
        summary: ask for a summary of its thoughts too.
        unstored: ask the Responses API to keep nothing.
        extra: further fields of the body.
        responses: the Responses API's names instead of chat completions'.
        found: parameter -> what the endpoint did with it: `accepted`, `rejected` or `ignored`.
    """

    max_tokens: int | None
    temperature: float | None
    schema: bool = False
    logprobs: bool = False
    effort: str | None = None
    summary: bool = True
    unstored: bool = True
    extra: Mapping[str, Any] = field(default_factory=dict)
    responses: bool = False
    limit_name: str = "max_tokens"
    found: Mapping[str, str] = field(default_factory=dict)

    def arguments(self, schema: dict[str, Any] | None = None, room: int | None = None) -> dict[str, Any]:
        """Fields of a request.

        Args:
            schema: JSON schema of the answer wanted; sent only if the endpoint takes schemas.
            room: token limit instead of the usual one.
        """
        limit, sent = room or self.max_tokens, dict[str, Any]()
        if limit is not None:
            sent["max_output_tokens" if self.responses else self.limit_name] = limit
        if self.temperature is not None:
            sent["temperature"] = self.temperature
        if self.schema and schema is not None:
            form = {"name": "answer", "strict": True, "schema": schema}
            chat = {"response_format": {"type": "json_schema", "json_schema": form}}
            sent |= {"text": {"format": {"type": "json_schema", **form}}} if self.responses else chat
        if self.logprobs:
            named = {"include": ["message.output_text.logprobs"]} if self.responses else {"logprobs": True}
            sent |= named | {"top_logprobs": TOP_LOGPROBS}
        if self.effort is not None:
            summary = {"summary": "auto"} if self.summary else {}
            thinking: dict[str, Any] = {"reasoning": {"effort": self.effort} | summary}
            sent |= thinking if self.responses else {"reasoning_effort": self.effort}
        return sent | ({"store": False} if self.responses and self.unstored else {}) | dict(self.extra)

    def without_rejected(self, error: EndpointError, *, unexplained: bool = False) -> RequestParameters | None:
        """Parameters without the one that an error is about, so that the request is worth another try; None: no.

        Args:
            unexplained: an error that does not say what it is about may be about schema and log-probabilities.
        """
        if not is_rejection(error):
            return None
        other = "max_completion_tokens" if self.limit_name == "max_tokens" else "max_tokens"
        limit = self.limit_name.replace("_", "[_ -]?")
        if not self.responses and error.mentions(limit) and not ITS_VALUE.search(error.message):
            if other in self.found:
                return None
            return replace(self, limit_name=other, found={**self.found, self.limit_name: "rejected"})
        if (name := rejected_among(error, [name for name, value in self._optional().items() if value])) is not None:
            return self.dropping(name, "rejected")
        if unexplained and error.status in (400, 422) and not error.param and (self.schema or self.logprobs):
            plainer = self.dropping("schema", "rejected") if self.schema else self
            return plainer.dropping("logprobs", "rejected") if self.logprobs else plainer
        return None

    def _optional(self) -> dict[str, bool]:
        named = {"schema": self.schema, "logprobs": self.logprobs, "temperature": self.temperature is not None}
        thinks = self.effort is not None
        named |= {"reasoning_summary": thinks and self.summary and self.responses, "reasoning_effort": thinks}
        return named | {"store": self.unstored and self.responses} | dict.fromkeys(self.extra, True)

    def dropping(self, name: str, why: str) -> RequestParameters:
        """Without one of the optional parameters."""
        changes: dict[str, dict[str, Any]] = {
            "schema": {"schema": False},
            "logprobs": {"logprobs": False},
            "temperature": {"temperature": None},
            "reasoning_summary": {"summary": False},
            "store": {"unstored": False},
            "reasoning_effort": {"effort": None},
        }
        without = changes.get(name) or {"extra": {key: value for key, value in self.extra.items() if key != name}}
        return replace(self, **without, found={**self.found, name: why})

    def noting(self, *, schema: bool, logprobs: bool) -> RequestParameters:
        """With what an endpoint that rejected nothing did with the extras that were sent."""
        noted = self
        for name, sent, kept in (("schema", self.schema, schema), ("logprobs", self.logprobs, logprobs)):
            if sent and kept:
                noted = replace(noted, found={**noted.found, name: "accepted"})
            elif sent:
                noted = noted.dropping(name, "ignored")
        return noted


def extra_fields(text: str | Mapping[str, Any] | None) -> dict[str, Any]:
    """The setting `extra_body`.

    Raises:
        UserError: it is no JSON object.
    """
    try:
        fields = json.loads(text) if isinstance(text, str) else dict(text or {})
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        example = 'extra_body={"chat_template_kwargs":{"enable_thinking":false}}'
        raise UserError(f"extra_body: expected a JSON object, such as {example}, got {text!r}")
    return fields


# -------------------------------------------------------------------------------------------------------- the two APIs

ANSWERS = {"choices", "output", "content", "candidates"}
"""Keys of what holds an answer."""


def read_json(body: Any, price: Price) -> dict[str, Any]:
    """A response's JSON object, also if its headers call it text.

    Args:
        price: for what an error cost that came after the work was begun.

    Raises:
        EndpointError: it is an error after all.
        RetryableError: it is a part of one, or empty.
        ValueError: it is none.
    """
    if isinstance(body, str):
        try:
            body = unstreamed(body) or json.loads(body)
        except (ValueError, RecursionError):
            start = in_short(body)[:80]
            if start[:1] in ("", "{", "["):
                raise RetryableError(f"the response is no whole JSON: {start!r}", kind="bad-response") from None
            raise ValueError(f"expected JSON, got {start}; check base_url= (it usually ends in /v1)") from None
    if isinstance(body, list) and len(body) == 1:
        body = body[0]
    if not isinstance(body, dict):
        raise ValueError(
            f"expected a JSON object, got {in_short(str(body))[:80]}; check base_url= (it usually ends in /v1)"
        )
    answer: dict[str, Any] = _unwrapped(body)
    if (error := error_in_success(answer)) is not None:
        usage = _with_counts(Reply(), as_object(answer.get("usage"))).usage(price)
        unknown = usage.prompt_tokens is None and answer.get("choices")
        error.cost_usd = None if unknown else usage.cost_usd or 0.0
        raise error
    return answer


def _unwrapped(body: dict[str, Any]) -> dict[str, Any]:
    """An answer without the envelope that some gateways put it in."""
    held = [as_object(body.get(name)) for name in ("data", "result", "response")]
    return next((inner for inner in held if ANSWERS & set(inner)), body) if not ANSWERS & set(body) else body


def unstreamed(text: str) -> dict[str, Any] | None:
    """The response in a stream of events, which some proxies send unasked; None if it is none.

    Raises:
        ValueError: an event is no JSON.
    """
    data = [line[5:].strip() for line in text.splitlines() if line.startswith("data:")]
    events: list[dict[str, Any]] = [as_object(json.loads(line)) for line in data if line and line != "[DONE]"]
    if not events:
        return None
    for event in reversed(events):
        if whole := event.get("response"):  # the Responses API's last event
            return as_object(whole)
        if event.get("error") or any("message" in as_object(choice) for choice in as_list(event.get("choices"))):
            return as_object(event)
    choices = [choice for event in events for choice in map(as_object, as_list(event.get("choices"))[:1])]
    deltas = [as_object(choice.get("delta")) for choice in choices]
    ends = [choice["finish_reason"] for choice in choices if choice.get("finish_reason")]
    message = {
        "content": "".join(text_of(delta.get("content")) for delta in deltas),
        "reasoning": "".join(thoughts_of(delta) for delta in deltas),
    }
    counted = [event["usage"] for event in events if event.get("usage")]
    choice = {"message": message, "finish_reason": ends[-1] if ends else "interrupted: the stream broke off"}
    return {**events[0], "choices": [choice] if choices else [], "usage": counted[-1] if counted else None}


def chat_body(model: str, turns: Sequence[Turn], detail: str | None) -> dict[str, Any]:
    """A request to chat completions without its parameters."""
    messages: list[dict[str, Any]] = []
    for turn in turns:
        content: Any = turn.text
        if turn.image is not None:
            image = {"url": turn.image} | ({"detail": detail} if detail else {})
            content = [{"type": "image_url", "image_url": image}, {"type": "text", "text": turn.text}]
        messages.append({"role": turn.role, "content": content})
    return {"model": model, "messages": messages}


def read_chat(body: Mapping[str, Any]) -> Reply:
    """The first choice of a chat completion.

    Raises:
        RetryableError: no choice in it.
    """
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict):
        feedback = as_object(body.get("prompt_feedback") or body.get("promptFeedback"))
        if blocked := feedback.get("block_reason") or feedback.get("blockReason"):
            return _with_counts(Reply(refusal=f"the prompt was blocked: {blocked}"), as_object(body.get("usage")))
        raise RetryableError(f"the response holds no choice: {in_short(json.dumps(body))[:200]}", kind="no-choice")
    message = as_object(choice.get("message"))
    parts = [part for part in as_list(message.get("content")) if isinstance(part, dict)]
    said, finish = _said(choice, message), str(choice.get("finish_reason") or "stop")
    if not said and ending_of(finish) == "done":  # the gateway's word; the vendor's may say why nothing came
        finish = str(choice.get("native_finish_reason") or finish)
    reply = Reply(
        said,
        finish,
        text_of(message.get("refusal")) or "".join(text_of(part.get("refusal")) for part in parts),
        thoughts_of(message),
        listed_tokens(as_object(choice.get("logprobs")).get("content")),
        _name(body.get("model")),
        _name(body.get("system_fingerprint")),
    )
    return _with_counts(reply, as_object(body.get("usage")))


def _said(choice: Mapping[str, Any], message: Mapping[str, Any]) -> str:
    """What a choice says, wherever: as content, parsed, spoken, as arguments of a function, or beside the message."""
    calls = [as_object(call).get("function") for call in as_list(message.get("tool_calls"))]
    functions = [as_object(function) for function in (*calls, message.get("function_call"))]
    places = (
        message.get("content"),
        message.get("parsed"),
        as_object(message.get("audio")).get("transcript"),
        *(function.get("arguments") for function in functions),
        choice.get("text"),
        None if message else choice.get("message"),
    )
    return next((text for text in map(text_of, places) if text), "")


def responses_body(model: str, turns: Sequence[Turn], detail: str | None) -> dict[str, Any]:
    """A request to the Responses API without its parameters."""
    items: list[dict[str, Any]] = []
    for turn in turns:
        content: list[dict[str, Any]] = []
        if turn.image is not None:
            image = {"type": "input_image", "image_url": turn.image}
            content.append(image | ({"detail": detail} if detail else {}))
        content.append({"type": "output_text" if turn.role == "assistant" else "input_text", "text": turn.text})
        items.append({"role": turn.role, "content": content})
    return {"model": model, "input": items}


def read_responses(body: Mapping[str, Any]) -> Reply:
    """The message of a response of the Responses API.

    Raises:
        RetryableError: it is not ready.
    """
    output = body.get("output")
    items = [item for item in output if isinstance(item, dict)] if isinstance(output, list) else []
    if not items and not body.get("status"):
        raise RetryableError(f"the response holds no output: {in_short(json.dumps(body))[:200]}", kind="no-choice")
    parts = [
        part
        for item in items
        if item.get("type") == "message" and isinstance(item.get("content"), list)
        for part in item["content"]
        if isinstance(part, dict)
    ]
    thinking = [item for item in items if item.get("type") == "reasoning"]
    thoughts = [part for item in thinking for part in (*as_list(item.get("summary")), *as_list(item.get("content")))]
    texts = [part for part in parts if part.get("type") in ("output_text", "text")]
    finish = str(body.get("status") or "completed")
    if finish == "incomplete":
        finish = str(as_object(body.get("incomplete_details")).get("reason") or "incomplete")
    reply = Reply(
        "".join(text_of(part.get("text")) for part in texts) or text_of(body.get("output_text")),
        finish if finish not in ("in_progress", "queued") else f"interrupted: {finish}",
        "".join(text_of(part.get("refusal")) for part in parts if part.get("type") == "refusal"),
        "\n".join(text_of(as_object(thought).get("text")) for thought in thoughts).strip(),
        tuple(token for part in texts for token in listed_tokens(part.get("logprobs"))),
        _name(body.get("model")),
    )
    return _with_counts(reply, as_object(body.get("usage")))


def _with_counts(reply: Reply, usage: Mapping[str, Any]) -> Reply:
    """The reply with tokens, by whichever names they are counted; 0 for a whole prompt is no count."""
    prompt = count(usage.get("prompt_tokens", usage.get("input_tokens"))) or None
    # Anthropic's names: what went into its cache, or came from there, is counted beside the prompt.
    cache = [count(usage.get(name)) or 0 for name in ("cache_creation_input_tokens", "cache_read_input_tokens")]
    if prompt is not None and ("prompt_tokens" not in usage or sum(cache) > prompt):
        prompt += sum(cache)
    completion = count(usage.get("completion_tokens", usage.get("output_tokens")))
    total = count(usage.get("total_tokens"))
    inward = as_object(usage.get("prompt_tokens_details") or usage.get("input_tokens_details"))
    outward = as_object(usage.get("completion_tokens_details") or usage.get("output_tokens_details"))
    thoughts = count(outward.get("reasoning_tokens", usage.get("reasoning_tokens")))
    return replace(
        reply,
        prompt_tokens=prompt,
        completion_tokens=completion_count(prompt, completion, total, thoughts),
        cached_tokens=count(inward.get("cached_tokens", usage.get("prompt_cache_hit_tokens", cache[1] or None))),
        reasoning_tokens=thoughts,
    )


def _name(value: Any) -> str | None:
    return str(value)[:100] if isinstance(value, str | int) and value else None
