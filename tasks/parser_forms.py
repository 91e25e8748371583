"""The forms in which models state a label and an explanation, each a function from text to claims.

A form is tried only when the forms before it found nothing: JSON, then named fields, then a line that starts with a
label, then a sentence that claims one. A word that merely occurs in the text is never a claim.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from harness.tasks.parser_vocabulary import SECTION_TITLES, Vocabulary, normalise


@dataclass(frozen=True)
class Claim:
    """One statement of an answer.

    Attributes:
        labels: the labels it names; two different ones make it ambiguous.
        explanation: the reason given, possibly empty.
    """

    labels: frozenset[str]
    explanation: str


Form = Callable[[str, Vocabulary], list[Claim]]

OPENING = r"[\s>*_#\"'`“‘(\[{-]*(?:\d{1,2}\s*[.)]\s*)?[*_\"'`“‘(\[{]*"
CLOSING = r"[*_\"'`”’)\]}]*"
BECAUSE = r",?\s*\b(?:because|since|as|due\s+to|owing\s+to)\b[,:]?"
FILLER_WORDS = (
    r"a|an|the|of|some|such|very|quite|so|really|pretty|mostly|overall|both|it|is|was|be|would|to|as|by|with|in|me|"
    r"you|us|viewers?|viewer's|one|sense|feelings?|emotions?|mood|state|kind|sort|bit|little|lot|touch|hint|mix|mixture|"
    r"blend|combination|strong|deep|profound|great|pure|mild|sheer|quiet|gentle|certain|best|most|more|single|simple"
)
FILLER = rf"(?:(?:{FILLER_WORDS}|\w+(?:ly|ing|ous|ic|ive|ful|ant|ent|al|able|ible)|\w+(?:,|\s+and))\s+)"
AND = r"(?:\s*(?:,|/|&|\+|\band\b|\bor\b|\bas\s+well\s+as\b|\bmixed\s+with\b|\btinged\s+with\b|\bbut\s+also\b)\s*)"
NEGATION = re.compile(
    r"\b(?:not|no|never|without|neither|nor|less|hardly|cannot|rather than|instead of)\b|n['’]t\b", re.I
)
NOT_NEGATED = re.compile(r"\b(?:can(?:no|['’])t|cannot)\s+help\b|\bnot only\b|\bno doubt\b", re.I)

FIELD_NAME = (
    r"(?:(?:final|my|the|best|dominant|primary|main|chosen|selected|evoked|predicted|overall)\s+)*"
    r"(?:emotion(?:al\s+label)?|feeling|label|answer|category|class|response)"
    r"(?:\s+(?:evoked|label|chosen|selected|felt|category|is))?(?:\s*\([^)\n]{0,60}\))?"
)
FIELD_SIGN = rf"{CLOSING}\s*(?::|=|\s[-–—]\s){CLOSING}"
FIELD_LINE = re.compile(rf"^{OPENING}(?P<name>{FIELD_NAME}){FIELD_SIGN}", re.I | re.M)
REASON_FIELD = re.compile(
    rf"(?:^|(?<=[\s.,;|*]))[*_#\"'-]*(?:explanation|reason(?:ing)?|rationale|why|justification|because){FIELD_SIGN}",
    re.I | re.M,
)
EMOTION_KEYS = ("emotion", "label", "feeling", "dominant_emotion", "answer", "category")
EXPLANATION_KEYS = ("explanation", "reason", "because", "rationale", "reasoning", "why", "justification")

VIEWER = r"(?:i|we|you|one|me|us|viewers?)"
CLAIM_VERB = (
    r"(?:evok|elicit|convey|inspir|arous|provok|instill?|trigger|induc|stir|generat|creat|giv|bring)(?:e|es|ed|ing|s)?"
    rf"(?:\s+(?:up|out|forth))?|{VIEWER}\s+(?:[\w'’]+\s+){{0,4}}?(?:feels?|felt|am|are)|i['’]m|"
    r"makes?\s+(?:me|you|us|one)|fills?\s+(?:me|you|us)\s+with|leaves?\s+(?:me|you|us)|there(?:\s+is|['’]s)|"
    r"(?:emotion|feeling|label|answer|mood)(?:\s+\w+){0,6}?\s+(?:is|would\s+be|as)|"
    r"i(?:['’]d|\s+would)?\s+(?:choose|pick|select|say|go\s+with|chose|picked)"
)
SENTENCE_BECAUSE = re.compile(rf"([^.!?;:\n]{{0,60}}?){BECAUSE}", re.I)
TAIL = (
    rf"(?={CLOSING}\s*(?:$|[.,;:!?)(\n–—-]|(?:because|since|as|due|owing|in|with|at|for|from|when|that|through|by|about|"
    r"and|or|to|while|feelings?|emotions?|here|upon|on|toward|towards|is|within)\b))"
)


def json_form(text: str, names: Vocabulary) -> list[Claim]:
    """`{"emotion": "awe", "explanation": "..."}`, alone, in a fence, or within other text."""
    claims = []
    for record in _json_objects(text):
        keys = {normalise(key).replace(" ", "_"): value for key, value in record.items()}
        stated = next((keys[key] for key in EMOTION_KEYS if isinstance(keys.get(key), str)), None)
        labels = frozenset(_leading_labels(stated, names)[0]) if stated else frozenset()
        if labels:
            reason = next((keys[key] for key in EXPLANATION_KEYS if isinstance(keys.get(key), str)), "")
            claims.append(Claim(labels, reason.strip()))
    return claims


def _json_objects(text: str) -> Iterator[dict[str, Any]]:
    decoder = json.JSONDecoder()
    start = text.find("{")
    while start >= 0:
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            end = start + 1
        else:
            if isinstance(value, dict):
                yield value
        start = text.find("{", end)


def field_form(text: str, names: Vocabulary) -> list[Claim]:
    """`Emotion: Awe` and `Explanation: ...` in either order; `Final answer:` outranks other fields."""
    found: list[tuple[bool, Claim]] = []
    for field in FIELD_LINE.finditer(text):
        labels, rest = _leading_labels(text[field.end() :], names)
        if labels:
            claim = Claim(frozenset(labels), _field_reason(text, field.start(), rest))
            found.append((field["name"].lower().startswith("final"), claim))
    final = [claim for is_final, claim in found if is_final]
    return final or [claim for _, claim in found]


def _field_reason(text: str, claim_start: int, rest: str) -> str:
    """The explanation field; without one, what follows the label, else what stands before the field."""
    reason = REASON_FIELD.search(text)
    if reason is None:
        return after_label(rest) or text[:claim_start].strip()
    following = FIELD_LINE.search(text, reason.end())
    return text[reason.end() : following.start() if following else None].strip()


def _leading_labels(value: str, names: Vocabulary) -> tuple[list[str], str]:
    """The labels with which a field's value starts ("a sense of awe and fear"), and the text after them."""
    match = re.match(rf"{OPENING}{FILLER}{{0,6}}?{OPENING}({_enumeration(names)})", value, re.I)
    return ([*names.named(match[1])], value[match.end() :]) if match else ([], value)


def _enumeration(names: Vocabulary) -> str:
    """One label name, or several in a row: "awe", "awe and fear", "awe, contentment or a little sadness"."""
    return rf"{names.pattern}(?:{CLOSING}{AND}{{1,2}}{OPENING}(?!the\b){FILLER}{{0,3}}?{names.pattern}){{0,12}}"


def line_form(text: str, names: Vocabulary) -> list[Claim]:
    """Lines that start with a label: `awe because ...`, `**Awe**: ...`, `1. Awe - ...`, `Awe. ...`, `Awe` alone."""
    opened = [*_line_claims(text, names)]
    ends = [*(start for start, _, _ in opened), len(text)][1:]
    return [
        Claim(labels, after_label(text[stop:end]) or text[:start].strip())
        for (start, stop, labels), end in zip(opened, ends, strict=False)
    ]


def _line_claims(text: str, names: Vocabulary) -> Iterator[tuple[int, int, frozenset[str]]]:
    """Start, end and labels of each label that opens a line, or a sentence of the form "awe because"."""
    opened = rf"(?:^{OPENING}({_enumeration(names)})(?={CLOSING}(?:{BECAUSE}|\s*(?:[.:;!(]|\s[-–—]|[–—]|$))))"
    sentence = rf"(?:(?<=[.!?:]\s)({names.pattern})(?=\s+because\b))"
    for match in re.finditer(f"{opened}|{sentence}", text, re.I | re.M):
        stated = match[1] or match[2]
        before_colon = re.match(rf"{CLOSING}\s*:", text[match.end() :])
        if not (before_colon and normalise(stated) in SECTION_TITLES):
            yield match.start(), match.end(), frozenset(names.named(stated))


def sentence_form(text: str, names: Vocabulary) -> list[Claim]:
    """Sentences that claim a label: "The painting evokes awe because ...", "It makes me feel sad: ..."."""
    claim = rf"\b(?:{CLAIM_VERB})\s+{FILLER}{{0,7}}?{OPENING}(?P<labels>{_enumeration(names)}){TAIL}"
    subject = rf"(?P<subject>{names.pattern})\s+is\s+(?:the|my)\s+(?:\w+\s+){{0,2}}(?:emotion|feeling)\b"
    claims: list[Claim] = []
    for match in re.finditer(f"{claim}|{subject}", text, re.I):
        stated = match["labels"] or match["subject"]
        if _is_negated(text, match) or normalise(stated) == "other":
            continue
        rest = text[match.end() :]
        claims.append(Claim(frozenset(names.named(stated)), _sentence_reason(text, match.start(), rest)))
        if SENTENCE_BECAUSE.match(rest):
            break  # what follows is the explanation of this claim, not a claim of its own
    return claims


def _is_negated(text: str, match: re.Match[str]) -> bool:
    """Whether the claim's own sentence denies it ("does not evoke fear")."""
    start = max(text.rfind(mark, 0, match.start()) for mark in ".!?\n,;") + 1
    return bool(NEGATION.search(NOT_NEGATED.sub("", text[start : match.end()])))


def _sentence_reason(text: str, claim_start: int, rest: str) -> str:
    """What follows the label; else the sentences before the claim; else the claim, when it names what evokes it."""
    in_sentence = SENTENCE_BECAUSE.match(rest)
    after = after_label(rest[in_sentence.end(1) :] if in_sentence else rest)
    if after:
        return after
    sentence_start = max(text.rfind(mark, 0, claim_start) for mark in ".!?\n") + 1
    before = text[:sentence_start].strip()
    subject = re.findall(r"\w+", text[sentence_start:claim_start])
    return before or (text.strip() if len(subject) > 5 else "")


def after_label(rest: str) -> str:
    """The explanation in the text that follows a label: punctuation and one connecting word are left out."""
    tail = re.sub(rf"^{CLOSING}(?:\s*[.,:;!–—-]*\s*{CLOSING}\s*)?(?:{BECAUSE})?", "", rest, count=1, flags=re.I)
    direct = re.match(rf"{CLOSING}{BECAUSE}", rest, re.I)
    explanation = (rest[direct.end() :] if direct else tail).strip()
    return explanation if re.search(r"\w", explanation) else ""


FORMS: tuple[Form, ...] = (json_form, field_form, line_form, sentence_form)
"""In the order in which they are tried."""
