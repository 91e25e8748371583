"""The asking stage of `harness run`: every row that has unanswered examples, one after the other."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from harness.adapters import EndpointAdapter
from harness.infer.budget import Budget, budget_of
from harness.infer.cache import ResponseCache, cache_of
from harness.infer.local import InProcessModel, Model, ModelInfo
from harness.infer.runner import Row, RowRun, RowTimes
from harness.plan.controls import pictures_under
from harness.plan.id_set import IdSet, Recorded
from harness.plan.manifest import check_fingerprint, note_environment, run_record, task_record
from harness.plan.models import ModelSpec
from harness.plan.plan import Plan, TaskPlan
from harness.redact import redact
from harness.store.run_folder import RowKey, RunFolder
from harness.types import Control, Example

if TYPE_CHECKING:
    from harness.adapters import LocalAdapter
    from harness.adapters.cards import ModelCard
    from harness.infer.ray import RayWorkers


def ask(plan: Plan, folder: RunFolder, options: Mapping[str, Any]) -> dict[str, float]:
    """Run every row that has unanswered examples; the caller holds the folder's lock.

    Returns:
        The share of failures per `task/row`.

    Raises:
        UserError: a model changed since the run was begun, or cannot work at all.
    """
    manifest = folder.manifest()
    budget = budget_of(folder, [t.task.name for t in plan.tasks], options["max_cost"])
    rates = {}
    with _workers(options) as workers:
        for task in plan.tasks:
            _snapshot(folder, manifest, task)
            for spec in plan.models:
                for control in (None, *plan.options.controls):
                    asking = RowAsking(plan, folder, manifest, task, spec, control, options)
                    asking.run(workers, budget)
                    recorded = asking.recorded()
                    rates[f"{task.task.name}/{asking.key.stem}"] = len(recorded.failed) / len(recorded)
    return rates


@contextmanager
def _workers(options: Mapping[str, Any]) -> Iterator[RayWorkers | None]:
    """The workers of a Ray cluster where they are asked for; None: local models compute in this process."""
    if options["executor"] == "local":
        yield None
        return
    from harness.infer.ray import connected

    with connected(options["adapter"] or ()) as workers:
        yield workers


def _snapshot(folder: RunFolder, manifest: dict[str, Any], task: TaskPlan) -> None:
    """Keep the examples in the folder; a smaller `--limit` never shrinks what an earlier command selected."""
    name, selected = task.task.name, task.examples.ids
    known = IdSet.of(e.id for e in folder.examples(name)) if folder.has_examples(name) else IdSet.of(())
    new = selected - known
    if len(new) or not len(known):
        folder.save_examples(name, task.examples.with_those_of(known))
        record = next(t for t in manifest["tasks"] if t["name"] == name)
        record.update(redact(task_record(task)) | {"examples": len(known) + len(new)})
        folder.save_manifest(manifest)


@dataclass(frozen=True)
class RowAsking:
    """One (task, model, control) of a run: what is left of it, and asking for that."""

    plan: Plan
    folder: RunFolder
    manifest: dict[str, Any]
    task: TaskPlan
    spec: ModelSpec
    control: Control | None
    options: Mapping[str, Any]

    @property
    def key(self) -> RowKey:
        """The row's name in the store."""
        return RowKey(self.spec.name, self.control)

    @cached_property
    def record(self) -> dict[str, Any]:
        """The row's part of the manifest."""
        return run_record(self.manifest, self.task.task.name, self.key)

    def recorded(self) -> Recorded:
        """What the store holds of this row."""
        return Recorded(self.folder.each_outcome(self.task.task.name, self.key))

    def run(self, workers: RayWorkers | None, budget: Budget | None) -> None:
        """Ask about every unanswered example and bring the manifest up to date.

        Raises:
            UserError: see `ask`.
        """
        adapter = self.plan.build(self.task, self.spec)
        fingerprint = adapter.fingerprint()
        check_fingerprint(self.record, fingerprint, self.folder.path)
        pending = self.recorded().to_ask(self.task.examples.ids, retry_failed=self.options["retry_failed"])
        self._note_requests()  # a command that was killed after its last outcome did not
        if not len(pending):
            return
        self._begin(adapter, fingerprint, len(pending))
        if isinstance(adapter, EndpointAdapter):
            times = self._ask_endpoint(adapter, pending, budget)
        else:
            times = self._ask_model(adapter, pending, workers)
        self._note(
            wall_s=round(self.record.get("wall_s", 0.0) + times.seconds, 3),
            asked=self.record.get("asked", 0) + len(pending) - times.cached,
            cached=self.record.get("cached", 0) + times.cached,
        )

    def _begin(self, adapter: LocalAdapter | EndpointAdapter, fingerprint: Mapping[str, Any], pending: int) -> None:
        total = len(self.task.examples)
        if pending < total:
            name = f"{self.task.task.name}/{self.key.stem}"
            print(f"{name}: {total - pending} of {total} done", file=sys.stderr)
        how = {k: self.options[k] for k in ("batch_size", "concurrency", "device", "dtype", "trust_remote_code")}
        executor = "local" if isinstance(adapter, EndpointAdapter) else self.options["executor"]
        what = {"fingerprint": fingerprint, "prompt": self.task.prompt(self.spec), "needs": sorted(adapter.needs)}
        card = self._card(fingerprint)
        self.record["card"] = None if card is None else card.record()
        note_environment(self.manifest)
        self._note(**redact(what), **how, executor=executor, seed=self.plan.options.seed)

    def _card(self, fingerprint: Mapping[str, Any]) -> ModelCard | None:
        """The card that was asked for, or that of the checkpoint that was."""
        from harness.adapters.cards import card_of

        checkpoint = fingerprint.get("checkpoint")
        return self.spec.card or (card_of(checkpoint) if isinstance(checkpoint, str) and "/" in checkpoint else None)

    def _note(self, **values: Any) -> None:
        self.record.update(values)
        self.folder.save_manifest(self.manifest)

    # ------------------------------------------------------------------ local models

    def _ask_model(self, adapter: LocalAdapter, pending: IdSet, workers: RayWorkers | None) -> RowTimes:
        model: Model
        if workers is None:
            model = InProcessModel(adapter, self._training(adapter))
        else:
            arguments = self.plan.arguments(self.task, self.spec)
            trained_on = self.task.source(self.spec).name if "train" in adapter.needs else None
            model = workers.model(self.spec.adapter, arguments, trained_on, lambda: self._training(adapter))
        loaded = model.facts()
        # Now too: whoever is killed after the last answer asks nothing more when it is resumed.
        self._note_facts(loaded)
        try:
            with self._row_run(adapter, loaded.cache_key, pending) as run:
                references = "references" in adapter.needs
                return run.ask_model(model, self.options["batch_size"], references=references)
        finally:
            self._note_facts(model.facts())
            model.close()

    def _training(self, adapter: LocalAdapter | EndpointAdapter) -> Sequence[Example] | None:
        """The training examples of an adapter that needs some."""
        if "train" not in adapter.needs:
            return None
        return list(self.task.training(self.spec, self.plan.options.data_root))

    def _note_facts(self, facts: ModelInfo) -> None:
        self._note(
            parameters=facts.parameters or (self.record.get("card") or {}).get("parameters"),
            observed=redact(dict(facts.observed)),
            peak_memory_gb=facts.peak_memory_gb,
            gpu=facts.gpu,
            placement=None if facts.placement is None else dict(facts.placement),
        )

    # ------------------------------------------------------------------ endpoints

    def _ask_endpoint(self, adapter: EndpointAdapter, pending: IdSet, budget: Budget | None) -> RowTimes:
        """Endpoints are asked from this process, whatever the executor: waiting for answers takes no cluster."""
        training = self._training(adapter)
        if training is not None:
            adapter.fit(training)
        if "references" in adapter.needs:
            adapter.attach(list(self.task.examples))
        adapter.load()
        self._note_facts(ModelInfo(adapter.parameters(), adapter.runtime_info(), None))
        task, concurrency = self.task.task.name, self.options["concurrency"]
        state = self.folder.path / "batches" / task / f"{self.key.stem}.json"
        if lost := self.record.get("requests_without_outcome"):
            told = f"{lost} requests were under way when a command was stopped and may be billed twice"
            print(f"{task}/{self.key.stem}: {told}", file=sys.stderr)
        try:
            with (
                self._row_run(adapter, adapter.cache_key(), pending) as run,
                self.folder.open_requests(task, self.key) as requests,
            ):
                return run.ask_endpoint(adapter, concurrency, budget, batch_state=state, requests=requests)
        finally:
            self._note_requests()
            self._note_facts(ModelInfo(adapter.parameters(), adapter.runtime_info(), None))
            adapter.close()

    def _note_requests(self) -> None:
        task = self.task.task.name
        lost = self.folder.requests_without_outcome(task, self.key)
        found = {"requests": self.folder.requests(task, self.key), "requests_without_outcome": lost}
        if found["requests"] and not found.items() <= self.record.items():
            self._note(**found)

    # ------------------------------------------------------------------ both

    @contextmanager
    def _row_run(
        self, adapter: LocalAdapter | EndpointAdapter, depends_on: Mapping[str, Any] | None, pending: IdSet
    ) -> Iterator[RowRun]:
        task, spec, folder = self.task, self.spec, self.folder
        everything = folder.examples(task.task.name)
        row = Row(
            f"{task.task.name}/{self.key.stem}",
            task.labels(spec),
            task.prompt(spec),
            pictures_under(self.control, everything, self.plan.options.seed, folder.path / "controls"),
            task.task.ratings,
            task.task.explanations,
            task.label_map(spec) if spec.trained_on else {},
        )
        root, used = self.plan.options.data_root, not self.options["no_cache"]
        cache: ResponseCache | None
        with cache_of(adapter, depends_on, root, used=used) as cache, folder.open_log(task.task.name, self.key) as log:
            examples = (e for e in folder.examples(task.task.name) if e.id in pending)
            yield RowRun(row, examples, len(pending), log, cache)
