"""Colours of emotions, and figures for papers: every drawing of the page as an SVG file of its own.

Colours are those of the light theme, written out; texts stay texts in system fonts that every converter to PDF knows
(Helvetica, Arial), so that a paper's own font can replace them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

_ASSETS = Path(__file__).parent / "assets"
_FIGURE = re.compile(
    r'<svg class="scatter" data-figure="(?P<name>[A-Za-z0-9._-]+)" viewBox="0 0 (?P<width>\d+) (?P<height>\d+)"[^>]*'
    r'aria-label="(?P<label>[^"]*)"[^>]*>(?P<body>.*?)</svg>',
    re.DOTALL,
)
_VARIABLE = re.compile(r"--([a-z-]+): ([^;]+);")
_LIGHT = re.compile(r"light-dark\((#\w+), #\w+\)")
_EMOTION = re.compile(r"\.emo-(\d+)[^{]*\{ --emotion: light-dark\((#\w+), #\w+\); \}")
ARTEMIS = (
    "amusement", "awe", "contentment", "excitement", "anger", "disgust", "fear", "sadness", "something else",
)  # fmt: skip
"""The nine ArtEmis emotions own the first nine colour slots, whatever the task."""

EXTRA_SLOTS = 12
FONT = 'text{font:11.5px Helvetica,Arial,"DejaVu Sans",sans-serif}'
"""The rule for all texts of a drawing."""


def standalone_figures(page: str) -> Iterator[tuple[str, str]]:
    """File name and text of each figure of a rendered page, in order."""
    style = FONT + light_rules("scatter")
    for found in _FIGURE.finditer(page):
        width, height = found["width"], found["height"]
        yield (
            f"{found['name']}.svg",
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
            f'role="img"><title>{found["label"]}</title><style>{style}</style>'
            f'<rect width="{width}" height="{height}" fill="#fff"/>{found["body"].strip()}</svg>\n',
        )


def light_rules(kind: str, *, whole: bool = False) -> str:
    """The page's own rules inside `.kind`, or for it, without variables: programs that make PDF of SVG know none."""
    css = (_ASSETS / "report.css").read_text(encoding="utf-8")
    light = {name: _LIGHT.sub(r"\1", value) for name, value in _VARIABLE.findall(css[: css.index("}")])}
    selectors = rf"(\.{kind}) " if whole else rf"\.{kind} (\.[^{{]+)"
    rules = []
    for selector, body in re.findall(rf"^{selectors}\{{([^}}]*)\}}", css, re.MULTILINE):
        plain = re.sub(r"var\(--(\w+)\)", lambda match: light[match[1]], _LIGHT.sub(r"\1", body)).strip()
        if "var(--emotion" not in plain:
            rules.append(f"{selector.strip()}{{{plain}}}")
            continue
        for number, colour in emotion_colours():
            own = re.sub(r"var\(--emotion, currentColor\)", colour, plain)
            rules.append(f".emo-{number} {selector.strip()}{{{own}}}")
    return "".join(rules)


def light_value(selector: str, name: str) -> str:
    """What the light theme gives a property in the rule of one selector."""
    css = (_ASSETS / "report.css").read_text(encoding="utf-8")
    found = re.search(rf"{re.escape(selector)} \{{ {name}: ([^;]+);", css)
    assert found is not None
    return _LIGHT.sub(r"\1", found[1])


def emotion_colours() -> list[tuple[str, str]]:
    """Number and colour, in the light theme, of each emotion's place on the page."""
    return _EMOTION.findall((_ASSETS / "samples.css").read_text(encoding="utf-8"))


def colour_slots(emotions: Iterable[str]) -> dict[str, int]:
    """A colour slot (1-based) for each emotion: fixed for ArtEmis, by alphabetical order for the others."""
    slots = {name: number for number, name in enumerate(ARTEMIS, start=1)}
    others = sorted(set(emotions) - set(slots))
    return slots | {name: len(ARTEMIS) + 1 + i % EXTRA_SLOTS for i, name in enumerate(others)}
