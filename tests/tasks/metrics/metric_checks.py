"""The register of independent checks, one per metric."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.plan.registry import metric_registry
from harness.tasks.metrics.base import AdditiveMetric, Context, ScoredExample, SetMetric

Check = Callable[..., None]
CHECKS: dict[str, Check] = {}


def checks(*names: str) -> Callable[[Check], Check]:
    def register(check: Check) -> Check:
        CHECKS.update(dict.fromkeys(names, check))
        return check

    return register


def evaluate(name: str, rows: Sequence[ScoredExample], context: Context) -> float:
    metric = metric_registry().load(name)(context)
    if isinstance(metric, SetMetric):
        values, eligible = metric.features(rows)
        return metric.value(values[eligible])
    assert isinstance(metric, AdditiveMetric)
    return float(metric.value(metric.statistics(rows).values.sum(0)))
