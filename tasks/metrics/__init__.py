"""Metrics: one file per family, each metric a pair of functions over per-example statistics.

`METRICS` names where each metric lives; modules are imported only when a metric is asked for. Installed packages
add metrics through the entry-point group `harness.metrics`.
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.types import VAD_DIMENSIONS

_RATING_FAMILIES = (
    ("ccc", "CCC"),
    ("pearson", "Pearson"),
    ("rmse", "RMSE"),
    ("icc", "ICC"),
    ("weighted_kappa", "WeightedKappa"),
)

METRICS: Mapping[str, str] = {
    "accuracy": "harness.tasks.metrics.labels:Accuracy",
    "accuracy_artemis": "harness.tasks.metrics.labels:AccuracyArtemis",
    "accuracy_answered": "harness.tasks.metrics.labels:AccuracyAnswered",
    "said_true": "harness.tasks.metrics.labels:SaidTrue",
    "gave_up": "harness.tasks.metrics.labels:GaveUp",
    "annotator_mass": "harness.tasks.metrics.labels:AnnotatorMass",
    "macro_f1": "harness.tasks.metrics.labels:MacroF1",
    "balanced_accuracy": "harness.tasks.metrics.labels:BalancedAccuracy",
    "weighted_f1": "harness.tasks.metrics.labels:WeightedF1",
    "macro_f1_answered": "harness.tasks.metrics.labels:MacroF1Answered",
    "weighted_f1_answered": "harness.tasks.metrics.labels:WeightedF1Answered",
    "balanced_accuracy_answered": "harness.tasks.metrics.labels:BalancedAccuracyAnswered",
    "cohen_kappa": "harness.tasks.metrics.labels:CohenKappa",
    "krippendorff_alpha": "harness.tasks.metrics.labels:KrippendorffAlpha",
    "wheel_precision": "harness.tasks.metrics.labels:WheelPrecision",
    "wheel_recall": "harness.tasks.metrics.labels:WheelRecall",
    "polarity_accuracy": "harness.tasks.metrics.labels:PolarityAccuracy",
    "cross_entropy": "harness.tasks.metrics.probabilities:CrossEntropy",
    "js_divergence": "harness.tasks.metrics.probabilities:JSDivergence",
    "brier": "harness.tasks.metrics.probabilities:Brier",
    **{f"top_{k}": f"harness.tasks.metrics.probabilities:TopK:{k}" for k in (2, 3)},
    "rank_tau": "harness.tasks.metrics.probabilities:RankTau",
    "ece_shares": "harness.tasks.metrics.probabilities:ECEShares",
    "ece": "harness.tasks.metrics.probabilities:ECE",
    **{
        f"{kind}_{dimension}": f"harness.tasks.metrics.ratings:{family}:{dimension}"
        for kind, family in _RATING_FAMILIES
        for dimension in VAD_DIMENSIONS
    },
    **{f"bleu_{order}": f"harness.tasks.metrics.captions:Bleu:{order}" for order in (1, 2, 3, 4)},
    "meteor": "harness.tasks.metrics.captions:Meteor",
    "rouge_l": "harness.tasks.metrics.captions:RougeL",
    "cider_d": "harness.tasks.metrics.captions:CiderD",
    "bert_score": "harness.tasks.metrics.similarity:BertScore",
    "clip_score": "harness.tasks.metrics.clip:ClipScore",
    "ref_clip_score": "harness.tasks.metrics.clip:RefClipScore",
    "trigger_recall": "harness.tasks.metrics.triggers:TriggerRecall",
    "spice": "harness.tasks.metrics.spice:Spice",
    "emotional_alignment": "harness.tasks.metrics.alignment:EmotionalAlignment",
    "ea_cross_entropy": "harness.tasks.metrics.alignment:AlignmentCrossEntropy",
    "consistency": "harness.tasks.metrics.alignment:Consistency",
    **{f"vad_error_{d[0]}": f"harness.tasks.metrics.affect:VADError:{d[0]}" for d in VAD_DIMENSIONS},
    **{f"vad_ccc_{d[0]}": f"harness.tasks.metrics.affect:VADConcordance:{d[0]}" for d in VAD_DIMENSIONS},
    "vad_coverage": "harness.tasks.metrics.affect:VADCoverage",
    "unique": "harness.tasks.metrics.style:Unique",
    "distinct_1": "harness.tasks.metrics.style:Distinct:1",
    "distinct_2": "harness.tasks.metrics.style:Distinct:2",
    "metaphor": "harness.tasks.metrics.style:Metaphor",
    "lcs_novelty": "harness.tasks.metrics.style:LCSNovelty",
    "copied": "harness.tasks.metrics.style:Copied",
    "mean_length": "harness.tasks.metrics.style:MeanLength",
    "latency_p50_s": "harness.tasks.metrics.cost:Latency:50",
    "latency_p95_s": "harness.tasks.metrics.cost:Latency:95",
    "tokens": "harness.tasks.metrics.cost:Tokens",
    "cost_usd": "harness.tasks.metrics.cost:CostUSD",
}
"""Metric name -> `"module:Class"` or `"module:Class:variant"`, in the order in which reports show them."""

HEADLINES = ("accuracy", "macro_f1", "annotator_mass", "cider_d", "emotional_alignment", "consistency")
"""The metrics that a reader asks for first: they lead scatter plots and the table in the terminal."""

COMPARED = frozenset(
    {"accuracy", "annotator_mass", "macro_f1", "ccc_valence", "ccc_arousal", "bleu_4", "meteor", "rouge_l", "cider_d"}
)
"""Metrics that are compared between models; with the pairs of models they are one family of tests."""

COMPARED_PER_EMOTION = ("accuracy", "meteor", "cider_d")
"""Metrics that are also compared per emotion, in the annotated view; each is a family of tests of its own."""
