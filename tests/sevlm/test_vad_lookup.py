"""Word look-up in both sets of rules."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file

from sevlm.config import SEVLMConfig
from sevlm.vad import Lemmatizer, SimplemmaLemmatizer, VADLexicon, VADLookup

GOLDEN = Path(__file__).parent / "fixtures" / "sevlm_tiny_A"
LEXICON = VADLexicon(
    "made-up",
    ("valence", "arousal", "dominance"),
    {"wave": (0.5, 0.25, -0.5), "waves": (-1.0, 0.0, 1.0), "Sea": (0.125, 0.0, 0.0), "still": (0.0, 0.0, 0.0)},
)


class LastWordLemmatizer:
    """Appends the last word to each: a lemma that depends on the row, as part-of-speech tags make it."""

    name = "last-word"
    contextual = True

    def lemmatize(self, words: Sequence[str]) -> list[str]:
        return [word + words[-1] for word in words]


def test_pieces_are_looked_up_by_lemma_only() -> None:
    values = VADLookup(LEXICON, SimplemmaLemmatizer(), "piece")(["waves", "Sea", "SEA", ""])
    expected = torch.tensor([[0.5, 0.25, -0.5], [0, 0, 0], [0, 0, 0], [0, 0, 0]])
    torch.testing.assert_close(values, expected)


def test_words_are_tried_as_they_stand_then_lowered_then_by_lemma() -> None:
    values = VADLookup(LEXICON, SimplemmaLemmatizer(), "word")(["Sea", "WAVES", "waved", "nothing"])
    expected = torch.tensor([[0.125, 0, 0], [-1, 0, 1], [0.5, 0.25, -0.5], [0, 0, 0]])
    torch.testing.assert_close(values, expected)


def test_context_is_part_of_the_memory() -> None:
    lexicon = VADLexicon("made-up", ("valence",), {"wave!": (1.0,), "wave?": (-1.0,)})
    lookup = VADLookup(lexicon, LastWordLemmatizer(), "piece")
    assert lookup(["wave", "!"])[0].tolist() == [1, 0, 0]
    assert lookup(["wave", "?"])[0].tolist() == [-1, 0, 0]
    assert lookup(["wave", "!"])[0].tolist() == [1, 0, 0]


def test_no_words_give_an_empty_tensor() -> None:
    assert VADLookup(LEXICON, Lemmatizer())([]).shape == (0, 3)


def test_coverage_leaves_punctuation_and_neutral_entries_out() -> None:
    lookup = VADLookup(LEXICON, Lemmatizer())
    assert lookup.coverage([["wave", ",", "12"], ["still", "boat", "waves"]]) == 0.5
    assert lookup.coverage([[","]]) == 0


def test_modes_follow_the_configuration() -> None:
    lookup = VADLookup.from_config(SEVLMConfig(lemmatizer="identity"), LEXICON)
    assert (lookup.unit, lookup.lemmatizer.name) == ("word", "identity")
    lookup = VADLookup.from_config(SEVLMConfig.official(lemmatizer="simplemma"), LEXICON)
    assert (lookup.unit, lookup.lemmatizer.name) == ("piece", "simplemma")


def test_published_values_of_the_golden_batch() -> None:
    lookup = VADLookup(VADLexicon.load(GOLDEN / "vad_lexicon.txt"), Lemmatizer(), "piece")
    items = json.loads((GOLDEN / "tokenization.json").read_text(encoding="utf-8"))["train_items"]
    rows = {tuple(row["input_ids"]): row["words_for_vad"] for item in items for row in item["rows"]}
    batch = load_file(GOLDEN / "inputs.safetensors")
    found = 0
    for ids, values in zip(batch["batch/input_ids"].tolist(), batch["batch/vad_identity"], strict=True):
        if tuple(ids) in rows:
            found += 1
            assert torch.equal(lookup(rows[tuple(ids)]), values)
    assert found >= 4
