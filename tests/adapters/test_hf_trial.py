"""Checkpoints that would answer without looking, or whose labels cannot be scored, are refused before the first item."""

from __future__ import annotations

import dataclasses
import functools
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from loading_hf import loaded, turned_into
from safetensors.torch import load_file, save_file
from transformers import LlavaForConditionalGeneration as Llava
from transformers import LlavaNextForConditionalGeneration as LlavaNext

from harness.adapters import hf
from harness.adapters.hf_model import generate, load_processor
from harness.adapters.hf_trial import check_image_is_seen
from harness.types import Item, UserError


def test_a_prompt_without_a_place_for_the_picture_is_refused(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    blind = shutil.copytree(checkpoints["llava-next"], tmp_path / "blind")
    template = (blind / "chat_template.jinja").read_text()
    (blind / "chat_template.jinja").write_text(template.replace("<image>", ""))
    with pytest.raises(UserError, match=r"0 <image> tokens|no place for the image|cannot take one image"):
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
    monkeypatch.setattr(hf, "load_processor", lambda settings: Dropping(load_processor(settings)))
    with pytest.raises(UserError, match="no place for the image"):
        loaded(checkpoints["llava-next"])


@pytest.mark.slow
def test_a_model_that_ignores_its_pictures_is_refused(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    blind = shutil.copytree(checkpoints["llava-taught"], tmp_path / "blind")
    weights = load_file(blind / "model.safetensors")
    projector = {name: torch.zeros_like(w) for name, w in weights.items() if "multi_modal_projector" in name}
    assert projector
    save_file(weights | projector, blind / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match="does not look at it"):
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


def test_a_way_of_scoring_that_disagrees_with_generation_is_not_used(
    checkpoints: dict[str, Path], paintings: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = loaded(checkpoints["llava-next"], max_new_tokens=6)
    assert plain.runtime_info()["labels_scored_by"] == "cut cache"
    monkeypatch.setattr(hf, "load_model", lambda settings: turned_into(Shifted, settings))
    shifted = loaded(checkpoints["llava-next"], max_new_tokens=6)
    assert shifted.runtime_info()["labels_scored_by"] == "forced generation"
    inputs = plain._reader.encode([one.prompt for one in paintings], [one.open() for one in paintings])  # type: ignore[union-attr]
    generated = generate(plain._model, inputs, 2)
    labels = paintings[0].labels
    first, second = (adapter._label_probabilities(inputs, generated, labels) for adapter in (plain, shifted))
    for a, b in zip(first or (), second or (), strict=True):
        assert a == pytest.approx(b, abs=1e-5)


def test_a_text_is_kept_whose_labels_cannot_be_scored(
    checkpoints: dict[str, Path], paintings: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = loaded(checkpoints["llava-next"], max_new_tokens=6)
    expected = [outcome.raw for outcome in adapter.predict(paintings[:3])]

    def full(*given: Any) -> Any:
        raise RuntimeError("the sliding window size was already reached")

    for name in adapter._scorers[:-1]:
        monkeypatch.setitem(hf.SCORERS, name, full)
    assert [outcome.raw for outcome in adapter.predict(paintings[:3])] == expected
    assert adapter.runtime_info()["texts_without_label_scores"] == 0
    monkeypatch.setitem(hf.SCORERS, adapter._scorers[-1], full)
    assert [outcome.raw for outcome in adapter.predict(paintings[:3])] == expected
    assert adapter.runtime_info()["texts_without_label_scores"] == 3


def test_the_runs_longest_prompt_is_tried_before_anything_is_answered(
    checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(
        hf, "check_image_is_seen", lambda *given: (asked.append(given[2]), check_image_is_seen(*given))[1]
    )
    adapter = hf.HFVisionLanguage(checkpoint=str(checkpoints["llava-next"]), device="cpu")
    adapter.longest_prompt = "Which emotion? " * 20
    adapter.load()
    assert asked[-1] == adapter.longest_prompt


class Neighbourly(LlavaNext):
    """Says something else where others are asked at once."""

    @functools.wraps(LlavaNext.forward)  # generation looks at its parameters
    def forward(self, *given: Any, **more: Any) -> Any:
        output = super().forward(*given, **more)
        if output.logits.shape[0] > 1:
            output.logits[..., 300:] += 9
        return output


class ShyOfPadding(Llava):
    """Says something else where a row is padded."""

    @functools.wraps(Llava.forward)
    def forward(self, *given: Any, attention_mask: Any = None, **more: Any) -> Any:
        output = super().forward(*given, attention_mask=attention_mask, **more)
        if attention_mask is not None and not attention_mask.all():
            output.logits[..., 300:] += 9
        return output


@pytest.mark.parametrize(
    ("kind", "checkpoint", "limit"),
    [(Neighbourly, "llava-next", 1), pytest.param(ShyOfPadding, "llava-taught", None, marks=pytest.mark.slow)],
)
def test_images_that_would_change_each_others_answers_are_asked_about_apart(
    kind: type,
    checkpoint: str,
    limit: int | None,
    checkpoints: dict[str, Path],
    paintings: list[Item],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    items = [*paintings[:2], dataclasses.replace(paintings[2], prompt=f"Well? {paintings[2].prompt}"), *paintings[3:5]]
    monkeypatch.setattr(hf, "load_model", lambda settings: turned_into(kind, settings))
    adapter = loaded(checkpoints[checkpoint], max_new_tokens=6)
    together = [outcome.raw for outcome in adapter.predict(items)]
    assert together == [outcome.raw for item in items for outcome in adapter.predict([item])]
    assert adapter.runtime_info()["batch_limited_to"] == limit
