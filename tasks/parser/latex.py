r"""LaTeX around the words of an answer: `$\boxed{\text{awe}}$`, `\(\textbf{awe}\): ...`.

Commands that only set words in another way, the braces that close them, and the signs of mathematics right around
them are marks. All braces of a text are paired in one walk.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_FORMATS = (
    r"text(?:bf|it|rm|sf|tt|sc|sl|up|md|normal)?|math(?:bf|it|rm|sf|tt|cal)|emph|underline|uline|mbox|hbox|"
    r"operatorname|boldsymbol|bm|(?:text)?color(?:box)?\s?\{[^{}\n]{1,30}\}"
)
_BRACE = re.compile(
    rf"\\{{1,2}}(?:(?P<box>boxed|fbox|framebox)|(?P<format>{_FORMATS}))\s?\{{|(?<!\\)(?P<open>\{{)|(?<!\\)(?P<close>\}})"
)
_SWITCH = re.compile(
    r"\\{1,2}(?:(?:begin|end)\{[a-z]{2,20}\*?\}"
    r"|(?:q?quad|centering|noindent|displaystyle|bfseries|itshape|[lL]arge|LARGE|[hH]uge)(?![a-zA-Z]))"
)
_WORDS_AS_FORMULA = re.compile(r"(?<![\w$\\])(\$)(?=[^\W\d_])[\w -]{1,30}(?<=\w)(\$)(?![\w$])")
_SIGN_BEFORE = re.compile(r"(?:\${1,2}|\\{1,2}[(\[])\s?\Z")
_SIGN_AFTER = re.compile(r"[.!]?\s?(?:\${1,2}|\\{1,2}[)\]])")


class Place(NamedTuple):
    """A mark of LaTeX at `text[start:end]`, which may open a box."""

    start: int
    end: int
    opens_box: bool = False


def latex_marks(text: str) -> Iterator[Place]:
    """All marks of LaTeX in a text; the brace that closes a box is none, because it ends a frame."""
    if "\\" in text:
        yield from _commands(text)
        yield from (Place(*match.span()) for match in _SWITCH.finditer(text))
    for match in _WORDS_AS_FORMULA.finditer(text):
        yield from (Place(*match.span(1)), Place(*match.span(2)))


def _commands(text: str) -> Iterator[Place]:
    opened: list[re.Match[str]] = []
    for brace in _BRACE.finditer(text):
        if not brace["close"]:
            opened.append(brace)
            if not brace["open"]:
                yield Place(*brace.span(), opens_box=brace["box"] is not None)
                before = _SIGN_BEFORE.search(text, max(0, brace.start() - 4), brace.start())
                if before is not None:
                    yield Place(*before.span())
        elif opened:
            command = opened.pop()
            if command["format"]:
                yield Place(*brace.span())
            after = None if command["open"] else _SIGN_AFTER.match(text, brace.end())
            if after is not None:
                yield Place(*after.span())
