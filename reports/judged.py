"""The section *Judged*: what judges and people said of the explanations, and what each of them is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.reports.view import TaskView


@dataclass(frozen=True, slots=True)
class JudgedTable:
    """One judge's scores of a task.

    Attributes:
        judge, rubric, digest: who judged by what.
        shows: what the judge read: image, references.
        criteria: criterion -> question.
        warned: criterion -> why it has no scores.
        rows: (row, criterion -> printed score, unscored explanations).
        worth: per criterion, the printed measures of the judge.
        order: how the order of a pair matters, in words; empty without pairs.
        preferences: (row, printed win rate, n).
        differences: significant differences in words.
        unscored: reason -> count.
        cost: tokens and dollars in words.
        same_family: rows of the judge's own family.
    """

    judge: str
    rubric: str
    digest: str
    shows: str
    criteria: Mapping[str, str]
    warned: Mapping[str, str]
    rows: Sequence[tuple[str, Mapping[str, str], int]]
    worth: Sequence[tuple[str, Mapping[str, str]]]
    order: str
    preferences: Sequence[tuple[str, str, int]]
    differences: Sequence[str]
    unscored: Mapping[str, int]
    cost: str
    same_family: Sequence[str]


@dataclass(frozen=True, slots=True)
class PeopleTable:
    """What people said in one run.

    Attributes:
        raters: (name, items, seconds, problem).
        strengths: (row, strength, interval, wins, n).
        win_rates: row -> emotion (empty: all) -> printed.
        emotions: the columns of `win_rates`.
        agreement: (what, alpha, items shared, kappas).
        metrics: (metric, printed share, interval, n, ties).
        scores: (row, criterion, printed).
    """

    raters: Sequence[tuple[str, int, str, str]]
    strengths: Sequence[tuple[str, str, str, str, int]]
    win_rates: Mapping[str, Mapping[str, str]]
    emotions: Sequence[str]
    agreement: Sequence[tuple[str, str, int, str]]
    metrics: Sequence[tuple[str, str, str, int, int]]
    scores: Sequence[tuple[str, str, str]]


def judged_tables(view: TaskView) -> list[JudgedTable]:
    """A table for each judge and rubric of the task's runs."""
    tables = [_judged_table(view.name, judged) for run in view.runs for judged in run.results.get("judges", ())]
    return [table for table in tables if table.rows or table.preferences]


def _judged_table(task: str, judged: Mapping[str, Any]) -> JudgedTable:
    criteria, warned, worth = judged["criteria"], {}, []
    for name, criterion in criteria.items():
        told, repeats, people = (criterion[key] for key in ("discrimination", "repeatability", "people"))
        if told["tells"] is False:
            warned[name] = (
                f"prefers the true explanation over another image's in {told['prefers_true']:.0%} of {told['n']} cases "
                f"({told['low']:.0%} to {told['high']:.0%}); chance is 50 %"
            )
        measures = {
            "true over shuffled": _share(told["prefers_true"], told),
            "repeats that differ": _share(repeats["differ"], repeats),
            "alpha": _number(repeats["alpha"]),
            "length": _number(criterion["length"]["rho"]),
            "agrees with people": "–" if people is None else _share(people["agreement"], people),
        }
        worth.append((name, measures))

    scores: dict[str, dict[str, Mapping[str, Any]]] = {}
    for cell in judged["cells"]:
        if cell["task"] == task:
            scores.setdefault(cell["model"], {})[cell["criterion"]] = cell
    rows = []
    for model, own in scores.items():
        printed = {name: _score(cell) for name, cell in own.items() if name not in warned}
        rows.append((model, printed, max(cell["unscored"] for cell in own.values())))

    order, in_words = judged.get("order"), ""
    if order is not None and order["consistent"] is not None:
        in_words = f"{order['consistent']:.0%} of {order['n']} pairs have the same verdict in both orders"
        if order["first_wins"] is not None:
            in_words += f"; of decided verdicts, the first wins {order['first_wins']:.0%}"

    usage, cost = judged["usage"], [f"{judged['questions']} questions"]
    for name, key in (("prompt tokens", "prompt_tokens"), ("answer tokens", "completion_tokens")):
        cost += [f"{usage[key]} {name}"] if usage.get(key) is not None else []
    cost += [f"${usage['cost_usd']:.4f}"] if usage.get("cost_usd") is not None else []

    shown = [f"the {name}" for name in ("image", "references") if judged[name]]
    return JudgedTable(
        judge=judged["judge"],
        rubric=f"{judged['rubric']}, version {judged['version']}",
        digest=judged["digest"],
        shows=" and ".join(["the label", "the explanation", *shown]),
        criteria={name: criterion["question"] for name, criterion in criteria.items()},
        warned=warned,
        rows=rows,
        worth=worth,
        order=in_words,
        preferences=[(p["model"], f"{p['win_rate']:.0%}", p["n"]) for p in judged["preferences"] if p["task"] == task],
        differences=[
            f"{c['a']} {'above' if c['difference'] > 0 else 'below'} {c['b']} in {c['criterion']} by "
            f"{abs(c['difference']):.2f}{_interval(c)} (p {c['p_holm']:.3g} by Holm, n {c['n']})"
            for c in judged["comparisons"]
            if c["task"] == task and c["p_holm"] < 0.05 and c["criterion"] not in warned
        ],
        unscored=judged["unscored"],
        cost=", ".join(cost),
        same_family=judged["same_family"],
    )


def _score(cell: Mapping[str, Any]) -> str:
    return "–" if cell["value"] is None else f"{cell['value']:.2f}{_interval(cell)}"


def _interval(entry: Mapping[str, Any], form: str = ".2f") -> str:
    low, high = entry.get("low"), entry.get("high")
    return "" if low is None or high is None else f" [{low:{form}}, {high:{form}}]"


def _share(value: float | None, entry: Mapping[str, Any]) -> str:
    return "–" if value is None else f"{value:.0%}{_interval(entry, '.0%')} (n {entry['n']})"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def people_tables(view: TaskView) -> list[PeopleTable]:
    """What people said in each of the task's runs."""
    tables = []
    for people in (run.results["people"] for run in view.runs if "people" in run.results):
        rates: dict[str, dict[str, str]] = {}
        for line in people["win_rates"]:
            rates.setdefault(line["model"], {})[line["emotion"] or ""] = f"{line['win_rate']:.0%} ({line['n']})"
        seen = {emotion for row in rates.values() for emotion in row}
        table = PeopleTable(
            raters=[(r["rater"], r["n"], f"{r['seconds']:.1f}", r["problem"]) for r in people["raters"]],
            strengths=[
                (s["row"], f"{s['strength']:+.2f}", _interval(s, "+.2f").strip() or "–", f"{s['wins']:g}", s["n"])
                for s in people["strengths"]
            ],
            win_rates=rates,
            emotions=[emotion for emotion in view.emotions if emotion in seen],
            agreement=[
                (
                    name,
                    _number(found["alpha"]),
                    found["shared_items"],
                    ", ".join(_number(pair["kappa"]) for pair in found["kappas"]) or "–",
                )
                for name, found in people["agreement"].items()
            ],
            metrics=[
                (view.info(m["metric"]).label, f"{m['agreement']:.0%}", _interval(m, ".0%").strip(), m["n"], m["ties"])
                for m in people["metrics"]
                if m["emotion"] is None
            ],
            scores=[(s["model"], s["criterion"], _score(s)) for s in people["scores"] if s["task"] == view.name],
        )
        tables.append(table)
    return tables
