"""What adapters of vendors' endpoints share: the question, the probe, what it costs, the one request with more room."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import math
import sys
import time
from abc import abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from typing import Any, TypeVar

from harness.adapters import endpoint_images
from harness.adapters.base import EndpointAdapter
from harness.adapters.endpoint_client import Endpoint
from harness.adapters.endpoint_errors import (
    ITS_VALUE,
    EndpointError,
    ResponseRefused,
    in_short,
    outcome_of_error,
    rejected_among,
)
from harness.adapters.endpoint_images import Turn, answer_schema, data_url
from harness.adapters.endpoint_prices import Price
from harness.adapters.endpoint_reply import Reply, outcome_of_reply
from harness.adapters.shots import Shot, choose_shots, shots_identity
from harness.redact import redact_known
from harness.tasks.parser import split_reply
from harness.types import Example, Failed, ImageError, Item, Outcome, RetryableError, Usage, UserError

PROBES = ("strict", "warn", "off")
T = TypeVar("T")
MORE_ROOM, LEAST_ROOM = 4, 4096
"""An answer that the token limit ended before its first word gets so many times the limit, or so much, once."""
UNLIMITED_TOKENS = 32_768
"""What an answer without a token limit is taken to need at most."""
MARGIN = 1.1
"""A request may take so many times as much as the largest one so far."""


class VisionEndpoint(EndpointAdapter):
    """A vision model behind an endpoint.

    Subclasses connect and speak the endpoint's language (`connect`, `send`); their `__init__` calls `begin`.
    """

    endpoint: Endpoint
    model: str
    price: Price
    key_env: str = ""

    def begin(
        self,
        endpoint: Endpoint,
        model: str,
        price: Price,
        *,
        max_tokens: int | str,
        temperature: float | str,
        image_size: int,
        probe: str,
        shots: int,
        seed: int,
        requests_per_minute: float | None,
        tokens_per_minute: float | None,
        retry_wait_s: float,
        patience_s: float,
    ) -> None:
        """Check and keep what every one of them has among its settings, and start with an empty memory.

        Raises:
            UserError: a setting that cannot work.
        """
        check_choices(probe=(probe, PROBES))
        limit = number_or_default(1, max_tokens=max_tokens)
        check_at_least(0, shots=shots, retry_wait_s=retry_wait_s, patience_s=patience_s)
        check_at_least(1, image_size=image_size)
        check_more_than_0(timeout_s=endpoint.timeout_s)
        check_more_than_0(requests_per_minute=requests_per_minute, tokens_per_minute=tokens_per_minute)
        self.endpoint, self.key_env = endpoint, endpoint.key_env
        self.model, self.price, self.probe, self.image_size = model, price, probe, image_size
        self.max_tokens = None if limit is None else int(limit)
        self.temperature = number_or_default(0, temperature=temperature)
        self.shots, self.seed = shots, seed
        self.requests_per_minute, self.tokens_per_minute = requests_per_minute, tokens_per_minute
        self.retry_wait_s, self.patience_s = retry_wait_s, patience_s
        self.needs = frozenset({"train"}) if shots else frozenset()
        self._shown: tuple[Shot, ...] = ()
        self._examples: list[tuple[str, str]] = []  # of each shot, the image's data URL and the answer
        self._verdict = ""  # of the probe; empty: it was not done
        self._served: dict[str, Any] = {}
        self._rejected: frozenset[str] = frozenset()
        self._answered = False  # ever, as an endpoint does: what is no JSON later is a gateway's page
        self._room: dict[str, int] = {}
        self._largest_prompt = self._largest_completion = 0
        self._models: Counter[str] = Counter()
        self._system_fingerprints: Counter[str] = Counter()
        self._reported: dict[str, Any] = {}
        if self.price.retired is not None:
            self._warn(f"{self.model} was retired on {self.price.retired}; its answers can no longer be had")

    # ------------------------------------------------------------------------------------------ what subclasses say

    @abstractmethod
    async def connect(self) -> None:
        """See that somebody answers and takes the key; may set `_served`.

        Raises:
            UserError: nobody does, or the key is not taken.
        """

    @abstractmethod
    async def send(self, turns: Sequence[Turn], schema: dict[str, Any] | None, room: int | None) -> Reply:
        """Ask once.

        Args:
            turns: the conversation.
            schema: of the answer wanted, if the endpoint takes schemas.
            room: token limit instead of the usual one.

        Raises:
            EndpointError: the endpoint reported an error.
            RetryableError: there was no answer.
            ValueError: what came is no JSON.
        """

    async def in_time(self, request: Awaitable[T]) -> T:
        """What a request gives, if it gives it in time.

        Raises:
            RetryableError: it does not.
        """
        try:
            async with asyncio.timeout(self.endpoint.timeout_s):
                return await request
        except TimeoutError:
            raise RetryableError(f"no answer within {self.endpoint.timeout_s:g} s", kind="timeout") from None

    async def without_rejected(self, optional: Sequence[str], ask: Callable[[Set[str]], Awaitable[Reply]]) -> Reply:
        """A reply to a request without those of its optional parameters that the endpoint rejects, now and later.

        Args:
            optional: the parameters' names.
            ask: sends the request without the given ones.

        Raises:
            EndpointError: it is about none of them.
        """
        left_out = self._rejected
        while True:
            try:
                reply = await ask(left_out)
            except EndpointError as error:
                name = rejected_among(error, [name for name in optional if name not in left_out])
                # `thinking` is taken, with another budget only: the user should choose it, not do without thoughts.
                if name is None or (name == "thinking" and ITS_VALUE.search(error.message)):
                    raise
                left_out |= {name}
            else:
                for name in sorted(left_out - self._rejected):
                    self._warn(f"{self.model} takes no {name}; it is left to the model")
                self._rejected |= left_out
                return reply

    # ---------------------------------------------------------------------------------------------------- identity

    def cache_key(self) -> dict[str, Any]:
        """The fingerprint, the worked examples, which model the endpoint said that it serves, and what it rejected."""
        served = {"served": self._served} if self._served else {}
        left_out = {"left_out": sorted(self.left_out())} if self.left_out() else {}
        return self.fingerprint() | {"shown": shots_identity(self._shown)} | served | left_out

    def left_out(self) -> Set[str]:
        """Settings that an answer depends on and that the endpoint does not take."""
        return self._rejected

    def runtime_info(self) -> dict[str, Any]:
        """Names and system fingerprints that came back with their counts, the probe's verdict, and the price."""
        probe = {"": "not done", "passed": "passed"}.get(self._verdict, "warned")
        problem: dict[str, Any] = {"probe_problem": self._verdict} if probe == "warned" else {}
        if self._rejected:
            problem["capabilities"] = dict.fromkeys(sorted(self._rejected), "rejected")
        return self._reported | {
            "models_returned": dict(self._models),
            "system_fingerprints": dict(self._system_fingerprints),
            "served": self._served,
            "probe": probe,
            **problem,
            "price": dataclasses.asdict(self.price),
            "shots": [shot.id for shot in self._shown],
        }

    def fit(self, examples: Sequence[Example]) -> None:
        """Choose the worked examples."""
        self._shown = choose_shots(examples, self.shots, self.seed)

    # --------------------------------------------------------------------------------------------------- the probe

    async def open(self) -> None:
        """See that somebody answers, takes the key, and looks at images; see `EndpointAdapter.open`.

        Raises:
            UserError: nobody does, the key is not taken, or (`probe=strict`) it does not look at images.
        """
        await self.connect()
        if self.probe != "off" and not self._verdict:
            self._verdict = await self._probe_images() or "passed"
            if self._verdict != "passed":
                told = f"{self.model} at {self.place()}: {self._verdict}"
                if self.probe == "strict":
                    raise UserError(f"{told}; add probe=warn to the model to continue nevertheless")
                self._warn(told)

    async def _probe_images(self) -> str:
        """Ask for the colours of two images; what is wrong, empty if nothing is.

        Raises:
            RetryableError: the endpoint cannot answer now.
            UserError: it cannot answer at all.
        """
        replies: list[Reply] = []
        room: int | None = None
        for colour in endpoint_images.SHOWN:
            question = [Turn(endpoint_images.PROMPT, endpoint_images.plain_image(colour))]
            try:
                reply = await self._paid(question, room)
                if reply.ending == "cut" and not spoken(reply.text) and self.limit is not None:
                    room = more_room(room or self.limit)
                    reply = await self._paid(question, room)
            except (EndpointError, ValueError) as error:
                outcome = outcome_of_error(error, self.key_env) if isinstance(error, EndpointError) else None
                return f"the probe was rejected: {getattr(outcome, 'message', None) or in_short(str(error))}"
            if problem := unanswered(reply, room or self.limit):
                return problem
            replies.append(reply)
        if room is not None:
            self._warn(f"{self.model} thinks longer than max_tokens={self.limit} allows; max_tokens={room} is used")
            self.limit = room
        if named := [reply.model for reply in replies if reply.model]:
            self._served["answers_as"] = named[0]
        self.learn_from_probe(replies)
        verdict = endpoint_images.Verdict(tuple(spoken(reply.text) for reply in replies))
        return "" if verdict.sees else f"it does not look at images: {verdict.problem()}"

    async def _paid(self, question: Sequence[Turn], room: int | None) -> Reply:
        """A reply to the probe, which is paid for whatever comes of it, and at the most if nobody says what it cost."""
        most = self.price.max_usage(question[0].text, room or self.limit or UNLIMITED_TOKENS)
        cost: float | None = None
        try:
            reply = whole_or_cut(await self.send(question, endpoint_images.SCHEMA, room), room or self.limit)
            self._answered = True
            cost = reply.usage(self.price).cost_usd
        except (EndpointError, RetryableError) as error:
            never_sent = isinstance(error, RetryableError) and error.kind == "unreachable"
            cost = 0.0 if never_sent else error.cost_usd
            raise
        finally:
            self.spent_usd += (most.cost_usd if cost is None else cost) or 0.0
        return reply

    def learn_from_probe(self, replies: Sequence[Reply]) -> None:
        """What the replies to the probe show beside colours."""

    def place(self) -> str:
        """Where the endpoint is, for messages."""
        return str(self.fingerprint().get("base_url", self.name))

    def _warn(self, message: str) -> None:
        print(f"harness: {redact_known(message)}", file=sys.stderr)

    # ---------------------------------------------------------------------------------------------------- questions

    @property
    def limit(self) -> int | None:
        """The token limit in force; None: the endpoint's own."""
        return self.max_tokens if self._raised is None else self._raised

    @limit.setter
    def limit(self, tokens: int) -> None:
        self._raised = tokens

    _raised: int | None = None

    def max_usage(self, item: Item) -> Usage:
        """An upper estimate before the first answers, later what the largest answers took if that was more."""
        images = 1 + self.shots
        least = self.price.max_usage(item.prompt, self._room.get(item.id) or self.limit or UNLIMITED_TOKENS)
        prompt = max(images * (least.prompt_tokens or 0), math.ceil(MARGIN * self._largest_prompt))
        completion = least.completion_tokens or 0
        if self._largest_completion > completion:
            completion = math.ceil(MARGIN * self._largest_completion)
        return Usage(
            prompt_tokens=prompt,
            completion_tokens=completion,
            cost_usd=self.price.cost_usd(prompt, completion),
        )

    def turns(self, item: Item) -> list[Turn]:
        """The conversation: worked examples, then the image; reads and encodes images.

        Raises:
            ImageError: the image cannot be decoded.
        """
        if not item.shows_image:
            return [Turn(item.prompt)]
        if item.schema is not None:
            return [Turn(item.prompt, data_url(item.image, self.image_size))]
        if len(self._examples) < len(self._shown):
            self._examples = [(data_url(shot.image, self.image_size), shot.answer) for shot in self._shown]
        # Asked in this item's words: prompts of one run may differ, and the answer must not depend on which came first.
        shown = [
            turn for url, answer in self._examples for turn in (Turn(item.prompt, url), Turn(answer, None, "assistant"))
        ]
        return [*shown, Turn(item.prompt, data_url(item.image, self.image_size))]

    def schema_of(self, item: Item) -> dict[str, Any] | None:
        """The schema of an answer; None if the task wants ratings, which the prompt asks for in words."""
        if item.schema is not None:
            return dict(item.schema)
        return None if item.ratings else answer_schema(item.labels)

    async def answer(self, item: Item) -> Outcome:
        """Ask about one image; see `EndpointAdapter.answer`."""
        try:
            turns = await asyncio.to_thread(self.turns, item)
        except ImageError as error:
            return Failed("ImageError", str(error))
        started = time.monotonic()
        try:
            reply = await self.send(turns, self.schema_of(item), self._room.get(item.id))
        except EndpointError as error:
            return outcome_of_error(error, self.key_env)
        except ValueError as error:
            message = in_short(str(error))
            if self._answered and not isinstance(error, ResponseRefused):
                raise RetryableError(message, kind="not-json") from None  # a gateway's page, say: "just a moment"
            return Failed("not-json", message)
        return self.outcome(item, reply, time.monotonic() - started)

    def outcome(self, item: Item, reply: Reply, latency_s: float | None) -> Outcome:
        """What a reply says about an item.

        Raises:
            RetryableError: it is worth another request.
        """
        if reply.model:
            self._models[reply.model] += 1
        if reply.system_fingerprint:
            self._system_fingerprints[reply.system_fingerprint] += 1
        self._answered = True
        limit = self._room.get(item.id) or self.limit
        reply = whole_or_cut(reply, limit)
        usage = reply.usage(self.price, latency_s)
        self._largest_prompt = max(self._largest_prompt, usage.prompt_tokens or 0)
        self._largest_completion = max(self._largest_completion, usage.completion_tokens or 0)
        outcome = outcome_of_reply(reply, item, usage)
        if not isinstance(outcome, Failed) or outcome.error_type != "truncated":
            return outcome
        message = f"max_tokens={limit or 'default'} ended the answer before any explanation; raise max_tokens="
        if limit is not None and item.id not in self._room:
            self._room[item.id] = more_room(limit)
            raise RetryableError(message, 0.0, kind="truncated", cost_usd=usage.cost_usd)
        return dataclasses.replace(outcome, message=message)


# ------------------------------------------------------------------------------------------------------------ settings


def check_choices(**settings: tuple[str | None, Sequence[str]]) -> None:
    """See that each setting is one of its choices; None is not set.

    Raises:
        UserError: one is not.
    """
    for name, (value, known) in settings.items():
        if value is not None and value not in known:
            raise UserError(f"{name}={value}: expected one of {', '.join(known)}")


def check_at_least(least: int, **settings: float) -> None:
    """See that no setting is less than `least` (NaN is).

    Raises:
        UserError: one is.
    """
    for name, value in settings.items():
        if not value >= least:
            raise UserError(f"{name}={value:g}: expected at least {least}")


def check_more_than_0(**settings: float | None) -> None:
    """See that each setting is more than 0; None is not set.

    Raises:
        UserError: one is not.
    """
    for name, value in settings.items():
        if value is not None and not value > 0:
            raise UserError(f"{name}={value:g}: expected more than 0")


def number_or_default(least: int, **setting: float | str) -> float | None:
    """The value of the one setting; None for `default`.

    Raises:
        UserError: it is neither `default` nor a number of at least `least`.
    """
    ((name, value),) = setting.items()
    if value == "default":
        return None
    if isinstance(value, str):
        raise UserError(f"{name}={value}: expected a number or default")
    check_at_least(least, **{name: value})
    return value


def extra_fields(text: str | Mapping[str, Any] | None) -> dict[str, Any]:
    """The setting `extra_body`.

    Raises:
        UserError: it is no JSON object.
    """
    try:
        fields = json.loads(text) if isinstance(text, str) else dict(text or {})
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        example = 'extra_body={"chat_template_kwargs":{"enable_thinking":false}}'
        raise UserError(f"extra_body: expected a JSON object, such as {example}, got {text!r}")
    return fields


# ------------------------------------------------------------------------------------------------------ what was said


def more_room(limit: int) -> int:
    """The token limit of the second try."""
    return max(MORE_ROOM * limit, LEAST_ROOM)


def spoken(text: str) -> str:
    """A text without the thoughts that come before it."""
    return " ".join(split_reply(text).answer.split())


def whole_or_cut(reply: Reply, limit: int | None) -> Reply:
    """The reply; as one that the token limit ended if it took all of it to say nothing, which some call `stop`."""
    if limit is None or (reply.completion_tokens or 0) < limit or reply.ending != "done" or spoken(reply.text):
        return reply
    return dataclasses.replace(reply, finish_reason="length")


def unanswered(reply: Reply, limit: int | None) -> str:
    """Why a reply to the probe holds no answer: refused, cut off, all among the thoughts.

    Empty if it holds one, and if nothing explains why it does not: an empty text then counts as a wrong colour.

    Raises:
        RetryableError: the answer broke off.
    """
    if reply.refusal or reply.ending == "refused":
        return f"the probe was refused: {in_short(reply.refusal or reply.finish_reason)}"
    if reply.ending == "broken":
        raise RetryableError(reply.problem or f"the answer ended with {reply.finish_reason!r}", kind="broken-answer")
    if spoken(reply.text):
        return ""
    if reply.ending == "cut":
        thoughts = f" ({reply.reasoning_tokens} tokens were thoughts)" if reply.reasoning_tokens else ""
        return f"max_tokens={limit} ended its answer before the first word{thoughts}; raise max_tokens="
    if reply.reasoning:
        return "its answer is empty and its text is in the reasoning field; see reasoning_effort= and extra_body="
    return ""
