"""Valence of words, the plane of ratings, and the geometry of their figures."""

from __future__ import annotations

from pathlib import Path

import pytest
from page_tree import Element, parse
from run_builder import write_run
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from harness.reports import affect
from harness.reports.affect import Affect, Position, Shift, affects
from harness.reports.build import build_report
from harness.reports.samples import word_valences
from harness.reports.view import Run, gather
from harness.store.run_folder import RowKey, RunFolder
from harness.types import Annotation, Answer, Example, histogram


def painting(number: int, emotion: str, text: str, **ratings: float) -> Example:
    annotations = (Annotation(emotion, text),)
    return Example(f"p{number}", Path("none.jpg"), annotations, histogram(annotations), ratings=ratings)


def plane(model: str | None, emotion: str, valence: float, arousal: float, n: int, **more: object) -> dict[str, object]:
    place = {"task": "tiny", "model": model, "control": None, "lexicon": "nrc-vad", "emotion": emotion}
    return place | {"valence": valence, "arousal": arousal, "n": n} | more


PLANES = [
    plane(None, "awe", 0.5, 0.25, 20),
    plane("small", "awe", 0.75, -0.25, 9),
    plane("small", "fear", -0.5, 0.5, 30),
    plane("small", "fear", 9.0, 9.0, 30, control="blank"),
    plane("other", "fear", 9.0, 9.0, 30),
    plane("small", "fear", 9.0, 9.0, 30, task="other"),
]


@pytest.fixture
def rated(tmp_path: Path) -> RunFolder:
    asked = [
        painting(0, "awe", "a great sky", valence=2.0, arousal=1.0),
        painting(1, "awe", "great, and terrible", valence=1.0, arousal=3.0),
        painting(2, "fear", "nothing known hereabouts", valence=-2.0, arousal=2.0),
    ]
    answers = [
        Answer("awe", "terrible", ratings={"valence": 0.0, "arousal": 1.0}),
        Answer("fear", "a terrible storm", ratings={"valence": 1.0, "arousal": 2.0}),
        Answer("fear", "so sad", ratings={"valence": -1.0, "arousal": 0.0}),
    ]
    said = {e.id: answer for e, answer in zip(asked, answers, strict=True)}
    run = write_run(tmp_path / "run", {RowKey("small"): said}, asked)
    run.save_results(run.results() | {"planes": PLANES})
    return run


def affect_of(run: RunFolder) -> Affect:
    (view,) = gather([Run.read(0, run)])
    (found,) = affects(view, list(run.examples("tiny")), {view.rows[0]: run.outcomes("tiny", RowKey("small"))})
    return found


def test_words_have_vaders_own_values() -> None:
    lexicon = SentimentIntensityAnalyzer().lexicon
    words = word_valences()
    assert len(words) > 6500
    assert all(lexicon[word] == value for word, value in words.items())
    assert words["great"] == 3.1


def test_words_are_read_from_the_planes_of_the_rows_own_run(rated: RunFolder) -> None:
    awe, fear = affect_of(rated).words
    assert (awe.people, awe.row) == (Position(0.5, 0.25, 20), Position(0.75, -0.25, 9))
    assert (fear.people, fear.row) == (None, Position(-0.5, 0.5, 30))
    assert affect_of(rated).has_arousal


def test_a_lexicon_of_valence_alone_is_drawn_as_a_strip(rated: RunFolder, tmp_path: Path) -> None:
    results = rated.results()
    results["planes"] = [record | {"arousal": None, "lexicon": "vader"} for record in results["planes"]]
    rated.save_results(results)
    assert not affect_of(rated).has_arousal
    section = parse(build_report([rated], tmp_path / "out").read_text(encoding="utf-8")).one(id="tiny-affect")
    wide, ratings = section.all("figure")
    assert wide.has("css", "wide")
    assert "vader lexicon" in wide.one("figcaption").text
    assert "does not measure arousal" in wide.one("figcaption").text
    assert len(wide.all("circle")) == 3
    assert len(ratings.all("circle")) == 4


def test_ratings_are_compared_on_the_same_paintings(rated: RunFolder) -> None:
    awe, fear = affect_of(rated).ratings
    assert (awe.people, awe.row) == (Position(1.5, 2.0, 2), Position(0.5, 1.5, 2))
    assert (fear.people, fear.row) == (Position(-2.0, 2.0, 1), Position(-1.0, 0.0, 1))


def test_positions_become_pixels_in_proportion() -> None:
    shifts = [
        Shift("awe", Position(1.0, 0.0, 50), Position(2.0, 1.0, 50)),
        Shift("fear", Position(-1.0, 2.0, 50), Position(0.0, 1.0, 9)),
    ]
    figure = affect.plane(shifts)
    awe, fear = figure.dumbbells
    assert awe.people is not None
    assert awe.row is not None
    assert fear.row is not None
    assert fear.people is not None
    assert awe.row[0] - awe.people[0] == pytest.approx(fear.row[0] - fear.people[0], abs=0.2)
    assert awe.row[0] > awe.people[0]
    assert awe.row[1] < awe.people[1]
    assert awe.row[1] == fear.row[1]
    assert (awe.is_few, fear.is_few) == (False, True)
    assert figure.left <= fear.people[0] <= figure.right


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ([2.4, 5.8], [3.5, 3.9]),
        ([0.0, 0.6], [-0.08, 0.3]),
        ([-1.0, 1.0], [-1.0, 1.0]),
        ([0.3], [0.3]),
        ([5, 5.1], [-9, 9]),
    ],
)
def test_a_unit_is_as_long_on_both_axes(x: list[float], y: list[float]) -> None:
    shifts = [Shift(f"e{i}", Position(v, a, 50), None) for i, (v, a) in enumerate(zip(x, y, strict=True))]
    figure = affect.plane(shifts)
    across = [tick.at for tick in figure.x_ticks]
    upwards = [tick.at for tick in figure.y_ticks]
    assert across[1] - across[0] == pytest.approx(upwards[0] - upwards[1], abs=0.2)
    steps = [
        float(ticks[1].text.replace("−", "-")) - float(ticks[0].text.replace("−", "-"))
        for ticks in (figure.x_ticks, figure.y_ticks)
    ]
    assert steps[0] == pytest.approx(steps[1])
    for dumbbell in figure.dumbbells:
        assert dumbbell.people is not None
        assert figure.left <= dumbbell.people[0] <= figure.right
        assert upwards[-1] <= dumbbell.people[1] <= figure.floor
        assert dumbbell.anchor == "start" or dumbbell.label[0] - 6 * len(dumbbell.emotion) >= figure.left


def test_the_places_stand_in_a_table_as_well(rated: RunFolder, tmp_path: Path) -> None:
    section = parse(build_report([rated], tmp_path / "out").read_text(encoding="utf-8")).one(id="tiny-affect")
    words, ratings = section.all("table")
    cells = [[cell.text for cell in tr.all() if cell.tag in ("th", "td")] for tr in words.all("tr")[2:]]
    assert cells == [
        ["awe", "0.50", "0.25", "20", "0.75", "−0.25", "9"],
        ["fear", "–", "–", "0", "−0.50", "0.50", "30"],
    ]
    assert len(ratings.all("tr")) == 4


def test_names_keep_clear_of_marks_and_of_each_other() -> None:
    near = [
        Shift(e, Position(0.1 * i, 0.0, 50), Position(0.1 * i + 0.02, 0.0, 50)) for i, e in enumerate(("awe", "fear"))
    ]
    figure = affect.plane([*near, Shift("far", Position(1.0, 1.0, 50), None)])
    awe, fear, _ = figure.dumbbells
    assert abs(awe.label[1] - fear.label[1]) >= 13
    for dumbbell in (awe, fear):
        for end in (awe.people, awe.row, fear.people, fear.row):
            assert end is not None
            beside = not dumbbell.label[0] < end[0] < dumbbell.label[0] + 7 * len(dumbbell.emotion)
            assert beside or abs(dumbbell.label[1] - 4 - end[1]) >= 13


def test_the_strip_has_a_line_for_each_emotion() -> None:
    figure = affect.strip([Shift(e, Position(v, None, 20), None) for e, v in (("awe", 1.0), ("fear", -1.5))])
    awe, fear = (dumbbell.people for dumbbell in figure.dumbbells)
    assert awe is not None
    assert fear is not None
    assert fear[1] - awe[1] == affect.LINE
    assert fear[0] < awe[0]
    assert "−1.50" in figure.dumbbells[1].description
    assert any(tick.text == "0" for tick in figure.x_ticks)


def test_the_page_draws_words_and_ratings(rated: RunFolder, tmp_path: Path, page: Element) -> None:
    section = parse(build_report([rated], tmp_path / "out").read_text(encoding="utf-8")).one(id="tiny-affect")
    assert len(section.all("svg")) == 2
    rows = [option.text for option in page.one("section", id="tiny-affect").all("option")]
    assert rows == ["small", "large"]


def test_labels_without_texts_have_no_section(tmp_path: Path) -> None:
    asked = [painting(0, "awe", "")]
    run = write_run(tmp_path / "run", {RowKey("small"): {"p0": Answer("awe", "")}}, asked)
    run.save_results(run.results() | {"planes": []})
    page = parse(build_report([run], tmp_path / "out").read_text(encoding="utf-8"))
    assert not page.all("section", id="tiny-affect")
    assert not page.all("a", href="#tiny-affect")
