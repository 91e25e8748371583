"""Asking one model about the examples of one task, and recording every outcome the moment it is known."""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from harness.adapters import EndpointAdapter, LocalAdapter
from harness.batch_drive import drive_batches
from harness.budget import Budget
from harness.cache import ResponseCache
from harness.endpoint import drive, with_usage
from harness.outcome_log import OutcomeLog
from harness.redact import redact_text
from harness.tasks.rating_parser import read_ratings
from harness.transfer import mapped
from harness.types import CONTEXT_MARK, Answer, Example, Failed, Item, Outcome, Unparsed, UserError

MESSAGE_LIMIT = 500


@dataclass(frozen=True)
class Row:
    """One (task, model, control) to run.

    Attributes:
        label: shown by the progress bar.
        labels, prompt, ratings, explanations: given to every item; a picture's own text replaces the prompt's mark.
        pictures: example id -> picture to show.
        label_map: answered label -> label of the task; empty where they are the same.
    """

    label: str
    labels: tuple[str, ...]
    prompt: str
    pictures: Mapping[str, Path]
    ratings: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    explanations: bool = True
    label_map: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class RowTimes:
    """How a row was answered: in how many seconds, and how many answers came from the cache."""

    seconds: float
    cached: int


def run_row(
    adapter: LocalAdapter | EndpointAdapter,
    row: Row,
    pending: Sequence[Example],
    log: OutcomeLog,
    *,
    batch_size: int,
    concurrency: int,
    cache: ResponseCache | None = None,
    budget: Budget | None = None,
    batch_state: Path | None = None,
) -> RowTimes:
    """Answer `pending` examples from the cache, or else by asking `adapter`, and append each outcome to `log`.

    Raises:
        UserError: the adapter broke its contract (wrong number of outcomes), cannot work at all, or the budget is
            reached.
        OSError: an outcome could not be written.
    """
    started = time.monotonic()

    def keep(item: Item, outcome: Outcome) -> None:
        found = with_ratings(outcome, item.ratings)
        log.append(item.id, mapped(found, row.label_map) if row.label_map else found)

    def record(item: Item, outcome: Outcome) -> None:
        sound = checked(outcome, item.labels)
        keep(item, sound)
        if cache is not None:
            cache.store(item, sound)

    items = _unknown([_item(row, example) for example in pending], cache, keep)
    progress: tqdm[Any]
    with tqdm(total=len(items), desc=row.label, unit="img", dynamic_ncols=True) as progress:
        if isinstance(adapter, EndpointAdapter):
            batch_api = adapter.batches()
            if items and batch_api is not None and batch_state is not None:
                drive_batches(adapter, batch_api, items, batch_state, record, progress, budget)
            elif items:
                drive(adapter, items, concurrency, record, progress, budget)
        else:
            for batch, following in itertools.pairwise([*batches(items, batch_size), []]):
                adapter.expect([*batch, *following])
                for item, outcome in zip(batch, predict(adapter, batch), strict=True):
                    record(item, outcome)
                progress.update(len(batch))
    return RowTimes(time.monotonic() - started, len(pending) - len(items))


def _unknown(items: list[Item], cache: ResponseCache | None, keep: Callable[[Item, Outcome], None]) -> list[Item]:
    """The items that the cache does not know; what it knows is kept."""
    if cache is None:
        return items
    unknown = []
    for item, outcome in cache.found(items):
        if outcome is None:
            unknown.append(item)
        else:
            keep(item, outcome)
    return unknown


def _item(row: Row, example: Example) -> Item:
    prompt = row.prompt.replace(CONTEXT_MARK, example.context)
    return Item(example.id, row.pictures[example.id], row.labels, prompt, row.ratings, row.explanations)


def batches(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Consecutive pieces of at most `size` items."""
    return (items[i : i + size] for i in range(0, len(items), size))


def predict(adapter: LocalAdapter, batch: Sequence[Item]) -> list[Outcome]:
    """One outcome per item; a batch that raises is asked again item by item, so one bad picture costs one answer."""
    started = time.monotonic()
    try:
        outcomes = adapter.predict(batch)
    except UserError:
        raise
    except Exception as error:
        if len(batch) > 1:
            return [outcome for item in batch for outcome in predict(adapter, [item])]
        outcomes = [Failed(type(error).__name__, str(error))]
    if len(outcomes) != len(batch):
        name = type(adapter).__name__
        raise UserError(f"{name}.predict must return one outcome per item: got {len(outcomes)} for {len(batch)} items")
    share = (time.monotonic() - started) / len(batch)
    return [with_usage(outcome, share) for outcome in outcomes]


def checked(outcome: Outcome, labels: Sequence[str]) -> Outcome:
    """What is recorded: a label outside the task is no answer, probabilities must be a distribution over the labels."""
    match outcome:
        case Failed():
            message = " ".join(redact_text(outcome.message).split())[:MESSAGE_LIMIT]
            return dataclasses.replace(outcome, message=message)
        case Answer() if outcome.emotion not in labels:
            raw = outcome.raw or f"{outcome.emotion} because {outcome.explanation}"
            return Unparsed(raw, outcome.usage)
        case Answer() if outcome.emotion_probs is not None and not is_distribution(outcome.emotion_probs, labels):
            message = "emotion_probs must be numbers >= 0 over the task's labels that sum to 1"
            return Failed("InvalidProbabilities", message, outcome.raw, outcome.usage)
    return outcome


def with_ratings(outcome: Outcome, scales: Mapping[str, tuple[float, float]]) -> Outcome:
    """The outcome with the ratings that an answer's raw text states, where the task wants some and it has none yet."""
    if not scales or not isinstance(outcome, Answer) or outcome.ratings is not None:
        return outcome
    return dataclasses.replace(outcome, ratings=read_ratings(outcome.raw, scales) or None)


def is_distribution(probabilities: Mapping[str, float], labels: Sequence[str]) -> bool:
    """True for finite numbers >= 0 over known labels whose sum is 1 within 1e-3."""
    values = probabilities.values()
    sound = all(math.isfinite(p) and p >= 0 for p in values) and set(probabilities) <= set(labels)
    return sound and abs(sum(values) - 1) <= 1e-3
