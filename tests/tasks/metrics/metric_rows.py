"""Rows for metric tests: made by hand, from the recorded sentences, or at random."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np

from harness.tasks.metrics.affect import WordAffect
from harness.tasks.metrics.alignment import EmotionReader
from harness.tasks.metrics.base import Context, FloatArray, ScoredExample
from harness.tasks.metrics.caption_engine import CaptionEngine
from harness.types import Annotation, Answer, Example, Failed, Outcome, Refusal, Usage, histogram

EMOTIONS = (
    "amusement", "awe", "contentment", "excitement", "anger", "disgust", "fear", "sadness", "something else",
)  # fmt: skip
POLARITY = dict(zip(EMOTIONS, ["positive"] * 4 + ["negative"] * 4 + ["other"], strict=True))

GOLDEN = Path(__file__).parent / "golden"

SCALES = {"valence": (1.0, 9.0), "arousal": (1.0, 9.0), "dominance": (1.0, 9.0)}

ContextFor: TypeAlias = Callable[..., Context]

LEXICON = WordAffect(
    "made-up",
    lambda: "0123456789",
    ("valence", "arousal", "dominance"),
    {"sea": (0.5, -0.2, 0.1), "calm": (0.8, -0.9, 0.3), "dark": (-0.6, 0.1, -0.4), "wind": (0.1, 0.6, 0.0),
     "dream": (0.6, -0.1, -0.3), "stones": (-0.1, -0.4, 0.2)},
)  # fmt: skip


class Given:
    """A classifier that reads probabilities off a table, and off a text's hash where the table lacks it.

    Args:
        logits: text -> logits in the order of `EMOTIONS`.
    """

    labels = EMOTIONS
    record: ClassVar[Mapping[str, Any]] = {
        "kind": "given", "sha256": "ab" * 32, "test_accuracy": 0.5, "test_utterances": 8,
    }  # fmt: skip

    def __init__(self, logits: Mapping[str, Sequence[float]] | None = None) -> None:
        self._logits = dict(logits or {})

    def probabilities(self, texts: Sequence[str]) -> FloatArray:
        logits = [self._logits.get(text, [len(text) * (i + 3) % 7 for i in range(len(EMOTIONS))]) for text in texts]
        exponents = np.exp(np.array(logits, dtype=np.float64).reshape(len(texts), len(EMOTIONS)))
        return exponents / exponents.sum(1, keepdims=True)


def captions_of(context: Context) -> CaptionEngine:
    engine = context.find(CaptionEngine)
    assert engine is not None
    return engine


def with_reader(context: Context, reader: EmotionReader) -> Context:
    """The context with another text-emotion classifier."""
    return replace(context, resources=(reader, *context.resources))


def make_row(
    outcome: Outcome, votes: Sequence[str], texts: Sequence[str] | None = None, id_: str = "a", **meta: str
) -> ScoredExample:
    """A row whose annotations are votes with texts (the vote itself where no text is given)."""
    notes = tuple(Annotation(v, t) for v, t in zip(votes, texts or votes, strict=True))
    example = Example(id_, Path(f"{id_}.jpg"), notes, histogram(notes), meta=meta)
    return ScoredExample(example, outcome, notes, example.emotion_histogram)


def golden_rows(items: Sequence[Mapping[str, Any]]) -> list[ScoredExample]:
    """Rows of the recorded sentences; the label is the first annotator's."""
    rows = []
    for item in items:
        votes = [EMOTIONS[i] for i in item.get("emotions", [0] * len(item["references"]))]
        outcome = Answer(votes[0], item["candidate"])
        rows.append(make_row(outcome, votes, item["references"], str(item["id"])))
    return rows


def random_rows() -> list[ScoredExample]:
    """Sixty random paintings with 1 to 9 votes; four in five are answered, with probabilities and usage."""
    chance, rating = random.Random(3), random.Random(4)
    words = [
        "the",
        "sea",
        "looks",
        "like",
        "a",
        "calm",
        "grey",
        "dream",
        "of",
        "wind",
        "and",
        "light",
        "over",
        "old",
        "stones",
    ]

    def text() -> str:
        return " ".join(chance.choices(words, k=chance.randint(3, 9)))

    rows = []
    for i in range(60):
        leaning = chance.choice(EMOTIONS)
        votes = [leaning if chance.random() < 0.6 else chance.choice(EMOTIONS) for _ in range(chance.randint(1, 9))]
        weights = [chance.random() ** 3 for _ in EMOTIONS]
        probs = {e: w / sum(weights) for e, w in zip(EMOTIONS, weights, strict=True)}
        emotion = leaning if chance.random() < 0.5 else max(probs, key=lambda e: probs[e])
        usage = Usage(chance.random(), chance.randint(1, 50), chance.randint(1, 50), chance.random())
        texts = [text() for _ in votes]
        explanation = chance.choice(texts) + " at dusk" if chance.random() < 0.5 else text()
        truth, guess = ({d: rating.uniform(1, 9) for d in SCALES} for _ in range(2))
        outcome: Outcome = Answer(emotion, explanation, probs, usage=usage, ratings=guess)
        if chance.random() < 0.2:
            outcome = chance.choice([Refusal("no"), Failed("timeout", "")])
        row = make_row(outcome, votes, texts, f"p{i}")
        rows.append(replace(row, example=replace(row.example, ratings=truth if i % 7 else {})))
    return rows
