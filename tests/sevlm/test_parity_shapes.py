"""Parity reads any fixture of the layout: a trained image encoder, a prefix, other heads, layers and prompts."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from make_fixture import FROZEN, TRAINED, Shape, make_fixture

from sevlm import SEVLM
from sevlm.convert import main as convert
from sevlm.images import CLIPEncoder
from sevlm.parity.__main__ import compare_fixture
from sevlm.parity.fixture import Fixture, Line

pytestmark = pytest.mark.slow
STATS = "ckpt_stats_best-res.tar"


@pytest.fixture(scope="module")
def trained(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_fixture(golden, tmp_path_factory.mktemp("made") / "trained", TRAINED)


def failures(folder: Path) -> list[Line]:
    """What fails, tags and lemmas of NLTK left out: those of made-up rows are made up too."""
    lines = compare_fixture(folder).lines
    assert len(lines) > 150
    made_up = ("nltk", "lemmas.json rows")
    return [line for line in lines if line.status == "FAIL" and not any(name in line.name for name in made_up)]


@pytest.mark.parametrize("shape", [TRAINED, FROZEN], ids=lambda shape: shape.name)
def test_other_shapes_pass(shape: Shape, golden: Path, tmp_path: Path) -> None:
    assert failures(make_fixture(golden, tmp_path / "made", shape)) == []


@pytest.mark.parametrize("name", ["conv1.weight", "transformer.resblocks.0.attn.in_proj_weight"])
def test_any_tensor_of_a_trained_tower_counts(name: str, trained: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(trained, tmp_path / "copy"))
    stats = torch.load(copy / STATS, weights_only=True)
    stats["encoder_state_dict"][f"encoder.{name}"] *= 1.01  # a sum could be lost in a layer norm
    torch.save(stats, copy / STATS)
    assert failures(copy)


def test_a_trained_tower_is_used_converted_and_kept(trained: Path, tmp_path: Path) -> None:
    fixture = Fixture(trained)
    pixels = fixture.inputs["decode/pixels"]
    with torch.no_grad():
        expected = fixture.encoder.grid(pixels)
    assert convert([str(trained), str(tmp_path / "out"), "--encoder-heads", "2", "--vad-heads", "3"]) == 0
    for model in (fixture.model, SEVLM.from_pretrained(tmp_path / "out")):
        encoder = model.image_encoder()
        assert isinstance(encoder, CLIPEncoder)
        torch.testing.assert_close(encoder(pixels), expected, atol=1e-6, rtol=0)
    SEVLM.from_pretrained(tmp_path / "out").save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / "image_encoder" / "model.safetensors").is_file()
