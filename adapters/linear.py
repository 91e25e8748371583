"""The baseline that needs no language model: a regression from image features to the shares of annotators."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, logsumexp, softmax

from harness.adapters.base import LocalAdapter
from harness.adapters.local import open_all
from harness.adapters.nearest import encode_training, load_encoder, pooled
from harness.types import Answer, Example, Failed, ImageError, Item, Outcome, UserError

if TYPE_CHECKING:
    from sevlm.images import ImageEncoder

FloatArray = NDArray[np.float64]

PENALTIES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
"""Weights of the L2 penalty beside the mean cross-entropy that are tried."""
PARTS = 5
"""Of the training images; each in turn says how good a penalty is for a regression on the others."""
META_SCALE = 0.6
"""Of a known `meta` value, beside image features of unit length."""


class Linear(LocalAdapter):
    """Multinomial regression on the same frozen image features that `nearest` uses; answers with labels alone.

    The targets are the shares of each training image's annotators. The L2 penalty is the one with the lowest
    cross-entropy on training images that were left out of the regression, each once; `emotion_probs` are the
    regression's. Training images that cannot be decoded are skipped and counted in `runtime_info()`.

    Args:
        encoder: as for `nearest`.
        meta: a key of the examples' `meta` (`style`, say) that the regression sees beside the image.
        device: torch device of the encoder; by default CUDA if there is one.
    """

    name = "linear"
    kind = "baseline"
    needs = frozenset({"train"})

    def __init__(self, encoder: str = "efficientnet-lite0", meta: str | None = None, device: str | None = None) -> None:
        self.encoder, self.meta, self.device = encoder, meta, device
        if meta is not None:  # what an item does not show
            self.needs = frozenset({"train", "references"})
        self._training: list[Example] = []
        self._told: dict[str, str] = {}  # id -> value of `meta`
        self._network: ImageEncoder | None = None
        self._regression: Regression | None = None
        self._columns: Columns | None = None
        self._found: dict[str, Any] = {}

    def fingerprint(self) -> dict[str, Any]:
        """The rule, the encoder's name and what is seen beside the image."""
        rule = "multinomial regression on mean-pooled frozen features, L2 by cross-validation"
        return {"rule": rule, "encoder": self.encoder, "meta": self.meta, "version": 1}

    def fit(self, examples: Sequence[Example]) -> None:
        """Keep the training examples that hold an annotation."""
        self._training = [example for example in examples if example.annotations]

    def attach(self, examples: Sequence[Example]) -> None:
        """Look up `meta` of what is asked next, and nothing else."""
        self._told = {example.id: example.meta.get(self.meta or "", "") for example in examples}

    def load(self) -> None:
        """Load the encoder, encode the training images and fit the regression.

        Raises:
            UserError: the encoder could not be loaded, no training image can be decoded, or none has `meta`.
        """
        self._network = load_encoder(self.name, self.encoder, self.device)
        known, features = encode_training(self.name, self._network, self._training)
        told = [example.meta.get(self.meta or "", "") for example in known]
        if self.meta is not None and not any(told):
            raise UserError(f"linear:meta={self.meta}: no training image has it")
        self._columns = Columns(features.numpy().astype(np.float64).mean(0), sorted(set(told) - {""}))
        labels = sorted({label for example in known for label, count in example.emotion_histogram.items() if count})
        shares = np.array([example.distribution(labels) for example in known])
        self._regression, penalty = best_regression(self._columns(features.numpy(), told), shares, labels)
        skipped = len(self._training) - len(known)
        self._found = {"training_pictures": len(known), "skipped": skipped, "penalty": penalty}

    def parameters(self) -> int | None:
        """Those of the frozen encoder and of the regression."""
        if self._network is None or self._regression is None:
            return None
        weights, biases, _ = self._regression
        return sum(p.numel() for p in self._network.parameters()) + weights.size + biases.size

    def runtime_info(self) -> dict[str, Any]:
        """Training images used and skipped, the penalty chosen, and the encoder's digest."""
        digest = self._network.fingerprint() if self._network is not None else None
        return self._found | {"encoder_sha256": digest}

    def close(self) -> None:
        """Free encoder and regression."""
        self._network = self._regression = None

    def predict(self, items: Sequence[Item]) -> list[Outcome]:
        """The most probable label of each item; `Failed` for an image that cannot be decoded."""
        if self._network is None or self._regression is None or self._columns is None:
            raise UserError("linear answers only after fit(training examples) and load()")
        images = open_all([item.image for item in items])
        seen = [(item, image) for item, image in zip(items, images, strict=True) if not isinstance(image, ImageError)]
        answers: Iterator[Answer] = iter(())
        if seen:
            features = pooled(self._network, [image for _, image in seen]).numpy()
            rows = self._columns(features, [self._told.get(item.id, "") for item, _ in seen])
            answers = map(self._regression.answer, rows)
        return [
            Failed("ImageError", str(image)) if isinstance(image, ImageError) else next(answers) for image in images
        ]


class Columns(NamedTuple):
    """What the regression sees of an image: its features about their training mean, and which `meta` value it has."""

    mean: FloatArray
    values: list[str]

    def __call__(self, features: NDArray[Any], told: Sequence[str]) -> FloatArray:
        """(N, E) features and N values, empty where unknown -> (N, E + values)."""
        known = np.array([[value == one for one in self.values] for value in told], dtype=np.float64)
        return np.hstack([features - self.mean, META_SCALE * known.reshape(len(told), -1)])


class Regression(NamedTuple):
    """A fitted multinomial regression: weights (D, K), biases (K,) and the K labels."""

    weights: FloatArray
    biases: FloatArray
    labels: Sequence[str]

    def log_probabilities(self, inputs: FloatArray) -> FloatArray:
        """(N, D) -> (N, K)."""
        found: FloatArray = log_softmax(inputs @ self.weights + self.biases, axis=1)
        return found

    def answer(self, row: FloatArray) -> Answer:
        """The label of one row (D,), without an explanation."""
        shares = np.exp(self.log_probabilities(row[None])[0])
        probabilities = dict(zip(self.labels, shares.tolist(), strict=True))
        emotion = max(probabilities, key=lambda label: probabilities[label])
        return Answer(emotion, "", probabilities, raw=emotion)


def best_regression(inputs: FloatArray, shares: FloatArray, labels: Sequence[str]) -> tuple[Regression, float]:
    """The regression on all rows with the penalty that predicts left-out rows best, and that penalty.

    The rows are taken apart in the order given, as cards are dealt; a single row takes the middle penalty.
    """
    number = min(PARTS, len(inputs))
    part = np.arange(len(inputs)) % number

    def left_out(penalty: float) -> float:
        losses = []
        for one in range(number):
            out = part == one
            found = fit_regression(inputs[~out], shares[~out], labels, penalty)
            losses.append(-(shares[out] * found.log_probabilities(inputs[out])).sum())
        return float(sum(losses))

    penalty = min(PENALTIES, key=left_out) if number > 1 else PENALTIES[len(PENALTIES) // 2]
    return fit_regression(inputs, shares, labels, penalty), penalty


def fit_regression(inputs: FloatArray, shares: FloatArray, labels: Sequence[str], penalty: float) -> Regression:
    """Minimise mean cross-entropy + penalty / 2 * sum of squared weights by L-BFGS; the biases go free.

    Args:
        inputs: (N, D).
        shares: (N, K), each row summing to 1.
        labels: K names.
        penalty: weight of the squares.
    """
    (count, width), kinds = inputs.shape, shares.shape[1]

    def objective(flat: FloatArray) -> tuple[float, FloatArray]:
        weights, biases = flat[: width * kinds].reshape(width, kinds), flat[width * kinds :]
        scores = inputs @ weights + biases
        loss = (logsumexp(scores, axis=1) - (shares * scores).sum(1)).mean() + penalty / 2 * (weights**2).sum()
        wrong = (softmax(scores, axis=1) - shares) / count
        return float(loss), np.concatenate([(inputs.T @ wrong + penalty * weights).ravel(), wrong.sum(0)])

    start = np.zeros((width + 1) * kinds)
    done = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 1000})
    return Regression(done.x[: width * kinds].reshape(width, kinds), done.x[width * kinds :], labels)
