"""What an endpoint's errors mean: try again, a refusal, a failed item, or something the user has to mend."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import openai

from harness.types import Failed, Outcome, Refusal, RetryableError, UserError

HIDDEN = "***"
TEMPORARY = frozenset({408, 409, 425, 429})
"""Client errors that may pass; all server errors (5xx) may."""
CONTENT_FILTER = re.compile(
    r"content_filter|content_policy|content management policy|ResponsibleAIPolicyViolation|moderation_blocked|"
    r"safety system",
    re.IGNORECASE,
)
NO_PICTURES = re.compile(
    r"image input is not supported|(?:does not|doesn't) support (?:image|vision|multimodal)|not a multimodal model|"
    r"no (?:vision|multimodal) (?:support|projector)",
    re.IGNORECASE,
)
"""A server whose model is text-only may say so with a 500, which no repetition mends."""
KEY_LIKE = re.compile(r"\b(?:sk|pk|rk)[-_][\w*.-]{6,}|Bearer\s+\S+", re.IGNORECASE)
CREDENTIALS = re.compile(r"(\w+://)[^/\s@]+@")


def without_secrets(text: str, key: str) -> str:
    """The text in one line, without the key, whatever looks like one, and credentials in URLs."""
    text = text.replace(key, HIDDEN) if key else text
    return " ".join(CREDENTIALS.sub(rf"\1{HIDDEN}@", KEY_LIKE.sub(HIDDEN, text)).split())


def public_url(url: str) -> str:
    """A URL without user name, password, query and fragment."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))


def outcome_of_error(error: Exception, key: str, *, first: bool) -> Outcome:
    """The outcome of a request that failed for good.

    Args:
        error: from the openai package, or a `ValueError` from decoding a broken body.
        key: the API key, to keep out of messages.
        first: nothing was answered yet, so a wrong key or model name concerns all items.

    Raises:
        RetryableError: the same request may succeed later.
        UserError: no request can succeed: bad key, unknown model, used-up quota.
    """
    message = without_secrets(_message(error), key)
    match error:
        case openai.APITimeoutError():
            raise RetryableError(message, kind="timeout") from None
        case openai.APIConnectionError():
            raise RetryableError(message, kind="connection") from None
        case openai.APIStatusError():
            code = error.code or ("content_filter" if CONTENT_FILTER.search(str(error.body)) else None)
            wait = retry_after_s(error.response.headers)
            return outcome_of_status(error.status_code, code, message, retry_after_s=wait, first=first)
        case ValueError():
            raise RetryableError(f"the response is not JSON: {message}", kind="bad-response") from None
    return Failed(type(error).__name__, message)


def outcome_of_status(
    status: int, code: str | None, message: str, *, retry_after_s: float | None, first: bool
) -> Outcome:
    """The outcome of a response that is an error; see `outcome_of_error`.

    Args:
        code: the error's code in OpenAI's form.
        message: without secrets.
        retry_after_s: as told by the endpoint.
    """
    if code == "insufficient_quota":
        raise UserError(f"the endpoint's quota is used up; raise it and repeat the command to go on: {message}")
    if status in (400, 403) and CONTENT_FILTER.search(f"{code} {message}"):
        return Refusal(raw=message)
    if NO_PICTURES.search(message):
        return Failed("no-pictures", message)
    if status in TEMPORARY or status >= 500:
        raise RetryableError(message, retry_after_s, kind=f"http-{status}") from None
    if first and status in (401, 404):
        mend = "check the key" if status == 401 else "check model= and base_url= (which usually ends in /v1)"
        raise UserError(f"the endpoint answers {status}; {mend}: {message}")
    return Failed(f"http-{status}", message)


def _message(error: Exception) -> str:
    """What went wrong, with the cause of a connection error; an HTML page is not worth quoting."""
    if isinstance(error, openai.APIStatusError) and isinstance(error.body, str) and "<html" in error.body.lower():
        return f"HTTP {error.status_code} with an HTML page instead of JSON"
    cause = error.__cause__ if isinstance(error, openai.APIConnectionError) else None
    return f"{error} ({type(cause).__name__}: {cause})" if cause is not None else str(error)


def retry_after_s(headers: Mapping[str, Any]) -> float | None:
    """Seconds to wait by `retry-after-ms` or `Retry-After` (seconds or an HTTP date), or None."""
    try:
        in_ms = "retry-after-ms" in headers
        told = float(headers["retry-after-ms"]) / 1000 if in_ms else float(headers["retry-after"])
        return told if math.isfinite(told) else None
    except (KeyError, ValueError):
        pass
    try:
        return max(0.0, parsedate_to_datetime(headers["retry-after"]).timestamp() - time.time())
    except (KeyError, ValueError):
        return None
