"""The section *Judged*: what judges and people said of the explanations, and what each of them is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.reports.view import Run, TaskView


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
    found = [(run, judged) for run in view.runs for judged in run.results.get("judges", ())]
    tables = [_judged(view, judged) for _, judged in found]
    return [table for table in tables if table.rows or table.preferences]


def _judged(view: TaskView, judged: Mapping[str, Any]) -> JudgedTable:
    cells = [c for c in judged["cells"] if c["task"] == view.name]
    criteria = {name: c["question"] for name, c in judged["criteria"].items()}
    warned = {name: text for name, c in judged["criteria"].items() if (text := _warning(c["discrimination"]))}
    models = list(dict.fromkeys(c["model"] for c in cells))
    rows = []
    for model in models:
        own = {c["criterion"]: c for c in cells if c["model"] == model}
        printed = {name: _score(cell) for name, cell in own.items() if name not in warned}
        rows.append((model, printed, max((c["unscored"] for c in own.values()), default=0)))
    shown = [name for name in ("image", "references") if judged[name]]
    return JudgedTable(
        judge=judged["judge"],
        rubric=f"{judged['rubric']}, version {judged['version']}",
        digest=judged["digest"],
        shows=" and ".join(["the label", "the explanation", *(f"the {name}" for name in shown)]),
        criteria=criteria,
        warned=warned,
        rows=rows,
        worth=[(name, _worth(c)) for name, c in judged["criteria"].items()],
        order=_order(judged.get("order")),
        preferences=[
            (p["model"], f"{p['win_rate']:.0%}", p["n"]) for p in judged["preferences"] if p["task"] == view.name
        ],
        differences=[
            f"{c['a']} {'above' if c['difference'] > 0 else 'below'} {c['b']} in {c['criterion']} by "
            f"{abs(c['difference']):.2f}{_interval(c)} (p {c['p_holm']:.3g} by Holm, n {c['n']})"
            for c in judged["comparisons"]
            if c["task"] == view.name and c["p_holm"] < 0.05 and c["criterion"] not in warned
        ],
        unscored=judged["unscored"],
        cost=_cost(judged["usage"], judged["questions"]),
        same_family=judged["same_family"],
    )


def _warning(found: Mapping[str, Any]) -> str:
    """Why a criterion has no scores; empty if it may have them."""
    if found["tells"] is not False:
        return ""
    return (
        f"prefers the true explanation over another image's in {found['prefers_true']:.0%} of {found['n']} cases "
        f"({found['low']:.0%} to {found['high']:.0%}); chance is 50 %"
    )


def _score(cell: Mapping[str, Any]) -> str:
    return "–" if cell["value"] is None else f"{cell['value']:.2f}{_interval(cell)}"


def _interval(entry: Mapping[str, Any], form: str = ".2f") -> str:
    low, high = entry.get("low"), entry.get("high")
    return "" if low is None or high is None else f" [{low:{form}}, {high:{form}}]"


def _worth(criterion: Mapping[str, Any]) -> dict[str, str]:
    told, repeats, people = criterion["discrimination"], criterion["repeatability"], criterion["people"]
    length = criterion["length"]
    return {
        "true over shuffled": _share(told["prefers_true"], told),
        "repeats that differ": _share(repeats["differ"], repeats),
        "alpha": _number(repeats["alpha"]),
        "length": _number(length["rho"]),
        "agrees with people": "–" if people is None else _share(people["agreement"], people),
    }


def _share(value: float | None, entry: Mapping[str, Any]) -> str:
    return "–" if value is None else f"{value:.0%}{_interval(entry, '.0%')} (n {entry['n']})"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _order(order: Mapping[str, Any] | None) -> str:
    if order is None or order["consistent"] is None:
        return ""
    first = "" if order["first_wins"] is None else f"; of decided verdicts, the first wins {order['first_wins']:.0%}"
    return f"{order['consistent']:.0%} of {order['n']} pairs have the same verdict in both orders{first}"


def _cost(usage: Mapping[str, Any], questions: int) -> str:
    told = [f"{questions} questions"]
    for name, key in (("prompt tokens", "prompt_tokens"), ("answer tokens", "completion_tokens")):
        told += [f"{usage[key]} {name}"] if usage.get(key) is not None else []
    told += [f"${usage['cost_usd']:.4f}"] if usage.get("cost_usd") is not None else []
    return ", ".join(told)


# -------------------------------------------------------------------------------------------- people


def people_tables(view: TaskView) -> list[PeopleTable]:
    """What people said in each of the task's runs."""
    return [_people(view, run, run.results["people"]) for run in view.runs if "people" in run.results]


def _people(view: TaskView, run: Run, people: Mapping[str, Any]) -> PeopleTable:
    rates: dict[str, dict[str, str]] = {}
    for line in people["win_rates"]:
        rates.setdefault(line["model"], {})[line["emotion"] or ""] = f"{line['win_rate']:.0%} ({line['n']})"
    seen = {emotion for row in rates.values() for emotion in row if emotion}
    overall = [m for m in people["metrics"] if m["emotion"] is None]
    return PeopleTable(
        raters=[(r["rater"], r["n"], f"{r['seconds']:.1f}", r["problem"]) for r in people["raters"]],
        strengths=[
            (s["row"], f"{s['strength']:+.2f}", _interval(s, "+.2f").strip() or "–", f"{s['wins']:g}", s["n"])
            for s in people["strengths"]
        ],
        win_rates=rates,
        emotions=[emotion for emotion in view.emotions if emotion in seen],
        agreement=[
            (name, _number(a["alpha"]), a["shared_items"], ", ".join(_number(k["kappa"]) for k in a["kappas"]) or "–")
            for name, a in people["agreement"].items()
        ],
        metrics=[
            (
                view.info(m["metric"]).label,
                f"{m['agreement']:.0%}",
                _interval(m, ".0%").strip(),
                m["n"],
                m["ties"],
            )
            for m in overall
        ],
        scores=[(s["model"], s["criterion"], _score(s)) for s in people["scores"] if s["task"] == view.name],
    )
