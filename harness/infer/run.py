"""The inference stage of `harness run`: every row that has unanswered examples, each outcome recorded once it is known.

run_inference -> RowRun.run -> the cache, else InProcessModel / RayModel / an endpoint -> checked -> OutcomeLog
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from harness.adapters.base import EndpointAdapter, LocalAdapter
from harness.adapters.cards import card_of
from harness.atomic import atomic_write
from harness.infer.cache import ResponseCache
from harness.infer.local import Asked, Executor, InProcessModel, Model, ModelInfo
from harness.plan.models import ModelSpec
from harness.plan.plan import (
    Plan,
    TaskPlan,
    check_fingerprint,
    differences,
    largest_usage,
    note_environment,
    run_record,
    task_record,
)
from harness.redact import redact, redact_known, redact_text
from harness.store.outcomes import OutcomeLog, Recorded
from harness.store.run_folder import RunFolder
from harness.tasks.prompts import CONTEXT_MARK
from harness.types import Answer, Control, Example, Failed, Item, Outcome, RowKey, Unparsed, UserError

if TYPE_CHECKING:
    from harness.infer.endpoint import Budget
    from harness.infer.ray import RayWorkers

MESSAGE_LIMIT = 500
"""Characters of a failure's message."""


@dataclass(frozen=True)
class InferenceOptions:
    """How a run asks: the options of `harness run` that change no answer's meaning, by their names there."""

    batch_size: int = 8
    concurrency: int = 8
    device: str | None = None
    dtype: str | None = None
    trust_remote_code: bool = False
    executor: Executor = "local"
    adapters: Sequence[str] = ()
    retry_failed: bool = False
    cache: bool = True
    max_cost: float | None = None


def run_inference(plan: Plan, folder: RunFolder, options: InferenceOptions) -> dict[str, float]:
    """Run every row that has unanswered examples; the caller holds the folder's lock.

    Returns:
        The share of failures per `task/row`.

    Raises:
        UserError: a model changed since the run was begun, or cannot work at all.
    """
    manifest = folder.manifest()
    budget = None
    if options.max_cost is not None:
        from harness.infer.endpoint import budget_of

        budget = budget_of(folder, [t.task.name for t in plan.tasks], options.max_cost)
    rates = {}
    workers: RayWorkers | None = None  # None: local models compute in this process
    with ExitStack() as stack:
        if options.executor == "ray":
            os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # read when ray is imported
            from harness.infer.ray import connected

            workers = stack.enter_context(connected(options.adapters))
        for task in plan.tasks:
            # The folder keeps the examples; a smaller `--limit` never shrinks what an earlier command selected.
            name = task.task.name
            known = {e.id for e in folder.examples(name)} if folder.has_examples(name) else set()
            new = task.examples.ids - known
            if new or not known:
                folder.save_examples(name, task.examples.with_those_of(known))
                record = next(t for t in manifest["tasks"] if t["name"] == name)
                record.update(redact(task_record(task)) | {"examples": len(known) + len(new)})
                folder.save_manifest(manifest)
            for spec, control in itertools.product(plan.models, (None, *plan.options.controls)):
                row = RowRun(plan, folder, manifest, task, spec, control, options)
                row.run(workers, budget)
                recorded = row.recorded()
                rates[f"{name}/{row.key.stem}"] = len(recorded.failed) / len(recorded)
    return rates


class RowRun:
    """One (task, model, control) of a run: what is left of it, asking for that, recording what comes back.

    Args:
        plan, folder, task, spec, control: which row.
        manifest: the folder's; brought up to date here.
        options: how to ask.
    """

    def __init__(
        self,
        plan: Plan,
        folder: RunFolder,
        manifest: dict[str, Any],
        task: TaskPlan,
        spec: ModelSpec,
        control: Control | None,
        options: InferenceOptions,
    ) -> None:
        self.plan, self.folder, self.manifest, self.options = plan, folder, manifest, options
        self.task, self.spec, self.control = task, spec, control
        self.name, self.key = task.task.name, RowKey(spec.name, control)
        self.record = run_record(manifest, self.name, self.key)

    def recorded(self) -> Recorded:
        """What the store holds of this row."""
        return Recorded(self.folder.each_outcome(self.name, self.key))

    def run(self, workers: RayWorkers | None, budget: Budget | None) -> None:
        """Ask about every unanswered example and bring the manifest up to date.

        Raises:
            UserError: see `run_inference`.
            OSError: an outcome could not be written.
        """
        adapter = self.plan.build(self.task, self.spec)
        fingerprint = adapter.fingerprint()
        check_fingerprint(self.record, fingerprint, self.folder.path)
        pending = self.recorded().to_ask(self.task.examples.ids, retry_failed=self.options.retry_failed)
        requests = self._requests()  # a command that was killed after its last outcome did not note them
        if not requests.items() <= self.record.items():
            self._note(**requests)
        if not pending:
            return
        total = len(self.task.examples)
        if len(pending) < total:
            print(f"{self.name}/{self.key.stem}: {total - len(pending)} of {total} done", file=sys.stderr)
        how = {k: getattr(self.options, k) for k in ("batch_size", "concurrency", "device", "dtype")}
        how["batch_size"] = how["batch_size"] or "auto"
        how["trust_remote_code"] = self.options.trust_remote_code
        executor = "local" if isinstance(adapter, EndpointAdapter) else self.options.executor
        what = {"fingerprint": fingerprint, "prompt": self.task.prompt(self.spec), "needs": sorted(adapter.needs)}
        card, checkpoint = self.spec.card, fingerprint.get("checkpoint")
        if card is None and isinstance(checkpoint, str) and "/" in checkpoint:
            card = card_of(checkpoint)
        self.record["card"] = None if card is None else card.record()
        note_environment(self.manifest)
        self._note(**redact(what), **how, executor=executor, seed=self.plan.options.seed)
        if isinstance(adapter, EndpointAdapter):
            asking = self._ask_endpoint(adapter, pending, budget)
        else:
            asking = self._ask_model(adapter, pending, workers)
        self._note(
            wall_s=round(self.record.get("wall_s", 0.0) + asking.seconds, 3),
            asked=self.record.get("asked", 0) + len(pending) - asking.cached,
            cached=self.record.get("cached", 0) + asking.cached,
        )

    def _note(self, **values: Any) -> None:
        self.record.update(values)
        self.folder.save_manifest(self.manifest)

    def _note_info(self, info: ModelInfo) -> None:
        self._note(
            parameters=info.parameters or (self.record.get("card") or {}).get("parameters"),
            observed=redact(dict(info.observed)),
            peak_memory_gb=info.peak_memory_gb,
            gpu=info.gpu,
            placement=None if info.placement is None else dict(info.placement),
        )

    def _requests(self) -> dict[str, int]:
        """How many requests were begun, and how many of them without an outcome; empty if none was."""
        lost = self.folder.requests_without_outcome(self.name, self.key)
        begun = self.folder.requests(self.name, self.key)
        return {"requests": begun, "requests_without_outcome": lost} if begun else {}

    def _longest_prompt(self) -> str:
        prompt = self.task.prompt(self.spec)
        if CONTEXT_MARK not in prompt:
            return prompt
        return prompt.replace(CONTEXT_MARK, max((e.context for e in self.task.examples), key=len, default=""))

    def _training(self, adapter: LocalAdapter | EndpointAdapter) -> Sequence[Example] | None:
        """The training examples of an adapter that needs some."""
        if "train" not in adapter.needs:
            return None
        return list(self.task.training(self.spec, self.plan.options.data_root))

    # ------------------------------------------------------------------ local models, endpoints

    def _ask_model(self, adapter: LocalAdapter, pending: set[str], workers: RayWorkers | None) -> _Asking:
        model: Model
        if workers is None:
            model = InProcessModel(adapter, self._training(adapter), self._longest_prompt())
        else:
            arguments = self.plan.arguments(self.task, self.spec)
            trained_on = self.task.source(self.spec).name if "train" in adapter.needs else None
            longest = self._longest_prompt()
            model = workers.model(self.spec.adapter, arguments, trained_on, lambda: self._training(adapter), longest)
        loaded = model.info()
        before, now = (self.record.get("observed") or {}).get("dtype"), loaded.observed.get("dtype")
        if before and now and before != now:
            model.close()
            told = f"{self.spec.name} computes in {now} on this device, and in {before} where the run was begun"
            raise UserError(f"{told}; resume it on such a device, or choose another --out")
        # Now too: whoever is killed after the last answer asks nothing more when it is resumed.
        self._note_info(loaded)
        references = "references" in adapter.needs
        try:
            with self._asking(adapter, lambda: loaded.cache_key, pending) as asking:
                asked = (Asked(item, example if references else None) for item, example in asking.unknown())
                for item, outcome in model.answers(asked, self.options.batch_size):
                    asking.record(item, outcome)
                    asking.progress.update()
            return asking
        finally:
            self._note_info(model.info())
            model.close()

    def _ask_endpoint(self, adapter: EndpointAdapter, pending: set[str], budget: Budget | None) -> _Asking:
        """Endpoints are asked from this process, whatever the executor: waiting for answers takes no cluster."""
        from harness.infer.batch import drive_batches  # with asyncio, which local models do without
        from harness.infer.endpoint import drive

        training = self._training(adapter)
        if training is not None:
            adapter.fit(training)
        if "references" in adapter.needs:
            adapter.attach(list(self.task.examples))
        adapter.load()
        served = (self.record.get("observed") or {}).get("served")
        if lost := self.record.get("requests_without_outcome"):
            stopped = f"{lost} requests were under way when a command was stopped and may be billed twice"
            print(f"{self.name}/{self.key.stem}: {stopped}", file=sys.stderr)
            if budget is not None:
                most = largest_usage(adapter, self.task, self.spec, itertools.islice(self.task.examples, 1))
                budget.spent_usd += lost * (most.cost_usd or 0.0)
        state = self.folder.path / "batches" / self.name / f"{self.key.stem}.json"
        try:
            with (
                self._asking(adapter, adapter.cache_key, pending) as asking,
                self.folder.open_requests(self.name, self.key) as requests,
            ):
                items = self._unknown_if_served(adapter, served, asking)
                if (batch_api := adapter.batches()) is not None:
                    drive_batches(adapter, batch_api, items, state, asking.record, asking.progress, budget)
                else:
                    concurrency = self.options.concurrency
                    drive(adapter, items, concurrency, asking.record, asking.progress, budget, requests)
            return asking
        finally:
            paid = {"opening_usd": self.record.get("opening_usd", 0.0) + adapter.spent_usd} if adapter.spent_usd else {}
            self.record.update(self._requests() | paid)
            self._note_info(ModelInfo(adapter.parameters(), adapter.runtime_info(), None))
            adapter.close()

    def _unknown_if_served(self, adapter: EndpointAdapter, before: Any, asking: _Asking) -> Iterator[Item]:
        """What the cache does not know; the first item is asked for once the endpoint was opened.

        Raises:
            UserError: the endpoint says that it serves another model than when the row was begun.
        """
        info = adapter.runtime_info()
        now = redact(info.get("served"))
        if before and now and before != now:
            told = f"{self.spec.name}: the endpoint serves another model than when the run was begun"
            raise UserError(f"{told}: {'; '.join(differences(before, now))}; choose another --out")
        self._note_info(ModelInfo(adapter.parameters(), info, None))
        for item, _ in asking.unknown():
            yield item

    @contextmanager
    def _asking(
        self,
        adapter: LocalAdapter | EndpointAdapter,
        cache_key: Callable[[], Mapping[str, Any] | None],
        pending: set[str],
    ) -> Iterator[_Asking]:
        """The row at work: its questions, cache, log and progress bar, open for as long as it is asked."""
        task, spec, folder = self.task, self.spec, self.folder
        image = images_under(self.control, folder.examples(self.name), self.plan.options.seed, folder.path / "controls")
        labels, prompt = task.labels(spec), task.prompt(spec)

        def question(example: Example) -> Item:
            text = prompt.replace(CONTEXT_MARK, example.context)
            ratings, explanations = task.task.ratings, task.task.explanations
            return Item(example.id, image(example), labels, text, ratings, explanations, example.statements)

        root = self.plan.options.data_root
        cached = closing(ResponseCache(root, adapter, cache_key)) if self.options.cache else nullcontext()
        with (
            cached as cache,
            folder.open_log(self.name, self.key) as log,
            tqdm(total=len(pending), desc=f"{self.name}/{self.key.stem}", unit="img", dynamic_ncols=True) as progress,
        ):
            examples = (e for e in folder.examples(self.name) if e.id in pending)
            label_map = task.label_map(spec) if spec.trained_on else None
            asking = _Asking(examples, question, label_map, log, cache, progress)
            yield asking
            asking.seconds = time.monotonic() - asking.started


class _Asking:
    """Questions on their way out, outcomes on their way into the log."""

    def __init__(
        self,
        pending: Iterator[Example],
        question: Callable[[Example], Item],
        label_map: Mapping[str, str] | None,
        log: OutcomeLog,
        cache: ResponseCache | None,
        progress: tqdm[Any],
    ) -> None:
        self._pending, self._question, self._label_map = pending, question, label_map
        self._log, self._cache, self.progress = log, cache, progress
        self._count, self.cached = progress.total or 0, 0
        self.started = time.monotonic()
        self.seconds = 0.0

    def unknown(self) -> Iterator[tuple[Item, Example]]:
        """What the cache does not know; what it knows is recorded and leaves the bar's total."""
        for example in self._pending:
            item = self._question(example)
            outcome = None if self._cache is None else self._cache.find(item)
            if outcome is None:
                yield item, example
            else:
                self._append(item, outcome)
                self.cached += 1
                self.progress.total = self._count - self.cached

    def record(self, item: Item, outcome: Outcome) -> None:
        """Check an outcome, append it to the log and keep it in the cache."""
        sound = checked(outcome, item.labels)
        self._append(item, sound)
        if self._cache is not None:
            self._cache.store(item, sound)

    def _append(self, item: Item, outcome: Outcome) -> None:
        found = with_ratings(outcome, item.ratings)
        self._log.append(item.id, mapped(found, self._label_map) if self._label_map else found)


GREY = (127, 127, 127)


def images_under(
    control: Control | None, examples: Iterable[Example], seed: int, folder: Path
) -> Callable[[Example], Path]:
    """The image to show for an example.

    Args:
        control: None shows each example's own image.
        examples: all examples of the run (the permutation depends on their ids and the seed alone); read for
            `shuffled` alone, which keeps the path of each one's image.
        folder: where the grey image is written.
    """
    if control == "blank":
        grey = folder / "blank.png"
        if not grey.exists():
            from PIL import Image

            image = Image.new("RGB", (336, 336), GREY)
            atomic_write(grey, lambda temporary: image.save(temporary, format="PNG"))
        return lambda _: grey
    if control == "shuffled":  # a cyclic shift of a seeded permutation: nobody sees the own image, if there are two
        order = sorted((e.id, e.image) for e in examples)
        random.Random(seed).shuffle(order)
        others = {e: other for (e, _), (_, other) in zip(order, order[1:] + order[:1], strict=True)}
        return lambda example: others[example.id]
    return lambda example: example.image


# ------------------------------------------------------------------ what is recorded of an outcome


def checked(outcome: Outcome, labels: Sequence[str]) -> Outcome:
    """What is recorded: a label outside the task is no answer, probabilities must be a distribution over the labels.

    A key that the model or its endpoint repeats is hidden.
    """
    texts = {name: getattr(outcome, name, "") for name in ("raw", "reasoning", "explanation")}
    whole = "\n".join(texts.values())
    if redact_known(whole) != whole:
        safe: dict[str, Any] = {name: redact_known(text) for name, text in texts.items() if redact_known(text) != text}
        outcome = dataclasses.replace(outcome, **safe)
    match outcome:
        case Failed():
            message = " ".join(redact_text(outcome.message).split())[:MESSAGE_LIMIT]
            return dataclasses.replace(outcome, message=message)
        case Answer() if outcome.emotion not in labels:
            return _outside(outcome)
        case Answer() if outcome.emotion_probs is not None and not is_distribution(outcome.emotion_probs, labels):
            message = "emotion_probs must be numbers >= 0 over the task's labels that sum to 1"
            return Failed("InvalidProbabilities", message, outcome.raw, outcome.usage, outcome.reasoning)
    return outcome


def _outside(answer: Answer) -> Unparsed:
    """An answer whose label is not one of the task's."""
    raw = answer.raw or f"{answer.emotion} because {answer.explanation}"
    return Unparsed(raw, answer.usage, "label outside the task", answer.reasoning)


def is_distribution(probabilities: Mapping[str, float], labels: Sequence[str]) -> bool:
    """True for finite numbers >= 0 over known labels whose sum is 1 within 1e-3."""
    values = probabilities.values()
    sound = all(math.isfinite(p) and p >= 0 for p in values) and set(probabilities) <= set(labels)
    return sound and abs(sum(values) - 1) <= 1e-3


def with_ratings(outcome: Outcome, scales: Mapping[str, tuple[float, float]]) -> Outcome:
    """The outcome with the ratings that an answer's raw text states, if the task wants some and it has none yet."""
    if not scales or not isinstance(outcome, Answer) or outcome.ratings is not None:
        return outcome
    from harness.tasks.parser.ratings import read_ratings  # with the parser: models that give labels need none

    return dataclasses.replace(outcome, ratings=read_ratings(outcome.raw, scales) or None)


def mapped(outcome: Outcome, label_map: Mapping[str, str]) -> Outcome:
    """An answer in the labels of the task it was asked on.

    Args:
        outcome: in the labels of the task that the model was trained on.
        label_map: label there -> label here.

    Returns:
        The answer with its label replaced and its probabilities summed by label and divided by their total (None if
        that is 0); `Unparsed` if the label has no counterpart; anything but an answer as it is.
    """
    if not isinstance(outcome, Answer):
        return outcome
    if outcome.emotion not in label_map:
        return _outside(outcome)
    probabilities = None
    if outcome.emotion_probs is not None:
        summed = dict.fromkeys(label_map.values(), 0.0)
        for label, probability in outcome.emotion_probs.items():
            if label in label_map:
                summed[label_map[label]] += probability
        total = sum(summed.values())
        probabilities = {label: p / total for label, p in summed.items()} if total > 0 else None
    return dataclasses.replace(outcome, emotion=label_map[outcome.emotion], emotion_probs=probabilities)
