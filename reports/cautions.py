"""What a reader must know before believing a number: the strip of warnings at the top of each task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.reports.numbers import FEW, count, grouped
from harness.reports.view import ANSWERED_ENOUGH, CUT_OFF_TOO_OFTEN, CellKey, TaskView
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
    warned: dict[str, list[str]] = {}
    for info in view.infos({key.metric for key in view.cells if view.value(key) is not None}):
        if info.warning:
            warned.setdefault(info.warning, []).append(info.label)
    environments = [(run.name, run.manifest.get("environment") or {}) for run in view.runs]
    uncommitted = [name for name, environment in environments if (environment.get("git") or {}).get("dirty")]
    left_out = f"{count(images_left_out, 'image')} would exceed the report's size limit."
    return [
        *_about_runs(view),
        *_about_merging(view),
        *(Caution(", ".join(labels), warning) for warning, labels in warned.items()),
        *(Caution("Not merged", reason) for reason in apart),
        *_about_counts(view),
        *(
            Caution("Uncommitted code", f"{name} was made in a working folder with uncommitted changes.")
            for name in uncommitted
        ),
        *([Caution("Images left out", left_out)] if images_left_out else []),
    ]


def _about_runs(view: TaskView) -> Iterator[Caution]:
    """What was run and scored: illustration instead of data, a part of a split, results of an older version."""
    if view.entry.get("illustrative"):
        yield Caution(
            "Illustrative data", "Machine-written illustration, never to be reported as a result.", is_grave=True
        )
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
    old = [run.name for run in view.runs if not run.results.get("metrics")]
    if old:
        yield Caution(
            "Scored by an older version",
            f"{', '.join(old)} does not say what its metrics are called and which direction is better: no order, no "
            "bold. `harness score RUN` adds it.",
        )


def _about_merging(view: TaskView) -> Iterator[Caution]:
    """Why rows of different runs are not comparable."""
    if len(view.runs) > 1:
        ids = [frozenset(example.id for example in run.folder.examples(view.name)) for run in view.runs]
        if len(set(ids)) > 1:
            yield Caution(
                "Different images",
                f"The merged runs do not cover the same images ({', '.join(grouped(len(i)) for i in ids)}; "
                f"{grouped(len(frozenset.intersection(*ids)))} in common): rows of different runs are not comparable.",
                is_grave=True,
            )
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


def _about_counts(view: TaskView) -> Iterator[Caution]:
    """Too few answers, or cut off ones; too few images, in all or with one of the emotions."""
    covered = [(row.label, row.coverage) for row in view.rows if row.coverage is not None]
    unranked = [f"{label}: {c.answered} of {c.examples}" for label, c in covered if c.share < ANSWERED_ENOUGH]
    if unranked:
        yield Caution(
            f"Answered below {100 * ANSWERED_ENOUGH:.0f}\u00a0%",
            f"{'; '.join(unranked)}. Marked † and not ranked: texts are scored where there are any.",
        )
    cut = [f"{label}: {c.truncated} of {c.answered}" for label, c in covered if c.cut_off > CUT_OFF_TOO_OFTEN]
    if cut:
        yield Caution(
            "Cut off by the token limit",
            f"{'; '.join(cut)} answers. The scores of these texts are those of the limit: raise "
            "max_tokens (endpoints) or max_new_tokens (local models) and run again.",
        )
    failed = [f"{label}: {c.failed} of {c.examples}" for label, c in covered if c.failed]
    if failed:
        yield Caution("Failures", f"{'; '.join(failed)}. No answer could be obtained for these images.")
    cells = (view.cells.get(CellKey(row.id, "accuracy")) for row in view.rows)
    n = max((int(cell["n"]) for cell in cells if cell is not None and cell.get("n")), default=SMALL_N)
    if n < SMALL_N:
        # Wilson half-width of a proportion of one half: the widest interval that n images can give.
        half = 100 * (wilson(n / 2, n).high - 0.5)
        yield Caution(
            "Few images",
            f"Accuracy rests on {count(n, 'image')} with a majority emotion: "
            f"the 95\u00a0% interval of a row is up to ±\u00a0{half:.0f} points.",
        )
    found: dict[str, int] = {}
    for key, cell in view.cells.items():
        if key.emotion is not None and key.conditioned_on == "annotated":
            found[key.emotion] = max(found.get(key.emotion, 0), int(cell.get("n") or 0))
    few = [f"{emotion} {found[emotion]}" for emotion in view.emotions if found.get(emotion, FEW) < FEW]
    if few:
        yield Caution("Rare emotions", f"Fewer than {FEW} images have an annotation of: {', '.join(few)}.")
