"""Colours, heatmaps, confusion matrices, distributions, slices and pairs."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from page_tree import Element, parse
from run_builder import EMOTIONS, HOSTILE

from harness.reports.breakdowns import HEAT_STEPS, heat_step, heatmaps, slice_tables
from harness.reports.build import build_report
from harness.reports.comparisons import pairs
from harness.reports.figures import ARTEMIS, colour_slots
from harness.reports.labels import NO_ANSWER, confusions, distributions
from harness.reports.terminal import leaderboard_table
from harness.reports.view import Run, TaskView, gather
from harness.store.run_folder import RowKey, RunFolder
from harness.types import Answer

ASSETS = Path(__file__).resolve().parents[2] / "reports" / "assets"


@pytest.fixture(scope="module")
def view(run: RunFolder) -> TaskView:
    (found,) = gather([Run.read(0, run)])
    return found


def test_artemis_emotions_keep_their_colour_beside_any_other_label() -> None:
    alone = colour_slots(ARTEMIS)
    assert [alone[e] for e in ARTEMIS] == list(range(1, 10))
    mixed = colour_slots(["joy", "awe", "boredom"])
    assert mixed == alone | {"boredom": 10, "joy": 11}
    assert colour_slots(["boredom", "joy"]) == mixed


def test_heat_steps_span_the_scale() -> None:
    assert [heat_step(v, 0.0, 1.0) for v in (0.0, 0.05, 0.1, 0.55, 0.999, 1.0)] == [0, 0, 1, 5, 9, 9]
    assert heat_step(0.3, 0.3, 0.3) == HEAT_STEPS // 2


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    """WCAG 2 contrast ratio of two #rrggbb colours."""
    dark, light = sorted((luminance(a), luminance(b)))
    return (light + 0.05) / (dark + 0.05)


def declared(css: str, selector: str, name: str) -> tuple[str, str]:
    """The light and the dark value of a property in the rule of `selector`."""
    for selectors, body in re.findall(r"([^{}]+)\{([^{}]*)\}", re.sub(r"/\*.*?\*/", "", css, flags=re.DOTALL)):
        if selector in [s.strip() for s in selectors.split(",")]:
            found = re.search(rf"(?:^|[;\s]){name}: light-dark\((#\w{{6}}), (#\w{{6}})\)", body)
            if found:
                return found.group(1), found.group(2)
    raise AssertionError(f"no {name} for {selector}")


def test_heat_colours_are_legible_and_ordered_by_lightness() -> None:
    css = (ASSETS / "report.css").read_text(encoding="utf-8")
    for theme in (0, 1):
        backgrounds = [declared(css, f".h{step}", "background")[theme] for step in range(HEAT_STEPS)]
        inks = [declared(css, f".h{step}", "color")[theme] for step in range(HEAT_STEPS)]
        assert all(contrast(b, i) >= 4.5 for b, i in zip(backgrounds, inks, strict=True))
        lightness = [luminance(b) for b in backgrounds]
        assert lightness == sorted(lightness, reverse=theme == 0)


def test_text_colours_meet_contrast_aa() -> None:
    css = (ASSETS / "report.css").read_text(encoding="utf-8")
    for theme in (0, 1):
        colour = {n: declared(css, ":root", f"--{n}")[theme] for n in ("paper", "raised", "ink", "soft", "accent")}
        for text in ("ink", "soft", "accent"):
            assert contrast(colour[text], colour["paper"]) >= 4.5, (text, theme)
            assert contrast(colour[text], colour["raised"]) >= 4.5, (text, theme)
        for name, paper in (("grave", "grave-paper"), ("mild", "mild-paper")):
            assert (
                contrast(declared(css, ":root", f"--{name}")[theme], declared(css, ":root", f"--{paper}")[theme]) >= 4.5
            )


def test_emotion_marks_stand_out_from_the_paper() -> None:
    css = (ASSETS / "samples.css").read_text(encoding="utf-8")
    for slot in range(1, 22):
        light, dark = declared(css, f".emo-{slot}", "--emotion")
        assert contrast(light, "#ffffff") >= 3
        assert contrast(dark, "#14161a") >= 3


def test_heatmaps_hold_every_cell_of_every_view(view: TaskView, run: RunFolder) -> None:
    maps = heatmaps(view)
    assert (maps[0].info.name, maps[0].view) == ("accuracy", "annotated")
    assert {(m.info.name, m.view) for m in maps} == {
        (c["metric"], c["conditioned_on"]) for c in run.results()["cells"] if c["emotion"]
    }
    cells = {
        (c["model"], c["control"], c["metric"], c["conditioned_on"], c["emotion"]): c for c in run.results()["cells"]
    }
    for heatmap in maps:
        for row, printed in heatmap.rows:
            for emotion, cell in zip(EMOTIONS, printed, strict=True):
                source = cells[row.id.model, row.id.control, heatmap.info.name, heatmap.view, emotion]
                assert cell.n == source["n"]
                assert bool(cell.reason) == (source["value"] is None)
                assert cell.is_few == (source["value"] is not None and source["n"] < 10)
                assert cell.text == ("–" if cell.reason else f"{100 * source['value']:.1f}")


def test_few_paintings_do_not_stretch_the_colour_scale(view: TaskView, run: RunFolder) -> None:
    solid = [
        c["value"]
        for c in run.results()["cells"]
        if c["emotion"] and c["metric"] == "bleu_4" and c["conditioned_on"] == "predicted" and c["n"] >= 10
    ]
    (heatmap,) = [m for m in heatmaps(view) if (m.info.name, m.view) == ("bleu_4", "predicted")]
    assert heatmap.ends == (f"{100 * min(solid):.1f}", f"{100 * max(solid):.1f}")


def test_annotated_view_prefers_references_of_the_emotion(tmp_path: Path, run: RunFolder) -> None:
    copy = RunFolder(tmp_path)
    copy.save_manifest(run.manifest())
    results = run.results()
    source = next(
        c for c in results["cells"] if c["metric"] == "bleu_4" and c["emotion"] == "awe" and c["model"] == "small"
    )
    source |= {"value": 0.111, "n": 30, "unavailable": None}
    results["cells"].append({**source, "references": "same_emotion", "value": 0.222})
    copy.save_results(results)
    (view,) = gather([Run.read(0, copy)])
    shown = {m.view: m.rows[0][1][EMOTIONS.index("awe")].text for m in heatmaps(view) if m.info.name == "bleu_4"}
    assert shown["annotated"] == "22.2"


def test_confusion_counts_and_percentages(view: TaskView, run: RunFolder) -> None:
    asked = list(run.examples("tiny"))
    answers = run.outcomes("tiny", RowKey("endpoint"))
    matrix = next(c for c in confusions(view) if c.row.label == "endpoint")
    assert matrix.columns == (*EMOTIONS, NO_ANSWER)
    for label, total, cells in matrix.lines:
        of_label = [e for e in asked if e.dominant_emotion == label]
        assert total == len(of_label)
        for column, cell in zip(matrix.columns, cells, strict=True):
            expected = sum((getattr(answers[e.id], "emotion", NO_ANSWER)) == column for e in of_label)
            assert cell.count == expected
            assert cell.percent == (f"{100 * expected / total:.0f}" if expected else None)
            assert cell.is_diagonal == (label == column)


def test_distributions_add_up(view: TaskView, run: RunFolder) -> None:
    asked = list(run.examples("tiny"))
    found = distributions(view, asked, {row: view.outcomes(row) for row in view.rows})
    endpoint = next(d for d in found if d.row.label == "endpoint")
    assert sum(bar.human for bar in endpoint.bars) == pytest.approx(100)
    assert endpoint.unanswered == pytest.approx(100 * 4 / 12)
    assert sum(bar.predicted for bar in endpoint.bars) == pytest.approx(100 * 8 / 12)
    said = [o.emotion for o in run.outcomes("tiny", RowKey("endpoint")).values() if isinstance(o, Answer)]
    assert [bar.predicted for bar in endpoint.bars] == pytest.approx([100 * said.count(e) / 12 for e in EMOTIONS])


def test_slices_name_their_values_and_grey_the_small(view: TaskView) -> None:
    (table,) = slice_tables(view)
    assert (table.key, table.info.name, table.left_out) == ("style", "accuracy", 0)
    assert [value for value, _ in table.lines] == [HOSTILE["script"], "Baroque"]
    assert all(cell.is_few and cell.n == 6 for _, cells in table.lines for cell in cells)


def test_pairs_read_in_the_better_direction(view: TaskView) -> None:
    overall, per_emotion = pairs(view)
    first = overall[0]
    assert (first.info.name, first.a, first.b) == ("accuracy", "small", "large")
    assert (first.difference, first.interval) == ("+10.0", "+5.0 to +15.0")
    assert (first.p, first.p_holm, first.n, first.verdict) == (".004", ".012", 11, "small better")
    assert {p.emotion for p in per_emotion} == {"awe"}
    assert {p.verdict for p in per_emotion} == {"no difference shown"}


def test_chips_always_carry_their_word(page: Element) -> None:
    chips = page.all("span", css="chip")
    assert len(chips) > 20
    assert all(chip.text in EMOTIONS for chip in chips)


def marked(section: Element, scope: str) -> list[str]:
    """Heads of rows or columns of the first table that carry the mark of held-out annotations."""
    table = section.all("table")[0]
    assert "‡" in table.one("caption").text
    return [th.text.split(" ‡")[0].split("‡")[0] for th in table.all("th", scope=scope) if "‡" in th.text]


def test_captions_say_the_unit_and_the_rule_of_dominance(page: Element, run: RunFolder, tmp_path: Path) -> None:
    assert "Accuracy, percent" in page.one("section", id="tiny-emotions").all("caption")[0].text
    differences = page.one("section", id="tiny-pairs").all("caption")
    assert ["percentage points" in caption.text for caption in differences] == [
        "CIDEr-D" not in caption.text for caption in differences
    ]
    assert "emotion of more than half" in page.one("section", id="tiny-confusion").text
    folder = RunFolder(tmp_path / "run")
    shutil.copytree(run.path, folder.path)
    manifest = dict(folder.manifest())
    manifest["tasks"] = [entry | {"protocol": "artemis-plain"} for entry in manifest["tasks"]]
    folder.save_manifest(manifest)
    other = parse(build_report([folder], tmp_path / "out").read_text(encoding="utf-8"))
    assert "emotion of at least half" in other.one("section", id="tiny-confusion").text


def test_only_the_people_who_are_there_are_explained_and_all_are_marked(
    page: Element, run: RunFolder, tmp_path: Path
) -> None:
    told = page.one("section", id="tiny-leaderboard").text
    assert "human row is no ceiling" in told
    assert "crowd row answers" not in told
    folder = RunFolder(tmp_path / "run")
    shutil.copytree(run.path, folder.path)
    results = dict(folder.results())
    results["cells"] = [
        c | {"references": "leave_half_out" if c["model"] == "human" else "all"}
        for c in results["cells"]
        if c["references"] == "all"
    ]
    folder.save_results(results)
    other = parse(build_report([folder], tmp_path / "out").read_text(encoding="utf-8"))
    told = other.one("section", id="tiny-leaderboard").text
    assert "crowd row answers" in told
    assert "human row is no ceiling" not in told
    assert marked(other.one("section", id="tiny-emotions"), "row") == ["human"]
    assert marked(other.one("section", id="tiny-slices"), "col") == ["human"]


@pytest.mark.parametrize("remaining", ["leave_one_out", "leave_half_out"])
def test_what_people_are_scored_on_appears_per_emotion_and_slice(
    tmp_path: Path, run: RunFolder, remaining: str
) -> None:
    """A human or crowd row has no cells on all references, only on those that remain."""
    folder = RunFolder(tmp_path / "run")
    shutil.copytree(run.path, folder.path)
    results = folder.results()
    results["cells"] = [
        c | {"references": remaining if c["model"] == "human" else c["references"]}
        for c in results["cells"]
        if c["model"] != "human" or c["references"] == "all"
    ]
    folder.save_results(results)
    (found,) = gather([Run.read(0, folder)])
    for heatmap in heatmaps(found):
        (cells,) = [cells for row, cells in heatmap.rows if row.label == "human"]
        assert any(cell.n for cell in cells)
    for table in slice_tables(found):
        assert "human" in [row.label for row in table.rows]
    assert "human ‡" in leaderboard_table(dict(results), "tiny")
