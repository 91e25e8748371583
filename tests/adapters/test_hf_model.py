"""Which weights are loaded, how they are held and named, and what is said when they cannot be had."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_models
from adapter_samples import Picture, item
from loading_hf import loaded
from safetensors.torch import load_file, save_file

from harness.adapters.hf import HFVisionLanguage
from harness.types import Item, UserError


@pytest.mark.slow
def test_half_precision_runs(checkpoints: dict[str, Path], paintings: list[Item]) -> None:
    adapter = loaded(checkpoints["llava-taught"], dtype="bf16", attention="eager")
    assert adapter.runtime_info()["dtype"] == "bfloat16"
    assert [o.raw for o in adapter.predict(paintings[:2])] == [tiny_models.DARK, tiny_models.BRIGHT]


def test_the_fingerprint_follows_the_files_not_the_place(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    original = HFVisionLanguage(checkpoint=str(checkpoints["paligemma"]))
    copy = shutil.copytree(checkpoints["paligemma"], tmp_path / "paligemma")
    assert HFVisionLanguage(checkpoint=str(copy)).fingerprint() == original.fingerprint()
    assert HFVisionLanguage(str(copy), max_new_tokens=5).fingerprint() != original.fingerprint()
    config = json.loads((copy / "generation_config.json").read_text())
    changed = shutil.copytree(copy, tmp_path / "changed" / "paligemma")
    (changed / "generation_config.json").write_text(json.dumps(config | {"repetition_penalty": 1.1}))
    assert HFVisionLanguage(checkpoint=str(changed)).fingerprint() != original.fingerprint()
    json.dumps(original.fingerprint())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dtype": "int8"}, "dtype=int8: expected one of fp32, bf16, fp16"),
        ({"quantization": "2bit"}, "expected one of 4bit, 8bit"),
        ({"device": "cpu", "device_map": "auto"}, "exclude each other"),
        ({"checkpoint": "/no/such/folder"}, "no such folder; give an existing one or a hub id"),
        ({"max_new_tokens": 0}, "expected at least 1"),
        ({"shots": -1}, "shots=-1: expected at least 0"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_once(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        HFVisionLanguage(**settings)


@pytest.mark.parametrize("kind", ["hub id", "empty folder", "text only", "bitsandbytes", "cut off"])
def test_checkpoints_that_cannot_be_loaded(
    kind: str, tmp_path: Path, checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = HFVisionLanguage(checkpoint=str(tmp_path))
    match kind:
        case "hub id":
            adapter = HFVisionLanguage(checkpoint="llava-hf/not-in-the-cache")
        case "text only":
            tiny_models.tokenizer().save_pretrained(tmp_path)
        case "cut off":
            folder = shutil.copytree(checkpoints["paligemma"], tmp_path / "cut")
            whole = (folder / "model.safetensors").read_bytes()
            (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
            adapter = HFVisionLanguage(checkpoint=str(folder))
        case "bitsandbytes":
            monkeypatch.setitem(sys.modules, "bitsandbytes", None)  # as if it were not installed
            adapter = HFVisionLanguage(checkpoint=str(checkpoints["paligemma"]), quantization="4bit")
    with pytest.raises(UserError) as raised:
        adapter.load()
    message = str(raised.value)
    assert "\n" not in message
    wanted = {
        "hub id": "not on this machine and could not be fetched",
        "bitsandbytes": "[quantization]",
        "text only": "checkpoint",
    }
    assert wanted.get(kind, "expected a folder with an image-text checkpoint") in message


def test_weights_that_are_missing_are_not_made_up(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoints["llava"], tmp_path / "torn")
    weights = load_file(folder / "model.safetensors")
    gone = next(name for name in weights if name.endswith("down_proj.weight"))
    save_file({n: w for n, w in weights.items() if n != gone}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lacks 1 of its weights \(.*down_proj\.weight"):
        HFVisionLanguage(checkpoint=str(folder)).load()


OWN_CODE = """
from transformers import LlavaConfig, LlavaForConditionalGeneration

class OwnConfig(LlavaConfig):
    model_type = "own"

class OwnModel(LlavaForConditionalGeneration):
    config_class = OwnConfig
"""


@pytest.mark.parametrize("kind", ["AutoModelForCausalLM", "AutoModelForImageTextToText"])
def test_code_of_its_own_is_run_only_if_that_was_typed(
    kind: str, checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = shutil.copytree(checkpoints["llava"], tmp_path / f"own{kind}")
    (folder / "own.py").write_text(OWN_CODE)
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "own"}
    weights = load_file(folder / "model.safetensors")  # transformers renames those of kinds that it knows
    weights["lm_head.weight"] = weights.pop("language_model.lm_head.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config["auto_map"] = {"AutoConfig": "own.OwnConfig", kind: "own.OwnModel"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"add --trust-remote-code$"):
        loaded(folder)
    adapter = loaded(folder, trust_remote_code=True)
    assert type(adapter._model).__name__ == "OwnModel"


@pytest.mark.slow
def test_a_folder_in_the_home_is_found(
    checkpoints: dict[str, Path], paintings: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(checkpoints["llava-taught"].parent))
    adapter = HFVisionLanguage(checkpoint=f"~/{checkpoints['llava-taught'].name}", device="cpu")
    adapter.load()
    assert [outcome.raw for outcome in adapter.predict(paintings[:1])] == [tiny_models.DARK]


@pytest.mark.slow
@pytest.mark.parametrize("weights", [b"", b"no weights"])
def test_damaged_lora_weights(checkpoints: dict[str, Path], tmp_path: Path, weights: bytes) -> None:
    base = str(checkpoints["llava"])
    config = {"peft_type": "LORA", "base_model_name_or_path": base, "target_modules": ["q_proj"]}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    (tmp_path / "adapter_model.safetensors").write_bytes(weights)
    with pytest.raises(UserError, match=r"lora=.*cannot be used"):
        HFVisionLanguage(lora=str(tmp_path), device="cpu").load()


def test_before_loading_nothing_is_answered(picture: Picture) -> None:
    with pytest.raises(UserError, match="after load"):
        HFVisionLanguage().predict([item("a", picture())])
    assert HFVisionLanguage().fingerprint()["checkpoint"] == "llava-hf/llava-1.5-7b-hf"
