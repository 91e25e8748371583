"""What the VAD head predicts while a caption is written."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from sevlm.checkpoint import SEVLM
from sevlm.decoding import CaptionDecoder, greedy_steps
from sevlm.vad import RowLookup


def test_each_step_predicts_what_one_pass_over_the_caption_does(tiny_model: SEVLM, word_lookup: RowLookup) -> None:
    grid = torch.randn(2, 6, tiny_model.config.encoder_dim, generator=torch.Generator().manual_seed(2))
    captions = CaptionDecoder(tiny_model, grid, word_lookup)
    prompt = captions.input_ids.shape[1]
    steps = [step.next_vad for step in greedy_steps(captions, False)]
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
    assert config.use_vad_head
    model = SEVLM(config, official_model.tokenizer)
    model.load_state_dict(official_model.state_dict())
    model.eval()
    grid = golden_inputs["decode/image_grid"][:2]
    steps = [step.next_vad for step in greedy_steps(CaptionDecoder(model, grid, piece_lookup))]
    because = model.tokenizer.convert_tokens_to_ids("Ġbecause")  # type: ignore[union-attr]
    for row, caption in enumerate(model.generate(grid, lookup=piece_lookup)):
        tokens = list(caption.token_ids)
        first, last = tokens.index(because) + 1, len(tokens) - caption.ended
        expected = torch.stack([step[row] for step in steps[first:last]]).mean(dim=0)
        assert caption.vad == pytest.approx(expected.tolist(), abs=1e-5)


def test_a_model_without_the_head_predicts_nothing(tiny_model: SEVLM, word_lookup: RowLookup) -> None:
    model = SEVLM(dataclasses.replace(tiny_model.config, vad_loss_weight=0.0, use_vad_head=False), tiny_model.tokenizer)
    grid = torch.zeros(1, 6, model.config.encoder_dim)
    assert [caption.vad for caption in model.eval().generate(grid, lookup=word_lookup)] == [None]
