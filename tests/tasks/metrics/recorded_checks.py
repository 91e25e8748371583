"""What each section of a recorded set holds, computed by the public metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from harness.plan.registry import metric_registry
from harness.tasks.metrics.alignment import EmotionReader
from harness.tasks.metrics.base import (
    AdditiveMetric,
    Context,
    FloatArray,
    Metric,
    ScoredExample,
    half_without_tie,
    majority,
)
from harness.tasks.metrics.caption_engine import CaptionEngine
from harness.tasks.metrics.meteor import MeteorProcess
from harness.tasks.metrics.style import SIMILE_MARKERS, Corpus, LCSNovelty, WordIds
from harness.tasks.text_emotion.base import softmax
from harness.tasks.text_emotion.lstm import SPECIALS, Vocabulary
from harness.types import Annotation, Answer, Example, Task, histogram

EMOTIONS = (
    "amusement", "awe", "contentment", "excitement", "anger", "disgust", "fear", "sadness", "something else",
)  # fmt: skip
"""ARTEMIS_EMOTIONS: recorded emotions are indexes into it."""

OFFICIAL: Mapping[str, str] = {
    "Bleu_1": "bleu_1", "Bleu_2": "bleu_2", "Bleu_3": "bleu_3", "Bleu_4": "bleu_4", "METEOR": "meteor",
    "ROUGE_L": "rouge_l", "CIDEr": "cider_d",
}  # fmt: skip
"""pycocoevalcap's name -> ours."""

SCORES, METEOR, ALIGNMENT = 1e-9, 1e-6, 1e-6
"""Tolerances."""

Check: TypeAlias = tuple[str, Any, Any, float]
"""Path in the section, what we found, what is recorded, tolerance."""


class _Given:
    """The classifier of the set: recorded logits by text."""

    labels = EMOTIONS
    record: Mapping[str, Any] = {"kind": "given", "sha256": "0" * 64, "test_accuracy": None, "test_utterances": 0}

    def __init__(self, logits: Mapping[str, Sequence[float]]) -> None:
        self._logits = logits

    def probabilities(self, texts: Sequence[str]) -> FloatArray:
        """Probabilities (n, 9)."""
        return softmax(
            np.array([self._logits[text] for text in texts], dtype=np.float64).reshape(len(texts), len(EMOTIONS))
        )


class Recorded:
    """A recorded set and the metrics for it.

    Args:
        sentences: contents of `sentences.json`.
        expected: contents of `expected.json`.
        process: the METEOR process to ask.
    """

    def __init__(self, sentences: Mapping[str, Any], expected: Mapping[str, Any], process: MeteorProcess) -> None:
        self.sentences, self.expected = sentences, expected
        self._process = process

    def rows(self, items: str = "items", *, lower: bool = False) -> list[ScoredExample]:
        """One row per item, answered with the candidate; the label is the first annotator's."""
        return [_row(item, lower) for item in self.sentences[items]]

    def context(self, rows: Sequence[ScoredExample], protocol: str, reader: EmotionReader | None = None) -> Context:
        """What metrics need, with the rows' references as the whole split."""
        references = [[a.explanation for a in row.references] for row in rows]
        engine = CaptionEngine(protocol, references, self._process)
        readers = () if reader is None else (reader,)
        task = Task("golden", "jsonl", EMOTIONS, protocol=protocol)
        return Context(task, (engine, WordIds(), *readers), self.utterances)

    def value(
        self, name: str, rows: Sequence[ScoredExample], protocol: str, reader: EmotionReader | None = None
    ) -> float:
        """Value of an additive metric over all rows."""
        metric = metric_class(name)(self.context(rows, protocol, reader))
        assert isinstance(metric, AdditiveMetric)
        return float(metric.value(metric.statistics(rows).values.sum(0)))

    @property
    def utterances(self) -> tuple[str, ...]:
        """The training utterances."""
        return tuple(self.sentences["train_utterances"])

    @cached_property
    def lcs(self) -> list[FloatArray]:
        """Longest common subsequence of each lower-cased candidate with every training utterance, in words."""
        corpus = Corpus([text.split() for text in self.utterances])
        return [corpus.lcs_lengths(words).astype(np.float64) for words in self.lower_candidates]

    @property
    def lower_candidates(self) -> list[list[str]]:
        """Candidates as the official code hands them to classifier and LCS."""
        return [item["candidate"].lower().split() for item in self.sentences["items"]]


def _row(item: Mapping[str, Any], lower: bool) -> ScoredExample:
    votes = [EMOTIONS[i] for i in item.get("emotions", [0] * len(item["references"]))]
    notes = tuple(Annotation(vote, text) for vote, text in zip(votes, item["references"], strict=True))
    example = Example(str(item["id"]), Path("none"), notes, histogram(notes))
    candidate = item["candidate"].lower() if lower else item["candidate"]
    return ScoredExample(example, Answer(votes[0], candidate), notes, example.emotion_histogram)


def metric_class(name: str) -> type[Metric]:
    """A built-in metric by name."""
    found: type[Metric] = metric_registry().load(name)
    return found


def _captions(section: str, items: str, protocol: str) -> Callable[[Recorded], Iterator[Check]]:
    def check(recorded: Recorded) -> Iterator[Check]:
        expected, rows = recorded.expected[section], recorded.rows(items)
        context = recorded.context(rows, protocol)
        for official, corpus in expected["corpus"].items():
            metric = metric_class(OFFICIAL[official])(context)
            assert isinstance(metric, AdditiveMetric)
            values, tolerance = metric.statistics(rows).values, METEOR if official == "METEOR" else SCORES
            yield f"corpus.{official}", float(metric.value(values.sum(0))), corpus, tolerance
            yield f"per_item.{official}", metric.value(values).tolist(), expected["per_item"][official], tolerance
        if "ids" in expected:
            yield "ids", [row.example.id for row in rows], [str(i) for i in expected["ids"]], 0.0
        if "tokenized_candidates" in expected:
            engine = context.find(CaptionEngine)
            assert engine is not None
            yield (
                "tokenized_candidates",
                [engine.tokens(r.explanation or "") for r in rows],
                expected["tokenized_candidates"],
                0.0,
            )
            tokenised = [[engine.tokens(a.explanation) for a in row.references] for row in rows]
            yield "tokenized_references", tokenised, expected["tokenized_references"], 0.0

    return check


def _alignment(recorded: Recorded) -> Iterator[Check]:
    expected, rows = recorded.expected["emotional_alignment"], recorded.rows(lower=True)
    logits = {row.explanation or "": given for row, given in zip(rows, expected["logits"], strict=True)}
    reader = EmotionReader(lambda: _Given(logits))
    read = reader.probabilities([row.explanation or "" for row in rows], EMOTIONS)
    yield "predicted", read.argmax(1).tolist(), expected["predicted"], 0.0
    yield (
        "cross_entropy",
        recorded.value("ea_cross_entropy", rows, "coco-ptb", reader),
        expected["cross_entropy"],
        ALIGNMENT,
    )
    for key, protocol in (("accuracy", "coco-ptb"), ("accuracy_with_artemis_dominant", "artemis-plain")):
        yield key, recorded.value("emotional_alignment", rows, protocol, reader), expected[key], ALIGNMENT
    for key, rule in (("dominant_sevlm", majority), ("dominant_artemis", half_without_tie)):
        yield key, *_dominance(rule, [row.histogram for row in rows], expected[key]), 0.0
    yield "unique_artemis", *_dominance(_unique_mode, [row.histogram for row in rows], expected["unique_artemis"]), 0.0
    counts = {"n_with_dominant": majority, "n_with_dominant_artemis": half_without_tie}
    for key, rule in counts.items():
        yield key, sum(rule(row.histogram) is not None for row in rows), expected[key], 0.0
    shares = [[row.share(emotion) for emotion in EMOTIONS] for row in rows]
    yield "distributions", shares, expected["distributions"], ALIGNMENT


def _dominance(
    rule: Callable[[Mapping[str, int]], str | None],
    votes: Sequence[Mapping[str, int]],
    recorded: Sequence[Sequence[Any]],
) -> tuple[list[str | None], list[str | None]]:
    """Labels by our rule and by the recorded pairs (dominates, index); the index of a tie is nobody's concern."""
    return [rule(counts) for counts in votes], [EMOTIONS[i] if dominates else None for dominates, i in recorded]


def _unique_mode(votes: Mapping[str, int]) -> str | None:
    most = max(votes.values(), default=0)
    leaders = [emotion for emotion, count in votes.items() if count == most]
    return leaders[0] if len(leaders) == 1 else None


def _dominant_rule(recorded: Recorded) -> Iterator[Check]:
    cases = recorded.expected["dominant_rule"]
    votes = [{e: case["list"].count(i) for i, e in enumerate(EMOTIONS) if i in case["list"]} for case in cases]
    for key, rule in (("sevlm", majority), ("artemis", half_without_tie), ("artemis_unique", _unique_mode)):
        yield key, *_dominance(rule, votes, [case[key] for case in cases]), 0.0


def _distributions(recorded: Recorded) -> Iterator[Check]:
    cases = recorded.expected["proc_distribution"]
    found = [majority({e: round(1e6 * s) for e, s in zip(EMOTIONS, c["distribution"], strict=True)}) for c in cases]
    yield "emotion", found, [case["emotion"] for case in cases], 0.0
    yield "has_max", [emotion is not None for emotion in found], [case["has_max"] for case in cases], 0.0


def _vocabulary(recorded: Recorded) -> Iterator[Check]:
    expected = recorded.expected["vocabulary"]
    vocabulary = Vocabulary.of(text.split() for text in recorded.utterances)
    texts = recorded.lower_candidates
    yield "special", list(SPECIALS), expected["special"], 0.0
    yield "word2idx", dict(vocabulary.ids), expected["word2idx"], 0.0
    encoded = vocabulary.encode(texts, max(map(len, texts))).tolist()
    yield "encoded_candidates_lower", encoded, expected["encoded_candidates_lower"], 0.0


def _metaphor(recorded: Recorded) -> Iterator[Check]:
    expected = recorded.expected["metaphor"]
    found = [any(marker in text for marker in SIMILE_MARKERS) for text in expected["sentences"]]
    yield "is_metaphor", found, expected["is_metaphor"], 0.0


def _lcs(recorded: Recorded) -> Iterator[Check]:
    expected = recorded.expected["lcs"]
    highest, means = [float(found.max()) for found in recorded.lcs], [float(found.mean()) for found in recorded.lcs]
    yield "max", highest, expected["max"], SCORES
    yield "mean", means, expected["mean"], SCORES
    yield "argmax", [int(found.argmax()) for found in recorded.lcs], expected["argmax"], 0.0
    yield "mean_of_max", float(np.mean(highest)), expected["mean_of_max"], SCORES
    yield "mean_of_mean", float(np.mean(means)), expected["mean_of_mean"], SCORES
    lengths = [int(Corpus([case["b"]]).lcs_lengths(case["a"])[0]) for case in expected["examples"]]
    yield "examples", lengths, [len(case["lcs"]) for case in expected["examples"]], 0.0


def _basic_evaluations(recorded: Recorded) -> Iterator[Check]:
    """The official report: means and, where there are several numbers, standard deviations (pandas: n - 1)."""
    expected, rows = recorded.expected["apply_basic_evaluations"], recorded.rows(lower=True)
    alignment = recorded.expected["emotional_alignment"]
    logits = {row.explanation or "": given for row, given in zip(rows, alignment["logits"], strict=True)}
    reader = EmotionReader(lambda: _Given(logits))
    for key, name in (("Emo-Alignment-ACC", "emotional_alignment"), ("Emo-Alignment-XENT", "ea_cross_entropy")):
        yield f"{key}.mean", recorded.value(name, rows, "coco-ptb", reader), expected[key]["mean"], ALIGNMENT
        yield f"{key}.std", None, expected[key]["std"], 0.0
    novelty = _sampled_novelty(recorded, rows)
    similes = [float(any(marker in (row.explanation or "") for marker in SIMILE_MARKERS)) for row in rows]
    for key, values in {"Metaphors": similes, **novelty}.items():
        yield f"{key}.mean", float(np.mean(values)), expected[key]["mean"], ALIGNMENT
        yield f"{key}.std", float(np.std(values, ddof=1)), expected[key]["std"], ALIGNMENT


def _sampled_novelty(recorded: Recorded, rows: Sequence[ScoredExample]) -> dict[str, list[float]]:
    """LCS with the official sampling, by the public metric for the mean and by its sample for the rest."""
    utterances, captions = recorded.sentences["lcs_sample"]

    class Sampled(LCSNovelty):
        """`lcs_novelty` with the set's sample sizes."""

    Sampled.utterances, Sampled.captions = utterances, captions
    sampled = Sampled(recorded.context(rows, "artemis-plain"))
    lengths = sampled.lengths(sampled.features(rows).values)
    return {
        "max-LCS": [float(found.max()) for found in lengths],
        "mean-LCS": [float(found.mean()) for found in lengths],
    }


SECTIONS: Mapping[str, Callable[[Recorded], Iterator[Check]]] = {
    "ptb": _captions("ptb", "items", "coco-ptb"),
    "raw_no_ptb": _captions("raw_no_ptb", "items", "artemis-plain"),
    "edge": _captions("edge", "edge_items", "coco-ptb"),
    "emotional_alignment": _alignment,
    "vocabulary": _vocabulary,
    "dominant_rule": _dominant_rule,
    "proc_distribution": _distributions,
    "metaphor": _metaphor,
    "lcs": _lcs,
    "apply_basic_evaluations": _basic_evaluations,
}
"""Section of `expected.json` -> its comparisons."""
