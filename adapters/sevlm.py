"""SEVLM in the harness: load a trained checkpoint and answer, or train one on a task."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.adapters.base import LocalAdapter, TrainRequest
from harness.adapters.pictures import open_all
from harness.types import Answer, Failed, ImageError, Item, Outcome, Unparsed, Usage, UserError
from sevlm.config import VAD_DIMENSIONS, SEVLMConfig
from sevlm.errors import SEVLMError

if TYPE_CHECKING:
    from PIL.Image import Image

    from sevlm.generation import Generated
    from sevlm.image_encoder import ImageEncoder
    from sevlm.lexicon import VADLexicon
    from sevlm.model import SEVLM
    from sevlm.vad_lookup import VADLookup

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
RULES_VERSION = 1
"""Raise when the same text would be read as another outcome."""


class SEVLMAdapter(LocalAdapter):
    """A SEVLM checkpoint answering with "<emotion> because <explanation>".

    Args:
        checkpoint: folder written by training or conversion, or a hub id.
        lexicon: VAD lexicon file, or `vader`; None takes the one that the checkpoint's training recorded.
        device: torch device; None takes CUDA where there is one.
        dtype: `fp32`, `bf16` or `fp16` for the decoder; the image encoder stays fp32.
        max_new_tokens: longest caption; None keeps the checkpoint's own limit.
        probabilities: also report the probability of each label.
    """

    name = "sevlm"
    trained_per_task = True

    def __init__(
        self,
        checkpoint: str,
        lexicon: str | None = None,
        device: str | None = None,
        dtype: str | None = None,
        max_new_tokens: int | None = None,
        probabilities: bool = True,
    ) -> None:
        self.checkpoint = Path(checkpoint).expanduser()
        self.hub_id = None if self.checkpoint.is_dir() else checkpoint
        if self.hub_id is not None and not _HUB_ID.fullmatch(checkpoint):
            raise UserError(f"sevlm: no checkpoint folder {checkpoint}; type: sevlm:checkpoint=PATH or a hub id")
        self.dtype = dtype or "fp32"
        if self.dtype not in DTYPES:
            raise UserError(f"dtype={dtype}: expected one of {', '.join(DTYPES)}")
        if max_new_tokens is not None and max_new_tokens < 1:
            raise UserError(f"max_new_tokens={max_new_tokens}: expected at least 1")
        self.lexicon_name, self.device = lexicon, device
        self.max_new_tokens, self.probabilities = max_new_tokens, probabilities
        self._model: SEVLM | None = None
        self._encoder: ImageEncoder | None = None
        self._lookup: VADLookup | None = None

    def fingerprint(self) -> dict[str, Any]:
        """Weights, configuration, lexicon, decoding and versions."""
        lexicon = self._lexicon()
        return {
            "checkpoint": self.hub_id or _digests(self.checkpoint.resolve()),
            "lexicon": None if lexicon is None else {"name": lexicon.name, "sha256": lexicon.fingerprint()},
            "decoding": "greedy",
            "max_new_tokens": self.max_new_tokens,
            "probabilities": self.probabilities,
            "dtype": self.dtype,
            "rules": RULES_VERSION,
            "transformers": version("transformers"),
        }

    def load(self) -> None:
        """Load weights, image encoder and lexicon.

        Raises:
            UserError: one of them cannot be had; the message says what to type.
        """
        import torch

        from sevlm.devices import find_device
        from sevlm.image_encoder import load_image_encoder
        from sevlm.model import SEVLM
        from sevlm.vad_lookup import VADLookup

        try:
            device = find_device(self.device)
            model = SEVLM.from_pretrained(self.hub_id or self.checkpoint)
            if self.max_new_tokens is not None:
                model.config = dataclasses.replace(model.config, max_new_tokens=self.max_new_tokens)
            lexicon = self._lexicon()
            self._lookup = None if lexicon is None else VADLookup.from_config(model.config, lexicon)
            self._encoder = load_image_encoder(model.config).to(device)
        except SEVLMError as error:
            raise UserError(f"sevlm: {error}") from error
        self._model = model.to(device, getattr(torch, DTYPES[self.dtype]))

    def parameters(self) -> int | None:
        """Values of the model and of its frozen image encoder."""
        if self._model is None or self._encoder is None:
            return None
        return sum(p.numel() for module in (self._model, self._encoder) for p in module.parameters())

    def runtime_info(self) -> dict[str, Any]:
        """Device, and the trained part of the parameters; a lexicon of valence alone is called what it is."""
        if self._model is None:
            return {}
        seen: dict[str, Any] = {
            "device": str(self._model.decoder.wte.weight.device),
            "trained_parameters": self._model.parameter_counts()["total"],
        }
        if self._lookup is not None and self._lookup.lexicon.valence_only:
            seen["note"] = "valence-only lexicon: not the published SEVLM"
        return seen

    def close(self) -> None:
        """Free the weights."""
        self._model = self._encoder = self._lookup = None

    def predict(self, items: Sequence[Item]) -> list[Outcome]:
        """One outcome per item, in order; an unreadable picture fails alone."""
        pictures = open_all([item.image for item in items])
        outcomes: list[Outcome | None] = [
            Failed("ImageError", str(picture)) if isinstance(picture, ImageError) else None for picture in pictures
        ]
        readable = [index for index, picture in enumerate(pictures) if not isinstance(picture, ImageError)]
        kinds = groupby(readable, key=lambda index: (items[index].labels, items[index].explanations))
        for (labels, explained), group in kinds:
            indices = list(group)
            shown = [picture for i in indices if not isinstance(picture := pictures[i], ImageError)]
            for index, (one, usage) in zip(indices, self._generated(shown, labels), strict=True):
                outcomes[index] = self._rated(read_answer(one, labels, usage, explained), one, items[index].ratings)
        return [outcome for outcome in outcomes if outcome is not None]

    def _generated(self, pictures: Sequence[Image], labels: Sequence[str]) -> list[tuple[Generated, Usage]]:
        if self._model is None or self._encoder is None:
            raise UserError("sevlm answers only after load()")
        started = time.monotonic()
        grid = self._encoder.encode(pictures).to(self._model.decoder.wte.weight.dtype)  # (B, P, E)
        generated = self._model.generate(grid, labels if self.probabilities else None, self._lookup)
        share = (time.monotonic() - started) / len(pictures)
        return [(one, Usage(share, None, len(one.token_ids))) for one in generated]

    def _rated(self, outcome: Outcome, generated: Generated, scales: Mapping[str, tuple[float, float]]) -> Outcome:
        """The answer with the VAD head's numbers brought from -1..1 to the task's scales, where both exist."""
        if self._model is None or not isinstance(outcome, Answer) or generated.vad is None:
            return outcome
        foreseen = dict(zip(VAD_DIMENSIONS, generated.vad, strict=True))
        known = [d for d in scales if d in self._model.config.vad_dimensions]
        ratings = {d: scales[d][0] + (foreseen[d] + 1) / 2 * (scales[d][1] - scales[d][0]) for d in known}
        return dataclasses.replace(outcome, ratings=ratings or None)

    def _lexicon(self) -> VADLexicon | None:
        """The lexicon given, else the recorded one; None for a model without VAD features."""
        if self.hub_id is None and not _fuses_vad(self.checkpoint):
            return None
        if self.hub_id is not None and self.lexicon_name is None:
            raise UserError(f"sevlm: no folder {self.hub_id}; if it is a hub id, add its VAD lexicon: --lexicon FILE")
        return find_lexicon(self.checkpoint, self.lexicon_name)

    @classmethod
    def train(cls, request: TrainRequest) -> None:
        """Train on the task's captions and write the checkpoint.

        Settings are keys of `sevlm.training_config.TrainingConfig` and of `SEVLMConfig`; `config` names a recipe
        (`official`, `small`, `demo`) or a YAML file. Illustrative tasks use `demo` by default, all others `official`.

        Raises:
            UserError: no lexicon, or anything else that the user can mend.
        """
        from harness.adapters.sevlm_training import train_on_task

        train_on_task(request)


def read_answer(generated: Generated, labels: Sequence[str], usage: Usage, explained: bool = True) -> Outcome:
    """A caption is an answer when its emotion is exactly a label of the task and, if it must be, explained."""
    if generated.emotion not in labels or (explained and not generated.explanation):
        return Unparsed(generated.text, usage)
    return Answer(generated.emotion, generated.explanation, generated.label_probs, generated.text, usage)


def find_lexicon(checkpoint: Path, name: str | None) -> VADLexicon:
    """The lexicon of this name or path, else the one recorded in the checkpoint's `training.json`.

    Raises:
        UserError: neither can be had, or it is not the lexicon that the checkpoint was trained with.
    """
    from sevlm.lexicon import load_lexicon

    recorded: Mapping[str, str] = _training(checkpoint).get("lexicon", {})
    source = name or recorded.get("source")
    if source is None or (name is None and source != "vader" and not Path(source).is_file()):
        known = f" (trained with {recorded['name']}, {source})" if recorded else ""
        raise UserError(f"sevlm: {checkpoint} needs its VAD lexicon{known}; add: --lexicon FILE")
    try:
        lexicon = load_lexicon(source)
    except SEVLMError as error:
        raise UserError(f"sevlm: {error}") from error
    if recorded and lexicon.fingerprint() != recorded["fingerprint"]:
        raise UserError(
            f"sevlm: {source} ({lexicon.name}) is not the lexicon that {checkpoint} was trained with "
            f"({recorded['name']}, {recorded['source']}); add: --lexicon FILE"
        )
    return lexicon


def _training(checkpoint: Path) -> Mapping[str, Any]:
    path = checkpoint / "training.json"
    if not path.is_file():
        return {}
    summary: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return summary


def _fuses_vad(checkpoint: Path) -> bool:
    try:
        return SEVLMConfig.load(checkpoint / "config.json").use_vad_features
    except SEVLMError as error:
        raise UserError(f"sevlm: {error}") from error


def _digests(folder: Path) -> dict[str, str]:
    """File -> SHA-256 of what decides the answers."""
    found = {}
    for path in sorted([folder / "model.safetensors", folder / "config.json", *(folder / "tokenizer").glob("*")]):
        if path.is_file():
            with path.open("rb") as file:
                found[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return found
