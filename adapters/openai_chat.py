"""GPT-4V and every other endpoint that speaks as OpenAI does: chat completions, or the Responses API, with images."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence, Set
from typing import Any, Literal

import openai

from harness.adapters import endpoint_images
from harness.adapters.endpoint_client import Clients, Endpoint
from harness.adapters.endpoint_errors import REJECTED, EndpointError, of_sdk
from harness.adapters.endpoint_images import Turn, answer_schema
from harness.adapters.endpoint_prices import find_price
from harness.adapters.endpoint_reply import Reply, read_json
from harness.adapters.endpoint_vision import VisionEndpoint, check_choices, check_more_than_0, extra_fields
from harness.adapters.openai_batch import OpenAIBatches
from harness.adapters.openai_wire import (
    RequestParameters,
    chat_body,
    check_reachable,
    connect,
    read_chat,
    read_responses,
    responses_body,
    served_model,
)
from harness.tasks.parser import PARSER_VERSION
from harness.types import Item, Outcome

DETAILS = ("auto", "low", "high")
MODES = ("requests", "batch")
APIS = {"chat": "/chat/completions", "responses": "/responses"}


class OpenAIChat(VisionEndpoint):
    """GPT-4V-class models behind any OpenAI-compatible endpoint: one request per artwork.

    Retries are the runner's; the client's own are off. Before the first item a probe asks for the colours of two
    generated images, and finds out which parameters the endpoint takes.

    Args:
        model: the endpoint's model name (snapshots retire; the name that it returns is in `runtime_info()`).
        base_url: where the endpoint lives, usually ending in `/v1`.
        api_key_env: environment variable that holds the key; None: that of the address's vendor. Endpoints on this
            machine and in a private network may go without; `none` sends no key.
        api: `chat` completions or `responses`, which some models answer only.
        max_tokens: longest answer, thoughts included; `default` leaves it to the endpoint.
        temperature: 0 is the closest to greedy decoding; `default` leaves it to the endpoint, and so does an endpoint
            that rejects it.
        reasoning_effort: how much a reasoning model should think, in the endpoint's words (`none`, `low`, `high`, …).
        extra_body: further fields of every request, as JSON: `{"chat_template_kwargs":{"enable_thinking":false}}`.
        image_size: longest side in pixels; larger images are scaled down, others are sent as they are.
        detail: OpenAI's `auto`, `low` or `high`; None leaves it out.
        timeout_s: seconds until a request counts as lost, from its start to the last byte.
        probe: `strict` refuses an endpoint that does not see, `warn` continues, `off` does not look.
        schema: ask for JSON in a schema if the endpoint takes one (not with `shots`, nor if ratings are wanted).
        probabilities: ask for log-probabilities if the endpoint gives them, and read label probabilities from them.
        price_in, price_out: US$ per million prompt and answer tokens, instead of the table's.
        prices: a price table of your own, a YAML file.
        requests_per_minute, tokens_per_minute: the endpoint's limits.
        shots: images of the training split to show, with an answer each, before the question.
        seed: which of them.
        mode: `batch` uses the Batch API: cheaper, within a day; a killed run finds its batches again.
        poll_s: seconds between looks at a batch.
        retry_wait_s: seconds before what failed in passing is sent again; they double from one attempt to the next.
        patience_s: for so many seconds a busy or loading endpoint is asked again.
    """

    name = "gpt4v"

    def __init__(
        self,
        model: str,
        base_url: str = "https://api.openai.com/v1",
        api_key_env: str | None = None,
        api: str = "chat",
        max_tokens: int | Literal["default"] = 300,
        temperature: float | Literal["default"] = 0.0,
        reasoning_effort: str | None = None,
        extra_body: str | None = None,
        image_size: int = 1024,
        detail: str | None = None,
        timeout_s: float = 120.0,
        probe: str = "strict",
        schema: bool = True,
        probabilities: bool = True,
        price_in: float | None = None,
        price_out: float | None = None,
        prices: str | None = None,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        shots: int = 0,
        seed: int = 0,
        mode: str = "requests",
        poll_s: float = 30.0,
        retry_wait_s: float = 0.5,
        patience_s: float = 120.0,
    ) -> None:
        check_choices(detail=(detail, DETAILS), mode=(mode, MODES), api=(api, tuple(APIS)))
        check_more_than_0(poll_s=poll_s)
        self.begin(
            Endpoint(base_url, api_key_env, timeout_s),
            model,
            find_price(model, base_url, price_in, price_out, prices, batch=mode == "batch"),
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
        self.api, self.effort, self.extra = api, reasoning_effort, extra_fields(extra_body)
        self.detail, self.schema, self.probabilities = detail, schema, probabilities
        self.mode, self.poll_s = mode, poll_s
        blind = mode == "batch" and probe == "off"  # nobody could tell what the endpoint rejects
        self.accepted = RequestParameters(
            self.max_tokens,
            self.temperature,
            schema=schema and not shots and not blind,
            logprobs=probabilities and not blind,
            effort=reasoning_effort,
            extra=self.extra,
            responses=api == "responses",
        )
        self._settled, self._alone = False, asyncio.Lock()  # until it is settled what is sent, one request at a time
        self._clients = Clients(lambda: connect(self.endpoint), lambda client: client.close())

    def fingerprint(self) -> dict[str, Any]:
        """Endpoint (without credentials), model name asked for, generation and image settings."""
        request = {"max_tokens": self.max_tokens, "temperature": self.temperature}
        form = {"schema": self.schema, "probabilities": self.probabilities, "shots": self.shots}
        images = {"image_size": self.image_size, "detail": self.detail}
        named = self.endpoint.identity() | {"model": self.model}
        later: dict[str, Any] = {"api": self.api if self.api != "chat" else None}
        later |= {"reasoning_effort": self.effort, "extra_body": self.extra or None}
        chosen = {key: value for key, value in later.items() if value is not None}
        return named | request | form | images | chosen | {"parser": PARSER_VERSION}

    def runtime_info(self) -> dict[str, Any]:
        """What `VisionEndpoint` says, the parameters that are sent, and what became of those that may be rejected."""
        sent = self.accepted.arguments(answer_schema(()), self._raised)
        return super().runtime_info() | {"request_parameters": sent, "capabilities": dict(self.accepted.found)}

    def left_out(self) -> Set[str]:
        """Temperature, effort and further fields that were rejected."""
        asked = {"temperature", "reasoning_effort", *self.extra}
        return {name for name in asked if self.accepted.found.get(name) == "rejected"}

    def load(self) -> None:
        """See that there is a key.

        Raises:
            UserError: none, for an endpoint that needs one.
        """
        self.endpoint.key()

    async def connect(self) -> None:
        """See that somebody answers and takes the key, and which model it says it serves.

        Raises:
            UserError: nobody does.
        """
        self._alone = asyncio.Lock()
        if served := served_model(await check_reachable(self.endpoint, self.client), self.model):
            self._served["lists"] = served

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        await self._clients.aclose()

    @property
    def client(self) -> openai.AsyncOpenAI:
        """A client of the running event loop, for what is asked alone."""
        with self._clients.client() as client:
            return client

    # ------------------------------------------------------------------------------------------------- the request

    def body(self, turns: Sequence[Turn], parameters: dict[str, Any]) -> dict[str, Any]:
        """A request with these parameters."""
        build = chat_body if self.api == "chat" else responses_body
        return build(self.model, turns, self.detail) | parameters

    def read(self, body: Any) -> Reply:
        """What a response's JSON (or its text, if it was none) says.

        Raises:
            EndpointError: an error.
            RetryableError: nothing yet.
            ValueError: it is no JSON.
        """
        return (read_chat if self.api == "chat" else read_responses)(read_json(body, self.price))

    async def send(self, turns: Sequence[Turn], schema: dict[str, Any] | None, room: int | None) -> Reply:
        """Ask once; until a request succeeded, one at a time finds out what the endpoint takes."""
        room = room or self._raised
        if self._settled:
            return await self._adjusted(turns, schema, room)
        async with self._alone:
            alone = not self._settled
            if alone:
                reply = await self._adjusted(turns, schema, room)
                self._settled = True
        return reply if alone else await self._adjusted(turns, schema, room)

    async def _adjusted(self, turns: Sequence[Turn], schema: dict[str, Any] | None, room: int | None) -> Reply:
        """A reply to the question, with as many parameters as the endpoint takes."""
        tried = self.accepted
        while True:
            try:
                reply = self.read(await self._post(self.body(turns, tried.arguments(schema, room))))
            except EndpointError as error:
                plainer = tried.without_rejected(error, unexplained=not self._settled)
                if plainer is None:
                    if error.status not in REJECTED:  # it got past the parameters
                        self._adopt(tried)
                    raise
                tried = plainer
            else:
                self._adopt(tried)
                return reply

    async def _post(self, body: dict[str, Any]) -> Any:
        # Not `chat.completions.create`, which walks through every message and answer to convert what is plain JSON.
        try:
            with self._clients.client() as client:
                post: Any = client.post
                return await self.in_time(post(APIS[self.api], cast_to=object, body=body))
        except (openai.OpenAIError, ValueError, RecursionError) as error:
            raise of_sdk(error, openai) from None

    def _adopt(self, parameters: RequestParameters) -> None:
        """Send these from now on."""
        if parameters is self.accepted:
            return
        for name, why in parameters.found.items():
            if self.accepted.found.get(name) != why and name not in ("schema", "logprobs", "max_tokens"):
                told = f"{self.model} at {self.place()} takes no {name}; it is left to the endpoint"
                print(f"harness: {told}", file=sys.stderr)
        self.accepted = parameters

    def learn_from_probe(self, replies: Sequence[Reply]) -> None:
        """See what became of schema and log-probabilities."""
        kept = endpoint_images.keeps_schema([reply.text for reply in replies])
        self.accepted = self.accepted.noting(schema=kept, logprobs=all(reply.tokens for reply in replies))

    # -------------------------------------------------------------------------------------------------- the Batch API

    def batches(self) -> OpenAIBatches | None:
        """The Batch API, with `mode=batch`."""
        return OpenAIBatches(self) if self.mode == "batch" else None

    @property
    def batch_path(self) -> str:
        """Where each request of a batch goes."""
        return f"/v1{APIS[self.api]}"

    def request(self, item: Item) -> dict[str, Any]:
        """The JSON of a request about an item, for a batch.

        Raises:
            ImageError: the image cannot be decoded.
        """
        room = self._room.get(item.id) or self._raised
        return self.body(self.turns(item), self.accepted.arguments(self.schema_of(item), room))

    def outcome_of_body(self, item: Item, body: Any) -> Outcome:
        """Read a response that came in a batch.

        Raises:
            EndpointError, ValueError: see `read`.
            RetryableError: it is worth another request.
        """
        return self.outcome(item, self.read(body), None)
