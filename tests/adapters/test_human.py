from __future__ import annotations

from collections import Counter
from pathlib import Path

from adapter_samples import example, item

from harness.adapters.people import Human
from harness.types import Answer, Example, Failed

NOWHERE = Path("nowhere.png")
SAID = [("awe", "vast"), ("fear", "dark"), ("awe", "bright"), ("contentment", "calm")]
EXAMPLES = [example(str(i), NOWHERE, *SAID, split="test") for i in range(200)]


def answers(examples: list[Example], seed: int = 0) -> dict[str, Answer]:
    adapter = Human(seed=seed)
    adapter.attach(examples)
    outcomes = adapter.predict([item(e.id, NOWHERE) for e in examples])
    return {e.id: o for e, o in zip(examples, outcomes, strict=True) if isinstance(o, Answer)}


def test_the_answer_is_the_annotation_at_held_out() -> None:
    for identifier, outcome in answers(EXAMPLES).items():
        assert outcome.held_out is not None
        chosen = EXAMPLES[int(identifier)].annotations[outcome.held_out]
        assert (outcome.emotion, outcome.explanation) == (chosen.emotion, chosen.explanation)
        assert outcome.emotion_probs is None


def test_neither_a_limit_nor_the_order_changes_who_answers() -> None:
    everything = answers(EXAMPLES)
    part = answers(EXAMPLES[50:20:-1])
    assert part == {identifier: everything[identifier] for identifier in part}


def test_another_seed_holds_out_others_and_all_annotations_have_their_turn() -> None:
    first, second = answers(EXAMPLES), answers(EXAMPLES, seed=1)
    assert sum(first[i].held_out != second[i].held_out for i in first) > 100  # 150 expected of 200
    counts = Counter(outcome.held_out for outcome in first.values())
    assert set(counts) == {0, 1, 2, 3}
    assert min(counts.values()) > 25  # 50 expected each


def test_a_painting_with_one_annotation_would_keep_no_reference() -> None:
    adapter = Human()
    adapter.attach([example("a", NOWHERE, ("awe", "vast"))])
    (outcome,) = adapter.predict([item("a", NOWHERE)])
    assert isinstance(outcome, Failed)
    assert outcome.error_type == "TooFewAnnotations"
    assert "1 annotation:" in outcome.message
