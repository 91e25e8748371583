"""The files of one golden fixture, loaded through the public importer."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from sevlm.config import SEVLMConfig
from sevlm.image_encoder import CLIPEncoder
from sevlm.lexicon import VADLexicon
from sevlm.losses import Negatives
from sevlm.model import SEVLM
from sevlm.official import OfficialCheckpoint, config_from_official, model_from_official, read_official
from sevlm.openai_clip import clip_vision_from_openai
from sevlm.preprocessing import Preprocessing


class Tensors(Mapping[str, Tensor]):
    """A safetensors file that remembers which tensors were asked for."""

    def __init__(self, path: Path) -> None:
        self._tensors = load_file(path)
        self.used: set[str] = set()

    def __getitem__(self, name: str) -> Tensor:
        value = self._tensors[name]
        self.used.add(name)
        return value

    def peek(self) -> Mapping[str, Tensor]:
        """All tensors, without counting as asked for."""
        return self._tensors

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


class Fixture:
    """A folder of the layout that the README of the golden fixtures describes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.read_files: set[str] = set()

    def json(self, name: str) -> Any:
        """Content of a JSON file."""
        return json.loads(self.path(name).read_text(encoding="utf-8"))

    def path(self, name: str) -> Path:
        """Path of a file, noted as read."""
        self.read_files.add(name)
        return self.folder / name

    @cached_property
    def settings(self) -> dict[str, Any]:
        """`generate.json`: every setting of the run that wrote the fixture."""
        values: dict[str, Any] = self.json("generate.json")
        return values

    @cached_property
    def inputs(self) -> Tensors:
        """`inputs.safetensors`."""
        return Tensors(self.path("inputs.safetensors"))

    @cached_property
    def outputs(self) -> Tensors:
        """`outputs.safetensors`."""
        return Tensors(self.path("outputs.safetensors"))

    @cached_property
    def checkpoint(self) -> OfficialCheckpoint:
        """The official checkpoint."""
        name = self.settings["checkpoint_name"]
        folder = f"nle_model_{name}"
        self.read_files |= {f"{folder}/config.json", f"{folder}/pytorch_model.bin", f"ckpt_stats_{name}.tar"}
        return read_official(self.folder, name)

    @cached_property
    def config(self) -> SEVLMConfig:
        """The faithful configuration."""
        settings = self.settings
        return config_from_official(self.checkpoint, settings["prompt_text"], settings["VAD_En_Heads"])

    @cached_property
    def model(self) -> SEVLM:
        """The imported model, in eval mode."""
        return self.new_model()

    def new_model(self, **overrides: Any) -> SEVLM:
        """A fresh copy of the imported model, with other configuration values where given."""
        return model_from_official(self.checkpoint, dataclasses.replace(self.config, **overrides))

    @cached_property
    def lexicon(self) -> VADLexicon:
        """`vad_lexicon.txt`."""
        return VADLexicon.load(self.path("vad_lexicon.txt"))

    @cached_property
    def clip(self) -> CLIPEncoder:
        """The tiny CLIP tower."""
        sizes = self.settings["clip"]
        state = load_file(self.path("clip_tower_encoder_state.safetensors"))
        preprocessing = Preprocessing(sizes["resolution"], (0.0,) * 3, (1.0,) * 3, "squash")
        return CLIPEncoder(clip_vision_from_openai(state, sizes["heads"]), preprocessing)

    def images(self, part: str) -> tuple[Tensor, Tensor | None]:
        """Patch features (B, P, E) and prefix vectors (B, prefix_dim) of `batch` or `decode`.

        Fixtures hold features, or pixels that go through their own CLIP tower.
        """
        pixels = [
            name for name, value in self.inputs.peek().items() if name.startswith(f"{part}/") and value.dim() == 4
        ]
        if pixels:
            with torch.no_grad():
                grid = self.clip(self.inputs[pixels[0]])
            return grid, self.clip.official_prefix(grid)
        prefix = f"{part}/image_prefix"
        needed = self.config.prefix_length > 0
        return self.inputs[f"{part}/image_grid"], self.inputs[prefix] if needed else None

    def negatives(self, semantic: Tensor) -> Negatives:
        """The recorded negatives of the batch; `semantic` is (B,) int64."""
        return Negatives(self.inputs["batch/neg_swap"], semantic)
