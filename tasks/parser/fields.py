"""Named fields of an answer, in whatever form they come: JSON, elements, tables, headings, `Name: value`.

All forms give the same fields, and one rule turns fields into a claim.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from harness.tasks.parser.labels import LabelNames
from harness.tasks.parser.objects import Node, Record, Scalar, decoded_text, read_list, read_objects, read_string
from harness.tasks.parser.prose import Claim, after_label, line_form, read_value, without_own_label
from harness.tasks.parser.wording import sentence, tidy
from harness.tasks.parser.words import field_kind, is_final, is_reasoning, words

MOST_FIELDS, MOST_LINES, MOST_ELEMENTS = 200, 500, 100
"""Fields, lines and elements that are looked at; an answer has fewer."""


@dataclass(frozen=True)
class Field:
    """A named value.

    Attributes:
        kind: see `field_kind`.
        value: the text in which it stands, from `start` to `end`.
        start, end: its place in that text.
        is_final: its name says that it outranks other fields.
        is_exact: the value is a string of its own (of JSON), kept as it is.
        is_cut: the text ended within it.
        is_placed: `value` is the text that is read as a whole, so that its places are the text's.
        is_reasoning: a reason by a name that thoughts may have too.
    """

    kind: str
    value: str
    start: int
    end: int
    is_final: bool = False
    is_exact: bool = False
    is_cut: bool = False
    is_placed: bool = False
    is_reasoning: bool = False

    @property
    def text(self) -> str:
        """The value as a sentence."""
        written = self.value[self.start : self.end]
        if self.is_exact:
            return sentence(written) if "reason" in self.kind else written.strip()
        literal = read_string(written) if "reason" in self.kind else None
        block = _YAML_BLOCK.match(written) if literal is None else None
        if block is not None:
            lines = [line.strip() for line in written[block.end() :].split("\n")]
            written = (" " if block[1] == ">" else "\n").join(lines)
        return tidy(written if literal is None else literal)


_YAML_BLOCK = re.compile(r"\s{0,9}([|>])[+-]?[0-9]?[ \t]{0,9}\n")
"""The indicator of a YAML block, which its indented lines follow."""


@dataclass(frozen=True)
class Found:
    """What an answer, or a part of it, claims by its fields, lines or sentences.

    Attributes:
        labels: all labels claimed.
        explanation: the reason; empty if none is given.
        place: where the first label claimed stands in the text; None without a label, and if it stands there in another
            spelling.
        outside: a field names a label that the task does not have, and none names one that it has.
        is_cut: the explanation is a field that the end of the text cut off.
    """

    labels: frozenset[str] = frozenset()
    explanation: str = ""
    place: tuple[int, int] | None = None
    outside: bool = False
    is_cut: bool = False


def read_fields(text: str, names: LabelNames) -> Found:
    """What an answer's fields say: those of objects; if there are none, those of other forms."""
    decoded = decoded_text(text)
    source = text if decoded is None else decoded
    fields: list[Field] = []
    end = 0
    match read_list(source):
        case [Scalar() as label, Scalar() as reason] if re.search(r"[^\W\d_]", reason.text):
            fields = [_field("label", label, source, placed=False), _field("reason", reason, source, placed=False)]
            end = len(source)
        case _:
            for record in read_objects(source):
                fields += _fields_of(record, source, decoded is None)
                end = record.end
                if len(fields) > MOST_FIELDS:
                    break
    if not any(field.kind == "label" for field in fields):
        return _combined([*_table_fields(text), *_line_fields(text, names)], names)

    rest = source[end:]  # may hold another claim, or the reason that the objects lack
    if any(True for _ in names.mentions(rest[:2000])):
        claimed = [label for claim in line_form(rest[:2000], names) for label in claim.labels]
        fields += [Field("label", label, 0, len(label)) for label in claimed]
    elif not any(field.kind in ("reason", "weak reason") for field in fields) and len(tidy(rest).split()) >= 3:
        said = after_label(rest)
        fields.append(Field("weak reason", said, 0, len(said)))
    return _combined(fields, names)


def _combined(fields: Sequence[Field], names: LabelNames) -> Found:
    """One answer from all fields: the labels of the final ones, else of all; the first reason."""
    reasons = [field for field in fields if field.kind == "reason" and field.text]
    weak = [field for field in fields if field.kind == "weak reason" and field.text]
    claims: list[tuple[Field, Claim]] = []
    is_outside = False
    for field in fields:
        if field.kind in ("label", "second") and not (field.is_cut and field.is_exact):
            claim = read_value(
                field.value, field.start, field.end, names, is_whole=bool(reasons or field.kind == "second")
            )
            if claim is not None:
                claims.append((field, claim))
            else:
                is_outside |= bool(field.text)
    claims = [pair for pair in claims if pair[0].is_final] or claims
    if all(field.kind == "second" for field, _ in claims):
        return Found(outside=is_outside)
    field, claim = claims[0]
    own = next((claim for _, claim in claims if claim.explanation), None)
    if own is not None:  # a label with its own "because": what was reasoned before it is not the explanation
        place = next(index for index, one in enumerate(fields) if one is field)
        reasons = [one for one in fields[place + 1 :] if one.kind == "reason" and one.text]
    explained = next((one for one in reasons if not one.is_reasoning), next(iter(reasons), None))
    explanation = explained.text if explained else own.explanation if own else weak[0].text if weak else ""
    is_cut = bool(explained and explained.is_cut)
    labels = frozenset[str]().union(*(claim.labels for _, claim in claims))
    explanation = without_own_label(explanation, labels, names)
    return Found(labels, explanation, (claim.start, claim.end) if field.is_placed else None, is_cut=is_cut)


# --------------------------------------------------------------------------------------------- objects


_SCORE = re.compile(r"[\d.]+%?|true|True")
"""The value of a label that is a key: how much, or that."""


def _field(kind: str, scalar: Scalar, source: str, *, placed: bool, key: str = "") -> Field:
    is_placed = placed and source[scalar.start : scalar.end] == scalar.text
    value, start, end = (source, scalar.start, scalar.end) if is_placed else (scalar.text, 0, len(scalar.text))
    return Field(
        kind,
        value,
        start,
        end,
        is_final=is_final(key),
        is_exact=True,
        is_cut=not scalar.is_whole,
        is_placed=is_placed,
        is_reasoning=is_reasoning(key),
    )


def _fields_of(node: Node, source: str, placed: bool, depth: int = 0) -> Iterator[Field]:
    """The fields of an object and of those within it."""
    if isinstance(node, list):
        for inner in node:
            yield from _fields_of(inner, source, placed, depth)
    if not isinstance(node, Record):
        return
    is_labelled = any(field_kind(key) in ("label", "second") for key, _ in node.pairs)
    is_explained = not is_labelled and any(field_kind(key) == "reason" for key, _ in node.pairs)
    for key, value in node.pairs:
        kind = field_kind(key)
        if kind is None and not is_labelled and isinstance(value, Scalar) and " " in value.text.strip():
            yield Field("label", key, 0, len(key))  # {"awe": "the sky is vast"}, if the key names a label
            kind = "reason" if len(node.pairs) == 1 else None
        elif kind is None and is_explained and isinstance(value, Scalar) and _SCORE.fullmatch(value.text):
            yield Field("label", key, 0, len(key))  # {"awe": 0.9, "fear": 0.1}: each is claimed
        if kind in ("aside", "thought", "measure"):
            continue
        yield from _fields_of_value(kind, key, value, source, placed, depth)


def _fields_of_value(kind: str | None, key: str, value: Node, source: str, placed: bool, depth: int) -> Iterator[Field]:
    if isinstance(value, Scalar):
        inner = value.text.lstrip()
        if inner.startswith("{") and depth < 3:
            yield from _fields_of(list(read_objects(inner)), inner, False, depth + 1)
        elif kind is not None:
            yield _field(kind, value, source, placed=placed, key=key)
    elif isinstance(value, list) and kind is not None and all(isinstance(inner, Scalar) for inner in value):
        scalars = [inner for inner in value if isinstance(inner, Scalar)]
        if kind in ("label", "second"):
            yield from (_field(kind, scalar, source, placed=placed, key=key) for scalar in scalars)
        elif scalars:
            joined = " ".join(scalar.text for scalar in scalars)
            cut = not scalars[-1].is_whole
            yield Field(kind, joined, 0, len(joined), is_exact=True, is_cut=cut, is_reasoning=is_reasoning(key))
    elif isinstance(value, Record) and kind in ("label", "second", "reason"):
        yield from _fields_of_named(kind, value, source, placed, depth)
    else:
        yield from _fields_of(value, source, placed, depth)


def _fields_of_named(kind: str, record: Record, source: str, placed: bool, depth: int) -> Iterator[Field]:
    """The fields of an object that is a value: `{"label": "awe", "score": 0.9}`, `{"text": "..."}`, `{"awe": 0.9}`."""
    for key, value in record.pairs:
        own = field_kind(key)
        if own in ("aside", "thought", "measure"):
            continue
        if isinstance(value, Scalar) and own is None and _SCORE.fullmatch(value.text):
            yield Field(kind, key, 0, len(key))  # scores by label: each is claimed
        elif isinstance(value, Scalar) and (own is None or (kind == "reason" and own == "weak reason")):
            yield _field(kind, value, source, placed=placed)
        else:
            yield from _fields_of_value(own, key, value, source, placed, depth + 1)


# --------------------------------------------------------------------------------------------- elements


_VALUE = r"(?:\"[^\"<>]{0,3000}+\"|'[^'<>]{0,3000}+')"
_TELLING_ELEMENT = re.compile(
    rf"<([^\W\d][\w:.-]{{0,40}}+)((?:\s{{1,20}}[\w:.-]{{1,40}}+\s?=\s?{_VALUE})*+)\s{{0,9}}(/?)>"
)
_ATTRIBUTE = re.compile(rf"\s([\w:.-]{{1,40}}+)\s?=\s?({_VALUE})")
_OWN_VALUE = frozenset({"name", "value", "label", "type", "text", "content", "is"})
"""Attributes that hold the value of what their element names."""


def read_elements(text: str, names: LabelNames) -> Found:
    """What a text's elements say by attributes and by their names: `<result emotion="awe" explanation="..."/>`.

    Elements whose fields are their contents (`<emotion>awe</emotion>`) are read with the lines of a text.
    """
    told: list[tuple[str, int, int]] = []  # kind and place of each field
    for element in islice(_TELLING_ELEMENT.finditer(text), MOST_ELEMENTS):
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
                told.append((kind, start, end))
        told += others if is_labelled else ()
        if _is_label(text, *element.span(1), names):
            is_labelled = True
            told.append(("label", *element.span(1)))
        end = text.find(f"</{element[1]}", element.end()) if is_labelled and not element[3] else -1
        if end >= 0 and len(text[element.end() : end].split()) > 2 and "<" not in text[element.end() : end]:
            told.append(("reason", element.end(), end))
    fields = [Field(kind, text, start, end, is_placed=True) for kind, start, end in told]
    if not any(field.kind == "label" for field in fields):
        return Found()
    return _combined([*fields, *_line_fields(text, names)], names)


def _is_label(text: str, start: int, end: int, names: LabelNames) -> bool:
    mention = names.at(text, start)
    return mention is not None and mention.end == end


# ----------------------------------------------------------------------------------------------- tables


def _table_fields(text: str) -> list[Field]:
    """The fields of a Markdown table (names in its head or its first column), or of a csv with a line of names."""
    lines = [(m.start(), m[0]) for m in islice(_LINE.finditer(text), MOST_FIELDS)]
    rows = [_cells(line, start) for start, line in lines if line.count("|") >= 1]
    rows = [row for row in rows if row]
    is_ruled = any("|" in line and re.fullmatch(r"[\s|:+=-]{3,}", line) for _, line in lines)
    framed = [line.strip() for _, line in lines if line.strip().startswith("|") and line.strip().endswith("|")]
    is_record = len(rows) > 1 and all(len(row) > 1 and field_kind(text[slice(*row[0])]) for row in rows)
    if rows and (is_ruled or len(framed) > 1 or is_record):
        head = [field_kind(text[a:b]) for a, b in rows[0]]
        if len([kind for kind in head if kind is not None]) > 1 and "label" in head:
            return [
                Field(kind, text, a, b, is_placed=True)
                for row in rows[1:]
                for kind, (a, b) in zip(head, row, strict=False)
                if kind is not None
            ]
        return [
            Field(kind, text, *row[1], is_final=is_final(text[slice(*row[0])]), is_placed=True)
            for row in rows
            if len(row) > 1 and (kind := field_kind(text[slice(*row[0])])) is not None
        ]
    return _csv_fields(text, lines)


def _cells(line: str, start: int) -> list[tuple[int, int]]:
    """The places of a table row's cells."""
    if re.fullmatch(r"[\s|:+=-]*", line):
        return []
    cells, position = [], start
    for cell in line.split("|"):
        cells.append((position, position + len(cell)))
        position += len(cell) + 1
    cells = cells[1:] if not line.split("|")[0].strip() else cells
    return cells[:-1] if cells and not line.rpartition("|")[2].strip() else cells


def _csv_fields(text: str, lines: Sequence[tuple[int, str]]) -> list[Field]:
    for number, (_, head) in enumerate(lines[:-1], 1):
        for separator in (",", "\t", ";", "|"):
            kinds = [field_kind(cell.strip(" \"'*`")) for cell in head.split(separator)]
            if len(kinds) > 1 and None not in kinds and "label" in kinds and len(head) < 120:
                found: list[Field] = []
                rows = (line for line in lines[number:] if re.search(r"\w", line[1]))
                for index, (start, row) in enumerate(rows):
                    cells, position = row.split(separator, len(kinds) - 1), start
                    for kind, cell in zip(kinds, cells, strict=False):
                        # of further rows the labels, each of which is another claim
                        if index == 0 or (kind == "label" and len(cells) == len(kinds)):
                            found.append(Field(str(kind), text, position, position + len(cell), is_placed=True))
                        position += len(cell) + 1
                return found
    return []


# ------------------------------------------------------------------------------------- headings and lines


@dataclass(frozen=True)
class Head:
    """A field's name in a text.

    Attributes:
        kind: of the field.
        start: where what belongs to the name begins.
        value: where its value begins.
        is_final: it says that its value outranks other fields.
        end: where its value ends at the latest, if its form says so.
        is_inline: it stands within a line, after other words.
    """

    kind: str
    start: int
    value: int
    is_final: bool = False
    end: int | None = None
    is_inline: bool = False


_LAST = 240
"""Characters at the end of a text in which its last bracket is looked for."""
_LINE = re.compile(r"[^\n]+")
_LEAD = re.compile(r"(?:[^\w\n]|_)*+(?:(?:step\s)?(?:\d{1,2}|[a-zA-Z])\s?[.)](?=[\s*_\"'])(?:[^\w\n]|_)*+)?")
_NAME_SIGN = re.compile(r"[\"'*_`”’\])】>]{0,6}\s{0,3}(?:[:：=]{1,2}|->|→|=>|⇒|\s[-–—]\s|[\]】](?=\s|\w))[>*_`\"]{0,3}")
_BRACKETED = re.compile(r"[\[【]\s?([^\[\]【】\n]{2,40})\s?[\]】]\s?[:：]?")
_ELEMENT = re.compile(r"<([^\W\d][\w:.-]{0,40}+)(?:\s[^<>\n]{0,80}+)?>")
_RULE = re.compile(r"\n[ \t]{0,9}[=-]{3,80}[ \t]{0,9}(?=\n)")
_INLINE_SIGN = re.compile(r"[:：=]")
_MARKS = re.compile(r"[*_`\"]{0,3}")
_BOUNDARY = re.compile(r"&(?=\w{3,20}\Z)|[.,;|()\[\]!?。；，、\x1f]|\*\*|\s[-–—]\s|[\"”](?=\s)")


def heads(text: str) -> list[Head]:
    """All field names in a text, in order."""
    found: list[Head] = []
    for match in islice(_ELEMENT.finditer(text), MOST_LINES):
        kind = field_kind(match[1])
        if kind not in (None, "thought"):
            end = text.find(f"</{match[1]}", match.end())
            following = text.find("<", match.end())
            stop = end if end >= 0 else following if following >= 0 else len(text)
            found.append(Head(str(kind), match.start(), match.end(), is_final(match[1]), stop))
    if not found:
        found = [*_bracketed(text)]
        lines = (line for line in _LINE.finditer(text) if not line[0].isspace())
        for line in islice(lines, MOST_LINES):
            found += _heads_of_line(text, line.start(), line.end())
            if len(found) > MOST_FIELDS:
                break
    found.sort(key=lambda head: head.start)
    return found


def _bracketed(text: str) -> Iterator[Head]:
    for count, match in enumerate(islice(_BRACKETED.finditer(text), MOST_LINES)):
        kind = field_kind(match[1])
        opens_line = not text[text.rfind("\n", 0, match.start()) + 1 : match.start()].strip(" \t*#>-")
        if count == 0 and not opens_line:
            return  # words of a sentence
        if kind in ("label", "reason") or (opens_line and kind in ("thought", "measure")):
            yield Head(kind, match.start(), match.end(), is_final(match[1]))


def _heads_of_line(text: str, start: int, end: int) -> Iterator[Head]:
    lead = _LEAD.match(text, start, end)
    begin = lead.end() if lead else start
    if lead is not None and re.search(r"[\[【]", lead[0]) and _BRACKETED.match(text, begin - 1, end):
        return
    sign = _NAME_SIGN.search(text, begin, min(end, begin + 100))
    name = _name(text[begin : sign.start() if sign else end])
    kind = field_kind(name)
    if sign is None and kind not in (None, "weak reason"):
        is_marked = lead is not None and re.search(r"[#*_\d]", lead[0])
        is_short = len(text[start:end].split()) <= 3 and re.match(r"\n[=-]{0,40}\s*\w", text[end : end + 60])
        if is_marked or is_short:  # a heading; or a few words before a line that could be their value
            rule = _RULE.match(text, end)
            yield Head(str(kind), start, rule.end() if rule else end, is_final(text[begin:end]))
            return
    if sign is not None and kind is not None:
        yield Head(kind, start, sign.end(), is_final(name))
        begin = sign.end()
    yield from _inline_heads(text, begin, end)


def _inline_heads(text: str, start: int, end: int) -> Iterator[Head]:
    """Names within a line, after a sentence's end, a comma, a bar or a bracket."""
    last = start
    for count, sign in enumerate(_INLINE_SIGN.finditer(text, start, end)):
        if count > 60:
            return
        window = max(last, sign.start() - 60)
        boundaries = list(_BOUNDARY.finditer(text, window, sign.start()))
        if not boundaries:
            continue
        boundary = boundaries[-1]
        name = _name(text[boundary.end() : sign.start()])
        kind = field_kind(name)
        if kind is not None and len(name.split()) <= 5:
            closing = text.find(")", sign.end(), end) if text[boundary.start()] == "(" else -1
            at = boundary.start() if text[boundary.start()] in "(*|[" else boundary.end()
            marks = _MARKS.match(text, sign.end())
            value = marks.end() if marks else sign.end()
            yield Head(kind, at, value, is_final(name), closing if closing >= 0 else None, is_inline=True)
            last = sign.end()


def _name(text: str) -> str:
    """A field's name without marks and without what stands in brackets after it."""
    head, tail = text[:-_LAST], text[-_LAST:]  # a bracket that ends it is near the end; each place is tried once
    return (head + re.sub(r"[(\[][^()\[\]]{0,80}+[)\]]?[\W_]*+\Z", "", tail)).strip(
        " \t*_#\"'`“”‘’()[]{}<>【】-–—•\x1f"
    )


def _line_fields(text: str, names: LabelNames) -> list[Field]:
    """The fields of headings, elements and lines; without a reason, what stands before the label is one."""
    found = heads(text)
    labelled = [head for head in found if head.kind in ("label", "second") and not head.is_inline]
    kept: list[Head] = []
    for head in found:
        if head.is_inline and head.kind in ("label", "second"):
            value = read_value(text, head.value, min(head.value + 60, len(text)), names, is_whole=False)
            if value is None:
                continue
        if head.is_inline and head.kind == "reason" and any(other.kind == "reason" for other in kept):
            continue
        kept.append(head)
    if not any(head.kind in ("label", "second") for head in kept):
        return []
    fields = []
    for head, following in zip(kept, [*kept[1:], None], strict=False):
        stop = following.start if following else len(text)
        end = stop if head.end is None else min(head.end, stop)
        name = text[head.start : head.value]
        fields.append(
            Field(head.kind, text, head.value, end, head.is_final, is_placed=True, is_reasoning=is_reasoning(name))
        )
        if head.kind == "measure" and head.is_inline and end < stop:  # "awe (confidence: 90%) because ..."
            because = re.match(r"\)?(?:" + words().because + ")", text[end:stop], re.IGNORECASE)
            fields += [Field("reason", text, end + because.end(), stop)] if because else []
    if not any(field.kind == "reason" for field in fields):
        first = next(head for head in kept if head.kind in ("label", "second"))
        if not any(head.kind == "thought" and head.start < first.start for head in kept):
            fields.append(Field("weak reason", text, 0, min(first.start, kept[0].start if labelled else first.start)))
    return fields


def apart_from_reason(text: str) -> tuple[str, str]:
    """The text with blanks for a reason that has a name of its own line, and that reason; empty if there is none."""
    found = heads(text)
    for head, following in zip(found, [*found[1:], None], strict=False):
        if head.kind == "reason" and not head.is_inline and head.start > 0:
            stop = following.start if following else len(text)
            end = stop if head.end is None else min(head.end, stop)
            reason = Field("reason", text, head.value, end).text
            if reason:
                return text[: head.start] + "\x1f" * (end - head.start) + text[end:], reason
    return text, ""


def without_asides(text: str) -> str:
    """The text with blanks for the measures, alternatives and thoughts that it names, to the next name or line."""
    pieces, position = [], 0
    found = heads(text)
    for head, following in zip(found, [*found[1:], None], strict=False):
        if head.kind in ("measure", "aside", "thought", "second") and head.start >= position:
            line_end = -1 if head.kind == "thought" else text.find("\n", head.value)
            stop = min(len(text) if line_end < 0 else line_end, following.start if following else len(text))
            end = min(stop, head.end + 1) if head.end is not None else stop
            pieces += [text[position : head.start], "\x1f" * (end - head.start)]
            position = end
    return "".join(pieces) + text[position:]
