"""Where texts stand between unpleasant and pleasant, calm and excited: means per emotion, for the report's plane."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from harness.store.run_folder import RowKey
from harness.tasks.metrics.word_affect import WordAffect
from harness.types import VAD_DIMENSIONS, Answer, Example, Outcome, Task

_VALENCE, _AROUSAL = VAD_DIMENSIONS.index("valence"), VAD_DIMENSIONS.index("arousal")


def plane_records(
    task: Task,
    lexicon: WordAffect,
    examples: Sequence[Example],
    outcomes: Mapping[RowKey, Sequence[Outcome]],
) -> list[dict[str, Any]]:
    """Records of the references (`model` None) and of each row, by the emotion that annotators or the row named.

    Each is `{"task", "model", "control", "lexicon", "emotion", "valence", "arousal", "n"}`: means over the texts in
    which the lexicon knows a word, -1..1, and how many these are; None where the lexicon does not measure it. Emotions
    without such a text have no record.
    """
    said = {
        key: [(o.emotion, o.explanation) for o in found if isinstance(o, Answer)] for key, found in outcomes.items()
    }
    theirs = [(a.emotion, a.explanation) for example in examples for a in example.annotations]
    records = []
    for model, control, texts in [(None, None, theirs), *((key.model, key.control, said[key]) for key in outcomes)]:
        for emotion, place in _means(task.emotions, lexicon, texts).items():
            where = {"task": task.name, "model": model, "control": control, "lexicon": lexicon.name}
            records.append({**where, "emotion": emotion, **place})
    return records


def _means(
    emotions: Sequence[str], lexicon: WordAffect, texts: Iterable[tuple[str, str]]
) -> dict[str, dict[str, float | int | None]]:
    by_emotion: dict[str, list[np.ndarray[Any, Any]]] = {emotion: [] for emotion in emotions}
    for emotion, text in texts:
        means = lexicon.means(text)
        if np.isfinite(means).any():
            by_emotion[emotion].append(means)
    found = {}
    for emotion, known in by_emotion.items():
        if known:
            mean = np.mean(known, axis=0)
            found[emotion] = {
                "valence": _number(mean[_VALENCE]),
                "arousal": _number(mean[_AROUSAL]),
                "n": len(known),
            }
    return found


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
