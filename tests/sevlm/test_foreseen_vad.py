"""What the VAD head foresees while a caption is written."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from sevlm.generation import CaptionDecoder, RowLookup, greedy_tokens
from sevlm.model import SEVLM


def test_each_step_foresees_what_one_pass_over_the_caption_does(tiny_model: SEVLM, word_lookup: RowLookup) -> None:
    grid = torch.randn(2, 6, tiny_model.config.encoder_dim, generator=torch.Generator().manual_seed(2))
    captions = CaptionDecoder(tiny_model, grid, word_lookup)
    prompt = captions.input_ids.shape[1]
    steps: list[Tensor] = []
    greedy_tokens(captions, False, lambda step: steps.append(step.next_vad))  # type: ignore[arg-type]
    with torch.no_grad():
        whole = tiny_model(grid, captions.input_ids, captions.segment_ids, captions.vad)
        expected = tiny_model.vad_head(whole.hidden_states[-1][:, prompt - 1 : -1])  # type: ignore[misc]
    torch.testing.assert_close(torch.stack(steps, dim=1), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("boundary", ["fixed6", "token_type"])
def test_a_captions_value_is_the_mean_over_its_explanation(
    official_model: SEVLM, golden_inputs: dict[str, Tensor], piece_lookup: RowLookup, boundary: str
) -> None:
    """Tokens after "because", the end token not among them."""
    config = dataclasses.replace(official_model.config, fusion_boundary=boundary)
    if not config.use_vad_head:
        pytest.skip("the golden model has no VAD head")
    model = SEVLM(config, official_model.tokenizer)
    model.load_state_dict(official_model.state_dict())
    model.eval()
    grid = golden_inputs["decode/image_grid"][:2]
    steps: list[Tensor] = []
    captions = CaptionDecoder(model, grid, piece_lookup)
    greedy_tokens(captions, on_step=lambda step: steps.append(step.next_vad))  # type: ignore[arg-type]
    because = model.tokenizer.convert_tokens_to_ids("Ġbecause")  # type: ignore[union-attr]
    for row, caption in enumerate(model.generate(grid, lookup=piece_lookup)):
        tokens = list(caption.token_ids)
        first, last = tokens.index(because) + 1, len(tokens) - caption.ended
        expected = torch.stack([step[row] for step in steps[first:last]]).mean(dim=0)
        assert caption.vad == pytest.approx(expected.tolist(), abs=1e-5)


def test_a_model_without_the_head_foresees_nothing(tiny_model: SEVLM, word_lookup: RowLookup) -> None:
    model = SEVLM(dataclasses.replace(tiny_model.config, vad_loss_weight=0.0, use_vad_head=False), tiny_model.tokenizer)
    grid = torch.zeros(1, 6, model.config.encoder_dim)
    assert [caption.vad for caption in model.eval().generate(grid, lookup=word_lookup)] == [None]
