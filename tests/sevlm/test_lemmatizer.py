"""Lemmas, and the recorded lemmas of the published code where NLTK has its data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sevlm.config import SEVLMError
from sevlm.vad import NLTKLemmatizer, load_lemmatizer

GOLDEN = Path(__file__).parent / "fixtures" / "sevlm_tiny_A"


def has_nltk_data(*names: str) -> bool:
    nltk = pytest.importorskip("nltk")
    try:
        for name in names:
            nltk.data.find(name)
    except LookupError:
        return False
    return True


def test_identity_changes_nothing() -> None:
    words = ["Waves", "", "<pad>", "âĢĻ"]
    assert load_lemmatizer("identity").lemmatize(words) == words


def test_simplemma_finds_english_lemmas() -> None:
    lemmatizer = load_lemmatizer("simplemma")
    words = ["waves", "colours", "children", "is", "", "12", "<|endoftext|>", "sea"]
    expected = ["wave", "colour", "child", "be", "", "12", "<|endoftext|>", "sea"]
    assert lemmatizer.lemmatize(words) == expected
    assert not lemmatizer.contextual


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(SEVLMError, match="identity, simplemma, nltk; got 'spacy'"):
        load_lemmatizer("spacy")


def test_nltk_without_data_says_what_to_type() -> None:
    if has_nltk_data("taggers/averaged_perceptron_tagger_eng"):
        pytest.skip("NLTK has its data here")
    with pytest.raises(SEVLMError, match=r"python -m nltk\.downloader"):
        load_lemmatizer("nltk")


def test_nltk_lemmas_of_the_golden_fixture() -> None:
    """Lemmas under the recorded tags: the tagger's model differs between NLTK versions, WordNet does not."""
    if not has_nltk_data("taggers/averaged_perceptron_tagger_eng", "corpora/wordnet"):
        pytest.skip("NLTK's tagger and WordNet are not installed: python -m nltk.downloader all")
    lemmatizer = NLTKLemmatizer()
    for row in json.loads((GOLDEN / "lemmas.json").read_text(encoding="utf-8"))["rows"]:
        lemmas = [lemmatizer.lemma(word, tag) for word, tag in zip(row["words"], row["pos"], strict=True)]
        assert lemmas == row["lemmas"]
