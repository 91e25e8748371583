"""Scores of one task, as `results.json` holds them: cells, coverage, confusion matrices, calibration.

A function of examples and outcomes; `docs/metrics.md` says what every number means. The rules:

- an example without an outcome counts as `Failed("missing")`; label metrics keep every eligible example;
- text metrics use answered examples, and every cell shows its n;
- CIDEr's document frequencies are those of the whole split;
- intervals: Wilson for proportions, bootstrap over examples for other aggregates, none for set-valued metrics;
- a row that answers with a held-out annotation (`human`) is scored without that annotation, and every model also gets
  `leave_one_out` cells on the same remaining references.

Examples and outcomes are read in order and never held: first for what is known of a whole row (which kinds of answers
it gives, which annotations people hold out), then in blocks of a few thousand, of which only the statistics stay.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from harness.score.predictions import EmotionPrediction
from harness.score.statistics import MIN_FOR_BOOTSTRAP, Interval, bootstrap_interval, bootstrap_sums, wilson
from harness.store.run_folder import RowKey
from harness.tasks.metrics import languages
from harness.tasks.metrics.affect import WordAffect
from harness.tasks.metrics.alignment import Consistency
from harness.tasks.metrics.base import (
    AdditiveMetric,
    Context,
    Features,
    FloatArray,
    Metric,
    ScoredExample,
    SetMetric,
    Statistics,
    Unavailable,
    View,
    traits,
)
from harness.tasks.metrics.caption_engine import Ahead, CaptionEngine
from harness.tasks.metrics.probabilities import ECEShares
from harness.types import (
    VAD_DIMENSIONS,
    Annotation,
    Answer,
    Example,
    Failed,
    Outcome,
    Refusal,
    Task,
    Unparsed,
    UserError,
)

References: TypeAlias = Literal["all", "same_emotion", "leave_one_out", "leave_half_out"]
Outcomes: TypeAlias = Mapping[RowKey, Mapping[str, Outcome]]
Indexes: TypeAlias = npt.NDArray[np.int32]

NOTHING = "no example counts here"
BLOCK = 2_000
"""Examples that are held at a time."""

_BLOCKS_AHEAD = 2
"""Blocks whose captions are scored in the background while another is worked on."""

_SUM_TOLERANCE = 0.01
_SUMS_AT_ONCE = 1 << 16
_MISSING = Failed("missing", "no outcome was recorded for this example")
TEXTUAL = frozenset({"text", "style"})
"""Families of metrics that read tokens, for which a Java program is started."""


# ------------------------------------------------------------------------------------------- outcomes


def checked_outcomes(
    task: Task, examples: Sequence[Example], key: RowKey, found: Mapping[str, Outcome]
) -> list[Outcome]:
    """The outcome of each example, `Failed("missing")` if there is none.

    Raises:
        UserError: repeated example ids, outcomes of unknown ids, labels or probabilities outside the task's.
    """
    _check_ids(task, Counter(example.id for example in examples), {key: found})
    return [_outcome_of(task, key, example, found) for example in examples]


def _check_ids(task: Task, ids: Counter[str], rows: Outcomes) -> None:
    """Check that ids are unique, and that outcomes are of those ids."""
    if len(ids) < ids.total():
        repeated = _listed(id_ for id_, count in ids.items() if count > 1)
        raise UserError(f"task {task.name}: example ids must be unique; repeated: {repeated}")
    for key, found in rows.items():
        unknown = found.keys() - ids.keys()
        if unknown:
            known = f"{len(unknown)} outcomes of ids that task {task.name} lacks"
            raise UserError(f"{key.stem}: {known}: {_listed(unknown)}")


def _outcome_of(task: Task, key: RowKey, example: Example, found: Mapping[str, Outcome]) -> Outcome:
    outcome = found.get(example.id, _MISSING)
    if not isinstance(outcome, Answer):
        return outcome
    where = f"{key.stem}, example {example.id}"
    if outcome.emotion and outcome.emotion not in task.emotions:
        raise UserError(f"{where}: emotion {outcome.emotion!r} is not one of {', '.join(task.emotions)}")
    if not all(0 <= index < len(example.annotations) for index in held_out(outcome)):
        raise UserError(f"{where}: held_out {outcome.held_out} of {len(example.annotations)} annotations")
    if outcome.emotion_probs is not None:
        strange = outcome.emotion_probs.keys() - set(task.emotions)
        if strange:
            raise UserError(f"{where}: emotion_probs names {_listed(strange)}, not labels of task {task.name}")
        total = sum(outcome.emotion_probs.values())
        # each may have been rounded to two decimals
        if abs(total - 1) > max(_SUM_TOLERANCE, 0.005 * len(outcome.emotion_probs)):
            raise UserError(f"{where}: emotion_probs sum to {total:.4g}, expected 1")
    return outcome


def _listed(ids: Iterable[str]) -> str:
    names = sorted(ids)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def held_out(outcome: Outcome) -> tuple[int, ...]:
    """Indexes of the annotations that answer, in ascending order; empty for a model."""
    if not isinstance(outcome, Answer) or outcome.held_out is None:
        return ()
    return tuple(sorted(outcome.held_out)) if isinstance(outcome.held_out, tuple) else (outcome.held_out,)


# ------------------------------------------------------------------------------------- reference sets


@dataclass(frozen=True)
class ReferenceSet:
    """One model against one set of references.

    Attributes:
        key: model and control.
        references: which references.
        is_main: True for the set that stands for the model: `leave_one_out` if it answers with a held-out annotation
            (`human`), `leave_half_out` if it answers with half of them (`crowd`), `all` otherwise.
        withheld: example id -> annotations that are left out, for the last two.
    """

    key: RowKey
    references: References
    is_main: bool
    withheld: Mapping[str, tuple[int, ...]] = field(default_factory=dict, repr=False, compare=False)

    def scored(self, example: Example, outcome: Outcome) -> ScoredExample | None:
        """The example as it is scored; None if it has no such references."""
        if self.references == "all":
            return ScoredExample(example, outcome, example.annotations, example.emotion_histogram)
        if self.references == "same_emotion":
            emotion = outcome.emotion if isinstance(outcome, Answer) else None
            same = tuple(a for a in example.annotations if a.emotion == emotion)
            return ScoredExample(example, outcome, same, example.emotion_histogram)
        if example.id not in self.withheld:
            return None
        return _without(example, outcome, self.withheld[example.id])


def _without(example: Example, outcome: Outcome, indexes: Sequence[int]) -> ScoredExample:
    """The example without some annotations, neither among the references nor in the histogram."""
    kept = tuple(a for index, a in enumerate(example.annotations) if index not in indexes)
    counts = Counter(example.emotion_histogram)
    counts.subtract(example.annotations[index].emotion for index in indexes)
    return ScoredExample(example, outcome, kept, {emotion: count for emotion, count in counts.items() if count > 0})


def reference_sets(rows: Mapping[RowKey, RowSurvey]) -> list[ReferenceSet]:
    """Every set to score, in the order of the models.

    Raises:
        UserError: two rows of one kind hold out different annotations of the same example.
    """
    withheld = {
        kind: _agreed({key: row.held_out for key, row in rows.items() if row.kind == kind})
        for kind in dict.fromkeys(row.kind for row in rows.values() if row.kind is not None)
    }
    found: list[ReferenceSet] = []
    for key, row in rows.items():
        if row.kind is None:
            found.append(ReferenceSet(key, "all", is_main=True))
            if key.control is None:
                found.append(ReferenceSet(key, "same_emotion", is_main=False))
        for kind, indexes in withheld.items():
            if key.control is None and row.kind in (None, kind):
                found.append(ReferenceSet(key, kind, row.kind == kind, indexes))
    return found


def _agreed(people: Mapping[RowKey, Mapping[str, tuple[int, ...]]]) -> dict[str, tuple[int, ...]]:
    """Example id -> held-out annotations, which must be the same for all rows."""
    agreed: dict[str, tuple[int, ...]] = {}
    for key, found in people.items():
        for example_id, indexes in found.items():
            if agreed.setdefault(example_id, indexes) != indexes:
                raise UserError(
                    f"{key.stem}: holds out annotations {indexes} of example {example_id}, another row "
                    f"{agreed[example_id]}; score rows that hold out different annotations in separate runs"
                )
    return agreed


AGREEMENT = "agreement of annotators"
"""Key under which images are cut by the share of annotators who chose the commonest emotion."""

_AGREEMENT_LEVELS = ((0.8, "80 % or more agree"), (0.5, "more than half agree"), (0.0, "no majority"))


def agreement_level(histogram: Mapping[str, int]) -> str | None:
    """How far the annotators of an image agree, None without annotations."""
    total = sum(histogram.values())
    if not total:
        return None
    share = max(histogram.values()) / total
    return next(name for least, name in _AGREEMENT_LEVELS if share >= least and (least != 0.5 or share > 0.5))


# --------------------------------------------------------------------------------------- first reading


@dataclass
class RowSurvey:
    """What the first reading learns of one row of the leaderboard."""

    counts: Counter[type[Outcome]] = field(default_factory=Counter)
    traits: set[str] = field(default_factory=set)
    languages: Counter[str] = field(default_factory=Counter)
    held_out: dict[str, tuple[int, ...]] = field(default_factory=dict)
    truncated: int = 0

    def add(self, example: Example, outcome: Outcome) -> None:
        """Take note of one outcome."""
        self.counts[type(outcome)] += 1
        self.traits.update(traits(outcome))
        if isinstance(outcome, Answer):
            self.truncated += outcome.truncated
            language = languages.of_example(example.meta, outcome.explanation)
            self.languages[language] += 1
            self.traits.add(f"language:{language}")
            if indexes := held_out(outcome):
                self.held_out[example.id] = indexes
                self.traits.add("half" if isinstance(outcome.held_out, tuple) else "one")

    @property
    def kind(self) -> Literal["leave_one_out", "leave_half_out"] | None:
        """Which references are left for a row that answers with annotations; None for a model."""
        if not self.held_out:
            return None
        return "leave_half_out" if "half" in self.traits else "leave_one_out"

    def coverage(self, task: Task, key: RowKey) -> dict[str, Any]:
        """How many examples were answered (in which languages), refused, unparsed, failed, cut off by the limit."""
        return {
            "task": task.name,
            "model": key.model,
            "control": key.control,
            "examples": self.counts.total(),
            "answered": self.counts[Answer],
            "refused": self.counts[Refusal],
            "unparsed": self.counts[Unparsed],
            "failed": self.counts[Failed],
            "truncated": self.truncated,
            "languages": dict(sorted(self.languages.items())),
        }


def survey(task: Task, examples: Iterable[Example], rows: Outcomes) -> dict[RowKey, RowSurvey]:
    """What is known of each row after reading everything once.

    Raises:
        UserError: see `checked_outcomes`.
    """
    found = {key: RowSurvey() for key in rows}
    counts: Counter[str] = Counter()
    for example in examples:
        counts[example.id] += 1
        for key, outcomes in rows.items():
            found[key].add(example, _outcome_of(task, key, example, outcomes))
    _check_ids(task, counts, rows)
    return found


# ------------------------------------------------------------------------------------------ statistics


class TableKey(NamedTuple):
    """A model, the references it is scored against, and the emotion of the `annotated` view (None: all examples)."""

    row: RowKey
    references: References
    emotion: str | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its interval and n, or the reason why there is none."""

    value: float | None
    interval: Interval | None
    n: int
    unavailable: str | None


class Compact(NamedTuple):
    """`Statistics` in the smallest type that holds them: most are counts below 256."""

    values: npt.NDArray[Any]
    eligible: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, statistics: Statistics) -> Compact:
        """The same numbers."""
        values = statistics.values
        small = values.size > 0 and values.min() >= 0 and values.max() <= 255 and (values == np.floor(values)).all()
        return cls(values.astype(np.uint8) if small else values, statistics.eligible)

    def rows(self, mask: npt.NDArray[np.bool_]) -> FloatArray:
        """The statistics of the examples of `mask` (n,), of those that count."""
        return self.values[self.eligible & mask].astype(np.float64)


class Unpacked(Mapping[str, Statistics]):
    """`Statistics` by name, made anew from compact ones each time that they are asked for."""

    def __init__(self, compact: Mapping[str, Compact]) -> None:
        self._compact = compact

    def __getitem__(self, name: str) -> Statistics:
        found = self._compact[name]
        return Statistics(found.values.astype(np.float64), found.eligible)

    def __iter__(self) -> Iterator[str]:
        return iter(self._compact)

    def __len__(self) -> int:
        return len(self._compact)


class Table:
    """Metrics of one list of scored examples, with the statistics of every example computed once, block by block.

    Attributes:
        metrics: what is computed, by name.
    """

    def __init__(self, metrics: Sequence[Metric], found: Collection[str]) -> None:
        self.metrics = {metric.name: metric for metric in metrics}
        self._statistics: dict[str, Compact] = {}
        self._features: dict[str, Features] = {}
        self._blocks: dict[str, list[Any]] = {}
        self._reasons: dict[str, str] = {}
        self._size = 0
        for name, metric in self.metrics.items():
            if (reason := metric.missing() or metric.lacking(found)) is not None:
                self._reasons[name] = reason

    def add(self, rows: Sequence[ScoredExample]) -> None:
        """Compute the statistics of a block."""
        self._size += len(rows)
        computed: set[str] = set()
        for name, metric in self.metrics.items():
            shared = metric.shared
            if name in self._reasons or shared in computed:
                continue
            computed.add(shared)
            try:
                if isinstance(metric, AdditiveMetric):
                    self._blocks.setdefault(shared, []).append(Compact.of(metric.statistics(rows)))
                elif isinstance(metric, SetMetric):
                    self._blocks.setdefault(shared, []).append(metric.features(rows))
            except Unavailable as reason:
                self._reasons[name] = str(reason)
                computed.discard(shared)

    def close(self) -> None:
        """Join the blocks; nothing is added afterwards."""
        if not self._size:
            self.add([])
        joined: dict[str, Any] = {}
        for name, metric in self.metrics.items():
            shared = metric.shared
            if name in self._reasons:
                continue
            if shared not in joined:
                values, eligible = zip(*self._blocks.pop(shared), strict=True)
                kind = Compact if isinstance(metric, AdditiveMetric) else Features
                joined[shared] = kind(np.concatenate(values), np.concatenate(eligible))
            if isinstance(metric, AdditiveMetric):
                self._statistics[name] = joined[shared]
            else:
                self._features[name] = joined[shared]

    def __len__(self) -> int:
        return self._size

    @property
    def statistics(self) -> Mapping[str, Statistics]:
        """By name of an additive metric, after `close`; of all examples that were added, in that order."""
        return Unpacked(self._statistics)

    def estimates(
        self, names: Sequence[str], mask: npt.NDArray[np.bool_], draws: int, seed: int
    ) -> dict[str, Estimate]:
        """Estimates over the examples of `mask` (n,), for the metrics named, with so many bootstrap replicates."""
        intervals = self._bootstrap(names, mask, draws, seed)
        return {name: self._estimate(name, mask, intervals.get(name)) for name in names}

    def _estimate(self, name: str, mask: npt.NDArray[np.bool_], interval: Interval | None) -> Estimate:
        if name in self._reasons:
            return Estimate(None, None, 0, self._reasons[name])
        metric = self.metrics[name]
        found = self._statistics[name] if name in self._statistics else self._features[name]
        counted = found.eligible & mask
        n = int(counted.sum())
        if n == 0:
            return Estimate(None, None, 0, NOTHING)
        try:
            if isinstance(metric, AdditiveMetric):
                assert isinstance(found, Compact)
                value = float(metric.value(found.rows(mask).sum(0)))
            else:
                assert isinstance(metric, SetMetric)
                value = metric.value(found.values[counted])
        except Unavailable as reason:
            return Estimate(None, None, n, str(reason))
        if not math.isfinite(value):
            return Estimate(None, None, n, "the value is not a finite number")
        return Estimate(value, wilson(value * n, n) if metric.proportion else interval, n, None)

    def _bootstrap(
        self, names: Sequence[str], mask: npt.NDArray[np.bool_], draws: int, seed: int
    ) -> dict[str, Interval]:
        """Bootstrap intervals of the additive metrics that need one, all from the same resampled examples."""
        chosen = [n for n in names if n in self._statistics and not self.metrics[n].proportion]
        chosen = [n for n in chosen if (self._statistics[n].eligible & mask).sum() >= MIN_FOR_BOOTSTRAP]
        if not chosen or not draws:
            return {}
        shared = {self.metrics[n].shared: self._statistics[n].values for n in chosen}
        ends = np.cumsum([0, *(values.shape[1] for values in shared.values())]).tolist()
        joined = np.empty((int(mask.sum()), ends[-1]))
        for values, start, end in zip(shared.values(), ends, ends[1:], strict=False):
            joined[:, start:end] = values[mask]
        sums = dict(zip(shared, np.split(bootstrap_sums(joined, draws, seed), ends[1:-1], axis=1), strict=True))
        del joined
        found = {n: self._interval(n, mask, sums[self.metrics[n].shared]) for n in chosen}
        return {name: interval for name, interval in found.items() if interval is not None}

    def _interval(self, name: str, mask: npt.NDArray[np.bool_], resampled: FloatArray) -> Interval | None:
        metric, counted = self.metrics[name], self._statistics[name].rows(mask)
        assert isinstance(metric, AdditiveMetric)
        total = counted.sum(0)
        value = metric.over(total).value
        parts = [value(total - counted[i : i + _SUMS_AT_ONCE]) for i in range(0, len(counted), _SUMS_AT_ONCE)]
        return bootstrap_interval(value(resampled), float(value(total)), np.concatenate(parts))


# ----------------------------------------------------------------------------------------------- cells


def tokenise_ahead(
    engine: CaptionEngine, metrics: Sequence[Metric], examples: Iterable[Example], rows: Outcomes
) -> None:
    """Have all texts tokenised, and METEOR warm up if one is new; if that is impossible, each metric gives the reason.

    It comes before anything slow, such as the training of a classifier, which METEOR's start then overlaps with.
    """
    if not any(metric.family in TEXTUAL for metric in metrics):
        return

    def texts() -> Iterator[str]:
        for example in examples:
            yield from (a.explanation for a in example.annotations)
            for found in rows.values():
                outcome = found.get(example.id)
                yield outcome.explanation if isinstance(outcome, Answer) else ""

    with suppress(Unavailable):
        engine.tokenise_ahead(texts(), meteor_follows=any(metric.name == "meteor" for metric in metrics))


Scored: TypeAlias = Mapping[ReferenceSet, Sequence[ScoredExample]]


class Scorer:
    """Reads a task's examples and outcomes into tables of statistics, and makes cells of them.

    Args:
        context: task and resources.
        metrics: every metric of the task.
        surveys: of each row; see `survey`.

    Attributes:
        sets: the reference sets, in the order of the rows.
        cuts: of main sets, for each slice and for `AGREEMENT` the value of each example.
        planes: means of valence and arousal, None without a lexicon.
        predictions: what the text classifier read, by row and example id.
    """

    def __init__(self, context: Context, metrics: Sequence[Metric], surveys: Mapping[RowKey, RowSurvey]) -> None:
        self.context, self.metrics = context, metrics
        engine = context.find(CaptionEngine)
        assert engine is not None
        self._engine = engine
        self._asks_meteor = any(metric.name == "meteor" for metric in metrics)
        self.surveys = surveys
        self.sets = reference_sets(surveys)
        lexicon = context.find(WordAffect)
        self.planes = None if lexicon is None else Planes(context.task, lexicon)
        self.predictions: dict[RowKey, dict[str, EmotionPrediction]] = {
            part.key: {} for part in self.sets if part.is_main
        }
        labels = context.task.emotions
        self._dominant: dict[ReferenceSet, list[Indexes]] = {}
        self._answered: dict[ReferenceSet, list[Indexes]] = {}
        self.cuts: dict[ReferenceSet, dict[str, list[str | None]]] = {}
        self._label_index = {label: i for i, label in enumerate(labels)}
        self._consistency = next((m for m in metrics if isinstance(m, Consistency)), None)

    @cached_property
    def tables(self) -> dict[TableKey, Table]:
        """The statistics; made late, as it may train a classifier, which the first captions need not wait for."""
        return {
            TableKey(part.key, part.references, emotion): self._table(part, emotion)
            for part in self.sets
            for emotion in self._emotions(part)
        }

    @cached_property
    def _diagrams(self) -> dict[RowKey, Table]:
        return {part.key: self._diagram_table(part) for part in self.sets if _is_model(part)}

    def _emotions(self, part: ReferenceSet) -> list[str | None]:
        """None, and the emotions of the annotated view: a control has none, and `same_emotion` is one already."""
        if part.key.control is not None or part.references == "same_emotion":
            return [None]
        return [None, *self.context.task.emotions]

    def _table(self, part: ReferenceSet, emotion: str | None) -> Table:
        """Metrics of a reference set, or of its examples with an annotation of `emotion` against those only."""
        metrics = list(self.metrics)
        if emotion is not None or not part.is_main:
            metrics = [m for m in metrics if m.missing() is None]
        if emotion is not None:
            metrics = [m.for_emotion(emotion) for m in metrics if "annotated" in m.views]
        elif part.references == "same_emotion":
            metrics = [m for m in metrics if m.reference_texts]
        elif not part.is_main:
            metrics = [m for m in metrics if m.family not in ("style", "cost")]
        return Table(metrics, self.surveys[part.key].traits)

    def _diagram_table(self, part: ReferenceSet) -> Table:
        """The table with the bins of the reliability diagram: the main one, unless the task does without the metric."""
        main = self.tables[TableKey(part.key, part.references)]
        if ECEShares.name in main.metrics:
            return main
        return Table([ECEShares(self.context)], self.surveys[part.key].traits)

    # -------------------------------------------------------------------------------- second reading

    def read(self, examples: Iterable[Example], rows: Outcomes) -> None:
        """Fill the tables."""
        begun: deque[tuple[list[Example], dict[RowKey, list[Outcome]], Scored, Ahead | None]] = deque()
        source = iter(examples)
        while (block := list(islice(source, BLOCK))) or begun:
            if block:
                outcomes = {key: [found.get(e.id, _MISSING) for e in block] for key, found in rows.items()}
                scored = {part: self._scored(part, block, outcomes[part.key]) for part in self.sets}
                begun.append((block, outcomes, scored, self._begin(scored)))
            if len(begun) > _BLOCKS_AHEAD or not block:
                self._finish(*begun.popleft())
        for table in dict.fromkeys([*self.tables.values(), *self._diagrams.values()]):
            table.close()

    def _scored(self, part: ReferenceSet, block: Sequence[Example], outcomes: Sequence[Outcome]) -> list[ScoredExample]:
        pairs = zip(block, outcomes, strict=True)
        return [row for example, outcome in pairs if (row := part.scored(example, outcome)) is not None]

    def _begin(self, scored: Scored) -> Ahead | None:
        """Have the captions of a block scored in the background; if that is impossible, metrics give the reason."""
        if not any(metric.family == "text" for metric in self.metrics):
            return None
        pairs = dict.fromkeys(pair for part, found in scored.items() for pair in self._pairs(part, found))
        with suppress(Unavailable):
            return self._engine.begin(list(pairs), with_meteor=self._asks_meteor)
        return None

    def _finish(
        self,
        block: Sequence[Example],
        outcomes: Mapping[RowKey, Sequence[Outcome]],
        scored: Scored,
        ahead: Ahead | None,
    ) -> None:
        """Add a block to the tables."""
        present = [metric for metric in self.metrics if metric.missing() is None]  # known before waiting for captions
        with suppress(Unavailable):
            if ahead is not None:
                self._engine.finish(ahead)
        rows = [row for found in scored.values() for row in found]
        for metric in present:
            with suppress(Unavailable):
                metric.prepare(rows)
        for part, found in scored.items():
            self._add(part, found)
        if self.planes is not None:
            self.planes.add(block, outcomes)
        for resource in self.context.resources:
            if callable(forget := getattr(resource, "forget", None)):
                forget()

    def _pairs(self, part: ReferenceSet, rows: Sequence[ScoredExample]) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Every explanation with every set of references that it is scored against."""
        if "explanation" not in self.surveys[part.key].traits:
            return
        annotated = len(self._emotions(part)) > 1
        for row in rows:
            if row.explanation is None or not row.references:
                continue
            yield row.explanation, tuple(a.explanation for a in row.references)
            if annotated:
                for emotion in dict.fromkeys(a.emotion for a in row.references):
                    yield row.explanation, tuple(a.explanation for a in row.references if a.emotion == emotion)

    def _add(self, part: ReferenceSet, rows: Sequence[ScoredExample]) -> None:
        """Add a block of one reference set to its tables."""
        for emotion in self._emotions(part):
            chosen = rows if emotion is None else annotated(rows, emotion)
            self.tables[TableKey(part.key, part.references, emotion)].add(chosen)
        if not part.is_main:
            return
        index = self._label_index
        dominant = [self.context.dominant(row.histogram) for row in rows]
        self._dominant.setdefault(part, []).append(
            np.array([-1 if d is None else index[d] for d in dominant], np.int32)
        )
        answers = [-1 if row.emotion is None else index[row.emotion] for row in rows]
        self._answered.setdefault(part, []).append(np.array(answers, np.int32))
        cuts = self.cuts.setdefault(part, {})
        cuts.setdefault(AGREEMENT, []).extend(agreement_level(row.histogram) for row in rows)
        for key in self.context.task.slices:
            cuts.setdefault(key, []).extend(row.example.meta.get(key) for row in rows)
        diagram = self._diagrams.get(part.key)
        if diagram is not None and diagram not in self.tables.values():
            diagram.add(rows)
        self._predict(part, rows)

    def _predict(self, part: ReferenceSet, rows: Sequence[ScoredExample]) -> None:
        """Keep what the metric `consistency` rests on, if it can be computed."""
        metric = self._consistency
        if metric is None or metric.missing() or metric.lacking(self.surveys[part.key].traits):
            return
        with suppress(Unavailable):
            found = zip(rows, *metric.readings(rows), strict=True)
            made = {(e, bool(s)): EmotionPrediction(e, bool(s)) for e in (None, *self._label_index) for s in (0, 1)}
            self.predictions[part.key] |= {
                row.example.id: made[e, bool(same)] for row, e, same, counts in found if counts
            }

    # ----------------------------------------------------------------------------------------- cells

    def cells(self, part: ReferenceSet, *, split: str, seed: int, replicates: int) -> Iterator[dict[str, Any]]:
        """Overall cells, then emotions, then slices.

        A control has overall cells only, and so has `same_emotion`; a model's set against what a `human` or `crowd` row
        leaves adds the annotated view, and that row's own set has everything.
        """
        common = {
            "task": self.context.task.name,
            "split": split,
            "model": part.key.model,
            "control": part.key.control,
        }

        def records(
            table: Table, mask: npt.NDArray[np.bool_], view: View | None = None, condition: Mapping[str, Any] = {}
        ) -> Iterator[dict[str, Any]]:
            """A cell for each metric that means something in this view."""
            names = [n for n, m in table.metrics.items() if view in (None, "annotated") or view in m.views]
            names = [n for n in names if view is None or table.metrics[n].missing() is None]
            texts = "emotion" if view == "annotated" else part.references
            for name, found in table.estimates(names, mask, replicates, seed).items():
                yield {
                    **common,
                    "metric": name,
                    "value": found.value,
                    "low": found.interval.low if found.interval else None,
                    "high": found.interval.high if found.interval else None,
                    "n": found.n,
                    "emotion": None,
                    "conditioned_on": None,
                    "slice": None,
                    "references": part.references,
                    "protocol": self.context.task.protocol,
                    "signature": table.metrics[name].signature(texts),
                    "unavailable": found.unavailable,
                    **condition,
                }

        table = self.tables[TableKey(part.key, part.references)]
        yield from records(table, np.ones(len(table), dtype=bool))
        for emotion in self._emotions(part)[1:]:
            own = self.tables[TableKey(part.key, part.references, emotion)]
            condition = {"emotion": emotion, "conditioned_on": "annotated"}
            yield from records(own, np.ones(len(own), dtype=bool), "annotated", condition)
        if part.is_main and part.key.control is None:
            views: tuple[tuple[View, list[Indexes]], ...] = (
                ("reference", self._dominant.get(part, [])),
                ("predicted", self._answered.get(part, [])),
            )
            for view, blocks in views:
                of_row = np.concatenate([*blocks, np.zeros(0, np.int32)])
                for emotion, i in self._label_index.items():
                    yield from records(table, of_row == i, view, {"emotion": emotion, "conditioned_on": view})
            for key in self.context.task.slices:
                values = self.cuts.get(part, {}).get(key, [])
                for value in sorted({v for v in values if v}):
                    mask = np.array([found == value for found in values], dtype=bool)
                    yield from records(table, mask, "slice", {"slice": {"key": key, "value": value}})

    def confusion(self) -> list[dict[str, Any]]:
        """Counts (L, L + 1) of each row: dominant emotion by answered label, the last column being no answer."""
        labels, found = self.context.task.emotions, []
        for part in (part for part in self.sets if part.is_main):
            counts = np.zeros((len(labels), len(labels) + 1), dtype=int)
            for dominant, answered in zip(self._dominant.get(part, []), self._answered.get(part, []), strict=True):
                np.add.at(counts, (dominant[dominant >= 0], answered[dominant >= 0]), 1)  # -1 is the last column
            place = {"task": self.context.task.name, "model": part.key.model, "control": part.key.control}
            found.append({**place, "labels": list(labels), "counts": counts.tolist()})
        return found

    def calibration(self) -> list[dict[str, Any]]:
        """The reliability diagram of each model that gives probabilities; none of people and controls.

        `low` and `high` are Wilson's interval of a bin's mean share, which is wide enough for shares.
        """
        found = []
        for key, table in self._diagrams.items():
            metric = table.metrics[ECEShares.name]
            assert isinstance(metric, ECEShares)
            statistics = table.statistics.get(ECEShares.name)
            diagram = metric.bins(statistics) if statistics is not None else None
            if diagram is not None:
                for slot in diagram["slots"]:
                    slot["low"], slot["high"] = wilson(slot["accuracy"] * slot["n"], slot["n"])
                found.append({"task": self.context.task.name, "model": key.model, "control": None, **diagram})
        return found


def _is_model(part: ReferenceSet) -> bool:
    return part.references == "all" and part.key.control is None


def annotated(rows: Iterable[ScoredExample], emotion: str) -> list[ScoredExample]:
    """The examples with at least one annotation of `emotion`, with those references only."""
    return [
        dataclasses.replace(row, references=tuple(a for a in row.references if a.emotion == emotion))
        for row in rows
        if row.histogram.get(emotion, 0) > 0
    ]


class Planes:
    """Means of valence and arousal of texts per emotion, for the report's affect plane."""

    def __init__(self, task: Task, lexicon: WordAffect) -> None:
        self._lexicon = lexicon
        self._sums: dict[RowKey | None, dict[str, tuple[FloatArray, int]]] = {None: {}}
        self._order = task.emotions

    def add(self, examples: Sequence[Example], outcomes: Mapping[RowKey, Sequence[Outcome]]) -> None:
        """Add the annotations of a block, and each row's answers to it."""
        self._add(None, (a for example in examples for a in example.annotations))
        for key, found in outcomes.items():
            self._add(key, (Annotation(o.emotion, o.explanation) for o in found if isinstance(o, Answer)))

    def _add(self, key: RowKey | None, texts: Iterable[Annotation]) -> None:
        sums = self._sums.setdefault(key, {})
        for text in texts:
            means = np.array(self._lexicon.means(text.explanation))
            if np.isfinite(means).any():
                total, n = sums.get(text.emotion, (np.zeros(len(VAD_DIMENSIONS)), 0))
                sums[text.emotion] = total + means, n + 1

    def records(self, task: Task) -> list[dict[str, Any]]:
        """Records of the references (`model` None) and of each row, by the emotion that annotators or the row named.

        Each is `{"task", "model", "control", "lexicon", "emotion", "valence", "arousal", "n"}`: means over the texts in
        which the lexicon knows a word, -1..1, and how many these are; None if the lexicon does not measure it. Emotions
        without such a text have no record.
        """
        found = []
        for key, sums in self._sums.items():
            for emotion in (emotion for emotion in self._order if emotion in sums):
                total, n = sums[emotion]
                valence, arousal, _ = (float(x) if np.isfinite(x) else None for x in total / n)
                model, control = (None, None) if key is None else key
                place = {"task": task.name, "model": model, "control": control, "lexicon": self._lexicon.name}
                found.append({**place, "emotion": emotion, "valence": valence, "arousal": arousal, "n": n})
        return found
