"""From sheets to cells: every metric over every view of the paintings, with its interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.score.rows import Sheet
from harness.score.statistics import MIN_FOR_BOOTSTRAP, Interval, bootstrap_interval, bootstrap_sums, wilson
from harness.tasks.metrics.base import (
    AdditiveMetric,
    BoolArray,
    Context,
    FloatArray,
    Metric,
    Row,
    SetMetric,
    Statistics,
    Unavailable,
    View,
)

NOTHING = "no painting counts here"
TOKENISED = frozenset({"text", "style"})
"""Families of metrics that read tokens, for which a Java program is started."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its interval and n, or the reason why there is none."""

    value: float | None
    interval: Interval | None
    n: int
    unavailable: str | None


class Table:
    """Metrics of one list of rows, with the statistics of every row computed once.

    Args:
        rows: the paintings.
        metrics: what to compute.
    """

    def __init__(self, rows: Sequence[Row], metrics: Sequence[Metric]) -> None:
        self.rows = rows
        self.metrics = {metric.name: metric for metric in metrics}
        self.statistics: dict[str, Statistics] = {}
        self._eligible: dict[str, BoolArray] = {}
        self._reasons: dict[str, str] = {}
        for name, metric in self.metrics.items():
            try:
                if (reason := metric.missing()) is not None:
                    raise Unavailable(reason)
                self._measure(name, metric)
            except Unavailable as reason:
                self._reasons[name] = str(reason)

    def _measure(self, name: str, metric: Metric) -> None:
        if isinstance(metric, AdditiveMetric):
            self.statistics[name] = metric.statistics(self.rows)
            self._eligible[name] = self.statistics[name].eligible
        elif isinstance(metric, SetMetric):
            self._eligible[name] = metric.eligible(self.rows)

    def estimates(self, names: Sequence[str], mask: BoolArray, replicates: int, seed: int) -> dict[str, Estimate]:
        """Estimates over the rows of `mask` (n,), for the metrics named."""
        intervals = self._bootstrap(names, mask, replicates, seed)
        return {name: self._estimate(name, mask, intervals.get(name)) for name in names}

    def _estimate(self, name: str, mask: BoolArray, interval: Interval | None) -> Estimate:
        if name in self._reasons:
            return Estimate(None, None, 0, self._reasons[name])
        metric, counted = self.metrics[name], self._eligible[name] & mask
        n = int(counted.sum())
        if n == 0:
            return Estimate(None, None, 0, NOTHING)
        try:
            value = self._value(name, metric, counted)
        except Unavailable as reason:
            return Estimate(None, None, n, str(reason))
        if not math.isfinite(value):
            return Estimate(None, None, n, "the value is not a finite number")
        return Estimate(value, wilson(value * n, n) if metric.proportion else interval, n, None)

    def _value(self, name: str, metric: Metric, counted: BoolArray) -> float:
        if isinstance(metric, AdditiveMetric):
            return float(metric.value(self.statistics[name].values[counted].sum(0)))
        assert isinstance(metric, SetMetric)
        return metric.value([row for row, counts in zip(self.rows, counted, strict=True) if counts])

    def _bootstrap(self, names: Sequence[str], mask: BoolArray, replicates: int, seed: int) -> dict[str, Interval]:
        """Bootstrap intervals of the additive metrics that need one, all from the same resampled paintings."""
        chosen = [n for n in names if n in self.statistics and not self.metrics[n].proportion]
        chosen = [n for n in chosen if (self._eligible[n] & mask).sum() >= MIN_FOR_BOOTSTRAP]
        if not chosen or not replicates:
            return {}
        blocks = [self.statistics[name].values[mask] for name in chosen]
        sums = bootstrap_sums(np.concatenate(blocks, axis=1), replicates, seed)
        parts = np.split(sums, np.cumsum([block.shape[1] for block in blocks])[:-1], axis=1)
        found = {name: self._interval(name, mask, part) for name, part in zip(chosen, parts, strict=True)}
        return {name: interval for name, interval in found.items() if interval is not None}

    def _interval(self, name: str, mask: BoolArray, resampled: FloatArray) -> Interval | None:
        metric, counted = self.metrics[name], self.statistics[name].values[self._eligible[name] & mask]
        assert isinstance(metric, AdditiveMetric)
        total = counted.sum(0)
        value = metric.over(total).value
        return bootstrap_interval(value(resampled), float(value(total)), value(total - counted))


@dataclass(frozen=True)
class Scorer:
    """Scores sheets of one task into cells.

    Attributes:
        context: task, caption engine, training texts.
        metrics: every metric of the task.
        split: name of the split, for the cells.
        seed: of the bootstrap.
        replicates: bootstrap replicates.
    """

    context: Context
    metrics: Sequence[Metric]
    split: str
    seed: int
    replicates: int

    def prepare(self, sheets: Sequence[Sheet]) -> None:
        """Warm METEOR up and tokenise every text in one go; where that is impossible, each metric gives the reason."""
        if any(metric.family in TOKENISED for metric in self.metrics):
            texts = {row.explanation or "" for sheet in sheets for row in sheet.rows}
            texts |= {a.explanation for sheet in sheets for row in sheet.rows for a in row.example.annotations}
            meteor_follows = any(m.name == "meteor" for m in self.metrics)
            with suppress(Unavailable):
                self.context.captions.prepare(sorted(texts), meteor_follows=meteor_follows)
        rows = [row for sheet in sheets for row in sheet.rows]
        for metric in self.metrics:
            if metric.missing() is None:
                with suppress(Unavailable):
                    metric.prepare(rows)

    def cells(self, sheet: Sheet) -> Iterator[dict[str, Any]]:
        """Overall cells, then emotions, then slices.

        A control has overall cells only, and so has `same_emotion`; a model's sheet against what a `human` or `crowd`
        row leaves adds the annotated view, and that row's own sheet has everything.
        """
        table = self.table(sheet)
        yield from self._records(sheet, table, np.ones(len(sheet.rows), dtype=bool))
        if sheet.key.control is not None or sheet.references == "same_emotion":
            return
        yield from self._annotated_cells(sheet)
        if sheet.is_main:
            yield from self._emotion_cells(sheet, table)
            yield from self._slice_cells(sheet, table)

    def table(self, sheet: Sheet, emotion: str | None = None, names: Collection[str] | None = None) -> Table:
        """Metrics of a sheet, or of its paintings with an annotation of `emotion` against those annotations only.

        Args:
            sheet: one model against one set of references.
            emotion: label of the `annotated` view, None for all paintings.
            names: metrics to compute, None for all.
        """
        metrics = [m for m in self.metrics if names is None or m.name in names]
        if emotion is not None or not sheet.is_main:
            metrics = [m for m in metrics if m.missing() is None]
        if emotion is not None:
            metrics = [m.for_emotion(emotion) for m in metrics if "annotated" in m.views]
            return Table(sheet.annotated(emotion), metrics)
        if sheet.references == "same_emotion":
            metrics = [m for m in metrics if m.reference_texts]
        elif not sheet.is_main:
            metrics = [m for m in metrics if m.family not in ("style", "cost")]
        return Table(sheet.rows, metrics)

    def _annotated_cells(self, sheet: Sheet) -> Iterator[dict[str, Any]]:
        for emotion in self.context.task.emotions:
            table = self.table(sheet, emotion)
            everything = np.ones(len(table.rows), dtype=bool)
            condition = {"emotion": emotion, "conditioned_on": "annotated"}
            yield from self._records(sheet, table, everything, "annotated", condition)

    def _emotion_cells(self, sheet: Sheet, table: Table) -> Iterator[dict[str, Any]]:
        conditions: dict[View, Callable[[Row], str | None]] = {
            "reference": lambda row: self.context.dominant(row.histogram),
            "predicted": lambda row: row.emotion,
        }
        for view, emotion_of in conditions.items():
            emotions = [emotion_of(row) for row in sheet.rows]
            for emotion in self.context.task.emotions:
                mask = np.array([found == emotion for found in emotions], dtype=bool)
                condition = {"emotion": emotion, "conditioned_on": view}
                yield from self._records(sheet, table, mask, view, condition)

    def _slice_cells(self, sheet: Sheet, table: Table) -> Iterator[dict[str, Any]]:
        for key in self.context.task.slices:
            values = [row.example.meta.get(key) for row in sheet.rows]
            for value in sorted({v for v in values if v}):
                mask = np.array([found == value for found in values], dtype=bool)
                yield from self._records(sheet, table, mask, "slice", {"slice": {"key": key, "value": value}})

    def _records(
        self,
        sheet: Sheet,
        table: Table,
        mask: BoolArray,
        view: View | None = None,
        condition: dict[str, Any] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """A cell for each metric that means something in this view."""
        names = [n for n, m in table.metrics.items() if view is None or view == "annotated" or view in m.views]
        names = [n for n in names if view is None or table.metrics[n].missing() is None]
        texts = "emotion" if view == "annotated" else sheet.references
        for name, found in table.estimates(names, mask, self.replicates, self.seed).items():
            yield {
                "task": self.context.task.name,
                "split": self.split,
                "model": sheet.key.model,
                "control": sheet.key.control,
                "metric": name,
                "value": found.value,
                "low": found.interval.low if found.interval else None,
                "high": found.interval.high if found.interval else None,
                "n": found.n,
                "emotion": None,
                "conditioned_on": None,
                "slice": None,
                "references": sheet.references,
                "protocol": self.context.task.protocol,
                "signature": table.metrics[name].signature(texts),
                "unavailable": found.unavailable,
            } | (condition or {})
