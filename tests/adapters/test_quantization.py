"""Weights of 4 and 8 bits: they answer like whole ones, and LoRA learns on top of them (QLoRA)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from adapter_samples import Picture, item
from safetensors.torch import load_file
from sixteen import EVERY_LAYER, PAINTINGS, QUICK, asked, loaded, write_card

from harness.adapters.hf import HFVisionLanguage
from harness.cli import main
from harness.types import Answer

pytest.importorskip("bitsandbytes", reason="needs the extra [quantization]")
pytest.importorskip("peft", reason="needs the extra [lora]")

pytestmark = pytest.mark.slow
NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, NO_GPU])]
LAYERS = {"4bit": "Linear4bit", "8bit": "Linear8bitLt"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build("llava-wide-taught", tmp_path_factory.mktemp("wide") / "llava")


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_card(tmp_path_factory.mktemp("paintings"))


@pytest.mark.parametrize("bits", LAYERS)
@pytest.mark.parametrize("device", DEVICES)
def test_few_bits_answer_what_whole_weights_answer(
    bits: str, device: str, checkpoint: Path, picture: Picture, capfd: pytest.CaptureFixture[str]
) -> None:
    items = [item("a", picture("black", "a.png")), item("b", picture("white", "b.png"))]
    footprints = {}
    for quantization in (None, bits):
        adapter = HFVisionLanguage(checkpoint=str(checkpoint), device=device, quantization=quantization)
        adapter.load()
        outcomes = adapter.predict(items)
        assert [outcome.raw for outcome in outcomes] == [tiny_models.DARK, tiny_models.BRIGHT]
        for outcome in outcomes:
            assert isinstance(outcome, Answer)
            assert sum((outcome.emotion_probs or {}).values()) == pytest.approx(1)
        footprints[quantization] = adapter._model.get_memory_footprint()
    kinds = {name: type(layer).__name__ for name, layer in adapter._model.named_modules()}
    few = {name for name, kind in kinds.items() if kind == LAYERS[bits]}
    assert len(few) == 2 * 7  # two layers of the language model: four projections of attention, three of its MLP
    assert all(".language_model." in name for name in few)
    assert footprints[bits] < footprints[None]
    assert capfd.readouterr().err.count("will be cast") == 0  # bitsandbytes would say it hundreds of times


@pytest.mark.parametrize("device", DEVICES)
def test_qlora_learns_and_its_weights_load_again(device: str, checkpoint: Path, card: Path, tmp_path: Path) -> None:
    out = tmp_path / "lora"
    words = ["train", "llava", "--task", str(card), "--out", str(out), "--device", device]
    words += [f"checkpoint={checkpoint}", f"target_modules={EVERY_LAYER}", *QUICK, "quantization=4bit"]
    assert main([*words, "max_steps=150", "schedule=linear", "gradient_checkpointing=true", "save_every=150"]) == 0
    weights = load_file(out / "adapter_model.safetensors")
    assert {name.split(".")[-2] for name in weights if "lm_head" not in name} == {"lora_A", "lora_B"}
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())
    exact = {}
    for name, settings in TRIED.items():
        answers, said = asked(loaded(out, device=device, **settings), card)
        exact[name] = sum(a == s for a, s in zip(answers, said, strict=True))
    print(f"exact of {PAINTINGS}: {exact}")
    assert exact["4bit"] >= 5  # of the sentences, each six words long, the base knows none
    assert exact["whole"] >= 3  # the rounding of 4 bits was trained with
    state = json.loads((out / "state" / "checkpoint-150" / "trainer_state.json").read_text())
    losses = [entry["loss"] for entry in state["log_history"] if "loss" in entry]
    assert losses[-1] < losses[0] / 10


TRIED: dict[str, dict[str, Any]] = {"4bit": {"quantization": "4bit"}, "whole": {}}


def test_lora_weights_stay_apart_from_quantised_ones(checkpoint: Path) -> None:
    """Adding them to 4-bit weights would round them away."""
    from harness.adapters.hf_model import CheckpointSettings

    assert CheckpointSettings(str(checkpoint)).merged
    assert not CheckpointSettings(str(checkpoint), quantization="4bit").merged
    assert not CheckpointSettings(str(checkpoint), merge=False).merged
