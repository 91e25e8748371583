"""Scatter plots: positions on logarithmic and linear axes, labels that keep clear of each other."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from page_tree import Element
from run_builder import examples, outcomes, write_run

from harness.reports import scatter
from harness.reports.scatter import Plot, plots
from harness.reports.view import Run, gather
from harness.store.run_folder import RowKey


def plots_of(
    path: Path, found: dict[str, float | None], accuracy: dict[str, float], resource: str = "parameters"
) -> dict[str, list[Plot]]:
    asked = examples(path / "pictures")
    run = write_run(path / "run", {RowKey(name): outcomes(asked, i) for i, name in enumerate(found)}, asked)
    results = run.results()
    results["models"] = [{"model": name, resource: value} for name, value in found.items()]
    results["cells"] = [cell for cell in results["cells"] if cell["metric"] != resource]
    for cell in results["cells"]:
        if cell["metric"] == "accuracy" and cell["emotion"] is None and cell["slice"] is None:
            cell |= {"value": accuracy[cell["model"]], "low": None, "high": None}
    run.save_results(results)
    (view,) = gather([Run.read(0, run)])
    return plots(view)


def test_a_decade_has_one_length(tmp_path: Path) -> None:
    found = plots_of(tmp_path, {"a": 2e6, "b": 2e7, "c": 2e9}, {"a": 0.2, "b": 0.4, "c": 0.6})
    panel = found["accuracy"][0]
    assert panel.x_info.name == "parameters"
    a, b, c = sorted(panel.points, key=lambda point: point.x)
    assert (c.x - b.x) / (b.x - a.x) == pytest.approx(2, abs=0.02)
    assert a.y - b.y == pytest.approx(b.y - c.y, abs=0.2)
    assert [tick.text for tick in panel.x_ticks] == ["1 M", "10 M", "100 M", "1 B", "10 B"]
    assert [tick.text for tick in panel.y_ticks] == ["20", "30", "40", "50", "60"]


def test_a_row_that_takes_no_time_stands_at_the_end_of_the_axis(tmp_path: Path) -> None:
    found = plots_of(tmp_path, {"a": 2e-7, "b": 0.01, "c": 1.0}, {"a": 0.2, "b": 0.4, "c": 0.6}, "latency_p50_s")
    (panel,) = (panel for panel in found["accuracy"] if panel.x_info.name == "latency_p50_s")
    a, b, c = sorted(panel.points, key=lambda point: point.x)
    assert (a.label, a.x) == ("a", scatter.LEFT)
    assert (c.x - b.x) / (b.x - a.x) == pytest.approx(2, abs=0.02)
    assert [tick.text for tick in panel.x_ticks] == ["≤ 0.001", "0.01", "0.1", "1", "10"]


def test_rows_that_all_take_no_time_share_an_axis(tmp_path: Path) -> None:
    found = plots_of(tmp_path, {"a": 2e-7, "b": 2e-6}, {"a": 0.2, "b": 0.4}, "latency_p50_s")
    (panel,) = (panel for panel in found["accuracy"] if panel.x_info.name == "latency_p50_s")
    assert not any("≤" in tick.text for tick in panel.x_ticks)
    assert panel.points[0].x != panel.points[1].x


def test_models_that_do_not_tell_their_size_stand_beyond_the_axis(tmp_path: Path) -> None:
    found = plots_of(tmp_path, {"a": 2e6, "b": None, "c": 3e6}, {"a": 0.2, "b": 0.4, "c": 0.6})
    panel = found["accuracy"][0]
    assert panel.has_unknown
    assert {point.label for point in panel.points if point.x > panel.right} == {"b"}
    assert "Parameters not published" in next(p for p in panel.points if p.label == "b").description


def test_rows_without_both_numbers_are_left_out(tmp_path: Path) -> None:
    times = {"a": 2.0, "b": None, "c": 3.0}
    found = plots_of(tmp_path, times, {"a": 0.2, "b": 0.4, "c": 0.6}, "latency_p50_s")
    (panel,) = (panel for panel in found["accuracy"] if panel.x_info.name == "latency_p50_s")
    assert sorted(point.label for point in panel.points) == ["a", "c"]


def test_people_and_the_majority_are_lines(page: Element) -> None:
    (figure,) = page.one("section", id="tiny-answer").all("svg", css="scatter")
    assert {name.text for name in figure.all("text", css="level-name")} == {"majority", "human ‡"}


def test_one_point_makes_no_plot(tmp_path: Path) -> None:
    found = plots_of(tmp_path, {"a": 2e6, "majority": None}, {"a": 0.2, "majority": 0.4})
    assert all(panel.x_info.name != "parameters" for panels in found.values() for panel in panels)


def test_labels_of_equal_models_do_not_overlap(tmp_path: Path) -> None:
    names = [f"model-{i}" for i in range(5)]
    found = plots_of(tmp_path, dict.fromkeys(names, 1e8), dict.fromkeys(names, 0.5))
    places = [(point.anchor, point.label_y) for point in found["accuracy"][0].points]
    for (anchor_a, a), (anchor_b, b) in itertools.combinations(places, 2):
        assert anchor_a != anchor_b or abs(a - b) >= scatter.LABEL_HEIGHT
    assert max(abs(y - found["accuracy"][0].points[0].y - 4) for _, y in places) <= 2 * scatter.LABEL_HEIGHT


def test_no_label_covers_another_mark(tmp_path: Path) -> None:
    sizes = {"a": 5.9e6, "larger": 7.6e6, "huge": 7e9}
    found = plots_of(tmp_path, dict(sizes), {"a": 0.44, "larger": 0.44, "huge": 0.1})
    points = found["accuracy"][0].points
    for point, other in itertools.permutations(points, 2):
        width = 6 * len(point.label)
        start = point.label_x - (width if point.anchor == "end" else 0)
        beside = start - 3 < other.x < start + width + 3
        assert not (beside and abs(point.label_y - 4 - other.y) < 8), (point.label, other.label)


def test_everything_stays_inside_the_picture(page: Element) -> None:
    pictures = page.one("section", id="tiny-cost").all("svg", css="scatter")
    assert pictures
    for picture in pictures:
        for circle in picture.all("circle"):
            assert scatter.LEFT <= float(circle.attributes["cx"] or "") <= scatter.WIDTH - scatter.RIGHT
            assert scatter.TOP <= float(circle.attributes["cy"] or "") <= scatter.HEIGHT - scatter.BOTTOM
        assert picture.attributes["aria-label"]
