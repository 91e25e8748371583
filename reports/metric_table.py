"""How each metric is shown: its name for people, the column group, the better direction, scale and digits.

The report reads files only, so it does not ask the metrics themselves: an unknown metric (a plug-in's) is shown
under its own name, unscaled, without a direction, and is therefore never printed in bold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Style: TypeAlias = Literal["plain", "percent", "si", "count", "money"]


@dataclass(frozen=True, slots=True)
class MetricInfo:
    """How one metric is shown.

    Attributes:
        name: the name in results.json.
        label: column heading.
        group: key of `GROUPS`.
        higher_is_better: None where neither direction is better in itself.
        style: `percent` multiplies by 100; `si` writes 186 M; `count` an integer; `money` US dollars.
        decimals: digits after the point (`plain`, `percent`).
        says: one sentence for the methods section.
    """

    name: str
    label: str
    group: str
    higher_is_better: bool | None
    style: Style
    decimals: int
    says: str

    @property
    def arrow(self) -> str:
        """The better direction as an arrow, empty where there is none."""
        return {True: "↑", False: "↓", None: ""}[self.higher_is_better]

    @property
    def direction(self) -> str:
        """The better direction in words."""
        return {True: "higher is better", False: "lower is better", None: "neither direction is better"}[
            self.higher_is_better
        ]

    @property
    def unit(self) -> str:
        """The unit written after a value in running text."""
        return " %" if self.style == "percent" else ""


@dataclass(frozen=True, slots=True)
class Group:
    """Columns that are shown and hidden together."""

    key: str
    title: str
    shown: bool


GROUPS: tuple[Group, ...] = (
    Group("label", "Emotion label", True),
    Group("label-more", "More label metrics", False),
    Group("probability", "Label distribution", False),
    Group("text", "Explanation text", True),
    Group("text-more", "More text metrics", False),
    Group("affect", "Affect of the explanation", True),
    Group("vad", "Valence, arousal, dominance", False),
    Group("rating", "Agreement with ratings", True),
    Group("variety", "Variety and originality", False),
    Group("other", "Other metrics", True),
    Group("coverage", "Coverage", True),
    Group("cost", "Cost and speed", True),
    Group("cost-more", "More on cost", False),
)

_UP, _DOWN = True, False

_ROWS: tuple[tuple[str, str, str, bool | None, Style, int, str], ...] = (
    ("accuracy", "Accuracy", "label", _UP, "percent", 1,
     "Answered label equals the emotion that more than half of the annotators chose; every such picture counts."),
    ("annotator_mass", "Annotator mass", "label", _UP, "percent", 1,
     "Mean share of annotators who chose the answered label, over all pictures."),
    ("macro_f1", "Macro F1", "label", _UP, "percent", 1,
     "Unweighted mean of the per-emotion F1 against the dominant emotion."),
    ("accuracy_artemis", "Accuracy (≥ half)", "label-more", _UP, "percent", 1,
     "Accuracy by the ArtEmis rule: at least half of the annotators and no tie."),
    ("accuracy_answered", "Accuracy if answered", "label-more", _UP, "percent", 1,
     "Accuracy over answered pictures only: the lenient view."),
    ("balanced_accuracy", "Balanced accuracy", "label-more", _UP, "percent", 1,
     "Mean recall over the emotions that are dominant somewhere."),
    ("polarity_accuracy", "Polarity accuracy", "label-more", _UP, "percent", 1,
     "Accuracy after folding labels into positive, negative and other."),
    ("cross_entropy", "Cross-entropy", "probability", _DOWN, "plain", 3,
     "Cross-entropy of the model's label distribution against the annotators' distribution."),
    ("js_divergence", "JS divergence", "probability", _DOWN, "plain", 3,
     "Jensen-Shannon divergence between the model's and the annotators' label distributions."),
    ("brier", "Brier score", "probability", _DOWN, "plain", 3,
     "Squared distance between the model's and the annotators' label distributions."),
    ("ece", "Calibration error", "probability", _DOWN, "percent", 1,
     "Expected calibration error of the probability given to the answered label."),
    ("bleu_4", "BLEU-4", "text", _UP, "percent", 1, "Corpus BLEU-4 of the explanation."),
    ("meteor", "METEOR", "text", _UP, "percent", 1, "METEOR 1.5 of the explanation."),
    ("rouge_l", "ROUGE-L", "text", _UP, "percent", 1, "ROUGE-L of the explanation."),
    ("cider_d", "CIDEr-D", "text", _UP, "plain", 2,
     "CIDEr-D on pycocoevalcap's own scale of 0 to 10, document frequencies of the full split."),
    ("bleu_1", "BLEU-1", "text-more", _UP, "percent", 1, "Corpus BLEU-1 of the explanation."),
    ("bleu_2", "BLEU-2", "text-more", _UP, "percent", 1, "Corpus BLEU-2 of the explanation."),
    ("bleu_3", "BLEU-3", "text-more", _UP, "percent", 1, "Corpus BLEU-3 of the explanation."),
    ("bert_score", "BERTScore", "text-more", _UP, "percent", 1, "BERTScore F1 of the explanation."),
    ("spice", "SPICE", "text-more", _UP, "percent", 1, "SPICE F-score of the explanation."),
    ("emotional_alignment", "Emotional alignment", "affect", _UP, "percent", 1,
     "A text classifier reads the human dominant emotion from the explanation alone."),
    ("consistency", "Consistency", "affect", _UP, "percent", 1,
     "A text classifier reads the model's own answered label from its explanation."),
    ("ea_cross_entropy", "Alignment cross-entropy", "vad", _DOWN, "plain", 3,
     "Cross-entropy of that text classifier against the annotators' distribution."),
    ("vad_error_v", "Valence error", "vad", _DOWN, "plain", 3, "Absolute valence difference to the references."),
    ("vad_error_a", "Arousal error", "vad", _DOWN, "plain", 3, "Absolute arousal difference to the references."),
    ("vad_error_d", "Dominance error", "vad", _DOWN, "plain", 3, "Absolute dominance difference to the references."),
    ("vad_ccc_v", "Valence CCC", "vad", _UP, "plain", 3, "Concordance correlation of valence with the references."),
    ("vad_ccc_a", "Arousal CCC", "vad", _UP, "plain", 3, "Concordance correlation of arousal with the references."),
    ("vad_ccc_d", "Dominance CCC", "vad", _UP, "plain", 3, "Concordance correlation of dominance with the references."),
    ("vad_coverage", "Words in lexicon", "vad", None, "percent", 1,
     "Words of the explanation that the valence, arousal and dominance lexicon knows."),
    ("ccc_valence", "Valence CCC", "rating", _UP, "plain", 3,
     "Concordance of the model's valence with people's mean rating."),
    ("ccc_arousal", "Arousal CCC", "rating", _UP, "plain", 3,
     "Concordance of the model's arousal with people's mean rating."),
    ("ccc_dominance", "Dominance CCC", "rating", _UP, "plain", 3,
     "Concordance of the model's dominance with people's mean rating."),
    ("pearson_valence", "Valence correlation", "rating", _UP, "plain", 3,
     "Pearson correlation of the model's valence with people's mean rating."),
    ("pearson_arousal", "Arousal correlation", "rating", _UP, "plain", 3,
     "Pearson correlation of the model's arousal with people's mean rating."),
    ("pearson_dominance", "Dominance correlation", "rating", _UP, "plain", 3,
     "Pearson correlation of the model's dominance with people's mean rating."),
    ("rmse_valence", "Valence RMSE", "rating", _DOWN, "plain", 3,
     "Root mean squared difference in valence, in units of the task's scale."),
    ("rmse_arousal", "Arousal RMSE", "rating", _DOWN, "plain", 3,
     "Root mean squared difference in arousal, in units of the task's scale."),
    ("rmse_dominance", "Dominance RMSE", "rating", _DOWN, "plain", 3,
     "Root mean squared difference in dominance, in units of the task's scale."),
    ("unique", "Unique", "variety", _UP, "percent", 1, "Distinct explanations among all explanations."),
    ("distinct_1", "Distinct-1", "variety", _UP, "percent", 1, "Distinct words among all words."),
    ("distinct_2", "Distinct-2", "variety", _UP, "percent", 1, "Distinct word pairs among all word pairs."),
    ("metaphor", "Similes", "variety", None, "percent", 1,
     "Explanations that hold a phrase of comparison such as “reminds me of”."),
    ("lcs_novelty", "LCS, words", "variety", _DOWN, "plain", 1,
     "Mean longest common subsequence with the nearest training explanation; grows with length."),
    ("copied", "Copied", "variety", _DOWN, "percent", 1, "Explanations found word for word in the training split."),
    ("mean_length", "Mean length", "variety", None, "plain", 1, "Words per explanation."),
    ("answered", "Answered", "coverage", _UP, "percent", 1, "Pictures with an answer among all asked."),
    ("refused", "Refused", "coverage", _DOWN, "count", 0, "Pictures that the model declined to answer."),
    ("unparsed", "Unparsed", "coverage", _DOWN, "count", 0, "Texts from which no label of the task could be read."),
    ("failed", "Failed", "coverage", _DOWN, "count", 0, "No text at all: unreadable picture, endpoint error."),
    ("parameters", "Parameters", "cost", _DOWN, "si", 0, "Weights of the model, frozen parts included."),
    ("latency_p50_s", "Latency p50, s", "cost", _DOWN, "plain", 2, "Median seconds per picture."),
    ("cost_usd", "Cost, US$", "cost", _DOWN, "money", 0, "Price of the whole run as the endpoint bills it."),
    ("latency_p95_s", "Latency p95, s", "cost-more", _DOWN, "plain", 2, "95th percentile of seconds per picture."),
    ("images_per_s", "Pictures/s", "cost-more", _UP, "plain", 2, "Throughput of the run."),
    ("peak_memory_gb", "Peak memory, GB", "cost-more", _DOWN, "plain", 1, "Largest memory held on the device."),
    ("tokens", "Tokens", "cost-more", _DOWN, "si", 0, "Prompt and completion tokens of the run."),
)  # fmt: skip

METRICS: dict[str, MetricInfo] = {row[0]: MetricInfo(*row) for row in _ROWS}

HEADLINES: tuple[str, ...] = ("accuracy", "macro_f1", "annotator_mass", "cider_d", "emotional_alignment", "consistency")
"""The metrics a reader asks for first: they lead the scatter plots and the terminal table."""


def metric_info(name: str) -> MetricInfo:
    """How to show `name`; a metric unknown here is shown plainly, without a direction."""
    if name in METRICS:
        return METRICS[name]
    return MetricInfo(name, name, "other", None, "plain", 3, "A metric that this report has no description of.")


def display_rank(name: str) -> tuple[int, int, str]:
    """Sort key that puts metrics in the order of the groups, unknown ones in `other` by name."""
    groups = [group.key for group in GROUPS]
    known = list(METRICS)
    info = metric_info(name)
    return groups.index(info.group), known.index(name) if name in METRICS else len(known), name
