from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevlm.config import CLIP_MEAN, IMAGENET_MEAN, SEVLMConfig, SEVLMError

configurations = st.builds(
    SEVLMConfig,
    n_embd=st.sampled_from([12, 24, 768]),
    n_head=st.sampled_from([1, 2, 12]),
    vad_heads=st.sampled_from([1, 3]),
    max_length=st.integers(1, 64),
    prompt=st.text(),
    dropout=st.floats(0, 0.99),
    fusion_boundary=st.sampled_from(["fixed6", "token_type"]),
    image_resize=st.sampled_from(["squash", "crop"]),
    vad_lookup=st.sampled_from(["piece", "word"]),
    vad_dimensions=st.sampled_from([("valence",), ("valence", "dominance"), ("valence", "arousal", "dominance")]),
    causal_vad_encoder=st.booleans(),
    use_vad_head=st.booleans(),
    lm_loss_weight=st.floats(0, 10),
)


@given(configurations)
def test_json_round_trip_gives_an_equal_configuration(config: SEVLMConfig) -> None:
    assert SEVLMConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_file_round_trip(tmp_path: Path) -> None:
    config = SEVLMConfig.official(n_layer=2, prompt=" it feels")
    config.save(tmp_path / "config.json")
    assert SEVLMConfig.load(tmp_path / "config.json") == config


def test_an_unknown_key_is_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(SEVLMError, match="unknown SEVLM configuration key 'n_layers'; did you mean 'n_layer'"):
        SEVLMConfig.from_dict({"n_layers": 3})


@pytest.mark.parametrize("content", [b"{", b"[1, 2]", b'{"n_layer": "three"}', b"\xff\xfe{}"])
def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(SEVLMError):
        SEVLMConfig.load(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SEVLMError, match=r"no SEVLM configuration at .*absent\.json"):
        SEVLMConfig.load(tmp_path / "absent.json")


@pytest.mark.parametrize(
    "values",
    [
        {"n_embd": 10, "n_head": 4},
        {"vad_heads": 2},
        {"max_length": 2000},
        {"n_layer": 0},
        {"n_layer": True},
        {"dropout": 1.0},
        {"image_dropout": -0.1},
        {"emotion_weight": 0.0},
        {"emotion_weight": 2.0, "soft_emotion_labels": False},
        {"prefix_length": -1},
        {"fusion_boundary": "fixed7"},
        {"image_resize": "stretch"},
        {"vad_dimensions": ("joy",)},
        {"vad_dimensions": ()},
        {"n_best": 0},
        {"sampling_temperature": 0.0},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"no_repeat_ngram": -1},
    ],
)
def test_values_that_do_not_fit_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(SEVLMError):
        SEVLMConfig(**values)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"use_vad_features": "no"}, "use_vad_features must be true or false, not 'no'"),
        ({"use_vad_head": 0}, "use_vad_head must be true or false"),
        ({"dropout": "high"}, "dropout must be a finite number"),
        ({"vad_loss_weight": float("nan")}, "vad_loss_weight must be a finite number"),
        ({"emotion_weight": None}, "emotion_weight must be a finite number"),
        ({"prefix_length": "a"}, "prefix_length must be a whole number"),
        ({"prompt": 3}, "prompt must be text"),
        ({"image_mean": 0.5}, "image_mean must be a list of numbers"),
        ({"image_std": [0.5]}, "image_std must hold 3 numbers"),
        ({"vad_dimensions": "valence"}, "vad_dimensions must be a list of texts"),
    ],
)
def test_values_of_another_type_are_refused(values: dict[str, Any], told: str) -> None:
    with pytest.raises(SEVLMError, match=told):
        SEVLMConfig.from_dict(values)


def test_the_faithful_mode_differs_from_the_improved_one_in_the_documented_fields_only() -> None:
    improved, faithful = SEVLMConfig().to_dict(), SEVLMConfig.official().to_dict()
    assert {name for name in improved if improved[name] != faithful[name]} == {
        *("image_resize", "image_mean", "image_std", "keep_last_token", "vad_lookup", "lemmatizer"),
        *("causal_vad_encoder", "fusion_boundary", "fusion_identity_init", "mask_padding_in_means"),
        *("max_length", "max_new_tokens", "soft_emotion_labels", "use_label_head", "explain_best_label"),
        *("n_best", "no_repeat_ngram"),
    }
    assert SEVLMConfig.official().image_mean == IMAGENET_MEAN
    assert SEVLMConfig().image_mean == CLIP_MEAN


def test_overrides_of_the_faithful_mode_win() -> None:
    assert SEVLMConfig.official(fusion_boundary="token_type").fusion_boundary == "token_type"
    with pytest.raises(SEVLMError, match="unknown"):
        SEVLMConfig.official(lenght=3)


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        SEVLMConfig().n_layer = 3  # type: ignore[misc]
