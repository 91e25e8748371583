"""The text-to-emotion classifiers: what they learn, that they come back from disk, and that they refuse nonsense."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from harness.tasks.text_emotion.checkpoint import RECORD, TrainedClassifier, load, save, train_classifier
from harness.tasks.text_emotion.lstm import Vocabulary, tokenise
from harness.types import Annotation, UserError

pytestmark = pytest.mark.slow

LABELS = ("joy", "calm", "fear")
TELLING = {"joy": ["bright", "dance", "sun"], "calm": ["still", "soft", "lake"], "fear": ["dark", "teeth", "storm"]}
SMALL: dict[str, dict[str, Any]] = {
    "tfidf": {},
    "lstm": {"kind": "lstm", "width": 16, "epochs": 12, "batch_size": 32, "min_count": 1, "learning_rate": 0.02},
}


def utterances(number: int, seed: int) -> list[Annotation]:
    """Sentences with one telling word among five that tell nothing."""
    chance = random.Random(seed)
    found = []
    for _ in range(number):
        label = chance.choice(LABELS)
        words = [*chance.choices(["the", "a", "of", "in", "it", "I"], k=5), chance.choice(TELLING[label])]
        chance.shuffle(words)
        found.append(Annotation(label, " ".join(words) + "."))
    return found


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("encoder")
    words = sorted({word for u in utterances(300, 0) for word in tokenise(u.explanation)})
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=len(words) + 5, hidden_dropout_prob=0.0, **sizes)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def trained(encoder: Path) -> Callable[[str], TrainedClassifier]:
    made: dict[str, TrainedClassifier] = {}

    def train(kind: str) -> TrainedClassifier:
        if kind not in made:
            tuned = {"kind": "encoder", "encoder": str(encoder), "epochs": 20, "learning_rate": 0.005}
            settings = SMALL.get(kind, tuned)
            parts = utterances(300, 1), utterances(60, 2), utterances(100, 3)
            made[kind] = train_classifier(LABELS, *parts, settings, device="cpu")
        return made[kind]

    return train


@pytest.mark.parametrize("kind", ["tfidf", "lstm", "encoder"])
def test_each_strength_learns_and_comes_back(
    kind: str, trained: Callable[[str], TrainedClassifier], tmp_path: Path
) -> None:
    made = trained(kind)
    assert made.record["test_accuracy"] > 0.9
    assert (made.record["train_utterances"], made.record["test_utterances"]) == (300, 100)
    texts = ["dark teeth", "the soft lake", "", "a sun \ud83d \u2028 storm"]
    probabilities = made.probabilities([t.encode("utf-8", "replace").decode() for t in texts])
    np.testing.assert_allclose(probabilities.sum(1), 1)
    assert [LABELS[i] for i in probabilities[:2].argmax(1)] == ["fear", "calm"]
    save(made, tmp_path / "deep" / "made")
    save(made, tmp_path / "deep" / "made")  # replaces itself
    again = load(tmp_path / "deep" / "made")
    assert again.record == made.record
    np.testing.assert_allclose(again.probabilities(texts[:3]), probabilities[:3], atol=1e-6)
    assert again.probabilities([]).shape == (0, 3)


def test_the_default_is_scikit_learns_own_pipeline(trained: Callable[[str], TrainedClassifier]) -> None:
    vectorizer = TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, min_df=2, token_pattern=r"(?u)\b\w+(?:'\w+)?\b", max_features=100_000
    )
    notes = utterances(300, 1)
    vectors = vectorizer.fit_transform([u.explanation for u in notes])
    model = LogisticRegression(C=2.0, max_iter=1000).fit(vectors, [u.emotion for u in notes])
    texts = [u.explanation for u in utterances(40, 9)]
    expected = model.predict_proba(vectorizer.transform(texts))[:, [list(model.classes_).index(e) for e in LABELS]]
    np.testing.assert_allclose(trained("tfidf").probabilities(texts), expected, atol=1e-9)


def test_labels_that_never_occur_get_no_probability() -> None:
    two = [note for note in utterances(200, 1) if note.emotion != "calm"]
    made = train_classifier(LABELS, two, (), ())
    assert made.record["test_accuracy"] is None
    probabilities = made.probabilities(["dark", "bright"])
    assert (probabilities[:, 1] == 0).all()
    assert probabilities.argmax(1).tolist() == [2, 0]


def test_the_same_utterances_give_the_same_fingerprint() -> None:
    first, again = (train_classifier(LABELS, utterances(80, 1), (), ()).record["sha256"] for _ in range(2))
    assert first == again
    assert train_classifier(LABELS, utterances(80, 2), (), ()).record["sha256"] != first


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "svm"}, "expected one of tfidf, lstm, encoder"),
        ({"epochs": 3}, "kind=tfidf: unknown setting 'epochs'; known: inverse_penalty"),
        ({"kind": "lstm", "epochs": "many"}, "kind=lstm: epochs: expected a whole number, got 'many'"),
        ({"kind": "encoder"}, "needs encoder=PATH"),
        ({"kind": "encoder", "encoder": "/nowhere/at/all"}, "cannot be loaded"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        train_classifier(LABELS, utterances(20, 1), (), (), settings)


def test_nothing_to_learn_from() -> None:
    with pytest.raises(UserError, match="holds no explanations"):
        train_classifier(LABELS, [Annotation("joy", " ")], (), ())
    with pytest.raises(UserError, match="cannot be trained"):
        train_classifier(LABELS, [Annotation("joy", "sun sun"), Annotation("joy", "sun")], (), ())


def test_a_damaged_or_foreign_folder(trained: Callable[[str], TrainedClassifier], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no text-emotion classifier can be read"):
        load(tmp_path)
    save(trained("tfidf"), tmp_path / "made")
    (tmp_path / "made" / "terms.json").write_text("[]")
    with pytest.raises(UserError, match=f"do not belong to {RECORD}"):
        load(tmp_path / "made")
    record = json.loads((tmp_path / "made" / RECORD).read_text())
    for odd in ([], 5, None, {**record, "kind": {}}, {**record, "test_accuracy": "x"}):
        (tmp_path / "made" / RECORD).write_text(json.dumps(odd))
        with pytest.raises(UserError, match=r"no text-emotion classifier can be read|do not belong to"):
            load(tmp_path / "made")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    with pytest.raises(UserError, match="choose another --out"):
        save(trained("tfidf"), tmp_path / "full")
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["thesis.tex"]


def test_words_are_cut_and_counted() -> None:
    assert tokenise("It isn't calm, I'm SAD!") == ["it", "isn't", "calm", ",", "i'm", "sad", "!"]
    vocabulary = Vocabulary.of([["b", "a"], ["a"]], min_count=2)
    assert vocabulary.encode([["a", "b", "a"], []], 2).tolist() == [[1, 4, 3, 2], [1, 2, 0, 0]]
