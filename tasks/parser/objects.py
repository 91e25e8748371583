"""JSON as models write it: with trailing commas, other quotation marks, raw line breaks, or cut off in the middle.

The reader goes through the text once. A quotation mark ends a string only if what follows could follow a string
(a comma and a key, a closing bracket, the end), so that quotation marks within a sentence stay in it. What cannot be
read ends the object there; nothing is guessed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

DEEPEST = 12
"""Levels of nesting that are read; deeper ones are no answer."""
MOST_PARTS = 50
"""Strings that are joined to one."""


@dataclass(frozen=True)
class Scalar:
    """A string, or a bare word or number.

    Attributes:
        text: its content, escapes resolved.
        start, end: where the content stands in the text read.
        is_whole: it ends with its own quotation mark; False if the text ends first.
    """

    text: str
    start: int
    end: int
    is_whole: bool = True


@dataclass
class Record:
    """An object: its pairs in order, repeated keys included.

    Attributes:
        is_whole: it ends with its own bracket; False if the text ends first, or goes on in a way that cannot be read.
        is_cut: the text ends first.
    """

    start: int
    pairs: list[tuple[str, Node]] = field(default_factory=list)
    end: int = 0
    is_whole: bool = False
    is_cut: bool = False


Node: TypeAlias = "Scalar | Record | list[Node]"

_QUOTES = {
    '"': '"',
    "'": "'",
    "“": "”",
    "”": "”",
    "‘": "’",
    "’": "’",
    "„": "“”",
    "«": "»",
    "「": "」",
    "`": "`",
    "＂": "＂",
}
"""Opening quotation mark -> the marks that may close it."""
_OBJECT = re.compile(r"\{(?=\s{0,99}[\w\"'“”‘’„«「`＂}])")
_SPACE = re.compile(
    r"(?:\s|//[^\n]{0,200}\n|/\*[^*]{0,200}\*/|(?<=[\n\t ,])#[^\n]{0,200}\n|\.{3}(?=\s{0,9}[}\]])|,(?=\s*[}\],]))*+"
)
_SIGN = re.compile(r"\s{0,20}(?::|：|=>|=(?!=))")
_KEY = re.compile(
    r"[\"'“”‘’„«「`＂]{1,3}[^\"'“”‘’„»」`＂:：{}\n]{1,80}[\"'“”‘’»」`＂]{1,3}\s{0,20}(?::|：|=>|=)"
    r"|[^\W\d][\w .-]{0,60}?[ ]?(?::|：|=>|=)(?!//)",
)
_STOPS = {closing: re.compile(rf"[{re.escape(closing)}]") for closing in set(_QUOTES.values())}
_BARE_STOPS = re.compile(r"[,;}\]\n]")
_BARE_STOPS_IN_TUPLE = re.compile(r"[,;}\])\n]")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|([\s\S]))")
_CUT_ESCAPE = re.compile(r"(?:\\u[dD][89abAB][0-9a-fA-F]{2})?(?:\\(?:u[0-9a-fA-F]{0,3})?)?\ufffd{0,3}\Z")
"""What is left of an escape, or of a character of several bytes, that the end of a text cuts in two."""
_PREFIX = re.compile(r"[fFrRbBuU]{1,2}(?=[\"'])")
_JOINT = re.compile(r"(?:\s{0,20}\\?\n\s{0,80}(?:\+\s{0,9})?|\s{0,20}\+\s{0,80}|[ ]{1,3})(?:[fFrRbBuU]{1,2})?(?=[\"'])")
"""What stands between the parts of a string of Python."""
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", '"': '"', "\\": "\\", "/": "/"}


def read_objects(text: str) -> Iterator[Record]:
    """The objects of a text in order, those within others as parts of them."""
    opening = _OBJECT.search(text)
    while opening is not None:
        reader = _Reader(text, opening.start())
        record = reader.record(0)
        if record is not None:
            yield record
        opening = _OBJECT.search(text, max(reader.position, opening.start() + 1))


def read_list(text: str) -> list[Node] | None:
    """The list or tuple that is the whole text, or None."""
    stripped = text.strip()
    if not stripped.startswith(("[", "(")):
        return None
    reader = _Reader(stripped, 0)
    node = reader.value(0)
    return node if isinstance(node, list) and reader.position == len(stripped) else None


def read_string(text: str) -> str | None:
    """The string that is the whole text as Python would read it (`f"..."`, `"..." + "..."`), or None."""
    stripped = text.strip()
    if _PREFIX.match(stripped) is None and stripped[:1] not in ("'", '"'):
        return None
    reader = _Reader(stripped, 0)
    node = reader.value(0)
    is_whole = isinstance(node, Scalar) and node.is_whole and reader.position == len(stripped)
    return node.text if is_whole and isinstance(node, Scalar) else None


def is_whole_object(text: str) -> bool:
    """Whether a text is one whole object and nothing else, so that marks within it are parts of its strings."""
    start, end = len(text) - len(text.lstrip()), len(text.rstrip())
    if text[start : start + 1] != "{" or text[end - 1 : end] != "}":
        return False
    record = next(read_objects(text), None)
    return record is not None and record.start == start and record.is_whole and record.end == end


def unescaped(text: str) -> str:
    """The escapes of JSON and Python strings resolved; a backslash before another sign is left out.

    >>> unescaped(r'caf\\u00e9 \\& \\"tea\\"')
    'café & "tea"'
    """
    if "\\" not in text:
        return text

    def one(match: re.Match[str]) -> str:
        if match[1]:
            return chr(int(match[1], 16))
        sign = match[2]
        return _ESCAPES.get(sign, match[0] if sign.isalnum() else sign)

    joined = _ESCAPE.sub(one, text)
    return joined.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if "\\ud" in text.lower() else joined


class _Reader:
    """Reads one object from a place on; `position` is where it stands."""

    def __init__(self, text: str, position: int) -> None:
        self.text, self.position = text, position
        self._open_tuples = 0
        self._has_bare_keys = False

    def record(self, depth: int) -> Record | None:
        """The object that starts here; None if no key follows the bracket."""
        record = Record(self.position)
        self.position += 1
        self._skip()
        while self._peek() not in ("}", ""):
            key = self._key()
            if key is None or depth > DEEPEST:
                record.end = self.position
                return record if record.pairs else None
            value = self.value(depth + 1, in_record=True)
            record.pairs.append((key, value))
            if (isinstance(value, Scalar) and not value.is_whole) or (isinstance(value, Record) and not value.is_whole):
                record.is_cut = self.position >= len(self.text)
                record.end = self.position
                return record
            self._separator()
        record.is_whole = self._peek() == "}"
        record.is_cut = not record.is_whole
        self.position = min(self.position + 1, len(self.text))
        record.end = self.position
        return record

    def value(self, depth: int, *, in_record: bool = False) -> Node:
        """The string, bare word, list or object that starts here."""
        self._skip()
        first = self._peek()
        if first == "{":
            start = self.position
            inner = self.record(depth)
            return Scalar("", start, start, is_whole=False) if inner is None else inner
        if first in ("[", "(") and depth <= DEEPEST:
            return self._list(depth, "]" if first == "[" else ")")
        prefix = _PREFIX.match(self.text, self.position)
        if prefix is not None:
            self.position, first = prefix.end(), self.text[prefix.end()]
        if first in _QUOTES:
            return self._joined(self._string(in_record), first, in_record)
        return self._bare(in_record)

    def _joined(self, part: Scalar, quote: str, in_record: bool) -> Scalar:
        """A string with those that continue it ("the sky " + "is vast")."""
        parts = [part]
        while part.is_whole and len(parts) < MOST_PARTS and (joint := _JOINT.match(self.text, self.position)):
            if not self._joins(joint, quote):
                break
            self.position = joint.end()
            part = self._string(in_record)
            parts.append(part)
        joined = "".join(one.text for one in parts)
        return part if len(parts) == 1 else Scalar(joined, parts[0].start, part.end, part.is_whole)

    def _list(self, depth: int, closing: str) -> list[Node]:
        found: list[Node] = []
        self.position += 1
        self._open_tuples += closing == ")"
        self._skip()
        while self._peek() not in (closing, "", "}"):
            before = self.position
            node = self.value(depth + 1)
            found.append(node)
            if isinstance(node, Record) and not node.is_whole:
                return found
            self._separator()
            if self.position == before:
                return found
        self.position += self._peek() == closing
        self._open_tuples -= closing == ")"
        return found

    def _key(self) -> str | None:
        match = _KEY.match(self.text, self.position)
        if match is None:
            return None
        self.position = match.end()
        self._has_bare_keys |= match[0][0] not in _QUOTES
        return unescaped(match[0].rstrip(":：=> \n\t").strip("\"'“”‘’„«»「」`＂ \n\t"))

    def _string(self, in_record: bool) -> Scalar:
        text, quote = self.text, self.text[self.position]
        width = 3 if text.startswith(quote * 3, self.position) else 1
        start = place = self.position + width
        stop = _STOPS[_QUOTES[quote]]
        while (match := stop.search(text, place)) is not None:
            place = match.start()
            before = place
            while before > start and text[before - 1] == "\\":
                before -= 1
            is_escaped = (place - before) % 2 == 1
            end = place + (width if text.startswith(quote * width, place) else 1)
            if not is_escaped and self._may_end(end, in_record):
                self.position = end
                return Scalar(unescaped(text[start:place]), start, place)
            place += 1
        self.position = len(text)
        return Scalar(unescaped(_CUT_ESCAPE.sub("", text[start:])), start, len(text), is_whole=False)

    def _joins(self, joint: re.Match[str], quote: str) -> bool:
        """Whether a string goes on: with the same quotation mark, and a blank where its parts meet."""
        text, before, after = self.text, joint.start() - 2, joint.end()
        has_blank = text[before].isspace() or text[after + 1 : after + 2].isspace() or "\n" in joint[0]
        return text[after] == quote and has_blank

    def _may_end(self, place: int, in_record: bool) -> bool:
        """Whether a string may end right before `place`: what follows could follow it."""
        text = self.text
        gap = _SPACE.match(text, place)
        following = gap.end() if gap else place
        sign = text[following : following + 1]
        if sign in ("", "}", "]") or (sign == ")" and self._open_tuples):
            return True
        if sign in (",", ";", "，"):
            gap = _SPACE.match(text, following + 1)
            following = gap.end() if gap else following + 1
            sign = text[following : following + 1]
            if not in_record:
                return sign in _QUOTES or sign in ("", "]", ")", "{", "[") or sign.isalnum()
            is_cut_key = sign in _QUOTES and re.compile(r"[\w \"'“‘-]{0,40}\Z").match(text, following) is not None
            return sign in ("", "}") or self._is_key(following) or is_cut_key
        if sign == "`" or text.startswith("</", following):
            return True
        joint = _JOINT.match(text, place)
        if joint is not None and self._joins(joint, text[place - 1]) and not self._is_key(joint.end()):
            return True
        return following > place and sign in _QUOTES and in_record and self._is_key(following)

    def _bare(self, in_record: bool) -> Scalar:
        text, start, place = self.text, self.position, self.position
        stops = _BARE_STOPS_IN_TUPLE if self._open_tuples else _BARE_STOPS
        while (match := stops.search(text, place)) is not None:
            place = match.start()
            if (
                match[0] not in ",;"
                or not in_record
                or self._is_key(self._past(place + 1))
                or self._past(place + 1) == len(text)
            ):
                self.position = place
                return Scalar(text[start:place].strip(), start, place)
            place += 1
        self.position = len(text)
        return Scalar(text[start:].strip(), start, len(text), is_whole=False)

    def _is_key(self, place: int) -> bool:
        """Whether a key stands at a place: one without quotation marks only if the object has such keys."""
        return _KEY.match(self.text, place) is not None and (self._has_bare_keys or self.text[place] in _QUOTES)

    def _past(self, place: int) -> int:
        gap = _SPACE.match(self.text, place)
        return gap.end() if gap else place

    def _separator(self) -> None:
        self._skip()
        if self._peek() in (",", ";", "，"):
            self.position += 1
            self._skip()

    def _skip(self) -> None:
        self.position = self._past(self.position)

    def _peek(self) -> str:
        return self.text[self.position : self.position + 1]


def decoded_text(text: str) -> str | None:
    """The text within a text that is one JSON string, or an object whose quotation marks are all escaped; else None."""
    stripped = text.strip()
    if stripped.startswith('"') and stripped.endswith('"') and "\\" in stripped:
        try:
            value = json.loads(stripped, strict=False)
        except ValueError:
            return None
        return value if isinstance(value, str) else None
    return unescaped(stripped) if re.match(r"\{\s{0,20}\\\\?\"", stripped) else None
