"""Where an endpoint lives, the key to it, and a client per event loop."""

from __future__ import annotations

import asyncio
import ipaddress
import os
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import openai

from harness.adapters.openai_errors import public_url, without_secrets
from harness.types import UserError

GREETING_TIMEOUT_S = 10.0


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

    async def greet(self, client: openai.AsyncOpenAI) -> None:
        """See that somebody answers and takes the key.

        Raises:
            UserError: nobody answers, or the key is refused.
        """
        try:
            await client.with_options(timeout=GREETING_TIMEOUT_S).models.list()
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
