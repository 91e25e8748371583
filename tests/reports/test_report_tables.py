"""The leaderboard for papers: LaTeX and Markdown that print every text as it is."""

from __future__ import annotations

import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from run_builder import HOSTILE, examples, outcomes, write_run

from harness.reports.build import build_report
from harness.reports.exports import latex_text, markdown_text
from harness.store.run_folder import RowKey, RunFolder


def test_markdown_holds_the_numbers_of_results_json(report: Path, run: RunFolder) -> None:
    lines = (report / "leaderboard-tiny.md").read_text(encoding="utf-8").splitlines()
    head = [cell.strip() for cell in lines[0].strip("|").split("|")]
    counts = {
        (c["model"], c["metric"]): c["n"]
        for c in run.results()["cells"]
        if c["references"] == "all" and not (c["emotion"] or c["slice"] or c["control"])
    }
    assert head[1] == f"Accuracy ↑, n {counts['small', 'accuracy']}"
    macro = head.index(next(one for one in head if one.startswith("Macro F1")))
    assert head[macro] == f"Macro F1 ↑, n {counts['small', 'macro_f1']}"
    (line,) = [line for line in lines if line.startswith("| endpoint † |")]
    assert line.split("|")[macro + 1].strip().endswith(f"; n {counts['endpoint', 'macro_f1']}\\]")
    assert all(line.count("|") == lines[0].count("|") for line in lines[:8])
    accuracy = {
        c["model"]: c["value"]
        for c in run.results()["cells"]
        if c["metric"] == "accuracy" and not (c["emotion"] or c["slice"] or c["control"])
    }
    for model in ("small", "large", "majority"):
        (line,) = [line for line in lines if line.startswith(f"| {model} |")]
        assert line.split("|")[2].strip(" *").startswith(f"{100 * accuracy[model]:.1f}")
    assert any(line.startswith("| endpoint † |") for line in lines)


def test_latex_is_a_balanced_table(report: Path) -> None:
    text = (report / "leaderboard-tiny.tex").read_text(encoding="utf-8")
    assert text.count(r"\begin{") == text.count(r"\end{") == 2
    columns = re.search(r"\\begin\{tabular\}\{l(r+)\}", text)
    assert columns is not None
    body = text.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
    assert len(body) == 6
    assert all(len(re.findall(r"(?<!\\)&", line)) == len(columns.group(1)) for line in body)
    assert all(line.endswith(r"\\") for line in body)
    assert r"small, blank image" in text
    assert "†" not in text


def test_bold_where_the_page_is_bold(tmp_path: Path) -> None:
    asked = examples(tmp_path / "pictures")
    rows = {RowKey("small"): outcomes(asked, 0), RowKey("large"): outcomes(asked, 1)}
    out = build_report([write_run(tmp_path / "run", rows, asked)], tmp_path / "out").parent
    for name, bold in (("leaderboard-tiny.tex", r"\textbf{"), ("leaderboard-tiny.md", "**")):
        assert bold in (out / name).read_text(encoding="utf-8")


def test_special_characters_are_printed() -> None:
    assert latex_text(r"50 % of $x_1$ & \y{z}~^#") == (
        r"50 \% of \$x\_1\$ \& \textbackslash{}y\{z\}\textasciitilde{}\textasciicircum{}\#"
    )
    assert markdown_text("a|b *c* <d> [e](f)\ng") == r"a\|b \*c\* &lt;d&gt; \[e\]\(f\) g"


@given(st.text() | st.sampled_from(sorted(HOSTILE.values())))
def test_no_text_can_leave_its_cell(text: str) -> None:
    latex = latex_text(text)
    assert not re.search(r"(?<!\\)[%&#_]", latex)
    assert not set(latex) & {"\n", "\r", "~", "\u202e"}
    markdown = markdown_text(text)
    assert not re.search(r"(?<!\\)\|", markdown)
    assert not set(markdown) & {"\n", "\r", "<", ">", "\u202e"}
    (latex + markdown).encode("utf-8")
