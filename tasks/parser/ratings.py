"""Reading valence, arousal and dominance out of what a model said: the number meant, or none.

A number counts only if what stands around it says that it is one on the task's scale: no range, no fraction or
percentage of another scale, no second number.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping

from harness.tasks.parser.reply import BLANK, is_loop, split_reply

LONGEST = 20_000
"""Characters of an answer that are looked at."""
MOST_PLACES = 200

_TAG_END = re.compile(r"\s{0,2}>\s{0,3}(?=[-+]?[.\d])")
_GAP = re.compile(r"[\"'*_`)\]}“”‘’\x1f]{0,8}\s{0,20}")
_BRACKET = re.compile(r"[(\[{<]([^()\[\]{}<>\n]{0,200})[)\]}>]\s{0,5}")
_SCALE_WORDS = re.compile(
    r",?\s{0,3}(?:on\s{1,3}(?:a|the|an?)\s{1,3})?(?:scale\s{0,3})?(?:of|from)?\s{0,3}([-+]?[\d.]{1,8})\s{0,3}"
    r"(?:to|-|–|through)\s{0,3}([-+]?[\d.]{1,8})(?:\s{0,3}scale)?\s{0,3}(?=[:=]|is\b)",
    re.IGNORECASE,
)
_LINK = re.compile(
    r"(?:(?:rating|score|level|value|estimate|of|is|at|as|=>|=|:|：|\||->|→|about|around|approximately|roughly|~|≈)"
    r"(?![^\W\d_])\s{0,5}"
    r"|[\"'*_`“”‘’]{1,4}\s{0,5}|\s[-–—]\s(?=[\d.])|[-–—]\s(?=[\d.])|\n{1,2}\s{0,4}){0,8}+",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"([(\[<{\"'*_`“]{0,4})\s?([-+]?(?:\d{1,9}(?:[.,]\d{1,9})?|[.,]\d{1,9}))")
_FRACTION = re.compile(r"\s{0,3}(?:/|out\s{1,3}of|of|von|sur|de)\s{0,3}(\d{1,6}(?:[.,]\d{1,6})?)", re.IGNORECASE)
_MORE = re.compile(
    r"\s{0,3}(?:[-–—~→/+±×^:,.]|->|to\b|or\b|and\b|bis\b|through\b|oder\b|\.{2,3})\s{0,3}[-+]?[.,]?\d|[.,]?\d|\s{1,3}[-+]?\d"
    r"|-(?:\Z|\n)|[·'’]\d|[^\W\d_]|\s?[?±\\]|\s{0,2}(?:/|→|->)|\s{0,3}(?:stars?|points?|pts|degrees?|°)|\s{0,3}[(\[]\s?±"
)
_RANGE = re.compile(
    r"([-+]?\d{1,6}(?:\.\d{1,6})?)\s{0,3}(?:=[^,;=]{1,60}[,;]|to|and|,|-|–|—|\.{2,3}|through|bis)\s{0,3}(?:to\s)?"
    r"([-+]?\d{1,6}(?:\.\d{1,6})?)"
)
_JOINED = re.compile(
    r"\s{0,3}(?:,|/|&|\band\b|\bund\b|\|)\s{0,3}[\"'*_]{0,3}\s{0,3}([^\W\d_]{3,20})\s{0,3}[\"'*_)\]]{0,3}\s{0,3}[:=(\[]",
    re.IGNORECASE,
)


def read_ratings(raw: str, scales: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """The numbers that a text gives for dimensions, such as `valence: 4.5, arousal = 2/7`.

    Args:
        raw: the model's text; its thoughts are not looked at.
        scales: dimension -> (lowest, highest).

    Returns:
        Dimension -> number, for the dimensions that the text states with exactly one value on the scale. Left out is a
        dimension that is stated twice with different numbers, outside its scale, as a range, or on another scale than
        the task's; a percentage is read on scales from 0 to 1 and from 0 to 100. Nothing is clipped.
    """
    if is_loop(raw):
        return {}
    reply = split_reply(raw)
    text = (reply.whole or reply).answer[:LONGEST].translate(_PLAIN)
    text = _COUNT.sub(lambda word: _COUNTS[word[0].lower()], text)
    ratings: dict[str, float] = {}
    for dimension, (low, high) in scales.items():
        if not _other_scale_named(text, (low, high)):
            first, *others = [*_stated(text, dimension, scales)] or [None]
            if first is not None and low <= first <= high and all(other == first for other in others):
                ratings[dimension] = first
    return ratings


_COUNTS = {
    "zero": "0",
    "three": "3",
    "four": "4",
    "five": "5",
    "six": "6",
    "seven": "7",
    "eight": "8",
    "nine": "9",
    "ten": "10",
    "hundred": "100",
    "drei": "3",
    "vier": "4",
    "fünf": "5",
    "sechs": "6",
    "sieben": "7",
    "neun": "9",
    "zehn": "10",
}
"""Number words by which scales are described; not "one" and "two", which mean other things as well."""
_COUNT = re.compile(rf"\b({'|'.join(_COUNTS)})\b", re.IGNORECASE)

_PLAIN = {ord("\u2212"): "-", ord(BLANK): " ", ord("："): ":", ord("．"): ".", ord("＋"): "+", ord("٫"): "."} | {
    code: str(unicodedata.digit(chr(code)))
    for zero in (0xFF10, 0x0660, 0x06F0, 0x0966)  # fullwidth, Arabic, Persian, Devanagari
    for code in range(zero, zero + 10)
}


def _stated(text: str, dimension: str, scales: Mapping[str, tuple[float, float]]) -> Iterator[float | None]:
    """What is stated wherever the dimension is named and a number follows; None for one that cannot be taken."""
    name = re.compile(
        rf"(?<![^\W_])(?<!-){re.escape(dimension)}(?:_(?:rating|score|value|level))?(?![\w-])", re.IGNORECASE
    )
    dimensions = "|".join(re.escape(other) for other in scales)
    before = re.compile(
        rf"(?:{dimensions})[\"'*_]{{0,3}}\s{{0,3}}(?:,|/|&|and|und|\|)\s{{0,3}}[\"'*_]{{0,3}}\Z", re.IGNORECASE
    )
    scale = scales[dimension]
    for count, match in enumerate(name.finditer(text)):
        if count >= MOST_PLACES:
            yield None
            return
        joined = _JOINED.match(text, match.end())
        is_shared = before.search(text[max(0, match.start() - 30) : match.start()]) or (
            joined and re.fullmatch(dimensions, joined[1], re.IGNORECASE)
        )
        if is_shared:  # "valence, arousal: 0.8, 0.3"
            yield None
            continue
        tag = _TAG_END.match(text, match.end()) if text[match.start() - 1 : match.start()] == "<" else None
        place, is_other_scale = _after_scale(text, tag.end() if tag else match.end(), scale)
        number = _NUMBER.match(text, place)
        if number is None:
            continue
        is_another = re.search(
            r"\b(?:previous|prior|former|negative|positive|initial)\s{1,2}\Z",
            text[max(0, match.start() - 12) : match.start()],
            re.IGNORECASE,
        )
        yield None if is_other_scale or is_another else _number(text, number, scale)


def _after_scale(text: str, place: int, scale: tuple[float, float]) -> tuple[int, bool]:
    """Where a number would stand after a dimension's name and a scale, and whether that is another scale."""
    is_other = False
    for _ in range(4):
        gap = _GAP.match(text, place)
        place = gap.end() if gap else place
        bracket = _BRACKET.match(text, place)
        if bracket is not None and (
            _NUMBER.fullmatch(bracket[1].strip()) is None or text[bracket.end() : bracket.end() + 1] in (":", "=")
        ):
            spaced = re.sub(r"(?<=\d)\s{0,3}(?:[-–—]|\.{2,3})\s{0,3}(?=\d)", " ", bracket[1])  # no minus in "1-9"
            numbers = [_float(number) for number in re.findall(r"(?<![\d.])[-+]?\d{1,9}(?:\.\d{1,9})?", spaced)]
            is_other |= bool(numbers) and {min(numbers), max(numbers)} != {float(scale[0]), float(scale[1])}
            place = bracket.end()
            continue
        described = _SCALE_WORDS.match(text, place)
        if described is not None:
            is_other |= (_float(described[1]), _float(described[2])) != scale
            place = described.end()
            continue
        link = _LINK.match(text, place)
        if link is None or link.end() == place:
            break
        if re.search(r"[-–—]", link[0]) and scale[0] < 0:
            is_other = True  # a dash or a minus
        place = link.end()
    return place, is_other


def _number(text: str, number: re.Match[str], scale: tuple[float, float]) -> float | None:
    """The number on the scale; None if what follows says that it is another one."""
    low, high = scale
    value = _float(number[2])
    if number[2].startswith("+") and low >= 0:
        return None  # of a scale that has negative numbers
    end = number.end()
    opened = [sign for sign in number[1] if sign in "([{<"]
    if opened and text[end : end + 6].lstrip(" *_`'\"")[:1] != ")]}>"["([{<".index(opened[-1])]:
        return None
    closing = re.compile(r"[\"'*_`)\]}>”’]{0,6}").match(text, end)
    after = closing.end() if closing else end
    percent = re.compile(r"\s{0,2}(?:%|percent\b|prozent\b)", re.IGNORECASE).match(text, after)
    if percent is not None:
        return value / 100 if (low, high) == (0, 1) else value if (low, high) == (0, 100) else None
    fraction = _FRACTION.match(text, after)
    if fraction is not None:
        if _float(fraction[1]) != high or low < 0 or _MORE.match(text, fraction.end()):
            return None
        after = fraction.end()
    elif _MORE.match(text, after):
        return None
    return value if _stands_alone(text, number, after, scale) else None


_CONTINUES = re.compile(
    r"(?:and|because|since|as|with|for|which|so|given|due|und|et|y|on|approx\.?|or so|to\s*\Z)(?!\w)", re.IGNORECASE
)
_OTHER_MEASURE = re.compile(
    r"\b(?:z[- ]?scores?|percentiles?|quantiles?|ranks?|standardi[sz]ed|normali[sz]ed)\b", re.IGNORECASE
)
_REASON = re.compile(r"\b(?:because|since)\b", re.IGNORECASE)
_BESIDE = re.compile(r"[(\[](?:(?:confidence|certainty)[^()\[\]]{0,40}|\d{1,3}(?:\.\d{1,3})?\s?%)[)\]]", re.IGNORECASE)
_TOP = re.compile(
    r"[(\[]?(?:out of|of|max\.?|maximum)(?: a possible)? {0,2}(\d{1,6}(?:\.\d{1,6})?)[)\]]?", re.IGNORECASE
)
_NEXT_FIELD = re.compile(
    r"\b(?:valence|arousal|dominance)\b|[^\W\d_]{3,20}[\"'*_`)\]]{0,4}\s{0,3}[:=|>-]", re.IGNORECASE
)
_MARKS = ",;.!|()[]{}\"'*_`<>—–-#…“”‘’/·"


def _stands_alone(text: str, number: re.Match[str], after: int, scale: tuple[float, float]) -> bool:
    """Whether nothing beside a number makes it another one: a scale, a range, a unit, a bound, an item of a list."""
    digits, before = number[2], text[max(0, number.start() - 20) : number.start(2)]
    if re.search(r"\d,\d{3}\Z", digits) or before.endswith("~~"):
        return False
    if re.search(r"\n\s{0,4}\Z", before) and re.match(r"[.)]\s", text[number.end() : number.end() + 2]):
        return False
    rest = re.split(r"\n", text[after : after + 120])[0]
    field = _NEXT_FIELD.search(rest)
    rest = rest[: field.start()] if field else rest
    if _names_another_scale(text, after, scale):
        return False
    ends = {float(scale[0]), float(scale[1])}
    rest = _BESIDE.sub("", _REASON.split(rest)[0]) + ("because" if _REASON.search(rest) else "")
    rest = re.sub(rf"[(\[]{re.escape(digits)}[)\]]", "", rest)  # "5 (five)"
    rest = _TOP.sub(lambda m: "" if _float(m[1]) == float(scale[1]) else m[0], rest)
    described = _RANGE.sub(lambda m: "" if {_float(m[1]), _float(m[2])} == ends else m[0], rest)
    following = rest.lstrip(" \t")
    is_word = following[:1].isalpha()
    if following and not (following[0] in _MARKS or (is_word and _CONTINUES.match(following))):
        return False
    if _OTHER_MEASURE.search(rest):
        return False
    if following[:2].lower() == "on" and described == rest:
        return False
    return not any(character.isdigit() for character in described)


_POINTS = re.compile(r"(\d{1,3})[- ]?points?\s{1,3}(?:\w{1,12}\s{1,3})?\Z", re.IGNORECASE)
_END_OF_SCALE = re.compile(r"\b(?:lowest|highest|min|max|minimum|maximum|worst|best|top|bottom|scale)\b", re.IGNORECASE)


def _other_scale_named(text: str, scale: tuple[float, float]) -> bool:
    """Whether the text speaks of a scale that is not the task's ("On a scale from 1 to 9, ...")."""
    ends = {float(scale[0]), float(scale[1])}
    for count, match in enumerate(re.finditer(r"\bscale\b", text, re.IGNORECASE)):
        beside = text[max(0, match.start() - 25) : match.end() + 40]
        points = _POINTS.search(text, max(0, match.start() - 30), match.start())
        if points is not None and float(points[1]) != scale[1] - scale[0] + 1:
            return True
        if count < MOST_PLACES and any({_float(a), _float(b)} != ends for a, b in _RANGE.findall(beside)[:3]):
            return True
    return False


def _names_another_scale(text: str, place: int, scale: tuple[float, float]) -> bool:
    """Whether a scale that is not the task's follows the number ("5 (on a scale from 1 to 10)", "5 out of 10")."""
    ends = {float(scale[0]), float(scale[1])}
    rest = text[place : place + 120]
    bracket = re.match(r"\s{0,3}[(\[]([^()\[\]\n]{0,100})[)\]]", rest)
    line = re.split(r"[\n;,]|\.\s", rest)[0]
    out_of = re.search(r"\b(?:out\s{1,3}of|von|sur)\s{1,3}(\d{1,6})", line, re.IGNORECASE)
    if out_of is not None and _float(out_of[1]) != scale[1]:
        return True
    if bracket is not None and _END_OF_SCALE.search(bracket[1]):
        numbers = re.findall(r"(?:(?<!\d)-)?\d{1,6}(?:\.\d{1,6})?", bracket[1])
        if not set(map(_float, numbers)) <= ends:
            return True
    ranges = _RANGE.findall(line) + (_RANGE.findall(bracket[1]) if bracket else [])
    return any({_float(low), _float(high)} != ends for low, high in ranges[:5])


def _float(digits: str) -> float:
    return float(digits.replace(",", ".").rstrip(".") or "nan") if re.search(r"\d", digits) else float("nan")
