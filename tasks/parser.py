"""Read a label and an explanation out of what a model said: never a wrong class, never a default one.

What cannot be read is `Unparsed` and counts against the model; a text that claims two different labels is not
decided for it. `PARSER_VERSION` belongs to the identity of every result that this parser produced.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.tasks.parser_forms import FORMS, Claim
from harness.tasks.parser_vocabulary import SYNONYMS, vocabulary
from harness.types import Answer, Failed, Refusal, Unparsed, Usage

__all__ = ["PARSER_VERSION", "REFUSAL_PHRASES", "SYNONYMS", "parse_answer"]

PARSER_VERSION = "2"
"""Changes whenever some raw text may be read differently: forms, synonyms or refusal phrases."""

UNKNOWN_USAGE = Usage()

REFUSAL_PHRASES: tuple[str, ...] = (
    r"\b(?:i['’]?m|i am) (?:sorry|unable|not able)\b",
    r"\b(?:i|we) (?:can['’]?t|cannot|can not|won['’]?t|will not|must decline|decline|refuse)\b",
    r"\bas an? (?:ai|artificial intelligence|language model)\b",
    r"\bi (?:do not|don['’]?t) have (?:feelings|emotions|the ability|access)\b",
    r"\bagainst (?:my|our|the) (?:guidelines|policy|policies)\b",
    r"\b(?:unable|not able) to (?:assist|help|comply|view|see|analy[sz]e|process|provide|determine)\b",
    r"\bi apologi[sz]e\b",
)
"""Regular expressions that mark a text as a refusal, consulted only when it claims no label."""


def parse_answer(
    raw: str,
    labels: Sequence[str],
    usage: Usage = UNKNOWN_USAGE,
    *,
    truncated: bool = False,
    explained: bool = True,
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

    Returns:
        `Answer` when the text claims exactly one label and, if it must, gives an explanation, `Failed` (`truncated`)
        when it was cut off before that, `Refusal` when it claims no label and holds a refusal phrase, `Unparsed`
        otherwise: no text, no label, two different labels, or a label without the explanation that it must have.
    """
    text = _spoken(raw)
    claims = _claims(text, tuple(labels))
    stated = frozenset[str]().union(*(claim.labels for claim in claims))
    explanation = next((claim.explanation for claim in claims if claim.explanation), "")
    if len(stated) == 1 and (explanation or not explained):
        return Answer(next(iter(stated)), explanation, raw=raw, usage=usage)
    if truncated and (not text or len(stated) == 1):
        return Failed("truncated", "the answer was cut off by the token limit before any explanation", raw, usage)
    if not stated and _refuses(text):
        return Refusal(raw, usage)
    return Unparsed(raw, usage)


def _claims(text: str, labels: tuple[str, ...]) -> list[Claim]:
    """The claims of the first form that finds any."""
    names = vocabulary(labels)
    for form in FORMS:
        claims = form(text, names)
        if claims:
            return claims
    return []


def _spoken(raw: str) -> str:
    """The text without a reasoning model's thoughts (thoughts that never end leave nothing) and outer quotes."""
    text = re.sub(r"<think>.*?(?:</think>|\Z)", "", raw, flags=re.DOTALL | re.IGNORECASE).strip()
    quoted = re.fullmatch(r"([\"'*]{1,2})(\w.*)\1", text, re.DOTALL)
    return quoted[2].strip() if quoted and quoted[1] not in quoted[2] else text


def _refuses(text: str) -> bool:
    return any(re.search(phrase, text, re.IGNORECASE) for phrase in REFUSAL_PHRASES)
