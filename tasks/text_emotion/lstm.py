"""ArtEmis' LSTM classifier, for numbers that compare with the published ones.

Recipe (ArtEmis `notebooks/deep_nets/emotions/utterance_to_emotion_classifier.ipynb`): word vectors of 256, LSTM of 256,
maximum over time, dropout .25, one linear layer; Adam at 5e-4, halved after 10, 20 and 30 epochs, batches of 1,024, 50
epochs, the epoch that is best on the validation split. Published: 63.35 % with 339k training utterances and GloVe word
vectors; here word vectors start at random.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor, nn

from harness.tasks.text_emotion.base import FloatArray, TextClassifier
from harness.types import Annotation
from harness.yaml_file import Settings

SPECIALS = ("<pad>", "<sos>", "<eos>", "<unk>")
PAD, SOS, EOS, UNK = range(4)
_BATCH = 1024

_TOKEN = re.compile(r"\w+(?:'\w+)?|[^\w\s]")


def tokenise(text: str) -> list[str]:
    """Lower-case words (with an inner apostrophe) and single punctuation marks."""
    return _TOKEN.findall(text.lower())


class Vocabulary:
    """Word -> number: four specials, then the words in sorted order.

    Args:
        words: distinct words, without the specials.

    Source: ArtEmis `artemis/utils/vocabulary.py`, SEVLM `basics.Vocabulary`.
    """

    def __init__(self, words: Iterable[str]) -> None:
        self.words = (*SPECIALS, *sorted(words))
        self.ids: Mapping[str, int] = {word: number for number, word in enumerate(self.words)}

    @classmethod
    def of(cls, texts: Iterable[Sequence[str]], min_count: int = 1) -> Vocabulary:
        """The words that occur at least `min_count` times in tokenised texts."""
        counts = Counter(word for text in texts for word in text)
        return cls(word for word, count in counts.items() if count >= min_count)

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, texts: Sequence[Sequence[str]], longest: int) -> npt.NDArray[np.int64]:
        """Numbers (n, longest + 2): start, at most `longest` words, end, then padding; unknown words are `<unk>`."""
        table = np.full((len(texts), longest + 2), PAD, dtype=np.int64)
        for row, text in zip(table, texts, strict=True):
            ids = [SOS, *(self.ids.get(word, UNK) for word in text[:longest]), EOS]
            row[: len(ids)] = ids
        return table


class LSTMSettings(Settings):
    """Settings of `kind=lstm`; the defaults are ArtEmis's."""

    key_description: ClassVar[str] = "setting"
    width: int = Field(default=256, ge=1)
    dropout: float = Field(default=0.25, ge=0, lt=1)
    learning_rate: float = Field(default=5e-4, gt=0)
    epochs: int = Field(default=50, ge=1)
    batch_size: int = Field(default=1024, ge=1)
    min_count: int = Field(default=5, ge=1)
    longest: int = Field(default=51, ge=1)


class _Network(nn.Module):
    """Token numbers (B, T) to logits (B, L)."""

    def __init__(self, words: int, labels: int, width: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width, padding_idx=PAD)
        self.dropout = nn.Dropout(dropout)
        self.lstm = nn.LSTM(width, width, batch_first=True)
        self.output = nn.Linear(width, labels)

    def forward(self, tokens: Tensor) -> Tensor:
        states, _ = self.lstm(self.dropout(self.embedding(tokens)))  # (B, T, H)
        states = states.masked_fill((tokens == PAD)[..., None], -torch.inf)
        logits: Tensor = self.output(self.dropout(states.amax(dim=1)))
        return logits


class LSTMClassifier(TextClassifier):
    """Word vectors, LSTM, maximum over time.

    Args:
        labels: the emotions.
        vocabulary: known words.
        settings: of `LSTMSettings`.
    """

    kind = "lstm"
    settings_model: ClassVar[type[Settings]] = LSTMSettings

    def __init__(self, labels: Sequence[str], vocabulary: Vocabulary, settings: Mapping[str, Any]) -> None:
        self.labels = tuple(labels)
        self._vocabulary, self._longest = vocabulary, int(settings["longest"])
        self._network = _Network(len(vocabulary), len(labels), settings["width"], settings["dropout"])

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
        """Train; without a validation split the last epoch counts."""
        torch.manual_seed(seed)
        vocabulary = Vocabulary.of((tokenise(u.explanation) for u in train), settings["min_count"])
        made = cls(labels, vocabulary, settings)
        place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        made._network.to(place)
        inputs, targets = made._encode([u.explanation for u in train]), _targets(labels, train)
        seen = made._encode([u.explanation for u in val])
        optimiser = torch.optim.Adam(made._network.parameters(), lr=settings["learning_rate"])
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [10, 20, 30], gamma=0.5)
        best, kept = -1.0, made._weights()
        for _ in range(settings["epochs"]):
            made._network.train()
            for rows in torch.split(torch.randperm(len(inputs)), settings["batch_size"]):
                logits = made._network(_trimmed(inputs[rows]).to(place))
                loss = nn.functional.cross_entropy(logits, targets[rows].to(place))
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
            schedule.step()
            right = float((made._logits(seen).argmax(1) == _targets(labels, val)).float().mean()) if val else best
            if right >= best:
                best, kept = right, made._weights()
        made._network.load_state_dict(kept)
        made._network.to("cpu")
        return made

    def _weights(self) -> dict[str, Tensor]:
        return {name: value.detach().cpu().clone() for name, value in self._network.state_dict().items()}

    def _encode(self, texts: Sequence[str]) -> Tensor:
        return torch.from_numpy(self._vocabulary.encode([tokenise(text) for text in texts], self._longest))

    @torch.no_grad()
    def _logits(self, inputs: Tensor) -> Tensor:
        self._network.eval()
        place = self._network.output.weight.device
        parts = [self._network(_trimmed(rows).to(place)).cpu() for rows in torch.split(inputs, _BATCH)]
        return torch.cat(parts)

    def probabilities(self, texts: Sequence[str]) -> FloatArray:
        """Probabilities (n, L)."""
        if not texts:
            return np.zeros((0, len(self.labels)))
        found: FloatArray = self._logits(self._encode(texts)).double().softmax(dim=1).numpy()
        return found

    def save(self, folder: Path) -> None:
        """Write the words as JSON and the weights as safetensors."""
        from safetensors.torch import save_file

        words = self._vocabulary.words[4:]
        (folder / "words.json").write_text(json.dumps(words, ensure_ascii=False), encoding="utf-8")
        save_file(self._weights(), folder / "weights.safetensors")

    @classmethod
    def load(cls, folder: Path, labels: Sequence[str], settings: Mapping[str, Any]) -> Self:
        """Read what `save` wrote."""
        from safetensors.torch import load_file

        words = json.loads((folder / "words.json").read_text(encoding="utf-8"))
        made = cls(labels, Vocabulary(words), settings)
        made._network.load_state_dict(load_file(folder / "weights.safetensors"))
        return made


def _targets(labels: Sequence[str], utterances: Sequence[Annotation]) -> Tensor:
    return torch.tensor([labels.index(u.emotion) for u in utterances], dtype=torch.int64)


def _trimmed(tokens: Tensor) -> Tensor:
    """Without the columns that are padding in every row."""
    return tokens[:, : int((tokens != PAD).sum(dim=1).max())]
