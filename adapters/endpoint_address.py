"""Where an endpoint lives, the key to it, and to whom that key may go."""

from __future__ import annotations

import ipaddress
import os
import re
import urllib.request
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from harness.adapters.endpoint_errors import public_url
from harness.redact import is_secret_name, keep_secret
from harness.types import UserError

OWN_KEY = "OPENAI_API_KEY"
KEYS = {
    "openai.com": OWN_KEY,
    "azure.com": OWN_KEY,
    "anthropic.com": "ANTHROPIC_API_KEY",
    "googleapis.com": "GEMINI_API_KEY",
    "openrouter.ai": "OPENROUTER_API_KEY",
    "x.ai": "XAI_API_KEY",
    "mistral.ai": "MISTRAL_API_KEY",
    "deepseek.com": "DEEPSEEK_API_KEY",
    "groq.com": "GROQ_API_KEY",
    "together.xyz": "TOGETHER_API_KEY",
}
"""Domain -> the variable in which its key is looked for, unless `api_key_env` names another."""


def is_loopback(url: str) -> bool:
    """Whether a URL points to this machine; servers that listen everywhere call it 0.0.0.0."""
    host = _host(url)
    if isinstance(host, str):
        return host == "localhost" or host.endswith(".localhost")
    return host.is_loopback or host.is_unspecified


def is_private(url: str) -> bool:
    """Whether a URL points to this machine or one of a private network."""
    host = _host(url)
    if isinstance(host, str):
        return "." not in host or host.endswith((".local", ".internal", ".lan", ".localhost"))
    return host.is_private


def _host(url: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | str:
    name = (urlsplit(url).hostname or "").removesuffix(".")
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name
    return getattr(address, "ipv4_mapped", None) or address


def key_variable(url: str) -> str | None:
    """The environment variable that holds an address's key; None if it is nobody's that is known."""
    host = urlsplit(url).hostname or ""
    named = (name for domain, name in KEYS.items() if host == domain or host.endswith(f".{domain}"))
    return next(named, OWN_KEY if is_loopback(url) else None)


def key_in(variable: str) -> str:
    """The key in a variable, without line ends; empty if there is none. From now on it appears in no file and message.

    Raises:
        UserError: no header can hold it.
    """
    key = os.environ.get(variable, "").strip()
    keep_secret(key)
    if not key.isascii() or not key.isprintable():
        raise UserError(f"${variable} holds characters that are in no key; type: read -s {variable}; export {variable}")
    return key


@dataclass(frozen=True)
class Endpoint:
    """An endpoint and how to reach it.

    Attributes:
        base_url: usually ending in `/v1`; a query (Azure's `api-version`) goes with every request.
        api_key_env: environment variable that holds the key; None: that of the address's vendor.
        timeout_s: seconds until a request counts as lost.

    Raises:
        UserError: `base_url` is no URL.
    """

    base_url: str
    api_key_env: str | None
    timeout_s: float

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.base_url)
            sound = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            raise UserError("base_url: expected http://HOST[:PORT]/… or https://…, got no such address") from None
        if not sound:
            raise UserError(f"base_url={public_url(self.base_url)}: expected http://… or https://…")

    @property
    def key_env(self) -> str:
        """The variable that holds the key; empty if no key is sent."""
        return (self.api_key_env or key_variable(self.base_url) or "").removeprefix("none")

    def key(self) -> str:
        """The key, empty if the endpoint goes without: on this machine, in a private network, with `api_key_env=none`.

        Raises:
            UserError: there is none.
        """
        name = self.key_env
        if not name:
            if self.api_key_env is None and not is_private(self.base_url):
                host = urlsplit(self.base_url).hostname
                raise UserError(f"which variable holds the key for {host}? name it: api_key_env=NAME (or none)")
            return ""
        key = key_in(name)
        if not key and not is_loopback(self.base_url):
            raise UserError(
                f"a key is needed in ${name}; type: read -s {name}; export {name} (or name another: api_key_env=NAME)"
            )
        return key

    def address_and_query(self) -> tuple[str, dict[str, str]]:
        """The address without its query, and the query."""
        parts = urlsplit(self.base_url)
        return urlunsplit((parts.scheme, parts.netloc, parts.path, "", "")), dict(parse_qsl(parts.query))

    def identity(self) -> dict[str, str]:
        """The address as it may be shown, and what of its query tells endpoints apart."""
        query = [(k, v) for k, v in parse_qsl(urlsplit(self.base_url).query) if not _names_a_key(k)]
        shown = {"base_url": public_url(self.base_url)}
        return shown | ({"query": "&".join(f"{k}={v}" for k, v in sorted(query))} if query else {})

    def route(self) -> str:
        """How the address is reached, for messages."""
        proxy = None if is_loopback(self.base_url) else urllib.request.getproxies().get(urlsplit(self.base_url).scheme)
        return public_url(self.base_url) + (f" through the proxy {public_url(proxy)}" if proxy else "")


def _names_a_key(name: str) -> bool:
    return is_secret_name(name) or re.fullmatch(r"key|sig|signature|auth|code", name, re.IGNORECASE) is not None
