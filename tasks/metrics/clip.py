"""CLIPScore and RefCLIPScore: cosines of images and texts in the space of a CLIP that the user names.

They were made for captions that say what is to be seen. Socratis (2023) found that such scores do not follow what
people prefer among emotional explanations, so they are off by default, are no headline, and carry that warning.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.images import open_image
from harness.tasks.metrics.base import (
    EVERY_VIEW,
    EXPLAINS,
    FloatArray,
    MeanMetric,
    ScoredExample,
    Statistics,
    Unavailable,
    encoder_label,
    mean_statistics,
    ratio,
)
from harness.tasks.metrics.java import one_line
from harness.types import ImageError

if TYPE_CHECKING:
    from torch import Tensor

PREFIX = "A photo depicts "
"""Stands before every text, as in the authors' code."""
WEIGHT = 2.5
_BATCH = 64


class ImageTextSimilarity:
    """A CLIP that places images and texts in one space, each once for a block of examples.

    Args:
        model: folder or hub id of a CLIP with its tokeniser and image preprocessing.
    """

    def __init__(self, model: str) -> None:
        self._name = model
        self._vectors: dict[str | Path, FloatArray | None] = {}

    def missing(self) -> str | None:
        """Why it cannot be used."""
        try:
            self._clip  # noqa: B018 (loads it)
        except Unavailable as reason:
            return str(reason)
        return None

    def vectors(self, things: Iterable[str | Path]) -> list[FloatArray | None]:
        """A unit vector (d,) for each text (cut at the longest that CLIP takes) or image file, None for no image."""
        import torch

        wanted = list(things)
        new = [thing for thing in dict.fromkeys(wanted) if thing not in self._vectors]
        if new:
            model, tokenizer, processor = self._clip
            longest = model.config.text_config.max_position_embeddings
            texts = [thing for thing in new if isinstance(thing, str)]
            for start in range(0, len(texts), _BATCH):
                batch = texts[start : start + _BATCH]
                said = [PREFIX + one_line(text) for text in batch]
                tokens = tokenizer(said, padding=True, truncation=True, max_length=longest, return_tensors="pt")
                self._keep(batch, model.get_text_features(**tokens.to(model.device)).pooler_output)
            paths = [thing for thing in new if isinstance(thing, Path)]
            self._vectors.update(dict.fromkeys(paths))
            pixels: dict[Path, Tensor] = {}  # not the images as opened: a batch of large ones would fill the memory
            for path in paths:
                with suppress(ImageError):
                    pixels[path] = processor(images=[open_image(path)], return_tensors="pt")["pixel_values"]
                if len(pixels) == _BATCH or (pixels and path is paths[-1]):
                    stacked = torch.cat([*pixels.values()])  # (B, 3, H, W)
                    self._keep(list(pixels), model.get_image_features(stacked.to(model.device)).pooler_output)
                    pixels.clear()
        return [self._vectors[thing] for thing in wanted]

    def forget(self) -> None:
        """Drop what is kept of images and texts seen so far."""
        self._vectors.clear()

    def shown_name(self) -> str:
        """The hub id, or the folder's name and the hash of its weights."""
        return encoder_label(self._name)

    def _keep(self, things: Sequence[str | Path], features: Tensor) -> None:
        """Remember the directions of features (B, d)."""
        import torch

        unit = torch.nn.functional.normalize(features.double(), dim=-1).cpu().numpy()
        self._vectors.update(zip(things, unit, strict=True))

    @cached_property
    def _clip(self) -> tuple[Any, Any, Any]:
        import torch
        from safetensors import SafetensorError
        from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

        try:
            loaded: Any = CLIPModel.from_pretrained(self._name, output_loading_info=True)
            model, found = loaded
            if found["missing_keys"]:  # transformers would go on with random weights
                raise ValueError("it is no CLIP, or not whole: weights are missing")
            tokenizer = AutoTokenizer.from_pretrained(self._name)
            processor = CLIPImageProcessorPil.from_pretrained(self._name)
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise Unavailable(f"CLIP {encoder_label(self._name)} cannot be loaded ({one_line(str(error))})") from error
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return model.eval().requires_grad_(False).to(device), tokenizer, processor


class ClipScore(MeanMetric):
    """CLIPScore = 2.5 max(cos(image, explanation), 0), the mean over examples. Range 0..2.5, higher is better.

    "A photo depicts" stands before each text. Over answered examples whose image can be opened.
    """

    name = "clip_score"
    label = "CLIPScore"
    description = "How near the explanation is to the image in CLIP's space."
    warning = (
        "Scores by CLIP do not follow what people prefer among emotional explanations (Socratis 2023): they say "
        "whether things in the image are named, not whether the explanation is good."
    )
    family = "text"
    group = "text-more"
    higher_is_better = True
    bounds = (0.0, WEIGHT)
    requires = EXPLAINS
    views = EVERY_VIEW
    source = "Hessel et al. 2021"

    def missing(self) -> str | None:
        """No CLIP was chosen, or it cannot be used."""
        clip = self.context.find(ImageTextSimilarity)
        if clip is None:
            return "no CLIP was chosen; type: harness score RUN --clip FOLDER|HUB_ID"
        return clip.missing()

    def prepare(self, rows: Sequence[ScoredExample]) -> None:
        """Place all images and texts of a block at once."""
        answered = [row for row in rows if row.explanation and row.example.image]
        texts = [row.explanation or "" for row in answered]
        self._clip().vectors(
            [*dict.fromkeys(row.example.image for row in answered), *texts, *self._references(answered)]
        )

    def statistics(self, rows: Sequence[ScoredExample]) -> Statistics:
        """(n, 2): score, 1."""
        shown = [row.example.image if row.explanation is not None else None for row in rows]
        has_references = [not self.reference_texts or bool(self._references([row])) for row in rows]
        counted = [i for i, path in enumerate(shown) if path is not None and has_references[i]]
        images = dict(zip(counted, self._clip().vectors(shown[i] for i in counted), strict=True))  # type: ignore[misc]
        scores, eligible = np.zeros(len(rows)), np.zeros(len(rows), dtype=bool)
        for i, image in images.items():
            if image is not None:
                scores[i], eligible[i] = self._score(image, rows[i]), True
        return mean_statistics(scores, eligible)

    def fields(self) -> dict[str, str]:
        """The CLIP and what stands before texts."""
        clip = self.context.find(ImageTextSimilarity)
        return {"clip": "none" if clip is None else clip.shown_name(), "prefix": PREFIX.strip().replace(" ", "_")}

    def _references(self, rows: Sequence[ScoredExample]) -> list[str]:
        del rows
        return []

    def _score(self, image: FloatArray, row: ScoredExample) -> float:
        """The score of one answer; an empty explanation scores 0."""
        if not row.explanation:
            return 0.0
        (text,) = self._clip().vectors([row.explanation])
        assert text is not None
        return WEIGHT * max(float(image @ text), 0.0)

    def _clip(self) -> ImageTextSimilarity:
        clip = self.context.find(ImageTextSimilarity)
        if clip is None:
            raise Unavailable(str(self.missing()))
        return clip


class RefClipScore(ClipScore):
    """RefCLIPScore = harmonic mean of CLIPScore and max(cos(explanation, reference), 0) of the nearest reference.

    The mean over answered examples with references. Range 0..1.43, higher is better.
    """

    name = "ref_clip_score"
    label = "RefCLIPScore"
    description = "How near the explanation is to the image and to what people said, in CLIP's space."
    bounds = (0.0, 2 * WEIGHT / (WEIGHT + 1))
    reference_texts = True

    def _references(self, rows: Sequence[ScoredExample]) -> list[str]:
        return [a.explanation for row in rows for a in row.references if a.explanation]

    def _score(self, image: FloatArray, row: ScoredExample) -> float:
        of_image = super()._score(image, row)
        if not of_image:
            return 0.0
        text, *references = self._clip().vectors([row.explanation or "", *self._references([row])])
        assert text is not None
        nearest = max(max(float(text @ r) for r in references if r is not None), 0.0)
        return float(ratio(np.array(2 * of_image * nearest), np.array(of_image + nearest)))
