from __future__ import annotations

import dataclasses

import pytest
import torch

from sevlm.checkpoint import SEVLM
from sevlm.config import SEVLMConfig, SEVLMError
from sevlm.model import Decoder, explanation_mask

SMALL = SEVLMConfig(
    n_layer=2, n_head=2, n_embd=16, n_positions=32, vocab_size=40, encoder_dim=16, max_length=30, use_vad_features=False
)


def randomised(config: SEVLMConfig) -> Decoder:
    torch.manual_seed(5)
    decoder = Decoder(config).eval()
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.normal_(std=0.3)
    return decoder


def test_states_equal_those_of_transformers_gpt2() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    reference = GPT2LMHeadModel(
        GPT2Config(
            n_layer=2, n_head=2, n_embd=16, n_positions=32, vocab_size=40, add_cross_attention=True, attn_pdrop=0.1
        )
    ).eval()
    decoder = randomised(SMALL)
    missing = reference.transformer.load_state_dict(decoder.state_dict(), strict=False)
    assert not missing.unexpected_keys
    assert not missing.missing_keys
    ids, segments = torch.randint(0, 40, (3, 9)), torch.randint(0, 40, (3, 9))
    grid = torch.randn(3, 5, 16)
    expected = reference(input_ids=ids, token_type_ids=segments, encoder_hidden_states=grid, output_hidden_states=True)
    states = decoder(decoder.embed(ids, segments, None), decoder.image_memory(grid))
    for got, wanted in zip(states, expected.hidden_states, strict=True):
        torch.testing.assert_close(got, wanted, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(decoder.logits(states[-1]), expected.logits, atol=2e-4, rtol=1e-5)


E, X, P = SMALL.emotion_token_id, SMALL.explanation_token_id, SMALL.prefix_token_id


@pytest.mark.parametrize(
    ("boundary", "prefix", "segments", "expected"),
    [
        ("fixed6", 0, [E, E, E, E, E, X, X, X], [0, 0, 0, 0, 0, 0, 1, 1]),
        ("fixed6", 0, [E, E, E, E, E, E, X, X], [0, 0, 0, 0, 0, 0, 1, 1]),
        ("fixed6", 1, [P, E, E, E, E, E, X, X], [0, 0, 0, 0, 0, 0, 0, 1]),
        ("token_type", 0, [E, E, E, E, E, X, X, X], [0, 0, 0, 0, 0, 0, 1, 1]),
        ("token_type", 0, [E, E, E, E, E, E, X, X], [0, 0, 0, 0, 0, 0, 0, 1]),
        ("token_type", 0, [E, E, E, X], [0, 0, 0, 0]),
        ("token_type", 1, [P, E, E, X, X], [0, 0, 0, 0, 1]),
    ],
)
def test_where_the_explanation_begins(boundary: str, prefix: int, segments: list[int], expected: list[int]) -> None:
    config = dataclasses.replace(SMALL, fusion_boundary=boundary, prefix_length=prefix)  # type: ignore[arg-type]
    mask = explanation_mask(config, torch.tensor([segments, segments]))
    assert mask.int().tolist() == [expected, expected]


def test_identity_initialisation_leaves_pretrained_embeddings_alone() -> None:
    ids, segments = torch.randint(0, 40, (2, 9)), torch.randint(0, 40, (2, 9))
    features = torch.zeros(2, 9, 3)
    config = dataclasses.replace(SMALL, use_vad_features=True, fusion_boundary="fixed6")
    kept = Decoder(config).eval()
    torch.testing.assert_close(kept.embed(ids, segments, features), kept.embed(ids, segments, None))
    scrambled = Decoder(dataclasses.replace(config, fusion_identity_init=False)).eval()
    fused, plain = scrambled.embed(ids, segments, features), scrambled.embed(ids, segments, None)
    torch.testing.assert_close(fused[:, :6], plain[:, :6])
    assert (fused[:, 6:] - plain[:, 6:]).abs().max() > 0.01


def test_a_prefix_replaces_its_placeholders() -> None:
    config = dataclasses.replace(SMALL, prefix_length=2, prefix_dim=5)
    decoder = randomised(config)
    ids, segments = torch.randint(0, 40, (2, 6)), torch.randint(0, 40, (2, 6))
    image_prefix = torch.randn(2, 5)
    got = decoder.embed(ids, segments, None, image_prefix)
    other = ids.clone()
    other[:, :2] = 7
    torch.testing.assert_close(decoder.embed(other, segments, None, image_prefix), got)
    projection = decoder.prefix_projection
    assert projection is not None
    mapped = torch.tanh(image_prefix @ projection.model[0].weight.T + projection.model[0].bias)
    mapped = (mapped @ projection.model[2].weight.T + projection.model[2].bias).reshape(2, 2, 16)
    plain = mapped + decoder.wpe.weight[:2] + decoder.wte(segments[:, :2])
    torch.testing.assert_close(got[:, :2], plain)
    with pytest.raises(SEVLMError, match="pass image_prefix"):
        decoder.embed(ids, segments, None)


def test_features_of_another_width_are_projected() -> None:
    decoder = randomised(dataclasses.replace(SMALL, encoder_dim=5))
    grid = torch.randn(2, 7, 5)
    projection = decoder.image_projection
    assert projection is not None
    projected = grid @ projection.weight.T + projection.bias
    keys = decoder.image_memory(grid)[1][0]
    second = decoder.h[1].crossattention
    expected = (projected @ second.c_attn.weight + second.c_attn.bias)[..., :16]
    torch.testing.assert_close(keys.transpose(1, 2).reshape(2, 7, 16), expected)
    with pytest.raises(SEVLMError, match=r"must have shape \(N, P, 5\)"):
        decoder.image_memory(torch.randn(2, 7, 16))


def test_too_many_tokens_are_refused() -> None:
    ids = torch.zeros(1, 33, dtype=torch.long)
    with pytest.raises(SEVLMError, match="33 tokens exceed the 32 positions"):
        randomised(SMALL).embed(ids, ids, None)


def test_sizes_are_the_published_ones() -> None:
    with torch.device("meta"):
        counts = SEVLM(SEVLMConfig.official()).parameter_counts()
    assert counts == {
        "vad_encoder": 17_851,
        "decoder": 81_915_648,
        "cross_attention": 14_183_424,
        "vad_fusion": 592_896,
        "vad_head": 2_307,
        "contrastive_head": 3_542_785,
        "total": 100_254_911,
    }


def test_captions_of_one_picture_share_its_keys_and_values() -> None:
    decoder = randomised(SMALL)
    ids, segments = torch.randint(0, 40, (6, 9)), torch.full((6, 9), 3)
    grid = torch.randn(2, 5, 16)
    embeddings = decoder.embed(ids, segments, None)
    shared = decoder(embeddings, decoder.image_memory(grid))[-1]
    repeated = decoder(embeddings, decoder.image_memory(grid.repeat_interleave(3, dim=0)))[-1]
    torch.testing.assert_close(shared, repeated)
    with pytest.raises(SEVLMError, match="6 captions cannot be shared out over 4 images"):
        decoder(embeddings, decoder.image_memory(torch.randn(4, 5, 16)))


def test_image_dropout_takes_whole_channels_and_only_in_training() -> None:
    decoder = randomised(dataclasses.replace(SMALL, encoder_dim=8, image_dropout=0.5))
    assert decoder.image_projection is not None
    seen: list[torch.Tensor] = []
    decoder.image_projection.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    grid = torch.rand(200, 5, 8) + 1
    decoder.image_memory(grid)
    decoder.train().image_memory(grid)
    assert torch.equal(seen[0], grid)
    dropped = seen[1] == 0
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))  # the same channels in all patches of a picture
    assert 0.4 < dropped.float().mean() < 0.6
    torch.testing.assert_close(seen[1][~dropped], 2 * grid[~dropped])
