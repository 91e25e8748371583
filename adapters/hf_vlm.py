"""LLaVA and every other image-text-to-text checkpoint of the transformers library."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from itertools import groupby
from typing import TYPE_CHECKING, Any

from harness.adapters.base import LocalAdapter, TrainRequest
from harness.adapters.hf_checkpoint import CheckpointSettings, load_model, load_processor, lora_base
from harness.adapters.hf_generation import Generated, continuation_log_probs, generate, same_for_all
from harness.adapters.hf_reader import PromptReader
from harness.adapters.hf_trial import check_picture_is_seen, check_scoring
from harness.adapters.pictures import PicturesAhead
from harness.adapters.shots import Shot, choose_shots, shots_identity
from harness.tasks.parser import PARSER_VERSION, parse_answer
from harness.types import Answer, Example, Failed, ImageError, Item, Outcome, Usage, UserError, open_image

if TYPE_CHECKING:
    from PIL.Image import Image

DEFAULT_CHECKPOINT = "llava-hf/llava-1.5-7b-hf"
Shown = tuple[Item, "Image"]


class HFVisionLanguage(LocalAdapter):
    """A local vision-language model: one picture, the task's prompt, a greedy answer.

    A picture that cannot be decoded costs its own answer only. When the GPU's memory runs out the batch is halved,
    and stays halved. `emotion_probs` is the softmax over the labels of the log-probability of each label, written as
    in the task, right after the prompt.

    Args:
        checkpoint: hub id or folder; by default the one that `lora` was trained for, else LLaVA-1.5-7B.
        revision, dtype, device, device_map, attention, quantization, trust_remote_code, lora, merge: see
            `CheckpointSettings`.
        max_new_tokens: longest answer; one cut off by it before any explanation is `Failed`.
        probabilities: also score the labels.
        shots: pictures of the training split to show, with an answer each, before the question.
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
        self.max_new_tokens = max_new_tokens
        self.probabilities = probabilities
        self.shots, self.seed = shots, seed
        self.needs = frozenset({"train"}) if shots else frozenset()
        self._shown: tuple[Shot, ...] = ()
        self._model: Any = None
        self._reader: PromptReader | None = None
        self._pictures = PicturesAhead()
        self._largest_batch: int | None = None
        self._observed: dict[str, Any] = {}

    def fingerprint(self) -> dict[str, Any]:
        """Weights, decoding and versions; what is known only after loading is in `runtime_info()`."""
        decoding = {"decoding": "greedy", "max_new_tokens": self.max_new_tokens, "probabilities": self.probabilities}
        versions = {"parser": PARSER_VERSION, "transformers": version("transformers")}
        shown = {"shots": self.shots, "seed": self.seed} if self.shots else {}
        return self.settings.identity() | decoding | shown | versions

    def fit(self, examples: Sequence[Example]) -> None:
        """Choose the worked examples."""
        self._shown = choose_shots(examples, self.shots, self.seed)

    def load(self) -> None:
        """Load the checkpoint and check on two made-up pictures that it sees them.

        Raises:
            UserError: the checkpoint cannot be had, ignores pictures, or its labels cannot be scored.
        """
        shots = [(open_image(shot.image), shot.answer) for shot in self._shown]
        self._reader = PromptReader(load_processor(self.settings), shots)
        self._model = load_model(self.settings)
        trial = check_picture_is_seen(self._model, self._reader)
        if self.probabilities:
            check_scoring(self._model, trial)
        self._observed = {
            "commit": getattr(self._model.config, "_commit_hash", None),
            "device": str(self._model.device),
            "dtype": str(self._model.dtype).removeprefix("torch."),
            "prompt_form": self._reader.form,
            "template_sha256": hashlib.sha256((self._reader.template or "").encode()).hexdigest(),
            "image_tokens": trial.image_tokens,
        }

    def parameters(self) -> int | None:
        """Parameters of the loaded model."""
        return None if self._model is None else int(self._model.num_parameters())

    def runtime_info(self) -> dict[str, Any]:
        """Commit, device, dtype, prompt form, and the batch size that the memory allowed (None: never too large)."""
        return self._observed | {
            "batch_limited_to": self._largest_batch,
            "shots": [shot.id for shot in self._shown],
        }

    def close(self) -> None:
        """Free the weights and the pictures read ahead."""
        self._pictures.close()
        self._model = self._reader = None

    def cache_key(self) -> dict[str, Any]:
        """The fingerprint, and what only loading tells: the commit, the precision, the template."""
        known = {key: self._observed.get(key) for key in ("commit", "dtype", "template_sha256")}
        return self.fingerprint() | {"loaded": known, "shown": shots_identity(self._shown)}

    @classmethod
    def train(cls, request: TrainRequest) -> None:
        """Fine-tune with LoRA; use the result as `llava:lora=PATH`."""
        from harness.adapters.llava_training import train_lora

        train_lora(request)

    def prefetch(self, items: Sequence[Item]) -> None:
        """Start to decode the pictures of the next batches, so that the model need not wait for them."""
        self._pictures.start([item.image for item in items])

    def predict(self, items: Sequence[Item]) -> list[Outcome]:
        """One outcome per item, in order."""
        pictures = self._pictures.take([item.image for item in items])
        failures = [Failed("ImageError", str(p)) if isinstance(p, ImageError) else None for p in pictures]
        shown = [(i, p) for i, p in zip(items, pictures, strict=True) if not isinstance(p, ImageError)]
        answers: list[Outcome] = []
        for _, group in groupby(shown, key=lambda pair: pair[0].labels):
            answers += self._answer(list(group))
        remaining = iter(answers)
        return [next(remaining) if failure is None else failure for failure in failures]

    def _answer(self, shown: Sequence[Shown]) -> list[Outcome]:
        """Answer items of one label set in batches that fit into memory."""
        outcomes: list[Outcome] = []
        while len(outcomes) < len(shown):
            start = len(outcomes)
            batch = shown[start : start + (self._largest_batch or len(shown))]
            outcomes += self._answer_or_halve(batch)
        return outcomes

    def _answer_or_halve(self, batch: Sequence[Shown]) -> list[Outcome]:
        """The batch's outcomes; none, and a smaller `_largest_batch`, where it was too large for the memory."""
        import torch

        try:
            return self._answer_batch(batch)
        except torch.OutOfMemoryError as error:
            message = str(error).split(". ", 1)[0]
        torch.cuda.empty_cache()  # outside the handler, whose traceback keeps the tensors alive
        if len(batch) == 1:
            return [Failed("OutOfMemory", f"one picture does not fit into memory: {message}")]
        self._largest_batch = len(batch) // 2
        return []

    def _answer_batch(self, batch: Sequence[Shown]) -> list[Outcome]:
        started = time.monotonic()
        if self._reader is None:
            raise UserError("llava answers only after load()")
        inputs = self._reader.encode([item.prompt for item, _ in batch], [picture for _, picture in batch])
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
            if isinstance(outcome, Answer) and probabilities is not None:
                outcome = replace(outcome, emotion_probs=probabilities[row])
            outcomes.append(outcome)
        return outcomes

    def _label_probabilities(
        self, inputs: Any, generated: Generated, labels: Sequence[str]
    ) -> list[dict[str, float]] | None:
        """Per row the share of each label in the probability of all labels; None where they are not asked for."""
        if not self.probabilities or self._reader is None:
            return None
        prompt = inputs["input_ids"]
        tokens = self._reader.continuations(prompt.tolist(), labels)
        continuations = [same_for_all(ids, prompt) for ids in tokens]
        scores = continuation_log_probs(self._model, inputs, generated.cache, continuations)  # (B, labels)
        return [dict(zip(labels, row, strict=True)) for row in scores.softmax(dim=1).tolist()]
