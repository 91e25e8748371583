"""An explanation as the model's sentence and nothing else: no mark, bracket, name, count or placeholder around it."""

from __future__ import annotations

import re
from html import unescape

from harness.tasks.parser.reply import PLACES
from harness.tasks.parser.words import words


def without_closing_words(text: str) -> str:
    """The text without a last paragraph that offers further help."""
    head, gap, last = text.rstrip().rpartition("\n\n")
    plain = last.strip(" *_#>-").lower().replace("’", "'")
    return head if gap and plain.startswith(words().offers) else text


def tidy(text: str) -> str:
    """A sentence without blanks, quotation marks, brackets and emphasis around it; empty if it holds no word.

    >>> tidy(' **"the lake is calm"**} ')
    'the lake is calm'
    """
    text = re.sub(r" ?\( ?\x1f[ \x1f]*\)", "", without_closing_words(text))
    # a blank for marks, but none before a sign
    text = re.sub(r" ?\x1f[ \x1f]*", lambda m: "" if m.string.startswith(_SIGNS, m.end()) else " ", text)
    text = text.strip().strip("\ufffd").strip()
    text = re.sub(r"\*\*([^*\n]{1,400})\*\*", r"\1", text)
    text = unescape(text).strip() if "&" in text and ";" in text else text
    text = _CODA.sub("", _NAMED.sub("", text[:120]) + text[120:])
    for _ in range(3):
        text = _without_closings(text[_LEADING.match(text).end() :])  # type: ignore[union-attr]
        quote = next((pair for pair in _QUOTES if len(text) > 1 and text[0] + text[-1] == pair), "")
        if not quote or any(sign in text[1:-1] for sign in quote):
            break
        text = text[1:-1].strip()
    if text.endswith(('"', "”")) and text.count('"') % 2 + (text.count("”") > text.count("“")):
        text = text[:-1].rstrip()  # of a quotation that began before
    return "" if _PLACEHOLDER.fullmatch(text) or not re.search(r"\w", text) else text


_SIGNS = tuple(".,;:!?")
_NAMED = re.compile(r"\A[\W_]{0,6}(?:explanation|reason)(?:\s?[:：]|\s[-–—]\s)\s?", re.IGNORECASE)
_CODA = re.compile(
    r"(?:\s{0,3}\((?:\d{1,4} words?|truncated)\)|\n{1,3}word count[:：][^\n]{0,20}|\n{1,3}-{3,5}\n{1,2}end"
    r"|</\w{0,20}|\",)\s{0,3}\Z",
    re.IGNORECASE,
)
"""A name that was left before an explanation, and what a model counts or cuts off after one."""


def sentence(text: str) -> str:
    """A string that is an explanation as it is, without places in the image; empty if it merely stands for one.

    >>> sentence("<ref>the sky</ref><box>(1,2),(3,4)</box> is vast")
    'the sky is vast'
    """
    if "<" in text:  # one blank is left of those around a place
        text = _PLACES.sub(lambda places: " " if " " in (places[0][0], places[0][-1]) else "", text)
    text = text.strip()
    return "" if (text and not text.strip(".… ")) or _PLACEHOLDER.fullmatch(text.strip("<>[]{}. ")) else text


_PLACES = re.compile(rf"[ ]?(?:{PLACES.pattern})(?:[ ]?(?:{PLACES.pattern}))*[ ]?", re.IGNORECASE)
_PLACEHOLDER = re.compile(
    r"(?:null|none|n/?a|nil|yes|no|true|false|undefined|string|text|str|a sentence|one sentence|"
    r"(?:your |the |a )?(?:explanation|reason)(?: here)?)",
    re.IGNORECASE,
)
_LEADING = re.compile(
    r"(?:\*{1,3}|_{2}(?=\w)|#{1,6} |>|\|-?(?=\s)|`{1,3}|[-–—•](?=\s)|[,;:.](?=\s)|[\])}](?=[\s.,]))?"
    r"(?:\s|\*|\|(?=\s))*+"
)
_QUOTES = ('""', "“”", "''", "‘’", "«»", "「」", "{}", "[]", "()", "<>", "__", "„“", "``")
_BRACKETS = {"}": "{", "]": "[", ")": "(", ">": "<"}


def _without_closings(text: str) -> str:
    """The text without the marks and brackets at its end that nothing before them opens."""
    core = text.rstrip(" \n\t\r}])>*`|")
    core = re.sub(r"\s[#=.-]{1,9}\Z", "", core).rstrip() if core[-1:] in ("#", "=", "-", ".") else core
    core = core[:-1].rstrip() if core.endswith((":", "：")) else core
    for sign in text[len(core) : len(core) + 10]:
        is_smiley = sign == ")" and core[-1:] in (":", ";")
        if not (sign in _BRACKETS and (core.count(_BRACKETS[sign]) > core.count(sign) or is_smiley)):
            break
        core += sign
    return core
