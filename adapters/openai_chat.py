"""GPT-4V and every other endpoint that speaks OpenAI's chat completions with pictures."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import openai

from harness.adapters import endpoint_images
from harness.adapters.base import EndpointAdapter
from harness.adapters.endpoint_errors import CONTENT_FILTER, outcome_of_error, public_url
from harness.adapters.endpoint_images import data_url
from harness.adapters.endpoint_prices import find_price
from harness.adapters.openai_batch import OpenAIBatches
from harness.adapters.openai_wire import (
    Connection,
    Endpoint,
    Reply,
    RequestParameters,
    answer_schema,
    check_at_least,
    check_choices,
    check_more_than_0,
    outcome_of_reply,
    read_reply,
)
from harness.adapters.shots import Shot, choose_shots, shots_identity
from harness.tasks.parser import PARSER_VERSION
from harness.types import Example, Failed, ImageError, Item, Outcome, Usage, UserError

DETAILS = ("auto", "low", "high")
MODES = ("requests", "batch")
PROBES = ("strict", "warn", "off")


class OpenAIChat(EndpointAdapter):
    """GPT-4V-class models behind any OpenAI-compatible endpoint: one chat request per painting.

    Retries are the runner's; the client's own are off. Before the first item a probe asks for the colours of two
    generated pictures, and settles which parameters the endpoint takes.

    Args:
        model: the endpoint's model name (snapshots retire; the name that it returns is in `runtime_info()`).
        base_url: where the endpoint lives, usually ending in `/v1`.
        api_key_env: environment variable that holds the key; loopback endpoints may go without.
        max_tokens: longest answer.
        temperature: 0 is the closest to greedy decoding; dropped where the endpoint takes only its default.
        image_size: longest side in pixels; larger pictures are scaled down, others are sent as they are.
        detail: OpenAI's `auto`, `low` or `high`; None leaves it out.
        timeout_s: seconds until a request counts as lost.
        probe: `strict` refuses an endpoint that does not see, `warn` goes on, `off` does not look.
        schema: ask for JSON in a schema where the endpoint takes one (not with `shots`, nor where ratings are wanted).
        probabilities: ask for log-probabilities where the endpoint gives them, and read label probabilities from them.
        price_in, price_out: US$ per million prompt and answer tokens, instead of the table's.
        prices: a price table of your own, a YAML file.
        requests_per_minute, tokens_per_minute: the endpoint's limits.
        shots: pictures of the training split to show, with an answer each, before the question.
        seed: which of them.
        mode: `batch` uses the Batch API: cheaper, within a day; a killed run finds its batches again.
        poll_s: seconds between looks at a batch.
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
    ) -> None:
        check_choices(detail=(detail, DETAILS), probe=(probe, PROBES), mode=(mode, MODES))
        check_at_least(0, temperature=temperature, shots=shots)
        check_at_least(1, max_tokens=max_tokens, image_size=image_size)
        check_more_than_0(timeout_s=timeout_s, poll_s=poll_s)
        check_more_than_0(requests_per_minute=requests_per_minute, tokens_per_minute=tokens_per_minute)
        self.endpoint = Endpoint(base_url, api_key_env, timeout_s)
        self.model, self.max_tokens, self.temperature, self.probe = model, max_tokens, temperature, probe
        self.image_size, self.detail, self.schema, self.probabilities = image_size, detail, schema, probabilities
        self.price = find_price(model, base_url, price_in, price_out, prices, batch=mode == "batch")
        self.requests_per_minute, self.tokens_per_minute = requests_per_minute, tokens_per_minute
        self.shots, self.seed, self.mode, self.poll_s = shots, seed, mode, poll_s
        self.needs = frozenset({"train"}) if shots else frozenset()
        self._shown: tuple[Shot, ...] = ()
        self._examples: list[tuple[str, str]] = []  # of each shot, the picture's data URL and the answer
        blind = mode == "batch" and probe == "off"  # nobody could tell what the endpoint rejects
        self.accepted = RequestParameters(
            max_tokens, temperature, schema=schema and not shots and not blind, logprobs=probabilities and not blind
        )
        self._connection: Connection | None = None
        self._settled = False
        self._longest_prompt = 0
        self._observed: dict[str, Any] = {}
        self._models: Counter[str] = Counter()
        self._system_fingerprints: Counter[str] = Counter()

    def fingerprint(self) -> dict[str, Any]:
        """Endpoint (without credentials), model name asked for, generation and picture settings."""
        request = {"max_tokens": self.max_tokens, "temperature": self.temperature}
        form = {"schema": self.schema, "probabilities": self.probabilities, "shots": self.shots}
        pictures = {"image_size": self.image_size, "detail": self.detail}
        named = {"base_url": public_url(self.endpoint.base_url), "model": self.model}
        return named | request | form | pictures | {"parser": PARSER_VERSION}

    def cache_key(self) -> dict[str, Any]:
        """The fingerprint and the worked examples."""
        return self.fingerprint() | {"shown": shots_identity(self._shown)}

    def fit(self, examples: Sequence[Example]) -> None:
        """Choose the worked examples."""
        self._shown = choose_shots(examples, self.shots, self.seed)

    def load(self) -> None:
        """See that there is a key.

        Raises:
            UserError: none, for an endpoint that is not on this machine.
        """
        self.endpoint.key()

    async def open(self) -> None:
        """See that somebody answers, takes the key, and looks at pictures; see `EndpointAdapter.open`.

        Raises:
            UserError: not so.
        """
        await self.endpoint.check_reachable(self._connected().client)
        if self.probe != "off" and not self._settled:
            await self._probe()

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        if self._connection is not None and self._connection.loop is asyncio.get_running_loop():
            await self._connection.client.close()
            self._connection = None

    def runtime_info(self) -> dict[str, Any]:
        """Names and system fingerprints that came back with their counts, parameters, capabilities, probe and price."""
        return self._observed | {
            "models_returned": dict(self._models),
            "system_fingerprints": dict(self._system_fingerprints),
            "request_parameters": self.accepted.arguments(answer_schema(())),
            "capabilities": dict(self.accepted.found),
            "price": dataclasses.asdict(self.price),
            "shots": [shot.id for shot in self._shown],
        }

    def max_usage(self, item: Item) -> Usage:
        """An upper estimate before the first answers, later the longest prompt seen if that was longer."""
        prompt = max((1 + self.shots) * self.price.prompt_tokens(item.prompt), self._longest_prompt)
        cost = self.price.cost_usd(prompt, self.max_tokens)
        return Usage(prompt_tokens=prompt, completion_tokens=self.max_tokens, cost_usd=cost)

    async def answer(self, item: Item) -> Outcome:
        """Ask about one painting; see `EndpointAdapter.answer`."""
        try:
            messages = await asyncio.to_thread(self.messages, item)
        except ImageError as error:
            return Failed("ImageError", str(error))
        started = time.monotonic()
        try:
            completion = await self._complete(messages, self.schema_of(item))
        except (openai.OpenAIError, ValueError) as error:
            return outcome_of_error(error, self.endpoint.key(), first=not self._settled)
        return self.outcome(item, completion, time.monotonic() - started)

    def schema_of(self, item: Item) -> dict[str, Any] | None:
        """The schema of an answer; None where the task wants ratings, which the prompt asks for in words."""
        return None if item.ratings else answer_schema(item.labels)

    def messages(self, item: Item) -> list[dict[str, Any]]:
        """The conversation: worked examples, then the painting; reads and encodes pictures.

        Raises:
            ImageError: the painting cannot be decoded.
        """
        if len(self._examples) < len(self._shown):
            self._examples = [(data_url(shot.image, self.image_size), shot.answer) for shot in self._shown]
        # Asked in this item's words: prompts of one run may differ, and the answer must not hang on which came first.
        shown = [
            message
            for url, said in self._examples
            for message in (self._user(item.prompt, url), {"role": "assistant", "content": said})
        ]
        return [*shown, self._user(item.prompt, data_url(item.image, self.image_size))]

    def _user(self, prompt: str, url: str) -> dict[str, Any]:
        image = {"url": url} | ({"detail": self.detail} if self.detail else {})
        content = [{"type": "image_url", "image_url": image}, {"type": "text", "text": prompt}]
        return {"role": "user", "content": content}

    async def _probe(self) -> None:
        """Ask for the colours of two pictures, and see what became of schema and log-probabilities."""
        replies: list[Reply] = []
        try:
            for colour in endpoint_images.SHOWN:
                question = [self._user(endpoint_images.PROMPT, endpoint_images.plain_picture(colour))]
                reply = read_reply(await self._complete(question, endpoint_images.SCHEMA))
                self.spent_usd += reply.usage(self.price).cost_usd or 0.0
                replies.append(reply)
        except (openai.OpenAIError, ValueError) as error:
            outcome = outcome_of_error(error, self.endpoint.key(), first=True)
            self._judge(False, f"the probe was rejected: {getattr(outcome, 'message', outcome.raw)}")
            return
        verdict = endpoint_images.Verdict(tuple(reply.text for reply in replies))
        spoken = all(reply.tokens for reply in replies)
        self.accepted.note(schema=endpoint_images.keeps_schema(verdict.answers), logprobs=spoken)
        self._judge(verdict.sees, verdict.problem())

    def _judge(self, sees: bool, problem: str) -> None:
        self._observed["probe"] = "sees pictures" if sees else problem
        if sees:
            return
        told = f"{self.model} at {public_url(self.endpoint.base_url)} does not look at pictures: {problem}"
        if self.probe == "strict":
            raise UserError(f"{told}; add probe=warn to the model to go on nevertheless")
        print(f"harness: {told}", file=sys.stderr)

    async def _complete(self, messages: list[dict[str, Any]], schema: dict[str, Any] | None) -> Any:
        """The response's JSON; until one succeeded, one request at a time finds out what the endpoint takes."""
        connection = self._connected()
        if self._settled:
            return await self._send(connection, messages, schema)
        async with connection.first:
            alone = not self._settled
            if alone:
                completion = await self._send(connection, messages, schema)
                self._settled = True
        return completion if alone else await self._send(connection, messages, schema)

    async def _send(self, connection: Connection, messages: list[dict[str, Any]], schema: dict[str, Any] | None) -> Any:
        # Not `chat.completions.create`, which walks through every message and answer to convert what is plain JSON.
        post: Any = connection.client.post
        while True:
            sent = self.accepted.arguments(schema)
            try:
                return await post("/chat/completions", cast_to=object, body=self.body(messages, sent))
            except openai.APIStatusError as error:
                if not self.accepted.adjust(sent, error) and not self._plainer(error):
                    raise

    def request(self, item: Item) -> dict[str, Any]:
        """The JSON of a request about an item, for a batch.

        Raises:
            ImageError: the painting cannot be decoded.
        """
        return self.body(self.messages(item), self.accepted.arguments(self.schema_of(item)))

    def body(self, messages: list[dict[str, Any]], sent: dict[str, Any]) -> dict[str, Any]:
        """A request with the parameters `sent`."""
        return {"model": self.model, "messages": messages, **sent}

    @property
    def client(self) -> openai.AsyncOpenAI:
        """The client of the running event loop."""
        return self._connected().client

    def batches(self) -> OpenAIBatches | None:
        """The Batch API, with `mode=batch`."""
        return OpenAIBatches(self) if self.mode == "batch" else None

    def _plainer(self, error: openai.APIStatusError) -> bool:
        """Whether a first request that was rejected without a word on why may pass without schema and logprobs."""
        unexplained = error.status_code in (400, 422) and error.param is None
        filtered = CONTENT_FILTER.search(f"{error.code} {error.message} {error.body}")
        return unexplained and not filtered and not self._settled and self.accepted.drop_extras()

    def _connected(self) -> Connection:
        """The connection of the running event loop; those of an earlier loop died with it."""
        if self._connection is None or self._connection.loop is not asyncio.get_running_loop():
            self._connection = Connection.open(self.endpoint)
        return self._connection

    def outcome(self, item: Item, body: Any, latency_s: float | None) -> Outcome:
        """Read a response's JSON.

        Raises:
            RetryableError: it holds no choice.
        """
        try:
            reply = read_reply(body)
        except ValueError as error:
            return Failed("not-json", str(error))
        self._models[str(reply.model)] += 1
        if reply.system_fingerprint:
            self._system_fingerprints[reply.system_fingerprint] += 1
        usage = reply.usage(self.price, latency_s)
        self._longest_prompt = max(self._longest_prompt, usage.prompt_tokens or 0)
        return outcome_of_reply(reply, item, usage)
