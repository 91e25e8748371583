from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from adapter_samples import Picture, example, item
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from transformers import CLIPVisionModel

from harness.adapters.linear import PENALTIES, Linear, best_regression, fit_regression
from harness.types import Answer, Example, Failed, UserError

LABELS = ("awe", "fear", "sadness")


def drawn(count: int = 90, width: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and shares of four annotators that depend on them."""
    generator = np.random.default_rng(seed)
    inputs = generator.normal(size=(count, width))
    chances = softmax(inputs @ generator.normal(size=(width, len(LABELS))), axis=1)
    return inputs, np.array([generator.multinomial(4, row) for row in chances]) / 4


def by_sklearn(inputs: np.ndarray, shares: np.ndarray, penalty: float) -> LogisticRegression:
    """Soft targets as rows of one label each, weighted by its share; C counts rows where our penalty averages."""
    rows, labels = np.repeat(inputs, len(LABELS), axis=0), np.tile(np.arange(len(LABELS)), len(inputs))
    model = LogisticRegression(C=1 / (penalty * len(inputs)), tol=1e-6, max_iter=1000)
    return model.fit(rows, labels, sample_weight=shares.ravel())


@pytest.mark.parametrize("penalty", [1e-3, 1e-1])
def test_the_regression_is_that_of_sklearn(penalty: float) -> None:
    inputs, shares = drawn()
    found = np.exp(fit_regression(inputs, shares, LABELS, penalty).log_probabilities(inputs))
    np.testing.assert_allclose(found, by_sklearn(inputs, shares, penalty).predict_proba(inputs), atol=2e-4)


def test_the_penalty_predicts_left_out_rows_best() -> None:
    inputs, shares = drawn(60, 6, seed=3)
    left_out = {}
    for penalty in PENALTIES:
        losses = []
        for part in range(5):
            out = np.arange(len(inputs)) % 5 == part
            probabilities = by_sklearn(inputs[~out], shares[~out], penalty).predict_proba(inputs[out])
            losses.append(-(shares[out] * np.log(probabilities)).sum())
        left_out[penalty] = sum(losses)
    regression, penalty = best_regression(inputs, shares, LABELS)
    assert penalty == min(left_out, key=left_out.__getitem__)
    assert regression.weights.shape == (6, 3)


@pytest.fixture
def training(picture: Picture) -> list[Example]:
    """Red images are feared by two of three, blue ones are not; each image of its own style but the last."""
    found = []
    for number in range(6):
        red = picture((200 + 10 * number, 5, 5), f"red{number}.png")
        blue = picture((5, 5, 200 + 10 * number), f"blue{number}.png")
        found.append(example(red.name, red, ("fear", "blood"), ("awe", "glow"), ("fear", "fire")))
        found.append(example(blue.name, blue, ("contentment", "sea"), ("awe", "sky")))
    return found


@pytest.fixture
def fitted(training: list[Example], clip: str) -> Linear:
    adapter = Linear(clip, device="cpu")
    adapter.fit(training)
    adapter.load()
    return adapter


def test_labels_and_shares_without_an_explanation(fitted: Linear, picture: Picture, corrupt: Path, clip: str) -> None:
    asked = [item("a", picture((255, 0, 0), "a.png")), item("b", corrupt), item("c", picture((0, 0, 255), "c.png"))]
    red, failed, blue = fitted.predict(asked)
    assert isinstance(red, Answer)
    assert (red.emotion, red.explanation) == ("fear", "")
    assert red.emotion_probs == pytest.approx({"fear": 2 / 3, "awe": 1 / 3, "contentment": 0}, abs=0.1)
    assert sum(red.emotion_probs.values()) == pytest.approx(1)
    assert isinstance(blue, Answer)
    assert blue.emotion_probs == pytest.approx({"fear": 0, "awe": 1 / 2, "contentment": 1 / 2}, abs=0.1)
    assert isinstance(failed, Failed)
    assert failed.error_type == "ImageError"
    assert fitted.runtime_info()["training_pictures"] == 12
    assert (
        fitted.parameters()
        == sum(p.numel() for p in CLIPVisionModel.from_pretrained(clip.removeprefix("clip:")).parameters()) + 33 * 3
    )


def test_meta_decides_where_images_are_alike(picture: Picture, corrupt: Path, clip: str) -> None:
    grey = picture("grey", "grey.png")

    def styled(identifier: str, emotion: str, **meta: str) -> Example:
        return dataclasses.replace(example(identifier, grey, (emotion, "because")), meta=meta)

    training = [styled(f"{n}", "fear" if n % 2 else "awe", style="gothic" if n % 2 else "rococo") for n in range(30)]
    adapter = Linear(clip, meta="style", device="cpu")
    adapter.fit([*training, dataclasses.replace(training[0], id="bad", image=corrupt)])
    adapter.load()
    assert adapter.runtime_info()["skipped"] == 1
    adapter.attach([styled("x", "awe", style="gothic"), styled("y", "fear", style="rococo"), styled("z", "awe")])
    found = adapter.predict([item(name, grey) for name in "xyz"])
    assert [outcome.emotion for outcome in found[:2] if isinstance(outcome, Answer)] == ["fear", "awe"]
    unknown = found[2]
    assert isinstance(unknown, Answer)
    assert unknown.emotion_probs == pytest.approx({"awe": 0.5, "fear": 0.5}, abs=0.01)
    school = Linear(clip, meta="school", device="cpu")
    school.fit(training)
    with pytest.raises(UserError, match="linear:meta=school: no training image has it"):
        school.load()
