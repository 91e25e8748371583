"""The HTML report: one folder that opens from disk, offline, and says the same every time it is rendered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from harness.atomic import write_atomically
from harness.reports import affect, labels, numbers, scatter
from harness.reports.breakdowns import HEAT_STEPS, control_tables, heatmaps, slice_tables
from harness.reports.cautions import cautions
from harness.reports.comparisons import charts, pairs, summaries
from harness.reports.exports import (
    cells_csv,
    judged_csv,
    judged_tables_text,
    latex_table,
    latex_text,
    markdown_table,
    markdown_text,
)
from harness.reports.figures import (
    Table,
    colour_slots,
    link_tables,
    read_tables,
    standalone_figures,
    standalone_tables,
)
from harness.reports.headline import answer_text, answers
from harness.reports.judged import judged_tables, people_tables
from harness.reports.leaderboard import boards, published_rows, seed_table
from harness.reports.methods import counted, methods, prompts, results_file, run_records
from harness.reports.samples import (
    Thumbnail,
    link_images,
    make_thumbnails,
    sample_scripts,
    script,
    whole_text,
    word_valences,
)
from harness.reports.view import LeaderboardRow, Run, TaskView, gather, reasons_apart
from harness.store.run_folder import RunFolder, to_json
from harness.types import Example, Outcome, UserError

_HERE = Path(__file__).parent
ASSETS = ("report.css", "samples.css", "report.js", "cards.js", "filters.js", "samples.js")


def build_report(runs: Sequence[RunFolder], out: Path, *, blur: bool = False, copies: bool = True) -> Path:
    """Write the report of one or several scored runs and return the path of its `index.html`.

    Every file is replaced as a whole; files of an earlier rendering that are no longer linked are removed. The same
    runs give the same bytes.

    Args:
        runs: scored run folders; runs of the same task become one leaderboard.
        out: the report's folder, created if absent.
        blur: images are blurred until they are clicked (some show nudity or violence).
        copies: the report holds small copies of the images; without, it links to the originals where they lie.

    Raises:
        UserError: no run was given, or one of them is not scored.
    """
    if not runs:
        raise UserError("report: expected at least one run folder, got none")
    read = [Run.read(index, folder) for index, folder in enumerate(runs)]
    views = gather(read)
    examples = {view.slug: list(view.examples().values()) for view in views}
    images = [e.image for chosen in examples.values() for e in chosen]
    thumbnails = make_thumbnails(images, out / "thumbs") if copies else link_images(images, out)
    scripts = {"valence.js"}
    pages = []
    for view in views:
        outcomes = {row: view.outcomes(row) for row in view.rows}
        beside = [(view.readings(row), view.opinions(row)) for row in view.rows]
        for name, text in sample_scripts(view, examples[view.slug], outcomes, beside, thumbnails):
            write_atomically(out / "data" / name, text)
            scripts.add(name)
        apart = reasons_apart(view, views)
        pages.append(_task_page(view, examples[view.slug], outcomes, thumbnails, apart))
    _write_beside(out, read, pages)
    page = _render(pages, read, blur)
    tables = read_tables(page)
    page = link_tables(page, tables)
    figures = _svg_files(page, tables)
    for name, svg in figures.items():
        write_atomically(out / "figures" / name, svg)
    write_atomically(out / "index.html", page)
    _prune(out / "figures", "*.svg", figures)
    _prune(out / "data", "*.js", scripts)
    _prune(out / "thumbs", "*.jpg", {image.name for image in thumbnails.values() if image.name})
    return out / "index.html"


def report_text(runs: Sequence[RunFolder], form: str) -> str:
    """The answer and the leaderboard of every task for a paper or a README.

    Args:
        runs: scored run folders.
        form: `md` or `tex`.

    Raises:
        UserError: another form, or a run that is not scored.
    """
    if form not in ("md", "tex"):
        raise UserError(f"--format: expected md or tex, got {form!r}")
    escaped, table = (markdown_text, markdown_table) if form == "md" else (latex_text, latex_table)
    parts = []
    for view in gather([Run.read(index, folder) for index, folder in enumerate(runs)]):
        for _, found in answers(view):
            parts += [escaped(line) + "\n" for line in answer_text(found)]
        parts.append(table(view, boards(view)[0]))
        parts += [judged] if (judged := judged_tables_text(view, form)) else []
    return "\n".join(parts)


def save_figures(page: Path, folder: Path) -> int:
    """Write every figure and table of a rendered page into `folder` as SVG, and say how many."""
    html = page.read_text(encoding="utf-8")
    figures = _svg_files(html, read_tables(html))
    for name, svg in figures.items():
        write_atomically(folder / name, svg)
    return len(figures)


def _svg_files(page: str, tables: Iterable[Table]) -> dict[str, str]:
    """Figures and tables of a page as files of their own, by file name."""
    return {**dict(standalone_figures(page)), **dict(standalone_tables(tables))}


def _task_page(
    view: TaskView,
    examples: Sequence[Example],
    outcomes: Mapping[LeaderboardRow, Mapping[str, Outcome]],
    thumbnails: Mapping[Path, Thumbnail],
    apart: Sequence[str],
) -> dict[str, Any]:
    """A task's part of the page, ready to print."""
    tables = boards(view)
    left_out = sum(thumbnails[e.image].reason.startswith("left out") for e in examples)
    overall, per_emotion = pairs(view)
    return {
        "view": view,
        "images": len(examples),
        "cautions": cautions(view, left_out, apart),
        "boards": tables,
        "seeds": seed_table(view),
        "published": published_rows(view, tables[0]),
        "heatmaps": heatmaps(view),
        "confusions": labels.confusions(view),
        "distributions": {found.row: found for found in labels.distributions(view, examples, outcomes)},
        "pairs": overall,
        "emotion_pairs": per_emotion,
        "plots": scatter.plots(view),
        "answers": answers(view),
        "answer_plot": scatter.answer_plot(view),
        "charts": charts(view),
        "calibrations": labels.calibrations(view),
        "affects": affect.affects(view, examples, outcomes),
        "slices": slice_tables(view),
        "controls": control_tables(view),
        "judged": judged_tables(view),
        "people": people_tables(view),
        "prompts": prompts(view),
        "counted": counted(view),
        "methods": methods(view),
    }


@lru_cache(maxsize=8)
def _environment(emotions: tuple[str, ...]) -> Environment:
    """The templates with what they call, for tasks with these emotions; compiling them takes longer than most pages."""
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: whole_text(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals.update(
        slots=colour_slots(emotions),
        count=numbers.count,
        grouped=numbers.grouped,
        signed=numbers.signed,
        heat_steps=HEAT_STEPS,
        plot=scatter,
        reliability=labels,
        affect_plot=affect,
    )
    return environment


def _render(pages: Sequence[Mapping[str, Any]], runs: list[Run], blur: bool) -> str:
    rows = [row for page in pages for row in page["view"].rows]
    # models alone name the page, if there is one: they come before baselines, people and controls
    models = dict.fromkeys(row.id.model for row in rows if row.kind == "model" or rows[0].kind != "model")
    tasks = ", ".join(dict.fromkeys(page["view"].name for page in pages))
    environment = _environment(tuple(emotion for page in pages for emotion in page["view"].emotions))
    text: str = environment.get_template("page.html.j2").render(
        pages=pages,
        runs=runs,
        records=run_records(runs),
        summaries=summaries([page["view"] for page in pages]),
        title=f"{', '.join(models) or 'Nothing'} on {tasks or 'no task'}",
        blur=blur,
    )
    return text


def _write_beside(out: Path, runs: list[Run], pages: Sequence[Mapping[str, Any]]) -> None:
    """What the page loads, and what its readers take away: results, cells and tables."""
    for name in ASSETS:
        write_atomically(out / "assets" / name, (_HERE / "assets" / name).read_text(encoding="utf-8"))
    write_atomically(out / "data" / "valence.js", script("harnessValence", word_valences()))
    for run in runs:
        write_atomically(out / results_file(run, runs), to_json(run.results))
    write_atomically(out / "cells.csv", cells_csv(runs))
    _write_or_remove(out / "judged.csv", judged_csv(runs))
    for page in pages:
        view, board = page["view"], page["boards"][0]
        write_atomically(out / f"leaderboard-{view.slug}.tex", latex_table(view, board))
        write_atomically(out / f"leaderboard-{view.slug}.md", markdown_table(view, board))
        _write_or_remove(out / f"judged-{view.slug}.tex", judged_tables_text(view, "tex"))
        _write_or_remove(out / f"judged-{view.slug}.md", judged_tables_text(view, "md"))


def _write_or_remove(path: Path, text: str) -> None:
    """Write a file that only some runs have; without a text, that of an earlier rendering goes."""
    if text:
        write_atomically(path, text)
    else:
        path.unlink(missing_ok=True)


def _prune(folder: Path, pattern: str, kept: Iterable[str]) -> None:
    """Remove files of an earlier rendering; a folder that is left empty goes too."""
    names = set(kept)
    for path in folder.glob(pattern):
        if path.name not in names:
            path.unlink()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
