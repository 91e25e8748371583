"""SEVLM in the harness: load a trained checkpoint and answer, or train one on a task."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from harness.adapters.base import LocalAdapter, Teacher, TrainRequest
from harness.adapters.local import GREY, FittingBatches, ImagePrefetcher, answer_by_scores
from harness.images import open_image
from harness.tasks.parser import PARSER_VERSION, parse_answer
from harness.types import (
    Answer,
    Example,
    Failed,
    ImageError,
    Item,
    Outcome,
    Task,
    Usage,
    UserError,
)
from sevlm.config import VAD_DIMENSIONS, SEVLMConfig, SEVLMError

if TYPE_CHECKING:
    from torch import Tensor

    from sevlm.checkpoint import SEVLM
    from sevlm.data import TrainingExample
    from sevlm.generation import Generated
    from sevlm.vad import VADLexicon

    Shown: TypeAlias = tuple[int, Item, Tensor]  # an item, where it stands among those asked about, and its pixels

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
RULES_VERSION = 2
"""Raise when the same text would be read as another outcome."""


class SEVLMAdapter(LocalAdapter):
    """A SEVLM checkpoint answering with "<emotion> because <explanation>".

    Args:
        checkpoint: folder written by training or conversion, or a hub id.
        lexicon: VAD lexicon file, or `vader`; None takes the one that the checkpoint's training recorded.
        device: torch device; None takes CUDA if there is one.
        dtype: `fp32`, `bf16` or `fp16`, of the decoder's weights and of the image encoder's products; None: bf16 on a
            GPU that has it, for models that improve on the published one; fp32 elsewhere.
        max_new_tokens: longest caption; None keeps the checkpoint's own limit.
        probabilities: also report the probability of each label.
        n_best: explanations to choose each answer from, 1 for greedy decoding; None keeps the checkpoint's own.
    """

    name = "sevlm"
    trained_per_task = True
    learns_from_teachers = True

    def __init__(
        self,
        checkpoint: str,
        lexicon: str | None = None,
        device: str | None = None,
        dtype: str | None = None,
        max_new_tokens: int | None = None,
        probabilities: bool = True,
        n_best: int | None = None,
    ) -> None:
        self.checkpoint = Path(checkpoint).expanduser()
        self.hub_id = None if self.checkpoint.is_dir() else checkpoint
        if self.hub_id is not None and not _HUB_ID.fullmatch(checkpoint):
            raise UserError(f"sevlm: no checkpoint folder {checkpoint}; type: sevlm:checkpoint=PATH or a hub id")
        self.dtype = dtype
        if dtype is not None and dtype not in DTYPES:
            raise UserError(f"dtype={dtype}: expected one of {', '.join(DTYPES)}")
        if max_new_tokens is not None and max_new_tokens < 1:
            raise UserError(f"max_new_tokens={max_new_tokens}: expected at least 1")
        if n_best is not None and n_best < 1:
            raise UserError(f"n_best={n_best}: expected at least 1")
        self.lexicon_name, self.device = lexicon, device
        self.max_new_tokens, self.probabilities, self.n_best = max_new_tokens, probabilities, n_best
        self._model: SEVLM | None = None
        self._images: ImagePrefetcher[Tensor] | None = None
        self._batches = FittingBatches()
        self._meta: dict[str, str] = {}  # item -> what the label head sees beside the image

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """An item does not show what the label head may see beside the image."""
        return frozenset() if self._label_meta is None else frozenset({"references"})

    def fingerprint(self) -> dict[str, Any]:
        """Weights, configuration, lexicon, decoding and versions."""
        from sevlm.checkpoint import digests

        lexicon, folder = self._lexicon(), self._folder()
        own = 1 if self._config is None else self._config.n_best
        drawn = own if self.n_best is None else self.n_best
        return {
            "checkpoint": {"hub": self.hub_id, "commit": folder.name} if self.hub_id else digests(folder.resolve()),
            "lexicon": None if lexicon is None else {"name": lexicon.name, "sha256": lexicon.fingerprint()},
            "decoding": "greedy" if drawn == 1 else f"best of {drawn}",
            "max_new_tokens": self.max_new_tokens,
            "probabilities": self.probabilities,
            "dtype": self.dtype,
            "rules": f"{RULES_VERSION} (parser {PARSER_VERSION})",
            "transformers": version("transformers"),
        }

    def attach(self, examples: Sequence[Example]) -> None:
        """Look up what the label head sees beside the images that are asked about next, and nothing else."""
        self._meta = {example.id: example.meta.get(self._label_meta or "", "") for example in examples}

    @property
    def _label_meta(self) -> str | None:
        return None if self._config is None else self._config.label_meta

    @cached_property
    def _config(self) -> SEVLMConfig | None:
        """The checkpoint's configuration; None for the released layout, which has none."""
        config = self._folder() / "config.json"
        with contextlib.suppress(SEVLMError):  # a damaged file is reported when it is loaded
            return SEVLMConfig.load(config) if config.is_file() else None
        return None

    def load(self) -> None:
        """Load weights, image encoder and lexicon.

        Raises:
            UserError: one of them could not be loaded; the message says what to type.
        """
        import torch

        from sevlm.checkpoint import SEVLM
        from sevlm.images import find_device

        try:
            device = find_device(self.device)
            model = SEVLM.from_pretrained(self._folder(), self.lexicon_name)
            if self.max_new_tokens is not None:
                model.config = dataclasses.replace(model.config, max_new_tokens=self.max_new_tokens)
            # since Ampere; older GPUs emulate bf16, which `is_bf16_supported` counts, and it asks the current GPU alone
            has_bf16 = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
            gains = has_bf16 and model.config.causal_vad_encoder
            dtype = self.dtype or ("bf16" if gains else "fp32")
            encoder = model.to(device, getattr(torch, DTYPES[dtype])).image_encoder()
        except SEVLMError as error:
            raise UserError(f"sevlm: {error}") from error
        self._model, self._images = model, ImagePrefetcher(encoder.preprocess)

    def parameters(self) -> int | None:
        """Values of the model and of its frozen image encoder."""
        if self._model is None:
            return None
        return sum(p.numel() for module in (self._model, self._model.image_encoder()) for p in module.parameters())

    def runtime_info(self) -> dict[str, Any]:
        """Device, precision, the batch size that the memory allowed, and the trained part of the parameters.

        A lexicon of valence alone is called what it is.
        """
        if self._model is None:
            return {}
        weight = self._model.decoder.wte.weight
        seen: dict[str, Any] = {
            "device": str(weight.device),
            "dtype": next(name for name, known in DTYPES.items() if str(weight.dtype) == f"torch.{known}"),
            "batch_limited_to": self._batches.largest,
            "trained_parameters": self._model.parameter_counts()["total"],
        }
        if self._model.config.use_vad_features and self._model.config.vad_dimensions == ("valence",):
            seen["note"] = "valence-only lexicon: not the published SEVLM"
        return seen

    def close(self) -> None:
        """Free the weights and the images read ahead."""
        if self._images is not None:
            self._images.close()
        self._model = self._images = None

    def prefetch(self, items: Sequence[Item]) -> None:
        """Start to decode and scale the images of the next batches, so that the model need not wait for them."""
        if self._images is not None:
            self._images.start([item.image for item in items])

    def predict(self, items: Sequence[Item]) -> list[Outcome]:
        """One outcome per item, in order; an unreadable image fails alone."""
        if self._images is None:
            raise UserError("sevlm answers only after load()")
        outcomes: list[Outcome | None] = [None] * len(items)
        shown: list[Shown] = []
        for index, pixels in enumerate(self._images.take([item.image for item in items])):
            if isinstance(pixels, ImageError):
                outcomes[index] = Failed("ImageError", str(pixels))
            else:
                shown.append((index, items[index], pixels))
        # asked about at once: images with statements alone, others with the same labels
        kinds = groupby(
            shown, key=lambda one: (one[0] if one[1].statements else None, one[1].labels, one[1].explanations)
        )
        for _, group in kinds:
            asked = list(group)
            answers = self._batches.answers(asked, self._compared if asked[0][1].statements else self._explained)
            for (index, _, _), answer in zip(asked, answers, strict=True):
                outcomes[index] = answer
        return [outcome for outcome in outcomes if outcome is not None]

    def _compared(self, shown: Sequence[Shown]) -> list[Outcome]:
        """Of an item's statements, the one that its image makes likelier than a grey one does.

        Likelier by mean log-probability per token.
        """
        from PIL import Image as pil

        assert self._model is not None
        ((_, item, pixels),) = shown
        started = time.monotonic()
        captions = [(s.emotion, s.explanation) for s in item.statements]
        grey = pil.new("RGB", (pixels.shape[1], pixels.shape[2]), GREY)
        both = self._model.score_explanations([pixels, grey], [captions, captions])
        return [answer_by_scores(item, (both[0] - both[1]).tolist(), Usage(time.monotonic() - started))]

    def _explained(self, shown: Sequence[Shown]) -> list[Outcome]:
        """The captions of images with the same labels."""
        assert self._model is not None
        labels, explained = shown[0][1].labels, shown[0][1].explanations
        meta = [self._meta.get(item.id, "") for _, item, _ in shown]
        scored = labels if self.probabilities else None
        started = time.monotonic()
        generated = self._model.generate([pixels for *_, pixels in shown], scored, meta=meta, n_best=self.n_best)
        share = (time.monotonic() - started) / len(shown)
        answers = [read_answer(one, labels, Usage(share, None, len(one.token_ids)), explained) for one in generated]
        return [
            self._rated(answer, one, item.ratings)
            for answer, one, (_, item, _) in zip(answers, generated, shown, strict=True)
        ]

    def _rated(self, outcome: Outcome, generated: Generated, scales: Mapping[str, tuple[float, float]]) -> Outcome:
        """The answer with the VAD head's numbers brought from -1..1 to the task's scales, if both exist."""
        if self._model is None or not isinstance(outcome, Answer) or generated.vad is None:
            return outcome
        predicted = dict(zip(VAD_DIMENSIONS, generated.vad, strict=True))
        known = [d for d in scales if d in self._model.config.vad_dimensions]
        ratings = {d: scales[d][0] + (predicted[d] + 1) / 2 * (scales[d][1] - scales[d][0]) for d in known}
        return dataclasses.replace(outcome, ratings=ratings or None)

    def _folder(self) -> Path:
        """The checkpoint; a hub id is downloaded on first use, and its folder is named by its commit."""
        from sevlm.checkpoint import checkpoint_folder

        try:
            return checkpoint_folder(self.hub_id or self.checkpoint)
        except SEVLMError as error:
            raise UserError(f"sevlm: {error}") from error

    def _lexicon(self) -> VADLexicon | None:
        """The lexicon given, else the recorded one; None for a model without VAD features."""
        from sevlm.checkpoint import find_lexicon, recorded_lexicon

        folder = self._folder()
        try:
            config = folder / "config.json"
            if config.is_file() and not SEVLMConfig.load(config).use_vad_features:
                return None
            found = find_lexicon(folder, self.lexicon_name)
            if found is None:
                known = ", ".join(filter(None, map(recorded_lexicon(folder).get, ("name", "source"))))
                trained = f" (trained with {known})" if known else ""
                raise SEVLMError(f"{self.hub_id or folder} needs its VAD lexicon{trained}; add: --lexicon FILE")
        except SEVLMError as error:
            raise UserError(f"sevlm: {error}") from error
        return found

    @classmethod
    def training_settings(cls) -> Mapping[str, Any]:
        """The recipe of all tasks but illustrative ones, and what it holds: keys of training, then of the model."""
        from sevlm.recipe import load_recipe

        recipe = load_recipe("official")
        keys = dataclasses.asdict(recipe.training) | recipe.model_config().to_dict()
        return {"config": "official", "mode": recipe.mode} | keys

    @classmethod
    def train(cls, request: TrainRequest) -> None:
        """Train on the task's captions, and on what teachers answered, and write the checkpoint.

        Settings are keys of `sevlm.TrainingConfig` and of `SEVLMConfig`; `config` names a recipe (`official`, `small`,
        `demo`) or a YAML file. Illustrative tasks use `demo` by default, all others `official`.

        Raises:
            UserError: no lexicon, or anything else that the user can fix.
        """
        from sevlm.recipe import load_recipe
        from sevlm.train import train

        settings = dict(request.settings)
        try:
            recipe = load_recipe(settings.pop("config", "demo" if request.task.illustrative else "official"))
            if request.lexicon is not None:
                settings["lexicon"] = str(request.lexicon.resolve())
            elif "lexicon" not in settings and not request.task.illustrative:
                raise UserError(
                    f"sevlm: training on {request.task.name} needs a VAD lexicon; add: --lexicon FILE "
                    "(NRC-VAD, Glasgow or Warriner), or lexicon=vader (valence only, not the published SEVLM)"
                )
            if not request.task.explanations:  # nothing to compare texts with
                settings.setdefault("keep_best_by", "accuracy")
            if request.init_from is not None:
                settings["init_from"] = str(request.init_from)
            recipe = recipe.updated({"seed": request.seed} | settings)
            if recipe.training.lexicon == "vader":
                print("sevlm: the lexicon measures valence only, so this is not the published SEVLM")
            examples = training_examples(request.train, request.task, request.teachers)
            validation = training_examples(request.val, request.task)
            sources = {teacher.name: teacher.source for teacher in request.teachers}
            train(recipe, examples, validation, request.out, request.device, open_image=open_image, teachers=sources)
        except SEVLMError as error:
            raise UserError(f"sevlm: {error}") from error


def read_answer(generated: Generated, labels: Sequence[str], usage: Usage, explained: bool = True) -> Outcome:
    """A caption, read as any model's text; its explanation is what stands after its last "because".

    That is where SEVLM's own script cuts; the parser cuts after the first.
    """
    found = parse_answer(generated.text, labels, usage, truncated=not generated.ended, explained=explained)
    if not isinstance(found, Answer):
        return found
    explanation = generated.explanation if generated.emotion == found.emotion else found.explanation
    explanation = explanation or found.explanation
    return dataclasses.replace(found, explanation=explanation, emotion_probs=generated.label_probs)


def training_examples(
    examples: Sequence[Example], task: Task, teachers: Sequence[Teacher] = ()
) -> list[TrainingExample]:
    """Images with an annotation or a teacher's answer, in the library's own terms; ratings come with labels alone."""
    from sevlm.data import Lesson, TrainingExample

    lessons: defaultdict[str, list[Lesson]] = defaultdict(list)
    for teacher in teachers:
        for example_id, answer in teacher.answers.items():
            caption = (answer.emotion, answer.explanation if task.explanations else "")
            lessons[example_id].append(Lesson(teacher.name, caption, answer.emotion_probs or {answer.emotion: 1.0}))
    return [
        TrainingExample(
            example.id,
            example.image,
            tuple((annotation.emotion, annotation.explanation) for annotation in example.annotations),
            dict(example.emotion_histogram),
            None if task.explanations else _bipolar(example.ratings, task.ratings),
            dict(example.meta),
            tuple(lessons[example.id]),
        )
        for example in examples
        if example.annotations or lessons[example.id]
    ]


def _bipolar(
    ratings: Mapping[str, float], scales: Mapping[str, tuple[float, float]]
) -> tuple[float, float, float] | None:
    """Ratings brought from the task's scales to -1..1, 0 for one that is missing; None if all are."""
    if not ratings:
        return None
    placed = {
        name: 2 * (value - scales[name][0]) / (scales[name][1] - scales[name][0]) - 1 for name, value in ratings.items()
    }
    valence, arousal, dominance = (placed.get(name, 0.0) for name in VAD_DIMENSIONS)
    return valence, arousal, dominance
