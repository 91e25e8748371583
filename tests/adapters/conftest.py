"""Pictures made on the spot, tiny checkpoints, and a loopback endpoint that answers as told."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from adapter_samples import Picture, item
from PIL import Image
from servers import Endpoint, chat_server

from harness.types import Item

if TYPE_CHECKING:
    from harness.adapters.hf import HFVisionLanguage

os.environ["HF_HUB_OFFLINE"] = "1"  # read when transformers is first imported, which is before any fixture runs


@pytest.fixture
def picture(tmp_path: Path) -> Picture:
    """Write a picture of one colour: `picture("red", name="a.png", size=(40, 30))`."""

    def write(colour: object = "red", name: str = "picture.png", size: tuple[int, int] = (40, 30)) -> Path:
        path = tmp_path / name
        Image.new("RGB", size, colour).save(path)  # type: ignore[arg-type]
        return path

    return write


@pytest.fixture
def corrupt(tmp_path: Path) -> Path:
    path = tmp_path / "corrupt.jpg"
    path.write_bytes(b"\xff\xd8\xff\xe0 not a picture")
    return path


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random CLIP tower with statistics of its own; random features still tell colours apart."""
    import torch
    from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModel

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("clip")
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    CLIPVisionModel(CLIPVisionConfig(image_size=32, patch_size=8, **sizes)).save_pretrained(folder)
    processing = CLIPImageProcessorPil(image_mean=[0.1, 0.2, 0.3], image_std=[0.9, 0.8, 0.7])
    processing.save_pretrained(folder)
    return f"clip:{folder}"


@pytest.fixture(scope="session")
def paintings(tmp_path_factory: pytest.TempPathFactory) -> list[Item]:
    """Eight pictures of different shapes, dark ones and bright ones in turn."""
    folder = tmp_path_factory.mktemp("paintings")
    items = []
    for number in range(8):
        path = folder / f"{number}.png"
        noise = Image.effect_noise((40 + 30 * number, 60 + 50 * (number % 3)), 30)
        noise.point([lambda v: v // 4, lambda v: 190 + v // 4][number % 2]).convert("RGB").save(path)
        items.append(item(str(number), path))
    return items


class Checkpoints(dict[str, Path]):
    """A checkpoint of each kind in `tiny_models`, made when it is first asked for: `llava-taught` is trained."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def __missing__(self, kind: str) -> Path:
        import tiny_models

        self[kind] = tiny_models.build(kind, self.folder / kind)
        return self[kind]


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    return Checkpoints(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="module")
def taught(checkpoints: dict[str, Path]) -> HFVisionLanguage:
    """The model that tells bright pictures from dark ones, loaded."""
    from loading_hf import loaded

    return loaded(checkpoints["llava-taught"])


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Endpoint, str]]:
    """An endpoint and its base URL."""
    with chat_server() as running:
        yield running


@pytest.fixture
def endpoint(server: tuple[Endpoint, str]) -> Endpoint:
    """The one server, as if just started."""
    found, _ = server
    found.restart()
    return found


@pytest.fixture
def url(server: tuple[Endpoint, str]) -> str:
    """Its base URL."""
    return server[1]
