"""What one or several runs say about one task, gathered under one set of row labels.

Runs are merged by task: the same name, version, split, labels and protocol make one leaderboard, anything else makes
two. A row is a model (or one of its controls) of one run; equal names of different runs are told apart by the run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

from harness.reports.numbers import MetricInfo, headline_metrics, metric_facts, number_or_none
from harness.score.predictions import EmotionPrediction, Opinion, read_opinions, read_predictions
from harness.store.run_folder import RowKey, RunFolder, adapter_kind
from harness.types import Example, Outcome

RowKind: TypeAlias = Literal["model", "reference", "control"]
KINDS: tuple[RowKind, ...] = ("model", "reference", "control")
"""The order in which kinds of rows are shown."""

ANSWERED_ENOUGH = 0.95
"""A row that answers less than this share of its images is marked and not ranked."""
CUT_OFF_TOO_OFTEN = 0.05
"""More answers cut off by the token limit than this share get a warning."""

HELD_OUT = ("leave_one_out", "leave_half_out")
"""Sets of references that remain when annotators answer: one (`human`), or half of them together (`crowd`)."""


class RowId(NamedTuple):
    """A row across runs."""

    run: int
    model: str
    control: str | None


class CellKey(NamedTuple):
    """Where a number stands; the key fields of a `results.json` cell."""

    row: RowId
    metric: str
    emotion: str | None = None
    conditioned_on: str | None = None
    slice: tuple[str, str] | None = None
    references: str = "all"


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many images a row was asked about and what came back."""

    examples: int
    answered: int
    refused: int
    unparsed: int
    failed: int
    truncated: int = 0

    @property
    def share(self) -> float:
        """Answered images among all, 0..1 (0 when none was asked)."""
        return self.answered / self.examples if self.examples else 0.0

    @property
    def cut_off(self) -> float:
        """Answers that the token limit cut off among all answers, 0..1 (0 when there are none)."""
        return self.truncated / self.answered if self.answered else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class LeaderboardRow:
    """One row; compared by identity.

    Attributes:
        id: run, model, control.
        label: unique within the task, shown to readers.
        kind: `reference` for baselines and people, `control` for a model whose image was replaced.
        is_person: answers with what people wrote (`human`, `crowd`).
        is_majority: always answers the commonest label.
        needs: what the adapter was given beyond the item (`train`, `references`).
        coverage: None if results.json does not say.
        resources: this row's entry of `models` in results.json.
    """

    id: RowId
    label: str
    kind: RowKind
    is_person: bool
    is_majority: bool
    needs: tuple[str, ...]
    coverage: Coverage | None
    resources: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size_and_licence(self) -> str:
        """What the model's card says of both, as far as it does; empty without a card."""
        card = self.resources.get("card")
        if not isinstance(card, Mapping):
            return ""
        weights = number_or_none(card, "parameters")
        size = "" if weights is None else f"{weights / 1e9:.3g} B weights"
        return ", ".join(filter(None, (size, str(card.get("licence") or ""))))

    @property
    def is_ranked(self) -> bool:
        """Answered often enough to be compared; unknown coverage is not."""
        return self.coverage is not None and self.coverage.share >= ANSWERED_ENOUGH


@dataclass(frozen=True, slots=True)
class Run:
    """One run folder, read once."""

    index: int
    folder: RunFolder
    manifest: Mapping[str, Any]
    results: Mapping[str, Any]

    @classmethod
    def read(cls, index: int, folder: RunFolder) -> Run:
        """Read manifest and results.

        Raises:
            UserError: not scored yet, or of another schema.
        """
        return cls(index, folder, folder.manifest(), folder.results())

    @property
    def name(self) -> str:
        """The folder's name, for telling runs apart."""
        return self.folder.path.resolve().name

    def entries(self, key: str, task: str) -> Iterator[Mapping[str, Any]]:
        """The entries of one list of results.json that belong to `task`."""
        return (entry for entry in self.results.get(key, ()) if entry["task"] == task)

    def task_entry(self, task: str) -> Mapping[str, Any]:
        """The manifest's entry of a task, empty if it has none."""
        return next((t for t in self.manifest.get("tasks", ()) if t["name"] == task), {})

    def model_entry(self, model: str) -> Mapping[str, Any]:
        """The manifest's entry of a model, empty if it has none."""
        return next((m for m in self.manifest.get("models", ()) if m["model"] == model), {})

    def run_entry(self, task: str, model: str, control: str | None) -> Mapping[str, Any]:
        """The manifest's record of how a row was run, empty if it has none."""
        wanted = (task, model, control)
        records = self.manifest.get("runs", ())
        return next((r for r in records if (r["task"], r["model"], r.get("control")) == wanted), {})


@dataclass(slots=True)
class TaskView:
    """Everything the report shows of one task."""

    name: str
    slug: str
    entry: Mapping[str, Any]
    split: str
    emotions: tuple[str, ...]
    runs: tuple[Run, ...]
    rows: tuple[LeaderboardRow, ...]
    cells: dict[CellKey, Mapping[str, Any]]
    facts: Mapping[str, MetricInfo]
    headlines: tuple[str, ...]

    @property
    def title(self) -> str:
        """The task's title for people."""
        return str(self.entry.get("title") or self.name)

    @property
    def dominance(self) -> str:
        """Who must have felt an emotion for it to be the dominant one, by the task's protocol."""
        if self.entry.get("protocol") == "artemis-plain":
            return "at least half of the annotators, without a tie"
        return "more than half of the annotators"

    def row(self, run: int, model: str, control: str | None = None) -> LeaderboardRow | None:
        """The row of a run's model, None if there is none."""
        wanted = RowId(run, model, control)
        return next((row for row in self.rows if row.id == wanted), None)

    def value(self, key: CellKey) -> float | None:
        """A cell's value, None if it is missing or unavailable."""
        cell = self.cells.get(key)
        return None if cell is None or cell.get("unavailable") else number_or_none(cell, "value")

    def metrics(self, **place: Any) -> set[str]:
        """Names of the metrics that have a cell whose key fields equal `place`."""
        return {key.metric for key in self.cells if all(getattr(key, k) == v for k, v in place.items())}

    def info(self, metric: str) -> MetricInfo:
        """How a metric is shown; one that results.json does not describe goes by its name, without a direction."""
        return self.facts.get(metric) or MetricInfo(metric, metric)

    def infos(self, names: Iterable[str]) -> list[MetricInfo]:
        """The metrics named, in the order in which they are displayed."""
        known = list(self.facts)
        found = (self.info(name) for name in names)
        return sorted(
            found,
            key=lambda i: (i.group_rank, known.index(i.name) if i.name in self.facts else len(known), i.name),
        )

    def run_of(self, row: LeaderboardRow) -> Run:
        """The run that a row belongs to."""
        return next(run for run in self.runs if run.index == row.id.run)

    def examples(self) -> dict[str, Example]:
        """All examples of the merged runs by id; an id's first appearance counts."""
        found: dict[str, Example] = {}
        for run in self.runs:
            for example in run.folder.examples(self.name):
                found.setdefault(example.id, example)
        return found

    def outcomes(self, row: LeaderboardRow) -> dict[str, Outcome]:
        """A row's outcomes by example id."""
        return self.run_of(row).folder.outcomes(self.name, RowKey(row.id.model, row.id.control))

    def readings(self, row: LeaderboardRow) -> dict[str, EmotionPrediction]:
        """What a text classifier read from a row's explanations, by example id; empty if nothing was read."""
        return read_predictions(self.run_of(row).folder.path, self.name, RowKey(row.id.model, row.id.control))

    def opinions(self, row: LeaderboardRow) -> dict[str, list[Opinion]]:
        """What judges and people said of a row's explanations, by example id."""
        return read_opinions(self.run_of(row).folder.path, self.name, RowKey(row.id.model, row.id.control))


def gather(runs: Sequence[Run]) -> list[TaskView]:
    """Group the tasks of several runs, in the order in which they are first named."""
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        named = [task["name"] for task in run.manifest.get("tasks", ())]
        scored = [cell["task"] for key in ("cells", "coverage") for cell in run.results.get(key, ())]
        for task in dict.fromkeys(named + scored):
            entry = run.task_entry(task)
            identity = (task, entry.get("version"), _split(run, task), _emotions(run, task), entry.get("protocol"))
            groups.setdefault(identity, []).append(run)
    used: Counter[str] = Counter()
    views = []
    for (name, *_), members in groups.items():
        used[name] += 1
        slug = name if used[name] == 1 else f"{name}-{used[name]}"
        views.append(_merge(name, slug, tuple(members)))
    return views


def _split(run: Run, task: str) -> str:
    declared = run.task_entry(task).get("split")
    return str(declared or next((cell["split"] for cell in run.entries("cells", task)), ""))


def _emotions(run: Run, task: str) -> tuple[str, ...]:
    declared = run.task_entry(task).get("emotions")
    if declared:
        return tuple(declared)
    confusion = next(run.entries("confusion", task), None)
    if confusion is not None:
        return tuple(confusion["labels"])
    return tuple(dict.fromkeys(c["emotion"] for c in run.entries("cells", task) if c.get("emotion")))


def _merge(name: str, slug: str, runs: tuple[Run, ...]) -> TaskView:
    cells: dict[CellKey, Mapping[str, Any]] = {}
    facts: dict[str, MetricInfo] = {}
    ids: dict[RowId, None] = {}
    for run in runs:
        facts = metric_facts(run.results) | facts
        ids |= {RowId(run.index, key.model, key.control): None for key in run.folder.rows(name)}
        for entry in (*run.entries("coverage", name), *run.entries("cells", name)):
            ids[RowId(run.index, entry["model"], entry.get("control"))] = None
        for cell in run.entries("cells", name):
            cut = cell.get("slice")
            key = CellKey(
                RowId(run.index, cell["model"], cell.get("control")),
                cell["metric"],
                cell.get("emotion"),
                cell.get("conditioned_on"),
                (str(cut["key"]), str(cut["value"])) if cut else None,
                cell.get("references") or "all",
            )
            cells[key] = cell
    clashes = Counter((row.model, row.control) for row in ids)
    rows = [_row(runs, name, row_id, clashes[row_id.model, row_id.control] > 1) for row_id in ids]
    first = runs[0]
    return TaskView(
        name,
        slug,
        first.task_entry(name),
        _split(first, name),
        _emotions(first, name),
        runs,
        tuple(sorted(rows, key=lambda row: KINDS.index(row.kind))),
        cells,
        facts,
        tuple(dict.fromkeys(metric for run in runs for metric in headline_metrics(run.results))),
    )


def _row(runs: Iterable[Run], task: str, row_id: RowId, is_ambiguous: bool) -> LeaderboardRow:
    run = next(run for run in runs if run.index == row_id.run)
    entry = run.model_entry(row_id.model)
    adapter = adapter_kind({"model": row_id.model, **entry})
    label = row_id.model if row_id.control is None else f"{row_id.model}, {row_id.control} image"
    kind: RowKind = "reference" if adapter in ("person", "baseline") else "model"
    if row_id.control is not None:
        kind = "control"
    wanted = (row_id.model, row_id.control)
    counts = next((e for e in run.entries("coverage", task) if (e["model"], e.get("control")) == wanted), None)
    names = ("examples", "answered", "refused", "unparsed", "failed", "truncated")
    return LeaderboardRow(
        row_id,
        f"{label} (run {run.index + 1})" if is_ambiguous else label,
        kind,
        adapter == "person",
        (entry.get("adapter") or row_id.model) == "majority",
        tuple(entry.get("needs") or run.run_entry(task, row_id.model, row_id.control).get("needs") or ()),
        None if counts is None else Coverage(*(int(counts.get(name) or 0) for name in names)),
        next((m for m in run.results.get("models", ()) if m["model"] == row_id.model), {}),
    )


def reasons_apart(view: TaskView, views: Sequence[TaskView]) -> list[str]:
    """A sentence for each other leaderboard of the task of this name: what differs."""
    sentences = []
    for other in views:
        if other.name != view.name or other is view:
            continue
        pairs = {
            "version": (view.entry.get("version"), other.entry.get("version")),
            "split": (view.split, other.split),
            "protocol": (view.entry.get("protocol"), other.entry.get("protocol")),
        }
        found = [f"{name} {theirs}, not {ours}" for name, (ours, theirs) in pairs.items() if ours != theirs]
        if view.emotions != other.emotions:
            found.append("other labels, or in another order")
        runs = ", ".join(run.name for run in other.runs)
        sentences.append(f"{runs} ran this task with {' and '.join(found)}: a leaderboard of its own.")
    return sentences
