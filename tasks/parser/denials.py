"""What an answer names only to set it aside: "awe, not fear", "not fear but awe", "not because ..., but because ...".

A denied label is never claimed, and a denied reason is never the explanation.
"""

from __future__ import annotations

import re
from functools import cache

from harness.tasks.parser.labels import LabelNames, Mention
from harness.tasks.parser.words import WORD, words

CLOSING = (
    r"(?:[*_\"'`”’)\]}>»」）\u200b-\u200f\u2060\ufeff]|\s?(?-i:[\u2600-\u27bf\U0001f000-\U0001faff])\ufe0f?){0,8}+"
)
"""Quotation marks, brackets, emphasis and emoji that may close a word."""
_NEGATION = re.compile(
    r"\b(?:not|no|never|without|neither|nor|less|hardly|cannot|rather than|instead of|wrong|unlikely|far from|"
    r"fails? to|nobody|none|nothing|whether)\b|n['’]t\b"
    r"|\bi(?:['’](?:m|d|ll))?\s(?:\w{1,15}\s){0,6}?(?:unable|incapable|declin(?:e|ing)|refus(?:e|ing)|refrain)\b"
    r"|\bi\s(?:\w{1,15}ly\s)?(?:lack|doubt)\b",
    re.IGNORECASE,
)
_NOT_NEGATED = re.compile(
    r"\b(?:can(?:no|['’])t|cannot|couldn['’]t|could\snot)\s+(?:help|deny|ignore)\b|\bnot only\b|\bno doubt\b"
    r"|\b(?:impossible|hard|difficult)\snot\sto\b|\bnothing\s(?:but|other\sthan)\b"
    r"|\b(?:can(?:no|['’])t|cannot|couldn['’]t|could\snot|(?:impossible|hard)\sto)\s(?:\w{1,15}\s){1,6}?without\b"
    r"|(?:\bnot|n['’]t|\bcannot)\s\w{1,15}\sanything\s(?:but|other\sthan)\b",
    re.IGNORECASE,
)


def is_denied(text: str, mention: Mention) -> bool:
    """Whether a denial stands within the three words before a label, in its own clause."""
    lead = re.split(r"[.!?;,\n]|\b(?:but|sondern|sino|mais)\b", text[max(0, mention.start - 40) : mention.start])[-1]
    near = [word.lower().replace("’", "'") for word in WORD.findall(lead)[-4:]]
    phrase = " ".join(near)
    return (
        any(word in words().denials for word in near[-3:])
        or any(against in phrase for against in ("rather than", "instead of", "devoid of", "opposed to"))
        or near[-1:] == ["over"]
    )


def is_negated(text: str, claim_start: int, mention: Mention) -> bool:
    """Whether the claim's own clause denies it ("does not evoke fear")."""
    ends = (*".!?\n,;", " but ", " yet ")  # of the clause before
    clause = max(text.rfind(mark, max(0, claim_start - 200), claim_start) for mark in ends) + 1
    colon = max(text.rfind(mark, clause, claim_start) for mark in (":", "–", "—", " - ")) + 1
    if re.search(r"\w", text[colon + 1 : claim_start]):  # "does not leave me cold: it evokes", not "does not: evoke"
        clause = max(clause, colon)
    return bool(_NEGATION.search(_NOT_NEGATED.sub("", text[max(clause, claim_start - 200) : mention.end])))


_NOT = (
    r"(?:not|never|nicht|kein(?:e|en)?|non|pas|no|ni|niet|не|不是|并非|而非|而不是|rather\s{1,3}than|instead\s{1,3}of|"
    r"(?:as\s{1,3})?opposed\s{1,3}to|statt|anstatt|plutôt\s{1,3}que|en\s{1,3}lugar\s{1,3}de)"
    r"(?!\s{1,3}(?:only|just|merely|simply|solely|nur|solo|seulement)\b)"
)
_AGAINST = re.compile(
    rf"{CLOSING}\s{{0,3}}[,;(（–—-]?\s{{0,3}}(?:(?:and|but)\s{{1,3}})?(?:{_NOT}|(?:(?:much\s{{1,3}})?more\s{{1,3}})?than|over)"
    r"(?:(?<=(?-i:[\u4e00-\u9fff]))|(?!\w))\s{0,3}",
    re.IGNORECASE,
)
_LISTED = re.compile(
    rf"{CLOSING}\s{{0,3}}(?:,|/|\bor\b|\bnor\b|\band\b|\boder\b|\bnoch\b|\bni\b|或|和|、){{1,2}}\s{{0,3}}"
)


def stated_end(text: str, place: int, names: LabelNames) -> int:
    """Where a label that ends at `place` ends together with what is set against it.

    That is another label ("awe, not fear, because", "awe over fear because") or a reason ("awe, not because it is
    large, but because"); what follows then is the reason meant.
    """
    for _ in range(4):
        reason = _denied_reason().match(text, place)
        if reason is not None:
            return reason.end()
        against = _AGAINST.match(text, place)
        other = None if against is None else names.after(text, against.end())
        if other is None:
            return place
        place = _past_list(text, other, names).end
    return place


@cache
def _denied_reason() -> re.Pattern[str]:
    """A reason that is denied, up to the one that is given instead of it."""
    because = words().because
    return re.compile(
        rf"{CLOSING}\s{{0,3}}[,;:.(–—-]?\s{{0,3}}(?:(?:and|but)\s{{1,3}})?"
        rf"(?:{_NOT}(?:\s{{1,3}}so\s{{1,3}}(?:much|sehr))?|less|weniger)(?={because})[^.!?\n]{{1,300}}?"
        rf"(?:[,;–—，；]|\b(?:but|than|as|sondern|sino|mais|als|ma|maar)\b)(?:\s{{0,3}}(?:(?:but|rather|instead|sondern|sino|"
        rf"mais|als|ma|maar|simply|it['’]s|it\s{{1,3}}is)\b|而是)){{0,2}}(?={because})",
        re.IGNORECASE,
    )


@cache
def _denied_because() -> re.Pattern[str]:
    return re.compile(rf"[\W_]{{0,9}}(?:(?:and|but)\s{{1,3}})?{_NOT}(?={words().because})", re.IGNORECASE)


def is_denied_reason(text: str) -> bool:
    """Whether a text begins with a reason that it denies ("not because it is large")."""
    return _denied_because().match(text) is not None


_IF = re.compile(
    r"(?<!as )(?<!even )\bif\b(?!\s{1,3}(?:(?:i|we|you|one)\s{1,3})?(?:(?:had|have|must|were|was|am)\s{1,3})?"
    r"(?:to|asked|forced|pressed|pushed|must|anything|any|not|only|needed|look\w*|view\w*|see\w*|imagine)\b)",
    re.IGNORECASE,
)
_IF_IT_WERE = re.compile(
    rf"{_IF.pattern}\s{{1,3}}(?:\w{{1,20}}\s{{1,3}}){{1,3}}(?:were|was|weren['’]t|wasn['’]t|had|hadn['’]t|did|didn['’]t|could|stood|"
    r"saw|lived|knew|came|went|\w{2,15}ed)\b",
    re.IGNORECASE,
)
_WOULD = re.compile(r"\b(?:would|could|might)\b|['’]d\b", re.IGNORECASE)
_UNFELT = re.compile(
    r"\b(?:wish(?:es|ed)?|want(?:s|ed)?|tr(?:y|ied|ies|ying)|hop(?:e[sd]?|ing)|expect(?:s|ed)|asked|used|pretend(?:s|ed)?|"
    r"struggl(?:e[sd]?|ing)|refus(?:e[sd]?|ing)|(?:was|were)\s{1,3}(?:meant|intended|supposed))\s{1,3}(?:\w{1,15}\s{1,3})?(?:to|i)\b",
    re.IGNORECASE,
)
_ASKS = re.compile(r"\W{0,9}(?:do|does|did|should|would|could|can|is|are|am|will)\b", re.IGNORECASE)
_ELSEWHERE = re.compile(
    r"\b(?:in (?:real life|reality|person)|otherwise|"
    r"(?:some|other|certain|few|several|different) (?:viewers?|people|persons?)|"
    r"for (?:others|some(?= ?[,;:(–—-]| (?:it|this|the|he|she|viewers|people|may|might|would|could)\b)))(?!\w)",
    re.IGNORECASE,
)


_SENTENCE_END = re.compile(r"[.!?\n]")


def _is_question(text: str, lead: str, mention: Mention) -> bool:
    end = _SENTENCE_END.search(text, mention.end, mention.end + 300)
    is_asked = _ASKS.match(lead) is not None or re.match(r"\W{0,2}\?", text[mention.end :]) is not None
    return end is not None and end[0] == "?" and is_asked


def is_hypothetical(text: str, claim_start: int, mention: Mention) -> bool:
    """Whether a claim's sentence asks, wishes, or says what would hold under other conditions or for other people."""
    start = max(text.rfind(mark, max(0, claim_start - 200), claim_start) for mark in ".!?\n;") + 1
    lead = text[max(start, claim_start - 200) : mention.start]
    end = _SENTENCE_END.search(text, mention.end, mention.end + 300)
    if _is_question(text, lead, mention) or _ELSEWHERE.search(lead) is not None or _UNFELT.search(lead) is not None:
        return True
    if _WOULD.search(lead) is None:
        return False
    following = text[mention.end : end.start() if end else mention.end + 300]
    return _IF.search(lead) is not None or _IF_IT_WERE.search(following) is not None


_OF_ANOTHER = re.compile(
    # "if it had sunk:", "without the light:", "to some viewers:"
    rf"\A\W*{_IF.pattern}|\A\W*(?:without(?!\s(?:a|any)\s(?:doubt|question))|(?:for|to)\s(?:some(?!\s(?:reason|time|way|sense))|others?|certain|few|several|different))\b|"
    # "what it does not evoke:", "the least fitting:", "I would rule out:"
    r"(?:\b(?:not|never|cannot)|n['’]t)(?:\s(?:feel|felt|evoked?|convey(?:ed)?|elicit(?:ed)?|choose|pick|select|fit|apply|be|mean|"
    r"present))?\s{0,3}\Z|\bleast\s(?:fitting|likely|appropriate|suitable)(?:\s\w{1,15})?\s{0,3}\Z|"
    r"\b(?:rul(?:ed?|ing)\sout|(?:reject|exclud|discard|dismiss|consider)(?:s|es?|ed|ing)?)(?:\s\w{1,15})?\s{0,3}\Z|"
    # "her expression:", "the woman's emotion:", "mood of the figure:"
    r"(?:\b(?:his|her|their)|(?<!viewer)(?<!painting)(?<!image)(?<!picture)(?<!artwork)(?<!scene)['’]s)\s(?:\w{1,15}\s){0,2}"
    r"(?:emotions?|feelings?|expressions?|face|mood|look|gaze|eyes|pose|posture|state|heart|reaction)\s{0,3}\Z|"
    r"\b(?:emotion|feeling|expression|mood|face|look)s?\s(?:of|on|in)\s(?:the|a|his|her|their)\s"
    r"(?!(?:viewer|painting|image|picture|artwork|scene|work|piece|observer)\b)\w{1,15}\s{0,3}\Z",
    re.IGNORECASE,
)
_FEELER = re.compile(
    r"((?:\b\w{1,15}\s){1,4})(?:feels?|felt|experiences?|shows?|expresses|says?|said|wrote|thinks?)\s{0,3}\Z",
    re.IGNORECASE,
)


def is_set_aside(text: str, colon: int, mention: Mention) -> bool:
    """Whether the words before a colon or dash say that the label after it is denied, supposed, or somebody else's."""
    start = max(text.rfind(mark, max(0, colon - 200), colon) for mark in ".!?\n;") + 1
    lead = text[max(start, colon - 200) : colon]
    feeler = _FEELER.search(lead)
    viewers = words().prose["viewers"] | words().prose["images"] | {"it", "this"}
    is_figure = feeler is not None and not viewers & set(feeler[1].lower().split())
    is_other = _OF_ANOTHER.search(lead) is not None and _CONCLUDES.search(lead) is None
    return is_figure or is_other or _is_question(text, lead, mention)


_CONCLUDES = re.compile(r"\b(?:therefore|hence|thus|so|then|overall|answer|conclusion|finally)\s{0,3}\Z", re.IGNORECASE)
"""What ends the words before a colon if the label after it is the answer after all ("... therefore:")."""


def _past_list(text: str, mention: Mention, names: LabelNames) -> Mention:
    """The last of the labels that are listed from one on ("not fear or sadness")."""
    for _ in range(10):
        joint = _LISTED.match(text, mention.end)
        if joint is None:
            return mention
        denial = re.compile(rf"(?:{_NOT}|nor)\s{{1,3}}", re.IGNORECASE).match(text, joint.end())
        following = names.after(text, denial.end() if denial else joint.end())
        if following is None or not (denial or re.search(r"\w", joint[0])):
            return mention
        mention = following
    return mention


_DENYING_LEAD = re.compile(
    rf"(?:(?:it|this|that)(?:['’]s|\s{{1,3}}is)?\s{{0,3}})?(?:{_NOT}|isn['’]t|neither|weder|less|weniger)"
    r"(?:\s{1,3}so\s{1,3}much)?(?:(?<=(?-i:[\u4e00-\u9fff]))|\s{1,3})",
    re.IGNORECASE,
)
_BUT = re.compile(
    rf"{CLOSING}\s{{0,3}}(?:[,;:–—-]\s{{0,3}}|(?<=\s)(?=but|than|as|sondern|sino|mais|ma\b|maar))"
    r"(?:(?:but|than|as|sondern|sino|mais|ma|maar|rather|instead|yes|just|it['’]s|it\s{1,3}is|i\s{1,3}feel|i\s{1,3}choose)\s{1,3}"
    r"|而是|是){0,3}",
    re.IGNORECASE,
)


def past_denied(text: str, place: int, names: LabelNames) -> Mention | None:
    """The label that is stated after others were denied: "not fear but awe", "neither fear nor sadness, but awe"."""
    lead = _DENYING_LEAD.match(text, place)
    denied = None if lead is None else names.after(text, lead.end())
    if denied is None:
        return None
    but = _BUT.match(text, _past_list(text, denied, names).end)
    return None if but is None else names.after(text, but.end())
