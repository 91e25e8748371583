"""What a reader must know before believing a number: the strip of warnings at the top of each task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.reports.numbers import FEW, count, grouped
from harness.reports.view import ANSWERED_ENOUGH, CUT_OFF_TOO_OFTEN, CellKey, LeaderboardRow, TaskView
from harness.score.statistics import wilson

SMALL_N = 100


@dataclass(frozen=True, slots=True)
class Caution:
    """One warning; `is_grave` marks those that forbid reporting the numbers."""

    title: str
    text: str
    is_grave: bool = False


def cautions(view: TaskView, images_left_out: int = 0, apart: Sequence[str] = ()) -> list[Caution]:
    """The warnings of a task, gravest first.

    Args:
        view: the task.
        images_left_out: thumbnails beyond the size limit.
        apart: why runs of a task of the same name stand in leaderboards of their own.
    """
    left_out = f"{count(images_left_out, 'image')} would exceed the report's size limit."
    return [
        *_illustrative(view),
        *_limited(view),
        *_undescribed(view),
        *_different_images(view),
        *_different_signatures(view),
        *_metrics(view),
        *(Caution("Not merged", reason) for reason in apart),
        *_rows(view),
        *_small(view),
        *_small_emotions(view),
        *_code_state(view),
        *([Caution("Images left out", left_out)] if images_left_out else []),
    ]


def _illustrative(view: TaskView) -> Iterator[Caution]:
    if view.entry.get("illustrative"):
        yield Caution(
            "Illustrative data", "Machine-written illustration, never to be reported as a result.", is_grave=True
        )


def _limited(view: TaskView) -> Iterator[Caution]:
    for run in view.runs:
        entry = run.task_entry(view.name)
        examples, available = entry.get("examples"), entry.get("available")
        if examples is not None and available is not None and examples < available:
            where = f" ({run.name})" if len(view.runs) > 1 else ""
            yield Caution(
                "Limited run",
                f"{grouped(examples)} of {count(available, 'image')} were run{where}: "
                "not comparable with results on the whole split.",
                is_grave=True,
            )


def _undescribed(view: TaskView) -> Iterator[Caution]:
    old = [run.name for run in view.runs if not run.results.get("metrics")]
    if old:
        yield Caution(
            "Scored by an older version",
            f"{', '.join(old)} does not say what its metrics are called and which direction is better: no order, no "
            "bold. `harness score RUN` adds it.",
        )


def _different_images(view: TaskView) -> Iterator[Caution]:
    if len(view.runs) < 2:
        return
    ids = [frozenset(example.id for example in run.folder.examples(view.name)) for run in view.runs]
    if len(set(ids)) > 1:
        yield Caution(
            "Different images",
            f"The merged runs do not cover the same images ({', '.join(grouped(len(i)) for i in ids)}; "
            f"{grouped(len(frozenset.intersection(*ids)))} in common): rows of different runs are not comparable.",
            is_grave=True,
        )


def _different_signatures(view: TaskView) -> Iterator[Caution]:
    found: dict[tuple[str, str], dict[int, set[str]]] = {}
    for key, cell in view.cells.items():
        if key.emotion is None and key.slice is None and view.value(key) is not None:
            by_run = found.setdefault((key.metric, key.references), {})
            by_run.setdefault(key.row.run, set()).add(str(cell.get("signature")))
    names = {metric for (metric, _), by_run in found.items() if len({frozenset(one) for one in by_run.values()}) > 1}
    if names:
        labels = ", ".join(info.label for info in view.infos(names))
        yield Caution(
            "Different signatures",
            f"The merged runs did not compute these alike: {labels}. "
            "Rows of different runs are not comparable by them; Methods has the signatures.",
            is_grave=True,
        )


def _metrics(view: TaskView) -> Iterator[Caution]:
    shown = {key.metric for key in view.cells if view.value(key) is not None}
    warned: dict[str, list[str]] = {}
    for info in view.infos(shown):
        if info.warning:
            warned.setdefault(info.warning, []).append(info.label)
    yield from (Caution(", ".join(labels), warning) for warning, labels in warned.items())


def _rows(view: TaskView) -> Iterator[Caution]:
    unranked = [row for row in view.rows if row.coverage and row.coverage.share < ANSWERED_ENOUGH]
    if unranked:
        yield Caution(
            f"Answered below {100 * ANSWERED_ENOUGH:.0f} %",
            f"{_listed(unranked, 'answered')}. Marked † and not ranked: texts are scored where there are any.",
        )
    cut = [row for row in view.rows if row.coverage and row.coverage.cut_off > CUT_OFF_TOO_OFTEN]
    if cut:
        yield Caution(
            "Cut off by the token limit",
            f"{_listed(cut, 'truncated', 'answered')} answers. The scores of these texts are those of the limit: raise "
            "max_tokens (endpoints) or max_new_tokens (local models) and run again.",
        )
    failed = [row for row in view.rows if row.coverage and row.coverage.failed]
    if failed:
        yield Caution("Failures", f"{_listed(failed, 'failed')}. No answer could be obtained for these images.")


def _listed(rows: list[LeaderboardRow], name: str, among: str = "examples") -> str:
    return "; ".join(f"{r.label}: {getattr(r.coverage, name)} of {getattr(r.coverage, among)}" for r in rows)


def _small(view: TaskView) -> Iterator[Caution]:
    counts = [
        int(cell["n"])
        for row in view.rows
        if (cell := view.cells.get(CellKey(row.id, "accuracy"))) is not None and cell.get("n")
    ]
    if counts and max(counts) < SMALL_N:
        n = max(counts)
        # Wilson half-width of a proportion of one half: the widest interval that n images can give.
        half = 100 * (wilson(n / 2, n).high - 0.5)
        yield Caution(
            "Few images",
            f"Accuracy rests on {count(n, 'image')} with a majority emotion: "
            f"the 95 % interval of a row is up to ± {half:.0f} points.",
        )


def _small_emotions(view: TaskView) -> Iterator[Caution]:
    found: dict[str, int] = {}
    for key, cell in view.cells.items():
        if key.emotion is not None and key.conditioned_on == "annotated":
            found[key.emotion] = max(found.get(key.emotion, 0), int(cell.get("n") or 0))
    few = [f"{emotion} {found[emotion]}" for emotion in view.emotions if found.get(emotion, FEW) < FEW]
    if few:
        yield Caution("Rare emotions", f"Fewer than {FEW} images have an annotation of: {', '.join(few)}.")


def _code_state(view: TaskView) -> Iterator[Caution]:
    for run in view.runs:
        git = (run.manifest.get("environment") or {}).get("git") or {}
        if git.get("dirty"):
            yield Caution("Uncommitted code", f"{run.name} was made in a working folder with uncommitted changes.")
