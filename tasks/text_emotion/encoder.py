"""Any Hugging Face text encoder, fine-tuned with a classification head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from harness.tasks.text_emotion.base import FloatArray, TextClassifier, accuracy
from harness.types import Annotation, UserError
from harness.yaml_file import Settings

_BATCH = 256


class EncoderSettings(Settings):
    """Settings of `kind=encoder`; `encoder` is a folder or a hub name."""

    key_description: ClassVar[str] = "setting"
    encoder: str = ""
    learning_rate: float = Field(default=5e-5, gt=0)
    epochs: int = Field(default=3, ge=1)
    batch_size: int = Field(default=32, ge=1)
    longest: int = Field(default=64, ge=1)
    weight_decay: float = Field(default=0.01, ge=0)


class EncoderClassifier(TextClassifier):
    """A pretrained encoder with `AutoModelForSequenceClassification`'s head, all weights trained.

    AdamW with linear warm-up over a tenth of the steps and linear decay; the epoch that is best on validation.
    """

    kind = "encoder"
    settings_model: ClassVar[type[Settings]] = EncoderSettings

    def __init__(self, labels: Sequence[str], source: Path | str, longest: int) -> None:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        self.labels, self._longest = tuple(labels), longest
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
            self._network: Any = AutoModelForSequenceClassification.from_pretrained(
                source, num_labels=len(labels), dtype=torch.float32, trust_remote_code=False
            )
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"text-emotion: encoder {str(source)!r} cannot be loaded ({reason})") from error

    @classmethod
    def fit(
        cls,
        labels: Sequence[str],
        train: Sequence[Annotation],
        val: Sequence[Annotation],
        settings: Mapping[str, Any],
        seed: int,
        device: str | None,
    ) -> Self:
        """Fine-tune; without a validation split the last epoch counts.

        Raises:
            UserError: no encoder is named, or it cannot be loaded.
        """
        if not settings["encoder"]:
            raise UserError("text-emotion kind=encoder needs encoder=PATH|HUB_ID")
        torch.manual_seed(seed)
        made = cls(labels, settings["encoder"], settings["longest"])
        made._network.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        optimiser = torch.optim.AdamW(
            made._network.parameters(), settings["learning_rate"], weight_decay=settings["weight_decay"]
        )
        steps = settings["epochs"] * -(-len(train) // settings["batch_size"])
        warm = max(1, steps // 10)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda s: (s + 1) / warm if s < warm else max(0.0, (steps - s) / max(1, steps - warm))
        )
        best, kept = -1.0, made._weights()
        for _ in range(settings["epochs"]):
            made._network.train()
            for rows in torch.split(torch.randperm(len(train)), settings["batch_size"]):
                part = [train[i] for i in rows.tolist()]
                targets = torch.tensor([made.labels.index(u.emotion) for u in part], device=made._network.device)
                loss = nn.functional.cross_entropy(made._forward([u.explanation for u in part]), targets)
                optimiser.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(made._network.parameters(), 1.0)
                optimiser.step()
                schedule.step()
            measured = accuracy(made, val)
            right = best if measured is None else measured
            if right >= best:
                best, kept = right, made._weights()
        made._network.load_state_dict(kept)
        made._network.to("cpu")
        return made

    def _weights(self) -> dict[str, Tensor]:
        return {name: value.detach().cpu().clone() for name, value in self._network.state_dict().items()}

    def _forward(self, texts: Sequence[str]) -> Tensor:
        inputs = self._tokenizer(
            list(texts), padding=True, truncation=True, max_length=self._longest, return_tensors="pt"
        )
        logits: Tensor = self._network(**inputs.to(self._network.device)).logits
        return logits

    @torch.no_grad()
    def probabilities(self, texts: Sequence[str]) -> FloatArray:
        """Probabilities (n, L)."""
        if not texts:
            return np.zeros((0, len(self.labels)))
        self._network.eval()
        parts = [self._forward(texts[start : start + _BATCH]).cpu() for start in range(0, len(texts), _BATCH)]
        found: FloatArray = torch.cat(parts).double().softmax(dim=1).numpy()
        return found

    def save(self, folder: Path) -> None:
        """Write model and tokenizer in Hugging Face's layout."""
        self._network.save_pretrained(folder)
        self._tokenizer.save_pretrained(folder)

    @classmethod
    def load(cls, folder: Path, labels: Sequence[str], settings: Mapping[str, Any]) -> Self:
        """Read what `save` wrote."""
        return cls(labels, folder, settings["longest"])
