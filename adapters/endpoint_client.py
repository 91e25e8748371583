"""The HTTP client that all endpoints are asked with: no redirects, no surprises in size, a few per event loop."""

from __future__ import annotations

import asyncio
import importlib
import ssl
import zlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

from harness.adapters.endpoint_address import Endpoint, is_loopback
from harness.adapters.endpoint_errors import ResponseRefused
from harness.types import RetryableError, UserError

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
        UserError: the proxy cannot be used.
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
    except (ImportError, ValueError) as error:
        raise UserError(f"the proxy in the environment cannot be used: {error}") from None


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
        content = _unpacked(content, -zlib.MAX_WBITS if bare else WINDOW[name], most)
    return content


def _unpacked(packed: bytes, window: int, most: int) -> bytes:
    try:
        unpacking = zlib.decompressobj(window)
        content = unpacking.decompress(packed, most)
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
