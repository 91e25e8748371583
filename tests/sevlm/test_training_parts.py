"""Recipes, optimiser, schedule, GPT-2 start and BLEU, each against an independent reference."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import sacrebleu
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import GPT2Config, GPT2Model

from sevlm.checkpoint import SEVLM, load_gpt2_weights
from sevlm.config import SEVLMConfig, SEVLMError
from sevlm.recipe import Recipe, TrainingConfig, load_recipe
from sevlm.train import AdamW, build_optimizer, corpus_bleu, linear_schedule
from sevlm.vad import load_lexicon, words


class TestRecipes:
    @pytest.mark.parametrize("name", ["official", "small", "demo"])
    def test_packaged_recipes_make_a_model(self, name: str) -> None:
        config = load_recipe(name).model_config()
        assert config.n_positions >= config.max_length

    def test_official_has_the_papers_numbers(self) -> None:
        recipe = load_recipe("official")
        assert recipe.model_config() == SEVLMConfig.official()
        training = recipe.training
        assert (training.learning_rate, training.vad_learning_rate, training.weight_decay) == (2e-5, 4e-5, 0)
        assert (training.epochs, training.batch_pictures, training.evaluate_every) == (35, 32, 2000)
        assert (training.adam_epsilon, training.max_grad_norm, training.warmup_steps) == (1e-6, None, 0)
        assert training.decoder_init == "distilgpt2"

    def test_a_file_and_flat_settings_are_read(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.yaml"
        path.write_text("mode: official\nmodel: {n_layer: 2}\ntraining: {epochs: 3}\n", encoding="utf-8")
        recipe = load_recipe(path).updated({"epochs": 5, "n_head": 6, "mode": "improved"})
        assert recipe == Recipe("improved", {"n_layer": 2, "n_head": 6}, TrainingConfig(epochs=5))

    @pytest.mark.parametrize(
        ("values", "told"),
        [
            ({"epoch": 3}, "'epoch'; did you mean 'epochs'"),
            ({"model": {"n_layers": 3}}, "did you mean 'n_layer'"),
            ({"learning_rate": "2e-5"}, "YAML wants 2.0e-5"),
            ({"epochs": 0}, "epochs must be a positive whole number"),
            ({"epochs": True}, "epochs must be a positive whole number"),
            ({"precision": "fp8"}, "precision must be one of fp32, bf16, fp16"),
            ({"tensorboard": "maybe"}, "tensorboard must be true or false"),
            ({"seed": 1.5}, "seed must be a whole number"),
            ({"learning_rate": float("nan")}, "learning_rate must be a finite number"),
            ({"max_grad_norm": "x"}, "max_grad_norm must be a finite number"),
            ({"max_grad_norm": 0}, "null clips nothing"),
            ({"weight_decay": -0.1}, "weight_decay must be at least 0"),
            ({"warmup_steps": -3}, "warmup_steps must be at least 0"),
            ({"tokenizer": None}, "tokenizer must be text"),
            ({"mode": "paper"}, "mode must be one of official, improved"),
            ({"training": 3}, "'training' must hold keys and values"),
        ],
    )
    def test_mistakes_are_told(self, values: dict[str, Any], told: str) -> None:
        with pytest.raises(SEVLMError, match=told):
            load_recipe("small").updated(values)

    def test_the_home_folder_is_found(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / "words.txt").write_text("sea\t0.3\t-0.6\t0.1\n", encoding="utf-8")
        settings = load_recipe("small").updated({"lexicon": "~/words.txt", "feature_cache": "~/features"}).training
        assert settings.feature_cache == str(tmp_path / "features")
        assert settings.lexicon == str(tmp_path / "words.txt")
        assert "sea" in load_lexicon("~/words.txt")

    @pytest.mark.parametrize(("text", "told"), [("[", "is not YAML"), ("- a", "must hold the keys")])
    def test_bad_files_are_told(self, text: str, told: str, tmp_path: Path) -> None:
        path = tmp_path / "bad.yaml"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(SEVLMError, match=told):
            load_recipe(path)

    def test_an_unknown_name_lists_the_known(self) -> None:
        with pytest.raises(SEVLMError, match="expected demo, official, small"):
            load_recipe("large")


def transformers_adamw(values: list[float], gradients: list[float], rate: float, epsilon: float) -> list[float]:
    """AdamW of transformers 4 by its formula, for one number and one gradient per step."""
    beta1, beta2, first, second = 0.9, 0.999, 0.0, 0.0
    value = values[0]
    for step, gradient in enumerate(gradients, start=1):
        first = beta1 * first + (1 - beta1) * gradient
        second = beta2 * second + (1 - beta2) * gradient**2
        size = rate * math.sqrt(1 - beta2**step) / (1 - beta1**step)
        value -= size * first / (math.sqrt(second) + epsilon)
        values.append(value)
    return values


@settings(max_examples=50)
@given(gradients=st.lists(st.floats(-1e-4, 1e-4), min_size=1, max_size=12))
def test_adamw_follows_transformers_4(gradients: list[float]) -> None:
    expected = transformers_adamw([0.5], gradients, 1e-2, 1e-6)[-1]
    parameter = nn.Parameter(torch.tensor([0.5], dtype=torch.float64))
    optimizer = AdamW([{"params": [parameter], "lr": 1e-2}])
    for gradient in gradients:
        parameter.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
    assert float(parameter.detach()) == pytest.approx(expected, abs=1e-12)


def test_adamw_remembers_its_steps() -> None:
    def stepped(optimizer: AdamW, parameter: nn.Parameter) -> None:
        parameter.grad = torch.full_like(parameter, 1e-6)
        optimizer.step()

    one, other = (nn.Parameter(torch.ones(3)) for _ in range(2))
    first, second = (AdamW([{"params": [p], "lr": 0.1}]) for p in (one, other))
    stepped(first, one)
    second.load_state_dict(first.state_dict())
    other.data.copy_(one.data)
    stepped(first, one)
    stepped(second, other)
    assert torch.equal(one, other)


def test_an_update_that_a_gradient_scaler_leaves_out_is_no_step() -> None:
    """Of fp16 on a GPU; the scaler computes the same on a CPU."""
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    scaled, plain = (nn.Parameter(torch.ones(3)) for _ in range(2))
    first, second = (AdamW([{"params": [p], "lr": 0.1}]) for p in (scaled, plain))
    for gradient in (1e-6, math.inf, 2e-6):
        scaler.scale((scaled * gradient).sum()).backward()
        scaler.step(first)
        scaler.update()
        first.zero_grad()
        if math.isfinite(gradient):
            plain.grad = torch.full_like(plain, gradient)
            second.step()
    assert scaler.get_scale() == 2.0
    assert first.steps_taken == 2
    torch.testing.assert_close(scaled, plain)


def test_the_vad_encoder_has_its_own_rate_and_vectors_do_not_decay(tiny_model: SEVLM) -> None:
    optimizer = build_optimizer(tiny_model, 1e-3, 2e-3, weight_decay=0.1)
    rates = [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups]
    assert rates == [(2e-3, 0.1), (2e-3, 0.0), (1e-3, 0.1), (1e-3, 0.0)]
    counted = sum(p.numel() for group in optimizer.param_groups for p in group["params"])
    assert counted == tiny_model.parameter_counts()["total"]


def test_the_schedule_warms_up_and_falls_to_zero() -> None:
    optimizer = AdamW([{"params": [nn.Parameter(torch.zeros(1))], "lr": 1.0}])
    schedule = linear_schedule(optimizer, total_steps=6, warmup_steps=2)
    rates = []
    for _ in range(7):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([0, 0.5, 1, 0.75, 0.5, 0.25, 0])


class TestGPT2Start:
    @pytest.fixture
    def source(self, tmp_path: Path) -> str:
        GPT2Model(GPT2Config(vocab_size=600, n_layer=2, n_head=2, n_embd=16, n_positions=64)).save_pretrained(
            tmp_path / "gpt2"
        )
        return str(tmp_path / "gpt2")

    def test_shared_layers_are_copied_and_the_rest_is_kept(self, source: str, tiny_config: SEVLMConfig) -> None:
        model, gpt2 = SEVLM(tiny_config), GPT2Model.from_pretrained(source)
        new = model.decoder.wte.weight[600:].clone()
        cross = {n: p.clone() for n, p in model.named_parameters() if "cross" in n}
        load_gpt2_weights(model, source)
        own = dict(model.decoder.named_parameters())
        for name, value in gpt2.named_parameters():
            assert torch.equal(own[name][: len(value)], value), name
        assert torch.equal(model.decoder.wte.weight[600:], new)
        assert all(torch.equal(dict(model.named_parameters())[n], p) for n, p in cross.items())

    @pytest.mark.parametrize(
        ("sizes", "told"),
        [({"n_layer": 1}, "does not fit"), ({"n_layer": 3}, "2 layers"), ({"n_embd": 32}, "do not fit")],
    )
    def test_other_sizes_are_refused(
        self, sizes: dict[str, int], told: str, source: str, tiny_config: SEVLMConfig
    ) -> None:
        model = SEVLM(SEVLMConfig.from_dict(tiny_config.to_dict() | sizes))
        with pytest.raises(SEVLMError, match=told):
            load_gpt2_weights(model, source)

    def test_weights_cut_off_are_told(self, source: str, tiny_config: SEVLMConfig) -> None:
        weights = Path(source) / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-10])
        with pytest.raises(SEVLMError, match="cannot be loaded"):
            load_gpt2_weights(SEVLM(tiny_config), source)


sentences = st.lists(st.sampled_from(["the", "sea", "is", "dark", "and", "calm"]), min_size=1, max_size=9).map(" ".join)


@settings(max_examples=100)
@given(pairs=st.lists(st.tuples(sentences, st.tuples(sentences, sentences)), min_size=1, max_size=6))
def test_bleu_equals_sacrebleu(pairs: list[tuple[str, tuple[str, str]]]) -> None:
    hypotheses = [hypothesis for hypothesis, _ in pairs]
    references = [list(texts) for _, texts in pairs]
    streams = [list(stream) for stream in zip(*references, strict=True)]
    reference = sacrebleu.corpus_bleu(hypotheses, streams, tokenize="none", smooth_method="none")
    assert corpus_bleu(hypotheses, references) == pytest.approx(reference.score / 100, abs=1e-9)


def test_bleu_ignores_case_and_punctuation() -> None:
    assert corpus_bleu(["The sea, isn't calm!"], [["the sea isn't calm"]]) == pytest.approx(1)
    assert words("It's 2 café—tables.") == ["it's", "2", "café", "tables"]
    assert corpus_bleu([""], [["the sea"]]) == 0
