from __future__ import annotations

from metric_rows import ContextFor, make_row

from harness.plan.registry import metric_registry
from harness.tasks.metrics.base import AdditiveMetric
from harness.types import Answer


def test_meteor_counts_english_examples_only(context_for: ContextFor) -> None:
    texts = {"english": "the calm sea", "chinese": "海 很 平静", "arabic": "البحر هادئ"}
    rows = [make_row(Answer("awe", text), ["awe"], [text], id_=name, language=name) for name, text in texts.items()]
    rows.append(make_row(Answer("awe", "a storm"), ["awe"], ["a storm"], id_="untold"))
    metric = metric_registry().load("meteor")(context_for(rows))
    assert isinstance(metric, AdditiveMetric)
    assert metric.statistics(rows).eligible.tolist() == [True, False, False, True]
    assert metric.lacking({"answer", "explanation", "language:zh"}) == "METEOR 1.5 does not know language 'zh'"
    assert "paraphrase table" in str(metric.lacking({"answer", "explanation", "language:de"}))
    assert metric.lacking({"answer", "explanation", "language:zh", "language:en"}) is None
    bleu = metric_registry().load("bleu_1")(context_for(rows))
    assert isinstance(bleu, AdditiveMetric)
    assert bleu.statistics(rows).eligible.all()
