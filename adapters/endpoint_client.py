"""How an endpoint is reached: its address, its key and to whom that may go, and the HTTP client that it is asked with.

The client follows no redirect, takes nothing of surprising size, and is one of a few per event loop.
"""

from __future__ import annotations

import asyncio
import importlib
import ipaddress
import os
import re
import ssl
import urllib.request
import zlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeVar
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from harness.adapters.endpoint_errors import ResponseRefused, public_url
from harness.redact import is_secret_name, keep_secret
from harness.types import RetryableError, UserError

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
        keys = re.compile("key|sig|signature|auth|code", re.IGNORECASE)
        given = parse_qsl(urlsplit(self.base_url).query)
        query = [(k, v) for k, v in given if not is_secret_name(k) and not keys.fullmatch(k)]
        shown = {"base_url": public_url(self.base_url)}
        return shown | ({"query": "&".join(f"{k}={v}" for k, v in sorted(query))} if query else {})

    def route(self) -> str:
        """How the address is reached, for messages."""
        proxy = None if is_loopback(self.base_url) else urllib.request.getproxies().get(urlsplit(self.base_url).scheme)
        if not proxy:
            return public_url(self.base_url)
        shown = re.sub(r"^(\w+://)?.*@", r"\1", proxy)  # which may lack its scheme, and then is no URL
        return f"{public_url(self.base_url)} through the proxy {public_url(shown)}"


# ---------------------------------------------------------------------------------------------------- the HTTP client

CONNECT_S = 10.0
"""Seconds for a connection, and for the list of models."""
PER_CLIENT = 8
"""Requests under way on a client."""
MOST_BYTES, MOST_FILE_BYTES = 32 * 2**20, 2 * 2**30
"""Of a response, and of a batch's results, once unpacked."""
WINDOW = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
Client = TypeVar("Client")


def http_client(endpoint: Endpoint, sdk: Any) -> Any:
    """A client for a vendor's package: `sdk` is `openai`, or another one of the same make.

    It follows no redirect, which would carry key and images to another host; a server on this machine is never reached
    through a proxy; a response that is too large is given up before it fills the memory.

    Raises:
        UserError: the proxy, or the certificates, that the environment names cannot be used.
    """
    base, trust_env = sdk.DefaultAsyncHttpxClient, not is_loopback(endpoint.base_url)
    is_tls = urlsplit(endpoint.base_url).scheme == "https"
    try:
        return _bounded(base)(
            follow_redirects=False,
            trust_env=trust_env,
            verify=is_tls and _tls(base.__mro__[1].__module__, trust_env),
            timeout=sdk.Timeout(endpoint.timeout_s, connect=min(CONNECT_S, endpoint.timeout_s)),
            headers={"accept-encoding": "gzip, deflate"},
        )
    except ImportError as error:
        raise UserError(f"the proxy in the environment cannot be used: {error}") from None
    except OSError as error:  # which does not name the file
        raise UserError(f"the certificates of $SSL_CERT_FILE or $SSL_CERT_DIR cannot be read: {error}") from None
    except Exception:  # the package's own for an address that is none, in whose message a part of a password may stand
        raise UserError("the proxy in $HTTP_PROXY, $HTTPS_PROXY or $ALL_PROXY is no http://HOST:PORT") from None


@lru_cache(maxsize=4)
def _tls(httpx: str, trust_env: bool) -> ssl.SSLContext:
    """What checks certificates, for all clients: it takes longer to make than the rest of a client."""
    made: ssl.SSLContext = importlib.import_module(httpx).create_ssl_context(trust_env=trust_env)
    return made


@lru_cache(maxsize=4)
def _bounded(base: Any) -> Any:
    """A client class whose responses are bounded; `base` is one of httpx's, or of what took its place."""

    class BoundedClient(base):  # type: ignore[misc]
        async def send(self, request: Any, *, stream: bool = False, **given: Any) -> Any:
            response = await super().send(request, stream=True, **given)
            if stream:
                return response
            is_file = request.method == "GET" and request.url.path.endswith("/content")
            try:
                content = await _content(response, MOST_FILE_BYTES if is_file else MOST_BYTES)
            finally:
                await response.aclose()
            sent = [(name, value) for name, value in response.headers.multi_items() if name != "content-encoding"]
            return type(response)(
                response.status_code, headers=sent, content=content, request=request, extensions=response.extensions
            )

    return BoundedClient


async def _content(response: Any, most: int) -> bytes:
    """A response's body, unpacked.

    Raises:
        ResponseRefused: it is larger than `most` bytes, or packed in a way that was not offered.
        RetryableError: what came is not packed as it says, or broke off.
    """
    raw = bytearray()
    async for piece in response.aiter_raw():
        raw += piece
        if len(raw) > most:
            raise ResponseRefused(f"the response is larger than {most >> 20} MiB")
    content = bytes(raw)
    packed = [name.strip().lower() for name in response.headers.get("content-encoding", "").split(",")]
    for name in reversed([name for name in packed if name not in ("", "identity")]):
        if name not in WINDOW:
            raise ResponseRefused(f"the response is packed as {name!r}, which was not offered")
        bare = name == "deflate" and content[:1] != b"x"  # without zlib's header, as some send it
        try:
            unpacking = zlib.decompressobj(-zlib.MAX_WBITS if bare else WINDOW[name])
            content = unpacking.decompress(content, most)
        except zlib.error as error:
            raise RetryableError(f"the response cannot be unpacked: {error}", kind="connection") from None
        if unpacking.unconsumed_tail or len(content) >= most:
            raise ResponseRefused(f"the response is larger than {most >> 20} MiB")
        if not unpacking.eof:
            raise RetryableError("the response broke off", kind="connection")
    return content


class Clients(Generic[Client]):
    """Clients for the requests of the running event loop, at most `PER_CLIENT` at once on each.

    At every request a client looks at each of its idle connections, which costs more than the request if they are many.
    Those of an earlier loop died with it.

    Args:
        make, close: how a client comes and goes.
    """

    def __init__(self, make: Callable[[], Client], close: Callable[[Client], Awaitable[object]]) -> None:
        self._make, self._close = make, close
        self._loop: asyncio.AbstractEventLoop | None = None
        self._under_way: dict[Client, int] = {}

    @contextmanager
    def client(self) -> Iterator[Client]:
        """The first one with room for another request; made if there is none."""
        if self._loop is not (loop := asyncio.get_running_loop()):
            self._loop, self._under_way = loop, {}
        under_way = self._under_way
        client = next((client for client, number in under_way.items() if number < PER_CLIENT), None) or self._make()
        under_way[client] = under_way.get(client, 0) + 1
        try:
            yield client
        finally:
            under_way[client] -= 1

    async def aclose(self) -> None:
        """Close those of the running loop."""
        if self._loop is asyncio.get_running_loop():
            clients, self._under_way = list(self._under_way), {}
            for client in clients:
                await self._close(client)
