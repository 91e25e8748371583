"""Labels claimed in running text: a value, a line that starts with a label, a sentence that says what is felt.

A word that merely occurs in the text is never a claim. All look-arounds are bounded, so time grows with the length of
the text alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice

from harness.tasks.parser.denials import (
    CLOSING,
    is_denied,
    is_denied_reason,
    is_hypothetical,
    is_negated,
    is_set_aside,
    past_denied,
    stated_end,
)
from harness.tasks.parser.labels import SECTION_TITLES, SYNONYMS, LabelNames, Mention
from harness.tasks.parser.wording import tidy
from harness.tasks.parser.words import WORD, is_filler, words

MOST_MENTIONS = 200
"""Labels of a text that are looked at; a text that names more is a loop, not an answer."""


@dataclass(frozen=True)
class Claim:
    """One statement of an answer.

    Attributes:
        labels: the labels it names; two different ones make it ambiguous.
        explanation: the reason given, possibly empty.
        start, end: where it names its first label.
        opens_line: it is made by a label that a line starts with.
    """

    labels: frozenset[str]
    explanation: str
    start: int
    end: int
    opens_line: bool = False


_DECOR = r"(?:(?!\[\s?\])[^\w\n❌✗✘✕✖≠¬🚫⛔☐]|_)"
OPENING = re.compile(
    rf"{_DECOR}*+(?:(?:option\s{{1,3}})?\(?(?:\d{{1,2}}|[a-z])\s?[.):](?=[\s*_\"'(\[“]){_DECOR}*+|(?<=\[)[x✓✔]\]{_DECOR}*+)?",
    re.IGNORECASE,
)
"""Bullets, quotation marks, emphasis, emoji, and the number or letter of an option, before what a line says."""
_SIGN = re.compile(
    r"(?:[ ]{0,3}(?:\t\s{0,9}(?=[\"“]?[^\W\d_])|,[ ]?(?=[\"“][^\W\d_]|(?:even )?(?:al)?though\b))|"
    r"\s{0,9}(?:->|=>|[.:;!?(|→⇒，。：、\x1f])|\s[-–—]|[–—]|\s{0,9}$)",
    re.MULTILINE,
)
_STRONG = (
    r"(?:\b(?:because|since|as(?!\s{1,9}(?:well|if|though)\b)|due\s{1,9}to|owing\s{1,9}to|weil|porque|"
    r"parce\s{1,9}que|puisque|perché|poiché|omdat)\b|因为|因為|由于|потому что|لأن|بسبب)[,:]?"
)
_CLAUSE_BECAUSE = re.compile(rf"([^.!?;:\n]{{0,60}}?)(,?\s{{0,5}}{_STRONG})", re.IGNORECASE)


def read_value(text: str, start: int, end: int, names: LabelNames, *, is_whole: bool) -> Claim | None:
    """The claim of a field's value, `text[start:end]`; None if it names no label.

    Args:
        is_whole: the value is nothing but the label, because the reason stands elsewhere; any other label in it is a
            second claim. Otherwise a reason may follow the label.
    """
    while start < end and text[start].isspace():
        start += 1
    mentions = list(islice(names.mentions(text, start, end), MOST_MENTIONS))
    if not mentions:
        return None
    opening = OPENING.match(text, start, end)
    first = mentions[0]
    lead = WORD.findall(text, opening.end() if opening else start, first.start) if first.start > start else []
    if not (len(lead) <= 8 and all(map(is_filler, lead))):
        return _sentence_value(text[:end], start, mentions, names, is_whole=is_whole)
    stated = min(stated_end(text, first.end, names), end)
    because = _clause_because(text, stated, end) or _because().match(text, stated, end)
    if because is not None:
        zone, rest = because.start(2), text[because.end() : end]
    elif is_whole:
        zone, rest = end, text[stated:end]
    else:
        zone, rest = stated, text[stated:end]
    others = {m.label for m in mentions[1:] if m.start < zone and not is_denied(text, m)}
    labels = {first.label} | others | _following_labels(text, stated, end, names)
    return Claim(frozenset(labels), after_label(rest) if because is None else tidy(rest), first.start, first.end)


def _sentence_value(
    text: str, start: int, mentions: Sequence[Mention], names: LabelNames, *, is_whole: bool
) -> Claim | None:
    """A value that does not start with its label: a sentence about it, or words of which it is the last."""
    undenied = [mention for mention in mentions if not is_denied(text, mention)]
    labels = frozenset(mention.label for mention in undenied)
    if is_whole and len(labels) > 1:
        return Claim(labels, "", undenied[0].start, undenied[0].end)
    value = text[start:]
    for form in (line_form, sentence_form):
        claims = form(value, names)
        if claims:
            stated = frozenset[str]().union(*(claim.labels for claim in claims))
            one = next((claim for claim in claims if claim.explanation), claims[0])
            return Claim(stated, one.explanation, start + one.start, start + one.end)
    if len(labels) == 1 and len(value) <= 80 and re.fullmatch(r"[^\w]*(?:\([^()]*\))?[^\w]*", text[undenied[-1].end :]):
        return Claim(labels, "", undenied[-1].start, undenied[-1].end)
    return None


def after_label(rest: str) -> str:
    """The explanation in the text that follows a label: punctuation, brackets and one connecting word are left out."""
    if is_denied_reason(rest):
        return ""
    match = _after_label().match(rest)
    explanation = rest[match.end() :] if match else rest
    return tidy(explanation)


def without_own_label(explanation: str, labels: frozenset[str], names: LabelNames) -> str:
    """An explanation that says its label again, without that and without a first "because".

    >>> from harness.tasks.parser.labels import label_names
    >>> names = label_names(("awe", "fear"))
    >>> without_own_label("Awe because the sky is vast", frozenset({"awe"}), names)
    'the sky is vast'
    """
    opening = OPENING.match(explanation)
    mention = names.at(explanation, opening.end() if opening else 0)
    if mention is not None and labels == {mention.label}:
        rest = explanation[mention.end :]
        if not re.search(r"\w", rest):
            return ""
        said = _because().match(rest) or re.match(r"\s?(?::|\s[–—-])\s{1,3}(?=\S)", rest)
        return tidy(rest[said.end() :]) if said is not None else explanation
    because = _FIRST_BECAUSE.match(explanation)
    return explanation if because is None else explanation[because.end() :]


_FIRST_BECAUSE = re.compile(r"because\s{1,3}(?=\w)|因为|因為", re.IGNORECASE)


@cache
def _after_label() -> re.Pattern[str]:
    return re.compile(
        rf"{CLOSING}(?:\s{{0,9}}\((?!{words().because})[^()\n]{{0,80}}\))?\s{{0,3}}\(?(?:{words().because}|\s{{0,40}}(?:->|=>|[.,:;!?|→⇒–—，。：、\x1f-]){{0,3}}{CLOSING}\s{{0,40}}(?:{words().because})?)",
        re.IGNORECASE,
    )


@cache
def _because() -> re.Pattern[str]:
    return re.compile(rf"({CLOSING})({words().because})", re.IGNORECASE)


def _clause_because(text: str, start: int = 0, end: int | None = None) -> re.Match[str] | None:
    """The connective of a clause, unless the reason after it is denied; group 1 is what stands before it."""
    found = _CLAUSE_BECAUSE.match(text, start, len(text) if end is None else end)
    last = WORD.findall(found[1])[-1:] if found else []
    return None if last and last[0].lower() in words().denials else found


def _following_labels(text: str, start: int, end: int, names: LabelNames) -> set[str]:
    """Other labels that follow one directly: joined, in brackets, after a sign, or alone on a line of their own."""
    found: set[str] = set()
    place = start
    for _ in range(20):
        mention = _joined_label(text, place, end, names)
        if mention is None:
            break
        found.add(mention.label)
        place = mention.end
    bracket = re.compile(rf"{CLOSING}\s{{0,3}}[(\[]([^()\[\]\n]{{0,120}})[)\]]").match(text, place, end)
    if bracket is not None:
        found |= {m.label for m in names.mentions(text, bracket.start(1), bracket.end(1)) if not is_denied(text, m)}
        beside = names.at(text, _GAP.match(text, bracket.end()).end())  # type: ignore[union-attr]
        found |= {beside.label} if beside is not None and beside.end <= end else set()

    line = text.find("\n", place, end)
    for _ in range(60):  # lines that hold a label and nothing else
        if line < 0 or line + 1 >= end:
            break
        following = text.find("\n", line + 1, end)
        mention = names.at(text, OPENING.match(text, line + 1, end).end())  # type: ignore[union-attr]
        if mention is not None and mention.end <= end:
            is_alone = re.fullmatch(r"\W*", text[mention.end : end if following < 0 else following])
            found |= {mention.label} if is_alone else set()
        line = following
    return found


_GAP = re.compile(r"[^\w\n]{0,12}")
_OPTION = re.compile(r"(?:\d{1,2}|[a-h])[.)]\s{0,3}")
_TOUCHING = re.compile("以及|还有|和|与|與|跟|及|或者|或|并|且|と|や|それとも")


def _joined_label(text: str, start: int, end: int, names: LabelNames) -> Mention | None:
    """The label that follows a place with nothing between but signs, joining words and a few fillers."""
    gap = _GAP.match(text, start, end)
    place, count = gap.end() if gap else start, 0
    is_joined = bool(gap and (gap[0].strip() or "\t" in gap[0]))
    while count < 6 and place < end:
        mention = names.at(text, place)
        if mention is not None and not is_joined:
            return None
        if mention is not None:
            if mention.end > end:
                return None
            return mention
        if (touching := _TOUCHING.match(text, place, end) or _OPTION.match(text, place, end)) is not None:
            place, count, is_joined = touching.end(), count + 1, True
            continue
        word = WORD.match(text, place, end)
        if word is None or not (
            word[0].lower() in words().prose["joining"] or (word[0].lower() != "the" and is_filler(word[0]))
        ):
            return None
        is_joined |= word[0].lower() in words().prose["joining"]
        gap = _GAP.match(text, word.end(), end)
        place, count = gap.end() if gap else word.end(), count + 1
    return None


# ----------------------------------------------------------------------------------------------- lines


_TAKEN_BACK = re.compile(
    r"(?:\A|[.!?\n]\s{1,3})(?:actually|no|wait|scratch that|correction|still|on second thoughts?|or rather|rather|hmm)"
    r"(?:[,:.!]|\s)(?:[^.!?\n]{0,60}?)\Z",
    re.IGNORECASE,
)


_ENDED = re.compile(r"[.!?;]['\"”’)*]{0,3}\s{1,3}[*_]{0,3}\Z")
_ENTRY_SIGN = re.compile(r"[*_]{0,3}\s?[:：]")
_SCORED = re.compile(r"\s?(?:[\w./%-]{1,12}[.,;]|\d[\d./%]{0,8})\s{1,3}")


def claimed_again(explanation: str, names: LabelNames) -> frozenset[str]:
    """Labels that an explanation claims after all: with a reason of their own, or because the first is taken back.

    "the sky is vast, but I say sadness because the boat is empty"; "the sky is vast. Actually, I would say fear."
    Also a label that is scored or explained as the first one was ("low. Awe: high", after "Fear:").
    """
    found = set()
    for mention in islice(names.mentions(explanation), MOST_MENTIONS):
        if mention.name == "other" or is_denied(explanation, mention):
            continue
        lead = explanation[max(0, mention.start - 90) : mention.start]
        takes_back = _TAKEN_BACK.search(lead) is not None and not re.match(r"\w", explanation[mention.end :])
        has_reason = _THEN_BECAUSE.match(explanation, mention.end) is not None
        is_all = not re.search(r"\w", explanation[: mention.start] + explanation[mention.end :])
        is_scored = _SCORED.fullmatch(explanation, 0, mention.start) and re.match(
            r"\s?[:=]", explanation[mention.end :]
        )
        is_entry = _ENDED.search(lead) is not None and _is_entry(explanation, mention)
        if takes_back or has_reason or is_all or is_scored or is_entry:
            found.add(mention.label)
    return frozenset(found)


_IS_NONE = re.compile(
    rf"{CLOSING}\s?[:–—-][\s*_]{{0,5}}(?:(?:no|none|nope|nil|absent|zero|0%?|n/a)\s{{0,3}}(?:[.,;!\n]|\Z)|not\s(?:applicable|present|evoked|felt|at\sall)\b)",
    re.IGNORECASE,
)
"""What says after a label and its colon that it is none ("Fear: none.")."""


def _is_entry(text: str, mention: Mention) -> bool:
    """Whether a label heads what is said of it, as another did before ("... is vast. Fear: the drop is deep")."""
    is_headed = _ENTRY_SIGN.match(text, mention.end) is not None and _IS_NONE.match(text, mention.end) is None
    return is_headed and _is_noun(mention)


_FRAMED = re.compile(
    r"(?:\[[^\[\]\n]{1,40}\]|\([^()\n]{1,40}\))\s{1,3}(?=[^\W\d_])"
    r"(?!(?:isn|wasn|doesn|didn|wouldn|not|no|nor)\b)"
    r"(?!(?-i:is|was|does|did|would|could|may|might|or|and|by|in|of|as|but|vs|versus|than|to|with)\b)",
    re.IGNORECASE,
)
"""A label in brackets before a sentence ("[Awe] The dome is huge")."""
_CONCLUDES = re.compile(
    r"(?<=[.!?\n])\s{0,3}(?:(?:and\s)?(?:hence|so|thus|therefore|then|overall|ultimately|finally|in short))\W{0,9}\Z",
    re.IGNORECASE,
)
"""What announces a label at the end of an explanation ("... is near. Hence: fear")."""


def line_form(text: str, names: LabelNames) -> list[Claim]:
    """Lines that start with a label: `awe because ...`, `**Awe**: ...`, `1. Awe - ...`, `Awe. ...`, `Awe` alone.

    Also sentences of the form "awe because ...".
    """
    opened: list[tuple[int, Mention, set[str], bool]] = []  # start of the line or label, the label, all that it claims
    for mention in islice(names.mentions(text), MOST_MENTIONS):
        if opened and mention.start < opened[-1][1].end:
            continue
        line = text.rfind("\n", max(0, mention.start - 200), mention.start) + 1
        opening = OPENING.match(text, line) if line or mention.start < 200 else None
        labels = {mention.label}
        if opening is not None and _opens(text, opening.end(), mention, names):
            is_framed = mention.start == opening.end() and _FRAMED.match(text, mention.start - 1) is not None
            if is_framed or _is_claimed(text, mention, names, labels):
                opened.append((line, mention, labels, True))
        elif _starts_sentence(text, mention, names, is_second=any(mention.label != m.label for _, m, _, _ in opened)):
            opened.append((mention.start, mention, labels | _ranked_before(text, line, mention, names), False))

    if len(opened) == 1 and _IS_NONE.match(text, opened[0][1].end):
        return []
    ends = [*(start for start, _, _, _ in opened), len(text)][1:]
    claims: list[Claim] = []
    reason = ""
    for (start, mention, labels, opens_line), end in zip(opened, ends, strict=False):
        stated = stated_end(text, mention.end, names)
        if not reason:  # only the first is ever used
            reason = after_label(text[stated:end]) or tidy(_CONCLUDES.sub("", text[:start]))
        if len(labels) == 1 and end > stated:
            labels |= _following_labels(text, stated, end, names)
        claims.append(Claim(frozenset(labels), reason, mention.start, mention.end, opens_line))
    return claims


_GLOSSED = re.compile(r"(?P<word>[^\W\d_]{1,30}(?:[ ][^\W\d_]{1,30})?)[ ]?[(（][\"'*_“]{0,3}\Z")


_FELT_AS = frozenset({"sense", "feeling"})
_HEADING_SIGN = re.compile(rf"{CLOSING}(?:[.:!]|\s?[–—]|\s-)\s{{1,3}}(?=\S)")


def _opens(text: str, place: int, mention: Mention, names: LabelNames) -> bool:
    """Whether a label opens a line: itself, after fillers, after others that are denied, or as a word's translation.

    "awe because", "a sense of awe because", "deep awe.", "not fear but awe because", "敬畏 (awe) because"
    """
    if mention.start <= place:
        return mention.start == place
    lead = text[place : mention.start].lower().split() if mention.start - place < 80 else []
    if (
        0 < len(lead) < 7
        and mention.name != "other"
        and lead[0] in words().prose["leads"]
        and all(map(is_filler, lead))
    ):
        stated = stated_end(text, mention.end, names)
        is_headed = lead[0] not in ("a", "an", "the") or not _FELT_AS.isdisjoint(lead)
        return _because().match(text, stated) is not None or (
            is_headed and _is_noun(mention) and _HEADING_SIGN.match(text, stated) is not None
        )
    past = past_denied(text, place, names)
    if past is not None:
        return past.start == mention.start
    gloss = _GLOSSED.fullmatch(text, place, mention.start) if mention.start - place < 80 else None
    if gloss is None or re.match(r"[\"'*_”]{0,3}[)）]", text[mention.end : mention.end + 4]) is None:
        return False
    named = set(gloss["word"].lower().split())
    fields = words().fields
    return not named & (words().denials | fields["second"] | fields["aside"] | fields["measures"] | fields["thoughts"])


def _is_claimed(text: str, mention: Mention, names: LabelNames, labels: set[str]) -> bool:
    """Whether the label at a line's start is stated there; adds those that are stated with it."""
    for _ in range(MOST_MENTIONS):
        stated = stated_end(text, mention.end, names)
        end = _CLOSING.match(text, stated).end()  # type: ignore[union-attr]
        if _because().match(text, stated):
            return True
        sign = _SIGN.match(text, end)
        if sign is not None:
            return not (":" in sign[0] and mention.name in SECTION_TITLES)
        line_end = text.find("\n", end)
        other = _joined_label(text, end, len(text) if line_end < 0 else line_end, names)
        if other is None:
            rest = text[end : None if line_end < 0 else line_end]
            return len(labels) > 1 and not re.search(r"\w", rest)
        labels.add(other.label)
        mention = other
    return True


_CLOSING = re.compile(CLOSING)
_SENTENCE_START = re.compile(
    r"(?:([.!?…]['\"”’)*]{0,3}|[:：]\*{0,2}|\A|\n)\s{0,4}|(\s[-–—]|[–—])\s{0,4}|([,;])\s{1,4}|(?<=\s)(?=(?:or|and|then|but|also)\s))"
    r"(?:(?:or|and|also|then|but|maybe|perhaps|possibly|probably|likely|definitely|surely|honestly,?|overall,?|"
    r"personally,?|ultimately,?|to be honest,|for me,?|to me,?|in short,|in my (?:opinion|view),)\s{1,4}){0,3}"
    r"[*_\"'“‘(\[]{0,4}\Z",
    re.IGNORECASE,
)
_THEN_BECAUSE = re.compile(rf"{CLOSING}\s{{1,9}}because\b", re.IGNORECASE)
_THEN_REASON = re.compile(
    rf"{CLOSING}(?:\s{{0,3}}[,;–—-])?\s{{1,9}}(?:\w{{2,12}}ly\s)?(?:because|since|due\s{{1,9}}to|owing\s{{1,9}}to|given\s{{1,9}}that)\b"
    rf"|{CLOSING}\s{{0,3}},\s{{1,3}}(?:as(?!\s{{1,3}}(?:well|if|though|a|an)\b)|for)\b",
    re.IGNORECASE,
)
"""What follows a label that is plainly the answer, whatever the words before its colon or dash say."""


def _starts_sentence(text: str, mention: Mention, names: LabelNames, *, is_second: bool) -> bool:
    """Whether a label begins a sentence that has nothing else, or stands right before "because".

    The second of two may do so after a joint ("awe because of the height, or fear because of the drop").
    """
    lead = text[max(0, mention.start - 30) : mention.start]
    lead = lead if mention.start <= 30 else f"x{lead}"
    before = _SENTENCE_START.search(lead)
    if before is None or (before[1] is None and before[2] is None and not is_second):
        return False
    sign = mention.start - len(lead) + before.start()
    if (before[2] or (before[1] or "")[:1] in (":", "：")) and is_set_aside(text, sign, mention):
        return False
    stated = stated_end(text, mention.end, names)
    is_opening = before[1] is not None or before[2] is not None
    reason = _THEN_REASON.match(text, stated) if _is_noun(mention) else None
    if reason is not None and (is_opening or (is_second and reason[0].lower().endswith("because"))):
        return True
    if _THEN_BECAUSE.match(text, stated):
        return before[1] is not None or is_second
    if before[1] and before[1][0] in ".!?…" and _is_entry(text, mention):
        return True
    rest = text[mention.end : mention.end + 40]
    ends_sentence = re.match(r"\W{0,3}[.!]['\"”’)*]{0,3}(?:\s|\Z)", rest) is not None or not re.search(r"\w", rest)
    return before[1] is not None and ends_sentence


def _ranked_before(text: str, line: int, mention: Mention, names: LabelNames) -> set[str]:
    """The label that ends the line before as one ends its own: "Top-1: awe", then "Top-2: fear"."""
    if _LINE_END.match(text, mention.end) is None:
        return set()
    last = text[max(0, line - 80) : line].rstrip().rpartition("\n")[2]
    ranked = (other for other in names.mentions(last) if _RANK.fullmatch(last, 0, other.start))
    return {other.label for other in ranked if _LINE_END.match(last, other.end)}


_RANK = re.compile(r"[^.:\n]{1,20}[.:][\s*_\"'“‘(]{1,5}")
_LINE_END = re.compile(r"[^\w\n]{0,20}+(?:\n|\Z)")


# ------------------------------------------------------------------------------------------- sentences

_EVOKES = re.compile(
    r"(?:evok|elicit|convey|inspir|arous|provok|instill?|trigger|induc|stir|generat|creat|giv|bring)(?:e|es|ed|ing|s)?"
)
_TAIL = re.compile(
    rf"{CLOSING}\s{{0,9}}(?:\Z|[.,;:!?)(\n–—\x1f-]|(?:because|since|as|due|owing|in|with|at|for|from|when|that|through|by|about|"
    r"and|or|to|over|rather|instead|not|while|feelings?|emotions?|here|upon|on|toward|towards|is|within)\b)",
    re.IGNORECASE,
)
_SUBJECT = re.compile(
    r"\s{1,5}(?:(?:is|would\s{1,5}be)\s{1,5}(?:(?:the|my)\s{1,5}(?:\w{1,20}\s{1,5}){0,2}(?:emotion|feeling)|evoked|elicited|"
    r"my\s{1,5}(?:(?:best|first|final|main|own)\s{1,5})?(?:answer|choice|response|reaction)|"
    r"what\s{1,5}(?:i|it|this|the\s{1,5}(?:painting|image|picture|artwork|scene|work|piece|viewer))\s)|(?:fits|suits|matches|resonates)\s{1,5}(?:the\s{1,5})?(?:best|most)|comes\s{1,5}(?:closest|to\s{1,5}mind)|"
    r"(?:is|seems|feels|would\s{1,5}be)\s{1,5}(?:to\s{1,5}be\s{1,5})?(?:the\s{1,5})?(?:best|most|closest)\s{1,5}(?:\w{1,20}\s{1,5})?"
    r"(?:fitting|fit|match|apt|appropriate|suitable|choice|label|option|answer))\b",
    re.IGNORECASE,
)

_ENUMERATION = re.compile(
    rf"{CLOSING}\s{{0,5}}(?:,|/|&|\+|;|\||\band\b|\bor\b|\bas\s{{1,5}}well\s{{1,5}}as\b|\bmixed\s{{1,5}}with\b|\btinged\s{{1,5}}with\b|\bbut\s{{1,5}}also\b|"
    rf"\bthen\b|\bfollowed\s{{1,5}}by\b){{1,2}}\s{{0,5}}(?:and\b|or\b|also\b)?\s{{0,5}}",
    re.IGNORECASE,
)
"""Between labels that are named together ("awe and a little sadness")."""


def sentence_form(text: str, names: LabelNames) -> list[Claim]:
    """Sentences that claim a label: "The painting evokes awe because ...", "It makes me feel sad: ..."."""
    claims: list[Claim] = []
    position, reason = 0, ""  # what stands before `position` is the explanation of a claim
    for mention in islice(names.mentions(text), MOST_MENTIONS):
        if mention.start < position or mention.name == "other":
            continue
        sentence = max(text.rfind(mark, max(0, mention.start - 300), mention.start) for mark in ".!?\n") + 1
        sentence = max(sentence, mention.start - 300)
        claim_start = _claim_start(text, sentence, mention, names)
        if claim_start is None or is_negated(text, claim_start, mention) or is_hypothetical(text, claim_start, mention):
            continue
        labels, last = {mention.label}, mention
        while (joint := _ENUMERATION.match(text, last.end)) is not None:
            other = names.after(text, joint.end(), the=False)
            if other is None:
                break
            labels.add(other.label)
            last = other
        stated = stated_end(text, last.end, names)
        rest = text[stated:]
        reason_start = _clause_because(rest)
        if reason_start is not None:
            between = names.mentions(text, stated, stated + reason_start.start(2))
            labels |= {m.label for m in between if not is_denied(text, m)}
        reason = reason or _sentence_reason(text, claim_start, rest)  # only the first is ever used
        claims.append(Claim(frozenset(labels), reason, mention.start, mention.end))
        position = stated
        if reason_start is not None:  # the rest of this sentence explains the claim
            ends = [place for place in (text.find(mark, stated) for mark in (". ", "! ", "? ", "\n")) if place >= 0]
            position = min(ends, default=len(text))
    return claims


_POLITE = re.compile(
    r"\s{1,3}(?:(?<=afraid\s)that\s{1,3}(?:i|we|there|no|(?:the|this|your)\s{1,3}(?:image|picture|photo|painting))\b|to\s{1,3}(?:\w{1,15}ly\s{1,3})?"
    r"(?:help|assist|analy[sz]e|describe|try|share|provide|answer|say|tell|report|inform|discuss|explain|offer|do|give|"
    r"admit|interpret|respond|continue)\b)",
    re.IGNORECASE,
)
"""What follows a label that is courtesy: "I'm afraid that I cannot", "I'd be happy to help", "sad to say"."""


_IN_FIGURE = re.compile(r"\bthere(?:\sis|['’]s)\s[^,.;:]{1,39}\s(?:in|on)\s(?:his|her|their)\b", re.IGNORECASE)


def _claim_start(text: str, sentence: int, mention: Mention, names: LabelNames) -> int | None:
    """Where the words begin that claim the label; None if nothing claims it."""
    if _POLITE.match(text, mention.end) or _IN_FIGURE.search(
        text[max(sentence, mention.start - 40) : mention.end + 15]
    ):
        return None
    if _SUBJECT.match(text, mention.end) or _is_felt_gloss(text, sentence, mention):
        return mention.start
    if _TAIL.match(text, mention.end) is None:
        return None
    before = [(m.start(), m[0].lower().replace("’", "'")) for m in WORD.finditer(text, sentence, mention.start)][-20:]
    spoken = [word for _, word in before]
    if _is_called(text, sentence, mention, names):
        return mention.start
    for index in range(len(before) - 1, max(-1, len(before) - 10), -1):
        if _claims(spoken, index):
            return before[index][0]
        place = before[index][0] + len(spoken[index])
        is_joined = spoken[index] == "and" or spoken[index + 1 : index + 2] == ["and"] or text[place] == ","
        if not is_joined and not is_filler(spoken[index]):
            return None
    return None


_CALLED = re.compile(
    r"(?:\A|[.!?\n,;:–—]\s{0,4}|\b(?:for|to)\s{1,3}me,?\s{1,3}|\b(?:so|but|and|then|(?:i|i['’]d|would)\s{1,3}(?:think|believe|say|guess))\s{1,3}(?:that\s{1,3})?)"
    r"(?:it['’]s|that['’]s|(?:it|this|that)\s{1,3}is)\s{1,3}(?:(?:clearly|definitely|mostly|mainly|just|simply|a|an|the|pure|"
    r"deep|sense|feeling|of)\s{1,3}){0,4}[*_\"'“]{0,3}\Z",
    re.IGNORECASE,
)
_NOUN = re.compile(r"\w+(?:ness|ment|ity|ia|tion|ance|ence|ship|sure|hood|ism|dom)")


def _is_noun(mention: Mention) -> bool:
    return _NOUN.fullmatch(mention.name) is not None or any(mention.name == row[0] for row in SYNONYMS)


def _is_called(text: str, sentence: int, mention: Mention, names: LabelNames) -> bool:
    """Whether a clause says that "it" is the emotion, and goes on with a reason or ends ("to me it's awe because").

    Only of nouns: "it is sad" may speak of a figure.
    """
    if not _is_noun(mention) or _CALLED.search(text[max(sentence - 1, mention.start - 80, 0) : mention.start]) is None:
        return False
    stated = stated_end(text, mention.end, names)
    return (
        _because().match(text, stated) is not None
        or re.match(r"\W{0,4}(?:[.!:\n]|\Z)", text[stated : stated + 6]) is not None
    )


def _is_felt_gloss(text: str, sentence: int, mention: Mention) -> bool:
    """Whether a label translates what a sentence says to be felt ("Ich fühle Ehrfurcht (awe), weil ...")."""
    if text[mention.start - 1 : mention.start] not in ("(", "（") or text[mention.end : mention.end + 1] not in (
        ")",
        "）",
    ):
        return False
    lead = text[sentence : mention.start - 1].strip(' \n*_"').lower().replace("’", "'")
    is_felt = lead.startswith(tuple(words().prose["felt_elsewhere"]))
    return is_felt and not words().denials & set(lead.split())


_LEAVES = frozenset({"leave", "leaves", "leaving", "left"})


def _claims(spoken: Sequence[str], index: int) -> bool:
    """Whether the word at `index` says that what follows it is felt."""
    word, before = spoken[index], spoken[max(0, index - 7) : index]
    previous = before[-1] if before else ""
    if word in ("up", "out", "forth"):
        return bool(_EVOKES.fullmatch(previous))
    if word in words().prose["feels"] or word in ("feeling", "but"):
        return _is_felt(word, before)
    if word in ("me", "you", "us", "one"):
        return previous in ("make", "makes", "making", "made", "render", "renders") or previous in _LEAVES
    if word == "with" and previous == "filled":
        return bool(({"i'm", "am", "feel"} | words().prose["viewers"]) & set(before[-3:]))
    if word == "with" and previous not in ("go", "went", "going"):
        is_given = any(said.startswith("fill") or said in _LEAVES for said in before[-3:-1])
        return previous in ("me", "you", "us", "one", "viewer", "viewers") and is_given
    if word in ("toward", "towards", "it", "this") and previous in ("lean", "leaning", "call", "calling"):
        return bool({"i", "i'd", "i'm", "i'll", "would"} & set(before[-3:]))
    if word in ("is", "be", "was", "as") and words().prose["states"] & set(before):
        return word != "be" or previous == "would"
    if word in words().prose["choices"] or (word == "with" and previous in ("go", "went", "going")):
        speaker = [said for said in before if said not in ("have", "to")][-3:]  # "I have to go with"
        return any(spoken_word in ("i", "i'd", "i'll", "would") for spoken_word in speaker)
    return word in ("i'm", "there's") or (word == "is" and previous == "there") or bool(_EVOKES.fullmatch(word))


def _is_felt(word: str, before: Sequence[str]) -> bool:
    """Whether a word says that the viewer, or a view of the image, feels what follows it."""
    previous = before[-1] if before else ""
    viewers, feels = words().prose["viewers"], words().prose["feels"]
    if word == "feeling":  # "I can't help feeling", "cannot look without feeling"; any other is a noun
        return previous in ("help", "without") and bool(viewers & set(before))
    if word == "but":  # "I feel nothing but", "I cannot feel anything but"
        is_all = previous == "nothing" or (previous == "anything" and bool(_NO & {said[-3:] for said in before[-4:]}))
        return is_all and bool(viewers & set(before)) and bool(feels & set(before))
    if before[-2:] == ["not", "to"]:
        return before[-3:-2] in (["hard"], ["difficult"], ["impossible"])
    return (
        bool(viewers & set(before[-5:]))
        or (
            word in ("feels", "felt")
            and previous in words().prose["images"]
            # not "the man in the painting"
            and not {"in", "of", "from", "inside", "within", "by", "behind"} & set(before[-4:-1])
        )
    )


_NO = frozenset({"not", "n't"})
"""Ends of words that deny."""


_IN_VIEWER = re.compile(
    r"\A[\s*_\"”]{0,4}(?:with)?in\s{1,3}(?:me|us|you|people|(?:(?:the|a|any|most|many)\s{1,3})?(?:viewers?|observers?|onlookers?))\b"
    r"(?=\s?[,.;:!–—\n]|\s[-–—]|\s?\Z)",
    re.IGNORECASE,
)


_MORE_FELT = re.compile(
    r"\A[*_\"”]{0,4}(?:, \w{1,20}){0,3},? and "
    r"(?:(?:an?|some|the|deep|quiet|profound|sense|feeling|touch|hint|of) ){0,5}\w{1,20}"
    r"(?=[*_\"”]{0,4} ?(?:[.!?\n]|\Z)| (?:with|through|by|in|within|at|as|when|from|towards?)\b)",
    re.IGNORECASE,
)
"""What else a sentence says to be felt, without a reason ("awe and wonder.", "sadness and loneliness with")."""


def _sentence_reason(text: str, claim_start: int, rest: str) -> str:
    """What follows the label; else the sentences before the claim; else the claim, if it names what evokes it."""
    in_clause = _clause_because(rest)
    after = tidy(rest[in_clause.end() :]) if in_clause else after_label(_IN_VIEWER.sub("", _MORE_FELT.sub("", rest)))
    if after:
        return after
    sentence_start = max(text.rfind(mark, 0, claim_start) for mark in ".!?\n") + 1
    before = tidy(text[:sentence_start])
    subject = [word.lower().replace("’", "'") for word in WORD.findall(text[sentence_start:claim_start])]
    if before or len(subject) > 5:
        return before or tidy(text)
    # "The vast sky fills me with awe" names something in the image, "The painting fills me with awe" does not
    vocabulary = words().prose
    telling_nothing = vocabulary["telling_nothing"] | vocabulary["viewers"]
    telling = [word for word in subject if word not in telling_nothing and not _EVOKES.fullmatch(word)]
    is_of_image = (vocabulary["images"] | vocabulary["states"] | vocabulary["pictures"]) & set(subject)
    is_a_thing = bool(subject) and subject[0] in ("the", "a", "an", "this", "that", "these", "those", "its")
    return tidy(text) if is_a_thing and len(telling) >= 2 and not is_of_image else ""
