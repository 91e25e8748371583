"""How the small systems grow with their training paintings, and what a power law says about ArtEmis' own size.

    python benchmarks/artemis_curve.py run --work FOLDER [--folds 0,1] [--sizes 250,500]
    python benchmarks/artemis_curve.py report --work FOLDER

Each fold of artemis_small.py trains on the first 250, 500, 1,000 and all of its paintings, with the same rule: a
quarter of them validates, what the improved mode chooses there it keeps for the training on all of them, and the
fold's test paintings are answered. The largest size is artemis_small's own run: its lines in FOLDER/outcomes.jsonl
are read, the others go to FOLDER/curve.jsonl. `report` writes results/artemis_curve.json and draws
docs/images/learning-curve.svg.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import artemis_small as small
import numpy as np
import torch
from artemis_small_report import mean, sums
from machine import write_result

from harness.score.statistics import FloatArray, bootstrap_sums

SIZES, ALL, TARGET = (250, 500, 1000), 1827, 68_000
FOLDS = range(small.FOLDS)
SYSTEMS = ("linear", "official", "improved")
# Losses, so that all of them fall: the share of annotators who chose another label, and nats.
LOSSES = {"annotator_mass": "annotators who chose another emotion, share", "cross_entropy": "cross-entropy, nats"}
EXPONENTS, REPLICATES, SEED = np.linspace(0.05, 1.5, 59), 2_000, 2021
LINES = {"linear": "#e69f00", "official": "#0072b2", "improved": "#d55e00"}
STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #333 } .axis { stroke: #999; stroke-width: 1 } .grid { stroke: #ddd }
  .title { font-weight: 600 } path { fill: none; stroke-width: 2 } .fit { stroke-dasharray: 4 4 } .range { opacity: .2 }
  @media (prefers-color-scheme: dark) { text { fill: #ddd } .grid { stroke: #444 } .back { fill: #1b1b1b } }
"""


def run(given: small.Options, sizes: Sequence[int]) -> None:
    """The answers that FOLDER does not hold yet; smaller sizes first."""
    done = {(line["system"], line["fold"], line["paintings"]) for line in small.read_lines(given.work, "curve.jsonl")}
    for size in sizes:
        for fold in given.folds:
            train_part, val, test = small.split(small.read_examples(), fold)
            rest = [*val, *train_part][:size]
            cut = round(small.VALIDATION_SHARE * size)
            for system in given.systems:
                if (system, fold, size) in done:
                    continue
                line: dict[str, Any] = {"system": system, "fold": fold, "paintings": size, "part": "test"}
                if system == "linear":
                    line["rows"] = list(small.linear_rows(rest, test, given.work, styled=False))
                else:
                    if system in small.SELECTING:
                        tried, _ = small.answers(system, small.UNEVALUATED, rest[cut:], rest[:cut], given, rest[:cut])
                        line["settings"] = tried["found"]
                    line |= small.answers(system, line.get("settings", {}), rest, test, given, again=False)[0]
                small.append(given, line, name="curve.jsonl")


def report(work: Path) -> None:
    """Write results/artemis_curve.json and the drawing, of the folds that are complete: aggregates only."""
    known = {example.id: example for example in small.read_examples()}
    shorter = small.read_lines(work, "curve.jsonl")
    wanted = [(system, size) for system in SYSTEMS for size in SIZES]
    done = {fold: {(line["system"], line["paintings"]) for line in shorter if line["fold"] == fold} for fold in FOLDS}
    folds = [fold for fold in FOLDS if done[fold].issuperset(wanted)]
    whole = ({**line, "paintings": ALL} for line in small.read_lines(work) if line["part"] == "test")
    lines = [line for line in (*shorter, *whole) if line["fold"] in folds]
    sizes = [*SIZES, ALL]
    found: dict[str, dict[str, Any]] = {}
    for loss in LOSSES:
        found[loss] = {}
        for system in SYSTEMS:
            tables = []
            for size in sizes:
                answers = [line for line in lines if (line["system"], line["paintings"]) == (system, size)]
                rows = {row["id"]: row for line in answers for row in line["rows"]}
                table = sums(loss, rows, known)
                tables.append(np.array([table[key] for key in sorted(table)]))
            found[loss][system] = curve(sizes, tables, flipped=loss == "annotator_mass")
    values = {
        "folds": folds,
        "sizes": sizes,
        "law": "loss = floor + scale * paintings ** -exponent, floor and scale >= 0, exponent in [.05, 1.5]; least "
        "squares on the four pooled losses; 95 % of the fits to 2,000 bootstrap samples of the test paintings",
        "extrapolated_to": TARGET,
        "losses": found,
    }
    write_result("artemis_curve", values)
    image = Path(__file__).parents[1] / "docs" / "images" / "learning-curve.svg"
    image.write_text(plot(sizes, found), encoding="utf-8")


def curve(sizes: Sequence[int], tables: Sequence[FloatArray], flipped: bool) -> dict[str, Any]:
    """Losses at each size with intervals, and the power law through them.

    Args:
        tables: of each size (paintings, 2) numerators and denominators; the same paintings in the same order.
        flipped: the table holds a score in [0, 1], whose loss is what is missing to 1.
    """
    # One seed: the same paintings are drawn at every size, as the sizes answer the same ones.
    drawn = np.stack([mean(bootstrap_sums(table, REPLICATES, SEED)) for table in tables])
    values = np.array([float(mean(table.sum(0))) for table in tables])
    if flipped:
        drawn, values = 1 - drawn, 1 - values
    low, high = np.percentile(drawn, (2.5, 97.5), axis=1)
    floor, scale, exponent = power_law(sizes, values)
    fits = [power_law(sizes, drawn[:, index]) for index in range(REPLICATES)]
    ends = [at(fit, TARGET) for fit in fits]
    return {
        "values": [round(float(value), 4) for value in values],
        "low": [round(float(value), 4) for value in low],
        "high": [round(float(value), 4) for value in high],
        "floor": round(floor, 4),
        "scale": round(scale, 4),
        "exponent": round(exponent, 3),
        "extrapolation": round(at((floor, scale, exponent), TARGET), 4),
        "extrapolation_95": [round(float(value), 4) for value in np.percentile(ends, (2.5, 97.5))],
    }


def power_law(sizes: Sequence[int], values: FloatArray) -> tuple[float, float, float]:
    """(floor, scale, exponent) of floor + scale * n ** -exponent, by least squares over a grid of exponents.

    >>> power_law([1, 4, 16, 64], np.array([3.0, 2.0, 1.5, 1.25]))
    (1.0, 2.0, 0.5)
    """
    best = (math.inf, 0.0, 0.0, 0.0)
    for exponent in EXPONENTS:
        shape = np.asarray(sizes, float) ** -exponent
        design = np.column_stack([np.ones_like(shape), shape])
        (floor, scale), *_ = np.linalg.lstsq(design, values, rcond=None)
        if floor < 0:
            floor, scale = 0.0, float(shape @ values / (shape @ shape))
        if scale < 0:
            floor, scale = float(values.mean()), 0.0
        error = float(((floor + scale * shape - values) ** 2).sum())
        best = min(best, (error, float(floor), float(scale), float(exponent)))
    floor, scale, exponent = (round(value, 10) for value in best[1:])
    return floor, scale, exponent


def at(law: tuple[float, float, float], paintings: float) -> float:
    floor, scale, exponent = law
    return float(floor + scale * paintings**-exponent)


WIDTH, HEIGHT, LEFT, TOP, BOTTOM, GAP = 370, 220, 52, 34, 44, 70


def plot(sizes: Sequence[int], found: Mapping[str, Mapping[str, Any]]) -> str:
    """An SVG with a panel for each loss: measured points with intervals, fits dashed up to ArtEmis' size."""
    total = 2 * (LEFT + WIDTH) + GAP + 70
    box = f'width="{total}" height="{TOP + HEIGHT + BOTTOM}" viewBox="0 0 {total} {TOP + HEIGHT + BOTTOM}"'
    title = "Losses against training paintings, with power laws extrapolated to 68,000 paintings"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {box} role="img"><title>{title}</title><style>{STYLE}</style>'
    panels = [
        panel(LEFT + index * (WIDTH + LEFT + GAP), LOSSES[loss], sizes, found[loss])
        for index, loss in enumerate(LOSSES)
    ]
    return "\n".join([head, '<rect class="back" width="100%" height="100%" fill="#fff"/>', *panels, "</svg>", ""])


def panel(left: float, title: str, sizes: Sequence[int], systems: Mapping[str, Any]) -> str:
    ends: list[float] = [
        value for entry in systems.values() for value in (*entry["low"], *entry["high"], *entry["extrapolation_95"])
    ]
    step = 0.05 if max(ends) < 1 else 0.1
    low, high = math.floor(min(ends) / step) * step, math.ceil(max(ends) / step) * step

    def x(paintings: float) -> float:
        return left + WIDTH * math.log(paintings / sizes[0]) / math.log(TARGET / sizes[0])

    def y(value: float) -> float:
        return TOP + HEIGHT * (1 - (value - low) / (high - low))

    parts = [f'<text class="title" x="{left}" y="{TOP - 14}">{title}</text>']
    for mark in np.arange(low, high + step / 2, step):
        parts.append(f'<line class="grid" x1="{left}" x2="{left + WIDTH}" y1="{y(mark):.1f}" y2="{y(mark):.1f}"/>')
        parts.append(f'<text x="{left - 6}" y="{y(mark) + 4:.1f}" text-anchor="end">{mark:.2f}</text>')
    for size in (*sizes, TARGET):
        parts.append(f'<text x="{x(size):.1f}" y="{TOP + HEIGHT + 18}" text-anchor="middle">{size:,}</text>')
    middle, bottom = left + WIDTH / 2, TOP + HEIGHT + 36
    parts.append(f'<text x="{middle:.1f}" y="{bottom}" text-anchor="middle">training paintings (log scale)</text>')
    names = label_heights({name: y(entry["extrapolation"]) for name, entry in systems.items()})
    for index, (name, entry) in enumerate(systems.items()):
        law = (entry["floor"], entry["scale"], entry["exponent"])
        path = " L".join(f"{x(n):.1f} {y(at(law, n)):.1f}" for n in np.geomspace(sizes[0], TARGET, 60))
        colour = LINES[name]
        parts.append(f'<path class="fit" d="M{path}" stroke="{colour}"/>')
        for size, value, least, most in zip(sizes, entry["values"], entry["low"], entry["high"], strict=True):
            at_x = x(size) + 5 * (index - 1)  # beside one another
            place = f'x1="{at_x:.1f}" x2="{at_x:.1f}"'
            parts.append(f'<line {place} y1="{y(least):.1f}" y2="{y(most):.1f}" stroke="{colour}"/>')
            parts.append(f'<circle cx="{at_x:.1f}" cy="{y(value):.1f}" r="3.5" fill="{colour}"/>')
        least, most = entry["extrapolation_95"]
        place = f'x="{x(TARGET) - 4:.1f}" y="{y(most):.1f}" width="8" height="{max(y(least) - y(most), 1):.1f}"'
        parts.append(f'<rect class="range" {place} fill="{colour}"/>')
        parts.append(f'<text x="{x(TARGET) + 8:.1f}" y="{names[name] + 4:.1f}">{name}</text>')
    return "\n".join(parts)


def label_heights(wanted: Mapping[str, float]) -> dict[str, float]:
    """Heights of the names, moved down until none lies over another."""
    found: dict[str, float] = {}
    for name in sorted(wanted, key=wanted.__getitem__):
        found[name] = max(wanted[name], max(found.values(), default=-math.inf) + 14)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("run", "report"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--folds", default=",".join(map(str, range(small.FOLDS))))
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)))
    parser.add_argument("--systems", default=",".join(SYSTEMS))
    parser.add_argument("--threads", type=int, default=2)
    said = parser.parse_args()
    torch.set_num_threads(said.threads)
    given = small.Options(said.work, [int(part) for part in said.folds.split(",")], said.systems.split(","), "cpu")
    if said.action == "report":
        report(given.work)
    else:
        run(given, [int(part) for part in said.sizes.split(",")])


if __name__ == "__main__":
    main()
