"""Every registered metric against an independent implementation or a table worked out by hand.

A metric without an entry in `CHECKS` fails `test_every_metric_has_a_check`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import affect_checks  # noqa: F401 (registers its checks)
import numpy as np
import pytest
import sacrebleu
import torch
from metric_checks import CHECKS, checks, evaluate
from metric_rows import EMOTIONS, POLARITY, ContextFor, captions_of, golden_rows, make_row
from scipy.spatial.distance import jensenshannon
from scipy.stats import kendalltau, pearsonr
from sklearn.metrics import (
    accuracy_score,
    cohen_kappa_score,
    f1_score,
    recall_score,
    root_mean_squared_error,
    top_k_accuracy_score,
)
from torchmetrics.functional.classification import multiclass_calibration_error

from harness.tasks.metrics import METRICS
from harness.tasks.metrics.base import ScoredExample
from harness.types import Answer, Refusal, Usage


def dominated(rows: Sequence[ScoredExample], least: float, strict: bool) -> tuple[list[str], list[str]]:
    """True and answered labels of the rows with a dominant label (`none` for a non-answer), by sorting counts."""
    truth, guess = [], []
    for row in rows:
        (label, top), *others = Counter(dict(row.histogram)).most_common()
        share, tied = top / sum(row.histogram.values()), bool(others) and others[0][1] == top
        if not tied and (share > least if strict else share >= least):
            truth.append(label)
            guess.append(row.emotion or "none")
    return truth, guess


def distributions(rows: Sequence[ScoredExample]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    answered = [row for row in rows if isinstance(row.outcome, Answer)]
    model = [[row.outcome.emotion_probs[e] for e in EMOTIONS] for row in answered]  # type: ignore[index, union-attr]
    people = [[row.histogram.get(e, 0) / sum(row.histogram.values()) for e in EMOTIONS] for row in answered]
    return np.array(model), np.array(people)


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_has_a_check(name: str) -> None:
    assert name in CHECKS, f"no independent check of {name!r}: add one to {__file__}"


@pytest.mark.parametrize("name", CHECKS)
def test_metric(
    name: str,
    panel: list[ScoredExample],
    context_for: ContextFor,
    golden: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    more = {"monkeypatch": monkeypatch, "tmp_path": tmp_path} if name == "spice" else {}
    CHECKS[name](name, panel, context_for, golden, **more)


@checks(
    *(
        f"{kind}_{d}"
        for kind in ("ccc", "pearson", "rmse", "icc", "weighted_kappa")
        for d in ("valence", "arousal", "dominance")
    )
)
def _ratings(name: str, panel: list[ScoredExample], context_for: ContextFor, _: Any) -> None:
    """SciPy's correlation, scikit-learn's error, and CCC by NumPy's covariance matrix (torchmetrics divides by n - 1)."""
    kind, dimension = name.rsplit("_", 1)
    answered = [row for row in panel if isinstance(row.outcome, Answer) and row.example.ratings]
    assert 20 < len(answered) < len([row for row in panel if isinstance(row.outcome, Answer)])
    x = np.array([row.example.ratings[dimension] for row in answered])
    y = np.array([row.outcome.ratings[dimension] for row in answered])  # type: ignore[index, union-attr]
    cov = np.cov(x, y, ddof=0)
    expected = {
        "pearson": lambda: pearsonr(x, y).statistic,
        "rmse": lambda: root_mean_squared_error(x, y),
        "icc": lambda: anova_icc(np.stack([x, y], axis=1)),
        "weighted_kappa": lambda: cohen_kappa_score(np.rint(x), np.rint(y), weights="quadratic"),
        "ccc": lambda: 2 * cov[0, 1] / (cov[0, 0] + cov[1, 1] + (x.mean() - y.mean()) ** 2),
    }
    assert evaluate(name, panel, context_for(panel)) == pytest.approx(expected[kind](), rel=1e-9)


def anova_icc(table: np.ndarray[Any, Any]) -> float:
    """ICC(A,1) spelled out as a two-way analysis of variance of (images, raters)."""
    n, k = table.shape
    images, raters, grand = table.mean(1, keepdims=True), table.mean(0, keepdims=True), table.mean()
    by_image = k * ((images - grand) ** 2).sum() / (n - 1)
    by_rater = n * ((raters - grand) ** 2).sum() / (k - 1)
    error = ((table - images - raters + grand) ** 2).sum() / ((n - 1) * (k - 1))
    return float((by_image - error) / (by_image + (k - 1) * error + k * (by_rater - error) / n))


@checks("weighted_f1", "weighted_f1_answered", "macro_f1_answered", "balanced_accuracy_answered", "cohen_kappa")
def _averages(name: str, panel: list[ScoredExample], context_for: ContextFor, _: Any) -> None:
    lenient = name.endswith("answered") or name == "cohen_kappa"
    truth, guess = dominated([row for row in panel if row.emotion or not lenient], 0.5, strict=True)
    labels = sorted(set(truth))
    expected = {
        "weighted_f1": lambda: f1_score(truth, guess, labels=labels, average="weighted", zero_division=0),
        "macro_f1": lambda: f1_score(truth, guess, labels=labels, average="macro", zero_division=0),
        "balanced_accuracy": lambda: recall_score(truth, guess, labels=labels, average="macro", zero_division=0),
        "cohen_kappa": lambda: cohen_kappa_score(truth, guess),
    }
    assert evaluate(name, panel, context_for(panel)) == pytest.approx(expected[name.removesuffix("_answered")]())


@checks("krippendorff_alpha")
def _krippendorff(name: str, _: list[ScoredExample], context_for: ContextFor, __: Any) -> None:
    """The coincidence matrix of two coders, spelled out; then a split vote worked by hand.

    Answers awe and fear, votes (awe, fear) and (fear): n_awe = 1 + 1/2, n_fear = 1 + 3/2, agreement 1/2 + 1, n = 4:
    1 - 3 (4 - 3) / (16 - 2.25 - 6.25) = .6.
    """
    chance = np.random.default_rng(5)
    votes = chance.integers(0, 4, 50)
    answers = np.where(chance.random(50) < 0.5, votes, chance.integers(0, 4, 50))
    rows = [make_row(Answer(EMOTIONS[a], "x"), [EMOTIONS[v]]) for a, v in zip(answers, votes, strict=True)]
    matrix = np.zeros((4, 4))
    np.add.at(matrix, (answers, votes), 1)
    matrix += matrix.T
    totals = matrix.sum(0)
    n = totals.sum()
    observed, expected = 1 - np.trace(matrix) / n, 1 - (totals * (totals - 1)).sum() / (n * (n - 1))
    assert evaluate(name, rows, context_for(rows)) == pytest.approx(1 - observed / expected)
    split = [make_row(Answer("awe", "x"), ["awe", "fear"]), make_row(Answer("fear", "x"), ["fear"])]
    assert evaluate(name, split, context_for(split)) == pytest.approx(0.6)


@checks("rank_tau")
def _rank_tau(name: str, panel: list[ScoredExample], context_for: ContextFor, _: Any) -> None:
    """SciPy's tau-b, image by image."""
    model, people = distributions(panel)
    taus = [kendalltau(p, q).statistic for p, q in zip(model, people, strict=True)]
    assert evaluate(name, panel, context_for(panel)) == pytest.approx(np.mean(taus), abs=1e-12)
    even = {e: 1 / len(EMOTIONS) for e in EMOTIONS}
    assert evaluate(name, [make_row(Answer("awe", "", even), ["awe", "fear"])], context_for(panel)) == 0.0


@checks("wheel_precision", "wheel_recall")
def _wheel(name: str, _: list[ScoredExample], context_for: ContextFor, __: Any) -> None:
    """By hand: `scared` and `afraid` are of one family, `nostalgic` stands for itself, a refusal scores 0."""
    rows = [
        make_row(Answer("scared", ""), ["afraid", "nostalgic"]),
        make_row(Answer("nostalgic", ""), ["Nostalgic", "nostalgic"]),
        make_row(Answer("calm", ""), ["furious"]),
        make_row(Refusal("no"), ["calm"]),
    ]
    expected = {"wheel_precision": 2 / 4, "wheel_recall": (1 / 2 + 1 + 0 + 0) / 4}
    assert evaluate(name, rows, context_for(rows)) == pytest.approx(expected[name])


@checks("top_2", "top_3")
def _top_k(name: str, panel: list[ScoredExample], context_for: ContextFor, _: Any) -> None:
    answered = [row for row in panel if row.emotion and dominated([row], 0.5, strict=True)[0]]
    truth, _guess = dominated(answered, 0.5, strict=True)
    scores, _people = distributions(answered)
    order = sorted(EMOTIONS)  # as scikit-learn wants the labels
    expected = top_k_accuracy_score(truth, scores[:, [EMOTIONS.index(e) for e in order]], k=int(name[-1]), labels=order)
    assert evaluate(name, panel, context_for(panel)) == pytest.approx(expected)


@checks("accuracy", "accuracy_artemis")
def _accuracy(name: str, panel: list[ScoredExample], context_for: ContextFor, _: Any) -> None:
    truth, guess = dominated(panel, 0.5, strict=name == "accuracy")
    assert len(truth) > 20
    assert evaluate(name, panel, context_for(panel)) == pytest.approx(accuracy_score(truth, guess))


@checks("accuracy_answered")
def _accuracy_answered(name: str, panel: list[ScoredExample], context_for: ContextFor, _: Any) -> None:
    truth, guess = dominated([row for row in panel if row.emotion], 0.5, strict=True)
    assert evaluate(name, panel, context_for(panel)) == pytest.approx(accuracy_score(truth, guess))


@checks("said_true")
def _said_true(name: str, panel: list[ScoredExample], context_for: ContextFor, _: Any) -> None:
    answered = [row.outcome.emotion for row in panel if isinstance(row.outcome, Answer)]
    expected = Counter(answered)[EMOTIONS[0]] / len(answered)  # the first label stands for `true`
    assert evaluate(name, panel, context_for(panel)) == pytest.approx(expected)


@checks("gave_up")
def _gave_up(name: str, panel: list[ScoredExample], context_for: ContextFor, _: Any) -> None:
    silent = sum(not isinstance(row.outcome, Answer) for row in panel)
    assert silent > 0
    assert evaluate(name, panel, context_for(panel)) == pytest.approx(silent / len(panel))


@checks("macro_f1")
def _macro_f1(name: str, panel: list[ScoredExample], context_for: ContextFor, _: Any) -> None:
    truth, guess = dominated(panel, 0.5, strict=True)
    expected = f1_score(truth, guess, labels=sorted(set(truth)), average="macro", zero_division=0)
    assert evaluate(name, panel, context_for(panel)) == pytest.approx(expected)


@checks("balanced_accuracy")
def _balanced_accuracy(name: str, panel: list[ScoredExample], context_for: ContextFor, _: Any) -> None:
    truth, guess = dominated(panel, 0.5, strict=True)
    expected = recall_score(truth, guess, labels=sorted(set(truth)), average="macro", zero_division=0)
    assert evaluate(name, panel, context_for(panel)) == pytest.approx(expected)


@checks("annotator_mass")
def _annotator_mass(name: str, _: list[ScoredExample], context_for: ContextFor, __: Any) -> None:
    rows = [
        make_row(Answer("awe", "x"), ["awe", "awe", "fear", "anger"]),  # 2/4
        make_row(Answer("fear", "x"), ["awe", "awe"]),  # 0
        make_row(Refusal(), ["awe"]),  # 0
        make_row(Answer("fear", "x"), ["fear"]),  # 1
    ]
    assert evaluate(name, rows, context_for(rows)) == pytest.approx(1.5 / 4)


@checks("polarity_accuracy")
def _polarity_accuracy(name: str, panel: list[ScoredExample], context_for: ContextFor, _: Any) -> None:
    right, total = 0, 0
    for row in panel:
        sides = Counter(POLARITY[a.emotion] for a in row.references)
        side, count = sides.most_common(1)[0]
        if count > sum(sides.values()) / 2:
            total += 1
            right += row.emotion is not None and POLARITY[row.emotion] == side
    assert evaluate(name, panel, context_for(panel)) == pytest.approx(right / total)


@checks("cross_entropy")
def _cross_entropy(name: str, panel: list[ScoredExample], context_for: ContextFor, _: Any) -> None:
    model, people = distributions(panel)
    expected = torch.nn.functional.cross_entropy(torch.tensor(model).log(), torch.tensor(people)).item()
    assert evaluate(name, panel, context_for(panel)) == pytest.approx(expected, rel=1e-6)


@checks("js_divergence")
def _js_divergence(name: str, panel: list[ScoredExample], context_for: ContextFor, _: Any) -> None:
    expected = np.mean(jensenshannon(*distributions(panel), base=2, axis=1) ** 2)
    assert evaluate(name, panel, context_for(panel)) == pytest.approx(expected)


@checks("brier")
def _brier(name: str, panel: list[ScoredExample], context_for: ContextFor, _: Any) -> None:
    expected = np.mean([math.dist(p, q) ** 2 for p, q in zip(*distributions(panel), strict=True)])
    assert evaluate(name, panel, context_for(panel)) == pytest.approx(expected)


@checks("ece")
def _ece(name: str, _: list[ScoredExample], context_for: ContextFor, __: Any) -> None:
    """Two hundred answers, too modest where unsure and too bold where sure, so that bins differ in sign."""
    chance = np.random.default_rng(8)
    probs = chance.dirichlet(np.full(len(EMOTIONS), 0.4), 200)
    best, sure = probs.argmax(1), probs.max(1)
    right = chance.random(200) < np.where(sure < 0.5, 0.8, 0.4)
    truth = np.where(right, best, (best + 1) % len(EMOTIONS))
    rows = [
        make_row(Answer(EMOTIONS[b], "x", dict(zip(EMOTIONS, p.tolist(), strict=True))), [EMOTIONS[t]])
        for b, p, t in zip(best, probs, truth, strict=True)
    ]
    expected = multiclass_calibration_error(torch.tensor(probs), torch.tensor(truth), len(EMOTIONS), n_bins=15)
    assert evaluate(name, rows, context_for(rows)) == pytest.approx(expected.item(), abs=1e-6)


@checks("ece_shares")
def _ece_shares(name: str, _: list[ScoredExample], context_for: ContextFor, __: Any) -> None:
    """By hand: in the bin of .8 four answers that 3, 4, 2 and 3 of 4 annotators share, in the bin of .5 one of 1 in 4.

    Shares .75 and .25 on average, so (4 |.75 - .8| + 1 |.25 - .5|) / 5 = .09; no image needs a dominant emotion.
    """

    def row(sure: float, agree: int) -> ScoredExample:
        return make_row(Answer("awe", "x", {"awe": sure, "fear": 1 - sure}), ["awe"] * agree + ["fear"] * (4 - agree))

    rows = [*(row(0.8, agree) for agree in (3, 4, 2, 3)), row(0.5, 1), make_row(Refusal(), ["awe"])]
    assert evaluate(name, rows, context_for(rows)) == pytest.approx(0.09)


@checks("bleu_1", "bleu_2", "bleu_3", "bleu_4")
def _bleu(name: str, panel: list[ScoredExample], context_for: ContextFor, _: Any) -> None:
    """Equal to sacrebleu on the same tokens: both take the closest reference length."""
    context = context_for(panel)
    answered = [row for row in panel if row.explanation is not None]
    value = evaluate(name, panel, context)
    candidates = [captions_of(context).tokens(row.explanation or "") for row in answered]
    references = [[captions_of(context).tokens(a.explanation) for a in row.references] for row in answered]
    width = max(map(len, references))
    streams = [[refs[i] if i < len(refs) else None for refs in references] for i in range(width)]
    bleu = sacrebleu.BLEU(tokenize="none", smooth_method="none", max_ngram_order=int(name[-1]))
    assert value == pytest.approx(bleu.corpus_score(candidates, streams).score / 100, abs=1e-6)


@checks("meteor")
def _meteor(name: str, _: list[ScoredExample], context_for: ContextFor, golden: dict[str, Any]) -> None:
    """Recorded from the jar's own corpus evaluation."""
    rows = golden_rows(golden["sentences"]["items"])
    expected = golden["expected"]["ptb"]["corpus"]["METEOR"]
    assert evaluate(name, rows, context_for(rows)) == pytest.approx(expected, abs=1e-6)


@checks("rouge_l")
def _rouge_l(name: str, _: list[ScoredExample], context_for: ContextFor, __: Any) -> None:
    """Candidate of 4 words; LCS 3 of 4 with the first reference, 2 of 2 with the second: P = 3/4, R = 1."""
    rows = [make_row(Answer("awe", "a b c d"), ["awe", "awe"], ["a b x d", "c d"])]
    expected = (1 + 1.2**2) * 0.75 * 1 / (1 + 1.2**2 * 0.75)
    assert evaluate(name, rows, context_for(rows, "artemis-plain")) == pytest.approx(expected)


@checks("cider_d")
def _cider_d(name: str, panel: list[ScoredExample], context_for: ContextFor, _: Any) -> None:
    """A second implementation with dense vectors over all n-grams of the panel."""
    rows = panel[:12]
    context = context_for(rows, "artemis-plain")

    def grams(text: str, n: int) -> Counter[tuple[str, ...]]:
        words = text.split()
        return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))

    def similarity(candidate: str, reference: str) -> float:
        orders = []
        for n in range(1, 5):
            df = Counter(g for row in rows for g in {g for a in row.references for g in grams(a.explanation, n)})
            space = sorted(grams(candidate, n) | grams(reference, n))
            idf = np.array([math.log(len(rows) / max(1, df[g])) for g in space])
            c, r = (np.array([grams(text, n)[g] for g in space]) * idf for text in (candidate, reference))
            norm = float(np.linalg.norm(c) * np.linalg.norm(r))
            orders.append(float(np.minimum(c, r) @ r) / norm if norm else 0.0)
        gap = max(len(candidate.split()) - 1, 0) - max(len(reference.split()) - 1, 0)
        return float(np.mean(orders)) * math.exp(-(gap**2) / (2 * 6**2))

    scores = [
        10 * np.mean([similarity(row.explanation, a.explanation) for a in row.references])
        for row in rows
        if row.explanation is not None
    ]
    assert evaluate(name, rows, context) == pytest.approx(np.mean(scores), abs=1e-9)


STYLE_TEXTS = ("It looks like rain .", "it looks like rain", "It  looks like rain .", "the sea", "")
"""In `artemis-plain`: 5 + 4 + 5 + 2 + 0 words, 3 of 5 with a marker, 4 distinct strings."""


def style_rows() -> list[ScoredExample]:
    answers = [make_row(Answer("awe", text), ["awe"]) for text in STYLE_TEXTS]
    return [*answers, make_row(Refusal(), ["awe"])]


@checks("unique")
def _unique(name: str, _: list[ScoredExample], context_for: ContextFor, __: Any) -> None:
    rows = style_rows()
    assert evaluate(name, rows, context_for(rows, "artemis-plain")) == pytest.approx(4 / 5)


@checks("distinct_1", "distinct_2")
def _distinct(name: str, _: list[ScoredExample], context_for: ContextFor, __: Any) -> None:
    """Words: It it looks like rain . the sea = 8 of 16. Pairs: 4 + 1 new (it looks) + 1 (the sea) = 6 of 12."""
    rows = style_rows()
    expected = {"distinct_1": 8 / 16, "distinct_2": 6 / 12}[name]
    assert evaluate(name, rows, context_for(rows, "artemis-plain")) == pytest.approx(expected)


@checks("metaphor")
def _metaphor(name: str, _: list[ScoredExample], context_for: ContextFor, __: Any) -> None:
    rows = style_rows()
    assert evaluate(name, rows, context_for(rows)) == pytest.approx(3 / 5)


@checks("copied")
def _copied(name: str, _: list[ScoredExample], context_for: ContextFor, __: Any) -> None:
    rows = style_rows()
    train = ("It  looks like RAIN .", "the sea was grey")
    assert evaluate(name, rows, context_for(rows, train=train)) == pytest.approx(2 / 5)


@checks("lcs_novelty")
def _lcs_novelty(name: str, panel: list[ScoredExample], context_for: ContextFor, _: Any) -> None:
    """Against the textbook table, on texts longer than a machine word too."""
    train = tuple(a.explanation for row in panel for a in row.references)[:60]
    long = [make_row(Answer("awe", " ".join(train[i : i + 30])), ["awe"]) for i in (0, 15)]
    rows = [*panel[:10], *long]

    def length(a: list[str], b: list[str]) -> int:
        table = np.zeros((len(a) + 1, len(b) + 1), dtype=int)
        for i, x in enumerate(a):
            for j, y in enumerate(b):
                table[i + 1, j + 1] = table[i, j] + 1 if x == y else max(table[i, j + 1], table[i + 1, j])
        return int(table[-1, -1])

    texts = [row.explanation.split() for row in rows if row.explanation is not None]
    longest = [max(length(text, known.split()) for known in train) for text in texts]
    assert evaluate(name, rows, context_for(rows, "artemis-plain", train)) == pytest.approx(np.mean(longest))


@checks("mean_length")
def _mean_length(name: str, _: list[ScoredExample], context_for: ContextFor, __: Any) -> None:
    """PTB tokens: the full stops go (4 + 4 + 4 + 2 + 0); split at blanks they stay."""
    rows = style_rows()
    assert evaluate(name, rows, context_for(rows)) == pytest.approx(14 / 5)
    assert evaluate(name, rows, context_for(rows, "artemis-plain")) == pytest.approx(16 / 5)


def costed_rows() -> list[ScoredExample]:
    """Latencies 1, 2, 3, 10 s, one from the cache, one unknown; tokens and price known for the first two."""
    usages = [
        Usage(1.0, 10, 5, 0.01),
        Usage(2.0, 20, 5, 0.02, attempts=2),
        Usage(3.0, 7, None),
        Usage(10.0),
        Usage(0.001, cached=True),
        Usage(),
    ]
    return [make_row(Refusal(usage=u) if i % 2 else Answer("awe", "x", usage=u), ["awe"]) for i, u in enumerate(usages)]


@checks("latency_p50_s", "latency_p95_s")
def _latency(name: str, _: list[ScoredExample], context_for: ContextFor, __: Any) -> None:
    """Between the sorted 1, 2, 3, 10: half way from 2 to 3, and 0.85 of the way from 3 to 10."""
    rows = costed_rows()
    expected = {"latency_p50_s": 2.5, "latency_p95_s": 3 + 0.85 * 7}[name]
    assert evaluate(name, rows, context_for(rows)) == pytest.approx(expected)


@checks("tokens", "cost_usd")
def _cost(name: str, _: list[ScoredExample], context_for: ContextFor, __: Any) -> None:
    rows = costed_rows()
    assert evaluate(name, rows, context_for(rows)) == pytest.approx({"tokens": 40, "cost_usd": 0.03}[name])
