"""Claude through Anthropic's own package: `pip install 'sevlm-harness[anthropic]'`."""

from __future__ import annotations

import importlib
from collections.abc import Sequence, Set
from typing import Any, Literal

from harness.adapters.endpoint_client import Clients, Endpoint, http_client
from harness.adapters.endpoint_errors import of_sdk
from harness.adapters.endpoint_images import Turn
from harness.adapters.endpoint_prices import find_price
from harness.adapters.endpoint_reply import Reply, count, name_of, read_json, text_of
from harness.adapters.endpoint_vision import VisionEndpoint, extra_fields
from harness.tasks.parser import PARSER_VERSION
from harness.types import RetryableError, UserError


class Claude(VisionEndpoint):
    """Claude models by the Messages API.

    Args:
        model: Anthropic's name for it.
        base_url: where the API lives.
        api_key_env: environment variable that holds the key.
        max_tokens: longest answer, thoughts included.
        temperature: `default` leaves it to the model; newer models take no other.
        thinking: tokens for thoughts before the answer, less than `max_tokens`; None: no thoughts are asked for.
        extra_body: further fields of every request, as JSON: `{"output_config":{"effort":"low"}}`.
        image_size: longest side in pixels; larger images are scaled down.
        timeout_s: seconds until a request counts as lost, from its start to the last byte.
        probe: `strict` refuses a model that does not see, `warn` continues, `off` does not look.
        price_in, price_out: US$ per million prompt and answer tokens, instead of the table's.
        prices: a price table of your own, a YAML file.
        requests_per_minute, tokens_per_minute: your account's limits.
        shots: images of the training split to show, with an answer each, before the question.
        seed: which of them.
        retry_wait_s: seconds before what failed in passing is sent again; they double from one attempt to the next.
        patience_s: for so many seconds a busy endpoint is asked again.
    """

    name = "claude"

    def __init__(
        self,
        model: str,
        base_url: str = "https://api.anthropic.com",
        api_key_env: str | None = None,
        max_tokens: int = 1000,
        temperature: float | Literal["default"] = "default",
        thinking: int | None = None,
        extra_body: str | None = None,
        image_size: int = 1024,
        timeout_s: float = 120.0,
        probe: str = "strict",
        price_in: float | None = None,
        price_out: float | None = None,
        prices: str | None = None,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        shots: int = 0,
        seed: int = 0,
        retry_wait_s: float = 0.5,
        patience_s: float = 120.0,
    ) -> None:
        if thinking is not None and not 0 < thinking < max_tokens:
            raise UserError(
                f"thinking={thinking}: expected more than 0 and less than max_tokens={max_tokens}, which holds both"
            )
        self.begin(
            Endpoint(base_url, api_key_env or "ANTHROPIC_API_KEY", timeout_s),
            model,
            find_price(model, base_url, price_in, price_out, prices),
            max_tokens=max_tokens,
            temperature=temperature,
            image_size=image_size,
            probe=probe,
            shots=shots,
            seed=seed,
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            retry_wait_s=retry_wait_s,
            patience_s=patience_s,
        )
        self.thinking, self.extra = thinking, extra_fields(extra_body)
        self._clients = Clients(lambda: _client(_package(), self.endpoint), lambda client: client.close())

    def fingerprint(self) -> dict[str, Any]:
        """Endpoint, model name asked for, generation and image settings."""
        asked = {"max_tokens": self.max_tokens, "temperature": self.temperature, "thinking": self.thinking}
        more = {"extra_body": self.extra, "image_size": self.image_size, "shots": self.shots}
        named = self.endpoint.identity() | {"api": "messages", "model": self.model}
        return named | asked | more | {"parser": PARSER_VERSION}

    def runtime_info(self) -> dict[str, Any]:
        """What `VisionEndpoint` says, and the parameters that are sent."""
        return super().runtime_info() | {"request_parameters": self._parameters(None, self._rejected)}

    def load(self) -> None:
        """See that the package and a key are there.

        Raises:
            UserError: one is missing.
        """
        _package()
        self.endpoint.key()

    async def connect(self) -> None:
        """Nothing: the probe, or the first request, finds out."""

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        await self._clients.aclose()

    async def send(self, turns: Sequence[Turn], schema: dict[str, Any] | None, room: int | None) -> Reply:
        """Ask once, without what the model was found to reject."""
        anthropic = _package()
        messages: list[dict[str, Any]] = []
        for turn in turns:
            content: list[dict[str, Any]] = []
            if turn.image is not None:
                head, _, data = turn.image.partition(";base64,")
                source = {"type": "base64", "media_type": head.removeprefix("data:"), "data": data}
                content.append({"type": "image", "source": source})
            messages.append({"role": turn.role, "content": [*content, {"type": "text", "text": turn.text}]})
        body = {"model": self.model, "messages": messages}
        sent = self._parameters(room) | self._parameters(room, {"thinking"})
        optional = [name for name in sent if name != "max_tokens"]

        async def ask(left_out: Set[str]) -> Reply:
            try:
                with self._clients.client() as client:
                    asked = body | self._parameters(room, left_out)
                    response = client.post("/v1/messages", cast_to=object, body=asked)
                    answer = read_json(await self.in_time(response), self.price)
            except (anthropic.AnthropicError, ValueError, RecursionError) as error:
                raise of_sdk(error, anthropic) from None
            return read_message(answer)

        return await self.without_rejected(optional, ask)

    def _parameters(self, room: int | None, left_out: Set[str] = frozenset()) -> dict[str, Any]:
        sent: dict[str, Any] = {"max_tokens": room or self.limit}
        if self.thinking is not None and "thinking" not in left_out:
            sent["thinking"] = {"type": "enabled", "budget_tokens": self.thinking}
        elif self.temperature is not None:  # thoughts and a temperature exclude each other
            sent["temperature"] = self.temperature
        return {name: value for name, value in (sent | self.extra).items() if name not in left_out}


def _package() -> Any:
    try:
        return importlib.import_module("anthropic")
    except ImportError:
        raise UserError("claude needs Anthropic's package; type: pip install 'sevlm-harness[anthropic]'") from None


def _client(anthropic: Any, endpoint: Endpoint) -> Any:
    """A client without retries of its own."""
    (address, query), pool = endpoint.address_and_query(), http_client(endpoint, anthropic)
    return anthropic.AsyncAnthropic(
        api_key=endpoint.key() or "none",
        base_url=address.rstrip("/").removesuffix("/v1"),
        default_query=query,
        timeout=pool.timeout,
        max_retries=0,
        http_client=pool,
    )


def read_message(body: dict[str, Any]) -> Reply:
    """A message of the Messages API.

    Raises:
        RetryableError: it holds no content.
    """
    parts = body.get("content")
    parts = [{"type": "text", "text": parts}] if isinstance(parts, str) else parts
    if not isinstance(parts, list):
        raise RetryableError("the response holds no content", kind="no-choice")
    blocks = [part for part in parts if isinstance(part, dict)]
    usage = body.get("usage") if isinstance(body.get("usage"), dict) else {}
    assert isinstance(usage, dict)
    cached = count(usage.get("cache_read_input_tokens"))
    fresh = [count(usage.get(name)) for name in ("input_tokens", "cache_creation_input_tokens")]
    prompt = None if fresh[0] is None else fresh[0] + (fresh[1] or 0) + (cached or 0)
    reason = str(body.get("stop_reason") or "stop")
    return Reply(
        "".join(text_of(block.get("text")) for block in blocks if block.get("type") == "text")
        or "".join(text_of(block.get("input")) for block in blocks if block.get("type") == "tool_use"),
        "stop" if reason == "pause_turn" else reason,
        reasoning="".join(text_of(block.get("thinking")) for block in blocks if block.get("type") == "thinking"),
        model=name_of(body.get("model")),
        prompt_tokens=prompt or None,
        completion_tokens=count(usage.get("output_tokens")),
        cached_tokens=cached,
    )
