"""Keeping secrets out of files and messages: keys, tokens, passwords, credentials in URLs."""

from __future__ import annotations

import os
import re
from typing import Any

HIDDEN = "***"
_SECRET_NAME = re.compile(r"(api[-_]?key|secret|token|password|passwd|authorization|credential)s?$", re.IGNORECASE)
_NOT_SECRET = re.compile(r"(max|prompt|completion|new|total|image)[-_a-z]*tokens?$", re.IGNORECASE)
_SECRET_ASSIGNMENT = re.compile(r"\b([\w-]*(?:api[-_]?key|secret|password|passwd))=[^\s,&]+", re.IGNORECASE)
_SECRET_VALUE = re.compile(r"\b(?:sk|hf|pk|ghp|gho|xox[abp])[-_][A-Za-z0-9_-]{8,}|Bearer\s+[A-Za-z0-9._~+/=-]{8,}")
_URL_CREDENTIALS = re.compile(r"(\w+://)[^/\s:@]+(?::[^/\s@]*)?@")


def redact_text(text: str) -> str:
    """Replace whatever looks like a secret, and the values of secret environment variables, by `***`."""
    text = _SECRET_VALUE.sub(HIDDEN, text)
    text = _URL_CREDENTIALS.sub(rf"\1{HIDDEN}@", text)
    text = _SECRET_ASSIGNMENT.sub(rf"\1={HIDDEN}", text)
    for name, value in os.environ.items():
        if len(value) >= 8 and is_secret_name(name):
            text = text.replace(value, HIDDEN)
    return text


def is_secret_name(name: str) -> bool:
    """True for names such as `OPENAI_API_KEY` or `token`, not for `max_tokens`."""
    return bool(_SECRET_NAME.search(name)) and not _NOT_SECRET.search(name)


def redact(value: Any) -> Any:
    """A copy of a JSON-like value without secrets: by key name, and by the look of strings."""
    if isinstance(value, dict):
        return {k: HIDDEN if is_secret_name(str(k)) and isinstance(v, str) else redact(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [redact(v) for v in value]
    return redact_text(value) if isinstance(value, str) else value
