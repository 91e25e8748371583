"""Draw `results/scale.json` as docs/images/scale.svg: peak memory and processor seconds against examples, log scales.

python benchmarks/scale_plot.py
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

WIDTH, HEIGHT, LEFT, TOP, BOTTOM, GAP = 300, 210, 52, 34, 44, 76
# Okabe and Ito's colours, which colour-blind readers can tell apart; each line is labelled too.
LINES = {"run": "#0072b2", "again": "#56b4e9", "score": "#d55e00", "report": "#009e73"}
STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #333 } .axis { stroke: #999; stroke-width: 1 } .grid { stroke: #ddd }
  .title { font-weight: 600 } path { fill: none; stroke-width: 2 }
  @media (prefers-color-scheme: dark) { text { fill: #ddd } .grid { stroke: #444 } rect { fill: #1b1b1b } }
"""


def plot(found: Mapping[str, Mapping[str, Any]]) -> str:
    """An SVG with two panels.

    Args:
        found: `examples` of `scale.json`: number of examples -> step -> {"peak_mb", "cpu_s"}.
    """
    sizes = sorted(map(int, found))
    total = 2 * (LEFT + WIDTH) + GAP + 60
    panels = [
        _panel(LEFT, "peak memory, MB", sizes, {s: [found[str(n)][s]["peak_mb"] for n in sizes] for s in LINES}),
        _panel(
            2 * LEFT + WIDTH + GAP,
            "processor seconds",
            sizes,
            {s: [found[str(n)][s]["cpu_s"] for n in sizes] for s in LINES},
        ),
    ]
    box = f'width="{total}" height="{TOP + HEIGHT + BOTTOM}" viewBox="0 0 {total} {TOP + HEIGHT + BOTTOM}"'
    title = "Peak memory and time of run, repeated run, score and report against the number of examples"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {box} role="img"><title>{title}</title><style>{STYLE}</style>'
    return "\n".join([head, '<rect width="100%" height="100%" fill="#fff"/>', *panels, "</svg>", ""])


def _panel(left: float, title: str, sizes: Sequence[int], lines: Mapping[str, Sequence[float]]) -> str:
    low = 10 ** math.floor(math.log10(min(min(values) for values in lines.values())))
    high = 10 ** math.ceil(math.log10(max(max(values) for values in lines.values())))

    def x(n: float) -> float:
        return left + WIDTH * math.log(n / sizes[0]) / math.log(sizes[-1] / sizes[0])

    def y(value: float) -> float:
        return TOP + HEIGHT * (1 - math.log(value / low) / math.log(high / low))

    parts = [f'<text class="title" x="{left}" y="{TOP - 14}">{title}</text>']
    for power in range(round(math.log10(low)), round(math.log10(high)) + 1):
        height = y(10.0**power)
        parts.append(f'<line class="grid" x1="{left}" x2="{left + WIDTH}" y1="{height:.1f}" y2="{height:.1f}"/>')
        parts.append(f'<text x="{left - 6}" y="{height + 4:.1f}" text-anchor="end">{10.0**power:,g}</text>')
    for n in sizes:
        parts.append(f'<text x="{x(n):.1f}" y="{TOP + HEIGHT + 18}" text-anchor="middle">{n:,}</text>')
    parts.append(f'<text x="{left + WIDTH / 2}" y="{TOP + HEIGHT + 36}" text-anchor="middle">examples</text>')
    for (name, values), place in zip(lines.items(), _apart([y(v[-1]) for v in lines.values()]), strict=True):
        points = " L".join(f"{x(n):.1f},{y(value):.1f}" for n, value in zip(sizes, values, strict=True))
        parts.append(f'<path d="M{points}" stroke="{LINES[name]}"/>')
        parts.append(f'<text x="{left + WIDTH + 6}" y="{place + 4:.1f}" style="fill:{LINES[name]}">{name}</text>')
    return "\n".join(parts)


def _apart(heights: Sequence[float], least: float = 14) -> list[float]:
    """Heights of labels, moved so that none touches another."""
    placed = list(heights)
    for before, after in zip(order := sorted(range(len(placed)), key=placed.__getitem__), order[1:], strict=False):
        placed[after] = max(placed[after], placed[before] + least)
    return placed


def main() -> None:
    here = Path(__file__)
    found = json.loads((here.with_name("results") / "scale.json").read_text(encoding="utf-8"))
    (here.parents[1] / "docs" / "images" / "scale.svg").write_text(plot(found["examples"]), encoding="utf-8")


if __name__ == "__main__":
    main()
