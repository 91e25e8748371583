"""Asking one model about the examples of one task, and recording every outcome the moment it is known."""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from harness.adapters import EndpointAdapter
from harness.infer.batch_drive import drive_batches
from harness.infer.budget import Budget
from harness.infer.cache import ResponseCache
from harness.infer.endpoint import drive
from harness.infer.local import Asked, Model
from harness.plan.transfer import mapped
from harness.redact import redact_known, redact_text
from harness.store.outcomes import OutcomeLog
from harness.store.request_log import RequestLog
from harness.tasks.parser.ratings import read_ratings
from harness.types import CONTEXT_MARK, Answer, Example, Failed, Item, Outcome, Unparsed

MESSAGE_LIMIT = 500


@dataclass(frozen=True)
class Row:
    """One (task, model, control) to run.

    Attributes:
        label: shown by the progress bar.
        labels, prompt, ratings, explanations: given to every item; a picture's own text replaces the prompt's mark.
        picture: the picture to show for an example.
        label_map: answered label -> label of the task; empty where they are the same.
    """

    label: str
    labels: tuple[str, ...]
    prompt: str
    picture: Callable[[Example], Path]
    ratings: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    explanations: bool = True
    label_map: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class RowTimes:
    """How a row was answered: in how many seconds, and how many answers came from the cache."""

    seconds: float
    cached: int


class RowRun:
    """One row at work: answers from the cache, or else by asking; each is recorded the moment it is known.

    Args:
        row: what is asked.
        pending: the examples to ask about, read as they are needed.
        count: how many they are.
        log: gets every outcome.
        cache: answers of earlier runs.
    """

    def __init__(
        self, row: Row, pending: Iterable[Example], count: int, log: OutcomeLog, cache: ResponseCache | None = None
    ) -> None:
        self.row, self.log, self.cache = row, log, cache
        self.progress: tqdm[Any] = tqdm(total=count, desc=row.label, unit="img", dynamic_ncols=True)
        self._pending, self._count, self._cached = pending, count, 0

    def ask_model(self, model: Model, batch_size: int, *, references: bool) -> RowTimes:
        """Ask a local model.

        Args:
            references: hand each example on with its item.

        Raises:
            UserError: the adapter broke its contract, or cannot work at all.
            OSError: an outcome could not be written.
        """
        with self.progress:
            started = time.monotonic()
            asked = (Asked(item, example if references else None) for item, example in self._unknown())
            for item, outcome in model.answers(asked, batch_size):
                self._record(item, outcome)
                self.progress.update()
            return RowTimes(time.monotonic() - started, self._cached)

    def ask_endpoint(
        self,
        adapter: EndpointAdapter,
        concurrency: int,
        budget: Budget | None,
        *,
        batch_state: Path,
        requests: RequestLog,
    ) -> RowTimes:
        """Ask an endpoint, request by request, each counted, or through its Batch API, whose state is kept in a file.

        Raises:
            UserError: the endpoint cannot answer at all, or the budget is reached.
            OSError: an outcome could not be written.
        """
        with self.progress:
            started = time.monotonic()
            items: Iterator[Item] = (item for item, _ in self._unknown())
            first = list(itertools.islice(items, 1))  # an endpoint is not opened for nothing
            batch_api = adapter.batches()
            if first and batch_api is not None:
                drive_batches(adapter, batch_api, [*first, *items], batch_state, self._record, self.progress, budget)
            elif first:
                items = itertools.chain(first, items)
                drive(adapter, items, concurrency, self._record, self.progress, budget, requests)
            return RowTimes(time.monotonic() - started, self._cached)

    def _unknown(self) -> Iterator[tuple[Item, Example]]:
        """The items that the cache does not know; what it knows is recorded and leaves the bar's total."""
        for example in self._pending:
            item = _item(self.row, example)
            outcome = None if self.cache is None else self.cache.find(item)
            if outcome is None:
                yield item, example
            else:
                self._keep(item, outcome)
                self._cached += 1
                self.progress.total = self._count - self._cached

    def _record(self, item: Item, outcome: Outcome) -> None:
        sound = checked(outcome, item.labels)
        self._keep(item, sound)
        if self.cache is not None:
            self.cache.store(item, sound)

    def _keep(self, item: Item, outcome: Outcome) -> None:
        found = with_ratings(outcome, item.ratings)
        self.log.append(item.id, mapped(found, self.row.label_map) if self.row.label_map else found)


def _item(row: Row, example: Example) -> Item:
    prompt = row.prompt.replace(CONTEXT_MARK, example.context)
    return Item(example.id, row.picture(example), row.labels, prompt, row.ratings, row.explanations)


def checked(outcome: Outcome, labels: Sequence[str]) -> Outcome:
    """What is recorded: a label outside the task is no answer, probabilities must be a distribution over the labels.

    A key that the model or its endpoint repeats is hidden.
    """
    outcome = _without_known_secrets(outcome)
    match outcome:
        case Failed():
            message = " ".join(redact_text(outcome.message).split())[:MESSAGE_LIMIT]
            return dataclasses.replace(outcome, message=message)
        case Answer() if outcome.emotion not in labels:
            raw = outcome.raw or f"{outcome.emotion} because {outcome.explanation}"
            return Unparsed(raw, outcome.usage, "label outside the task", outcome.reasoning)
        case Answer() if outcome.emotion_probs is not None and not is_distribution(outcome.emotion_probs, labels):
            message = "emotion_probs must be numbers >= 0 over the task's labels that sum to 1"
            return Failed("InvalidProbabilities", message, outcome.raw, outcome.usage, outcome.reasoning)
    return outcome


def _without_known_secrets(outcome: Outcome) -> Outcome:
    raw, reasoning = redact_known(outcome.raw), redact_known(outcome.reasoning)
    if (raw, reasoning) != (outcome.raw, outcome.reasoning):
        outcome = dataclasses.replace(outcome, raw=raw, reasoning=reasoning)
    if isinstance(outcome, Answer) and redact_known(outcome.explanation) != outcome.explanation:
        return dataclasses.replace(outcome, explanation=redact_known(outcome.explanation))
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
