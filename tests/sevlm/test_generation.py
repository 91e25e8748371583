from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sevlm.checkpoint import SEVLM
from sevlm.config import SEVLMError
from sevlm.decoding import CaptionDecoder, greedy_steps, greedy_tokens
from sevlm.generation import finish_caption, label_probabilities
from sevlm.vad import RowLookup

LABELS = ["amusement", "awe", "contentment", "fear", "sadness", "something else"]


def grid_of(model: SEVLM, rows: int) -> Tensor:
    return torch.randn(rows, 6, model.config.encoder_dim, generator=torch.Generator().manual_seed(2))


def with_config(model: SEVLM, **changes: object) -> SEVLM:
    """The same weights in a model of another configuration; what only the other has is random, by a seed."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        other = SEVLM(dataclasses.replace(model.config, **changes), model.tokenizer)  # type: ignore[arg-type]
    other.load_state_dict(model.state_dict(), strict=False)
    return other.eval()


def test_captions_equal_those_of_the_released_code(
    official_model: SEVLM, golden: Path, golden_inputs: dict[str, Tensor], piece_lookup: RowLookup
) -> None:
    expected = json.loads((golden / "decode.json").read_text(encoding="utf-8"))["identity"]
    got = official_model.generate(golden_inputs["decode/image_grid"], lookup=piece_lookup)
    assert [answer.text for answer in got] == [item["caption"] for item in expected["results_full"]]
    assert [answer.explanation for answer in got] == [item["caption"] for item in expected["results_exp"]]
    assert [answer.emotion for answer in got][:3] == ["fear", "sadness", "amusement"]
    assert [answer.ended for answer in got] == [index < 25 for index in expected["end_idx"]]
    assert all(answer.label_probs is None for answer in got)


def test_stopping_early_changes_no_caption(
    official_model: SEVLM, golden_inputs: dict[str, Tensor], piece_lookup: RowLookup
) -> None:
    grid = golden_inputs["decode/image_grid"][:3]
    all_steps = greedy_tokens(CaptionDecoder(official_model, grid, piece_lookup), stop_when_ended=False)
    stopped = greedy_tokens(CaptionDecoder(official_model, grid, piece_lookup))
    assert stopped.shape[1] < all_steps.shape[1] == 25
    assert torch.equal(stopped, all_steps[:, : stopped.shape[1]])


def test_scripted_tokens_become_the_recorded_captions(official_model: SEVLM, golden: Path) -> None:
    for case in json.loads((golden / "scripted_decode.json").read_text(encoding="utf-8")):
        got = finish_caption(official_model.tokenizer, official_model.config, case["generated_ids"])
        assert (got.text, got.explanation) == (case["caption_full"], case["caption_exp"]), case["case"]


def test_the_last_token_is_kept_in_the_improved_mode_only(official_model: SEVLM) -> None:
    tokenizer = official_model.tokenizer
    tokens = tokenizer.encode(" awe because" + " the" * 22 + " sea")
    assert len(tokens) == 25
    released = finish_caption(tokenizer, official_model.config, tokens)
    improved = finish_caption(tokenizer, dataclasses.replace(official_model.config, keep_last_token=True), tokens)
    assert not released.ended
    assert not improved.ended
    assert improved.text == released.text + " sea"


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"use_vad_features": False},
        {"fusion_boundary": "fixed6"},
        {"causal_vad_encoder": False},
        {"causal_vad_encoder": False, "fusion_boundary": "fixed6"},
    ],
)
def test_cached_decoding_equals_decoding_from_scratch(
    tiny_model: SEVLM, word_lookup: RowLookup, changes: dict[str, object]
) -> None:
    model = with_config(tiny_model, **changes)
    cached, scratch = (CaptionDecoder(model, grid_of(model, 3), word_lookup) for _ in range(2))
    scratch.num_cacheable = lambda: 0  # type: ignore[method-assign]
    steps, expected = ([step.logits for step in greedy_steps(one, False)] for one in (cached, scratch))
    torch.testing.assert_close(torch.stack(steps), torch.stack(expected), atol=1e-4, rtol=1e-4)
    assert torch.equal(cached.generated, scratch.generated)


def test_a_non_causal_model_caches_what_nothing_is_fused_into(
    official_model: SEVLM, tiny_model: SEVLM, piece_lookup: RowLookup
) -> None:
    captions = CaptionDecoder(official_model, torch.zeros(1, 4, 32), piece_lookup)
    greedy_tokens(captions, False)
    assert captions.cached == 6
    by_type = with_config(tiny_model, causal_vad_encoder=False)
    captions = CaptionDecoder(by_type, torch.zeros(2, 4, 12), piece_lookup)
    because = tiny_model.tokenizer.convert_tokens_to_ids("Ġbecause")
    for tokens in ([9, 9], [9, because], [9, 9], [because, 9]):
        captions.append(torch.tensor(tokens))
    prompt = captions.input_ids.shape[1] - 4
    assert captions.num_cacheable() == prompt + 2  # the second row's "because" is the last token before its explanation


def test_decoding_sees_what_training_sees(tiny_model: SEVLM, word_lookup: RowLookup) -> None:
    """In the improved mode one pass over the finished caption gives the scores of every decoding step."""
    captions = CaptionDecoder(tiny_model, grid_of(tiny_model, 2), word_lookup)
    prompt = captions.input_ids.shape[1]
    steps = [step.logits for step in greedy_steps(captions, False)]
    whole = tiny_model(grid_of(tiny_model, 2), captions.input_ids, captions.segment_ids, captions.vad)
    scores = whole.logits[:, prompt - 1 : -1].transpose(0, 1)
    torch.testing.assert_close(torch.stack(steps), scores, atol=1e-4, rtol=1e-4)


def test_answers_do_not_depend_on_the_batch(tiny_model: SEVLM, word_lookup: RowLookup) -> None:
    grid = grid_of(tiny_model, 4)
    together = tiny_model.generate(grid, LABELS, word_lookup)
    alone = [tiny_model.generate(grid[i : i + 1], LABELS, word_lookup)[0] for i in range(4)]
    for first, second in zip(together, alone, strict=True):
        assert first.token_ids == second.token_ids
        assert first.label_probs == pytest.approx(second.label_probs, abs=1e-5)


def test_label_probabilities_are_products_of_decoding_steps(tiny_model: SEVLM, word_lookup: RowLookup) -> None:
    grid, tokenizer = grid_of(tiny_model, 1), tiny_model.tokenizer
    scores = []
    for label in LABELS:
        captions, total = CaptionDecoder(tiny_model, grid, word_lookup), 0.0
        for token in tokenizer.encode(f" {label} because"):
            with torch.no_grad():
                total += captions.next_step().logits[0].log_softmax(-1)[token].item()
            captions.append(torch.tensor([token]))
        scores.append(total)
    expected = torch.tensor(scores).double().softmax(0).tolist()
    (got,) = label_probabilities(CaptionDecoder(tiny_model, grid, word_lookup), LABELS)
    assert list(got) == LABELS
    assert list(got.values()) == pytest.approx(expected, abs=1e-5)
    assert sum(got.values()) == pytest.approx(1)


def test_the_generated_emotion_is_the_most_probable_label_of_an_overfitted_model(
    official_model: SEVLM, golden_inputs: dict[str, Tensor], piece_lookup: RowLookup
) -> None:
    answers = official_model.generate(golden_inputs["decode/image_grid"], [*LABELS, "excitement"], piece_lookup)
    for answer in answers:
        assert answer.label_probs is not None
        assert max(answer.label_probs, key=answer.label_probs.__getitem__) == answer.emotion


@pytest.mark.parametrize("labels", [[], ["awe", "awe"]])
def test_labels_must_be_distinct(tiny_model: SEVLM, word_lookup: RowLookup, labels: list[str]) -> None:
    with pytest.raises(SEVLMError, match="distinct"):
        tiny_model.generate(grid_of(tiny_model, 1), labels, word_lookup)


def test_a_missing_look_up_or_tokenizer_is_refused(tiny_model: SEVLM, word_lookup: RowLookup) -> None:
    with pytest.raises(SEVLMError, match="pass its VAD lexicon"):
        tiny_model.generate(grid_of(tiny_model, 1))
    with pytest.raises(SEVLMError, match="has no tokenizer"):
        SEVLM(tiny_model.config).generate(grid_of(tiny_model, 1), lookup=word_lookup)


def test_generating_leaves_the_training_mode_alone(tiny_model: SEVLM, word_lookup: RowLookup) -> None:
    model = with_config(tiny_model, dropout=0.5)
    expected = model.generate(grid_of(model, 1), None, word_lookup)
    model.train()
    assert model.generate(grid_of(model, 1), None, word_lookup) == expected
    assert model.training


def test_stored_half_precision_features_are_brought_to_the_models_precision(
    tiny_model: SEVLM, word_lookup: RowLookup
) -> None:
    grid = grid_of(tiny_model, 2).half()
    double = with_config(tiny_model).double()
    expected = tiny_model.generate(grid.float(), LABELS, word_lookup)
    for got, wanted in zip(double.generate(grid, LABELS, word_lookup), expected, strict=True):
        assert got.label_probs == pytest.approx(wanted.label_probs, abs=1e-5)
        assert got.text == wanted.text


def test_a_prefix_model_decodes(tiny_model: SEVLM, word_lookup: RowLookup) -> None:
    config = dataclasses.replace(tiny_model.config, prefix_length=2, prefix_dim=5)
    torch.manual_seed(0)
    model = SEVLM(config, tiny_model.tokenizer).eval()
    prefix = torch.randn(2, 5)
    captions = CaptionDecoder(model, grid_of(model, 2), word_lookup, prefix)
    assert captions.input_ids[0, :2].tolist() == [config.prefix_token_id] * 2
    scratch = CaptionDecoder(model, grid_of(model, 2), word_lookup, prefix)
    scratch.num_cacheable = lambda: 0  # type: ignore[method-assign]
    assert torch.equal(greedy_tokens(captions, False), greedy_tokens(scratch, False))


def test_pictures_go_through_the_encoder_that_the_configuration_names(
    tiny_model: SEVLM, word_lookup: RowLookup, tmp_path: Path
) -> None:
    from PIL import Image
    from transformers import CLIPVisionConfig, CLIPVisionModel

    from sevlm.images import load_image_encoder

    tower = CLIPVisionConfig(
        hidden_size=12, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=16
    )
    CLIPVisionModel(tower).save_pretrained(str(tmp_path))
    model = with_config(tiny_model, image_encoder=f"clip:{tmp_path}", image_size=32)
    pictures = [Image.new("RGB", (40, 30), colour) for colour in ("red", "blue")]
    got = model.generate(pictures, LABELS, word_lookup)
    grid = load_image_encoder(model.config).encode(pictures)
    assert got == model.generate(grid, LABELS, word_lookup)
    assert not any("image_encoder" in name for name in model.state_dict())


def test_rows_that_end_leave_the_batch_and_change_nothing(
    official_model: SEVLM, golden_inputs: dict[str, Tensor], piece_lookup: RowLookup
) -> None:
    """Rows end at different steps; each caption is that of its image alone."""
    for changes in ({}, {"causal_vad_encoder": True, "fusion_boundary": "token_type"}):
        model = with_config(official_model, **changes)
        grid = golden_inputs["decode/image_grid"]
        together = model.generate(grid, lookup=piece_lookup)
        assert len({len(one.token_ids) for one in together}) > 2
        for row, one in enumerate(together):
            (alone,) = model.generate(grid[row : row + 1], lookup=piece_lookup)
            assert (alone.token_ids, alone.text) == (one.token_ids, one.text)
            assert alone.vad == pytest.approx(one.vad, abs=1e-5)
