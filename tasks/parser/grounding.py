"""Places in the image that some models write into sentences: `<ref>the sky</ref><box>(1,2),(3,4)</box> is vast`."""

from __future__ import annotations

import re

_NAMES = r"(?:box|bbox|quad|det|points?|coords?|coordinates|loc|location|region|polygon)"
_NUMBERS = r"[\s\d.,;:()\[\]-]{0,300}+"
PLACES = re.compile(
    rf"<\|?{_NAMES}(?:_start)?\|?>{_NUMBERS}<[|/]{{1,2}}{_NAMES}(?:_end)?\|?>"
    r"|\{(?:<\d{1,4}>){2,8}+\}"
    r"|<(?:loc|bin|patch_index|seg|coord|quant|x|y)_?\d{1,5}>"
    r"|<\|?(?:object_ref|ref|phrase|object|grounding|det|p)(?:_start|_end)?\|?>(?=[^<]{0,400}<)"
    r"|<[|/]{1,2}(?:object_ref|ref|phrase|object|grounding|det|p)(?:_start|_end)?\|?>"
    r"|<\|object_ref_(?:start|end)\|>|</?grounding>|<delimiter_of_multi_objects/?>",
    re.IGNORECASE,
)
"""The marks of a named thing, and its coordinates as a whole."""


def without_places(text: str) -> str:
    """A sentence without places.

    >>> without_places("<ref>the sky</ref><box>(1,2),(3,4)</box> is vast")
    'the sky is vast'
    """
    return _PLACES_IN_SENTENCE.sub(_gap, text) if "<" in text else text


_PLACES_IN_SENTENCE = re.compile(rf"[ ]?(?:{PLACES.pattern})(?:[ ]?(?:{PLACES.pattern}))*[ ]?", re.IGNORECASE)


def _gap(places: re.Match[str]) -> str:
    """The one blank that is left of places and the blanks around them; none if there was none."""
    return " " if places[0][0] == " " or places[0][-1] == " " else ""
