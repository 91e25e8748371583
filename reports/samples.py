"""The sample browser: thumbnails, a compact index per task for the filters, pages of samples, the valence of words.

Thumbnails are small JPEG copies of the images, one per distinct file, under a total size; or links to the originals.

All other data is JSON as scripts: a page opened from disk may not fetch JSON, but it may load a sibling script. A
script is one call, `window.harnessData({...});`. Model text is untrusted: whatever could end a script element, open a
comment or break a line of JavaScript is written as an escape, and lone surrogates as U+FFFD.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote_from_bytes

from tqdm import tqdm

from harness.images import open_image, opened
from harness.reports.figures import colour_slots
from harness.reports.view import LeaderboardRow, TaskView
from harness.score.predictions import EmotionPrediction, Opinion
from harness.types import Answer, Example, Failed, ImageError, Outcome, Refusal, Unparsed

TOTAL_BYTES = 60_000_000
MANY = 4000
EDGE, EDGE_OF_MANY = 240, 168
QUALITY = 72


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """An image in the report: a file name within `thumbs/`, or a link to the original, or the reason for neither."""

    name: str | None
    size: tuple[int, int] | None
    reason: str = ""
    link: str | None = None

    @property
    def url(self) -> str | None:
        """Where the page finds the image, relative to itself."""
        return f"thumbs/{self.name}" if self.name else self.link


def make_thumbnails(images: Iterable[Path], folder: Path, *, total_bytes: int = TOTAL_BYTES) -> dict[Path, Thumbnail]:
    """Write a thumbnail of each image into `folder`, reusing those that are there from an earlier rendering.

    Args:
        images: image files; equal contents share one thumbnail.
        folder: created when absent.
        total_bytes: images that would exceed this sum, in order, are left out with that reason.
    """
    paths = list(dict.fromkeys(images))
    edge = EDGE if len(paths) <= MANY else EDGE_OF_MANY
    folder.mkdir(parents=True, exist_ok=True)
    # Pillow releases the interpreter lock while it decodes and scales.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        made = list(
            tqdm(
                pool.map(lambda path: _thumbnail(path, folder, edge), paths),
                total=len(paths),
                desc="thumbnails",
                unit="image",
                disable=None,
                leave=False,
            )
        )
    found: dict[Path, Thumbnail] = {}
    names: set[str] = set()
    used = 0
    for path, thumbnail in zip(paths, made, strict=True):
        found[path] = thumbnail
        if thumbnail.name is not None and thumbnail.name not in names:
            used += (folder / thumbnail.name).stat().st_size
            if used <= total_bytes:
                names.add(thumbnail.name)
            else:
                reason = f"left out: the report's images are limited to {total_bytes / 1e6:.0f} MB"
                found[path] = Thumbnail(None, None, reason)
    return found


def _thumbnail(path: Path, folder: Path, edge: int) -> Thumbnail:
    from PIL import Image

    try:
        with opened(path), path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:24]
        target = folder / f"{digest}-{edge}.jpg"
        if not target.exists():
            image = open_image(path)
            image.thumbnail((edge, edge), Image.Resampling.LANCZOS)
            data = io.BytesIO()
            image.save(data, "JPEG", quality=QUALITY, optimize=True)
            # not synced to disk, unlike results: a thumbnail that a crash loses is made again
            temporary = target.with_name(f".{target.name}.{os.getpid()}.{hash(path) & 0xFFFF}.tmp")
            temporary.write_bytes(data.getvalue())
            temporary.replace(target)
        with Image.open(target) as made:
            return Thumbnail(target.name, made.size)
    except ImageError as error:
        return Thumbnail(None, None, str(error))


def link_images(images: Iterable[Path], out: Path) -> dict[Path, Thumbnail]:
    """Links from the page in `out` to the original image files: nothing is copied, and nothing may be moved."""
    folder = out.resolve()
    found = {}
    for path in dict.fromkeys(images):
        try:
            with opened(path) as image:
                scale = EDGE / max(EDGE, *image.size)
                size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        except ImageError as error:
            found[path] = Thumbnail(None, None, str(error))
            continue
        relative = os.fsencode(os.path.relpath(path.resolve(), folder)).replace(os.sep.encode(), b"/")
        found[path] = Thumbnail(None, size, link=quote_from_bytes(relative, safe="/"))
    return found


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
        samples = []
        for example in examples[page * PAGE_SIZE : (page + 1) * PAGE_SIZE]:
            image = thumbnails[example.image]
            rows = zip(outcomes.values(), beside, strict=True)
            sample = {
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
                "outcomes": [_outcome(a.get(example.id), r.get(example.id), o.get(example.id)) for a, (r, o) in rows],
            }
            samples.append(sample)
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
    # 1 if the explanation speaks of the answered label, 0 if of another or none, `ABSENT` if it was not read
    consistent = [
        [int(read[e.id].consistent) if e.id in read else ABSENT for e in examples]
        for read in (readings if any(readings) else ())
    ]
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
        "consistent": consistent,
    }


def code(outcome: Outcome | None, labels: Mapping[str, int]) -> int:
    """The index of the answered label, or one of the negative codes above."""
    if outcome is None:
        return ABSENT
    if isinstance(outcome, Answer):
        return labels.get(outcome.emotion, OTHER_LABEL)
    return _CODES[type(outcome)]


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
