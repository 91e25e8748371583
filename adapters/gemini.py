"""Gemini through Google's own package: `pip install 'sevlm-harness[gemini]'`."""

from __future__ import annotations

import base64
import importlib
import re
import warnings
from collections.abc import Mapping, Sequence, Set
from typing import Any, Literal

import openai

from harness.adapters.endpoint_client import Clients, Endpoint, http_client
from harness.adapters.endpoint_errors import EndpointError, as_list, as_object, connection_error
from harness.adapters.endpoint_images import Turn
from harness.adapters.endpoint_prices import find_price
from harness.adapters.endpoint_reply import Reply, name_of, read_json, text_of, token_counts
from harness.adapters.endpoint_vision import VisionEndpoint
from harness.tasks.parser import PARSER_VERSION
from harness.types import RetryableError, UserError


class Gemini(VisionEndpoint):
    """Gemini models by the API of Google AI Studio.

    Args:
        model: Google's name for it.
        base_url: where the API lives.
        api_key_env: environment variable that holds the key.
        max_tokens: longest answer, thoughts included.
        temperature: `default` leaves it to the model.
        thinking: tokens for thoughts (0 for none, if the model lets you), or a level such as `low`; None: the model's.
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

    name = "gemini"

    def __init__(
        self,
        model: str,
        base_url: str = "https://generativelanguage.googleapis.com",
        api_key_env: str | None = None,
        max_tokens: int = 4000,
        temperature: float | Literal["default"] = 0.0,
        thinking: str | None = None,
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
        self.begin(
            Endpoint(base_url, api_key_env or "GEMINI_API_KEY", timeout_s),
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
        self.thinking = thinking
        self._clients = Clients(lambda: _client(_package(), self.endpoint), lambda made: made[1].aclose())

    def fingerprint(self) -> dict[str, Any]:
        """Endpoint, model name asked for, generation and image settings."""
        asked = {"max_tokens": self.max_tokens, "temperature": self.temperature, "thinking": self.thinking}
        named = self.endpoint.identity() | {"api": "generateContent", "model": self.model}
        return named | asked | {"image_size": self.image_size, "shots": self.shots, "parser": PARSER_VERSION}

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
        genai = _package()
        types: Any = genai.types
        contents: list[Any] = []
        for turn in turns:
            parts = [types.Part.from_text(text=turn.text)]
            if turn.image is not None:
                head, _, data = turn.image.partition(";base64,")
                image = types.Part.from_bytes(data=base64.b64decode(data), mime_type=head.removeprefix("data:"))
                parts.insert(0, image)
            contents.append(types.Content(role="model" if turn.role == "assistant" else "user", parts=parts))
        optional: dict[str, Any] = {} if self.temperature is None else {"temperature": self.temperature}
        if self.thinking is not None:
            budget = int(self.thinking) if self.thinking.lstrip("-").isdigit() else None
            amount: dict[str, Any] = (
                {"thinking_level": self.thinking} if budget is None else {"thinking_budget": budget}
            )
            optional["thinking"] = types.ThinkingConfig(**amount, include_thoughts=budget != 0)

        async def ask(left_out: Set[str]) -> Reply:
            config = types.GenerateContentConfig(
                max_output_tokens=room or self.limit,
                temperature=None if "temperature" in left_out else self.temperature,
                thinking_config=None if "thinking" in left_out else optional.get("thinking"),
                # The body as it came: the package drops errors from it, and asks for continuations by itself.
                should_return_http_response=True,
            )
            try:
                with self._clients.client() as (client, _):
                    request = client.models.generate_content(model=self.model, contents=contents, config=config)
                    response = await self.in_time(request)
                return read_content(read_json(response.sdk_http_response.body or "", self.price))
            except genai.errors.UnknownApiResponseError as error:
                raise RetryableError(f"the response is not JSON: {error}", kind="bad-response") from None
            except genai.errors.APIError as error:
                raise EndpointError(error.code, error.details, getattr(error.response, "headers", None)) from None
            except (RetryableError, EndpointError, UserError):
                raise
            except Exception as error:
                package = type(error).__module__.split(".")[0]
                if package in ("httpx", "httpx2", "httpcore", "httpcore2"):
                    raise connection_error(error) from None
                raise

        return await self.without_rejected(list(optional), ask)


def _package() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module("google.genai")
    except ImportError:
        raise UserError("gemini needs Google's package; type: pip install 'sevlm-harness[gemini]'") from None


def _client(genai: Any, endpoint: Endpoint) -> tuple[Any, Any]:
    """A client without retries of its own, and its connections, which it does not close."""
    pool = http_client(endpoint, openai)  # whose kind of connections Google's package takes too
    options = genai.types.HttpOptions(
        base_url=re.sub(r"/v1(beta)?/?$", "", endpoint.base_url),  # which the package adds
        timeout=int(1000 * endpoint.timeout_s),
        retry_options=genai.types.HttpRetryOptions(attempts=1),
        httpx_async_client=pool,
    )
    return genai.Client(api_key=endpoint.key() or "none", vertexai=False, http_options=options).aio, pool


def read_content(body: Mapping[str, Any]) -> Reply:
    """A response of generateContent.

    Raises:
        RetryableError: it holds no candidate, and no reason why.
    """
    model = name_of(body.get("modelVersion"))
    candidate = next(map(as_object, as_list(body.get("candidates"))), None)
    if candidate is None:
        blocked = as_object(body.get("promptFeedback")).get("blockReason")
        if blocked is None:
            raise RetryableError("the response holds no candidate", kind="no-choice")
        return Reply(refusal=f"the prompt was blocked: {blocked}", model=model, **token_counts(body))
    parts = list(map(as_object, as_list(as_object(candidate.get("content")).get("parts"))))
    return Reply(
        "".join(text_of(part.get("text")) for part in parts if not part.get("thought"))
        or "".join(text_of(as_object(part.get("functionCall")).get("args")) for part in parts),
        str(candidate.get("finishReason") or "stop"),
        reasoning="".join(text_of(part.get("text")) for part in parts if part.get("thought")),
        model=model,
        **token_counts(body),
    )
