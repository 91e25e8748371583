"""Numbers as printed: hand-written tables."""

from __future__ import annotations

import pytest

from harness.reports.numbers import (
    GROUPS,
    MetricInfo,
    Shown,
    count,
    grouped,
    metric_facts,
    shown,
    shown_difference,
    shown_interval,
    shown_p,
    si,
)
from harness.score.results import metric_records

FACTS = metric_facts({"metrics": metric_records()})


def metric_info(name: str) -> MetricInfo:
    return FACTS.get(name) or MetricInfo(name, name)


@pytest.mark.parametrize(
    ("metric", "value", "expected"),
    [
        ("accuracy", 0.6561, "65.6"),
        ("accuracy", 0.0, "0.0"),
        ("accuracy", 1.0, "100.0"),
        ("cider_d", 1.3149, "1.31"),
        ("vad_ccc_v", -0.1234, "−0.123"),
        ("vad_ccc_v", -0.0001, "0.000"),
        ("parameters", 186_447_551, "186 M"),
        ("parameters", 7_060_000_000, "7.06 B"),
        ("parameters", 0, "0"),
        ("cost_usd", 0.0123, "0.0123"),
        ("cost_usd", 12.5, "12.50"),
        ("failed", 3.0, "3"),
        ("unheard_of", 0.25, "0.250"),
        ("accuracy", None, "–"),
    ],
)
def test_shown(metric: str, value: float | None, expected: str) -> None:
    assert shown(metric_info(metric), value) == expected


def test_intervals_and_differences() -> None:
    accuracy, valence = metric_info("accuracy"), metric_info("vad_ccc_v")
    assert shown_interval(accuracy, 0.5, 0.61) == "50.0–61.0"
    assert shown_interval(valence, -0.1, 0.2) == "−0.100 to 0.200"
    assert shown_interval(accuracy, None, 0.61) == ""
    assert shown_difference(accuracy, 0.031) == "+3.1"
    assert shown_difference(accuracy, -0.031) == "−3.1"
    assert shown_difference(accuracy, 0.0) == "0.0"


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        (0.0001, "< .001"),
        (0.001, ".001"),
        (0.0496, ".050"),
        (0.25, ".250"),
        (1.0, "1.00"),
        (0.9999, "1.00"),
        (None, "–"),
    ],
)
def test_p_values(p: float | None, expected: str) -> None:
    assert shown_p(p) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(999, "999"), (999_900, "1.00 M"), (1000, "1.00 k"), (12_340, "12.3 k"), (99_960, "100 k"), (2.5e12, "2.50 T")],
)
def test_si_rounds_across_units(value: float, expected: str) -> None:
    assert si(value) == expected


def test_counts() -> None:
    assert count(1, "painting") == "1 painting"
    assert count(5833, "painting") == "5\u202f833 paintings"
    assert grouped(1_234_567) == "1\u202f234\u202f567"


def test_every_registered_metric_says_how_it_is_shown() -> None:
    assert len(FACTS) > 50
    for name, info in FACTS.items():
        assert info.label
        assert info.group in {group.key for group in GROUPS}
        assert info.description.endswith("."), name


def test_facts_that_are_no_facts_are_shown_plainly() -> None:
    assert MetricInfo.read("new", {"group": "unheard of", "range": [None, None]}) == MetricInfo("new", "new")
    assert MetricInfo.read("new", {"range": [0.0, None]}).range == "0 to ∞"


def test_a_cell_is_a_number_or_a_reason() -> None:
    accuracy = metric_info("accuracy")
    found = Shown.of(accuracy, {"value": 0.25, "low": 0.2, "high": 0.5, "n": 9})
    assert (found.text, found.interval, found.value, found.n, found.is_few) == ("25.0", "20.0–50.0", 0.25, 9, True)
    assert not Shown.of(accuracy, {"value": 0.25, "n": 10}).is_few
    assert Shown.of(accuracy, None).reason == "not measured for this row"
    assert Shown.of(accuracy, {"value": 1.0, "n": 0, "unavailable": "no Java"}) == Shown("–", n=0, reason="no Java")
    assert Shown.of(accuracy, {"value": float("nan")}, absent="not known").reason == "not known"
