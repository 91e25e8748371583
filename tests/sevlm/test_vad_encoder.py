from __future__ import annotations

import dataclasses

import pytest
import torch

from sevlm.checkpoint import SEVLM
from sevlm.config import SEVLMConfig, SEVLMError
from sevlm.model import VADEncoder


def encoder(**settings: object) -> VADEncoder:
    torch.manual_seed(3)
    return VADEncoder(SEVLMConfig(**settings)).eval()  # type: ignore[arg-type]


def test_features_equal_those_of_the_released_encoder(
    official_model: SEVLM, golden_inputs: dict[str, torch.Tensor], golden_outputs: dict[str, torch.Tensor]
) -> None:
    vad_encoder = official_model.vad_encoder
    assert vad_encoder is not None
    features = vad_encoder(golden_inputs["batch/vad_identity"])
    torch.testing.assert_close(features, golden_outputs["vad_encoder/hidden"], atol=5e-5, rtol=0)
    torch.testing.assert_close(vad_encoder.scalars(features), golden_outputs["vad_encoder/out"], atol=5e-5, rtol=0)


@pytest.mark.parametrize("heads", [1, 3])
def test_causal_features_ignore_later_words_and_padding(heads: int) -> None:
    model = encoder(causal_vad_encoder=True, vad_heads=heads)
    vad = torch.rand(2, 9, 3) * 2 - 1
    changed = vad.clone()
    changed[:, 5:] = 0.3
    before, after = model(vad), model(changed)
    torch.testing.assert_close(after[:, :5], before[:, :5])
    assert (after[:, 5:] - before[:, 5:]).abs().max() > 1e-3
    torch.testing.assert_close(model(vad[:, :4]), before[:, :4])


def test_released_features_do_see_later_words() -> None:
    model = encoder(causal_vad_encoder=False)
    vad = torch.rand(1, 9, 3) * 2 - 1
    changed = vad.clone()
    changed[:, 8] = -vad[:, 8]
    assert (model(changed)[:, :8] - model(vad)[:, :8]).abs().max() > 1e-4


def test_dimensions_that_the_lexicon_lacks_are_not_fed() -> None:
    model = encoder(vad_dimensions=("valence",))
    vad = torch.rand(2, 5, 3)
    only_valence = vad * torch.tensor([1.0, 0.0, 0.0])
    torch.testing.assert_close(model(vad), model(only_valence))
    assert (model(vad) - model(vad * torch.tensor([0.0, 1.0, 1.0]))).abs().max() > 1e-3


def test_size_is_the_published_one() -> None:
    assert sum(parameter.numel() for parameter in encoder().parameters()) == 17_851


@pytest.mark.parametrize("shape", [(5, 3), (1, 5, 2), (1, 5)])
def test_a_wrong_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(SEVLMError, match=r"\(B, T, 3\)"):
        encoder()(torch.zeros(shape))


def test_configurations_without_vad_features_have_no_encoder(tiny_config: SEVLMConfig) -> None:
    model = SEVLM(dataclasses.replace(tiny_config, use_vad_features=False))
    assert model.vad_encoder is None
    assert model.decoder.vad_fusion is None
