from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from adapter_samples import example, item

from harness.adapters.majority import Majority
from harness.types import Answer, UserError

NOWHERE = Path("nowhere.png")


def answer(adapter: Majority) -> Answer:
    (outcome,) = adapter.predict([item("x", NOWHERE)])
    assert isinstance(outcome, Answer)
    return outcome


def test_commonest_label_with_its_commonest_explanation_and_the_prior() -> None:
    adapter = Majority()
    adapter.fit(
        [
            example("a", NOWHERE, ("awe", "vast"), ("fear", "dark"), ("fear", "wolves")),
            example("b", NOWHERE, ("fear", "dark"), ("awe", "vast")),
        ]
    )
    outcome = answer(adapter)
    assert (outcome.emotion, outcome.explanation) == ("fear", "dark")
    assert outcome.emotion_probs == {"awe": 2 / 5, "fear": 3 / 5}
    assert adapter.runtime_info() == {"training_examples": 2, "training_annotations": 5}


def test_the_prior_counts_every_annotator_also_those_without_a_kept_text() -> None:
    adapter = Majority()
    adapter.fit([replace(example("a", NOWHERE, ("awe", "vast")), emotion_histogram={"awe": 1, "fear": 3})])
    assert answer(adapter).emotion == "awe"
    assert answer(adapter).emotion_probs == {"awe": 0.25, "fear": 0.75}


def test_ties_are_broken_in_sorted_order_whatever_the_order_of_the_examples() -> None:
    said = [("fear", "b"), ("awe", "z"), ("awe", "c"), ("fear", "a")]
    for order in (said, said[::-1]):
        adapter = Majority()
        adapter.fit([example("a", NOWHERE, *order)])
        assert (answer(adapter).emotion, answer(adapter).explanation) == ("awe", "c")


def test_no_annotation_at_all_is_the_users_to_mend() -> None:
    with pytest.raises(UserError, match="harness data check"):
        Majority().fit([example("a", NOWHERE)])


def test_the_fingerprint_does_not_depend_on_fitting() -> None:
    adapter = Majority()
    before = adapter.fingerprint()
    adapter.fit([example("a", NOWHERE, ("awe", "vast"))])
    assert adapter.fingerprint() == before


def test_ratings_are_the_means_of_the_rated_training_pictures() -> None:
    rated = [
        replace(example("a", NOWHERE, ("awe", "vast")), ratings={"valence": 2.0, "arousal": 6.0}),
        replace(example("b", NOWHERE, ("awe", "vast")), ratings={"valence": 5.0}),
        example("c", NOWHERE, ("awe", "vast")),
    ]
    adapter = Majority()
    adapter.fit(rated)
    assert answer(adapter).ratings == {"valence": 3.5, "arousal": 6.0}
    adapter.fit(rated[2:])
    assert answer(adapter).ratings is None
