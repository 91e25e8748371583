"""Cells, confusion matrices and calibration of one task, as `results.json` holds them.

A function of examples and outcomes; `docs/metrics.md` says what every number means. The rules:

- an example without an outcome counts as `Failed("missing")`; label metrics keep every eligible example;
- text metrics use answered examples, and every cell shows its n;
- CIDEr's document frequencies are those of the whole split;
- intervals: Wilson for proportions, bootstrap over examples for other aggregates, none for set-valued metrics;
- a row that answers with a held-out annotation (`human`) is scored without that annotation, and every model also gets
  `leave_one_out` cells on the same remaining references.

Examples and outcomes are read in order and never held: first for what is known of a whole row (`survey`), then in
blocks of a few thousand, of which only the statistics stay (`table`).
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from harness.score.predictions import EmotionPrediction
from harness.score.statistics import wilson
from harness.score.survey import MISSING, Outcomes, ReferenceSet, RowSurvey, reference_sets
from harness.score.table import Table, TableKey
from harness.tasks.metrics.affect import WordAffect
from harness.tasks.metrics.alignment import Consistency
from harness.tasks.metrics.base import Context, FloatArray, Metric, ScoredExample, Unavailable, View
from harness.tasks.metrics.caption_engine import Ahead, CaptionEngine
from harness.tasks.metrics.probabilities import ECEShares
from harness.types import VAD_DIMENSIONS, Annotation, Answer, Example, Outcome, RowKey, Task

Indexes: TypeAlias = npt.NDArray[np.int32]
Scored: TypeAlias = Mapping[ReferenceSet, Sequence[ScoredExample]]

BLOCK = 2_000
"""Examples that are held at a time."""

_BLOCKS_AHEAD = 2
"""Blocks whose captions are scored in the background while another is worked on."""

TEXTUAL = frozenset({"text", "style"})
"""Families of metrics that read tokens, for which a Java program is started."""

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


def tokenise_ahead(
    engine: CaptionEngine, metrics: Sequence[Metric], examples: Iterable[Example], rows: Outcomes
) -> None:
    """Have all texts tokenised, and METEOR warm up if one is new; if that fails, each metric gives the reason."""
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
        self.surveys = surveys
        self.sets = reference_sets(surveys)
        lexicon = context.find(WordAffect)
        self.planes = None if lexicon is None else Planes(context.task, lexicon)
        self.predictions: dict[RowKey, dict[str, EmotionPrediction]] = {
            part.key: {} for part in self.sets if part.is_main
        }
        self._dominant: dict[ReferenceSet, list[Indexes]] = {}
        self._answered: dict[ReferenceSet, list[Indexes]] = {}
        self.cuts: dict[ReferenceSet, dict[str, list[str | None]]] = {}
        self._label_index = {label: i for i, label in enumerate(context.task.emotions)}
        self._consistency = next((m for m in metrics if isinstance(m, Consistency)), None)

    @cached_property
    def tables(self) -> dict[TableKey, Table]:
        """Of each reference set, and of its examples with an annotation of an emotion against those only.

        Made late, as it may train a classifier, which the first captions need not wait for.
        """
        present = [metric for metric in self.metrics if metric.missing() is None]
        tables = {}
        for part in self.sets:
            metrics = self.metrics if part.is_main else present
            if part.references == "same_emotion":
                metrics = [m for m in metrics if m.reference_texts]
            elif not part.is_main:
                metrics = [m for m in metrics if m.family not in ("style", "cost")]
            traits = self.surveys[part.key].traits
            for emotion in self._emotions(part):
                chosen = metrics
                if emotion is not None:
                    chosen = [metric.for_emotion(emotion) for metric in present if "annotated" in metric.views]
                tables[TableKey(part.key, part.references, emotion)] = Table(chosen, traits)
        return tables

    @cached_property
    def _diagrams(self) -> dict[RowKey, Table]:
        """Each model's table with the bins of the reliability diagram: the main one if it has the metric."""
        found = {}
        for part in self.sets:
            if part.references == "all" and part.key.control is None:
                main = self.tables[TableKey(part.key, part.references)]
                own = Table([ECEShares(self.context)], self.surveys[part.key].traits)
                found[part.key] = main if ECEShares.name in main.metrics else own
        return found

    def _emotions(self, part: ReferenceSet) -> list[str | None]:
        """None, and the emotions of the annotated view: a control has none, and `same_emotion` is one already."""
        if part.key.control is not None or part.references == "same_emotion":
            return [None]
        return [None, *self.context.task.emotions]

    # -------------------------------------------------------------------------------- second reading

    def read(self, examples: Iterable[Example], rows: Outcomes) -> None:
        """Fill the tables."""
        begun: deque[tuple[list[Example], dict[RowKey, list[Outcome]], Scored, Ahead | None]] = deque()
        source = iter(examples)
        while (block := list(islice(source, BLOCK))) or begun:
            if block:
                outcomes = {key: [found.get(e.id, MISSING) for e in block] for key, found in rows.items()}
                scored = {
                    part: [row for row in map(part.scored, block, outcomes[part.key]) if row is not None]
                    for part in self.sets
                }
                begun.append((block, outcomes, scored, self._begin(scored)))
            if len(begun) > _BLOCKS_AHEAD or not block:
                self._finish(*begun.popleft())
        for table in dict.fromkeys([*self.tables.values(), *self._diagrams.values()]):
            table.close()

    def _begin(self, scored: Scored) -> Ahead | None:
        """Have the captions of a block scored in the background; if that is impossible, metrics give the reason."""
        if not any(metric.family == "text" for metric in self.metrics):
            return None
        # every explanation with every set of references that it is scored against
        pairs: dict[tuple[str, tuple[str, ...]], None] = {}
        for part, rows in scored.items():
            if "explanation" not in self.surveys[part.key].traits:
                continue
            has_annotated_view = len(self._emotions(part)) > 1
            for row in rows:
                if row.explanation is None or not row.references:
                    continue
                pairs[row.explanation, tuple(a.explanation for a in row.references)] = None
                for emotion in dict.fromkeys(a.emotion for a in row.references) if has_annotated_view else ():
                    of_emotion = tuple(a.explanation for a in row.references if a.emotion == emotion)
                    pairs[row.explanation, of_emotion] = None
        with suppress(Unavailable):
            return self._engine.begin(list(pairs), with_meteor=any(metric.name == "meteor" for metric in self.metrics))
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
            for emotion in self._emotions(part):
                chosen = found if emotion is None else annotated(found, emotion)
                self.tables[TableKey(part.key, part.references, emotion)].add(chosen)
            if part.is_main:
                self._note(part, found)
        if self.planes is not None:
            self.planes.add(block, outcomes)
        for resource in self.context.resources:
            if callable(forget := getattr(resource, "forget", None)):
                forget()

    def _note(self, part: ReferenceSet, rows: Sequence[ScoredExample]) -> None:
        """Keep what views, slices, the diagram and the file of predictions need of a block of a main set."""
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
        metric = self._consistency
        if metric is None or metric.missing() or metric.lacking(self.surveys[part.key].traits):
            return
        with suppress(Unavailable):
            read = zip(rows, *metric.readings(rows), strict=True)
            made = {(e, bool(s)): EmotionPrediction(e, bool(s)) for e in (None, *index) for s in (0, 1)}
            self.predictions[part.key] |= {
                row.example.id: made[emotion, bool(same)] for row, emotion, same, counts in read if counts
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
            table: Table,
            mask: npt.NDArray[np.bool_],
            view: View | None = None,
            condition: Mapping[str, Any] | None = None,
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
                    **(condition or {}),
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
