"""LLaVA, Qwen-VL and every other image-text-to-text checkpoint of the transformers library."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from itertools import groupby
from typing import TYPE_CHECKING, Any

from harness.adapters.base import LocalAdapter, TrainRequest
from harness.adapters.hf_model import (
    SCORERS,
    CheckpointSettings,
    Generated,
    generate,
    load_model,
    load_processor,
    lora_base,
)
from harness.adapters.hf_processor import PromptReader
from harness.adapters.hf_trial import FURTHER, TRIAL_PROMPT, Trial, batch_error, check_image_is_seen, score_error
from harness.adapters.local import FittingBatches, ImagePrefetcher, answer_by_scores
from harness.adapters.shots import Shot, choose_shots, shots_identity
from harness.images import open_image
from harness.tasks.parser import PARSER_VERSION, parse_answer
from harness.types import Answer, Example, Failed, ImageError, Item, Outcome, Usage, UserError

if TYPE_CHECKING:
    from PIL.Image import Image

DEFAULT_CHECKPOINT = "llava-hf/llava-1.5-7b-hf"
PROMPTING = 3
"""Raised when prompts become other tokens than before, so that answers are not mixed."""
TOLERANCE = {"float32": 1e-2, "bfloat16": 0.5, "float16": 0.2}
"""Largest difference in summed log-probability between two ways to compute the same that rounding explains."""
Shown = tuple[Item, "Image"]


class HFVisionLanguage(LocalAdapter):
    """A local vision-language model of transformers: one image, the task's prompt, a greedy answer.

    An image that cannot be decoded costs its own answer only. When the GPU's memory runs out the batch is halved, and
    stays halved. `emotion_probs` is the softmax over the labels of the log-probability of each label, written as in
    the task, right after the prompt; a text whose labels cannot be scored is kept without them.

    Args:
        checkpoint: hub id or folder; by default the one that `lora` was trained for, else LLaVA-1.5-7B.
        revision, dtype, device, device_map, attention, quantization, trust_remote_code, lora, merge: see
            `CheckpointSettings`.
        max_new_tokens: longest answer; one cut off by it before any explanation is `Failed`.
        probabilities: also score the labels.
        thinking: let a model think first whose template can switch that on and off.
        shots: images of the training split to show, with an answer each, before the question.
        seed: which of them.
    """

    name = "llava"

    def __init__(
        self,
        checkpoint: str | None = None,
        revision: str | None = None,
        dtype: str | None = None,
        device: str | None = None,
        device_map: str | None = None,
        attention: str | None = None,
        quantization: str | None = None,
        max_new_tokens: int = 128,
        probabilities: bool = True,
        trust_remote_code: bool = False,
        lora: str | None = None,
        merge: bool = True,
        thinking: bool = False,
        shots: int = 0,
        seed: int = 0,
    ) -> None:
        base = DEFAULT_CHECKPOINT if lora is None else lora_base(lora)
        self.settings = CheckpointSettings(
            checkpoint or base,
            revision,
            dtype,
            device,
            device_map,
            attention,
            quantization,
            trust_remote_code,
            lora,
            merge,
        )
        if max_new_tokens < 1:
            raise UserError(f"max_new_tokens={max_new_tokens}: expected at least 1")
        if shots < 0:
            raise UserError(f"shots={shots}: expected at least 0")
        if thinking and probabilities:
            raise UserError("thinking=true: a thought comes before the label, so give probabilities=false too")
        self.max_new_tokens = max_new_tokens
        self.probabilities = probabilities
        self.thinking = thinking
        self.shots, self.seed = shots, seed
        self.needs = frozenset({"train"}) if shots else frozenset()
        self._shown: tuple[Shot, ...] = ()
        self._model: Any = None
        self._reader: PromptReader | None = None
        self._images: ImagePrefetcher[Image] = ImagePrefetcher(lambda image: image)
        self._batches = FittingBatches()
        self._pads_prompts = True
        self._scorers: list[str] = []
        self._unscored = 0
        self._loaded: dict[str, Any] = {}

    def fingerprint(self) -> dict[str, Any]:
        """Weights, decoding and versions; what is known only after loading is in `runtime_info()`."""
        decoding = {"decoding": "greedy", "max_new_tokens": self.max_new_tokens, "probabilities": self.probabilities}
        versions = {"parser": PARSER_VERSION, "prompting": PROMPTING, "transformers": version("transformers")}
        shown = {"shots": self.shots, "seed": self.seed} if self.shots else {}
        thinking = {"thinking": True} if self.thinking else {}
        return self.settings.identity() | decoding | shown | thinking | versions

    def fit(self, examples: Sequence[Example]) -> None:
        """Choose the worked examples."""
        self._shown = choose_shots(examples, self.shots, self.seed)

    def load(self) -> None:
        """Load the checkpoint and check on two made-up images that it sees them, with the run's longest prompt.

        Raises:
            UserError: the checkpoint could not be loaded, or ignores images.
        """
        shots = [(open_image(shot.image), shot.answer) for shot in self._shown]
        self._reader = PromptReader(load_processor(self.settings), shots, thinking=self.thinking)
        self._model = load_model(self.settings)
        prompts = [TRIAL_PROMPT, *([self.longest_prompt] if self.longest_prompt else [])]
        trials = [check_image_is_seen(self._model, self._reader, prompt) for prompt in prompts]
        if self.probabilities:
            self._scorers = self._usable_scorers(trials)
        tolerance = self._tolerance()
        if batch_error(self._model, self._reader, trials[-1]) > tolerance:
            name = self.settings.checkpoint
            print(
                f"{name}: answers depend on the images beside them, so that each is asked about alone", file=sys.stderr
            )
            self._batches.largest = 1
        self._pads_prompts = batch_error(self._model, self._reader, trials[-1], further=FURTHER) <= tolerance
        self._loaded = {
            "commit": getattr(self._model.config, "_commit_hash", None),
            "device": str(self._model.device),
            "dtype": str(self._model.dtype).removeprefix("torch."),
            "prompt_form": self._reader.form,
            "template_sha256": hashlib.sha256((self._reader.template or "").encode()).hexdigest(),
            "image_tokens": trials[-1].image_tokens,
        }

    def _usable_scorers(self, trials: Sequence[Trial]) -> list[str]:
        """The ways to score labels that agree with generation on every trial, quickest first."""
        if self._reader is not None and self._reader.thinks_first:
            print(f"{self.settings.checkpoint} thinks before it answers: labels are not scored", file=sys.stderr)
            return []
        tolerance = self._tolerance()
        usable = [name for name in SCORERS if all(score_error(self._model, t, name) <= tolerance for t in trials)]
        if not usable:
            print(f"{self.settings.checkpoint}: labels cannot be scored; texts are kept without", file=sys.stderr)
        return usable

    def _tolerance(self) -> float:
        rounding = TOLERANCE[str(self._model.dtype).removeprefix("torch.")]
        return max(rounding, 0.5) if self.settings.quantization else rounding

    def parameters(self) -> int | None:
        """Parameters of the loaded model."""
        return None if self._model is None else int(self._model.num_parameters())

    def runtime_info(self) -> dict[str, Any]:
        """Commit, device, dtype, prompt form, how labels are scored, and the batch size that the memory allowed."""
        return self._loaded | {
            "batch_limited_to": self._batches.largest,
            "labels_scored_by": self._scorers[0] if self._scorers else None,
            "texts_without_label_scores": self._unscored,
            "shots": [shot.id for shot in self._shown],
        }

    def close(self) -> None:
        """Free the weights and the images read ahead."""
        self._images.close()
        self._model = self._reader = None

    def cache_key(self) -> dict[str, Any]:
        """The fingerprint, and what only loading tells: the commit, the precision, the template."""
        known = {key: self._loaded.get(key) for key in ("commit", "dtype", "template_sha256")}
        return self.fingerprint() | {"loaded": known, "shown": shots_identity(self._shown)}

    @classmethod
    def training_settings(cls) -> Mapping[str, Any]:
        """Keys of the recipe for LoRA."""
        from harness.adapters.hf_training import Recipe

        return {"config": None} | Recipe.model_validate({}).model_dump()

    @classmethod
    def train(cls, request: TrainRequest) -> None:
        """Fine-tune with LoRA; use the result as `hf:lora=PATH`."""
        from harness.adapters.hf_training import train_lora

        train_lora(request)

    def prefetch(self, items: Sequence[Item]) -> None:
        """Start to decode the images of the next batches, so that the model need not wait for them."""
        self._images.start([item.image for item in items])

    def predict(self, items: Sequence[Item]) -> list[Outcome]:
        """One outcome per item, in order.

        Raises:
            UserError: an item shows no image.
        """
        if not all(item.shows_image for item in items):
            raise UserError(f"{self.name} is asked about images only; let it judge by a rubric with image: true")
        images = self._images.take([item.image for item in items])
        failures = [Failed("ImageError", str(p)) if isinstance(p, ImageError) else None for p in images]
        shown = [(i, p) for i, p in zip(items, images, strict=True) if not isinstance(p, ImageError)]
        answers: list[Outcome] = []
        # asked about at once: images with the same labels, and with the same prompt if padding changes answers
        kinds = groupby(shown, key=lambda one: (one[0].labels, None if self._pads_prompts else one[0].prompt))
        for _, group in kinds:
            answers += self._batches.answers(list(group), self._answer_batch)
        remaining = iter(answers)
        return [next(remaining) if failure is None else failure for failure in failures]

    def _answer_batch(self, batch: Sequence[Shown]) -> list[Outcome]:
        started = time.monotonic()
        if self._reader is None:
            raise UserError("llava answers only after load()")
        inputs = self._reader.encode([item.prompt for item, _ in batch], [image for _, image in batch])
        prompt_tokens = inputs["attention_mask"].sum(dim=1).tolist()
        inputs = inputs.to(self._model.device, self._model.dtype)
        generated = generate(self._model, inputs, self.max_new_tokens)
        texts = self._reader.decode(generated.tokens)
        labels = batch[0][0].labels
        probabilities = self._label_probabilities(inputs, generated, labels)
        share = (time.monotonic() - started) / len(batch)
        outcomes: list[Outcome] = []
        for row, text in enumerate(texts):
            usage = Usage(share, prompt_tokens[row], generated.lengths[row])
            explained = batch[row][0].explanations
            outcome = parse_answer(text, labels, usage, truncated=generated.truncated[row], explained=explained)
            if probabilities is not None and batch[row][0].statements:  # by likelihood, whatever the text was
                outcome = answer_by_scores(batch[row][0], list(probabilities[row].values()), usage)
            if isinstance(outcome, Answer) and probabilities is not None:
                outcome = replace(outcome, emotion_probs=probabilities[row])
            outcomes.append(outcome)
        return outcomes

    def _label_probabilities(
        self, inputs: Any, generated: Generated, labels: Sequence[str]
    ) -> list[dict[str, float]] | None:
        """Per row the share of each label in the probability of all; None if not asked for or not to be had."""
        if not self._scorers or self._reader is None or not labels:
            return None
        rows = [[]] if self._model.config.is_encoder_decoder else inputs["input_ids"].tolist()
        tokens = self._reader.continuations(rows, labels)
        for name in self._scorers:
            try:
                scores = SCORERS[name](self._model, inputs, generated.cache, tokens)  # (B, labels)
            except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
                if "out of memory" in str(error):
                    raise
                continue  # a sliding window that is full, say: the next way needs no such cache
            return [dict(zip(labels, row, strict=True)) for row in scores.softmax(dim=1).tolist()]
        self._unscored += inputs["input_ids"].shape[0]
        return None
