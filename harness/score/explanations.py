"""What each text metric says of each single explanation of a run, to be compared with what people say of it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection

from harness.plan.manifest import task_from_json
from harness.score.cells import ReferenceSet, reference_sets, survey
from harness.score.resources import chosen_encoders, word_affect
from harness.score.results import References, StoredExamples, StoredOutcomes, load_metrics
from harness.store.run_folder import RunFolder
from harness.tasks.metrics.base import AdditiveMetric, Context, Metric, Unavailable
from harness.tasks.metrics.caption_engine import CaptionEngine
from harness.tasks.metrics.caption_store import CaptionStore
from harness.tasks.metrics.meteor import MeteorProcess
from harness.tasks.metrics.style import WordIds

Values = dict[tuple[str, str, str], float]
"""(task, example, row) -> value of one metric."""
LENGTH = "mean_length"


def explanation_values(folder: RunFolder) -> dict[str, Values]:
    """Metric -> its value for each explanation; document frequencies of CIDEr-D are those of the run's images.

    Metrics that cannot be computed here are left out.
    """
    found: dict[str, Values] = defaultdict(dict)
    chosen = folder.manifest().get("scoring", {})
    others = (WordIds(), word_affect(chosen.get("lexicon")), *chosen_encoders(chosen))
    with CaptionStore(folder.path / "cache" / "captions.sqlite") as store, MeteorProcess() as meteor:
        for record in folder.manifest()["tasks"]:
            task = task_from_json(record)
            examples = StoredExamples(folder, task.name)
            keys = [row for row in folder.rows(task.name) if row.control is None]
            rows = {row: StoredOutcomes(folder.outcomes_path(task.name, row)) for row in keys}
            with CaptionEngine(task.protocol, References(examples), meteor, store) as engine:
                context = Context(task, (engine, *others))
                metrics = [m for m in load_metrics(context) if m.family == "text" or m.name == LENGTH]
                for part in reference_sets(survey(task, examples, rows)):
                    if part.is_main:
                        for name, values in _values(part, metrics, examples, rows[part.key]).items():
                            found[name] |= {(task.name, i, part.key.stem): value for i, value in values.items()}
    return dict(found)


def _values(
    part: ReferenceSet, metrics: Collection[Metric], examples: StoredExamples, outcomes: StoredOutcomes
) -> dict[str, dict[str, float]]:
    shown = (part.scored(e, outcomes[e.id]) for e in examples if e.id in outcomes)
    scored = [one for one in shown if one is not None and one.explanation]
    found: dict[str, dict[str, float]] = {}
    for metric in metrics:
        if not isinstance(metric, AdditiveMetric) or metric.missing() is not None or not scored:
            continue
        try:
            metric.prepare(scored)
            statistics = metric.statistics(scored)
        except Unavailable:
            continue
        values = metric.value(statistics.values)
        counted = zip(scored, values.tolist(), statistics.eligible.tolist(), strict=True)
        found[metric.name] = {s.example.id: v for s, v, eligible in counted if eligible and math.isfinite(v)}
    return found
