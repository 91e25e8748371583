"""The formula of decoding's arithmetic against PyTorch's own count."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sevlm import SEVLM
from sevlm.generation import CaptionDecoder, greedy_tokens
from sevlm.model import decoding_flops
from sevlm.vad import RowLookup

PATCHES = 9


@pytest.mark.parametrize("changes", [{}, {"causal_vad_encoder": False, "fusion_boundary": "fixed6"}])
def test_the_formula_is_what_pytorch_counts(
    changes: dict[str, object], tiny_model: SEVLM, word_lookup: RowLookup
) -> None:
    config = dataclasses.replace(tiny_model.config, n_embd=64, encoder_dim=32, **changes)  # type: ignore[arg-type]
    model = SEVLM(config, tiny_model.tokenizer).eval()
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        captions = CaptionDecoder(model, torch.randn(1, PATCHES, 32), word_lookup)
        greedy_tokens(captions, stop_when_ended=False)
    expected = decoding_flops(config, PATCHES, captions.prompt_length, config.max_new_tokens)
    assert counter.get_total_flops() == pytest.approx(expected, rel=1e-3)
