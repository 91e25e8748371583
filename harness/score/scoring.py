"""Scores of one task: cells, coverage, confusion matrices and comparisons, as `results.json` holds them.

A pure function of examples and outcomes; `docs/metrics.md` says what every number means. The rules:

- a painting without an outcome counts as `Failed("missing")`; label metrics keep every eligible painting;
- text metrics use answered paintings, and every cell shows its n;
- CIDEr's document frequencies are those of the whole split;
- intervals: Wilson for proportions, bootstrap over paintings for other aggregates, none for set-valued metrics;
- where a row answers with a held-out annotation (`human`), it is scored without that annotation, and every model also
  gets `leave_one_out` cells on the same remaining references.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Any

from harness.plan.registry import metric_registry
from harness.score.cells import Scorer
from harness.score.compare import compare
from harness.score.headline import Contest, shares, slice_differences
from harness.score.planes import plane_records
from harness.score.predictions import Reading
from harness.score.rows import Sheet, checked_outcomes, sheets
from harness.score.statistics import wilson
from harness.store.run_folder import RowKey
from harness.tasks.metrics.alignment import Consistency
from harness.tasks.metrics.base import Context, Metric, Unavailable
from harness.tasks.metrics.caption_engine import CaptionEngine
from harness.tasks.metrics.caption_store import CaptionStore
from harness.tasks.metrics.emotion_reader import EmotionReader
from harness.tasks.metrics.java import MeteorProcess
from harness.tasks.metrics.probabilities import ECEShares
from harness.tasks.metrics.similarity import TextSimilarity
from harness.tasks.metrics.word_affect import WordAffect
from harness.types import Answer, Example, Failed, Outcome, Refusal, Task, Unparsed


@dataclass(frozen=True)
class Resources:
    """What metrics may use besides examples and outcomes; a metric whose resource is None says that it is missing.

    Attributes:
        meteor: a METEOR process to use (the caller closes it); one is started and ended by `score_task` when None.
        store: what the Java programs said before.
        reader: the text-to-emotion classifier.
        lexicon: valence, arousal and dominance of words.
        similarity: the encoder of BERTScore.
    """

    meteor: MeteorProcess | None = None
    store: CaptionStore | None = None
    reader: EmotionReader | None = None
    lexicon: WordAffect | None = None
    similarity: TextSimilarity | None = None


_NONE = Resources()


@dataclass(frozen=True)
class TaskScores:
    """Records for the keys of `results.json` of the same names, and what was read from each explanation.

    `readings` is row -> painting id -> reading, empty for a row without explanations or where there is no classifier.
    """

    cells: list[dict[str, Any]]
    coverage: list[dict[str, Any]]
    confusion: list[dict[str, Any]]
    comparisons: list[dict[str, Any]]
    calibration: list[dict[str, Any]]
    planes: list[dict[str, Any]]
    shares: list[dict[str, Any]]
    differences: list[dict[str, Any]]
    readings: dict[RowKey, dict[str, Reading]]


def score_task(
    task: Task,
    examples: Sequence[Example],
    train: Sequence[Example] | None,
    rows: Mapping[RowKey, Mapping[str, Outcome]],
    *,
    split: str,
    seed: int = 0,
    replicates: int = 1000,
    preprocessing: str = "none",
    whole_split: Sequence[Example] | None = None,
    resources: Resources = _NONE,
    sides: Contest | None = None,
) -> TaskScores:
    """Score every row of a task.

    Args:
        task: label set, protocol, metrics, slices.
        examples: the paintings that were asked about.
        train: the training split, or None where it is not at hand.
        rows: for each row of the leaderboard, painting id -> outcome.
        split: name of the split, for the cells.
        seed: of bootstrap and permutations.
        replicates: bootstrap replicates.
        preprocessing: of the reader, for signatures.
        whole_split: all paintings of the split where `examples` are a part of it (`--limit`): CIDEr's document
            frequencies are theirs.
        resources: programs, classifier, lexicon.
        sides: the small model and the larger ones, for `shares` and `differences`.

    Raises:
        UserError: outcomes of unknown or repeated ids, labels outside the task's, or an unknown metric name.
    """
    outcomes = {key: checked_outcomes(task, examples, key, found) for key, found in rows.items()}
    references = [[a.explanation for a in e.annotations] for e in whole_split or examples]
    texts = None if train is None else tuple(a.explanation for e in train for a in e.annotations)
    with nullcontext(resources.meteor) if resources.meteor is not None else MeteorProcess() as process:
        captions = CaptionEngine(task.protocol, process, references, resources.store)
        context = Context(
            task, captions, texts, preprocessing, resources.reader, resources.lexicon, resources.similarity
        )
        scorer = Scorer(context, load_metrics(context), split, seed, replicates)
        found = sheets(task, examples, outcomes)
        scorer.prepare(found)
        return TaskScores(
            [cell for sheet in found for cell in scorer.cells(sheet)],
            [coverage_record(task, key, outcomes[key]) for key in rows],
            [confusion_record(context, sheet) for sheet in found if sheet.is_main],
            compare(scorer, found),
            [record for sheet in found if (record := calibration_record(context, sheet)) is not None],
            plane_records(task, resources.lexicon, examples, outcomes) if resources.lexicon is not None else [],
            shares(scorer, found, sides) if sides is not None else [],
            slice_differences(scorer, found, sides.names) if sides is not None else [],
            {sheet.key: readings_of(scorer.metrics, sheet) for sheet in found if sheet.is_main},
        )


def load_metrics(context: Context) -> list[Metric]:
    """The task's metrics, all registered ones that apply when it names none.

    Raises:
        UserError: unknown metric name.
    """
    registry = metric_registry()
    if context.task.metrics is not None:
        return [registry.load(name)(context) for name in context.task.metrics]
    return [metric(context) for metric in map(registry.load, registry.names()) if metric.applies(context.task)]


def coverage_record(task: Task, key: RowKey, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """How many images were answered, refused, unparsed, failed; and how many answers the token limit cut off."""

    def count(kind: type[Outcome]) -> int:
        return sum(isinstance(outcome, kind) for outcome in outcomes)

    return {
        "task": task.name,
        "model": key.model,
        "control": key.control,
        "examples": len(outcomes),
        "answered": count(Answer),
        "refused": count(Refusal),
        "unparsed": count(Unparsed),
        "failed": count(Failed),
        "truncated": sum(isinstance(outcome, Answer) and outcome.truncated for outcome in outcomes),
    }


def readings_of(metrics: Sequence[Metric], sheet: Sheet) -> dict[str, Reading]:
    """What the metric `consistency` rests on, by painting id; empty where it is not asked for or not to be had."""
    consistency = next((metric for metric in metrics if isinstance(metric, Consistency)), None)
    if consistency is None:
        return {}
    with suppress(Unavailable):
        found = zip(sheet.rows, *consistency.readings(sheet.rows), strict=True)
        return {row.example.id: Reading(read, bool(same)) for row, read, same, counts in found if counts}
    return {}


def calibration_record(context: Context, sheet: Sheet) -> dict[str, Any] | None:
    """The reliability diagram of a model that gives probabilities; None for people and controls.

    `low` and `high` are Wilson's interval of a bin's mean share, which is wide enough for shares.
    """
    if sheet.references != "all" or sheet.key.control is not None:
        return None
    metric = ECEShares(context)
    try:
        diagram = metric.bins(metric.statistics(sheet.rows))
    except Unavailable:
        return None
    if diagram is None:
        return None
    for slot in diagram["slots"]:
        slot["low"], slot["high"] = wilson(slot["accuracy"] * slot["n"], slot["n"])
    return {"task": context.task.name, "model": sheet.key.model, "control": None, **diagram}


def confusion_record(context: Context, sheet: Sheet) -> dict[str, Any]:
    """Counts (L, L + 1): dominant emotion by answered label, the last column being no answer."""
    labels = context.task.emotions
    counts = [[0] * (len(labels) + 1) for _ in labels]
    for row in sheet.rows:
        dominant = context.dominant(row.histogram)
        if dominant is not None:
            column = len(labels) if row.emotion is None else labels.index(row.emotion)
            counts[labels.index(dominant)][column] += 1
    return {
        "task": context.task.name,
        "model": sheet.key.model,
        "control": sheet.key.control,
        "labels": list(labels),
        "counts": counts,
    }
