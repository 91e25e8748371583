"""Metrics of the answered label.

A non-answer (refusal, unparsed, failed) stays in the denominators: it is correct for no class and predicts none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from harness.tasks.metrics.base import (
    DOMINANCE_RULES,
    EVERY_VIEW,
    AdditiveMetric,
    BoolArray,
    Context,
    DominanceRule,
    FloatArray,
    MeanMetric,
    Metric,
    ScoredExample,
    Statistics,
    Unavailable,
    View,
    dominance_rule,
    half_without_tie,
    mean_statistics,
    ratio,
    statistics_of,
)
from harness.tasks.readers.emotion_words import EMOTION_WORDS
from harness.types import Task


class Accuracy(MeanMetric):
    """Share of examples with a dominant emotion (share > 0.5) whose answered label equals it.

    A card may name another rule (`dominance`). Range 0..1, higher is better. Source: SEVLM
    `artEmisX_train.py:get_scores`.
    """

    name = "accuracy"
    label = "Accuracy"
    description = (
        "Answered label equals the emotion that more than half of the annotators chose; every such image counts."
    )
    group = "label"
    style = "percent"
    decimals = 1
    family = "label"
    higher_is_better = True
    proportion = True
    views = EVERY_VIEW
    source = "SEVLM-code artEmisX_train.py:get_scores"

    def statistics(self, rows: Sequence[ScoredExample]) -> Statistics:
        """(n, 2): correct, 1."""
        rule = self._rule().emotion
        dominant = [rule(row.histogram) for row in rows]
        correct = [float(row.emotion == d) for row, d in zip(rows, dominant, strict=True)]
        return mean_statistics(correct, [d is not None for d in dominant])

    def fields(self) -> dict[str, str]:
        """The dominance rule: the card's, or more than half."""
        return {"dominance": self._rule().name}

    def _rule(self) -> DominanceRule:
        return DOMINANCE_RULES[self.context.task.dominance or "majority"]

    def for_emotion(self, emotion: str) -> Metric:
        """Among examples with an annotation of `emotion`: `LabelRecall`."""
        return LabelRecall(self.context, emotion)


class LabelRecall(MeanMetric):
    """Recall of one label, each example weighted by the share of annotators who chose it.

    Formula: sum_i s_i [answer_i = e] / sum_i s_i, with s_i the share of emotion e. Range 0..1, higher is better.
    It is what `accuracy` means in the `annotated` view, where an example belongs to several emotions.
    """

    name = "accuracy"
    family = "label"
    higher_is_better = True

    def __init__(self, context: Context, emotion: str) -> None:
        super().__init__(context)
        self.emotion = emotion

    def statistics(self, rows: Sequence[ScoredExample]) -> Statistics:
        """(n, 2): share where the label is right, share."""
        shares = np.array([row.share(self.emotion) for row in rows])
        right = np.array([row.emotion == self.emotion for row in rows], dtype=np.float64)
        return statistics_of([shares * right, shares], [share > 0 for share in shares])

    def fields(self) -> dict[str, str]:
        """Named so that it cannot be taken for plain accuracy."""
        return {"view": "annotated-recall", "weight": "share"}


class AccuracyArtemis(MeanMetric):
    """Like `accuracy`, but dominant means at least half of the annotators and no tie.

    Range 0..1, higher is better. Source: ArtEmis `artemis/evaluation/emotion_alignment.py:dominant_maximizer`.
    """

    name = "accuracy_artemis"
    label = "Accuracy (≥ half)"
    description = "Accuracy by the ArtEmis rule: at least half of the annotators and no tie."
    group = "label-more"
    style = "percent"
    decimals = 1
    family = "label"
    higher_is_better = True
    proportion = True
    views: ClassVar[frozenset[View]] = frozenset({"predicted", "slice"})
    source = "artemis/evaluation/emotion_alignment.py:dominant_maximizer"

    def statistics(self, rows: Sequence[ScoredExample]) -> Statistics:
        """(n, 2): correct, 1."""
        dominant = [half_without_tie(row.histogram) for row in rows]
        correct = [float(row.emotion == d) for row, d in zip(rows, dominant, strict=True)]
        return mean_statistics(correct, [d is not None for d in dominant])

    def fields(self) -> dict[str, str]:
        """The dominance rule is fixed by the name."""
        return {"dominance": ">=half"}


class AccuracyAnswered(Accuracy):
    """`accuracy` over answered examples only: the lenient view, which forgives refusals and failures.

    Range 0..1, higher is better.
    """

    name = "accuracy_answered"
    label = "Accuracy if answered"
    description = "Accuracy over answered images only: the lenient view."
    group = "label-more"
    style = "percent"
    decimals = 1
    views: ClassVar[frozenset[View]] = frozenset({"reference", "slice"})

    def statistics(self, rows: Sequence[ScoredExample]) -> Statistics:
        """(n, 2): correct, 1."""
        values, eligible = super().statistics(rows)
        answered = np.array([row.emotion is not None for row in rows], dtype=bool)
        return Statistics(values * answered[:, None], eligible & answered)

    def for_emotion(self, emotion: str) -> Metric:
        """Not reported in the annotated view."""
        del emotion
        return self


class SaidTrue(MeanMetric):
    """Share of answers that say *true* of statements of which half are true: above 0.5 the model tends to agree.

    Range 0..1; 0.5 is without bias. Over answered examples of tasks whose labels are `true` and `false`.
    """

    name = "said_true"
    label = "Said true"
    description = "Share of answers that say true; half of the statements are, so above 50 % the model tends to agree."
    group = "label"
    style = "percent"
    decimals = 1
    family = "label"
    higher_is_better = None
    proportion = True
    views: ClassVar[frozenset[View]] = frozenset({"slice"})
    source = "yes-bias of true-or-false tests"

    @classmethod
    def applies(cls, task: Task) -> bool:
        """Only if statements are called true or false."""
        return task.emotions == ("true", "false")

    def statistics(self, rows: Sequence[ScoredExample]) -> Statistics:
        """(n, 2): said true, 1."""
        said = [float(row.emotion == self.context.task.emotions[0]) for row in rows]
        return mean_statistics(said, [row.emotion is not None for row in rows])


class GaveUp(MeanMetric):
    """Share of examples without an answer: refused, unparsed or failed.

    Range 0..1, lower is better. For tasks of statements, on which giving up is a way not to be wrong.
    """

    name = "gave_up"
    label = "Gave up"
    description = "Share of images without an answer: refused, unparsed or failed."
    group = "label"
    style = "percent"
    decimals = 1
    family = "label"
    higher_is_better = False
    proportion = True
    views: ClassVar[frozenset[View]] = frozenset({"slice"})
    source = "complement of the answered share"

    @classmethod
    def applies(cls, task: Task) -> bool:
        """Only for statements."""
        return task.dataset == "statements"

    def statistics(self, rows: Sequence[ScoredExample]) -> Statistics:
        """(n, 2): no answer, 1."""
        return mean_statistics([float(row.emotion is None) for row in rows], [True] * len(rows))


class AnnotatorMass(MeanMetric):
    """Mean share of an example's annotators who chose the answered label; 0 for a non-answer.

    Over all examples, with or without a dominant emotion. Range 0..1, higher is better.
    """

    name = "annotator_mass"
    label = "Annotator mass"
    description = "Mean share of annotators who chose the answered label, over all images."
    group = "label"
    style = "percent"
    decimals = 1
    family = "label"
    higher_is_better = True
    views: ClassVar[frozenset[View]] = frozenset({"reference", "predicted", "slice"})
    source = "expected agreement with one randomly drawn annotator"

    def statistics(self, rows: Sequence[ScoredExample]) -> Statistics:
        """(n, 2): share, 1."""
        shares = [row.share(row.emotion) if row.emotion is not None else 0.0 for row in rows]
        return mean_statistics(shares, [bool(row.histogram) for row in rows])


class PolarityAccuracy(MeanMetric):
    """Share of examples with a dominant polarity whose answered label has that polarity.

    Labels and annotations are grouped by the dataset's official `polarity` (positive, negative, other); dominant by
    the protocol's rule, applied to the grouped annotations. Range 0..1, higher is better.
    """

    name = "polarity_accuracy"
    label = "Polarity accuracy"
    description = "Accuracy after folding labels into positive, negative and other."
    group = "label-more"
    style = "percent"
    decimals = 1
    family = "label"
    higher_is_better = True
    proportion = True
    protocol_dependent = True
    views: ClassVar[frozenset[View]] = frozenset({"reference", "predicted", "slice"})
    source = "ArtEmis analyzing_artemis.ipynb (positive / negative / else)"

    def statistics(self, rows: Sequence[ScoredExample]) -> Statistics:
        """(n, 2): correct, 1."""
        polarity = self.context.task.polarity
        if not polarity:
            raise Unavailable("the task names no polarity of its emotions")
        dominant = []
        for row in rows:
            counts: Counter[str] = Counter()
            for emotion, count in row.histogram.items():
                counts[polarity[emotion]] += count
            dominant.append(self.context.dominant(counts))
        correct = [
            float(row.emotion is not None and polarity[row.emotion] == d) for row, d in zip(rows, dominant, strict=True)
        ]
        return mean_statistics(correct, [d is not None for d in dominant])

    def fields(self) -> dict[str, str]:
        """The protocol's dominance rule."""
        return {"dominance": dominance_rule(self.context.task).name}


class _PerClass(AdditiveMetric):
    """True positives, false positives and false negatives of each label: (n, 3 L)."""

    family = "label"
    statistics_name = "classes"
    higher_is_better = True
    protocol_dependent = True
    views: ClassVar[frozenset[View]] = frozenset({"slice"})

    def __init__(self, context: Context, classes: BoolArray | None = None) -> None:
        """With `classes` (L,) bool the average is over these, whether or not they occur in what is summed."""
        super().__init__(context)
        self._classes = classes

    def over(self, total: FloatArray) -> AdditiveMetric:
        """The average over the classes that occur in `total` (3 L,)."""
        true, _, missed = np.split(total, 3)
        return type(self)(self.context, true + missed > 0)

    def averaged(self, per_class: FloatArray, support: FloatArray) -> FloatArray:
        """Mean (...) of (..., L) over the fixed classes, else over those that occur as truth; NaN without any truth."""
        present = support > 0
        counted = present if self._classes is None else self._classes & present.any(-1, keepdims=True)
        return ratio(np.where(counted, per_class, 0.0).sum(-1), counted.sum(-1).astype(np.float64))

    def statistics(self, rows: Sequence[ScoredExample]) -> Statistics:
        """(n, 3 L): true positive, false positive, false negative of each label in task order."""
        labels = self.context.task.emotions
        dominant = [self.context.dominant(row.histogram) for row in rows]
        truth = np.array([[d == label for label in labels] for d in dominant], dtype=bool)  # (n, L)
        guess = np.array([[row.emotion == label for label in labels] for row in rows], dtype=bool)  # (n, L)
        columns = np.concatenate([truth & guess, ~truth & guess, truth & ~guess], axis=1)  # (n, 3 L)
        return statistics_of(list(columns.T.astype(np.float64)), [d is not None for d in dominant])

    def fields(self) -> dict[str, str]:
        """The protocol's dominance rule."""
        return {"dominance": dominance_rule(self.context.task).name}


class MacroF1(_PerClass):
    """Mean over the emotions that dominate at least one example of F1 = 2 TP / (2 TP + FP + FN).

    Over examples with a dominant emotion. A non-answer is a false negative of the dominant emotion and a false
    positive of none. Intervals and tests keep the emotions of the whole set, 0/0 = 0. Range 0..1, higher is better.
    Equals sklearn's `f1_score(average="macro")` over the labels that occur in the truth.
    """

    name = "macro_f1"
    label = "Macro F1"
    description = "Unweighted mean of the per-emotion F1 against the dominant emotion."
    group = "label"
    style = "percent"
    decimals = 1
    source = "van Rijsbergen 1979; macro average over classes with support"

    def value(self, sums: FloatArray) -> FloatArray:
        """F1 averaged over supported classes, (...) of (..., 3 L)."""
        true, false, missed = np.split(sums, 3, axis=-1)
        return self.averaged(np.nan_to_num(ratio(2 * true, 2 * true + false + missed)), true + missed)


class BalancedAccuracy(_PerClass):
    """Mean over the emotions that dominate at least one example of recall = TP / (TP + FN).

    Over examples with a dominant emotion. Range 0..1, higher is better. Equals sklearn's
    `balanced_accuracy_score`.
    """

    name = "balanced_accuracy"
    label = "Balanced accuracy"
    description = "Mean recall over the emotions that are dominant somewhere."
    group = "label-more"
    style = "percent"
    decimals = 1
    source = "Brodersen et al. 2010, the balanced accuracy and its posterior distribution"

    def value(self, sums: FloatArray) -> FloatArray:
        """Recall averaged over supported classes, (...) of (..., 3 L)."""
        true, _, missed = np.split(sums, 3, axis=-1)
        return self.averaged(np.nan_to_num(ratio(true, true + missed)), true + missed)


class WeightedF1(_PerClass):
    """Sum over emotions of (n_e / n) F1_e, F1 = 2 TP / (2 TP + FP + FN), weighted by how many images e dominates.

    Over images with a dominant emotion. A non-answer is a false negative. Range 0..1, higher is better. Equals
    sklearn's `f1_score(average="weighted")`.
    """

    name = "weighted_f1"
    label = "Weighted F1"
    description = "Per-emotion F1 against the dominant emotion, weighted by how many images the emotion dominates."
    group = "label-more"
    style = "percent"
    decimals = 1
    source = "scikit-learn f1_score; the headline of MER challenges"

    def value(self, sums: FloatArray) -> FloatArray:
        """F1 weighted by support, (...) of (..., 3 L)."""
        true, false, missed = np.split(sums, 3, axis=-1)
        f1 = np.nan_to_num(ratio(2 * true, 2 * true + false + missed))
        return ratio(((true + missed) * f1).sum(-1), (true + missed).sum(-1))


class _Answered(_PerClass):
    """The same counts over answered images only."""

    statistics_name = "classes_answered"

    def statistics(self, rows: Sequence[ScoredExample]) -> Statistics:
        """(n, 3 L): true positive, false positive, false negative of each label; zero without an answer."""
        values, eligible = super().statistics(rows)
        answered = np.array([row.emotion is not None for row in rows], dtype=bool)
        return Statistics(values * answered[:, None], eligible & answered)


class MacroF1Answered(_Answered, MacroF1):
    """Mean F1 = 2 TP / (2 TP + FP + FN) over the dominant emotions of answered images: refusals are forgiven."""

    name = "macro_f1_answered"
    label = "Macro F1 if answered"
    description = "Macro F1 over answered images only: the lenient view."
    group = "label-more"


class WeightedF1Answered(_Answered, WeightedF1):
    """Sum over emotions of (n_e / n) F1_e over answered images: `weighted_f1`, refusals forgiven."""

    name = "weighted_f1_answered"
    label = "Weighted F1 if answered"
    description = "Weighted F1 over answered images only: the lenient view."


class BalancedAccuracyAnswered(_Answered, BalancedAccuracy):
    """Mean recall TP / (TP + FN) over the dominant emotions of answered images: unweighted average recall, UAR."""

    name = "balanced_accuracy_answered"
    label = "UAR if answered"
    description = "Mean recall over answered images only, as papers report UAR."


class CohenKappa(_Answered):
    """Cohen's kappa (p_o - p_e) / (1 - p_e): agreement with the dominant emotion beyond what chance gives.

    p_o is the accuracy, p_e = sum_e (share of images that e dominates) (share answered e). Over answered images with a
    dominant emotion. Range -1..1, higher is better.
    """

    name = "cohen_kappa"
    label = "Cohen's κ"
    description = "Agreement with the dominant emotion beyond chance, over answered images."
    group = "label-more"
    bounds: ClassVar[tuple[float | None, float | None]] = (-1.0, 1.0)
    source = "Cohen 1960"

    def value(self, sums: FloatArray) -> FloatArray:
        """Kappa (...) of (..., 3 L)."""
        true, false, missed = np.split(sums, 3, axis=-1)
        n = (true + missed).sum(-1)
        observed, expected = ratio(true.sum(-1), n), ratio(((true + missed) * (true + false)).sum(-1), n * n)
        return ratio(observed - expected, 1 - expected)


class KrippendorffAlpha(AdditiveMetric):
    """Krippendorff's nominal alpha 1 - D_o / D_e of the model and one annotator drawn at random.

    Each of N answered images is a unit of two values: the answer, and an annotator's choice, each choice e with its
    share s_e. With n_e = sum_i [answer_i = e] + s_ie and n = 2 N:
    alpha = 1 - (n - 1) (n - 2 sum_i s_i,answer_i) / (n^2 - sum_e n_e^2). For one annotator per image it is the usual
    alpha of two coders. Range -1..1, higher is better; all images count, with or without a majority.
    """

    name = "krippendorff_alpha"
    label = "Krippendorff's α"
    description = "Agreement with one randomly drawn annotator beyond chance, over answered images."
    group = "label-more"
    family = "label"
    higher_is_better = True
    bounds: ClassVar[tuple[float | None, float | None]] = (-1.0, 1.0)
    views: ClassVar[frozenset[View]] = frozenset({"slice"})
    source = "Krippendorff 2004, Content Analysis, chapter 11"

    def statistics(self, rows: Sequence[ScoredExample]) -> Statistics:
        """(n, 1 + L): share of the answer; for each label its share, and 1 if answered."""
        labels = self.context.task.emotions
        shares = np.array([[row.share(label) for label in labels] for row in rows]).reshape(len(rows), len(labels))
        chosen = np.array([[row.emotion == label for label in labels] for row in rows]).reshape(len(rows), len(labels))
        counts = np.column_stack([(shares * chosen).sum(1), shares + chosen])
        answered = np.array([row.emotion is not None and bool(row.histogram) for row in rows], dtype=bool)
        return statistics_of(list(counts.T), answered)

    def value(self, sums: FloatArray) -> FloatArray:
        """Alpha (...) of (..., 1 + L)."""
        agreed, counts = sums[..., 0], sums[..., 1:]
        n = counts.sum(-1)
        return 1 - ratio((n - 1) * (n - 2 * agreed), n * n - (counts**2).sum(-1))


# ------------------------------------------------------------------------ labels that are words of people's own


class WheelPrecision(MeanMetric):
    """Share of images whose answered word belongs to a family of words that people used; a non-answer counts 0.

    The families are those of `emotion_words`; a word outside them is a family of its own. Range 0..1, higher is better.
    """

    name = "wheel_precision"
    label = "Word precision"
    description = "Answers with a word, or a near synonym, that people used."
    family = "label"
    group = "label-more"
    style = "percent"
    decimals = 1
    higher_is_better = True
    proportion = True
    views: ClassVar[frozenset[View]] = frozenset({"predicted", "slice"})
    source = "after AffectGPT, EW metrics"

    @classmethod
    def applies(cls, task: Task) -> bool:
        """Where labels are people's own words."""
        return task.options.get("words") == "own"

    def statistics(self, rows: Sequence[ScoredExample]) -> Statistics:
        """(n, 2): score, 1."""
        people = [{_family(word) for word, count in row.histogram.items() if count > 0} for row in rows]
        found = [row.emotion is not None and _family(row.emotion) in own for row, own in zip(rows, people, strict=True)]
        return mean_statistics(
            [self.score(f, len(own)) for f, own in zip(found, people, strict=True)], [*map(bool, people)]
        )

    def score(self, found: bool, families: int) -> float:
        """The score of one image."""
        del families
        return float(found)


class WheelRecall(WheelPrecision):
    """Mean over images of [the answered word's family is one that people used] / the number of families they used.

    One word is answered, so that an image about which people use several families cannot reach 1. Range 0..1, higher is
    better.
    """

    name = "wheel_recall"
    label = "Word recall"
    description = "Share of the different words that people used which the answer covers."
    proportion = False

    def score(self, found: bool, families: int) -> float:
        """The score of one image."""
        return found / families if families else 0.0


def _family(word: str) -> str:
    plain = word.strip().casefold()
    return EMOTION_WORDS.get(plain, plain)
