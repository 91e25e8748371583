"""The cache of image features: each picture once, found again, never mixed up, safe to interrupt."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny_training import save_tower
from torch import Tensor
from transformers import CLIPVisionModel

from sevlm import images as sevlm_images
from sevlm.config import CLIP_MEAN, CLIP_STD, SEVLMError
from sevlm.images import CLIPEncoder, FeatureCache, Preprocessing, open_image


class CountingEncoder(CLIPEncoder):
    """Counts the pictures that it sees."""

    seen = 0

    def grid(self, pixels: Tensor) -> Tensor:
        self.seen += len(pixels)
        return super().grid(pixels)


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> CLIPVisionModel:
    return CLIPVisionModel.from_pretrained(save_tower(tmp_path_factory.mktemp("tower")))


@pytest.fixture
def encoder(tower: CLIPVisionModel) -> CountingEncoder:
    return CountingEncoder(tower, Preprocessing(32, CLIP_MEAN, CLIP_STD, "crop")).eval()


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{index}.png" for index in range(7)]
    for index, path in enumerate(paths):
        Image.new("RGB", (50, 40), (30 * index, 255 - 30 * index, 90)).save(path)
    return paths


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path / "cache", batch_size=3, progress=False)


def test_features_are_the_encoders_own(encoder: CountingEncoder, pictures: list[Path], cache: FeatureCache) -> None:
    store = cache.build(encoder, pictures)
    assert encoder.seen == 7
    order = [pictures[4], pictures[0], pictures[4]]
    grid = store.grid(order)
    assert grid.shape == (3, 4, 16)
    assert grid.dtype == torch.float16
    expected = encoder.encode([open_image(path) for path in order])
    torch.testing.assert_close(grid.float(), expected, atol=2e-3, rtol=2e-3)


def test_known_pictures_are_not_encoded_again(
    encoder: CountingEncoder, pictures: list[Path], cache: FeatureCache
) -> None:
    first = cache.build(encoder, pictures[:5]).grid(pictures[:5])
    renamed = pictures[2].with_name("renamed.png")
    shutil.copy(pictures[2], renamed)
    store = cache.build(encoder, [*pictures, renamed])
    assert encoder.seen == 7  # five, then the two new ones; the copy is known by its content
    assert torch.equal(store.grid(pictures[:5]), first)
    assert torch.equal(store.grid([renamed]), first[2:3])


def test_a_changed_picture_is_encoded_again(
    encoder: CountingEncoder, pictures: list[Path], cache: FeatureCache
) -> None:
    before = cache.build(encoder, pictures[:1]).grid(pictures[:1])
    Image.new("RGB", (50, 40), "white").save(pictures[0])
    after = cache.build(encoder, pictures[:1]).grid(pictures[:1])
    assert not torch.equal(before, after)


def test_another_encoder_gets_features_of_its_own(
    encoder: CountingEncoder, tower: CLIPVisionModel, pictures: list[Path], cache: FeatureCache
) -> None:
    squash = CountingEncoder(tower, Preprocessing(32, CLIP_MEAN, CLIP_STD, "squash")).eval()
    cache.build(encoder, pictures)
    cache.build(squash, pictures)
    assert squash.seen == 7


def test_an_interruption_loses_one_file_at_most(
    encoder: CountingEncoder, pictures: list[Path], cache: FeatureCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sevlm_images, "IMAGES_PER_FILE", 3)

    class Failing(CountingEncoder):
        def grid(self, pixels: Tensor) -> Tensor:
            if self.seen >= 3:
                raise KeyboardInterrupt
            return super().grid(pixels)

    stopped = Failing(encoder.tower, encoder.preprocess).eval()
    monkeypatch.setattr(stopped, "fingerprint", encoder.fingerprint)
    with pytest.raises(KeyboardInterrupt):
        cache.build(stopped, pictures)
    store = cache.build(encoder, pictures)
    assert encoder.seen == 4
    assert all(picture in store for picture in pictures)


def test_unreadable_pictures_are_named_and_the_rest_goes_on(
    encoder: CountingEncoder, pictures: list[Path], cache: FeatureCache, tmp_path: Path
) -> None:
    broken, gone = tmp_path / "broken.jpg", tmp_path / "gone.jpg"
    broken.write_bytes(pictures[0].read_bytes()[:60])
    store = cache.build(encoder, [broken, *pictures, gone])
    assert set(store.unreadable) == {broken, gone}
    assert broken not in store
    assert all(picture in store for picture in pictures)
    with pytest.raises(SEVLMError, match="cannot be read as an image"):
        store.grid([broken])


def test_the_limit_is_announced_before_work(encoder: CountingEncoder, pictures: list[Path], tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path / "cache", limit_gb=8e-7, progress=False)  # 7 pictures need 896 bytes
    with pytest.raises(SEVLMError, match=r"features of 7 images need .* feature_cache_gb allows"):
        cache.build(encoder, pictures)
    assert encoder.seen == 0
    cache.build(encoder, pictures[:3])


def test_a_damaged_file_is_named(encoder: CountingEncoder, pictures: list[Path], cache: FeatureCache) -> None:
    store = cache.build(encoder, pictures)
    (file,) = store.folder.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(SEVLMError, match=f"{file.name} is damaged"):
        cache.build(encoder, pictures)
