from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import pytest
import torch

from sevlm.checkpoint import SEVLM
from sevlm.config import SEVLMConfig, SEVLMError
from sevlm.model import (
    Negatives,
    SEVLMOutput,
    SoftLabels,
    contrastive_loss,
    count_losses,
    counted_values,
    lm_loss,
    masked_mean,
    vad_loss,
)
from sevlm.tokenization import encode_caption

ALL = torch.ones(3, dtype=torch.bool)


@pytest.fixture
def many_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(threads)


def test_lm_loss_of_a_hand_computed_table() -> None:
    logits = torch.log(torch.tensor([[[0.5, 0.25, 0.25], [0.1, 0.2, 0.7], [1.0, 1.0, 1.0]]]))
    labels = torch.tensor([[-100, 1, 2]])
    assert lm_loss(logits, labels).item() == pytest.approx(-(math.log(0.25) + math.log(0.7)) / 2)
    assert lm_loss(logits, torch.tensor([[0, -100, 2]])).item() == pytest.approx(-math.log(0.7))
    assert lm_loss(logits, torch.full((1, 3), -100)).item() == 0


def test_soft_labels_replace_the_label_of_their_position() -> None:
    probabilities = torch.tensor([[[0.5, 0.25, 0.25], [0.1, 0.2, 0.7], [0.3, 0.3, 0.4]]])
    soft = SoftLabels(torch.tensor([0, 0]), torch.tensor([1, 1]), torch.tensor([1, 0]), torch.tensor([0.75, 0.25]))
    expected = -(0.75 * math.log(0.25) + 0.25 * math.log(0.5) + math.log(0.7)) / 2
    labels = torch.tensor([[-100, 1, 2]])
    assert lm_loss(probabilities.log(), labels, soft).item() == pytest.approx(expected)
    assert labels.tolist() == [[-100, 1, 2]]


def test_gradients_do_not_depend_on_which_thread_is_first(many_threads: None) -> None:
    generator = torch.Generator().manual_seed(0)
    draws = {"generator": generator}
    labels = torch.randint(0, 500, (16, 8), **draws)
    row, position = torch.arange(16).repeat(30), torch.ones(480, dtype=torch.long)
    soft = SoftLabels(row, position, torch.randint(0, 500, (480,), **draws), torch.rand(480, **draws))
    logits = torch.randn(16, 8, 500, **draws)

    def gradient() -> torch.Tensor:
        leaf = logits.clone().requires_grad_()
        lm_loss(leaf, labels, soft).backward()
        assert leaf.grad is not None
        return leaf.grad

    first = gradient()
    assert all(torch.equal(gradient(), first) for _ in range(40))


def test_losses_of_parts_divided_by_the_counts_of_all_add_up(tiny_model: SEVLM) -> None:
    whole = batch(tiny_model)
    whole["image_grid"] = whole["image_grid"][:2]
    counts = count_losses(tiny_model.config, whole["labels"], whole["segment_ids"], whole["vad"], None)
    total = tiny_model(**whole).loss
    halves = []
    for picture, part in enumerate((slice(0, 2), slice(2, 4))):
        half = {name: value[part] for name, value in whole.items()}
        half["image_grid"] = whole["image_grid"][picture : picture + 1]
        halves.append(tiny_model(**half, counts=counts).loss)
    torch.testing.assert_close(sum(halves), total)


def test_contrastive_loss_equals_the_released_formula() -> None:
    positive, negatives = torch.tensor([1.0, -2.0]), torch.tensor([[0.5, 0.1], [3.0, -1.0]])
    exponentials = negatives.exp().sum(1)
    released = -torch.log(1e-8 + positive.exp() / (1e-8 + positive.exp() + exponentials))
    assert contrastive_loss(positive, negatives).item() == pytest.approx(released.mean().item(), abs=1e-6)


def test_contrastive_loss_survives_scores_whose_exponential_overflows() -> None:
    loss = contrastive_loss(torch.tensor([200.0]), torch.tensor([[199.0, 100.0]]))
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-1)), abs=1e-5)


def test_vad_loss_leaves_unknown_words_and_masked_positions_out() -> None:
    predicted = torch.tensor([[[0.5, 0.0, 0.0], [9.0, 9.0, 9.0], [9.0, 9.0, 9.0], [0.0, 0.0, 1.0]]])
    target = torch.tensor([[[0.0, 0.0, 0.3], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.0, 0.0, -1.0]]])
    mask = torch.tensor([[True, True, False, True]])
    expected = (0.25 + 0.09 + 4.0) / 6
    assert vad_loss(predicted, target, counted_values(target, mask, ALL)).item() == pytest.approx(expected)


def test_vad_loss_counts_known_dimensions_only() -> None:
    predicted, target = torch.tensor([[[1.0, 5.0, 5.0], [2.0, 5.0, 5.0]]]), torch.tensor([[[0.5, 0, 0], [0, 0, 0.9]]])
    mask = torch.ones(1, 2, dtype=torch.bool)
    known = torch.tensor([True, False, False])
    assert vad_loss(predicted, target, counted_values(target, mask, known)).item() == pytest.approx(0.25)


def test_vad_loss_of_nothing_is_zero_and_has_a_gradient() -> None:
    predicted = torch.randn(1, 2, 3, requires_grad=True)
    target = torch.zeros(1, 2, 3)
    loss = vad_loss(predicted, target, counted_values(target, torch.ones(1, 2, dtype=torch.bool), ALL))
    loss.backward()
    assert loss.item() == 0
    assert predicted.grad is not None
    assert predicted.grad.abs().max() == 0


def test_masked_mean() -> None:
    states = torch.tensor([[[1.0], [2.0], [6.0]], [[1.0], [2.0], [6.0]]])
    mask = torch.tensor([[True, False, True], [False, False, False]])
    assert masked_mean(states, mask).tolist() == [[3.5], [0.0]]


def batch(model: SEVLM) -> dict[str, torch.Tensor]:
    captions = [
        ("awe", "the waves look like mountains"),
        ("fear", "the dark sea"),
        ("something else", "i do not know"),
        ("amusement", "the fat cat looks like a king"),
    ]
    rows = [encode_caption(model.tokenizer, model.config, *caption) for caption in captions]
    generator = torch.Generator().manual_seed(1)
    vad = torch.rand(4, model.config.max_length, 3, generator=generator) * 2 - 1
    return {
        "image_grid": torch.randn(4, 6, model.config.encoder_dim, generator=generator),
        "input_ids": torch.tensor([row.input_ids for row in rows]),
        "segment_ids": torch.tensor([row.segment_ids for row in rows]),
        "labels": torch.tensor([row.labels for row in rows]),
        "vad": vad,
    }


NEGATIVES = Negatives(torch.tensor([1, 0, 3, 2]), torch.tensor([2, 3, 0, 1]))


def variant(model: SEVLM, **changes: object) -> SEVLM:
    """The same weights under another configuration."""
    other = SEVLM(dataclasses.replace(model.config, **changes), model.tokenizer)  # type: ignore[arg-type]
    other.load_state_dict(model.state_dict(), strict=False)
    return other.eval()


def losses(output: SEVLMOutput) -> list[float]:
    parts = (output.lm_loss, output.contrastive_loss, output.vad_loss)
    return [part.item() for part in parts if part is not None]


def test_the_total_is_the_sum_of_its_weighted_parts(tiny_model: SEVLM) -> None:
    inputs = batch(tiny_model)
    plain = tiny_model(**inputs, negatives=NEGATIVES)
    assert plain.loss.item() == pytest.approx(sum(losses(plain)), rel=1e-6)
    weights = {"lm_loss_weight": 0.5, "contrastive_loss_weight": 2.0, "vad_loss_weight": 0.25}
    weighted = variant(tiny_model, **weights)(**inputs, negatives=NEGATIVES)
    expected = [part * weight for part, weight in zip(losses(plain), weights.values(), strict=True)]
    assert losses(weighted) == pytest.approx(expected, rel=1e-6)


def test_means_do_not_move_with_padding_unless_the_released_rule_is_asked_for(tiny_model: SEVLM) -> None:
    short = batch(tiny_model)
    long = batch(variant(tiny_model, max_length=40))
    states = torch.randn(4, 40, tiny_model.config.n_embd)

    def explanation(model: SEVLM, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        length = inputs["input_ids"].shape[1]
        return model.part_means(states[:, :length], inputs["input_ids"], inputs["segment_ids"])[1]

    torch.testing.assert_close(explanation(tiny_model, short), explanation(tiny_model, long))
    official = variant(tiny_model, mask_padding_in_means=False)
    assert (explanation(official, short) - explanation(official, long)).abs().max() > 0.1
    explained = slice(6, int((short["input_ids"][1] != tiny_model.config.pad_token_id).sum()))  # "fear" is one token
    torch.testing.assert_close(explanation(tiny_model, short)[1], states[1, explained].mean(0))


def test_switching_everything_off_leaves_the_language_model(tiny_config: SEVLMConfig, tiny_model: SEVLM) -> None:
    off = {"use_vad_features": False, "use_vad_head": False, "use_contrastive_head": False}
    model = variant(tiny_model, **off)
    inputs = batch(model)
    del inputs["vad"]
    output = model(**inputs, negatives=NEGATIVES)
    assert set(model.parameter_counts()) == {"decoder", "cross_attention", "image_projection", "total"}
    assert (output.contrastive_loss, output.vad_loss) == (None, None)
    assert output.loss.item() == output.lm_loss.item()


def test_without_negatives_there_is_no_contrastive_loss(tiny_model: SEVLM) -> None:
    assert tiny_model(**batch(tiny_model)).contrastive_loss is None


def test_a_causal_model_cannot_read_its_vad_target(tiny_model: SEVLM) -> None:
    inputs = batch(tiny_model)
    changed = dict(inputs, vad=inputs["vad"].clone())
    changed["vad"][:, 12:] *= -1
    before, after = tiny_model(**inputs).logits, tiny_model(**changed).logits
    torch.testing.assert_close(after[:, :12], before[:, :12])
    assert (after[:, 12:] - before[:, 12:]).abs().max() > 1e-3
    leaking = variant(tiny_model, causal_vad_encoder=False)
    assert (leaking(**changed).logits[:, 8:12] - leaking(**inputs).logits[:, 8:12]).abs().max() > 1e-4


def test_missing_vad_values_are_refused(tiny_model: SEVLM) -> None:
    inputs = batch(tiny_model)
    del inputs["vad"]
    with pytest.raises(SEVLMError, match="pass vad"):
        tiny_model(**inputs)
    with pytest.raises(SEVLMError, match="VAD head"):
        variant(tiny_model, use_vad_features=False)(**inputs)
