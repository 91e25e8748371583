"""Numbers as printed: hand-written tables."""

from __future__ import annotations

from importlib import import_module

import pytest

from harness.reports.metric_table import GROUPS, METRICS, display_rank, metric_info
from harness.reports.numerals import count, grouped, shown, shown_difference, shown_interval, shown_p, si
from harness.tasks.metrics import METRICS as REGISTERED


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


def test_every_registered_metric_is_described_with_its_own_direction_and_scale() -> None:
    for name, target in REGISTERED.items():
        module, attribute = target.split(":")
        metric = getattr(import_module(module), attribute)
        assert name in METRICS
        assert METRICS[name].higher_is_better == metric.higher_is_better, name
        assert METRICS[name].style != "percent" or metric.bounds[1] == 1.0, name


def test_metrics_have_known_groups_and_unknown_ones_stay_together() -> None:
    assert {info.group for info in METRICS.values()} <= {group.key for group in GROUPS}
    names = ["failed", "zebra", "accuracy", "cost_usd", "aardvark", "bleu_4"]
    assert sorted(names, key=display_rank) == ["accuracy", "bleu_4", "aardvark", "zebra", "failed", "cost_usd"]
