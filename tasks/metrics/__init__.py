"""Metrics: one file per family, each metric a pair of functions over per-painting statistics.

`METRICS` names where each metric lives; modules are imported only when a metric is asked for. Installed packages
add metrics through the entry-point group `harness.metrics`.
"""

from __future__ import annotations

from collections.abc import Mapping

METRICS: Mapping[str, str] = {
    "accuracy": "harness.tasks.metrics.labels:Accuracy",
    "accuracy_artemis": "harness.tasks.metrics.labels:AccuracyArtemis",
    "accuracy_answered": "harness.tasks.metrics.labels:AccuracyAnswered",
    "annotator_mass": "harness.tasks.metrics.labels:AnnotatorMass",
    "macro_f1": "harness.tasks.metrics.labels:MacroF1",
    "balanced_accuracy": "harness.tasks.metrics.labels:BalancedAccuracy",
    "polarity_accuracy": "harness.tasks.metrics.labels:PolarityAccuracy",
    "cross_entropy": "harness.tasks.metrics.probabilities:CrossEntropy",
    "js_divergence": "harness.tasks.metrics.probabilities:JSDivergence",
    "brier": "harness.tasks.metrics.probabilities:Brier",
    "ece": "harness.tasks.metrics.probabilities:ECE",
    "ccc_valence": "harness.tasks.metrics.ratings:CCCValence",
    "ccc_arousal": "harness.tasks.metrics.ratings:CCCArousal",
    "ccc_dominance": "harness.tasks.metrics.ratings:CCCDominance",
    "pearson_valence": "harness.tasks.metrics.ratings:PearsonValence",
    "pearson_arousal": "harness.tasks.metrics.ratings:PearsonArousal",
    "pearson_dominance": "harness.tasks.metrics.ratings:PearsonDominance",
    "rmse_valence": "harness.tasks.metrics.ratings:RMSEValence",
    "rmse_arousal": "harness.tasks.metrics.ratings:RMSEArousal",
    "rmse_dominance": "harness.tasks.metrics.ratings:RMSEDominance",
    "bleu_1": "harness.tasks.metrics.captions:Bleu1",
    "bleu_2": "harness.tasks.metrics.captions:Bleu2",
    "bleu_3": "harness.tasks.metrics.captions:Bleu3",
    "bleu_4": "harness.tasks.metrics.captions:Bleu4",
    "meteor": "harness.tasks.metrics.captions:Meteor",
    "rouge_l": "harness.tasks.metrics.captions:RougeL",
    "cider_d": "harness.tasks.metrics.captions:CiderD",
    "bert_score": "harness.tasks.metrics.similarity:BertScore",
    "spice": "harness.tasks.metrics.spice:Spice",
    "emotional_alignment": "harness.tasks.metrics.alignment:EmotionalAlignment",
    "ea_cross_entropy": "harness.tasks.metrics.alignment:AlignmentCrossEntropy",
    "consistency": "harness.tasks.metrics.alignment:Consistency",
    "vad_error_v": "harness.tasks.metrics.affect:VADErrorV",
    "vad_error_a": "harness.tasks.metrics.affect:VADErrorA",
    "vad_error_d": "harness.tasks.metrics.affect:VADErrorD",
    "vad_ccc_v": "harness.tasks.metrics.affect:VADConcordanceV",
    "vad_ccc_a": "harness.tasks.metrics.affect:VADConcordanceA",
    "vad_ccc_d": "harness.tasks.metrics.affect:VADConcordanceD",
    "vad_coverage": "harness.tasks.metrics.affect:VADCoverage",
    "unique": "harness.tasks.metrics.style:Unique",
    "distinct_1": "harness.tasks.metrics.style:Distinct1",
    "distinct_2": "harness.tasks.metrics.style:Distinct2",
    "metaphor": "harness.tasks.metrics.style:Metaphor",
    "lcs_novelty": "harness.tasks.metrics.novelty:LCSNovelty",
    "copied": "harness.tasks.metrics.style:Copied",
    "mean_length": "harness.tasks.metrics.style:MeanLength",
    "latency_p50_s": "harness.tasks.metrics.cost:LatencyMedian",
    "latency_p95_s": "harness.tasks.metrics.cost:LatencyP95",
    "tokens": "harness.tasks.metrics.cost:Tokens",
    "cost_usd": "harness.tasks.metrics.cost:CostUSD",
}
"""Metric name -> `"module:Class"`, in the order in which reports show them."""
