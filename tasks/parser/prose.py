"""Labels claimed in running text: a value, a line that starts with a label, a sentence that says what is felt.

A word that merely occurs in the text is never a claim. All look-arounds are bounded, so time grows with the length of
the text alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from html import unescape
from itertools import islice

from harness.tasks.parser.labels import SECTION_TITLES, LabelNames, Mention
from harness.tasks.parser.words import words

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


Form = Callable[[str, LabelNames], list[Claim]]

_DECOR = r"(?:(?!\[\s?\])[^\w\n❌✗✘✕✖≠¬🚫⛔☐]|_)"
OPENING = re.compile(
    rf"{_DECOR}*+(?:(?:option\s{{1,3}})?\(?(?:\d{{1,2}}|[a-z])\s?[.):](?=[\s*_\"'(\[“]){_DECOR}*+|(?<=\[)[x✓✔]\]{_DECOR}*+)?",
    re.IGNORECASE,
)
"""Bullets, quotation marks, emphasis, emoji, and the number or letter of an option, before what a line says."""
CLOSING = r"(?:[*_\"'`”’)\]}>»」\u200b-\u200f\u2060\ufeff]|\s?[\u2600-\u27bf\U0001f000-\U0001faff]\ufe0f?){0,8}+"
_SIGN = r"(?:\s{0,9}(?:->|=>|[.:;!?(|→⇒，。：、\x1f])|\s[-–—]|[–—]|\s{0,9}$)"
_STRONG = (
    r"(?:\b(?:because|since|as(?!\s{1,9}(?:well|if|though)\b)|due\s{1,9}to|owing\s{1,9}to|weil|porque|"
    r"parce\s{1,9}que|puisque|perché|poiché|omdat)\b|因为|因為|由于|потому что|لأن|بسبب)[,:]?"
)
_CLAUSE_BECAUSE = re.compile(rf"([^.!?;:\n]{{0,60}}?)(,?\s{{0,5}}{_STRONG})", re.IGNORECASE)
_SEPARATOR = re.compile(r"[.!?;:\n,，。；：、(\[|→⇒–—/&+]|\s-\s|->|=>|\s-(?=\w)")
_ADJECTIVE = re.compile(r"\w+(?:ly|ing|ous|ic|ive|ful|ant|ent|al|able|ible)")
_WORD = re.compile(r"\w[\w'’-]*")


def without_closing_words(text: str) -> str:
    """The text without a last paragraph that offers further help."""
    head, gap, last = text.rstrip().rpartition("\n\n")
    plain = last.strip(" *_#>-").lower().replace("’", "'")
    return head if gap and plain.startswith(words().offers) else text


def tidy(text: str) -> str:
    """A sentence without blanks, quotation marks, brackets and emphasis around it; empty if it holds no word.

    >>> tidy(' **"the lake is calm"**} ')
    'the lake is calm'
    """
    text = re.sub(r" ?\x1f+ ?", " ", without_closing_words(text)).strip()
    text = re.sub(r"\*\*([^*\n]{1,400})\*\*", r"\1", text)
    text = unescape(text).strip() if "&" in text and ";" in text else text
    text = _CODA.sub("", _NAMED.sub("", text[:120]) + text[120:])
    for _ in range(3):
        text = _without_closings(text[_LEADING.match(text).end() :])  # type: ignore[union-attr]
        quote = next((pair for pair in _QUOTES if len(text) > 1 and text[0] + text[-1] == pair), "")
        if not quote or any(sign in text[1:-1] for sign in quote):
            break
        text = text[1:-1].strip()
    if text.endswith(('"', "”")) and text.count('"') % 2 + (text.count("”") > text.count("“")):
        text = text[:-1].rstrip()  # of a quotation that began before
    return "" if _PLACEHOLDER.fullmatch(text) or not re.search(r"\w", text) else text


_NAMED = re.compile(r"\A[\W_]{0,6}(?:explanation|reason)\s?[:：]\s?", re.IGNORECASE)
_CODA = re.compile(
    r"(?:\s{0,3}\((?:\d{1,4} words?|truncated)\)|\n{1,3}word count[:：][^\n]{0,20}|\n{1,3}-{3,5}\n{1,2}end"
    r"|</\w{0,20}|\",)\s{0,3}\Z",
    re.IGNORECASE,
)
"""A name that was left before an explanation, and what a model counts or cuts off after one."""


def sentence(text: str) -> str:
    """A string that is an explanation as it is; empty if it merely stands for one."""
    text = text.strip()
    return "" if (text and not text.strip(".… ")) or _PLACEHOLDER.fullmatch(text.strip("<>[]{}. ")) else text


_PLACEHOLDER = re.compile(
    r"(?:null|none|n/?a|nil|true|false|undefined|(?:your |the |a )?(?:explanation|reason)(?: here)?)", re.IGNORECASE
)
_LEADING = re.compile(
    r"(?:\*{1,3}|_{2}(?=\w)|#{1,6} |>|\|-?(?=\s)|`{1,3}|[-–—•](?=\s)|[,;:.](?=\s)|[\])}](?=[\s.,]))?"
    r"(?:\s|\*|\|(?=\s))*+"
)
_QUOTES = ('""', "“”", "''", "‘’", "«»", "「」", "{}", "[]", "()", "<>", "__", "„“", "``")
_BRACKETS = {"}": "{", "]": "[", ")": "(", ">": "<"}


def _without_closings(text: str) -> str:
    """The text without the marks and brackets at its end that nothing before them opens."""
    core = text.rstrip(" \n\t\r}])>*`|")
    core = re.sub(r"\s[#=.-]{1,9}\Z", "", core).rstrip() if core[-1:] in ("#", "=", "-", ".") else core
    core = core[:-1].rstrip() if core.endswith((":", "：")) else core
    for sign in text[len(core) : len(core) + 10]:
        is_smiley = sign == ")" and core[-1:] in (":", ";")
        if not (sign in _BRACKETS and (core.count(_BRACKETS[sign]) > core.count(sign) or is_smiley)):
            break
        core += sign
    return core


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
    lead = _WORD.findall(text, opening.end() if opening else start, first.start) if first.start > start else []
    if not (len(lead) <= 8 and all(map(_is_filler, lead))):
        return _sentence_value(text[:end], start, mentions, names, is_whole=is_whole)
    because = _CLAUSE_BECAUSE.match(text, first.end, end) or _direct_because(text, first.end, end)
    if because is not None:
        zone, rest = because.start(2), text[because.end() : end]
    elif is_whole:
        zone, rest = end, text[first.end : end]
    else:
        zone, rest = first.end, text[first.end : end]
    others = {m.label for m in mentions[1:] if m.start < zone and not _is_denied(text, m)}
    labels = {first.label} | others | _following_labels(text, first.end, end, names)
    return Claim(frozenset(labels), after_label(rest) if because is None else tidy(rest), first.start, first.end)


def _sentence_value(
    text: str, start: int, mentions: Sequence[Mention], names: LabelNames, *, is_whole: bool
) -> Claim | None:
    """A value that does not start with its label: a sentence about it, or words of which it is the last."""
    undenied = [mention for mention in mentions if not _is_denied(text, mention)]
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
    match = _after_label().match(rest)
    explanation = rest[match.end() :] if match else rest
    return tidy(explanation)


@cache
def _after_label() -> re.Pattern[str]:
    return re.compile(
        rf"{CLOSING}(?:\s{{0,9}}\([^()\n]{{0,80}}\))?(?:{words().because}|\s{{0,40}}(?:->|=>|[.,:;!?|→⇒–—，。：、\x1f-]){{0,3}}{CLOSING}\s{{0,40}}(?:{words().because})?)",
        re.IGNORECASE,
    )


@cache
def _because() -> re.Pattern[str]:
    return re.compile(rf"({CLOSING})({words().because})", re.IGNORECASE)


def _direct_because(text: str, start: int, end: int) -> re.Match[str] | None:
    return _because().match(text, start, end)


def _is_filler(word: str) -> bool:
    lowered = word.lower()
    return lowered in words().prose["fillers"] or _ADJECTIVE.fullmatch(lowered) is not None


def _is_denied(text: str, mention: Mention) -> bool:
    """Whether a denial stands within the three words before a label, in its own clause."""
    lead = re.split(r"[.!?;,\n]|\b(?:but|sondern|sino|mais)\b", text[max(0, mention.start - 40) : mention.start])[-1]
    near = [word.lower().replace("’", "'") for word in _WORD.findall(lead)[-4:]]
    denials = words().denials
    phrase = " ".join(near)
    return (
        any(word in denials for word in near[-3:])
        or "rather than" in phrase
        or "instead of" in phrase
        or "devoid of" in phrase
    )


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
        found |= {m.label for m in names.mentions(text, bracket.start(1), bracket.end(1)) if not _is_denied(text, m)}
        beside = names.at(text, _GAP.match(text, bracket.end()).end())  # type: ignore[union-attr]
        found |= {beside.label} if beside is not None and beside.end <= end else set()
    return found | _labels_alone(text, place, end, names)


_GAP = re.compile(r"[^\w\n]{0,12}")
_OPTION = re.compile(r"(?:\d{1,2}|[a-h])[.)]\s{0,3}")
_TOUCHING = re.compile("以及|还有|和|与|與|跟|及|或者|或|并|且|と|や|それとも")


def _joined_label(text: str, start: int, end: int, names: LabelNames) -> Mention | None:
    """The label that follows a place with nothing between but signs, joining words and a few fillers."""
    gap = _GAP.match(text, start, end)
    place, count = gap.end() if gap else start, 0
    is_joined = bool(gap and gap[0].strip())
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
        word = _WORD.match(text, place, end)
        if word is None or not (
            word[0].lower() in words().prose["joining"] or (word[0].lower() != "the" and _is_filler(word[0]))
        ):
            return None
        is_joined |= word[0].lower() in words().prose["joining"]
        gap = _GAP.match(text, word.end(), end)
        place, count = gap.end() if gap else word.end(), count + 1
    return None


def _labels_alone(text: str, start: int, end: int, names: LabelNames) -> set[str]:
    """Labels that are alone on a line of `text[start:end]` or open it before a sign."""
    found: set[str] = set()
    line = text.find("\n", start, end)
    for _ in range(60):
        if line < 0 or line + 1 >= end:
            break
        opening = OPENING.match(text, line + 1, end)
        mention = names.at(text, opening.end() if opening else line + 1)
        following = text.find("\n", line + 1, end)
        if (
            mention is not None
            and mention.end <= end
            and re.fullmatch(r"\W*", text[mention.end : end if following < 0 else following])
        ):
            found.add(mention.label)
        line = following
    return found


# ----------------------------------------------------------------------------------------------- lines


_TAKEN_BACK = re.compile(
    r"(?:\A|[.!?\n]\s{1,3})(?:actually|no|wait|scratch that|correction|still|on second thoughts?|or rather|rather|hmm)"
    r"(?:[,:.!]|\s)(?:[^.!?\n]{0,60}?)\Z",
    re.IGNORECASE,
)


def claimed_again(explanation: str, names: LabelNames) -> frozenset[str]:
    """Labels that an explanation claims after all: with a reason of their own, or because the first is taken back.

    "the sky is vast, but I say sadness because the boat is empty"; "the sky is vast. Actually, I would say fear."
    """
    found = set()
    for mention in islice(names.mentions(explanation), MOST_MENTIONS):
        if mention.name == "other" or _is_denied(explanation, mention):
            continue
        lead = explanation[max(0, mention.start - 90) : mention.start]
        takes_back = _TAKEN_BACK.search(lead) is not None and not re.match(r"\w", explanation[mention.end :])
        has_reason = _THEN_BECAUSE.match(explanation, mention.end) is not None
        if takes_back or has_reason:
            found.add(mention.label)
    return frozenset(found)


def line_form(text: str, names: LabelNames) -> list[Claim]:
    """Lines that start with a label: `awe because ...`, `**Awe**: ...`, `1. Awe - ...`, `Awe. ...`, `Awe` alone."""
    opened = list(islice(_line_claims(text, names), MOST_MENTIONS))
    ends = [*(start for start, _, _, _ in opened), len(text)][1:]
    claims: list[Claim] = []
    reason = ""
    for (start, mention, labels, opens_line), end in zip(opened, ends, strict=False):
        if not reason:  # only the first is ever used
            reason = after_label(text[mention.end : end]) or tidy(text[:start])
        if len(labels) == 1 and end > mention.end:
            labels |= _following_labels(text, mention.end, end, names)
        claims.append(Claim(frozenset(labels), reason, mention.start, mention.end, opens_line))
    return claims


def _line_claims(text: str, names: LabelNames) -> Iterator[tuple[int, Mention, set[str], bool]]:
    """Start, mention and labels of each label that opens a line, or a sentence of the form "awe because"; and which."""
    claimed = 0
    for mention in islice(names.mentions(text), MOST_MENTIONS):
        if mention.start < claimed:
            continue
        line = text.rfind("\n", max(0, mention.start - 200), mention.start) + 1
        opening = OPENING.match(text, line) if line or mention.start < 200 else None
        labels = {mention.label}
        opens_line = opening is not None and opening.end() == mention.start
        if opens_line:
            if not _is_claimed(text, mention, names, labels):
                continue
            start = line
        elif _starts_sentence(text, mention, is_second=claimed > 0):
            start = mention.start
        else:
            continue
        claimed = mention.end
        yield start, mention, labels, opens_line


def _is_claimed(text: str, mention: Mention, names: LabelNames, labels: set[str]) -> bool:
    """Whether the label at a line's start is stated there; adds those that are stated with it."""
    for _ in range(MOST_MENTIONS):
        closing = _closing().match(text, mention.end)
        end = closing.end() if closing else mention.end
        if _because().match(text, mention.end):
            return True
        sign = _signs().match(text, end)
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


@cache
def _closing() -> re.Pattern[str]:
    return re.compile(CLOSING)


_SENTENCE_START = re.compile(
    r"(?:([.!?…]['\"”’)*]{0,3}|:\*{0,2}|\A|\n)\s{0,4}|([,;])\s{1,4}|(?<=\s)(?=(?:or|and|then|but|also)\s))"
    r"(?:(?:or|and|also|then|but|maybe|perhaps|possibly|probably|likely|definitely|surely)\s{1,4}){0,3}[*_\"'“‘(\[]{0,4}\Z",
    re.IGNORECASE,
)
_THEN_BECAUSE = re.compile(rf"{CLOSING}\s{{1,9}}because\b", re.IGNORECASE)


@cache
def _signs() -> re.Pattern[str]:
    return re.compile(_SIGN, re.MULTILINE)


def _starts_sentence(text: str, mention: Mention, *, is_second: bool) -> bool:
    """Whether a label begins a sentence that has nothing else, or stands right before "because".

    The second of two may do so after a joint ("awe because of the height, or fear because of the drop").
    """
    lead = text[max(0, mention.start - 30) : mention.start]
    before = _SENTENCE_START.search(lead if mention.start <= 30 else f"x{lead}")
    if before is None or (before[1] is None and not is_second):
        return False
    if _THEN_BECAUSE.match(text, mention.end):
        return True
    rest = text[mention.end : mention.end + 40]
    ends_sentence = re.match(r"\W{0,3}[.!]['\"”’)*]{0,3}(?:\s|\Z)", rest) is not None or not re.search(r"\w", rest)
    return before[1] is not None and ends_sentence


# ------------------------------------------------------------------------------------------- sentences

_EVOKES = re.compile(
    r"(?:evok|elicit|convey|inspir|arous|provok|instill?|trigger|induc|stir|generat|creat|giv|bring)(?:e|es|ed|ing|s)?"
)
_NEGATION = re.compile(
    r"\b(?:not|no|never|without|neither|nor|less|hardly|cannot|rather than|instead of|wrong|unlikely|far from|"
    r"fails? to|nobody|none|nothing)\b|n['’]t\b",
    re.IGNORECASE,
)
_NOT_NEGATED = re.compile(r"\b(?:can(?:no|['’])t|cannot)\s+help\b|\bnot only\b|\bno doubt\b", re.IGNORECASE)
_TAIL = re.compile(
    rf"{CLOSING}\s{{0,9}}(?:\Z|[.,;:!?)(\n–—\x1f-]|(?:because|since|as|due|owing|in|with|at|for|from|when|that|through|by|about|"
    r"and|or|to|while|feelings?|emotions?|here|upon|on|toward|towards|is|within)\b)",
    re.IGNORECASE,
)
_SUBJECT = re.compile(
    r"\s{1,5}(?:is|would\s{1,5}be)\s{1,5}(?:(?:the|my)\s{1,5}(?:\w{1,20}\s{1,5}){0,2}(?:emotion|feeling)|evoked|elicited|"
    r"what\s{1,5}(?:i|it|this|the)\s)\b",
    re.IGNORECASE,
)


def sentence_form(text: str, names: LabelNames) -> list[Claim]:
    """Sentences that claim a label: "The painting evokes awe because ...", "It makes me feel sad: ..."."""
    claims: list[Claim] = []
    position, reason = 0, ""  # what stands before `position` is the explanation of a claim
    for mention in islice(names.mentions(text), MOST_MENTIONS):
        if mention.start < position or mention.name == "other":
            continue
        sentence = max(text.rfind(mark, max(0, mention.start - 300), mention.start) for mark in ".!?\n") + 1
        sentence = max(sentence, mention.start - 300)
        claim_start = _claim_start(text, sentence, mention)
        if claim_start is None or _is_negated(text, claim_start, mention):
            continue
        labels, last = {mention.label}, mention
        while (other := _enumerated(text, last, names)) is not None:
            labels.add(other.label)
            last = other
        rest = text[last.end :]
        reason_start = _CLAUSE_BECAUSE.match(rest)
        if reason_start is not None:
            between = names.mentions(text, last.end, last.end + reason_start.start(2))
            labels |= {m.label for m in between if not _is_denied(text, m)}
        reason = reason or _sentence_reason(text, claim_start, rest)  # only the first is ever used
        claims.append(Claim(frozenset(labels), reason, mention.start, mention.end))
        position = last.end
        if _CLAUSE_BECAUSE.match(rest):  # the rest of this sentence explains the claim
            ends = [place for place in (text.find(mark, last.end) for mark in (". ", "! ", "? ", "\n")) if place >= 0]
            position = min(ends, default=len(text))
    return claims


def _claim_start(text: str, sentence: int, mention: Mention) -> int | None:
    """Where the words begin that claim the label; None if nothing claims it."""
    if _SUBJECT.match(text, mention.end):
        return mention.start
    if _TAIL.match(text, mention.end) is None:
        return None
    before = [(m.start(), m[0].lower().replace("’", "'")) for m in _WORD.finditer(text, sentence, mention.start)][-20:]
    spoken = [word for _, word in before]
    for index in range(len(before) - 1, max(-1, len(before) - 10), -1):
        if _claims(spoken, index):
            return before[index][0]
        place = before[index][0] + len(spoken[index])
        is_joined = spoken[index] == "and" or spoken[index + 1 : index + 2] == ["and"] or text[place] == ","
        if not is_joined and not _is_filler(spoken[index]):
            return None
    return None


def _claims(spoken: Sequence[str], index: int) -> bool:
    """Whether the word at `index` says that what follows it is felt."""
    word, before = spoken[index], spoken[max(0, index - 7) : index]
    previous = before[-1] if before else ""
    if word in ("up", "out", "forth"):
        return bool(_EVOKES.fullmatch(previous))
    if word in words().prose["feels"]:
        return bool(words().prose["viewers"] & set(before[-5:])) or (
            word in ("feels", "felt") and previous in words().prose["images"]
        )
    if word in ("me", "you", "us", "one"):
        return previous in (
            "make",
            "makes",
            "making",
            "made",
            "leave",
            "leaves",
            "leaving",
            "left",
            "render",
            "renders",
        )
    if word == "with" and previous not in ("go", "went", "going"):
        return previous in ("me", "you", "us") and bool(before[-2:-1]) and before[-2].startswith("fill")
    if word in ("is", "be", "was", "as") and words().prose["states"] & set(before):
        return word != "be" or previous == "would"
    if word in words().prose["choices"] or (word == "with" and previous in ("go", "went", "going")):
        return any(spoken_word in ("i", "i'd", "i'll", "would") for spoken_word in before[-3:])
    return word in ("i'm", "there's") or (word == "is" and previous == "there") or bool(_EVOKES.fullmatch(word))


def _is_negated(text: str, claim_start: int, mention: Mention) -> bool:
    """Whether the claim's own clause denies it ("does not evoke fear")."""
    clause = max(text.rfind(mark, max(0, claim_start - 200), claim_start) for mark in ".!?\n,;") + 1
    return bool(_NEGATION.search(_NOT_NEGATED.sub("", text[max(clause, claim_start - 200) : mention.end])))


_ENUMERATION = re.compile(
    rf"{CLOSING}\s{{0,5}}(?:,|/|&|\+|;|\||\band\b|\bor\b|\bas\s{{1,5}}well\s{{1,5}}as\b|\bmixed\s{{1,5}}with\b|\btinged\s{{1,5}}with\b|\bbut\s{{1,5}}also\b|"
    rf"\bthen\b|\bfollowed\s{{1,5}}by\b){{1,2}}\s{{0,5}}(?:and\b|or\b|also\b)?\s{{0,5}}",
    re.IGNORECASE,
)


def _enumerated(text: str, mention: Mention, names: LabelNames) -> Mention | None:
    """The label that is named together with one ("awe and a little sadness")."""
    joint = _ENUMERATION.match(text, mention.end)
    if joint is None:
        return None
    place = joint.end()
    for _ in range(4):
        decor = re.compile(r"[*_\"'“‘(]{0,3}").match(text, place)
        place = decor.end() if decor else place
        found = names.at(text, place)
        if found is not None:
            return found
        word = _WORD.match(text, place)
        if word is None or word[0].lower() == "the" or not _is_filler(word[0]):
            return None
        gap = re.compile(r"\s{1,5}").match(text, word.end())
        if gap is None:
            return None
        place = gap.end()
    return None


def _sentence_reason(text: str, claim_start: int, rest: str) -> str:
    """What follows the label; else the sentences before the claim; else the claim, if it names what evokes it."""
    in_clause = _CLAUSE_BECAUSE.match(rest)
    after = tidy(rest[in_clause.end() :]) if in_clause else after_label(rest)
    if after:
        return after
    sentence_start = max(text.rfind(mark, 0, claim_start) for mark in ".!?\n") + 1
    before = tidy(text[:sentence_start])
    subject = _WORD.findall(text[sentence_start:claim_start])
    return before or (tidy(text) if len(subject) > 5 else "")
