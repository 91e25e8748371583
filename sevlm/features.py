"""Frozen image features on disk: the encoder sees each picture once, however long the training.

Features lie in `FOLDER/<encoder fingerprint>/*.safetensors`, some hundred pictures per file, as float16, and are memory
mapped. Pictures are known by the hash of their bytes, so renaming a file or sharing the cache between trainings costs
nothing, and another encoder or preprocessing never gets them. Files appear whole (written aside, then renamed): an
interrupted run loses at most the file it was writing.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from sevlm.errors import SEVLMError
from sevlm.image_encoder import ImageEncoder
from sevlm.preprocessing import open_picture

PICTURES_PER_FILE = 256
_BYTES = 2  # float16


class FeatureStore:
    """Grids of known pictures, read from memory-mapped files.

    Attributes:
        unreadable: picture path -> why it has no features.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.unreadable: dict[Path, str] = {}
        self._places: dict[str, tuple[Path, int]] = {}
        self._tensors: dict[Path, Tensor] = {}
        self._keys: dict[Path, str] = {}
        for file in sorted(folder.glob("*.safetensors")):
            self._index(file)

    def __contains__(self, picture: object) -> bool:
        return isinstance(picture, Path) and self._keys.get(picture) in self._places

    def digest(self, picture: Path) -> str:
        """SHA-256 of the bytes of a picture that the store holds."""
        return self._keys[picture]

    def grid(self, pictures: Sequence[Path]) -> Tensor:
        """B pictures -> (B, P, E) float16.

        Raises:
            SEVLMError: a picture whose features were never computed.
        """
        return torch.stack([self._one(picture) for picture in pictures])

    def _one(self, picture: Path) -> Tensor:
        place = self._places.get(self._keys.get(picture, ""))
        if place is None:
            raise SEVLMError(f"no features of {picture}: {self.unreadable.get(picture, 'it was never encoded')}")
        file, row = place
        if file not in self._tensors:
            with safe_open(file, framework="pt") as content:
                self._tensors[file] = content.get_tensor("grid")  # stays on disk until a row is touched
        return self._tensors[file][row]

    def _index(self, file: Path) -> None:
        try:
            with safe_open(file, framework="pt") as content:
                keys = json.loads(content.metadata()["pictures"])
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise SEVLMError(f"feature file {file} is damaged ({error}); delete it and run again") from error
        for row, key in enumerate(keys):
            self._places[key] = (file, row)

    def _missing(self, pictures: Sequence[Path], progress: bool) -> dict[str, Path]:
        """Hash -> one picture, for all contents that have no features yet; unreadable files are noted."""
        missing: dict[str, Path] = {}
        for picture in tqdm(dict.fromkeys(pictures), desc="pictures read", unit="picture", disable=not progress):
            try:
                if not picture.is_file():  # opening a pipe would wait for ever
                    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
                with picture.open("rb") as file:
                    key = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                self.unreadable[picture] = error.strerror or type(error).__name__
                continue
            self._keys[picture] = key
            if key not in self._places:
                missing.setdefault(key, picture)
        return missing

    def _add(self, features: Mapping[str, Tensor]) -> None:
        keys = sorted(features)
        name = hashlib.sha256("".join(keys).encode()).hexdigest()[:24]
        file = self.folder / f"{name}.safetensors"
        aside = file.with_suffix(f".{os.getpid()}.part")
        grid = torch.stack([features[key] for key in keys])
        save_file({"grid": grid}, aside, metadata={"pictures": json.dumps(keys)})
        os.replace(aside, file)
        self._index(file)


@dataclass(frozen=True)
class FeatureCache:
    """Where features are kept and how large they may grow.

    Attributes:
        folder: shared by all trainings; one folder per encoder is made inside.
        limit_gb: refuse to add features beyond this size (10^9 bytes).
        batch_size: pictures per pass of the encoder.
        progress: show a progress bar.
    """

    folder: Path
    limit_gb: float = 40.0
    batch_size: int = 16
    progress: bool = True

    def build(self, encoder: ImageEncoder, pictures: Sequence[Path], device: str = "cpu") -> FeatureStore:
        """Encode the pictures that the cache does not know yet, and open it.

        Pictures that cannot be read are listed in `unreadable`; the rest goes on.

        Raises:
            SEVLMError: the features would exceed the limit or the free disk space, or are not finite.
        """
        folder = self.folder / encoder.fingerprint()[:16]
        folder.mkdir(parents=True, exist_ok=True)
        store = FeatureStore(folder)
        missing = store._missing(pictures, self.progress)
        if missing:
            self._check_size(len(missing), encoder, folder)
            self._encode(store, encoder.to(device), missing)
            encoder.to("cpu")
        return store

    def _check_size(self, count: int, encoder: ImageEncoder, folder: Path) -> None:
        needed = count * encoder.tokens * encoder.width * _BYTES / 1e9
        present = sum(file.stat().st_size for file in folder.glob("*.safetensors")) / 1e9
        free = shutil.disk_usage(folder).free / 1e9
        size = f"features of {count} pictures need {needed:.1f} GB in {folder}"
        if needed + present > self.limit_gb:
            raise SEVLMError(f"{size}; feature_cache_gb allows {self.limit_gb:g} GB: raise it or use fewer pictures")
        if needed > free:
            raise SEVLMError(f"{size}; {free:.1f} GB are free: set feature_cache to a folder on a larger disk")

    def _encode(self, store: FeatureStore, encoder: ImageEncoder, missing: Mapping[str, Path]) -> None:
        gigabytes = len(missing) * encoder.tokens * encoder.width * _BYTES / 1e9
        label = f"image features ({gigabytes:.2f} GB)"
        waiting: dict[str, Tensor] = {}
        with tqdm(total=len(missing), desc=label, unit="picture", disable=not self.progress) as bar:
            for batch in _batches(list(missing.items()), self.batch_size):
                waiting |= _features(store, encoder, batch)
                bar.update(len(batch))
                if len(waiting) >= PICTURES_PER_FILE:
                    store._add(waiting)
                    waiting = {}
        if waiting:
            store._add(waiting)


def _batches(pairs: list[tuple[str, Path]], size: int) -> Iterator[list[tuple[str, Path]]]:
    for start in range(0, len(pairs), size):
        yield pairs[start : start + size]


def _features(store: FeatureStore, encoder: ImageEncoder, batch: list[tuple[str, Path]]) -> dict[str, Tensor]:
    """Hash -> (P, E) float16 for the pictures of the batch that can be decoded."""
    images: list[Image.Image] = []
    keys: list[str] = []
    for key, picture in batch:
        try:
            images.append(open_picture(picture))
            keys.append(key)
        except SEVLMError as error:
            store.unreadable[picture] = str(error)
    if not images:
        return {}
    grid = encoder.encode(images).to("cpu", torch.float16)
    if not bool(torch.isfinite(grid).all()):
        raise SEVLMError("the image encoder gave values beyond float16; its weights or its preprocessing are wrong")
    return dict(zip(keys, grid, strict=True))
