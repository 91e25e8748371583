"""Which request parameters an endpoint takes: endpoints that call themselves compatible differ in two of them."""

from __future__ import annotations

import re
from typing import Any

import openai

UNSUPPORTED_CODES = frozenset({"unsupported_parameter", "unsupported_value", "unknown_parameter"})
UNSUPPORTED = re.compile(
    r"unsupported|not support|unknown|unrecogni[sz]ed|not permitted|not allowed|unexpected|max_completion_tokens", re.I
)


class RequestParameters:
    """The token limit and the temperature, in the form that the endpoint was found to accept.

    Newer models take `max_completion_tokens` instead of `max_tokens`, and only their default temperature. What an
    endpoint rejects is never sent to it again; `observed` says what was sent in the end.
    """

    def __init__(self, max_tokens: int, temperature: float) -> None:
        self._limit_name = "max_tokens"
        self._max_tokens = max_tokens
        self._temperature: float | None = temperature

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of the next request."""
        arguments: dict[str, Any] = {self._limit_name: self._max_tokens}
        return arguments if self._temperature is None else arguments | {"temperature": self._temperature}

    def adjust(self, sent: dict[str, Any], error: openai.APIStatusError) -> bool:
        """Whether `error` rejects one of the parameters `sent` by name, so that the request is worth another try."""
        if error.status_code not in (400, 422):
            return False
        if "max_tokens" in sent and rejects("max_tokens", error):
            self._limit_name = "max_completion_tokens"
            return True
        if "temperature" in sent and rejects("temperature", error):
            self._temperature = None
            return True
        return False


def rejects(parameter: str, error: openai.APIStatusError) -> bool:
    """Whether an endpoint says that it does not take a parameter (not merely that its value is too large)."""
    body = error.body if isinstance(error.body, str) else error.message
    named = error.param == parameter or re.search(rf"\b{parameter}\b", f"{error.message} {body}") is not None
    return named and (error.code in UNSUPPORTED_CODES or UNSUPPORTED.search(f"{error.message} {body}") is not None)
