"""The nouns that every room shares: examples, items, outcomes, tasks and user errors.

Data walks one way: reader -> `Example` -> `Item` -> adapter -> `Outcome` -> store -> metrics -> report.
This module imports nothing heavy, so that `harness --help` stays fast.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from harness.errors import ImageError as ImageError
from harness.errors import RetryableError as RetryableError
from harness.errors import UserError as UserError

if TYPE_CHECKING:
    from PIL.Image import Image

Control: TypeAlias = Literal["blank", "shuffled"]

VAD_DIMENSIONS = ("valence", "arousal", "dominance")


# ---------------------------------------------------------------------------------------------- data


@dataclass(frozen=True, slots=True)
class Annotation:
    """What one person felt before an artwork, and why."""

    emotion: str
    explanation: str


@dataclass(frozen=True, slots=True)
class Example:
    """One artwork with everything people said about it.

    Attributes:
        id: unique within its task.
        image: path of the image file.
        annotations: kept annotations, in file order (they are the references of text metrics).
        emotion_histogram: annotators per emotion, counted over *all* annotations before any text filter.
        split: `train`, `val`, `test` or a split of the dataset's own.
        meta: style, artist, title ... (slices are cut along these keys).
        ratings: dimension (`valence`, `arousal`, `dominance`) -> mean human rating, on the task's scale.
        context: text that people saw with the image (a dialogue, a caption); prompts may show it.
        statements: what is asked about, if the task is to tell statements about this image from others.
    """

    id: str
    image: Path
    annotations: tuple[Annotation, ...]
    emotion_histogram: Mapping[str, int]
    split: str = "test"
    meta: Mapping[str, str] = field(default_factory=dict)
    ratings: Mapping[str, float] = field(default_factory=dict)
    context: str = ""
    statements: tuple[Annotation, ...] = ()

    @property
    def dominant_emotion(self) -> str | None:
        """The emotion chosen by more than half of all annotators (share > 0.5), else None."""
        total = sum(self.emotion_histogram.values())
        for emotion, count in self.emotion_histogram.items():
            if 2 * count > total:
                return emotion
        return None

    def share(self, emotion: str) -> float:
        """The fraction of annotators who chose `emotion`, in 0..1 (0 when nobody annotated)."""
        total = sum(self.emotion_histogram.values())
        return self.emotion_histogram.get(emotion, 0) / total if total else 0.0

    def distribution(self, labels: Sequence[str]) -> tuple[float, ...]:
        """Shares of `labels` in their order; sums to 1 when the labels cover the histogram."""
        return tuple(self.share(label) for label in labels)


def histogram(annotations: Sequence[Annotation]) -> dict[str, int]:
    """Count annotators per emotion."""
    return dict(Counter(annotation.emotion for annotation in annotations))


@dataclass(frozen=True, slots=True)
class Item:
    """What a model may see of an example: never its annotations.

    Attributes:
        id: the example's id.
        image: path of the image to show (a control may have replaced the example's own).
        labels: the task's emotions, in order.
        prompt: the rendered prompt text.
        ratings: dimension -> (lowest, highest) of the scale on which the task wants ratings; empty if it wants none.
        explanations: False where people gave labels alone, so that a label without an explanation is an answer.
        statements: what `labels` stand for if the question is which statement is about the image (one for each label,
            or one that is true or false); a model may answer by their likelihood.
        schema: JSON schema of the answer wanted instead of a label and an explanation (a judge's verdict, say); whoever
            asks reads `raw`, and labels and their probabilities are of no interest.
        shows_image: False if the model is to read the prompt alone.
    """

    id: str
    image: Path
    labels: tuple[str, ...]
    prompt: str
    ratings: Mapping[str, tuple[float, float]] = field(default_factory=dict, hash=False)
    explanations: bool = True
    statements: tuple[Annotation, ...] = ()
    schema: Mapping[str, Any] | None = field(default=None, hash=False)
    shows_image: bool = True

    def open(self) -> Image:
        """Decode the image as RGB, upright (EXIF orientation applied).

        Raises:
            ImageError: missing, truncated, not an image, or beyond the limits of `harness.images`.
        """
        from harness.images import open_image  # only models that look at images need it

        return open_image(self.image)


# ------------------------------------------------------------------------------------------ outcomes


@dataclass(frozen=True, slots=True)
class Usage:
    """What an answer cost. None means unknown, never zero.

    Attributes:
        latency_s: seconds from question to answer.
        prompt_tokens, completion_tokens: as the endpoint counts them; thoughts are part of the completion.
        cost_usd: what all attempts were billed.
        attempts: requests sent.
        cached: the answer came from the response cache.
        cached_tokens: those of the prompt that the endpoint had in its own cache.
        reasoning_tokens: those of the completion that were thoughts.
        reserve_usd: the most that attempts of unknown price (lost ones, say) may have cost beside `cost_usd`.
    """

    latency_s: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = None
    attempts: int | None = None
    cached: bool | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    reserve_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A label and an explanation.

    Attributes:
        emotion: one of the task's labels.
        explanation: why; may be empty only if the model gives labels alone.
        emotion_probs: probability per label (sums to 1), if the model can say it.
        raw: the model's text before parsing.
        held_out: index of the annotation that answers (the `human` row), indexes of those that answer together (the
            `crowd` row), else None.
        ratings: dimension -> number on the task's scale, if the model gives numbers.
        truncated: the explanation was cut off by the token limit.
        reasoning: what the model thought before it answered; never scored.
    """

    emotion: str
    explanation: str
    emotion_probs: Mapping[str, float] | None = None
    raw: str = ""
    usage: Usage = Usage()
    held_out: int | tuple[int, ...] | None = None
    ratings: Mapping[str, float] | None = None
    truncated: bool = False
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The model declined to answer."""

    raw: str = ""
    usage: Usage = Usage()
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class Unparsed:
    """The model said something from which no answer of the task could be read.

    Attributes:
        reason: why, in a few words: `no label`, `two labels`, `no explanation`, `empty`, `label outside the task`, `too
            long`; empty if nobody said.
    """

    raw: str = ""
    usage: Usage = Usage()
    reason: str = ""
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """There is no answer: corrupt image, endpoint error, cut off before any text."""

    error_type: str
    message: str
    raw: str = ""
    usage: Usage = Usage()
    reasoning: str = ""


Outcome: TypeAlias = Answer | Refusal | Unparsed | Failed


def with_usage(outcome: Outcome, elapsed_s: float, attempts: int | None = None) -> Outcome:
    """The outcome with latency and attempts filled in where the adapter did not give them."""
    usage: Usage = outcome.usage
    usage = replace(
        usage,
        latency_s=elapsed_s if usage.latency_s is None else usage.latency_s,
        attempts=attempts if usage.attempts is None else usage.attempts,
    )
    return replace(outcome, usage=usage)


# --------------------------------------------------------------------------------------------- tasks


@dataclass(frozen=True, slots=True)
class Task:
    """What is measured: a dataset, its label set, prompts, protocol and published numbers.

    Attributes:
        name: registry name (`artemis`).
        dataset: name of the registered reader.
        emotions: label set in its fixed order.
        polarity: label -> `positive` | `negative` | `other`, the dataset's official grouping.
        protocol: `coco-ptb` or `artemis-plain`.
        dominance: which emotion dominates: `majority` (more than half), `half` (at least half, no tie), `plurality`
            (the most frequent, no tie), or empty for the protocol's rule.
        metrics: names of the metrics to compute, or None for all that apply.
        prompts: name -> Jinja2 template over `labels`, `ratings` and `context`; `default` is used unless a model
            says otherwise.
        slices: `meta` keys along which results are broken down.
        published: rows reported elsewhere, each with its source and reliability.
        illustrative: True for data that must never be reported as a result; the report says so.
        options: given to the reader.
        source: the YAML file this task was read from; paths in `options` are relative to its folder.
        year: of publication; 0 if not found.
        annotated_by, terms: who gave the labels, and what one may do with the data, in a word of `tasks.loading`.
        description, licence, access: free text of the task's card: what it is, its terms, how to get it.
        traps: known difficulties of the data, a sentence each.
        splits: where the splits come from, in words.
        explanations: False for data that holds labels only; metrics of explanations then do not apply.
        triggers: True where each explanation is one trigger of the emotion, a phrase.
        ratings: dimension -> (lowest, highest) of its scale, for data with mean human ratings.
        label_maps: name of a task that models were trained on -> its label -> a label of this task.
    """

    name: str
    dataset: str
    emotions: tuple[str, ...]
    title: str = ""
    version: str = "1"
    paper: str = ""
    protocol: str = "coco-ptb"
    dominance: str = ""
    polarity: Mapping[str, str] = field(default_factory=dict)
    metrics: tuple[str, ...] | None = None
    prompts: Mapping[str, str] = field(default_factory=dict)
    slices: tuple[str, ...] = ()
    published: tuple[Mapping[str, Any], ...] = ()
    illustrative: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    source: Path | None = None
    year: int = 0
    annotated_by: str = ""
    terms: str = ""
    description: str = ""
    licence: str = ""
    access: str = ""
    traps: tuple[str, ...] = ()
    splits: str = ""
    explanations: bool = True
    triggers: bool = False
    ratings: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    label_maps: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def task_to_json(task: Task) -> dict[str, Any]:
    """A task's fields as plain values."""
    place = {"source": task.source.name, "card_folder": str(task.source.absolute().parent)} if task.source else {}
    return asdict(task) | {"source": None} | place


def task_from_json(record: Mapping[str, Any]) -> Task:
    """The inverse of `task_to_json`; unknown keys are ignored."""
    known = {f.name for f in fields(Task)} - {"source"}
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in record.items() if k in known}
    if record.get("card_folder"):
        values["source"] = Path(record["card_folder"]) / record["source"]
    return Task(**values)


# ---------------------------------------------------------------------------------------------- runs

SCHEMA = 1
"""Of manifest.json and results.json."""
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class RowKey(NamedTuple):
    """One row of a leaderboard: a model, as it is or under a control."""

    model: str
    control: str | None = None

    @property
    def stem(self) -> str:
        """The file name of this row's outcomes, without suffix."""
        return self.model if self.control is None else f"{self.model}@{self.control}"

    @classmethod
    def from_stem(cls, stem: str) -> RowKey:
        """The inverse of `stem`."""
        model, _, control = stem.partition("@")
        return cls(model, control or None)


def check_name(name: str, what: str) -> str:
    """Return `name` if it is safe as a file name.

    Raises:
        UserError: it holds anything but letters, digits, `.`, `_`, `-`, or does not start with a letter or digit.
    """
    if not _SAFE_NAME.fullmatch(name) or len(name) > 100:
        raise UserError(f"{what} {name!r}: use letters, digits, '.', '_' and '-' only (at most 100)")
    return name
