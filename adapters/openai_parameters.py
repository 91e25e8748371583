"""Which request parameters an endpoint takes: endpoints that call themselves compatible differ in several of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import openai

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
