"""What a run will do, decided and checked before anything is written; and the manifest, which says what was done.

A run's identity is its tasks, models with settings, prompts, split, seed and controls. The same identity resumes in
the same folder; data and weights are compared by fingerprint on top.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from harness.adapters.base import EndpointAdapter, LocalAdapter
from harness.environment import __version__, describe_environment
from harness.errors import nearest
from harness.plan.contamination import Trained, image_key, refuse_overlap, trained_images
from harness.plan.models import ModelSpec, typed_settings
from harness.plan.registry import Registry, checkpoint_folder, find_task, metric_registry, open_reader
from harness.redact import redact
from harness.tasks.prompts import CONTEXT_MARK, DEFAULT_PROMPT, render
from harness.tasks.readers.base import Reader
from harness.types import SCHEMA, Control, Example, Item, RowKey, Task, Usage, UserError, task_to_json

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class Options:
    """The parts of a `harness run` command that shape what is asked and how.

    Attributes:
        offered: values given to every adapter whose `__init__` takes them (device, dtype, lexicon …).
    """

    data_root: Path
    split: str = "test"
    seed: int = 0
    limit: int | None = None
    ids: frozenset[str] | None = None
    controls: tuple[Control, ...] = ()
    offered: Mapping[str, Any] = dataclasses.field(default_factory=dict)


CONTROLS: tuple[Control, ...] = ("blank", "shuffled")
"""What is shown instead of the image: a grey one, or that of another example. A model whose scores do not drop does not
look at the image."""


def parse_controls(text: str | None) -> list[Control]:
    """Read a `--controls` value.

    Raises:
        UserError: an unknown control.
    """
    wanted = [c.strip() for c in (text or "").split(",") if c.strip()]
    for control in wanted:
        if control not in CONTROLS:
            raise UserError(f"--controls: unknown control {control!r}; known: {', '.join(CONTROLS)}")
    return [c for c in CONTROLS if c in wanted]


class Selection:
    """The examples of a split that `--limit` and `--ids-file` leave, in the reader's order.

    They are read from the dataset whenever they are needed and never all held at once; their ids are.

    Args:
        reader, split: where they come from.
        limit: the first so many only; None: all.
        ids: these only; None: all.

    Attributes:
        available: number of examples in the split before limit and ids.
        ids: what is selected.

    Raises:
        UserError: the split is empty, or lacks one of the ids.
    """

    def __init__(self, reader: Reader, split: str, limit: int | None, ids: frozenset[str] | None) -> None:
        self._reader, self._split = reader, split
        self.available = 0
        self.ids: set[str] = set()
        unknown = set(ids or ())
        for example in reader.examples(split):
            self.available += 1
            unknown.discard(example.id)
            if (ids is None or example.id in ids) and len(self.ids) != limit:
                self.ids.add(example.id)
        task = reader.task.name
        if not self.available:
            raise UserError(f"task {task!r} has no examples in split {split!r}; {nearest('', reader.splits())}")
        if unknown:
            raise UserError(f"--ids-file: not in {task}/{split}: {', '.join(sorted(unknown)[:5])}")

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[Example]:
        found = (example for example in self._reader.examples(self._split) if example.id in self.ids)
        return itertools.islice(found, len(self))

    def with_those_of(self, known: set[str]) -> Iterator[Example]:
        """The selected examples and those of `known`, in the reader's order."""
        return (e for e in self._reader.examples(self._split) if e.id in self.ids or e.id in known)


@dataclass(frozen=True)
class TaskPlan:
    """One task of a run: its reader and the selected examples."""

    task: Task
    reader: Reader
    split: str
    examples: Selection

    def source(self, spec: ModelSpec) -> Task:
        """The task that `spec` learns from: this one, or the one that it is said to be trained on."""
        return self.task if spec.trained_on is None else find_task(spec.trained_on)

    def labels(self, spec: ModelSpec) -> tuple[str, ...]:
        """The labels that `spec` may answer with: the task's, or those of the task that it was trained on."""
        return self.source(spec).emotions

    def label_map(self, spec: ModelSpec) -> Mapping[str, str]:
        """Answered label -> label of this task; what is not in it has no counterpart here.

        For a model trained on another task, the card's `label_maps` entry of that task, else labels of equal name.

        Raises:
            UserError: the two tasks share no label and the card maps none.
        """
        source = self.source(spec)
        shared = {label: label for label in source.emotions if label in self.task.emotions}
        found = self.task.label_maps.get(source.name, shared)
        if not found:
            raise UserError(
                f"task {self.task.name!r} shares no label with {source.name!r}; map them in its card: "
                f"label_maps: {{{source.name}: {{LABEL THERE: LABEL HERE}}}}"
            )
        return found

    def training(self, spec: ModelSpec, root: Path) -> Iterator[Example]:
        """The training split of the task that `spec` learns from."""
        reader = self.reader if spec.trained_on is None else open_reader(self.source(spec), root)
        return reader.examples("train")

    def prompt(self, spec: ModelSpec) -> str:
        """The prompt text that `spec` gets on this task.

        Raises:
            UserError: the task has no prompt of that name.
        """
        prompts = {"default": DEFAULT_PROMPT, **self.task.prompts}
        if spec.prompt not in prompts:
            raise UserError(f"task {self.task.name!r} has no prompt {spec.prompt!r}; {nearest(spec.prompt, prompts)}")
        return render(prompts[spec.prompt], self.labels(spec), self.task.ratings)


@dataclass(frozen=True)
class Plan:
    """Everything `harness run` will do."""

    tasks: tuple[TaskPlan, ...]
    models: tuple[ModelSpec, ...]
    registry: Registry
    options: Options

    def identity(self) -> dict[str, Any]:
        """What makes two runs the same run, as plain values."""
        return {
            "tasks": {t.task.name: {"version": t.task.version, "split": t.split} for t in self.tasks},
            "models": {
                m.name: {"adapter": m.adapter, "settings": dict(m.settings)}
                | ({} if m.trained_on is None else {"trained_on": m.trained_on})
                for m in self.models
            },
            "prompts": {f"{t.task.name}/{m.name}": t.prompt(m) for t in self.tasks for m in self.models},
            "seed": self.options.seed,
            "controls": list(self.options.controls),
        }

    def default_folder(self) -> Path:
        """`runs/<tasks>-<first 8 hex of the identity>`, so that the bare command resumes."""
        names = "+".join(t.task.name for t in self.tasks)
        return Path("runs") / f"{names}-{identity_hash(self.identity())[:8]}"

    def build(self, task: TaskPlan, spec: ModelSpec) -> LocalAdapter | EndpointAdapter:
        """Construct the adapter of a row (weights are not loaded yet).

        Raises:
            UserError: unknown setting, wrong value, or a checkpoint that has not been trained.
        """
        adapter: LocalAdapter | EndpointAdapter = self.registry.load(spec.adapter)(**self.arguments(task, spec))
        return adapter

    def arguments(self, task: TaskPlan, spec: ModelSpec) -> dict[str, Any]:
        """What the adapter of a row is constructed with: the user's settings, and what the command line offers.

        Raises:
            UserError: as `build`.
        """
        cls = self.registry.load(spec.adapter)
        offered = dict(self.options.offered) | {"seed": self.options.seed}
        if cls.trained_per_task and "checkpoint" not in spec.settings:
            trained_on = task.reader.trained_task if spec.trained_on is None else spec.trained_on
            folder = checkpoint_folder(self.options.data_root, trained_on, spec.adapter)
            if not folder.is_dir():
                raise UserError(
                    f"no checkpoint of {spec.adapter!r} for task {trained_on!r} at {folder}; train one: "
                    f"harness train {spec.adapter} --task {trained_on}, or name one: "
                    f"--models {spec.adapter}:checkpoint=PATH|HUB_ID"
                )
            offered["checkpoint"] = str(folder)
        return typed_settings(cls, spec, offered)

    def check_training(self, task: TaskPlan, spec: ModelSpec) -> None:
        """Check that there are training examples, for a model that needs some.

        Raises:
            UserError: there are none.
        """
        if next(task.training(spec, self.options.data_root), None) is None:
            source = task.source(spec).name
            raise UserError(f"model {spec.name!r} needs training examples; task {source!r} has no split 'train'")

    def check_overlap(self, task: TaskPlan, spec: ModelSpec) -> None:
        """Refuse a model that was trained on images it would be asked about, unless `overlap=allow` was given.

        Known are the images of `trained_on=TASK` and those recorded in the checkpoint's folder by `harness train`,
        those of the checkpoint that it started from included.

        Raises:
            UserError: there are such images.
        """
        if spec.overlap_allowed:
            return
        source, root = task.source(spec), self.options.data_root
        weights = spec.settings.get("lora", spec.settings.get("checkpoint"))
        seen: list[Trained] = []
        if weights is not None:
            seen = trained_images(Path(weights))
        elif getattr(self.registry.load(spec.adapter), "trained_per_task", False):  # without this task's own training
            seen = trained_images(checkpoint_folder(root, source.name, spec.adapter))[1:]
        if spec.trained_on is not None and (weights is None or not seen):
            seen = [(source.name, frozenset(map(image_key, task.training(spec, root)))), *seen]
        for trained_on, images in seen:
            refuse_overlap(spec.name, trained_on, images, task.task.name, task.examples)


def make_plan(tasks: Sequence[str], models: Sequence[ModelSpec], registry: Registry, options: Options) -> Plan:
    """Resolve names and select examples.

    Raises:
        UserError: unknown task, model or metric, missing data, an empty split, ids that are not in it.
    """
    for spec in models:
        registry.target(spec.adapter)
    loaded = [find_task(name) for name in tasks]
    metrics = metric_registry()
    for metric in itertools.chain.from_iterable(task.metrics or () for task in loaded):
        metrics.target(metric)
    if not loaded:
        raise UserError("--tasks: name at least one task; see: harness list tasks")
    names = [task.name for task in loaded]
    if len(set(names)) != len(names):
        raise UserError(f"--tasks: a task is named twice in {', '.join(names)}")
    planned = []
    for card in loaded:
        reader = open_reader(card, options.data_root)
        chosen = Selection(reader, options.split, options.limit, options.ids)
        planned.append(TaskPlan(card, reader, options.split, chosen))
    plan = Plan(tuple(planned), tuple(models), registry, options)
    for task, spec in itertools.product(plan.tasks, plan.models):
        task.label_map(spec)
        plan.check_overlap(task, spec)
    plan.identity()  # renders every prompt, so that a wrong prompt name ends here
    return plan


# ------------------------------------------------------------------------------------------ identity


def identity_hash(identity: Mapping[str, Any]) -> str:
    """sha256 of the canonical JSON of an identity, hex."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def differences(old: Any, new: Any, where: str = "") -> list[str]:
    """Lines naming where two nested plain values differ, `path: old -> new`."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = list(dict.fromkeys([*old, *new]))
        return [d for k in keys for d in differences(old.get(k), new.get(k), f"{where}.{k}" if where else str(k))]
    return [] if old == new else [f"{where}: {_short(old)} -> {_short(new)}"]


def _short(value: Any) -> str:
    text = "absent" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."


# ------------------------------------------------------------------------------------------ manifest

DECIDES_ANSWERS = ("dataset", "options", "emotions", "ratings", "explanations", "label_maps")
"""Keys of a card that decide what models are asked and may answer; others may change while a run is resumed."""


def new_manifest(plan: Plan, command: list[str]) -> dict[str, Any]:
    """A manifest for a run that starts now."""
    identity = plan.identity()
    manifest: dict[str, Any] = redact(
        {
            "schema": SCHEMA,
            "identity": identity_hash(identity),
            "identity_of": identity,
            "version": __version__,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": command,
            "data_root": str(plan.options.data_root),
            "tasks": [task_record(t) for t in plan.tasks],
            "models": [
                {
                    "model": m.name,
                    "adapter": m.adapter,
                    "settings": dict(m.settings),
                    "prompt": m.prompt,
                    "group": m.group,
                    "kind": getattr(plan.registry.load(m.adapter), "kind", "model"),
                }
                for m in plan.models
            ],
            "runs": [],
            "environment": describe_environment(),
        }
    )
    return manifest


def task_record(plan: TaskPlan) -> dict[str, Any]:
    """A task's card, data fingerprint and selection, as plain values."""
    return {
        **task_to_json(plan.task),
        "split": plan.split,
        "examples": len(plan.examples),
        "available": plan.examples.available,
        "notes": plan.reader.notes(),
        "facts": [dataclasses.astuple(row) for row in plan.reader.facts],
        "preprocessing": plan.reader.preprocessing,
        "fingerprint": plan.reader.fingerprint(),
    }


def check_resumable(manifest: Mapping[str, Any], plan: Plan, folder: Path) -> None:
    """Refuse to continue the run of a manifest with another plan.

    Raises:
        UserError: another identity, or the data behind a task has changed; the message names the differences.
    """
    wanted = redact(plan.identity())
    found = differences(manifest.get("identity_of"), wanted)
    data = {t["name"]: t.get("fingerprint") for t in manifest["tasks"]}
    found += differences(data, {t.task.name: t.reader.fingerprint() for t in plan.tasks}, "data")
    for record, task in zip(manifest["tasks"], plan.tasks, strict=False):  # of equal names: the identity holds them
        known = {key: record[key] for key in DECIDES_ANSWERS if key in record}
        now = json.loads(json.dumps(redact(task_to_json(task.task))))
        found += differences(known, {key: now[key] for key in known}, f"card.{task.task.name}")
    if found:
        shown = "; ".join(found[:4]) + (f" (+{len(found) - 4} more)" if len(found) > 4 else "")
        raise UserError(f"{folder} holds another run: {shown}. Choose another --out, or leave --out away")


def note_environment(manifest: dict[str, Any]) -> None:
    """Note under `environments` when a run is continued elsewhere: versions, processor or git state that differ."""
    now = describe_environment()
    seen = [manifest["environment"], *(later["environment"] for later in manifest.get("environments", []))]
    changed = differences({**seen[-1], "gpu": None}, {**now, "gpu": None})
    if changed:
        since = datetime.now(UTC).isoformat(timespec="seconds")
        later = {"since": since, "changed": changed, "environment": redact(now)}
        manifest["environments"] = [*manifest.get("environments", []), later]


def run_record(manifest: dict[str, Any], task: str, row: RowKey) -> dict[str, Any]:
    """The mutable record of a (task, model, control) row in the manifest, made when absent."""
    for record in manifest["runs"]:
        if (record["task"], record["model"], record["control"]) == (task, row.model, row.control):
            found: dict[str, Any] = record
            return found
    record = {"task": task, "model": row.model, "control": row.control}
    manifest["runs"].append(record)
    return record


def check_fingerprint(record: Mapping[str, Any], fingerprint: Mapping[str, Any], folder: Path) -> None:
    """Refuse to add answers of a changed model to a row.

    Raises:
        UserError: the model's fingerprint differs from the recorded one.
    """
    if "fingerprint" not in record:
        return
    found = differences(record["fingerprint"], redact(fingerprint))
    if found:
        raise UserError(
            f"model {record['model']!r} has changed since {folder} was begun: {'; '.join(found[:4])}. "
            f"Choose another --out for the changed model"
        )


# ----------------------------------------------------------------------- what endpoints take at most


def largest_usage(adapter: EndpointAdapter, task: TaskPlan, spec: ModelSpec, examples: Iterable[Example]) -> Usage:
    """The most that one request about each of `examples` can take, added up; None for what is unknown of any."""
    labels, prompt = task.labels(spec), task.prompt(spec)
    total = Usage(prompt_tokens=0, completion_tokens=0, cost_usd=0.0)
    for e in examples:
        most = adapter.max_usage(Item(e.id, e.image, labels, prompt.replace(CONTEXT_MARK, e.context)))
        total = Usage(
            prompt_tokens=_sum(total.prompt_tokens, most.prompt_tokens),
            completion_tokens=_sum(total.completion_tokens, most.completion_tokens),
            cost_usd=_sum(total.cost_usd, most.cost_usd),
        )
    return total


def _sum(one: Number | None, other: Number | None) -> Number | None:
    return None if one is None or other is None else one + other


def describe_requests(
    plan: Plan, task: TaskPlan, spec: ModelSpec, examples: Iterable[Example], count: int
) -> str | None:
    """One line about tokens and dollars of `count` requests; None for a model that sends none."""
    adapter = plan.build(task, spec)
    if not isinstance(adapter, EndpointAdapter):
        return None
    most = largest_usage(adapter, task, spec, examples)
    tokens = "tokens unknown"
    if most.prompt_tokens is not None and most.completion_tokens is not None:
        tokens = f"at most {most.prompt_tokens:,} prompt and {most.completion_tokens:,} answer tokens"
    dollars = "price unknown" if most.cost_usd is None else f"at most ${most.cost_usd:.2f}"
    return f"{count} requests, {tokens}, {dollars} (retries that the endpoint bills come on top)"


def check_prices(plan: Plan) -> None:
    """Check that every request's price is known, which `--max-cost` needs.

    Raises:
        UserError: an endpoint's price is unknown.
    """
    for task in plan.tasks:
        for spec in plan.models:
            adapter = plan.build(task, spec)
            if isinstance(adapter, EndpointAdapter):
                most = largest_usage(adapter, task, spec, itertools.islice(task.examples, 1))
                if most.cost_usd is None:
                    raise UserError(
                        f"--max-cost: the price of {spec.name!r} is unknown; give it in US$ per million tokens: "
                        f"{spec.adapter}:price_in=…,price_out=…"
                    )
