"""Rows for metric tests: made by hand, from the recorded sentences, or at random."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from harness.tasks.metrics.base import Context, Row
from harness.types import Annotation, Answer, Example, Failed, Outcome, Refusal, Usage, histogram

EMOTIONS = (
    "amusement", "awe", "contentment", "excitement", "anger", "disgust", "fear", "sadness", "something else",
)  # fmt: skip
POLARITY = dict(zip(EMOTIONS, ["positive"] * 4 + ["negative"] * 4 + ["other"], strict=True))

SCALES = {"valence": (1.0, 9.0), "arousal": (1.0, 9.0), "dominance": (1.0, 9.0)}

ContextFor: TypeAlias = Callable[..., Context]


def make_row(
    outcome: Outcome, votes: Sequence[str], texts: Sequence[str] | None = None, id_: str = "a", **meta: str
) -> Row:
    """A row whose annotations are votes with texts (the vote itself where no text is given)."""
    notes = tuple(Annotation(v, t) for v, t in zip(votes, texts or votes, strict=True))
    example = Example(id_, Path(f"{id_}.jpg"), notes, histogram(notes), meta=meta)
    return Row(example, outcome, notes, example.emotion_histogram)


def golden_rows(items: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Rows of the recorded sentences; the label is the first annotator's."""
    rows = []
    for item in items:
        votes = [EMOTIONS[i] for i in item.get("emotions", [0] * len(item["references"]))]
        outcome = Answer(votes[0], item["candidate"])
        rows.append(make_row(outcome, votes, item["references"], str(item["id"])))
    return rows


def random_rows() -> list[Row]:
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
