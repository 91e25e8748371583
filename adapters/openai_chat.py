"""GPT-4V and every other endpoint that speaks OpenAI's chat completions with pictures."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import openai
from openai.types.chat import ChatCompletion

from harness.adapters.base import EndpointAdapter
from harness.adapters.openai_errors import outcome_of_error, public_url, without_secrets
from harness.adapters.openai_parameters import RequestParameters
from harness.adapters.openai_pictures import data_url
from harness.tasks.parser import PARSER_VERSION, parse_answer
from harness.types import Failed, ImageError, Item, Outcome, Refusal, RetryableError, Usage, UserError

DETAILS = ("auto", "low", "high")
PROBE_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class _Connection:
    """What belongs to one event loop: the client, and the lock behind which the first request is alone."""

    loop: asyncio.AbstractEventLoop
    client: openai.AsyncOpenAI
    first: asyncio.Lock


class OpenAIChat(EndpointAdapter):
    """One chat request per painting: the picture as a data URL and the task's prompt.

    Retries are the runner's; the client's own are off. The first request settles which parameters the endpoint takes,
    the others wait for it.

    Args:
        model: the endpoint's model name (snapshots retire; the name that it returns is in `observed()`).
        base_url: where the endpoint lives, usually ending in `/v1`.
        api_key_env: environment variable that holds the key; loopback endpoints may go without.
        max_tokens: longest answer.
        temperature: 0 is the closest to greedy decoding; dropped where the endpoint takes only its default.
        image_size: longest side in pixels; larger pictures are scaled down, others are sent as they are.
        detail: OpenAI's `auto`, `low` or `high`; None leaves it out.
        timeout_s: seconds until a request counts as lost.
    """

    name = "gpt4v"

    def __init__(
        self,
        model: str,
        base_url: str = "https://api.openai.com/v1",
        api_key_env: str = "OPENAI_API_KEY",
        max_tokens: int = 300,
        temperature: float = 0.0,
        image_size: int = 1024,
        detail: str | None = None,
        timeout_s: float = 120.0,
    ) -> None:
        if urlsplit(base_url).scheme not in ("http", "https") or not urlsplit(base_url).hostname:
            raise UserError(f"base_url={public_url(base_url)}: expected http://… or https://…")
        if detail is not None and detail not in DETAILS:
            raise UserError(f"detail={detail}: expected one of {', '.join(DETAILS)}")
        self.model, self.base_url, self.api_key_env = model, base_url, api_key_env
        self.max_tokens, self.temperature, self.timeout_s = max_tokens, temperature, timeout_s
        self.image_size, self.detail = image_size, detail
        self._parameters = RequestParameters(max_tokens, temperature)
        self._client_settings: dict[str, Any] = {}
        self._connection: _Connection | None = None
        self._settled = False
        self._answered = 0
        self._models: Counter[str] = Counter()
        self._system_fingerprints: Counter[str] = Counter()

    def fingerprint(self) -> dict[str, Any]:
        """Endpoint (without credentials), model name asked for, generation and picture settings."""
        request = {"max_tokens": self.max_tokens, "temperature": self.temperature}
        pictures = {"image_size": self.image_size, "detail": self.detail}
        named = {"base_url": public_url(self.base_url), "model": self.model}
        return named | request | pictures | {"parser": PARSER_VERSION}

    def load(self) -> None:
        """Find the key and see that somebody answers at `base_url`.

        Raises:
            UserError: no key for an endpoint that is not on this machine, nobody answers, or the key is refused.
        """
        key = self._key()
        settings: dict[str, Any] = {"api_key": key or "none", "base_url": self.base_url, "max_retries": 0}
        try:
            with openai.OpenAI(**settings, timeout=PROBE_TIMEOUT_S) as probe:
                probe.models.list()
        except openai.AuthenticationError as error:
            message = without_secrets(str(error), key)
            raise UserError(f"{public_url(self.base_url)} refuses the key in ${self.api_key_env}: {message}") from None
        except openai.APITimeoutError:
            pass  # slow to list its models, yet there
        except openai.APIConnectionError as error:
            cause = without_secrets(str(error.__cause__ or error), key)
            raise UserError(f"nobody answers at {public_url(self.base_url)} ({cause}); check base_url=") from None
        except (openai.OpenAIError, ValueError):
            pass  # an endpoint need not list its models
        self._client_settings = settings | {"timeout": self.timeout_s}

    def _key(self) -> str:
        """The key, empty where a loopback endpoint goes without."""
        key = os.environ.get(self.api_key_env, "")
        if not key and not is_loopback(self.base_url):
            raise UserError(
                f"gpt4v needs a key; type: export {self.api_key_env}=…  (or name another: api_key_env=NAME)"
            )
        return key

    def observed(self) -> dict[str, Any]:
        """Model names and system fingerprints that came back with their counts, and the parameters that were sent."""
        return {
            "models_returned": dict(self._models),
            "system_fingerprints": dict(self._system_fingerprints),
            "request_parameters": self._parameters.arguments(),
        }

    async def answer(self, item: Item) -> Outcome:
        """Ask about one painting; see `EndpointAdapter.answer`."""
        try:
            url = await asyncio.to_thread(data_url, item.image, self.image_size)
        except ImageError as error:
            return Failed("ImageError", str(error))
        started = time.monotonic()
        try:
            completion = await self._complete(self._messages(item.prompt, url))
        except (openai.OpenAIError, ValueError) as error:
            return outcome_of_error(error, self._key(), first=self._answered == 0)
        return self._outcome(item, completion, time.monotonic() - started)

    def _messages(self, prompt: str, url: str) -> list[dict[str, Any]]:
        image = {"url": url} | ({"detail": self.detail} if self.detail else {})
        content = [{"type": "image_url", "image_url": image}, {"type": "text", "text": prompt}]
        return [{"role": "user", "content": content}]

    async def _complete(self, messages: list[dict[str, Any]]) -> Any:
        """The endpoint's response; until one succeeded, one request at a time finds out what the endpoint takes."""
        connection = self._connected()
        if self._settled:
            return await self._send(connection, messages)
        async with connection.first:
            alone = not self._settled
            if alone:
                completion = await self._send(connection, messages)
                self._settled = True
        return completion if alone else await self._send(connection, messages)

    async def _send(self, connection: _Connection, messages: list[dict[str, Any]]) -> Any:
        create: Any = connection.client.chat.completions.create
        while True:
            sent = self._parameters.arguments()
            try:
                return await create(model=self.model, messages=messages, **sent)
            except openai.APIStatusError as error:
                if not self._parameters.adjust(sent, error):
                    raise

    def _connected(self) -> _Connection:
        """The connection of the running event loop; those of an earlier loop died with it."""
        loop = asyncio.get_running_loop()
        if self._connection is None or self._connection.loop is not loop:
            # Given to the client, because the one that it makes itself tries to close in whatever loop runs later.
            pool = openai.DefaultAsyncHttpxClient()
            client = openai.AsyncOpenAI(**self._client_settings, http_client=pool)
            self._connection = _Connection(loop, client, asyncio.Lock())
        return self._connection

    def _outcome(self, item: Item, completion: Any, latency_s: float) -> Outcome:
        """Read a response; its fields are not validated by the client."""
        if not isinstance(completion, ChatCompletion):
            start = " ".join(str(completion)[:80].split())
            return Failed("not-json", f"expected JSON, got {start!r}; check base_url= (it usually ends in /v1)")
        if not completion.choices:
            raise RetryableError("the response holds no choice", kind="no-choice")
        self._answered += 1
        self._models[str(completion.model)] += 1
        if completion.system_fingerprint:
            self._system_fingerprints[completion.system_fingerprint] += 1
        choice = completion.choices[0]
        usage = _usage(completion, latency_s)
        text = _text(choice.message.content)
        refusal = choice.message.refusal
        if refusal or choice.finish_reason == "content_filter":
            return Refusal(refusal or text, usage)
        return parse_answer(text, item.labels, usage, truncated=choice.finish_reason == "length")


def is_loopback(url: str) -> bool:
    """Whether a URL points to this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _text(content: Any) -> str:
    """The answer's text; some endpoints give a list of parts."""
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _usage(completion: ChatCompletion, latency_s: float) -> Usage:
    counted = completion.usage
    if counted is None:
        return Usage(latency_s)
    return Usage(latency_s, counted.prompt_tokens, counted.completion_tokens)
