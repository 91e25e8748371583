"""What goes over the wire to an endpoint that speaks as OpenAI does: address and key, request parameters, replies."""

from __future__ import annotations

import asyncio
import ipaddress
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import openai

from harness.adapters.endpoint_errors import public_url, without_secrets
from harness.adapters.endpoint_prices import Price
from harness.tasks.parser import parse_answer
from harness.types import Answer, Item, Outcome, Refusal, RetryableError, Usage, UserError

# ------------------------------------------------------------------------------------------- where and with which key

REACHABLE_TIMEOUT_S = 10.0


def is_loopback(url: str) -> bool:
    """Whether a URL points to this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True)
class Endpoint:
    """An endpoint and how to reach it.

    Attributes:
        base_url: usually ending in `/v1`; a query (Azure's `api-version`) goes with every request.
        api_key_env: environment variable that holds the key; loopback endpoints may go without.
        timeout_s: seconds until a request counts as lost.

    Raises:
        UserError: `base_url` is no URL.
    """

    base_url: str
    api_key_env: str
    timeout_s: float

    def __post_init__(self) -> None:
        if urlsplit(self.base_url).scheme not in ("http", "https") or not urlsplit(self.base_url).hostname:
            raise UserError(f"base_url={public_url(self.base_url)}: expected http://… or https://…")

    def key(self) -> str:
        """The key, empty where a loopback endpoint goes without.

        Raises:
            UserError: there is none.
        """
        key = os.environ.get(self.api_key_env, "")
        if not key and not is_loopback(self.base_url):
            name = self.api_key_env
            raise UserError(
                f"gpt4v needs a key in ${name}; type: read -s {name}; export {name} (or name another: api_key_env=NAME)"
            )
        return key

    def client_settings(self) -> dict[str, Any]:
        """Keyword arguments of the client: key and address, its query apart; Azure wants the key in its own header too.

        Raises:
            UserError: there is no key.
        """
        parts, key = urlsplit(self.base_url), self.key() or "none"
        address = urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))
        settings: dict[str, Any] = {"api_key": key, "base_url": address, "default_query": dict(parse_qsl(parts.query))}
        on_azure = (parts.hostname or "").endswith(".azure.com")
        return settings | ({"default_headers": {"api-key": key}} if on_azure else {})

    async def check_reachable(self, client: openai.AsyncOpenAI) -> None:
        """Fail early if the endpoint is down or rejects the key.

        Raises:
            UserError: nobody answers, or the key is refused.
        """
        try:
            await client.with_options(timeout=REACHABLE_TIMEOUT_S).models.list()
        except openai.AuthenticationError as error:
            message = without_secrets(str(error), self.key())
            raise UserError(f"{public_url(self.base_url)} refuses the key in ${self.api_key_env}: {message}") from None
        except openai.APITimeoutError:
            pass  # slow to list its models, yet there
        except openai.APIConnectionError as error:
            cause = without_secrets(str(error.__cause__ or error), self.key())
            raise UserError(f"nobody answers at {public_url(self.base_url)} ({cause}); check base_url=") from None
        except (openai.OpenAIError, ValueError):
            pass  # an endpoint need not list its models


@dataclass(frozen=True)
class Connection:
    """What belongs to one event loop: the client, and the lock behind which the first request is alone."""

    loop: asyncio.AbstractEventLoop
    client: openai.AsyncOpenAI
    first: asyncio.Lock

    @classmethod
    def open(cls, endpoint: Endpoint) -> Connection:
        """Connect in the running event loop; the client's own retries are off."""
        settings = endpoint.client_settings()
        # Given to the client, because the pool that it makes itself tries to close in whatever loop runs later.
        pool = openai.DefaultAsyncHttpxClient()
        client = openai.AsyncOpenAI(**settings, timeout=endpoint.timeout_s, max_retries=0, http_client=pool)
        return cls(asyncio.get_running_loop(), client, asyncio.Lock())


# ------------------------------------------------------------------------------------------------- request parameters

UNSUPPORTED_CODES = frozenset({"unsupported_parameter", "unsupported_value", "unknown_parameter"})
UNSUPPORTED = re.compile(
    r"unsupported|not support|unknown|unrecogni[sz]ed|not permitted|not allowed|unexpected|max_completion_tokens", re.I
)
TOP_LOGPROBS = 20
"""The most that OpenAI gives."""


class RequestParameters:
    """Token limit, temperature, JSON schema and log-probabilities, in the form that the endpoint was found to accept.

    Newer models take `max_completion_tokens` instead of `max_tokens`, and only their default temperature; many servers
    know neither schemas nor log-probabilities. What an endpoint rejects is never sent to it again.

    Attributes:
        found: parameter -> what the endpoint did with it: `accepted`, `rejected` or `ignored`.
    """

    def __init__(self, max_tokens: int, temperature: float, *, schema: bool = False, logprobs: bool = False) -> None:
        self._limit_name = "max_tokens"
        self._max_tokens = max_tokens
        self._temperature: float | None = temperature
        self._schema, self._logprobs = schema, logprobs
        self.found: dict[str, str] = {}

    def arguments(self, schema: dict[str, Any] | None = None) -> dict[str, Any]:
        """Keyword arguments of the next request.

        Args:
            schema: JSON schema of the answer wanted; sent only where the endpoint takes schemas.
        """
        arguments: dict[str, Any] = {self._limit_name: self._max_tokens}
        if self._temperature is not None:
            arguments["temperature"] = self._temperature
        if self._schema and schema is not None:
            form = {"name": "answer", "strict": True, "schema": schema}
            arguments["response_format"] = {"type": "json_schema", "json_schema": form}
        return arguments | ({"logprobs": True, "top_logprobs": TOP_LOGPROBS} if self._logprobs else {})

    def adjust(self, sent: dict[str, Any], error: openai.APIStatusError) -> bool:
        """Whether `error` rejects one of the parameters `sent` by name, so that the request is worth another try."""
        if error.status_code not in (400, 422, 501):
            return False
        if "max_tokens" in sent and rejects("max_tokens", error):
            self._limit_name = "max_completion_tokens"
        elif "temperature" in sent and rejects("temperature", error):
            self._temperature = None
            self.found["temperature"] = "rejected"
        elif "response_format" in sent and mentions("response_format|json_schema|structured outputs?", error):
            self.drop("schema", "rejected")
        elif "logprobs" in sent and mentions("(?:top_)?logprobs", error):
            self.drop("logprobs", "rejected")
        else:
            return False
        return True

    def drop_extras(self) -> bool:
        """Stop sending what a plain endpoint may not know; False when nothing of it was sent."""
        extras = [name for name, sent in (("schema", self._schema), ("logprobs", self._logprobs)) if sent]
        for name in extras:
            self.drop(name, "rejected")
        return bool(extras)

    def note(self, *, schema: bool, logprobs: bool) -> None:
        """What an endpoint that rejected nothing did with the extras that were sent."""
        for name, sent, kept in (("schema", self._schema, schema), ("logprobs", self._logprobs, logprobs)):
            if sent and kept:
                self.found[name] = "accepted"
            elif sent:
                self.drop(name, "ignored")

    def drop(self, name: str, why: str) -> None:
        """Stop sending `schema` or `logprobs`."""
        setattr(self, f"_{name}", False)
        self.found[name] = why


def answer_schema(labels: Sequence[str], choice: str = "emotion", text: str | None = "explanation") -> dict[str, Any]:
    """JSON schema of an object with one of `labels` and, unless `text` is None, a free text."""
    properties: dict[str, Any] = {choice: {"type": "string", "enum": list(labels)}}
    if text is not None:
        properties[text] = {"type": "string"}
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def rejects(parameter: str, error: openai.APIStatusError) -> bool:
    """Whether an endpoint says that it does not take a parameter (not merely that its value is too large)."""
    body = error.body if isinstance(error.body, str) else error.message
    named = error.param == parameter or re.search(rf"\b{parameter}\b", f"{error.message} {body}") is not None
    return named and (error.code in UNSUPPORTED_CODES or UNSUPPORTED.search(f"{error.message} {body}") is not None)


def mentions(pattern: str, error: openai.APIStatusError) -> bool:
    """Whether an error speaks of a parameter at all; enough for those that the request can do without."""
    return re.search(rf"\b(?:{pattern})\b", f"{error.param} {error.message} {error.body}", re.IGNORECASE) is not None


# ------------------------------------------------------------------------------------------------------------ replies


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


# ------------------------------------------------------------------------------------------------ label probabilities

DOUBTFUL = 0.02
"""Largest probability of tokens that begin several labels at once which is still left out of the count."""


def label_probabilities(
    tokens: Sequence[Mapping[str, Any]], emotion: str, labels: Sequence[str]
) -> dict[str, float] | None:
    """The share of each label at the place where the answer names its emotion.

    At that place the listed tokens are read as beginnings of labels. A label that no listed token begins gets an equal
    share of the probability that the list leaves over, but no more than the least listed one; all are then divided by
    their sum.

    Args:
        tokens: `choices[0].logprobs.content`: mappings with `token` and `top_logprobs` (each `token`, `logprob`).
        emotion: the label that was answered.
        labels: the task's labels.

    Returns:
        label -> probability (sums to 1), or None where the place is not found, or a token of some weight begins several
        labels, so that its probability cannot be divided among them.
    """
    place = _place(tokens, emotion)
    if place is None:
        return None
    index, before = place
    tops = tokens[index].get("top_logprobs") or ()
    listed = {
        str(top["token"]): math.exp(top["logprob"]) for top in tops if isinstance(top.get("logprob"), int | float)
    }
    found = _by_label(listed, before, labels)
    return None if found is None else _complete(found, listed, labels)


def _place(tokens: Sequence[Mapping[str, Any]], emotion: str) -> tuple[int, str] | None:
    """Index of the token in which the label begins, and what that token holds before it."""
    texts = [str(token.get("token")) for token in tokens]
    start = "".join(texts).lower().find(emotion.lower())
    if start < 0:
        return None
    for index, text in enumerate(texts):
        if start < len(text):
            return index, text[:start]
        start -= len(text)
    return None


def _by_label(listed: Mapping[str, float], before: str, labels: Sequence[str]) -> dict[str, float] | None:
    found: dict[str, float] = {}
    doubtful = 0.0
    for token, probability in listed.items():
        word = token.removeprefix(before).strip().lower() if token.startswith(before) else ""
        begun = [label for label in labels if word and (label.lower().startswith(word) or _continues(word, label))]
        if len(begun) == 1:
            found[begun[0]] = found.get(begun[0], 0.0) + probability
        elif begun:
            doubtful += probability
    return found if found and doubtful <= DOUBTFUL else None


def _continues(word: str, label: str) -> bool:
    """Whether a token holds a whole label and something after it, such as a closing quotation mark."""
    rest = word.removeprefix(label.lower())
    return rest != word and not rest[:1].isalnum()


def _complete(found: dict[str, float], listed: Mapping[str, float], labels: Sequence[str]) -> dict[str, float]:
    absent = [label for label in labels if label not in found]
    left = max(0.0, 1.0 - sum(listed.values()))
    share = min(left / len(absent), min(listed.values())) if absent else 0.0
    whole = found | dict.fromkeys(absent, share)
    total = sum(whole.values())
    return {label: whole[label] / total for label in labels}


# ----------------------------------------------------------------------------------------------------------- settings


def check_choices(**settings: tuple[str | None, Sequence[str]]) -> None:
    """See that each setting is one of its choices; None is not set.

    Raises:
        UserError: one is not.
    """
    for name, (value, known) in settings.items():
        if value is not None and value not in known:
            raise UserError(f"{name}={value}: expected one of {', '.join(known)}")


def check_at_least(least: int, **settings: float) -> None:
    """See that no setting is less than `least` (NaN is).

    Raises:
        UserError: one is.
    """
    for name, value in settings.items():
        if not value >= least:
            raise UserError(f"{name}={value:g}: expected at least {least}")


def check_more_than_0(**settings: float | None) -> None:
    """See that each setting is more than 0; None is not set.

    Raises:
        UserError: one is not.
    """
    for name, value in settings.items():
        if value is not None and not value > 0:
            raise UserError(f"{name}={value:g}: expected more than 0")
