"""Colours of emotions, and figures for papers: every drawing and every table of the page as an SVG file of its own.

Colours are those of the light theme, written out; texts stay texts in system fonts that every converter to PDF knows
(Helvetica, Arial), so that a paper's own font can replace them.

The rendered page is read back, so that the drawing of a table shows what the reader saw: columns that are hidden at
first are left out, a number's interval stands beneath it, heat keeps its colours. Helvetica's widths are close enough
known here to lay out columns without a browser.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from html import escape
from html.parser import HTMLParser
from itertools import accumulate
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


# ----------------------------------------------------------------------------------------------------- tables

_PAD_X, _PAD_Y = 7, 4
_WIDEST = 300.0
"""Longer texts are broken into lines."""
_MOST_LETTERS = 128
"""More than fit in `_WIDEST`, whatever they are."""
_SIZES = {"": 11.5, "small": 9.5}
_STEPS = {"": 15.0, "small": 12.0}
_UNDRAWN = {"vh", "ask", "on-screen", "download"}
_BESIDE = {"ci", "note"}
"""Classes of what stands on a line of its own beneath the cell's text."""
_VOID = {"br", "input", "img", "meta", "link", "hr", "line", "rect", "circle", "path"}
_UNPRINTED = re.compile(r"[\x00-\x1f\x7f\ufffe\uffff\s]+")


@dataclass(slots=True)
class _Line:
    """A line of a cell: text, or a drawing; perhaps with the dot of an emotion before it."""

    text: str = ""
    kind: str = ""
    is_bold: bool = False
    dot: str | None = None
    drawing: str = ""
    size: tuple[float, float] = (0.0, 0.0)

    def width(self) -> float:
        return (
            self.size[0] if self.drawing else text_width(self.text, self.kind, self.is_bold) + (12 if self.dot else 0)
        )

    def height(self) -> float:
        return self.size[1] + 3 if self.drawing else _STEPS[self.kind]


@dataclass(slots=True)
class _Cell:
    classes: set[str]
    span: int
    is_first: bool
    is_italic: bool
    lines: list[_Line] = field(default_factory=list)

    def anchor(self, table: Table) -> str:
        if "heat" in table.classes:
            return "start" if self.is_first else "middle"
        return "end" if "num" in self.classes else "start"


@dataclass(slots=True)
class Table:
    """A table of the page, and where its caption ends there."""

    name: str
    classes: set[str]
    caption: str = ""
    caption_end: int = 0
    heads: int = 0
    rows: list[list[_Cell]] = field(default_factory=list)


def text_width(text: str, kind: str = "", is_bold: bool = False) -> float:
    """About how many pixels wide a text is: by the widths of Helvetica's letters, with room for a wider substitute."""
    ems = 0.0
    for letter in text:
        if letter in "ijlI.,:;'|! ·":
            ems += 0.26
        elif letter in "frt()[]-–/":
            ems += 0.34
        elif letter in "mwMW%@—":
            ems += 0.88
        else:
            ems += 0.7 if letter.isupper() else 0.556 if ord(letter) < 0x2E80 else 1.0
    return ems * _SIZES[kind] * (1.22 if is_bold else 1.14)


def link_tables(page: str, tables: Iterable[Table]) -> str:
    """The page with a link to each table's drawing at the end of its caption."""
    parts, done = [], 0
    for table in tables:
        parts += [
            page[done : table.caption_end],
            f' <a class="download" href="figures/{table.name}.svg" download>SVG</a>',
        ]
        done = table.caption_end
    return "".join([*parts, page[done:]])


def standalone_tables(tables: Iterable[Table]) -> Iterator[tuple[str, str]]:
    """File name and text of the drawing of each table."""
    style = "".join(
        [
            FONT,
            ".small{font-size:9.5px}",
            light_rules("bar"),
            light_rules("hollow", whole=True),
            *(f".fill-{number}{{fill:{colour}}}" for number, colour in emotion_colours()),
        ]
    )
    dots = {f"emo-{number}": colour for number, colour in emotion_colours()}
    # background and ink of each step of the page's sequential scale
    heat = {
        f"h{step}": (light_value(f".h{step}", "background"), "#ffffff" if step >= 6 else "#1b1d21")
        for step in range(10)
    }
    for table in tables:
        yield f"{table.name}.svg", _drawn(table, style, dots, heat)


# ---------------------------------------------------------------------------------------------------------------- read


def read_tables(page: str) -> list[Table]:
    """The tables of a rendered page that have a caption, in order."""
    reader = _Reader(page)
    reader.feed(page)
    reader.close()
    return [table for table in reader.tables if table.caption_end]


class _Reader(HTMLParser):
    """Collects the tables of a rendered page that have a caption and lie in a named section."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tables: list[Table] = []
        self._starts = [0, *accumulate(len(line) + 1 for line in page.split("\n"))]
        self._page = page
        self._open: list[tuple[str, set[str], bool]] = []
        self._sections: list[str] = []
        self._count: Counter[str] = Counter()
        self._table: Table | None = None
        self._cell: _Cell | None = None
        self._drawing: int | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        classes = set((given.get("class") or "").split())
        if tag == "section":
            self._sections.append(given.get("id") or "")
        if tag == "table":
            name = self._sections[-1] if self._sections else "page"
            self._count[name] += 1
            self._table = Table(f"{name}-table-{self._count[name]}", classes)
            self.tables.append(self._table)
        hidden = "hidden" in given or bool(classes & _UNDRAWN)
        if self._table and tag not in ("table", "caption") and not self._is_hidden():
            self._begin(tag, classes, given, hidden)
        if tag not in _VOID:
            self._open.append((tag, classes, hidden and tag != "table"))

    def _begin(self, tag: str, classes: set[str], given: dict[str, str | None], hidden: bool) -> None:
        assert self._table is not None
        if tag == "tr" and not hidden:
            self._table.rows.append([])
            self._table.heads += self._is_in("thead")
        elif tag in ("td", "th") and not hidden and self._table.rows:
            kinds = {name for _, names, _ in self._open[-2:] for name in names}
            bold = "significant" in kinds or (tag == "th" and given.get("scope") == "row")
            italic = bool(kinds & {"reference", "control", "published"}) and tag == "th"
            self._cell = _Cell(classes, int(given.get("colspan") or 1), not self._table.rows[-1], italic)
            self._cell.lines.append(_Line(is_bold=bold and not italic))
            self._table.rows[-1].append(self._cell)
        elif self._cell and tag == "svg":
            self._drawing = self._offset()
            width, height = (float(given.get(side) or 0) for side in ("width", "height"))
            self._cell.lines.append(_Line(size=(width, height)))
        elif self._cell and (tag in ("br", "code") or classes & _BESIDE):
            self._cell.lines.append(_Line(kind="small"))
        elif self._cell and "dot" in classes:
            self._cell.lines[-1].dot = next(iter(classes - {"dot"}), None)
        elif self._cell and tag == "strong":
            self._cell.lines[-1].is_bold = True

    def handle_endtag(self, tag: str) -> None:
        if tag == "caption" and self._table:
            self._table.caption_end = self._offset()
        if tag in ("td", "th"):
            self._cell = None
        if tag == "table":
            self._table = None
        if tag == "section" and self._sections:
            self._sections.pop()
        if tag == "svg" and self._cell and self._drawing is not None:
            self._cell.lines[-1].drawing = self._page[self._drawing : self._offset()] + "</svg>"
            self._cell.lines.append(_Line())
            self._drawing = None
        while self._open:
            opened, classes, _ = self._open.pop()
            if opened == tag:
                if self._cell and classes & _BESIDE:
                    self._cell.lines.append(_Line())
                break

    def handle_data(self, data: str) -> None:
        if not self._table or self._is_hidden() or self._drawing is not None:
            return
        if self._is_in("caption"):
            self._table.caption += data
        elif self._cell:
            self._cell.lines[-1].text += data

    def _is_hidden(self) -> bool:
        """Inside something that the table does not show at first; what is around the table does not count."""
        start = max((i for i, (tag, _, _) in enumerate(self._open) if tag == "table"), default=0)
        return any(hidden for _, _, hidden in self._open[start:])

    def _is_in(self, tag: str) -> bool:
        return any(name == tag for name, _, _ in self._open)

    def _offset(self) -> int:
        line, column = self.getpos()
        return self._starts[line - 1] + column


# ---------------------------------------------------------------------------------------------------------------- draw


def _drawn(table: Table, style: str, dots: dict[str, str], heat: dict[str, tuple[str, str]]) -> str:
    for row in table.rows:
        for cell in row:
            cell.lines = [part for line in cell.lines for part in _broken(line)]
    widths = _widths(table)
    edges = [0.0, *accumulate(widths)]
    shapes, y = [], 1.0
    for number, row in enumerate(table.rows):
        height = 2 * _PAD_Y + max((sum(line.height() for line in cell.lines) for cell in row), default=0.0)
        column = 0
        for cell in row:
            left, right = edges[column], edges[min(column + cell.span, len(widths))]
            top = y + height - 2 * _PAD_Y - sum(line.height() for line in cell.lines) if number < table.heads else y
            column += cell.span
            ink = ""
            for step in cell.classes & heat.keys():
                paper, ink = heat[step]
                shapes.append(
                    f'<rect x="{left:.1f}" y="{y:.1f}" width="{right - left:.1f}" height="{height:.1f}" '
                    f'fill="{paper}"/>'
                )
            shapes += _cell(cell, cell.anchor(table), left + _PAD_X, right - _PAD_X, top + _PAD_Y, ink, dots)
        y += height
        is_edge = number in (table.heads - 1, len(table.rows) - 1)
        shapes.append(_rule(edges[-1], y, "#1b1d21" if is_edge else "#d5d9df"))
    width, height = round(edges[-1]) + 1, round(y) + 2
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'role="img"><title>{escape(_printed(table.caption))}</title><style>{style}</style>'
        f'<rect width="{width}" height="{height}" fill="#fff"/>'
        f"{_rule(edges[-1], 1, '#1b1d21')}{''.join(shapes)}</svg>\n"
    )


def _rule(width: float, y: float, colour: str) -> str:
    return f'<line x1="0" x2="{width:.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="{colour}"/>'


def _widths(table: Table) -> list[float]:
    """Of every column: its widest cell, and room for headings that span several."""
    widths = [0.0] * max((sum(cell.span for cell in row) for row in table.rows), default=0)
    for alone in (True, False):
        for row in table.rows:
            column = 0
            for cell in row:
                own = max((line.width() for line in cell.lines), default=0.0) + 2 * _PAD_X
                spanned = widths[column : column + cell.span]
                if (cell.span == 1) == alone and own > sum(spanned):
                    widths[column : column + cell.span] = [w + (own - sum(spanned)) / len(spanned) for w in spanned]
                column += cell.span
    return widths


def _cell(
    cell: _Cell, anchor: str, left: float, right: float, y: float, ink: str, dots: dict[str, str]
) -> Iterator[str]:
    for line in cell.lines:
        x = {"start": left, "middle": (left + right) / 2, "end": right}[anchor]
        begin = x - line.width() * {"start": 0, "middle": 0.5, "end": 1}[anchor]
        if line.drawing:
            yield line.drawing.replace("<svg ", f'<svg x="{begin:.1f}" y="{y + 1:.1f}" ', 1)
        elif line.text:
            base = y + 0.75 * line.height()
            if line.dot:
                yield f'<circle cx="{begin + 4:.1f}" cy="{base - 4:.1f}" r="4" fill="{dots.get(line.dot, "#80858d")}"/>'
                anchor_here, x = "start", begin + 12
            else:
                anchor_here = anchor
            looks = ' style="font-weight:bold"' * line.is_bold + ' style="font-style:italic"' * cell.is_italic
            colour = ink or ("#565c66" if line.kind else "#1b1d21")
            kind = f' class="{line.kind}"' * bool(line.kind)
            place = f'x="{x:.1f}" y="{base:.1f}" text-anchor="{anchor_here}"'
            yield f'<text{kind} {place} fill="{colour}"{looks}>{escape(line.text)}</text>'
        y += line.height()


def _broken(line: _Line) -> Iterator[_Line]:
    """The line cut at blanks, or within a word without any, so that no part is too wide; nothing of an empty one."""
    if line.drawing:
        yield line
        return
    text, dot, start = _printed(line.text), line.dot, 0
    while start < len(text):
        letters = text[start : start + _MOST_LETTERS]
        edges = accumulate(text_width(letter, line.kind, line.is_bold) for letter in letters)
        end = start + max(1, sum(edge <= _WIDEST for edge in edges))
        if end < len(text):
            end = max(text.rfind(" ", start + 1, end + 1), 0) or end
        yield _Line(text[start:end].rstrip(), line.kind, line.is_bold, dot)
        dot, start = None, end + (text[end : end + 1] == " ")


def _printed(text: str) -> str:
    return _UNPRINTED.sub(" ", text).strip()
