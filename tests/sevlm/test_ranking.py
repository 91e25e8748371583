"""What a model thinks of explanations, how it draws several, and which one it prefers."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import softmax
from test_generation import LABELS, grid_of, with_config

from sevlm.checkpoint import SEVLM
from sevlm.config import SEVLMConfig, SEVLMError
from sevlm.generation import Opinions, candidates, opinions, preferred, repeating, sampled
from sevlm.tokenization import IGNORE_INDEX, encode_caption
from sevlm.vad import RowLookup

CAPTIONS = [[("awe", "the sea"), ("awe", "the wide sky above the sea")], [("fear", "a dark wood"), ("fear", "it")]]


@pytest.fixture(scope="module")
def several(tiny_model: SEVLM) -> SEVLM:
    """The tiny model with a label head, so that its captions have explanations, choosing the best of four."""
    weights = {"rank_by_log_prob": 0.5, "rank_by_match": 1.0, "rank_by_affect": 1.0, "sampling_temperature": 1.0}
    return with_config(tiny_model, labels=("awe", "fear"), n_best=4, no_repeat_ngram=3, **weights)


# ------------------------------------------------------------------------------------------- opinions


def test_explanations_are_as_likely_as_one_by_one_without_padding(tiny_model: SEVLM, word_lookup: RowLookup) -> None:
    """The reference runs each caption alone, cut to its own length, and averages the loss of its explanation."""
    grid = grid_of(tiny_model, 2)
    got = opinions(tiny_model, grid, CAPTIONS, word_lookup).log_prob
    for row, texts in enumerate(CAPTIONS):
        for column, caption in enumerate(texts):
            encoded = encode_caption(tiny_model.tokenizer, tiny_model.config, *caption)
            length = sum(label != IGNORE_INDEX for label in encoded.labels) + 1
            ids, segments = (torch.tensor([part[:length]]) for part in (encoded.input_ids, encoded.segment_ids))
            with torch.no_grad():
                logits = tiny_model(
                    grid[row : row + 1], ids, segments, word_lookup(encoded.words)[None, :length]
                ).logits
            because = int((ids[0] == tiny_model.tokenizer.encode(" because")[0]).nonzero()[0])
            own = [float(logits[0, place - 1].log_softmax(-1)[ids[0, place]]) for place in range(because + 1, length)]
            assert float(got[row, column]) == pytest.approx(sum(own) / len(own), abs=1e-5)


def test_match_and_affect_are_what_each_caption_alone_and_unpadded_has(
    tiny_model: SEVLM, word_lookup: RowLookup
) -> None:
    grid, config = grid_of(tiny_model, 2), tiny_model.config
    got = opinions(tiny_model, grid, CAPTIONS, word_lookup)
    assert got.match is not None
    assert got.affect is not None
    assert tiny_model.vad_head is not None
    assert tiny_model.contrastive_head is not None
    for row, texts in enumerate(CAPTIONS):
        for column, caption in enumerate(texts):
            encoded = encode_caption(tiny_model.tokenizer, config, *caption)
            length = sum(label != IGNORE_INDEX for label in encoded.labels) + 1
            ids, segments = (torch.tensor([part[:length]]) for part in (encoded.input_ids, encoded.segment_ids))
            vad = word_lookup(encoded.words)[None, :length]
            with torch.no_grad():
                final = tiny_model(grid[row : row + 1], ids, segments, vad).hidden_states[-1][0]
                start = int((ids[0] == tiny_model.tokenizer.encode(" because")[0]).nonzero()[0]) + 1
                emotion, explanation = final[:start].mean(0), final[start:].mean(0)
                triple = torch.cat((grid[row].mean(0), emotion, explanation))
                match = float(tiny_model.contrastive_head.mlp(triple))
                foreseen = tiny_model.vad_head(final)
            assert float(got.match[row, column]) == pytest.approx(match, abs=1e-5)
            known = [place for place in range(start, length) if vad[0, place].any()]
            errors = [float((foreseen[place - 1] - vad[0, place]).square().mean()) for place in known]
            wanted = -sum(errors) / len(errors) if errors else float("nan")
            assert float(got.affect[row, column]) == pytest.approx(wanted, abs=1e-5, nan_ok=True)
    assert 2 < got.affect.isfinite().sum() < got.affect.numel()  # no word of "it" is known


def test_without_heads_only_the_decoder_has_an_opinion(tiny_model: SEVLM, word_lookup: RowLookup) -> None:
    plain = with_config(tiny_model, use_vad_head=False, use_contrastive_head=False)
    got = opinions(plain, grid_of(plain, 2), CAPTIONS, word_lookup)
    assert (got.match, got.affect) == (None, None)
    assert torch.equal(got.log_prob, opinions(plain, grid_of(plain, 2), CAPTIONS, word_lookup).log_prob)


def test_a_missing_tokenizer_is_refused(tiny_model: SEVLM, word_lookup: RowLookup) -> None:
    with pytest.raises(SEVLMError, match="has no tokenizer"):
        opinions(SEVLM(tiny_model.config), grid_of(tiny_model, 2), CAPTIONS, word_lookup)


def test_the_preferred_one_has_the_largest_weighted_sum_of_standard_scores(tiny_config: SEVLMConfig) -> None:
    log_prob = np.array([[-1.0, -2.0, -3.0], [-1.0, -1.0, -1.0]])
    match = np.array([[0.0, 4.0, 5.0], [1.0, 2.0, 0.0]])
    affect = np.array([[-0.3, -0.1, -0.2], [-0.1, -0.4, -0.1]])
    found = Opinions(*(torch.tensor(values) for values in (log_prob, match, affect)))
    seen = set()
    for weights in ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0.5, 2), (0.5, 2, 0)):
        names = ("rank_by_log_prob", "rank_by_match", "rank_by_affect")
        config = dataclasses.replace(tiny_config, **dict(zip(names, map(float, weights), strict=True)))
        total = np.zeros((2, 3))
        for weight, values in zip(weights, (log_prob, match, affect), strict=True):
            spread = values.std(axis=1, keepdims=True)
            total += weight * np.divide(
                values - values.mean(1, keepdims=True), spread, where=spread > 0, out=0 * values
            )
        assert preferred(found, config) == total.argmax(1).tolist()
        seen.add(tuple(total.argmax(1)))
    assert len(seen) == 3  # each opinion alone prefers another
    config = dataclasses.replace(tiny_config, rank_by_log_prob=0.0, rank_by_match=1.0, rank_by_affect=1.0)
    assert preferred(found._replace(match=None, affect=None), config) == [0, 0]  # nobody has an opinion
    # Without known words the third is neither near nor far: (1.2, -1.2, 0) from affect, (-1.4, 0.7, 0.7) from match.
    torn = Opinions(*(torch.tensor([row]) for row in ([0.0, 0.0, 0.0], [0.0, 3.0, 3.0], [-0.1, -0.2, float("nan")])))
    assert preferred(torn, config) == [2]


# --------------------------------------------------------------------------------------- candidates


def test_tokens_stand_in_the_order_of_their_probability() -> None:
    logits = torch.tensor([[0.05, 0.5, 0.15, 0.3]] * 6).log()
    drawn = torch.tensor([0.0, 0.52, 0.53, 0.84, 0.85, 0.999])  # of .5, .3 and .15: beyond .526, beyond .842
    assert sampled(logits, drawn, 1.0, 0.9).tolist() == [1, 1, 3, 3, 2, 2]
    assert sampled(logits, drawn, 1.0, 0.49).tolist() == [1] * 6  # the first has as much
    assert sampled(logits, torch.full((6,), 0.97), 1.0, 1.0).tolist() == [0] * 6


def test_tokens_are_drawn_as_often_as_they_are_probable() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(8, generator=generator)
    drawn = torch.rand(20_000, generator=generator)
    got = Counter(sampled(logits.expand(20_000, -1), drawn, 0.7, 1.0).tolist())
    wanted = softmax(logits.numpy() / 0.7)
    np.testing.assert_allclose([got[token] / 20_000 for token in range(8)], wanted, atol=0.012)


def test_one_of_one_is_the_greedy_caption(several: SEVLM, word_lookup: RowLookup) -> None:
    grid = grid_of(several, 3)
    greedy = with_config(several, n_best=1).generate(grid, LABELS, word_lookup)
    assert several.generate(grid, LABELS, word_lookup, n_best=1) == greedy
    for row, one in zip(candidates(several, grid, 4, LABELS, word_lookup), greedy, strict=True):
        assert row[0].token_ids == one.token_ids
        assert row[0].label_probs == one.label_probs
        assert row[0].vad == pytest.approx(one.vad, abs=1e-5)


def test_the_best_of_several_is_the_preferred_candidate(several: SEVLM, word_lookup: RowLookup) -> None:
    grid = grid_of(several, 12)
    rows = candidates(several, grid, 4, None, word_lookup)
    captions = [[(one.emotion, one.explanation) for one in row] for row in rows]
    best = preferred(opinions(several, grid, captions, word_lookup), several.config)
    assert several.generate(grid, None, word_lookup) == [row[place] for row, place in zip(rows, best, strict=True)]
    assert any(best)
    assert all(len({one.emotion for one in row}) == 1 for row in rows)
    assert any(len({one.text for one in row}) > 2 for row in rows)


def test_answers_depend_on_the_seed_and_not_on_the_batch(several: SEVLM, word_lookup: RowLookup) -> None:
    grid = grid_of(several, 4)
    together = several.generate(grid, LABELS, word_lookup)
    assert several.generate(grid, LABELS, word_lookup) == together
    backwards = several.generate(grid.flip(0), LABELS, word_lookup)[::-1]
    alone = [several.generate(grid[i : i + 1], LABELS, word_lookup)[0] for i in range(4)]
    for other in (backwards, alone):
        assert [one.token_ids for one in other] == [one.token_ids for one in together]
    reseeded = candidates(with_config(several, sampling_seed=1), grid, 4, None, word_lookup)
    assert [row[1:] for row in reseeded] != [row[1:] for row in candidates(several, grid, 4, None, word_lookup)]


def test_nothing_said_has_a_sequence_twice(several: SEVLM, word_lookup: RowLookup) -> None:
    def repeats(model: SEVLM) -> int:
        rows = candidates(model, grid_of(model, 4), 4, None, word_lookup)
        grams = [list(zip(*(one.token_ids[i:] for i in range(3)), strict=False)) for row in rows for one in row]
        return sum(len(row) - len(set(row)) for row in grams)

    assert repeats(with_config(several, no_repeat_ngram=0)) > 0
    assert repeats(several) == 0
    assert repeating([1, 2, 3, 1, 2], 3) == [3]
    assert repeating([4, 4], 2) == [4]
    assert repeating([1, 2, 1, 3, 1], 2) == [2, 3]
    assert repeating([1, 2, 1, 2], 0) == []


def test_a_prefix_model_chooses_too(tiny_model: SEVLM, word_lookup: RowLookup) -> None:
    config = dataclasses.replace(tiny_model.config, prefix_length=2, prefix_dim=5, n_best=3)
    torch.manual_seed(0)
    model = SEVLM(config, tiny_model.tokenizer).eval()
    grid, prefix = grid_of(model, 3), torch.randn(3, 5)
    together = model.generate(grid, None, word_lookup, prefix)
    alone = [model.generate(grid[i : i + 1], None, word_lookup, prefix[i : i + 1])[0] for i in range(3)]
    assert [one.token_ids for one in alone] == [one.token_ids for one in together]


def test_the_official_mode_and_older_checkpoints_are_greedy(tmp_path: Path) -> None:
    official = SEVLMConfig.official()
    assert (official.n_best, official.no_repeat_ngram) == (1, 0)
    values = {key: value for key, value in SEVLMConfig().to_dict().items() if key not in ("n_best", "no_repeat_ngram")}
    (tmp_path / "config.json").write_text(json.dumps(values), encoding="utf-8")
    older = SEVLMConfig.load(tmp_path / "config.json")
    assert (older.n_best, older.no_repeat_ngram) == (1, 0)
    assert SEVLMConfig().n_best > 1
