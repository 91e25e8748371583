"""Reliability diagrams against scikit-learn and a table worked by hand."""

from __future__ import annotations

import random
import re
from pathlib import Path

import numpy as np
import pytest
from page_tree import Element
from run_builder import EMOTIONS, write_run
from sklearn.calibration import calibration_curve

from harness.reports.calibration import BINS, LEFT, SIDE, TOP, Calibration, calibrations
from harness.reports.numerals import wilson
from harness.reports.task_view import Run, gather
from harness.store.run_folder import RowKey
from harness.types import Annotation, Answer, Example, histogram


def example(number: int, emotion: str) -> Example:
    annotations = (Annotation(emotion, "so"),) * 2
    return Example(f"p{number}", Path("none.jpg"), annotations, histogram(annotations))


def spread(emotion: str, confidence: float) -> dict[str, float]:
    rest = (1 - confidence) / (len(EMOTIONS) - 1)
    return {label: confidence if label == emotion else rest for label in EMOTIONS}


def diagrams(path: Path, asked: list[Example], answers: list[Answer]) -> list[Calibration]:
    said = {e.id: answer for e, answer in zip(asked, answers, strict=True)}
    (view,) = gather([Run.read(0, write_run(path, {RowKey("small"): said}, asked))])
    return calibrations(view, asked, {view.rows[0]: said})


def test_the_curve_is_that_of_scikit_learn(tmp_path: Path) -> None:
    draw = random.Random(3)
    asked = [example(i, draw.choice(EMOTIONS)) for i in range(200)]
    answers = []
    for one in asked:
        emotion = one.dominant_emotion if draw.random() < 0.6 else draw.choice(EMOTIONS)
        answers.append(Answer(emotion or "", "", spread(emotion or "", draw.uniform(0.2, 0.99))))
    (found,) = diagrams(tmp_path / "run", asked, answers)
    right = [answer.emotion == one.dominant_emotion for answer, one in zip(answers, asked, strict=True)]
    confidence = np.array([(answer.emotion_probs or {})[answer.emotion] for answer in answers])
    accuracies, confidences = calibration_curve(right, confidence, n_bins=BINS)
    assert [b.accuracy for _, b in found.bins] == pytest.approx(list(accuracies))
    assert [b.confidence for _, b in found.bins] == pytest.approx(list(confidences))
    counts = np.histogram(confidence, bins=BINS, range=(0, 1))[0]
    expected = (counts[counts > 0] * np.abs(accuracies - confidences)).sum() / 200
    assert found.error == pytest.approx(expected)
    assert found.n == 200


def test_people_are_not_judged_by_their_own_votes(tmp_path: Path) -> None:
    asked = [example(i, "awe") for i in range(4)]
    said = {one.id: Answer("awe", "", spread("awe", 0.5)) for one in asked}
    (view,) = gather([Run.read(0, write_run(tmp_path, {RowKey(n): said for n in ("small", "crowd")}, asked))])
    assert [row.is_person for row in view.rows] == [False, True]
    assert [found.row.label for found in calibrations(view, asked, dict.fromkeys(view.rows, said))] == ["small"]


def test_bins_by_hand(tmp_path: Path) -> None:
    asked = [example(i, "awe") for i in range(4)]
    sure = [("awe", 0.9), ("awe", 0.92), ("fear", 0.91), ("awe", 0.5)]
    (found,) = diagrams(tmp_path / "run", asked, [Answer(e, "", spread(e, c)) for e, c in sure])
    assert [slot for slot, _ in found.bins] == [7, 13]
    low, high = found.bins[0][1], found.bins[1][1]
    assert (low.n, low.accuracy, low.confidence) == (1, 1.0, 0.5)
    assert (high.n, high.accuracy) == (3, pytest.approx(2 / 3))
    assert high.confidence == pytest.approx(0.91)
    assert found.error == pytest.approx((1 * 0.5 + 3 * (0.91 - 2 / 3)) / 4)
    mark = found.marks[1]
    assert mark.x == pytest.approx(LEFT + 0.91 * SIDE, abs=0.1)
    assert mark.y == pytest.approx(TOP + SIDE / 3, abs=0.1)
    assert mark.top < mark.y < mark.bottom
    assert found.marks[0].bar == pytest.approx(mark.bar / 3, abs=0.1)


def test_answers_against_their_own_probabilities_are_counted(tmp_path: Path) -> None:
    divided = Example(
        "p3", Path("none.jpg"), (Annotation("awe", "so"), Annotation("fear", "so")), {"awe": 1, "fear": 1}
    )
    asked = [*(example(i, "awe") for i in range(3)), divided]
    answers = [Answer("awe", "", spread(likeliest, 0.9)) for likeliest in ("awe", "awe", "fear", "fear")]
    (found,) = diagrams(tmp_path / "run", asked, answers)
    assert (found.n, found.contradicted) == (3, 0.5)


def test_wilson_by_published_example() -> None:
    # Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662; 0 of 20 gives 0 to 0.1611.
    assert wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0.0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


def test_labels_written_as_certainties_make_no_diagram(tmp_path: Path) -> None:
    asked = [example(i, "awe") for i in range(3)]
    assert diagrams(tmp_path / "a", asked, [Answer("awe", "", {"awe": 1.0, "fear": 0.0})] * 3) == []
    assert diagrams(tmp_path / "b", asked, [Answer("awe", "")] * 3) == []


def test_the_page_draws_rows_that_give_probabilities(page: Element) -> None:
    figures = page.one("section", id="tiny-calibration").all("figure")
    assert [figure.one("bdi").text for figure in figures] == ["large"]
    assert "n 9" in figures[0].one("figcaption").text
    assert re.search(r"likelier than the answer given: \d+\.\d %", figures[0].one("figcaption").text)
    assert len(figures[0].all("circle")) == 1
