"""The label head: what it computes, what it learns from, and how it decides what the decoder explains."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import softmax
from tiny_training import LEXICON, make_examples, save_tower, tiny_recipe
from torch.nn import functional as F

from sevlm import SEVLM
from sevlm.config import SEVLMConfig, SEVLMError
from sevlm.data import TrainingExample, closeness
from sevlm.generation import mixed
from sevlm.images import load_image_encoder, open_image
from sevlm.model import LABEL_GAIN, META_GAIN, LabelHead, LabelTargets, one_hot_meta
from sevlm.train import build_optimizer, train
from sevlm.vad import VADLookup

LABELS = ("awe", "fear", "sadness")
STYLES = ("gothic", "rococo")


@pytest.fixture
def model(tiny_config: SEVLMConfig, tiny_model: SEVLM) -> SEVLM:
    """The tiny model with a head of random weights."""
    config = dataclasses.replace(tiny_config, labels=LABELS, label_meta="style", meta_values=STYLES)
    torch.manual_seed(0)
    model = SEVLM(config, tiny_model.tokenizer)
    assert model.label_head is not None
    for parameter in model.label_head.parameters():
        torch.nn.init.normal_(parameter)
    return model.eval()


def test_scores_are_those_worked_out_by_hand(model: SEVLM) -> None:
    head, grid = model.label_head, torch.randn(4, 5, 12)
    assert isinstance(head, LabelHead)
    assert head.told is not None
    told = one_hot_meta(model.config, ["gothic", "", "rococo", "cubism"])
    patches, query = grid.numpy(), head.query.detach().numpy()
    weights = softmax(patches @ query / 12**0.5, axis=1)
    pooled = (weights[:, :, None] * patches).sum(1)
    pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
    wanted = LABEL_GAIN * pooled @ head.labels.weight.detach().numpy().T + head.labels.bias.detach().numpy()
    columns = head.told.weight.detach().numpy().T
    wanted += META_GAIN * np.stack([columns[0], 0 * columns[0], columns[1], 0 * columns[0]])
    np.testing.assert_allclose(head(grid, told).detach().numpy(), wanted, rtol=1e-4, atol=1e-4)


def test_an_untrained_head_prefers_nothing(model: SEVLM) -> None:
    scores = LabelHead(model.config)(torch.randn(2, 5, 12), one_hot_meta(model.config, STYLES))
    assert not scores.any()


def test_the_loss_is_cross_entropy_with_shares(model: SEVLM, golden_inputs: dict[str, torch.Tensor]) -> None:
    assert model.label_head is not None
    grid, told = torch.randn(2, 5, 12), one_hot_meta(model.config, ["gothic", "rococo"])
    shares = torch.tensor([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0]])
    ids = torch.tensor([[model.config.bos_token_id, 5, 6, 7]] * 2)
    segments = torch.full_like(ids, model.config.explanation_token_id)
    found = model(grid, ids, segments, torch.zeros(2, 4, 3), ids, label_targets=LabelTargets(shares, told))
    assert found.label_loss is not None
    torch.testing.assert_close(found.label_loss, F.cross_entropy(model.label_head(grid, told), shares))
    without = model(grid, ids, segments, torch.zeros(2, 4, 3), ids)
    torch.testing.assert_close(found.loss, without.loss + found.label_loss)


def test_the_mixture_is_a_mean_flattened_by_temperature() -> None:
    head, decoder = np.array([[0.7, 0.2, 0.1]]), np.array([[0.1, 0.8, 0.1]])
    found = mixed(torch.tensor(head), torch.tensor(decoder), 0.75, 2.0).numpy()
    mean = (0.75 * head + 0.25 * decoder) ** 0.5
    np.testing.assert_allclose(found, mean / mean.sum(), rtol=1e-6)


def test_smoothed_targets_go_to_near_labels(tiny_config: SEVLMConfig) -> None:
    values = {"calm": (0.6, -0.6, 0.2), "joy": (0.8, 0.4, 0.4), "fear": (-0.7, 0.6, -0.4)}

    def lookup(words: list[str]) -> torch.Tensor:
        return torch.tensor([values.get(word, (0.0, 0.0, 0.0)) for word in words])

    config = dataclasses.replace(tiny_config, labels=("calm", "fear", "joy", "odd"), label_smoothing=0.4)
    found = closeness(config, lookup).numpy()  # type: ignore[arg-type]
    distance = (
        np.linalg.norm(np.subtract(values["calm"], values["joy"])),
        np.linalg.norm(np.subtract(values["calm"], values["fear"])),
    )
    near = np.exp([-4 * part**2 for part in (0.0, *distance)])
    np.testing.assert_allclose(
        found[0], np.array([0.6, 0, 0, 0]) + 0.4 * np.append(near[[0, 2, 1]] / near.sum(), 0), rtol=1e-5
    )
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)
    assert found[3].tolist() == [0, 0, 0, 1]
    assert torch.equal(closeness(dataclasses.replace(config, label_smoothing=0.0), lookup), torch.eye(4))  # type: ignore[arg-type]


def test_the_most_probable_label_is_explained(model: SEVLM) -> None:
    grid = torch.randn(6, 5, 12)
    lookup: VADLookup = lambda words: torch.zeros(len(words), 3)  # type: ignore[assignment]  # noqa: E731
    found = model.generate(grid, LABELS, lookup, meta=["gothic"] * 6)
    for one in found:
        assert one.label_probs is not None
        assert one.emotion == max(one.label_probs, key=one.label_probs.__getitem__)
        assert one.text.startswith(f"{one.emotion} because")
        assert sum(one.label_probs.values()) == pytest.approx(1)
    assert [one.text for one in model.generate(grid, None, lookup, meta=["gothic"] * 6)] == [one.text for one in found]
    model.config = dataclasses.replace(model.config, label_blend=1.0)
    assert model.label_head is not None
    alone = model.label_head(grid, one_hot_meta(model.config, ["gothic"] * 6)).softmax(dim=1)
    told = model.generate(grid, LABELS, lookup, meta=["gothic"] * 6)
    probabilities = torch.tensor([list(one.label_probs.values()) for one in told if one.label_probs])
    torch.testing.assert_close(probabilities, alone.detach().to(probabilities), rtol=1e-4, atol=1e-5)


def test_labels_that_the_head_never_saw_keep_the_decoders_probability(model: SEVLM) -> None:
    grid = torch.randn(2, 5, 12)
    lookup: VADLookup = lambda words: torch.zeros(len(words), 3)  # type: ignore[assignment]  # noqa: E731
    asked = ("joy", *LABELS)
    mixture = model.generate(grid, asked, lookup)
    model.config = dataclasses.replace(model.config, label_blend=0.0)
    decoder = model.generate(grid, asked, lookup)
    for one, other in zip(mixture, decoder, strict=True):
        assert one.label_probs is not None
        assert other.label_probs is not None
        assert one.label_probs["joy"] == pytest.approx(other.label_probs["joy"])
        assert sum(one.label_probs.values()) == pytest.approx(1)


def test_the_head_has_its_own_rate_and_decay(model: SEVLM) -> None:
    optimizer = build_optimizer(model, 1e-5, 2e-5, 0.1, label_head=(1e-3, 1.0))
    assert model.label_head is not None
    own = {id(parameter) for parameter in model.label_head.parameters()}
    groups = [group for group in optimizer.param_groups if own & {id(p) for p in group["params"]}]
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [(1e-3, 1.0), (1e-3, 0.0)]
    assert {id(p) for group in groups for p in group["params"]} == own


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("label_head")
    save_tower(folder / "tower")
    (folder / "lexicon.txt").write_text(LEXICON, encoding="utf-8")
    return folder


def styled(folder: Path) -> list[TrainingExample]:
    """Gothic squares are feared, rococo ones are not; the colours say nothing."""
    found = []
    for number, example in enumerate(make_examples(folder)):
        style, emotion = ("gothic", "fear") if number % 4 < 2 else ("rococo", "awe")
        found.append(dataclasses.replace(example, histogram={emotion: 4}, meta={"style": style}))
    return found


@pytest.mark.slow
def test_training_learns_from_meta_and_calibrates_on_validation(folder: Path, tmp_path: Path) -> None:
    settings = {"label_meta": "style", "label_learning_rate": 0.1, "label_weight_decay": 0.0, "epochs": 10}
    recipe = tiny_recipe(folder / "tower", folder / "lexicon.txt", folder / "features", **settings)
    examples = styled(folder)
    summary = train(recipe, examples[2:], examples[:2], tmp_path / "out", "cpu", progress=False)
    model = SEVLM.from_pretrained(tmp_path / "out", lexicon=folder / "lexicon.txt")
    assert model.config.labels == ("awe", "fear")
    assert model.config.meta_values == ("gothic", "rococo")
    kept = summary["kept_scores"]
    assert (model.config.label_blend, model.config.label_temperature) == (
        kept["label_blend"],
        kept["label_temperature"],
    )
    assert kept["cross_entropy"] < np.log(2)
    grid = load_image_encoder(model.config).encode([_white(), _white()])
    told = model.generate(grid, ["awe", "fear"], meta=["gothic", "rococo"])
    assert [one.emotion for one in told] == ["fear", "awe"]
    assert "`label_meta`" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_smoothing_changes_what_the_head_learns_and_not_what_it_is_measured_by(folder: Path, tmp_path: Path) -> None:
    lexicon = tmp_path / "lexicon.txt"
    lexicon.write_text(LEXICON + "awe\t0.5\t0.3\t0.1\nfear\t0.4\t0.2\t0.1\n", encoding="utf-8")
    settings = {"label_meta": "style", "label_learning_rate": 0.1, "label_weight_decay": 0.0, "epochs": 10}
    recipe = tiny_recipe(folder / "tower", lexicon, folder / "features", label_smoothing=0.5, **settings)
    examples = styled(folder)
    summary = train(recipe, examples[2:], examples[:2], tmp_path / "out", "cpu", progress=False)
    assert "label_blend" not in summary["departures_from_published"]
    model = SEVLM.from_pretrained(tmp_path / "out", lexicon=lexicon)
    images = [open_image(example.image_path) for example in examples[:2]]
    answers = model.generate(images, ["awe", "fear"], meta=[example.meta["style"] for example in examples[:2]])
    losses = [
        -np.log(answer.label_probs[example.dominant_emotion or ""])
        for answer, example in zip(answers, examples[:2], strict=True)
        if answer.label_probs is not None
    ]
    assert summary["kept_scores"]["cross_entropy"] == pytest.approx(np.mean(losses), abs=1e-3)


def _white() -> object:
    from PIL import Image

    return Image.new("RGB", (32, 32), "white")


@pytest.mark.slow
def test_without_a_head_nothing_of_it_is_there(folder: Path, tmp_path: Path) -> None:
    off = {"use_label_head": False, "epochs": 1}
    recipe = tiny_recipe(folder / "tower", folder / "lexicon.txt", folder / "features", **off)
    train(recipe, make_examples(folder), [], tmp_path / "out", "cpu", progress=False)
    model = SEVLM.from_pretrained(tmp_path / "out", lexicon=folder / "lexicon.txt")
    assert model.label_head is None
    assert model.config.labels == ()
    assert SEVLMConfig.official().use_label_head is False


def test_meta_that_no_image_has_is_refused(folder: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(folder / "tower", folder / "lexicon.txt", folder / "features", label_meta="school")
    with pytest.raises(SEVLMError, match="no training image has 'school'"):
        train(recipe, make_examples(folder), [], tmp_path / "out", "cpu", progress=False)
