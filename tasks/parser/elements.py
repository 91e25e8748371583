"""Elements that tell their fields by attributes or by their own name: `<result emotion="awe" explanation="..."/>`.

Elements whose fields are their contents (`<emotion>awe</emotion>`) are read with the lines of a text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

from harness.tasks.parser.labels import LabelNames
from harness.tasks.parser.words import field_kind, words

MOST_ELEMENTS = 100
_VALUE = r"(?:\"[^\"<>]{0,3000}+\"|'[^'<>]{0,3000}+')"
_ELEMENT = re.compile(rf"<([^\W\d][\w:.-]{{0,40}}+)((?:\s{{1,20}}[\w:.-]{{1,40}}+\s?=\s?{_VALUE})*+)\s{{0,9}}(/?)>")
_ATTRIBUTE = re.compile(rf"\s([\w:.-]{{1,40}}+)\s?=\s?({_VALUE})")
_OWN_VALUE = frozenset({"name", "value", "label", "type", "text", "content", "is"})
"""Attributes that hold the value of what their element names."""


def element_fields(text: str, names: LabelNames) -> Iterator[tuple[str, int, int]]:
    """Kind and place of each field that an attribute or an element's name tells, and of the explanation within."""
    for element in islice(_ELEMENT.finditer(text), MOST_ELEMENTS):
        if element[1].lower() in words().marks["html"]:
            continue
        own = field_kind(element[1])
        is_labelled = False
        others: list[tuple[str, int, int]] = []  # attributes without a known name that hold a label
        for attribute in islice(_ATTRIBUTE.finditer(text, *element.span(2)), MOST_ELEMENTS):
            name = attribute[1].lower()
            kind = own if own in ("label", "reason") and name in _OWN_VALUE else field_kind(name)
            start, end = attribute.start(2) + 1, attribute.end(2) - 1
            if kind is None and _is_label(text, start, end, names):
                others.append(("label", start, end))
            if kind in ("label", "second", "reason", "weak reason"):
                is_labelled |= kind == "label"
                yield kind, start, end
        yield from others if is_labelled else ()
        if _is_label(text, *element.span(1), names):
            is_labelled = True
            yield "label", *element.span(1)
        end = text.find(f"</{element[1]}", element.end()) if is_labelled and not element[3] else -1
        if end >= 0 and len(text[element.end() : end].split()) > 2 and "<" not in text[element.end() : end]:
            yield "reason", element.end(), end


def _is_label(text: str, start: int, end: int, names: LabelNames) -> bool:
    mention = names.at(text, start)
    return mention is not None and mention.end == end
