"""Fine-tuning a tiny LLaVA on sixteen embedded paintings: it learns them by heart, and only by looking."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from PIL import Image
from safetensors.torch import load_file
from sixteen import EVERY_LAYER, PAINTINGS, QUICK, asked, loaded, write_card

from harness.adapters.hf import HFVisionLanguage
from harness.adapters.hf_training import IGNORED, Collator, Pair, Recipe, load_recipe
from harness.cli import main
from harness.types import UserError

pytestmark = pytest.mark.slow

pytest.importorskip("peft", reason="needs the extra [lora]")
pytest.importorskip("accelerate", reason="needs the extra [lora]")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build("llava-taught", tmp_path_factory.mktemp("base") / "llava")


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_card(tmp_path_factory.mktemp("paintings"))


Train = Callable[..., int]


@pytest.fixture(scope="module")
def train(card: Path, checkpoint: Path) -> Train:
    def run(out: Path, *settings: str) -> int:
        named = [f"checkpoint={checkpoint}", f"target_modules={EVERY_LAYER}", *QUICK]
        return main(["train", "llava", "--task", str(card), "--out", str(out), "--device", "cpu", *named, *settings])

    return run


@pytest.fixture(scope="module")
def learned(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("learned") / "lora"
    assert train(out, "max_steps=260", "schedule=linear", "save_every=1000") == 0
    return out


def test_sixteen_paintings_are_learned_by_heart_and_only_by_looking(learned: Path, card: Path, tmp_path: Path) -> None:
    adapter = loaded(learned)
    answers, said = asked(adapter, card)
    exact = sum(a == s for a, s in zip(answers, said, strict=True))
    Image.new("RGB", (56, 56), (127, 127, 127)).save(tmp_path / "blank.png")
    blank, _ = asked(adapter, card, tmp_path / "blank.png")
    guessed = sum(a == s for a, s in zip(blank, said, strict=True))
    print(f"exact: {exact} of {PAINTINGS}, with blank pictures {guessed}")
    assert exact >= 14
    assert guessed <= 2


def test_merged_and_unmerged_weights_answer_alike_and_are_told_apart(learned: Path, card: Path) -> None:
    merged, apart = loaded(learned), loaded(learned, merge=False)
    assert asked(merged, card)[0] == asked(apart, card)[0]
    assert merged.fingerprint() != apart.fingerprint()
    assert merged.fingerprint() != HFVisionLanguage(merged.settings.checkpoint).fingerprint()
    recorded = json.loads((learned / "trained_on.json").read_text())
    assert (recorded["task"], len(recorded["pictures"])) == ("sixteen", PAINTINGS)


def test_an_interrupted_training_ends_with_the_same_weights(train: Train, card: Path, tmp_path: Path) -> None:
    settings = ("max_steps=8", "save_every=3", "dropout=0.1", "schedule=linear")
    assert train(tmp_path / "whole", *settings) == 0
    script = (
        "import sys, os; from transformers import TrainerCallback; from transformers.trainer_callback import "
        "DefaultFlowCallback as D; from harness.cli import main\n"
        "before = D.on_step_end\n"
        "def on_step_end(self, args, state, control, **more):\n"
        "    if state.global_step == 5: os.kill(os.getpid(), 9)\n"
        "    return before(self, args, state, control, **more)\n"
        "D.on_step_end = on_step_end\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    checkpoint = json.loads((tmp_path / "whole" / "recipe.json").read_text())["checkpoint"]
    words = ["train", "llava", "--task", str(card), "--out", str(tmp_path / "cut"), "--device", "cpu"]
    words += [f"checkpoint={checkpoint}", f"target_modules={EVERY_LAYER}", *QUICK, *settings]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    killed = subprocess.run([sys.executable, "-c", script, *words], env=environment, capture_output=True, timeout=200)
    assert killed.returncode == -9, killed.stderr[-1000:]
    assert not (tmp_path / "cut" / "adapter_model.safetensors").exists()
    assert train(tmp_path / "cut", *settings) == 0
    whole, cut = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("whole", "cut"))
    assert whole.keys() == cut.keys()
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    written = (tmp_path / "cut" / "adapter_model.safetensors").stat().st_mtime_ns
    assert train(tmp_path / "cut", *settings) == 0  # repeated: there is nothing left to do
    assert train(tmp_path / "cut", *settings, "rank=8") == 2
    assert (tmp_path / "cut" / "adapter_model.safetensors").stat().st_mtime_ns == written


def test_a_training_goes_on_with_the_same_pictures_and_weights_only(
    train: Train, card: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path / "out", "max_steps=1") == 0
    examples = card.parent / "examples.jsonl"
    said = examples.read_text()
    examples.write_text(said.replace('"explanation": "', '"explanation": "perhaps ', 1))
    try:
        assert train(tmp_path / "out", "max_steps=1") == 2
    finally:
        examples.write_text(said)
    assert "holds a training with other training data; repeat" in capsys.readouterr().err
    other = tmp_path / checkpoint.name
    shutil.copytree(checkpoint, other)
    (other / "added.txt").write_text("another tokenizer file")
    assert train(tmp_path / "out", "max_steps=1", f"checkpoint={other}") == 2
    assert "holds a training with other checkpoint, weights; repeat" in capsys.readouterr().err


def test_the_loss_is_on_the_answer_only(checkpoint: Path, card: Path) -> None:
    from transformers import AutoProcessor

    collator = Collator(AutoProcessor.from_pretrained(checkpoint))
    pictures = sorted(card.parent.glob("*.png"))[:2]
    pairs = [
        Pair(pictures[0], "Why?", "awe because it is vast"),
        Pair(pictures[1], "Why, though?", "fear because of it"),
    ]
    batch = collator(pairs)
    for row, pair in enumerate(pairs):
        counted = batch["labels"][row] != IGNORED
        text = collator.reader.tokenizer.decode(batch["input_ids"][row][counted])
        assert text == f" {pair.answer}</s>"
        assert torch.equal(batch["labels"][row][counted], batch["input_ids"][row][counted])
        assert bool(batch["attention_mask"][row][counted].all())


def test_recipes() -> None:
    full = load_recipe({"config": "7b_24gb", "epochs": 2})
    assert (full.quantization, full.batch_size * full.gradient_accumulation, full.epochs) == ("4bit", 16, 2.0)
    assert load_recipe({"learning_rate": "2e-4"}) == Recipe(learning_rate=2e-4)
    mistakes: list[dict[str, Any]] = [
        {"ranks": 4}, {"rank": 0}, {"rank": 1.5}, {"rank": True}, {"learning_rate": 0}, {"config": "no_such"},
        {"gradient_checkpointing": "maybe"}, {"dtype": "fp8", "rank": None},
    ]  # fmt: skip
    for settings in mistakes:
        with pytest.raises(UserError, match=r"llava|no_such"):
            load_recipe(settings)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"schedule": "cosin"}, "schedule: unknown value .cosin.; did you mean cosine"),
        ({"dropout": 1.0}, "dropout: expected less than 1, got 1.0"),
        ({"warmup_ratio": 100}, "warmup_ratio: expected less than 1, got 100"),
        ({"weight_decay": -0.1}, "weight_decay: expected at least 0, got -0.1"),
        ({"max_steps": 0}, "max_steps: expected at least 1, got 0"),
        ({"alpha": 0}, "alpha: expected more than 0, got 0"),
        ({"learning_rate": float("nan")}, "learning_rate: expected"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_is_loaded(setting: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        load_recipe(setting)


def test_what_cannot_be_trained_or_loaded(train: Train, tmp_path: Path) -> None:
    paligemma = tiny_models.build("paligemma", tmp_path / "paligemma")
    assert train(tmp_path / "a", f"checkpoint={paligemma}") == 2
    assert train(tmp_path / "b", "target_modules=no_such_layer", "max_steps=1") == 2
    assert train(tmp_path / "c", "target_modules=(", "max_steps=1") == 2
    with pytest.raises(UserError, match="harness train hf"):
        HFVisionLanguage(lora=str(tmp_path))
