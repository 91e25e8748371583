"""The baseline that looks but does not think: the answer people gave to the most similar training image."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import mean
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from harness.adapters.base import LocalAdapter
from harness.adapters.local import answer_by_scores, open_all
from harness.adapters.majority import commonest
from harness.types import Answer, Example, Failed, ImageError, Item, Outcome, Usage, UserError

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from sevlm.config import SEVLMConfig
    from sevlm.images import ImageEncoder

ENCODING_BATCH = 32
AVERAGED = 500
"""Training images that say how many words a statement shares with any."""


class Nearest(LocalAdapter):
    """Answers with the nearest training image's commonest label and its first explanation of that label.

    Nearness is the cosine of frozen features, averaged over the encoder's grid; `emotion_probs` are the shares of the
    neighbour's annotators, `ratings` the neighbour's. Equally near images: the first in training order; equally
    common labels: the first in sorted order. Training images that cannot be decoded are skipped and counted in
    `runtime_info()`.

    Args:
        encoder: `efficientnet-lite0`, `clip:HUB_ID_OR_PATH` or `vit:HUB_ID_OR_PATH` (see `sevlm.image_encoder`).
        device: torch device; by default CUDA if there is one.
    """

    name = "nearest"
    kind = "baseline"
    needs = frozenset({"train"})

    def __init__(self, encoder: str = "efficientnet-lite0", device: str | None = None) -> None:
        self.encoder = encoder
        self.device = device
        self._training: list[Example] = []
        self._features: Tensor | None = None  # (N, E) float32, unit length
        self._network: ImageEncoder | None = None
        self._skipped = 0

    def fingerprint(self) -> dict[str, Any]:
        """The rule and the encoder's name; the digest of the encoder's weights is in `runtime_info()`."""
        return {"rule": "cosine of mean-pooled frozen features", "encoder": self.encoder, "version": 1}

    def fit(self, examples: Sequence[Example]) -> None:
        """Keep the training examples that hold an annotation."""
        self._training = [example for example in examples if example.annotations]

    def load(self) -> None:
        """Load the encoder and encode the training images.

        Raises:
            UserError: the encoder could not be loaded, or no training image can be decoded.
        """
        self._network = load_encoder(self.name, self.encoder, self.device)
        known, self._features = encode_training(self.name, self._network, self._training)
        self._skipped = len(self._training) - len(known)
        self._training = known

    def parameters(self) -> int | None:
        """Parameters of the frozen encoder."""
        return None if self._network is None else sum(p.numel() for p in self._network.parameters())

    def runtime_info(self) -> dict[str, Any]:
        """Training images used and skipped, and the encoder's digest."""
        digest = self._network.fingerprint() if self._network is not None else None
        return {"training_pictures": len(self._training), "skipped": self._skipped, "encoder_sha256": digest}

    def close(self) -> None:
        """Free encoder and features."""
        self._network = self._features = None

    def predict(self, items: Sequence[Item]) -> list[Outcome]:
        """The neighbour's answer for each item; `Failed` for an image that cannot be decoded."""
        if self._network is None or self._features is None:
            raise UserError("nearest answers only after fit(training examples) and load()")
        images = open_all([item.image for item in items])
        readable = [image for image in images if not isinstance(image, ImageError)]
        nearest: Iterator[int] = iter(())
        if readable:
            similarity = pooled(self._network, readable) @ self._features.T  # (B, N)
            nearest = iter(similarity.argmax(dim=1).tolist())
        outcomes: list[Outcome] = []
        for item, image in zip(items, images, strict=True):
            if isinstance(image, ImageError):
                outcomes.append(Failed("ImageError", str(image)))
                continue
            neighbour = self._training[next(nearest)]
            if not item.statements:
                outcomes.append(answer_of(neighbour))
                continue
            # the statement that shares most words with what people said about the neighbour
            near = [shared_words(s.explanation, neighbour) for s in item.statements]
            if len(near) == 1:  # true if it shares more with the neighbour than with training images on average
                said = item.statements[0].explanation
                near[0] -= mean(shared_words(said, other) for other in self._training[:AVERAGED])
            outcomes.append(answer_by_scores(item, near, Usage()))
        return outcomes


def answer_of(neighbour: Example) -> Answer:
    """What people said about a training image, as one answer."""
    emotion = commonest(Counter(annotation.emotion for annotation in neighbour.annotations))
    explanation = next(a.explanation for a in neighbour.annotations if a.emotion == emotion)
    shares = {label: neighbour.share(label) for label in neighbour.emotion_histogram}
    ratings = dict(neighbour.ratings) or None
    return Answer(emotion, explanation, shares, raw=f"{emotion} because {explanation}", ratings=ratings)


def shared_words(text: str, example: Example) -> float:
    """Share of a text's words of four letters and more that people used about an image, 0..1."""
    said = {word for a in example.annotations for word in re.findall(r"\w{4,}", a.explanation.lower())}
    own = set(re.findall(r"\w{4,}", text.lower()))
    return len(own & said) / len(own) if own else 0.0


def pooled(network: ImageEncoder, images: Sequence[Image]) -> Tensor:
    """Images -> (B, E) float32 on the CPU, unit length: the mean over the grid."""
    import torch

    features = network.encode(images).float().mean(dim=1)  # (B, P, E) -> (B, E)
    return torch.nn.functional.normalize(features, dim=1).cpu()


def encode_training(baseline: str, network: ImageEncoder, examples: Sequence[Example]) -> tuple[list[Example], Tensor]:
    """The training examples whose image can be decoded, and their features (N, E), as `pooled` gives them.

    Raises:
        UserError: there is none.
    """
    import torch

    known: list[Example] = []
    rows: list[Tensor] = []
    starts = range(0, len(examples), ENCODING_BATCH)
    for start in tqdm(starts, desc=f"{baseline}: encoding training images", unit="batch", disable=len(starts) < 2):
        batch = examples[start : start + ENCODING_BATCH]
        images = open_all([example.image for example in batch])
        readable = [(e, image) for e, image in zip(batch, images, strict=True) if not isinstance(image, ImageError)]
        if readable:
            known += [example for example, _ in readable]
            rows.append(pooled(network, [image for _, image in readable]))
    if not rows:
        raise UserError(f"{baseline}: no training image can be decoded; check them with: harness data check TASK")
    return known, torch.cat(rows)


def load_encoder(baseline: str, name: str, device: str | None) -> ImageEncoder:
    """The frozen encoder on its device, for the baseline that asks.

    Raises:
        UserError: unknown name or device, missing package, or weights that are neither in a folder nor on the hub.
    """
    from sevlm.config import SEVLMError
    from sevlm.images import find_device, load_image_encoder

    try:
        return load_image_encoder(encoder_config(name)).to(find_device(device))
    except SEVLMError as error:
        raise UserError(f"{baseline}:encoder={name}: {error}") from error


def encoder_config(name: str) -> SEVLMConfig:
    """Width, image size and normalisation that an encoder was trained with.

    Raises:
        SEVLMError: the checkpoint's configuration cannot be read.
    """
    from sevlm.config import SEVLMConfig, SEVLMError

    kind, _, source = name.partition(":")
    if not source:  # EfficientNet-Lite: inputs (x - 127) / 128
        mean, std = (127 / 255,) * 3, (128 / 255,) * 3
        return SEVLMConfig(image_encoder=name, encoder_dim=1280, image_mean=mean, image_std=std)
    from transformers import AutoConfig, CLIPImageProcessorPil

    try:
        config: Any = AutoConfig.from_pretrained(source, trust_remote_code=False)
        processing, _ = CLIPImageProcessorPil.get_image_processor_dict(source)
    except (OSError, ValueError) as error:
        raise SEVLMError(f"{kind} {source!r} cannot be loaded: {str(error).splitlines()[0]}") from error
    vision = getattr(config, "vision_config", config)
    return SEVLMConfig(
        image_encoder=name,
        encoder_dim=vision.hidden_size,
        image_size=vision.image_size,
        image_mean=processing["image_mean"],
        image_std=processing["image_std"],
    )
