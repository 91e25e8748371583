"""Figures for papers: every drawing of the page as an SVG file of its own.

Colours are those of the light theme, written out; texts stay texts in system fonts that every converter to PDF knows
(Helvetica, Arial), so that a paper's own font can replace them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

_ASSETS = Path(__file__).parent / "assets"
_FIGURE = re.compile(
    r'<svg class="scatter" data-figure="(?P<name>[A-Za-z0-9._-]+)" viewBox="0 0 (?P<width>\d+) (?P<height>\d+)"[^>]*'
    r'aria-label="(?P<label>[^"]*)"[^>]*>(?P<body>.*?)</svg>',
    re.DOTALL,
)
_VARIABLE = re.compile(r"--([a-z-]+): ([^;]+);")
_LIGHT = re.compile(r"light-dark\((#\w+), #\w+\)")
_RULE = re.compile(r"^\.scatter (\.[^{]+)\{([^}]*)\}", re.MULTILINE)
_EMOTION = re.compile(r"\.emo-(\d+)[^{]*\{ --emotion: light-dark\((#\w+), #\w+\); \}")
_FONT = 'text{font:11.5px Helvetica,Arial,"DejaVu Sans",sans-serif}'


def standalone_figures(page: str) -> Iterator[tuple[str, str]]:
    """File name and text of each figure of a rendered page, in order."""
    style = _style()
    for found in _FIGURE.finditer(page):
        width, height = found["width"], found["height"]
        yield (
            f"{found['name']}.svg",
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
            f'role="img"><title>{found["label"]}</title><style>{style}</style>'
            f'<rect width="{width}" height="{height}" fill="#fff"/>{found["body"].strip()}</svg>\n',
        )


def _style() -> str:
    """The page's own rules for figures, without variables: programs that make PDF of SVG do not know them."""
    css = (_ASSETS / "report.css").read_text(encoding="utf-8")
    light = {name: _LIGHT.sub(r"\1", value) for name, value in _VARIABLE.findall(css[: css.index("}")])}
    rules = [_FONT]
    for selector, body in _RULE.findall(css):
        plain = re.sub(r"var\(--(\w+)\)", lambda match: light[match[1]], _LIGHT.sub(r"\1", body)).strip()
        if "var(--emotion" not in plain:
            rules.append(f"{selector.strip()}{{{plain}}}")
            continue
        emotions = (_ASSETS / "samples.css").read_text(encoding="utf-8")
        for number, colour in _EMOTION.findall(emotions):
            own = re.sub(r"var\(--emotion, currentColor\)", colour, plain)
            rules.append(f".emo-{number} {selector.strip()}{{{own}}}")
    return "".join(rules)
