"""Checkpoints that would answer without looking, or whose labels cannot be scored, are refused before the first item."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from loading_hf import loaded, turned_into
from safetensors.torch import load_file, save_file
from transformers import LlavaNextForConditionalGeneration as LlavaNext

from harness.adapters import hf_vlm
from harness.adapters.hf_checkpoint import load_processor
from harness.types import UserError


def test_a_prompt_without_a_place_for_the_picture_is_refused(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    blind = shutil.copytree(checkpoints["llava-next"], tmp_path / "blind")
    template = (blind / "chat_template.jinja").read_text()
    (blind / "chat_template.jinja").write_text(template.replace("<image>", ""))
    with pytest.raises(UserError, match=r"0 <image> tokens|no place for the picture"):
        loaded(blind)


class Dropping:
    """The processor of a text-only checkpoint: takes the pictures and leaves them out."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    def __getattr__(self, name: str) -> Any:
        return getattr(self.processor, name)

    def __call__(self, images: Any, text: list[str], **settings: Any) -> Any:
        return self.processor(text=[prompt.replace("<image>", "") for prompt in text], **settings)


def test_a_processor_that_drops_the_picture_is_refused(
    checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hf_vlm, "load_processor", lambda settings: Dropping(load_processor(settings)))
    with pytest.raises(UserError, match="no place for the picture"):
        loaded(checkpoints["llava-next"])


def test_a_model_that_ignores_its_pictures_is_refused(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    blind = shutil.copytree(checkpoints["llava-taught"], tmp_path / "blind")
    weights = load_file(blind / "model.safetensors")
    projector = {name: torch.zeros_like(w) for name, w in weights.items() if "multi_modal_projector" in name}
    assert projector
    save_file(weights | projector, blind / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match="does not look at pictures"):
        loaded(blind)


class Shifted(LlavaNext):
    """Counts positions in its own way, which only its generation knows."""

    def prepare_inputs_for_generation(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        pixel_values: Any = None,
        image_sizes: Any = None,
        **known: Any,
    ) -> Any:
        if pixel_values is None and known.get("next_sequence_length") is None:  # not called by generate
            known["position_ids"] = known["position_ids"] + 7
        pictures = {"pixel_values": pixel_values, "image_sizes": image_sizes}
        return super().prepare_inputs_for_generation(input_ids, attention_mask=attention_mask, **pictures, **known)


def test_label_scores_that_disagree_with_generation_are_refused(
    checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hf_vlm, "load_model", lambda settings: turned_into(Shifted, settings))
    with pytest.raises(UserError, match=r"off by .*probabilities=false"):
        loaded(checkpoints["llava-next"])
    assert loaded(checkpoints["llava-next"], probabilities=False).parameters() == 83_200
