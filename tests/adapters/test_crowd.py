from __future__ import annotations

from collections import Counter
from pathlib import Path

from adapter_samples import example, item

from harness.adapters.people import Crowd
from harness.types import Answer, Example, Failed

NOWHERE = Path("nowhere.png")
SAID = [("awe", "vast"), ("fear", "dark"), ("awe", "bright"), ("contentment", "calm"), ("awe", "wide")]
EXAMPLES = [example(str(i), NOWHERE, *SAID, split="test") for i in range(200)]


def answers(examples: list[Example], seed: int = 0) -> dict[str, Answer]:
    adapter = Crowd(seed=seed)
    adapter.attach(examples)
    outcomes = adapter.predict([item(e.id, NOWHERE) for e in examples])
    return {e.id: o for e, o in zip(examples, outcomes, strict=True) if isinstance(o, Answer)}


def test_the_answer_is_the_mode_of_the_half_that_is_held_out() -> None:
    for identifier, outcome in answers(EXAMPLES).items():
        assert isinstance(outcome.held_out, tuple)
        half = [EXAMPLES[int(identifier)].annotations[i] for i in outcome.held_out]
        assert len(set(outcome.held_out)) == 2
        counts = Counter(a.emotion for a in half)
        assert counts[outcome.emotion] == max(counts.values())
        assert outcome.explanation in [a.explanation for a in half if a.emotion == outcome.emotion]
        assert outcome.emotion_probs == {label: count / 2 for label, count in counts.items()}


def test_neither_a_limit_nor_the_order_changes_who_answers() -> None:
    everything = answers(EXAMPLES)
    part = answers(EXAMPLES[50:20:-1])
    assert part == {identifier: everything[identifier] for identifier in part}


def test_ties_favour_no_label_and_every_annotator_has_a_turn() -> None:
    tied = [example(str(i), NOWHERE, ("awe", "a"), ("fear", "b"), ("awe", "c"), ("fear", "d")) for i in range(300)]
    found = answers(tied)
    labels = Counter(o.emotion for o in found.values() if set((o.emotion_probs or {}).values()) == {0.5})
    assert sum(labels.values()) > 150  # two thirds of the draws are split one against one
    assert min(labels["awe"], labels["fear"]) > 60
    drawn = Counter(i for o in found.values() if isinstance(o.held_out, tuple) for i in o.held_out)
    assert min(drawn[i] for i in range(4)) > 100  # 150 expected each


def test_a_painting_with_one_annotation_cannot_be_halved() -> None:
    adapter = Crowd()
    adapter.attach([example("a", NOWHERE, ("awe", "vast"))])
    (outcome,) = adapter.predict([item("a", NOWHERE)])
    assert isinstance(outcome, Failed)
    assert outcome.error_type == "TooFewAnnotations"
