"""Read a label and an explanation out of what a model said: never a wrong class, never a default one.

The stages: `reply` takes thoughts, frames and marks away; `fields` reads named fields in any form, those of JSON found
by `objects`; `prose` reads what running text claims, but for what `denials` sets aside; `wording` leaves the model's
sentence. All look up labels by `labels` and words by `words`, from `vocabulary.yaml`. `ratings` reads numbers of
valence, arousal and dominance, apart from these. What cannot be read is `Unparsed` with its reason and counts against
the model; a text that claims two different labels is not decided for it. `PARSER_VERSION` belongs to the identity of
every result that this parser produced.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from harness.tasks.parser.fields import Found, apart_from_reason, read_elements, read_fields, without_asides
from harness.tasks.parser.labels import SYNONYMS, LabelNames, label_names
from harness.tasks.parser.prose import claimed_again, line_form, sentence_form
from harness.tasks.parser.reply import BLANK, Reply, has_words, is_loop, split_reply
from harness.tasks.parser.wording import tidy
from harness.tasks.parser.words import is_refusal, words
from harness.types import Answer, Failed, Refusal, Unparsed, Usage

__all__ = ["PARSER_VERSION", "SYNONYMS", "Reply", "label_place", "parse_answer", "split_reply"]

PARSER_VERSION = "5"
"""Changes whenever some raw text may be read differently: forms, synonyms, or anything in `vocabulary.yaml`."""

LONGEST_ANSWER = 20_000
"""Characters of an answer without its thoughts; a longer one is a loop, and unparsed."""
LONGEST_AROUND = 5_000
"""Characters before and after a framed label in which its explanation is looked for."""

UNKNOWN_USAGE = Usage()


def parse_answer(
    raw: str,
    labels: Sequence[str],
    usage: Usage = UNKNOWN_USAGE,
    *,
    truncated: bool = False,
    explained: bool = True,
    reasoning: str = "",
) -> Answer | Refusal | Unparsed | Failed:
    """Turn a model's text into an outcome; never raises.

    Args:
        raw: the model's text, kept as it is in the outcome.
        labels: the task's labels; names that differ only in case, spaces or hyphens cannot be told apart and
            are never answered.
        usage: what the answer cost, kept in the outcome.
        truncated: the text was cut off by the token limit.
        explained: an answer must give an explanation; False on tasks of labels alone (`Item.explanations`), where a
            bare label is an answer.
        reasoning: thoughts that came beside the text, in a field of their own.

    Returns:
        `Answer` when the text claims exactly one label and, if it must, gives an explanation; `Failed` (`truncated`)
        when it was cut off before that, `Failed` (`no-answer`) when it holds thoughts and nothing else; `Refusal` when
        it claims no label and holds a refusal; `Unparsed` with its reason otherwise.
    """
    if is_loop(raw):
        return Unparsed(raw, usage, "too long", reasoning)
    reply = split_reply(raw, reasoning)
    thoughts = reply.reasoning
    if len(reply.answer) > LONGEST_ANSWER:
        return Unparsed(raw, usage, "too long", thoughts)
    names = label_names(tuple(labels))
    found = _read(raw, reply, names, explained)
    found = replace(found, labels=found.labels | claimed_again(found.explanation, names))
    if len(found.labels) == 1 and (found.explanation or not explained):
        cut = truncated or found.is_cut
        return Answer(next(iter(found.labels)), found.explanation, None, raw, usage, truncated=cut, reasoning=thoughts)
    is_empty = not has_words(reply.answer)
    if truncated and (is_empty or len(found.labels) == 1):
        what = "while the model was still thinking" if is_empty and thoughts else "before any explanation"
        return Failed("truncated", f"the answer was cut off by the token limit {what}", raw, usage, thoughts)
    if is_empty and thoughts:
        return Failed("no-answer", "the reply holds thoughts and no answer after them", raw, usage, thoughts)
    if not found.labels and is_refusal(reply.answer):
        return Refusal(raw, usage, thoughts)
    reason = "label outside the task" if found.outside else "no label"
    if is_empty:
        reason = "empty"
    elif found.labels:
        reason = "two labels" if len(found.labels) > 1 else "no explanation"
    return Unparsed(raw, usage, reason, thoughts)


def label_place(raw: str, labels: Sequence[str]) -> tuple[int, int] | None:
    """Where in a text the label stands that `parse_answer` reads from it.

    Returns:
        Start and end, or None if no label is read, or it stands there in another spelling (an escape).
    """
    if is_loop(raw):
        return None
    reply = split_reply(raw)
    if len(reply.answer) > LONGEST_ANSWER:
        return None
    found = _read(raw, reply, label_names(tuple(labels)), explained=False)
    return found.place if len(found.labels) == 1 else None


def _read(raw: str, reply: Reply, names: LabelNames, explained: bool) -> Found:
    """What an answer says, its place counted in the whole text."""
    found = _placed(_claimed(reply.answer, names), reply.start)
    start = (reply.whole or reply).start
    if start is not None and "<" in raw[start:]:
        elements = read_elements(raw[start : start + LONGEST_ANSWER], names)  # their marks are blanks in the answer
        if not found.labels and elements.labels:
            return _placed(elements, start)
        found = replace(found, labels=found.labels | elements.labels)
    if reply.whole is not None and not found.labels and len(reply.whole.answer) <= LONGEST_ANSWER:
        return _placed(_claimed(reply.whole.answer, names), reply.whole.start)
    if reply.loose and not found.labels and len(raw) <= LONGEST_ANSWER:
        whole = _claimed(raw, names)
        is_first = whole.place is not None and not has_words(raw, 0, whole.place[0])
        return whole if is_first else found
    if reply.whole is not None and len(found.labels) == 1:
        found = replace(found, labels=found.labels | _claimed(reply.after[:LONGEST_AROUND], names).labels)
        if not found.explanation and explained:
            return _with_surroundings(found, reply, names)
    return found


def _placed(found: Found, start: int | None) -> Found:
    place = None if found.place is None or start is None else (found.place[0] + start, found.place[1] + start)
    return replace(found, place=place)


def _with_surroundings(found: Found, reply: Reply, names: LabelNames) -> Found:
    """A framed label with the explanation that stands around its frame, unless that claims another label.

    After the frame that is what follows "because", or else sentences of their own; before it, all but the sentence
    that announces the label.
    """
    after = reply.after[:LONGEST_AROUND]
    because = re.compile(rf"[\s{BLANK}*.,]*(?:{words().because})", re.IGNORECASE)
    goes_on = re.match(rf"[\s{BLANK}]*(?:is|was|would|seems|fits)\b[^.!?\n]{{0,60}}?", after)
    if goes_on is None:
        given = because.match(after)
        reason = after[given.end() :] if given else after
    else:
        given = because.search(after, goes_on.end(), goes_on.end() + 60)
        reason = after[given.end() :] if given else ""
    for text in (tidy(reason), tidy(_ANNOUNCES.sub("", reply.before[-LONGEST_AROUND:]))):
        claimed = _claimed(text, names).labels | {m.label for m in names.mentions(text)}
        if len(text.split()) >= 3 and not claimed - found.labels:
            return replace(found, explanation=text)
    return found


_ANNOUNCES = re.compile(
    r"(?:\A|(?<=[.!?\n])|(?<=[.!?]\s))[^.!?\n]{0,120}\b(?:is|be|was|as|answer|emotion)\W{0,30}\Z"
    r"|,?\s{1,3}(?:so|thus|hence|therefore)\W{0,30}\Z",
    re.IGNORECASE,
)
"""The beginning of a sentence whose end is the framed label ("Therefore, the final answer is")."""


def _claimed(answer: str, names: LabelNames) -> Found:
    """What a text claims: its fields, else its lines, else its sentences."""
    found = read_fields(answer, names)
    if found.labels:
        # the label of a first line "awe because ...", before fields that may name another
        first, _, rest = answer.strip().partition("\n")
        start = names.at(first, 0)
        if start is None or found.place is None or "?" in first or _FINAL.search(rest[:LONGEST_AROUND]):
            return found
        is_stated = re.match(words().because, first[start.end :], re.IGNORECASE)
        return replace(found, labels=found.labels | {start.label}) if is_stated else found
    text, reason = apart_from_reason(without_asides(_unquoted(answer)))
    claims = line_form(text, names)
    if not any(claim.opens_line for claim in claims):
        claims = sorted([*claims, *sentence_form(text, names)], key=lambda claim: claim.start)
    if claims:
        stated = frozenset[str]().union(*(claim.labels for claim in claims))
        explanation = reason or next((claim.explanation for claim in claims if claim.explanation), "")
        return Found(stated, explanation, (claims[0].start, claims[0].end), found.outside)
    stripped = re.match(r"[\s\x1f]*(?:assistant)?final(?=\w)", answer)  # what is left of a channel's mark
    if stripped is not None:
        return _placed(_claimed(answer[stripped.end() :], names), stripped.end())
    return found


_FINAL = re.compile(r"\bfinal\b", re.IGNORECASE)


def _unquoted(text: str) -> str:
    """The text with blanks for quotation marks around the whole of it."""
    start, end = len(text) - len(text.lstrip()), len(text.rstrip())
    is_quoted = end - start > 2 and text[start] + text[end - 1] in ("''", "‘’", "“”", "«»", '""', "``")
    if not is_quoted or any(text[start] == sign or text[end - 1] == sign for sign in text[start + 1 : end - 1]):
        return text
    return f"{text[:start]}{BLANK}{text[start + 1 : end - 1]}{BLANK}{text[end:]}"
