"""Metrics in one call each, over plain lists: `from harness.metrics import cider_d`.

    >>> from harness.metrics import accuracy, rouge_l
    >>> accuracy(["awe", "fear"], [["awe", "awe", "fear"], ["awe", "fear"]])  # the second image has no majority
    1.0
    >>> round(rouge_l(["a calm sea"], [["the sea is calm", "a calm sea"]], protocol="artemis-plain"), 2)
    1.0

Three kinds of arguments occur throughout:

- `predictions`: a label for each image, None if the model gave none;
- `annotations`: for each image the labels that people chose, or one label, or how many chose each (a mapping);
- `candidates` and `references`: a text for each image, and the texts of people.

Values are those of the leaderboard, without interval: fractions are 0..1, and a value that cannot be computed is NaN.
`protocol` is `coco-ptb` (Stanford's tokeniser, needs Java) or `artemis-plain` (split at blanks); docs/metrics.md has
the definitions, the classes in `harness.tasks.metrics` the formulas. Metrics that need a run (usage, the task's text
classifier, statements) have no function here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from harness.plan.registry import metric_registry
from harness.tasks.metrics.affect import WordAffect
from harness.tasks.metrics.base import AdditiveMetric, Context, ScoredExample, SetMetric, traits
from harness.tasks.metrics.caption_engine import CaptionEngine
from harness.tasks.metrics.clip import ImageTextSimilarity
from harness.tasks.metrics.similarity import TextSimilarity
from harness.tasks.metrics.style import WordIds
from harness.tasks.metrics.triggers import FOUND_FROM, SentenceEncoder
from harness.types import VAD_DIMENSIONS, Annotation, Answer, Example, Outcome, Refusal, Task, UserError

Annotations: TypeAlias = Sequence[str | Sequence[str] | Mapping[str, int]]
Labels: TypeAlias = Sequence[str | None]
Texts: TypeAlias = Sequence[str]

_NO_IMAGE = Path("none")


# -------------------------------------------------------------------------------------------- labels


def accuracy(predictions: Labels, annotations: Annotations) -> float:
    """Share of images with a majority label (chosen by more than half) whose prediction equals it.

    >>> accuracy(["awe", None, "fear"], ["awe", "awe", {"fear": 2, "awe": 1}])
    0.6666666666666666
    """
    return _labels("accuracy", predictions, annotations)


def accuracy_artemis(predictions: Labels, annotations: Annotations) -> float:
    """`accuracy` by the ArtEmis rule: at least half of the annotators, without a tie.

    >>> accuracy_artemis(["awe", "awe"], [["awe", "awe", "fear", "joy"], ["awe", "fear"]])
    1.0
    """
    return _labels("accuracy_artemis", predictions, annotations)


def accuracy_answered(predictions: Labels, annotations: Annotations) -> float:
    """`accuracy` over images with a prediction.

    >>> accuracy_answered(["awe", None], ["awe", "awe"])
    1.0
    """
    return _labels("accuracy_answered", predictions, annotations)


def annotator_mass(predictions: Labels, annotations: Annotations) -> float:
    """Mean share of annotators who chose the prediction, 0 without one.

    >>> annotator_mass(["awe", "fear"], [["awe", "awe", "fear", "joy"], ["fear"]])
    0.75
    """
    return _labels("annotator_mass", predictions, annotations)


def macro_f1(predictions: Labels, annotations: Annotations, *, answered: bool = False) -> float:
    """Mean F1 = 2 TP / (2 TP + FP + FN) over the majority labels that occur.

    Args:
        predictions, annotations: see the module.
        answered: leave out images without a prediction.

    >>> macro_f1(["a", "b", "b"], ["a", "a", "b"])  # F1 of a 2/3, of b 2/3
    0.6666666666666666
    """
    return _labels("macro_f1_answered" if answered else "macro_f1", predictions, annotations)


def weighted_f1(predictions: Labels, annotations: Annotations, *, answered: bool = False) -> float:
    """F1 of each majority label, weighted by how many images have it.

    >>> round(weighted_f1(["a", "b", "b", None], ["a", "a", "b", "a"]), 4)  # F1 of a 1/2 (n 3), of b 2/3 (n 1)
    0.5417
    """
    return _labels("weighted_f1_answered" if answered else "weighted_f1", predictions, annotations)


def balanced_accuracy(predictions: Labels, annotations: Annotations, *, answered: bool = False) -> float:
    """Mean recall over the majority labels that occur (UAR).

    >>> balanced_accuracy(["a", "b", "b"], ["a", "a", "b"])
    0.75
    """
    return _labels("balanced_accuracy_answered" if answered else "balanced_accuracy", predictions, annotations)


def polarity_accuracy(predictions: Labels, annotations: Annotations, polarity: Mapping[str, str]) -> float:
    """`accuracy` after folding labels by `polarity`.

    >>> polarity_accuracy(["awe"], ["joy"], {"awe": "positive", "joy": "positive", "fear": "negative"})
    1.0
    """
    return _labels("polarity_accuracy", predictions, annotations, polarity=polarity)


def cohen_kappa(predictions: Labels, annotations: Annotations) -> float:
    """Agreement with the majority label beyond chance, (p_o - p_e) / (1 - p_e), over images with a prediction.

    >>> cohen_kappa(["a", "a", "b", "b"], ["a", "a", "b", "a"])  # p_o 3/4, p_e 1/2
    0.5
    """
    return _labels("cohen_kappa", predictions, annotations)


def krippendorff_alpha(predictions: Labels, annotations: Annotations) -> float:
    """Nominal alpha 1 - D_o / D_e of each prediction beside the annotators of its image.

    >>> krippendorff_alpha(["a", "b"], [["a"], ["b"]])
    1.0
    """
    return _labels("krippendorff_alpha", predictions, annotations)


# --------------------------------------------------------------------------------------- probabilities

Probabilities: TypeAlias = Sequence[Mapping[str, float]]


def cross_entropy(probabilities: Probabilities, annotations: Annotations) -> float:
    """Mean of -sum_e q_e ln p_e against the annotators' shares q, in nats.

    >>> round(cross_entropy([{"a": 0.5, "b": 0.5}], [["a", "b"]]), 4)
    0.6931
    """
    return _probabilities("cross_entropy", probabilities, annotations)


def js_divergence(probabilities: Probabilities, annotations: Annotations) -> float:
    """Mean Jensen-Shannon divergence (base 2) from the annotators' shares.

    >>> js_divergence([{"a": 0.5, "b": 0.5}], [["a", "b"]])
    0.0
    """
    return _probabilities("js_divergence", probabilities, annotations)


def brier(probabilities: Probabilities, annotations: Annotations) -> float:
    """Mean squared distance from the annotators' shares, 0..2.

    >>> round(brier([{"a": 0.8, "b": 0.2}], ["a"]), 4)
    0.08
    """
    return _probabilities("brier", probabilities, annotations)


def ece(probabilities: Probabilities, annotations: Annotations, *, shares: bool = True) -> float:
    """Expected calibration error of the likeliest label's probability, 15 bins.

    Args:
        probabilities, annotations: see the module.
        shares: compare with the share of annotators who chose the label; False: with 1 or 0 by the majority label.

    >>> round(ece([{"a": 0.75, "b": 0.25}], [["a", "a", "a", "b"]]), 4)
    0.0
    >>> round(ece([{"a": 0.75, "b": 0.25}], [["a", "a", "a", "b"]], shares=False), 4)
    0.25
    """
    return _probabilities("ece_shares" if shares else "ece", probabilities, annotations)


def rank_tau(probabilities: Probabilities, annotations: Annotations) -> float:
    """Mean of Kendall's tau-b of labels ranked by probability and by annotators.

    >>> rank_tau([{"awe": 0.6, "fear": 0.3, "joy": 0.1}], [["awe", "awe", "fear"]])
    1.0
    """
    return _probabilities("rank_tau", probabilities, annotations)


def top_k(probabilities: Probabilities, annotations: Annotations, *, k: int = 3) -> float:
    """Share of images whose majority label is among the k likeliest, k 2 or 3.

    >>> top_k([{"a": 0.5, "b": 0.3, "c": 0.2}], ["b"], k=2)
    1.0
    """
    return _probabilities(f"top_{k}", probabilities, annotations)


# --------------------------------------------------------------------------------------------- ratings


def ccc(ratings: Sequence[float], people: Sequence[float]) -> float:
    """Concordance correlation 2 cov / (var x + var y + (mean x - mean y)^2).

    >>> round(ccc([3, 4, 8], [2, 4, 6]), 4)
    0.8
    """
    return _ratings("ccc", ratings, people)


def pearson(ratings: Sequence[float], people: Sequence[float]) -> float:
    """Pearson's correlation.

    >>> round(pearson([1, 2, 3], [2, 4, 6]), 4)
    1.0
    """
    return _ratings("pearson", ratings, people)


def rmse(ratings: Sequence[float], people: Sequence[float]) -> float:
    """Root of the mean squared difference.

    >>> rmse([1.0, 3.0], [2.0, 4.0])
    1.0
    """
    return _ratings("rmse", ratings, people)


def icc(ratings: Sequence[float], people: Sequence[float]) -> float:
    """Intraclass correlation of single ratings by two fixed raters, absolute agreement: ICC(A,1) of McGraw & Wong.

    >>> round(icc([3, 4, 8], [2, 4, 6]), 4)
    0.8571
    """
    return _ratings("icc", ratings, people)


def weighted_kappa(ratings: Sequence[float], people: Sequence[float], scale: tuple[float, float]) -> float:
    """Quadratically weighted kappa of ratings rounded to whole steps of the scale.

    >>> weighted_kappa([1, 2, 3], [1, 2, 3], (1, 3))
    1.0
    """
    return _ratings("weighted_kappa", ratings, people, scale)


# ------------------------------------------------------------------------------------ open vocabularies


def set_scores(
    predicted: Sequence[Sequence[str]], people: Sequence[Sequence[str]], wheel: Mapping[str, str] | None = None
) -> dict[str, float]:
    """Precision, recall and their harmonic mean of sets of emotion words, averaged over images.

    For open vocabularies, where a model and people name any number of words: precision is the share of the predicted
    words that people named too, recall the share of people's words that were predicted. With an emotion wheel, words
    count as the family they belong to (AffectGPT's EW metrics); a word outside the wheel stands for itself.

    Args:
        predicted: the words of the model for each image; an image without any has precision and recall 0.
        people: the words of people for each image, at least one.
        wheel: word -> family, both in any case.

    >>> wheel = {"glad": "joy", "happy": "joy", "afraid": "fear", "scared": "fear"}
    >>> set_scores([["glad", "afraid"], ["calm"]], [["happy"], ["calm", "scared"]], wheel)
    {'precision': 0.75, 'recall': 0.75, 'f1': 0.75}
    """
    _same_length(predicted=predicted, people=people)
    families = {word.casefold(): family.casefold() for word, family in (wheel or {}).items()}

    def folded(words: Sequence[str]) -> set[str]:
        return {families.get(word.strip().casefold(), word.strip().casefold()) for word in words}

    pairs = [(folded(own), folded(theirs)) for own, theirs in zip(predicted, people, strict=True)]
    precision = [len(own & theirs) / len(own) if own else 0.0 for own, theirs in pairs]
    recall = [len(own & theirs) / len(theirs) if theirs else 0.0 for own, theirs in pairs]
    n = max(len(pairs), 1)
    mean_precision, mean_recall = sum(precision) / n, sum(recall) / n
    total = mean_precision + mean_recall
    f1 = 2 * mean_precision * mean_recall / total if total else 0.0
    return {"precision": mean_precision, "recall": mean_recall, "f1": f1}


# ---------------------------------------------------------------------------------------------- texts


def bleu(candidates: Texts, references: Sequence[Texts], *, order: int = 4, protocol: str = "coco-ptb") -> float:
    """Corpus BLEU up to n-grams of `order`.

    >>> bleu(["the sea"], [["the sea"]], order=2, protocol="artemis-plain") > 0.999
    True
    """
    return _texts(f"bleu_{order}", candidates, references, protocol)


def meteor(candidates: Texts, references: Sequence[Texts], *, protocol: str = "coco-ptb") -> float:
    """METEOR 1.5 by the official jar, which takes seconds to start: of the corpus under `coco-ptb`, else the mean."""
    return _texts("meteor", candidates, references, protocol)


def rouge_l(candidates: Texts, references: Sequence[Texts], *, protocol: str = "coco-ptb") -> float:
    """Mean ROUGE-L as COCO computes it.

    >>> rouge_l(["the sea"], [["the sea"]], protocol="artemis-plain")
    1.0
    """
    return _texts("rouge_l", candidates, references, protocol)


def cider_d(candidates: Texts, references: Sequence[Texts], *, protocol: str = "coco-ptb") -> float:
    """Mean CIDEr-D, document frequencies over these references.

    >>> cider_d(["the sea", "a wood"], [["the sea"], ["a wood"]], protocol="artemis-plain")  # no 3- and 4-grams
    5.0
    """
    return _texts("cider_d", candidates, references, protocol)


def bert_score(candidates: Texts, references: Sequence[Texts], *, model: str) -> float:
    """Mean of the best reference's raw BERTScore F1; `model` is the encoder's folder or hub id."""
    return _texts("bert_score", candidates, references, "artemis-plain", TextSimilarity(model))


def clip_score(candidates: Texts, images: Sequence[str | Path], *, model: str) -> float:
    """Mean CLIPScore of texts and image files; `model` is the folder or hub id of a CLIP."""
    return _texts("clip_score", candidates, None, "artemis-plain", ImageTextSimilarity(model), images=images)


def ref_clip_score(
    candidates: Texts, images: Sequence[str | Path], references: Sequence[Texts], *, model: str
) -> float:
    """Mean RefCLIPScore of texts, image files and references; `model` is the folder or hub id of a CLIP."""
    return _texts("ref_clip_score", candidates, references, "artemis-plain", ImageTextSimilarity(model), images=images)


def trigger_recall(
    candidates: Texts, triggers: Sequence[Texts], *, model: str, found_from: float = FOUND_FROM
) -> float:
    """Share of the triggers that the candidates name; `model` is the folder or hub id of a sentence encoder."""
    return _texts("trigger_recall", candidates, triggers, "artemis-plain", SentenceEncoder(model, found_from))


def vad_error(
    candidates: Texts, references: Sequence[Texts], *, dimension: str = "valence", lexicon: str | None = None
) -> float:
    """Mean absolute difference of a dimension between candidates and references, by a lexicon (VADER without one).

    >>> vad_error(["a calm sea"], [["a calm sea"]])
    0.0
    """
    return _texts(f"vad_error_{dimension[0]}", candidates, references, "artemis-plain", _lexicon(lexicon))


def vad_ccc(
    candidates: Texts, references: Sequence[Texts], *, dimension: str = "valence", lexicon: str | None = None
) -> float:
    """Concordance of a dimension between candidates and references, by a lexicon (VADER without one)."""
    return _texts(f"vad_ccc_{dimension[0]}", candidates, references, "artemis-plain", _lexicon(lexicon))


def unique(candidates: Texts) -> float:
    """Distinct texts / texts.

    >>> unique(["the sea", "the  sea", "a wood", "a lake"])
    0.75
    """
    return _texts("unique", candidates, None, "artemis-plain")


def distinct(candidates: Texts, *, n: int = 1, protocol: str = "coco-ptb") -> float:
    """Distinct n-grams / n-grams of all texts together, n 1 or 2.

    >>> distinct(["the sea", "the wood"], n=1, protocol="artemis-plain")
    0.75
    """
    return _texts(f"distinct_{n}", candidates, None, protocol)


def mean_length(candidates: Texts, *, protocol: str = "coco-ptb") -> float:
    """Mean number of tokens.

    >>> mean_length(["the sea", "a"], protocol="artemis-plain")
    1.5
    """
    return _texts("mean_length", candidates, None, protocol)


def metaphor(candidates: Texts) -> float:
    """Share of texts with one of ArtEmis' 13 phrases of comparison.

    >>> metaphor(["it looks like rain", "the sea"])
    0.5
    """
    return _texts("metaphor", candidates, None, "artemis-plain")


def copied(candidates: Texts, train: Texts) -> float:
    """Share of texts that stand word for word among `train`, case and blanks ignored.

    >>> copied(["The  sea", "a wood"], ["the sea"])
    0.5
    """
    return _texts("copied", candidates, None, "artemis-plain", train=train)


def lcs_novelty(candidates: Texts, train: Texts, *, protocol: str = "coco-ptb") -> float:
    """Mean longest common subsequence, in words, with the nearest text of `train`.

    >>> lcs_novelty(["the dark sea"], ["the sea", "a wood"], protocol="artemis-plain")
    2.0
    """
    return _texts("lcs_novelty", candidates, None, protocol, train=train)


# ------------------------------------------------------------------------------------------ evaluation


def _evaluate(name: str, rows: Sequence[ScoredExample], context: Context) -> float:
    registry = metric_registry()
    metric = registry.load(name)(context)
    reason = metric.missing() or metric.lacking({trait for row in rows for trait in traits(row.outcome)})
    if reason is not None:
        raise UserError(f"{name}: {reason}")
    if isinstance(metric, SetMetric):
        values, eligible = metric.features(rows)
        return metric.value(values[eligible]) if eligible.any() else float("nan")
    assert isinstance(metric, AdditiveMetric)
    return float(metric.value(metric.statistics(rows).values.sum(0)))


def _row(i: int, outcome: Outcome, notes: Sequence[Annotation], counts: Mapping[str, int]) -> ScoredExample:
    return ScoredExample(Example(str(i), _NO_IMAGE, tuple(notes), counts), outcome, tuple(notes), counts)


def _counts(given: str | Sequence[str] | Mapping[str, int]) -> dict[str, int]:
    if isinstance(given, Mapping):
        return dict(given)
    return dict(Counter([given] if isinstance(given, str) else given))


def _same_length(**given: Sequence[Any]) -> None:
    if len({len(values) for values in given.values()}) > 1:
        found = ", ".join(f"{len(values)} {name}" for name, values in given.items())
        raise UserError(f"expected as many of each, got {found}")


def _task(labels: Sequence[str], **fields: Any) -> Task:
    return Task("given", "given", tuple(dict.fromkeys(labels)), **fields)


def _labels(name: str, predictions: Labels, annotations: Annotations, **fields: Any) -> float:
    _same_length(predictions=predictions, annotations=annotations)
    counts = [_counts(given) for given in annotations]
    labels = [*(label for given in counts for label in given), *(p for p in predictions if p is not None)]
    outcomes = [Refusal() if label is None else Answer(label, "") for label in predictions]
    rows = [_row(i, outcome, (), given) for i, (outcome, given) in enumerate(zip(outcomes, counts, strict=True))]
    return _evaluate(name, rows, Context(_task(labels, **fields)))


def _probabilities(name: str, probabilities: Probabilities, annotations: Annotations) -> float:
    _same_length(probabilities=probabilities, annotations=annotations)
    counts = [_counts(given) for given in annotations]
    labels = [label for given in [*counts, *probabilities] for label in given]
    outcomes = [Answer(max(given, key=lambda label: given[label]), "", given) for given in probabilities]
    rows = [_row(i, outcome, (), given) for i, (outcome, given) in enumerate(zip(outcomes, counts, strict=True))]
    return _evaluate(name, rows, Context(_task(labels)))


def _ratings(
    kind: str, ratings: Sequence[float], people: Sequence[float], scale: tuple[float, float] | None = None
) -> float:
    _same_length(ratings=ratings, people=people)
    dimension = VAD_DIMENSIONS[0]
    low, high = scale or (min([*ratings, *people], default=0.0), max([*ratings, *people], default=1.0))
    rows = [
        ScoredExample(
            Example(str(i), _NO_IMAGE, (), {}, ratings={dimension: given}),
            Answer("", "", ratings={dimension: own}),
            (),
            {},
        )
        for i, (own, given) in enumerate(zip(ratings, people, strict=True))
    ]
    return _evaluate(f"{kind}_{dimension}", rows, Context(_task((), ratings={dimension: (low, high)})))


def _texts(
    name: str,
    candidates: Texts,
    references: Sequence[Texts] | None,
    protocol: str,
    *resources: object,
    train: Texts | None = None,
    images: Sequence[str | Path] | None = None,
) -> float:
    _same_length(candidates=candidates, references=candidates if references is None else references)
    notes = [[Annotation("", text) for text in texts] for texts in references or [()] * len(candidates)]
    rows = [_row(i, Answer("", text), given, {}) for i, (text, given) in enumerate(zip(candidates, notes, strict=True))]
    if images is not None:
        _same_length(candidates=candidates, images=images)
        rows = [replace(r, example=replace(r.example, image=Path(i))) for r, i in zip(rows, images, strict=True)]
    with ExitStack() as stack:
        engine = stack.enter_context(CaptionEngine(protocol, [[a.explanation for a in given] for given in notes]))
        found = (engine, WordIds(), *resources)
        return _evaluate(
            name, rows, Context(_task((), protocol=protocol), found, None if train is None else tuple(train))
        )


def _lexicon(path: str | None) -> WordAffect:
    from harness.score.resources import word_affect

    return word_affect(path)
