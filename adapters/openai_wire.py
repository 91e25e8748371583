"""What goes over the wire to an endpoint that speaks as OpenAI does: address and key, parameters, the two APIs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import openai

from harness.adapters.endpoint_client import CONNECT_S, Endpoint, http_client
from harness.adapters.endpoint_errors import (
    ITS_VALUE,
    EndpointError,
    ResponseRefused,
    as_list,
    as_object,
    in_short,
    is_rejection,
    of_sdk,
    outcome_of_error,
    rejected_among,
)
from harness.adapters.endpoint_images import Turn
from harness.adapters.endpoint_reply import (
    Reply,
    ending_of,
    listed_tokens,
    name_of,
    text_of,
    thoughts_of,
    token_counts,
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
        thinks = self.effort is not None
        sent = {
            "schema": self.schema,
            "logprobs": self.logprobs,
            "temperature": self.temperature is not None,
            "reasoning_summary": thinks and self.summary and self.responses,
            "reasoning_effort": thinks,
            "store": self.unstored and self.responses,
            **dict.fromkeys(self.extra, True),
        }
        if (name := rejected_among(error, [name for name, is_sent in sent.items() if is_sent])) is not None:
            return self.dropping(name, "rejected")
        if unexplained and error.status in (400, 422) and not error.param and (self.schema or self.logprobs):
            plainer = self.dropping("schema", "rejected") if self.schema else self
            return plainer.dropping("logprobs", "rejected") if self.logprobs else plainer
        return None

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


# -------------------------------------------------------------------------------------------------------- the two APIs


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
            return Reply(refusal=f"the prompt was blocked: {blocked}", **token_counts(body))
        raise RetryableError(f"the response holds no choice: {in_short(json.dumps(body))[:200]}", kind="no-choice")
    message = as_object(choice.get("message"))
    parts = [part for part in as_list(message.get("content")) if isinstance(part, dict)]
    said, finish = _said(choice, message), str(choice.get("finish_reason") or "stop")
    if not said and ending_of(finish) == "done":  # the gateway's word; the vendor's may say why nothing came
        finish = str(choice.get("native_finish_reason") or finish)
    return Reply(
        said,
        finish,
        text_of(message.get("refusal")) or "".join(text_of(part.get("refusal")) for part in parts),
        thoughts_of(message),
        listed_tokens(as_object(choice.get("logprobs")).get("content")),
        name_of(body.get("model")),
        name_of(body.get("system_fingerprint")),
        **token_counts(body),
    )


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
    return Reply(
        "".join(text_of(part.get("text")) for part in texts) or text_of(body.get("output_text")),
        finish if finish not in ("in_progress", "queued") else f"interrupted: {finish}",
        "".join(text_of(part.get("refusal")) for part in parts if part.get("type") == "refusal"),
        "\n".join(text_of(as_object(thought).get("text")) for thought in thoughts).strip(),
        tuple(token for part in texts for token in listed_tokens(part.get("logprobs"))),
        name_of(body.get("model")),
        **token_counts(body),
    )
