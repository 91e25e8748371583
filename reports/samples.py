"""The sample browser's data: a compact index per task for the filters, pages of samples, and the valence of words.

All of it is JSON as scripts: a page opened from disk may not fetch JSON, but it may load a sibling script. A script
is one call, `window.harnessData({...});`. Model text is untrusted: whatever could end a script element, open a comment
or break a line of JavaScript is written as an escape, and lone surrogates as U+FFFD.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, TypeAlias

from harness.reports.figures import colour_slots
from harness.reports.thumbnails import Thumbnail
from harness.reports.view import LeaderboardRow, TaskView
from harness.score.predictions import EmotionPrediction, Opinion
from harness.types import Answer, Example, Failed, Outcome, Refusal, Unparsed

PAGE_SIZE = 100
REFUSED, UNPARSED, FAILED, ABSENT, OTHER_LABEL = -1, -2, -3, -4, -5
"""Codes of what a row said about an image, if it is not the index of a label."""

_CODES: dict[type, int] = {Refusal: REFUSED, Unparsed: UNPARSED, Failed: FAILED}


Beside: TypeAlias = tuple[Mapping[str, EmotionPrediction], Mapping[str, Sequence[Opinion]]]
"""By example id: what a classifier read from a row's explanations, and what judges and people said of them."""


def sample_scripts(
    view: TaskView,
    examples: Sequence[Example],
    outcomes: Mapping[LeaderboardRow, Mapping[str, Outcome]],
    beside: Sequence[Beside],
    thumbnails: Mapping[Path, Thumbnail],
) -> Iterator[tuple[str, str]]:
    """File name and text of each script: `<task>-index.js`, then `<task>-0.js`, `<task>-1.js` …

    `beside` has the rows of `outcomes` in their order.
    """
    readings = [read for read, _ in beside]
    yield f"{view.slug}-index.js", script("harnessIndex", _index(view, examples, outcomes, readings))
    for page in range(math.ceil(len(examples) / PAGE_SIZE)):
        chunk = examples[page * PAGE_SIZE : (page + 1) * PAGE_SIZE]
        samples = [
            _sample(
                e,
                [
                    _outcome(a.get(e.id), r.get(e.id), o.get(e.id))
                    for a, (r, o) in zip(outcomes.values(), beside, strict=True)
                ],
                thumbnails,
            )
            for e in chunk
        ]
        payload = {"task": view.slug, "page": page, "samples": samples}
        yield f"{view.slug}-{page}.js", script("harnessData", payload)


def _index(
    view: TaskView,
    examples: Sequence[Example],
    outcomes: Mapping[LeaderboardRow, Mapping[str, Outcome]],
    readings: Sequence[Mapping[str, EmotionPrediction]],
) -> dict[str, Any]:
    """Columns instead of a record per image: a tenth of the bytes, and quick to read for 80,000 of them."""
    keys = [str(key) for key in view.entry.get("slices") or ()]
    values = {key: sorted({e.meta[key] for e in examples if key in e.meta}) for key in keys}
    numbers = {key: {value: i for i, value in enumerate(found)} for key, found in values.items()}
    labels = {label: i for i, label in enumerate(view.emotions)}
    return {
        "task": view.slug,
        "pageSize": PAGE_SIZE,
        "labels": list(view.emotions),
        "slots": colour_slots(view.emotions),
        "rows": [{"name": row.label, "kind": row.kind} for row in outcomes],
        "slices": [{"key": key, "values": values[key]} for key in keys],
        "ids": [example.id for example in examples],
        "dominant": [labels.get(example.dominant_emotion or "", -1) for example in examples],
        "cuts": [[numbers[key].get(example.meta.get(key, ""), -1) for example in examples] for key in keys],
        "codes": [[code(answers.get(e.id), labels) for e in examples] for answers in outcomes.values()],
        "consistent": [[_consistency(read.get(e.id)) for e in examples] for read in readings] if any(readings) else [],
    }


def _consistency(reading: EmotionPrediction | None) -> int:
    """1 if the explanation speaks of the answered label, 0 if of another or none, `ABSENT` if it was not read."""
    return ABSENT if reading is None else int(reading.consistent)


def code(outcome: Outcome | None, labels: Mapping[str, int]) -> int:
    """The index of the answered label, or one of the negative codes above."""
    if outcome is None:
        return ABSENT
    if isinstance(outcome, Answer):
        return labels.get(outcome.emotion, OTHER_LABEL)
    return _CODES[type(outcome)]


def _sample(
    example: Example, outcomes: Sequence[dict[str, Any] | None], thumbnails: Mapping[Path, Thumbnail]
) -> dict[str, Any]:
    image = thumbnails[example.image]
    return {
        "id": example.id,
        "title": example.meta.get("title") or example.id,
        "image": image.url,
        "size": image.size,
        "reason": image.reason,
        "meta": {key: value for key, value in example.meta.items() if key != "title" and value},
        "dominant": example.dominant_emotion,
        "histogram": sorted(example.emotion_histogram.items(), key=lambda pair: (-pair[1], pair[0])),
        "context": example.context,
        "ratings": sorted(example.ratings.items()),
        "annotations": [[a.emotion, a.explanation] for a in example.annotations],
        "outcomes": outcomes,
    }


def _outcome(
    outcome: Outcome | None, reading: EmotionPrediction | None, opinions: Sequence[Opinion] | None
) -> dict[str, Any] | None:
    if outcome is None:
        return None
    shared = {"raw": outcome.raw, "latency": outcome.usage.latency_s}
    if outcome.reasoning:
        shared["reasoning"] = outcome.reasoning
    match outcome:
        case Answer():
            probabilities = sorted((outcome.emotion_probs or {}).items(), key=lambda pair: (-pair[1], pair[0]))
            return shared | {
                "kind": "answer",
                "emotion": outcome.emotion,
                "text": outcome.explanation,
                "probs": probabilities,
                "ratings": sorted((outcome.ratings or {}).items()),
                "truncated": outcome.truncated,
                "read": None if reading is None else [reading.explanation_emotion, reading.consistent],
                **({"opinions": opinions} if opinions else {}),
            }
        case Failed():
            return shared | {"kind": "failed", "text": f"{outcome.error_type}: {outcome.message}"}
        case Refusal():
            return shared | {"kind": "refusal", "text": ""}
        case Unparsed():
            return shared | {"kind": "unparsed", "text": "", "reason": outcome.reason}


_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
_ESCAPED = re.compile("[<>&\u2028\u2029]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def whole_text(text: str) -> str:
    """`text` with lone surrogates (broken model output) replaced, so that it can be encoded."""
    return _SURROGATE.sub("\ufffd", text)


def script(function: str, payload: Any) -> str:
    """One script that hands `payload` to `window.<function>`."""
    data = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    escaped = _ESCAPED.sub(lambda match: _ESCAPES[match.group()], whole_text(data))
    return f"window.{function}({escaped});\n"


_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")


@cache
def word_valences() -> dict[str, float]:
    """Valence by lower-case word in VADER's lexicon (Hutto & Gilbert 2014, MIT licence), -4 … 4.

    Words are looked up one by one, so negation ("not happy") is not seen; emoticons and phrases are left out.
    """
    text = (resources.files("vaderSentiment") / "vader_lexicon.txt").read_text(encoding="utf-8")
    entries = (line.split("\t")[:2] for line in text.splitlines() if line.strip())
    return {word: float(value) for word, value in entries if _WORD.fullmatch(word)}
