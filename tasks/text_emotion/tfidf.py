"""The default classifier: TF-IDF of words and word pairs, and multinomial logistic regression (scikit-learn)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import Field

from harness.tasks.text_emotion.base import FloatArray, TextClassifier, softmax
from harness.types import Annotation, UserError
from harness.yaml_file import Settings


class TfidfSettings(Settings):
    """Settings of `kind=tfidf`."""

    key_description: ClassVar[str] = "setting"
    min_count: int = Field(default=2, ge=1)
    max_terms: int = Field(default=100_000, ge=1)
    inverse_penalty: float = Field(default=2.0, gt=0)


class TfidfClassifier(TextClassifier):
    """Logistic regression on TF-IDF vectors; deterministic, seconds to minutes on a CPU.

    Args:
        labels: the emotions.
        vocabulary: the words and word pairs, in the order of the columns.
        idf: inverse document frequencies (V,).
        coefficients: weights (L, V).
        intercepts: (L,).
    """

    kind = "tfidf"
    settings_model: ClassVar[type[Settings]] = TfidfSettings

    def __init__(
        self,
        labels: Sequence[str],
        vocabulary: Sequence[str],
        idf: FloatArray,
        coefficients: FloatArray,
        intercepts: FloatArray,
    ) -> None:
        self.labels = tuple(labels)
        self._vocabulary = list(vocabulary)
        self._coefficients, self._intercepts = coefficients, intercepts
        self._vectorizer = _vectorizer(vocabulary=self._vocabulary)
        self._vectorizer.idf_ = idf

    @classmethod
    def fit(
        cls,
        labels: Sequence[str],
        train: Sequence[Annotation],
        val: Sequence[Annotation],
        settings: Mapping[str, Any],
        seed: int,
        device: str | None,
    ) -> Self:
        """Train; there are no epochs and no randomness, so `val`, `seed` and `device` change nothing.

        Raises:
            UserError: fewer than two labels occur, or no word occurs `min_count` times.
        """
        from sklearn.linear_model import LogisticRegression

        del val, seed, device
        vectorizer = _vectorizer(min_df=settings["min_count"], max_features=settings["max_terms"])
        try:
            vectors = vectorizer.fit_transform([u.explanation for u in train])
            model: Any = LogisticRegression(C=settings["inverse_penalty"], max_iter=1000)
            model.fit(vectors, [labels.index(u.emotion) for u in train])
        except ValueError as error:
            raise UserError(f"text-emotion: cannot be trained on these utterances ({error})") from error
        # a label that never occurs gets probability 0
        coefficients = np.zeros((len(labels), model.coef_.shape[1]))
        intercepts = np.full(len(labels), -np.inf)
        if len(model.classes_) == 2:  # scikit-learn keeps the second class's logit only
            coefficients[model.classes_[1]], intercepts[model.classes_] = model.coef_[0], (0.0, model.intercept_[0])
        else:
            coefficients[model.classes_], intercepts[model.classes_] = model.coef_, model.intercept_
        return cls(labels, vectorizer.get_feature_names_out().tolist(), vectorizer.idf_, coefficients, intercepts)

    def probabilities(self, texts: Sequence[str]) -> FloatArray:
        """Probabilities (n, L)."""
        if not texts:
            return np.zeros((0, len(self.labels)))
        vectors = self._vectorizer.transform(texts)  # (n, V), sparse
        return softmax(vectors @ self._coefficients.T + self._intercepts)

    def save(self, folder: Path) -> None:
        """Write the terms as JSON and the numbers as an npz file."""
        (folder / "terms.json").write_text(json.dumps(self._vocabulary, ensure_ascii=False), encoding="utf-8")
        np.savez(
            folder / "weights.npz",
            idf=self._vectorizer.idf_,
            coefficients=self._coefficients,
            intercepts=self._intercepts,
        )

    @classmethod
    def load(cls, folder: Path, labels: Sequence[str], settings: Mapping[str, Any]) -> Self:
        """Read what `save` wrote."""
        del settings
        terms = json.loads((folder / "terms.json").read_text(encoding="utf-8"))
        with np.load(folder / "weights.npz", allow_pickle=False) as weights:
            return cls(labels, terms, weights["idf"], weights["coefficients"], weights["intercepts"])


def _vectorizer(**options: Any) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    # one-letter words count too: "i" tells a feeling from a description
    pattern = r"(?u)\b\w+(?:'\w+)?\b"
    return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=pattern, **options)
