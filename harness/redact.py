"""Keeping secrets out of files and messages: keys, tokens, passwords, credentials in URLs."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Collection, Iterator
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

HIDDEN = "***"
SHORTEST = 8
"""Characters of the shortest value that is known to be secret; shorter ones would hide ordinary words."""

_KEYS = r"(?:api|access|account|functions?|master|private|shared|subscription)[-_]?key"
_NAMES = rf"(?:{_KEYS}|secret|token|password|passwd|authorization|credential)s?"
_SECRET_NAME = re.compile(rf"{_NAMES}$", re.IGNORECASE)
_NOT_SECRET = re.compile(r"(max|prompt|completion|new|total|image)[-_a-z]*tokens?$", re.IGNORECASE)
_SECRET_ASSIGNMENT = re.compile(rf"({_KEYS}|secret|password|passwd|token)=([^\s,&]+)", re.IGNORECASE)
_SECRET_QUERY = re.compile(r"([?&](?:key|sig|signature|auth)=)([^\s,&]+)", re.IGNORECASE)
_SECRET_MEMBER = re.compile(
    rf"""(["'][\w-]{{0,20}}{_NAMES}\\{{0,8}}["']\s{{0,8}}:\s{{0,8}}\\{{0,8}}["'])(?:Bearer\s)?([^"'\\]+)""",
    re.IGNORECASE,
)
"""As in JSON, also in JSON inside of JSON."""
_SECRET_VALUE = re.compile(r"\b(?:sk|hf|pk|ghp|gho|xox[abp])[-_][A-Za-z0-9_-]{8,}|Bearer\s+[A-Za-z0-9._~+/=-]{8,}")
_ESCAPES = ("%", "\\", "&#")
_URL_CREDENTIALS = re.compile(r"\b(\w{1,20}://)[^/\s:@]+(?::([^/\s@]*))?@")

_told: set[str] = set()


def keep_secret(value: str | None) -> None:
    """Remember a value that must appear in no file and no message of this process."""
    if value is not None and len(value) >= SHORTEST:
        _told.add(value)


def keep_secrets_in(text: str) -> None:
    """Remember what is secret in a setting by the name beside it: in JSON, in a URL's query, or before its host."""
    for pattern in (_SECRET_ASSIGNMENT, _SECRET_QUERY, _SECRET_MEMBER, _URL_CREDENTIALS):
        for found in pattern.finditer(text):
            keep_secret(unquote(found[2] or ""))


def redact_text(text: str) -> str:
    """Replace whatever looks like a secret, and what is known to be one, by `***`."""
    return _redacted(text, _known())


def _redacted(text: str, known: Collection[str]) -> str:
    text = _without(text, known)
    text = _SECRET_VALUE.sub(HIDDEN, text)
    text = _URL_CREDENTIALS.sub(rf"\1{HIDDEN}@", text)
    text = _SECRET_QUERY.sub(rf"\1{HIDDEN}", text)
    text = _SECRET_MEMBER.sub(rf"\1{HIDDEN}", text)
    return _SECRET_ASSIGNMENT.sub(rf"\1={HIDDEN}", text)


def redact_known(text: str) -> str:
    """Replace remembered secrets, and the values of environment variables with secret names, by `***`.

    Their hexadecimal and base64 forms go too, the latter wherever in a longer base64 text they begin, and those with
    characters percent-encoded or escaped as in JSON or HTML, in either case of the letters. Of a remembered secret, so
    does what is half of it or more.
    """
    return _without(text, _known()) if text else text


def _known() -> Collection[str]:
    return _told.union(v for name, v in os.environ.items() if len(v) >= SHORTEST and is_secret_name(name))


def _without(text: str, known: Collection[str]) -> str:
    escaped, lowered = any(mark in text for mark in _ESCAPES), text.lower()
    spans: list[tuple[int, int]] = []
    for secret in known:
        forms = [form for form in _forms(secret) if secret in _told or form in text]
        spans += (span for form in forms for span in _places(form, text, half=secret in _told))
        if escaped or secret.lower() in lowered:
            spans += (match.span() for match in _spelled(secret).finditer(text))
    return _hidden(text, spans)


def _hidden(text: str, spans: list[tuple[int, int]]) -> str:
    """The text with `***` for every span; those that overlap, as those of secrets with a common part do, are one."""
    parts, done = [], 0
    for start, end in sorted(spans):
        if start >= done:
            parts += [text[done:start], HIDDEN]
        done = max(done, end)
    return "".join([*parts, text[done:]])


def _places(form: str, text: str, *, half: bool) -> Iterator[tuple[int, int]]:
    """Start and end of a form of a secret in a text and, if asked, of whatever is at least half of it."""
    size = min(len(form), max(SHORTEST, len(form) // 2)) if half else len(form)
    if half and not any(piece in text for piece in _pieces(form)):
        return
    for part in dict.fromkeys(form[start : start + size] for start in range(len(form) - size + 1)):
        start = text.find(part)
        while start >= 0:
            yield start, start + size
            start = text.find(part, start + 1)


@lru_cache(maxsize=256)
def _forms(secret: str) -> tuple[str, ...]:
    """The secret as it may stand in a text: as it is, in hexadecimal or in base64."""
    data = secret.encode("utf-8", "surrogateescape")
    forms = [secret, secret.replace("/", "\\/"), data.hex(), data.hex().upper()]
    for shift in range(3):
        # The characters that hold bits of the secret alone: 6 bits each, after `shift` bytes of something else.
        first, last = -(-8 * shift // 6), 8 * (shift + len(data)) // 6
        encoded = base64.b64encode(bytes(shift) + data)[first:last].decode()
        forms += [encoded, encoded.replace("+", "-").replace("/", "_")]
    return tuple(dict.fromkeys(forms))


@lru_cache(maxsize=256)
def _spelled(secret: str) -> re.Pattern[str]:
    """The secret in either case, its characters percent-encoded or escaped as in JSON or HTML, also repeatedly."""
    pattern = ""
    for character in secret:
        code, data = ord(character), character.encode("utf-8", "surrogateescape")
        percent = ["".join(f"%(?:25){{0,8}}{byte:02x}" for byte in data), *(["[+]"] if character == " " else [])]
        escapes = [rf"\\{{0,16}}(?:{re.escape(character)}|(?<=\\)u{code:04x}|(?<=\\)x{code:02x})"]
        pattern += f"(?:{'|'.join([*escapes, *percent, f'&#0*{code};', f'&#x0*{code:x};'])})"
    return re.compile(pattern, re.IGNORECASE)


@lru_cache(maxsize=2048)
def _pieces(form: str) -> tuple[str, ...]:
    """Pieces of which every half of a secret's form holds one."""
    size = (len(form) // 2 + 1) // 2
    return tuple(form[start : start + size] for start in range(0, len(form) - size + 1, size))


@lru_cache(maxsize=4096)
def is_secret_name(name: str) -> bool:
    """True for names such as `AWS_SECRET_ACCESS_KEY`, `api_key` or `token`, not for `max_tokens` or `sort_key`."""
    of_a_variable = name.isupper() and name.endswith("_KEY")
    return of_a_variable or (bool(_SECRET_NAME.search(name)) and not _NOT_SECRET.search(name))


def redact(value: Any) -> Any:
    """A copy of a JSON-like value without secrets: by key name, and by the look of strings, keys included."""
    known = _known()

    def safe(value: Any) -> Any:
        if isinstance(value, dict):
            hidden = {k: is_secret_name(str(k)) and isinstance(v, str) for k, v in value.items()}
            return {safe(k): HIDDEN if hidden[k] else safe(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [safe(v) for v in value]
        return _redacted(value, known) if isinstance(value, str) else value

    return safe(value)
