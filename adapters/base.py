"""The two shapes of an adapter: a local model answers a batch, an endpoint answers one item asynchronously."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from harness.types import Answer, Example, Item, Outcome, Task, Usage, UserError

if TYPE_CHECKING:
    from harness.adapters.endpoint_prices import Price


@dataclass(frozen=True)
class Teacher:
    """Another model whose answers about training images are learned.

    Attributes:
        name: as it is named in the model card.
        answers: example id -> its answer; `emotion_probs` sum to 1, or are None if the label alone is known.
        source: the file they come from: `file`, its name, and `sha256`.
    """

    name: str
    answers: Mapping[str, Answer]
    source: Mapping[str, str]


@dataclass(frozen=True)
class TrainRequest:
    """Everything `harness train MODEL --task T` hands to an adapter's `train`.

    Attributes:
        task: the task, for its label set and prompts.
        train, val: examples of those splits; some may have no annotations.
        out: folder to write the checkpoint to (does not exist yet, or holds an interrupted training).
        init_from: folder of weights to start from, or None.
        lexicon: path of a VAD lexicon file, or None.
        settings: `key=value` pairs and the contents of `--config`, already parsed as YAML scalars.
        device, seed, trust_remote_code: as given on the command line.
        teachers: whose answers are learned beside the annotations; none unless the adapter `learns_from_teachers`.
    """

    task: Task
    train: Sequence[Example]
    val: Sequence[Example]
    out: Path
    init_from: Path | None = None
    lexicon: Path | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    device: str | None = None
    seed: int = 0
    trust_remote_code: bool = False
    teachers: Sequence[Teacher] = ()


_FORMER_NAMES = {
    "observed": "runtime_info",
    "answers_depend_on": "cache_key",
    "at_most": "max_usage",
    "expect": "prefetch",
}


class Adapter(ABC):
    """What both shapes share.

    Settings are keyword arguments of `__init__`. The harness fills in `device`, `dtype`, `seed`, `lexicon` and
    `checkpoint` from the command line where `__init__` has a parameter of that name and the user gave no value.

    Class attributes:
        name: registry name.
        kind: what answers: a model, people, or a baseline that no model should fall short of; people and baselines are
            not ranked.
        needs: `"train"` (gets training examples through `fit`) or `"references"` (gets the examples it is asked
            about, annotations included, through `attach`, batch by batch); shown in the report.
        trained_per_task: True when the model must have been trained by `harness train NAME --task T` first;
            `checkpoint` then defaults to `<data root>/<task>/checkpoints/<name>`.
        learns_from_teachers: True if `train` heeds `TrainRequest.teachers`.
    """

    name: ClassVar[str] = ""
    kind: ClassVar[Literal["person", "baseline", "model"]] = "model"
    needs: frozenset[str] = frozenset()
    trained_per_task: ClassVar[bool] = False
    learns_from_teachers: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Let an adapter written for version 0.1 keep its methods' former names."""
        super().__init_subclass__(**kwargs)
        for old, new in _FORMER_NAMES.items():
            if old in vars(cls) and new not in vars(cls):
                setattr(cls, new, vars(cls)[old])

    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """JSON-serialisable identity: weights or endpoint, generation settings, versions. Never a secret.

        Asked before `fit` and `load`, and again on resume: it must not depend on either.
        """

    def fit(self, examples: Sequence[Example]) -> None:
        """Receive the training examples (only with `needs = {"train"}`)."""

    def attach(self, examples: Sequence[Example]) -> None:
        """Receive examples with their references (only with `needs = {"references"}`).

        A local model gets those of the batch that `predict` is asked about next, in place of those before; an endpoint
        gets all of the run, once.
        """

    def load(self) -> None:
        """Load weights or check the endpoint, once before the first item."""

    def parameters(self) -> int | None:
        """Number of parameters of the loaded model, or None if it is unknown."""
        return None

    def runtime_info(self) -> dict[str, Any]:
        """What was learned while running, for the manifest (the model name an endpoint returned, skipped images)."""
        return {}

    def cache_key(self) -> dict[str, Any] | None:
        """What an answer depends on beside prompt and image, as the response cache's key; None: do not cache.

        Asked after `load`, so that what is known only then (the commit of a hub's branch) is part of it.
        """
        return None

    def close(self) -> None:
        """Release what `load` took."""

    @classmethod
    def training_settings(cls) -> Mapping[str, Any]:
        """What `train` reads of `settings`, with defaults, for `harness train MODEL --help`."""
        return {}

    @classmethod
    def train(cls, request: TrainRequest) -> None:
        """Train on `request.train` and write a checkpoint to `request.out`.

        Raises:
            UserError: this kind of model cannot be trained here.
        """
        raise UserError(f"{cls.name or cls.__name__} cannot be trained; models that can: sevlm, llava, text-emotion")


class LocalAdapter(Adapter):
    """A model in this process, answering a batch.

    Attributes:
        longest_prompt: of those that the run will ask, set before `load` for checks; empty if unknown.
    """

    longest_prompt: str = ""

    def prefetch(self, items: Sequence[Item]) -> None:
        """Start loading the images of upcoming batches: those of the next `predict` and of the one after it."""

    @abstractmethod
    def predict(self, items: Sequence[Item]) -> list[Outcome]:
        """Answer each item, in order: exactly one outcome per item.

        An exception makes the runner ask again item by item; what then still raises is recorded as `Failed`.
        """


@dataclass(frozen=True)
class BatchState:
    """How far a batch is.

    Attributes:
        ended: whether it ended.
        files: those with results so far.
        answered: how many of its requests were.
        refused: why the endpoint refused it as a whole; empty if it did not.
    """

    ended: bool
    files: tuple[str, ...]
    answered: int
    refused: str = ""


class Batches(Protocol):
    """An endpoint's Batch API, as the runner uses it; calls raise `RetryableError` for what may succeed later."""

    most_requests: int
    most_bytes: int
    poll_s: float

    def line(self, item: Item) -> str:
        """The request about an item as a line of an input file; `ImageError` for an image that cannot be decoded."""

    async def upload(self, path: Path) -> str:
        """Upload an input file; its id."""

    async def create(self, file: str, key: str) -> str:
        """Start a batch that can be found by `key`; its id."""

    async def find(self, key: str) -> str | None:
        """The batch that was started with `key`."""

    async def state(self, batch: str) -> BatchState:
        """How far a batch is."""

    async def results(self, file: str) -> dict[str, dict[str, Any]]:
        """Item id -> what a file of results says about it."""

    def outcome(self, item: Item, line: dict[str, Any] | None) -> Outcome:
        """Read what came back about an item; None if no file holds it."""


class EndpointAdapter(Adapter):
    """A model behind a network endpoint, answering one item at a time, many at once.

    Attributes:
        requests_per_minute, tokens_per_minute: the endpoint's limits, which the runner keeps; None: not limited.
        spent_usd: what requests other than `answer` have cost (a probe, say).
        retry_wait_s: seconds before what failed in passing is sent again; they double from one attempt to the next.
        patience_s: for so many seconds a busy or loading endpoint is asked again.
        price, max_tokens: what tokens cost (`harness.adapters.endpoint_kit.Price`) and the most that an answer takes;
            with both, `--max-cost` and `--dry-run` work.
    """

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    spent_usd: float = 0.0
    retry_wait_s: float = 0.5
    patience_s: float = 120.0
    price: Price | None = None
    max_tokens: int | None = None

    async def open(self) -> None:
        """Connect and check the endpoint, once in the event loop before the first item; may raise `RetryableError`."""

    @abstractmethod
    async def answer(self, item: Item) -> Outcome:
        """Answer one item.

        Raise `harness.types.RetryableError` for what may succeed when sent again (the runner waits and retries);
        anything else raised is recorded as `Failed`.
        """

    async def aclose(self) -> None:
        """Close connections, in the event loop after the last item."""

    def batches(self) -> Batches | None:
        """The Batch API to be used instead of `answer`, if the user asked for it."""
        return None

    def max_usage(self, item: Item) -> Usage:
        """The most tokens and dollars that one request about `item` can take; unknown parts are None."""
        if self.price is None or self.max_tokens is None:
            return Usage()
        return self.price.max_usage(item.prompt, self.max_tokens)

    def cache_key(self) -> dict[str, Any] | None:
        """The fingerprint: endpoint, model name and generation settings."""
        return self.fingerprint()
