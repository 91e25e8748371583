"""The answer in words, in every situation; its place on the page, in the terminal, in papers; figures as files."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from page_tree import Element

from harness.cli import main
from harness.reports.build import report_text, save_figures
from harness.reports.headline import Answer, answer, answer_text
from harness.reports.terminal import leaderboard_table
from harness.score.results import metric_records
from harness.store.run_folder import RunFolder
from harness.types import UserError

TESTED = {"difference": -0.2, "difference_low": -0.3, "difference_high": -0.1, "p_holm": 0.012}
SHARE = {
    "metric": "accuracy",
    "values": [0.4, 0.6, 0.3],
    "share": 1 / 3,
    "low": 0.1,
    "high": 0.6,
    "n": 90,
    "reason": None,
}
LARGE = {
    "model": "llava", "parameters": 7_060_000_000, "latency_p50_s": 4.0, "cost_usd": None,
    "ratios": {"parameters": 38.0, "latency_p50_s": 4.2, "cost_usd": None},
    "emotions": {"metric": "accuracy", "better": [], "worse": ["fear", "anger"], "undecided": ["awe"]},
}  # fmt: skip


def results(larger: list[dict[str, Any]], majority: str | None = "majority", **tested: Any) -> dict[str, Any]:
    over = [{"metric": "accuracy", **TESTED, **tested}] if majority else []
    small = {"model": "sevlm", "parameters": 186_000_000, "latency_p50_s": 0.95, "cost_usd": None}
    record = {"task": "t", "small": small, "majority": majority, "people": [], "larger": larger, "over_majority": over}
    cells = [
        {
            "task": "t",
            "model": model,
            "metric": "accuracy",
            "value": value,
            "low": value - 0.1,
            "high": value + 0.1,
            "n": 90,
        }
        for model, value in (("sevlm", 0.4), ("llava", 0.6), ("shy", 0.9))
    ]
    coverage = [{"task": "t", "model": m, "examples": 120, "answered": 120} for m in ("sevlm", "llava")]
    coverage.append({"task": "t", "model": "shy", "examples": 120, "answered": 12})
    return {"metrics": metric_records(), "headline": [record], "cells": cells, "coverage": coverage}


def large(**share: Any) -> dict[str, Any]:
    return {**LARGE, "shares": [{**SHARE, **TESTED, **share}]}


UNCERTAIN = {"low": None, "high": None, "reason": "the larger model's lead over the majority line is not beyond chance"}
SITUATIONS: list[tuple[dict[str, Any], str, str]] = [
    (
        results([large()]),
        "sevlm keeps 33 % of llava’s lead over the majority line in accuracy.",
        "95 % interval 10 to 60 %. sevlm 40.0 %, llava 60.0 %, majority line 30.0 %.",
    ),
    (
        results([large(**UNCERTAIN)]),
        "llava is not shown to beat the majority line in accuracy, so there is no lead to keep.",
        "sevlm 40.0 %, llava 60.0 %, majority line 30.0 %.",
    ),
    (
        results([large(values=[0.4, 0.2, 0.3], share=None, low=None, high=None)]),
        "llava does not beat the majority line in accuracy, so there is no lead to keep.",
        "sevlm 40.0 %, llava 20.0 %, majority line 30.0 %.",
    ),
    (
        results([large(values=[0.25, 0.6, 0.3], share=-0.17, low=-0.4, high=0.1)]),
        "sevlm keeps nothing of llava’s lead in accuracy: it stays below the majority line.",
        "95 % interval −40 to 10 %. sevlm 25.0 %, llava 60.0 %, majority line 30.0 %.",
    ),
    (
        results([large(values=[0.66, 0.6, 0.3], share=1.2, low=0.9, high=1.5)]),
        "sevlm is ahead of llava in accuracy.",
        "95 % interval 90 to 150 %. sevlm 66.0 %, llava 60.0 %, majority line 30.0 %.",
    ),
    (
        results([large(values=[0.63, 0.6, 0.3], share=1.1, low=0.8, high=1.4, p_holm=0.4)]),
        "sevlm keeps all of llava’s lead over the majority line in accuracy.",
        "95 % interval 80 to 140 %. sevlm 63.0 %, llava 60.0 %, majority line 30.0 %.",
    ),
    (
        results([large(values=[0.4, 0.6], share=None, low=None, high=None)], majority=None),
        "sevlm reaches 40.0 % and llava 60.0 % in accuracy.",
        "Without a majority row no share can be given.",
    ),
    (
        results([], difference=0.1, difference_low=0.02, difference_high=0.2),
        "No model here is larger than sevlm; in accuracy it stands above the majority line.",
        "+10.0 points, +2.0 to +20.0, beyond chance (p = .012).",
    ),
    (
        results([], majority=None),
        "No model here is larger than sevlm.",
        "There is no majority row to measure it by.",
    ),
]


def plain(text: str) -> str:
    return text.replace("\u00a0", " ")


def found(content: dict[str, Any]) -> Answer:
    one = answer(content, "t")
    assert one is not None
    return one


@pytest.mark.parametrize(("content", "lead", "note"), SITUATIONS)
def test_sentences(content: dict[str, Any], lead: str, note: str) -> None:
    assert (plain(found(content).lead), plain(found(content).note)) == (lead, note)


def test_what_a_reader_asks_next() -> None:
    points = {word: plain(text) for word, text in found(results([large()])).points}
    assert points == {
        "Best": "llava has the highest accuracy (60.0 %, 95 % interval 50.0–70.0).",
        "Significance": "In accuracy sevlm is worse than llava (p = .012).",
        "By emotion": "Against llava: worse on fear and anger; one cannot be told apart.",
        "Cost": "sevlm has 186 M parameters and takes 0.95 s per image; llava takes 38× the parameters and 4.2× the time.",
        "Based on": "120 images; accuracy counts the 90 with a majority emotion.",
    }


def test_equal_values_are_both_best() -> None:
    content = results([large()])
    content["cells"][0]["value"] = content["cells"][1]["value"]
    assert plain(dict(found(content).points)["Best"]) == "sevlm and llava share the highest accuracy (60.0 %)."


def test_only_reference_rows_and_older_results() -> None:
    content = results([large()])
    assert "tells its size" in found(content | {"headline": []}).lead
    assert answer({"cells": []}, "t") is None


def test_the_terminal_prints_the_same_sentences() -> None:
    content = results([large()])
    printed = leaderboard_table(content | {"headlines": ["accuracy"]}, "t")
    assert printed.endswith("\n".join(answer_text(found(content))) + "\n")


def test_the_page_opens_with_the_answer(page: Element) -> None:
    section = page.one("section", id="tiny-answer")
    assert section.one("p", css="claim").text == "small keeps 33 % of large’s lead over the majority line in accuracy."
    assert section.one("p", css="claim").parent is not None
    (table,) = section.all("table")
    lines = {line.one("th").text: [td.text for td in line.all("td")] for line in table.one("tbody").all("tr")}
    assert lines["large"][:4] == ["7.00 M (38×)", "0.50 s (4.2×)", "33 %10 to 60 %", "no lead: no lead"]
    assert page.all("h2")[0].attributes["id"] == "tiny-title"


def test_a_metrics_name_opens_what_it_is(page: Element) -> None:
    names = {
        button.attributes["popovertarget"] for button in page.all("button") if "popovertarget" in button.attributes
    }
    about = {one.attributes["id"]: one for one in page.all("div", css="about-metric")}
    assert names
    assert names <= set(about)
    accuracy = about["tiny-about-accuracy"].text
    assert "whose answered label equals it" in accuracy
    assert "higher is better" in accuracy
    assert "0 to 1, shown in percent" in accuracy
    assert "accuracy|refs:all|version:1" in accuracy


def test_small_against_large_turns_every_difference_to_the_small_model(page: Element) -> None:
    section = page.one("section", id="tiny-against")
    charts = section.all("figure", css="diverging")
    assert charts[0].attributes["data-pair"] == "small − large"
    style = next(
        c for c in charts if c.attributes["data-key"] == "style" and c.attributes["data-pair"] == "small − large"
    )
    ends = [text.text for text in style.all("text", css="tick")]
    assert {"+5.0", "−5.0"} <= set(ends)
    # the interval of large minus small reaches from −12 to +2 for Baroque: small minus large from −2 to +12
    assert "Baroque: +5.0, −2.0 to +12.0, n 6" in [title.text for title in style.all("title")]


def test_figures_stand_alone(report: Path, tmp_path: Path) -> None:
    assert save_figures(report / "index.html", tmp_path) == len(list((report / "figures").glob("*.svg"))) > 10
    for path in tmp_path.glob("*.svg"):
        root = ElementTree.fromstring(path.read_text(encoding="utf-8"))
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        style = root.find("{http://www.w3.org/2000/svg}style")
        assert style is not None
        assert style.text is not None
        assert "Helvetica" in style.text
        assert not {"var(", "light-dark", "url("} & {
            word for word in ("var(", "light-dark", "url(") if word in style.text
        }


def test_a_paper_gets_answer_and_table(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(run.path), "--format", "md"]) == 0
    printed = capsys.readouterr().out
    assert plain(printed).startswith("small keeps 33 % of large’s lead over the majority line in accuracy.")
    assert "| small |" in printed
    assert r"\begin{tabular}" in report_text([run], "tex")
    with pytest.raises(UserError, match="expected md or tex"):
        report_text([run], "html")
