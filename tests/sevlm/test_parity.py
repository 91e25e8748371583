from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sevlm.parity.__main__ import compare_fixture, main
from sevlm.parity.fixture import Report

WEIGHTS = "nle_model_best-res/pytorch_model.bin"
STATS = "ckpt_stats_best-res.tar"


@pytest.fixture
def copy(golden: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(golden, tmp_path / "fixture"))


def test_the_golden_fixture_passes_and_nothing_is_left_out(golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(golden)]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = {line.split()[1] for line in lines[:-1]}
    tensors = load_file(golden / "inputs.safetensors") | load_file(golden / "outputs.safetensors")
    unnamed = {name for name in tensors if name not in names}
    assert unnamed == {"batch/neg_semantic", "steps/neg_semantic", "filter/logits", "clip/pixels"} | {
        name for name in unnamed if name.endswith(("image_grid", "vad_nltk"))
    }
    assert {line[:4].strip() for line in lines[:-1]} == {"ok", "SKIP"}


def test_json_output(golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(golden), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["ok"] is True
    assert result["counts"]["FAIL"] == 0
    assert result["counts"]["ok"] > 300
    logits = next(line for line in result["comparisons"] if line["name"] == "lm/logits")
    assert 0 < logits["difference"] <= logits["tolerance"] == 5e-5


def test_a_missing_folder_is_a_user_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "absent")]) == 2
    assert capsys.readouterr().err.startswith("error: no fixture folder")


def perturb_weight(name: str, amount: float = 1e-2) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        state = torch.load(folder / WEIGHTS, weights_only=True)
        state[name] = state[name] + amount
        torch.save(state, folder / WEIGHTS)

    return change


def perturb_encoder(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        stats = torch.load(folder / STATS, weights_only=True)
        stats["emo_encoder_state_dict"][name] *= 1.05
        torch.save(stats, folder / STATS)

    return change


def perturb_moment(folder: Path) -> None:
    stats = torch.load(folder / STATS, weights_only=True)
    stats["optimizer_state_dict"]["state"][3]["exp_avg"][0] += 0.01
    torch.save(stats, folder / STATS)


def perturb_tensor(file: str, name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        tensors = load_file(folder / file)
        flat = tensors[name].reshape(-1)
        flat[flat.numel() // 2] += 1 if not flat.is_floating_point() else 1e-3
        save_file(tensors, folder / file)

    return change


def perturb_text(file: str, old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / file
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    return change


def drop_tensor(folder: Path) -> None:
    tensors = load_file(folder / "outputs.safetensors")
    del tensors["lm/hidden_1"]
    save_file(tensors, folder / "outputs.safetensors")


def add_tensor(file: str, name: str) -> Callable[[Path], None]:
    """Adds a tensor that the README lists too."""

    def change(folder: Path) -> None:
        save_file({**load_file(folder / file), name: torch.zeros(2)}, folder / file)
        with (folder / "README.md").open("a", encoding="utf-8") as readme:
            readme.write(f"| {name} | [2] | F32 | added |\n")

    return change


def repaint(folder: Path) -> None:
    from PIL import Image

    path = folder / "preprocess" / "landscape.png"
    with Image.open(path) as picture:
        changed = picture.convert("RGB")
    changed.paste((255, 0, 0), (0, 0, 8, 8))
    changed.save(path)


PERTURBATIONS: dict[str, Callable[[Path], None]] = {
    "word embedding": perturb_weight("transformer.wte.weight"),
    "fusion": perturb_weight("transformer.VAD_linear.bias"),
    "cross-attention query": perturb_weight("transformer.h.1.crossattention.q_attn.weight"),
    "causal mask": perturb_weight("transformer.h.0.attn.bias", 1),
    "mask value": perturb_weight("transformer.h.1.crossattention.masked_bias"),
    "output head": perturb_weight("lm_head.weight"),
    "contrastive head": perturb_weight("sim_mlp.pred.8.bias"),
    "VAD head": perturb_weight("VAD_head.bias"),
    "VAD encoder": perturb_encoder("encoder.layers.2.fc.0.weight"),
    "VAD encoder's unused head": perturb_encoder("decoder.bias"),
    "optimiser moment": perturb_moment,
    "image features": perturb_tensor("inputs.safetensors", "batch/image_grid"),
    "labels": perturb_tensor("inputs.safetensors", "batch/labels"),
    "image ids": perturb_tensor("inputs.safetensors", "decode/image_id"),
    "VAD of the batch by NLTK": perturb_tensor("inputs.safetensors", "batch/vad_nltk"),
    "VAD of the prompt by NLTK": perturb_tensor("inputs.safetensors", "decode/vad_nltk"),
    "negatives of the steps": perturb_tensor("inputs.safetensors", "steps/neg_semantic"),
    "logits": perturb_tensor("outputs.safetensors", "lm/logits"),
    "gradient": perturb_tensor("outputs.safetensors", "grad/decoder.transformer.wte.weight"),
    "loss": perturb_tensor("outputs.safetensors", "loss/xe_text"),
    "loss with NLTK's values": perturb_tensor("outputs.safetensors", "loss_nltk/vad"),
    "stepped parameter": perturb_tensor("outputs.safetensors", "steps/param/decoder.VAD_head.bias"),
    "learning rate": perturb_tensor("outputs.safetensors", "steps/lr"),
    "VAD per step by NLTK": perturb_tensor("outputs.safetensors", "decode_nltk/vad_per_step"),
    "generated ids": perturb_tensor("outputs.safetensors", "decode_nltk/generated_ids"),
    "missing tensor": drop_tensor,
    "output that nothing recomputes": add_tensor("outputs.safetensors", "lm/hidden_9"),
    "input that nothing uses": add_tensor("inputs.safetensors", "batch/more"),
    "CLIP tower": perturb_tensor("clip_tower_encoder_state.safetensors", "encoder.conv1.weight"),
    "picture": repaint,
    "lexicon": perturb_text("vad_lexicon.txt", "sea\t0.165", "sea\t0.265"),
    "training caption": perturb_text("data_train.json", "the dark sea", "the calm sea"),
    "validation share": perturb_text("data_val.json", "0.6,", "0.4,"),
    "decoded caption": perturb_text("decode.json", "fear because the dark", "fear because a dark"),
    "end index": perturb_text("decode.json", "15,", "14,"),
    "scripted segment": perturb_text("scripted_decode.json", "704", "703"),
    "merges": perturb_text("nle_gpt2_tokenizer_0/merges.txt", "Ġ t", "Ġ z"),
    "added token": perturb_text("nle_gpt2_tokenizer_0/added_tokens.json", "703", "704"),
    "tokenizer flag": perturb_text("nle_gpt2_tokenizer_0/tokenizer_config.json", "false", "true"),
    "activation": perturb_text("nle_model_best-res/config.json", "gelu_new", "gelu"),
    "end id": perturb_text("nle_model_best-res/generation_config.json", '"eos_token_id": 700', '"eos_token_id": 1'),
    "optimiser group": perturb_text("optimizer_groups.json", "17409", "17408"),
    "accuracy": perturb_text("sub_acc.json", "0.5", "0.6"),
    "file name": perturb_text("file_names.json", "#U00e9", "#U00e8"),
    "lemma": perturb_text("lemmas.json", '"wave"', '"sea"'),
    "README": perturb_text("README.md", "[8, 30, 705] | F32", "[8, 30, 704] | F32"),
    "unknown file": lambda folder: (folder / "extra.json").write_text("{}") and None,
    "damaged file": lambda folder: (folder / "decode.json").write_text("{") and None,
    "missing lexicon": lambda folder: (folder / "vad_lexicon.txt").unlink(),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PERTURBATIONS)
def test_any_perturbation_fails(copy: Path, name: str) -> None:
    PERTURBATIONS[name](copy)
    assert compare_fixture(copy).failed


def test_infinities_must_stand_in_the_same_places() -> None:
    report = Report()
    infinite = torch.tensor([1.0, -torch.inf])
    report.tensor("same", infinite, infinite.clone(), 0.0)
    report.tensor("elsewhere", infinite, torch.tensor([-torch.inf, 1.0]), 1.0)
    report.tensor("not a number", torch.tensor([torch.nan]), torch.tensor([1.0]), 1.0)
    report.tensor("shape", torch.zeros(2), torch.zeros(3), 1.0)
    assert [line.status for line in report.lines] == ["ok", "FAIL", "FAIL", "FAIL"]


def test_the_released_rule_for_paths_outside_ascii() -> None:
    from sevlm.parity.checks_model import escaped_path

    assert escaped_path("a/na\u00efve-e\u0301.jpg") == "a/na#U00efve-#U00e9.jpg"
    assert escaped_path("x\u0336.jpg") == "x#U0336.jpg"  # a mark that nothing composes with
