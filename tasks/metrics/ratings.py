"""Agreement of a model's valence, arousal and dominance numbers with people's mean ratings.

Over answered images that were rated and for which the model gave a number; n says how many. A model that gives no
numbers has no such metric. With x an image's mean human rating and y the model's number, all metrics here follow from
the sums of (1, x, y, x^2, y^2, xy); `moments` are population moments (divided by n).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from harness.tasks.metrics.base import (
    AdditiveMetric,
    FloatArray,
    Metric,
    ScoredExample,
    Statistics,
    View,
    ratio,
    statistics_of,
)
from harness.types import Answer, Task


class RatingMetric(AdditiveMetric):
    """One dimension's numbers against people's mean ratings on the task's scale; a family over `VAD_DIMENSIONS`."""

    group = "rating"
    family = "rating"
    higher_is_better = True
    bounds: ClassVar[tuple[float | None, float | None]] = (-1.0, 1.0)
    views: ClassVar[frozenset[View]] = frozenset({"slice"})
    dimension: ClassVar[str]
    kind: ClassVar[str]
    title: ClassVar[str]
    comparison: ClassVar[str]
    """What the description says before the dimension, and after it."""
    against: ClassVar[str] = "with people's mean rating"

    @classmethod
    def variant(cls, dimension: str) -> type[Metric]:
        """The metric of one dimension."""
        return cls.member(
            name=f"{cls.kind}_{dimension}",
            dimension=dimension,
            statistics_name=f"ratings_{dimension}",
            requires=((f"rating:{dimension}", f"the model gives no number for {dimension}"),),
            label=f"{dimension.capitalize()} {cls.title}",
            description=f"{cls.comparison} {dimension} {cls.against}.",
        )

    @classmethod
    def applies(cls, task: Task) -> bool:
        """Only where the task declares a scale for the dimension."""
        return cls.dimension in task.ratings

    def statistics(self, rows: Sequence[ScoredExample]) -> Statistics:
        """(n, 6): 1, x, y, x^2, y^2, xy."""
        pairs = [self._pair(row) for row in rows]
        # Counted from the middle of the scale: sums of squares of large numbers would lose digits.
        low, high = self.context.task.ratings[self.dimension]
        x, y = (np.array([p[side] if p else 0.0 for p in pairs]) - (low + high) / 2 for side in (0, 1))
        return statistics_of([np.ones(len(rows)), x, y, x * x, y * y, x * y], [p is not None for p in pairs])

    def fields(self) -> dict[str, str]:
        """The scale."""
        low, high = self.context.task.ratings[self.dimension]
        return {"scale": f"{low:g}..{high:g}"}

    def _pair(self, row: ScoredExample) -> tuple[float, float] | None:
        ratings = row.outcome.ratings if isinstance(row.outcome, Answer) else None
        if not ratings or self.dimension not in ratings or self.dimension not in row.example.ratings:
            return None
        return row.example.ratings[self.dimension], ratings[self.dimension]


def moments(sums: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Variance of x and y, covariance, and difference of the means, each (...), of sums (..., 6)."""
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    mean_x, mean_y = ratio(x, n), ratio(y, n)
    var_x, var_y = ratio(xx, n) - mean_x**2, ratio(yy, n) - mean_y**2
    # What is left of a constant after rounding is not a variance.
    var_x, var_y = (np.where(v > 1e-12, v, np.abs(v) * 0) for v in (var_x, var_y))
    covariance = ratio(xy, n) - mean_x * mean_y
    return var_x, var_y, np.where(var_x * var_y > 0, covariance, var_x * var_y), mean_x - mean_y


class CCC(RatingMetric):
    """Concordance correlation: 2 cov / (var x + var y + (mean x - mean y)^2). Range -1..1, higher is better."""

    kind, title = "ccc", "CCC"
    comparison = "Concordance of the model's"
    source = "Lin 1989; ABAW challenges"

    def value(self, sums: FloatArray) -> FloatArray:
        """CCC (...) of sums (..., 6)."""
        var_x, var_y, covariance, shift = moments(sums)
        return ratio(2 * covariance, var_x + var_y + shift**2)


class Pearson(RatingMetric):
    """Pearson's correlation; none if a side is constant. Range -1..1, higher is better."""

    kind, title = "pearson", "correlation"
    comparison = "Pearson correlation of the model's"
    source = "Pearson 1895"

    def value(self, sums: FloatArray) -> FloatArray:
        """Correlation (...) of sums (..., 6)."""
        var_x, var_y, covariance, _ = moments(sums)
        return ratio(covariance, np.sqrt(var_x * var_y))


class RMSE(RatingMetric):
    """Root of the mean squared difference, in units of the task's scale. Range 0.., lower is better."""

    kind, title = "rmse", "RMSE"
    comparison, against = "Root mean squared difference in", "to people's mean rating, in units of the task's scale"
    higher_is_better = False
    bounds = (0.0, None)
    source = "definition"

    def value(self, sums: FloatArray) -> FloatArray:
        """RMSE (...) of sums (..., 6)."""
        n, _, _, xx, yy, xy = np.moveaxis(sums, -1, 0)
        return np.sqrt(np.maximum(ratio(xx + yy - 2 * xy, n), 0.0))


class ICC(RatingMetric):
    """Intraclass correlation ICC(A,1) = (MSR - MSE) / (MSR + MSE + 2 (MSC - MSE) / n) of two raters, absolutely.

    The raters are the model and people's mean; MSR, MSC and MSE are the mean squares of images, raters and error of a
    two-way analysis of variance. Range up to 1, higher is better.
    """

    kind, title = "icc", "ICC"
    comparison = "Absolute agreement, as an intraclass correlation, of the model's"
    source = "McGraw & Wong 1996, ICC(A,1)"

    def value(self, sums: FloatArray) -> FloatArray:
        """ICC (...) of sums (..., 6)."""
        n = sums[..., 0]
        var_x, var_y, covariance, shift = moments(sums)
        scale = ratio(n, 2 * (n - 1))
        images, error = scale * (var_x + var_y + 2 * covariance), scale * (var_x + var_y - 2 * covariance)
        raters = n * shift**2 / 2
        return ratio(images - error, images + error + 2 * ratio(raters - error, n))


class WeightedKappa(CCC):
    """Quadratically weighted kappa 1 - sum w_ij o_ij / sum w_ij e_ij, w = (i - j)^2, of ratings rounded to whole steps.

    With these weights it equals the concordance correlation of the rounded ratings. For scales that span two steps or
    more. Range -1..1, higher is better.
    """

    kind, title = "weighted_kappa", "weighted κ"
    comparison = "Quadratically weighted kappa, on whole steps of the scale, of the model's"
    source = "Cohen 1968; Fleiss & Cohen 1973"

    @classmethod
    def variant(cls, dimension: str) -> type[Metric]:
        """The metric of one dimension."""
        found = super().variant(dimension)
        found.statistics_name = f"steps_{dimension}"
        return found

    @classmethod
    def applies(cls, task: Task) -> bool:
        """Only if the task declares a scale of at least two steps."""
        low, high = task.ratings.get(cls.dimension, (0.0, 0.0))
        return high - low >= 2

    def _pair(self, row: ScoredExample) -> tuple[float, float] | None:
        pair = super()._pair(row)
        return None if pair is None else (float(np.rint(pair[0])), float(np.rint(pair[1])))
