"""What a model sent, taken apart: its thoughts, its answer, and the marks of templates around both.

Every family of models has marks of its own (tags, special tokens, channels, speakers), and servers strip some of them.
Marks are found by their form and named in `vocabulary.yaml`; what stands after the last mark that ends thoughts is the
answer. LaTeX around the words of an answer and places in the image are marks, too. All is done in one walk over the
marks, so the time grows with the length of the text alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import cache, lru_cache
from typing import NamedTuple

from harness.tasks.parser.objects import is_whole_object
from harness.tasks.parser.words import field_kind, words

BLANK = "\x1f"
"""Stands for each character of a mark in an answer, so that places stay places; `str.isspace` counts it as a blank."""


@dataclass(frozen=True)
class Reply:
    """A model's text, taken apart.

    Attributes:
        answer: what it answers, without thoughts; marks within it are blanks (`BLANK`).
        start: where `answer` stands in the text; None if it was put together from several places.
        reasoning: what it thought before that.
        before, after: what stands around an answer that has a frame of its own (`<answer>`, a box, a fence).
        whole: the same without regard to the frame; None if there is none.
        open: thoughts that were begun never ended.
        loose: the mark that ends the thoughts is set like a word of a sentence, so it may be one.
    """

    answer: str
    start: int | None = 0
    reasoning: str = ""
    before: str = ""
    after: str = ""
    whole: Reply | None = None
    open: bool = False
    loose: bool = False


class Kind(Enum):
    """What a mark does."""

    THOUGHT_OPENS = auto()
    THOUGHT_CLOSES = auto()
    ANSWER_OPENS = auto()
    ANSWER_CLOSES = auto()
    ELEMENT_OPENS = auto()
    ELEMENT_CLOSES = auto()
    CHANNEL = auto()
    ROLE = auto()
    END = auto()
    NOISE = auto()


class Mark(NamedTuple):
    """A mark at `text[start:end]`; `name` is normalised."""

    kind: Kind
    start: int
    end: int
    name: str = ""


def split_reply(text: str, reasoning: str = "") -> Reply:
    """Take a model's text apart.

    Args:
        text: as the model sent it.
        reasoning: thoughts that came in a field of their own.

    Returns:
        The answer, empty if there are only thoughts, and all thoughts.
    """
    if is_whole_object(text):
        return Reply(text, reasoning=reasoning.strip())
    marks = _without_fields(find_marks(text))
    pieces, position = [], 0
    for mark in marks:
        pieces += [text[position : mark.start], BLANK * (mark.end - mark.start)]
        position = mark.end
    plain = "".join(pieces) + text[position:]

    cut, is_loose = _end_of_thoughts(plain, marks)
    final = _final_channel(plain, [mark for mark in marks if mark.start >= cut], cut)
    cut = len(plain) if final == -1 else final or cut
    start, end, is_open = _own_turn(plain, [mark for mark in marks if mark.start >= cut], cut)
    is_open |= final == -1
    thoughts = [plain[:cut], plain[end:] if is_open else ""]
    if cut and not is_open and not has_words(plain, start, end):
        opened = next((mark for mark in marks if mark.kind in (Kind.THOUGHT_OPENS, Kind.ELEMENT_OPENS)), None)
        if opened is not None and has_words(plain, 0, opened.start):  # thoughts that follow the answer
            start, end, _ = _own_turn(plain[: opened.start], [mark for mark in marks if mark.end <= opened.start], 0)
            thoughts = [plain[opened.start :]]
    found = "\n\n".join(part for part in (t.replace(BLANK, "").strip() for t in (reasoning, *thoughts)) if part)
    inside = [mark for mark in marks if start <= mark.start and mark.end <= end]
    return _unframed(plain[:end], start, inside, Reply("", None, found, open=is_open, loose=is_loose))


LONGEST_TEXT = 2_000_000
"""Characters of a whole reply, thoughts included; longer ones are not looked at."""
MOST_BRACKETS = 20_000
"""A reply that opens more marks than that, by a bracket or a sign of LaTeX, is a loop."""


def is_loop(text: str) -> bool:
    """Whether a text is so long, or opens so many marks, that no reader would look for an answer in it."""
    return len(text) > LONGEST_TEXT or sum(map(text.count, "<[◁＜⟨〈《【〔$\\")) > MOST_BRACKETS


_WORD = re.compile(r"[^\W_]")


def has_words(text: str, start: int = 0, end: int | None = None) -> bool:
    """Whether a text holds a letter or a digit between two places."""
    return _WORD.search(text, start, len(text) if end is None else end) is not None


# ---------------------------------------------------------------------------------------------- marks

_PLACE_NAMES = r"(?:box|bbox|quad|det|points?|coords?|coordinates|loc|location|region|polygon)"
_COORDINATES = r"[\s\d.,;:()\[\]-]{0,300}+"
PLACES = re.compile(
    rf"<\|?{_PLACE_NAMES}(?:_start)?\|?>{_COORDINATES}<[|/]{{1,2}}{_PLACE_NAMES}(?:_end)?\|?>"
    r"|\{(?:<\d{1,4}>){2,8}+\}"
    r"|<(?:loc|bin|patch_index|seg|coord|quant|x|y)_?\d{1,5}>"
    r"|<\|?(?:object_ref|ref|phrase|object|grounding|det|p)(?:_start|_end)?\|?>(?=[^<]{0,400}<)"
    r"|<[|/]{1,2}(?:object_ref|ref|phrase|object|grounding|det|p)(?:_start|_end)?\|?>"
    r"|<\|object_ref_(?:start|end)\|>|</?grounding>|<delimiter_of_multi_objects/?>",
    re.IGNORECASE,
)
"""Places in the image that some models write into sentences: the marks of a named thing, its coordinates as a whole."""

_OPENS = r"<|&lt;|◁|＜|⟨|〈|《|\[|【|〔"
_CLOSES = r">|&gt;|▷|＞|⟩|〉|》|\]|】|〕"
_MARK = re.compile(
    rf"(?:{_OPENS})[ ]?(?P<close>\\?[/／])?(?P<before>[|｜])?[ ]?(?P<close2>/)?"
    r"(?P<name>[^\W\d][\w:.▁-]{0,40}+(?:[ ]of[ ]\w{1,20}+)?+)"
    r"(?P<attributes>[\s=:\"'][^<>◁▷＜＞⟨⟩〈〉\[\]【】|｜\n]{0,100}+)?+(?P<empty>/)?(?P<after>[|｜])?[ ]?"
    rf"(?:{_CLOSES})",
    re.IGNORECASE,
)
_PLAIN_MARKS = (
    ("THOUGHT_CLOSES", "final", re.compile(r"assistant\n?(?:final|commentary)(?:\s*<\|message\|>)?")),
    ("ANSWER_OPENS", "fence", re.compile(r"^[ ]{0,3}(?:```|~~~)\w{0,12}", re.MULTILINE)),
)
_AFFIXES = (
    (re.compile(r"^(?:beginof|begin|startof|start|open|bo)(?=..)"), False),
    (re.compile(r"^(?:endof|end|close|stop|eo)(?=..)"), True),
    (re.compile(r"(?<=..)(?:start|begin|open)$"), False),
    (re.compile(r"(?<=..)(?:end|close|stop)$"), True),
)
_NEVER_A_WORD = re.compile(r"think|thought|reasoning|analysis|scratchpad|cot$|.*monologue|unused|ctrl|思考")
"""Names of thoughts that open them even if nothing closes them."""
_SPEAKERS = frozenset({"assistant", "user", "system", "human", "chatbot", "chatbottoken", "usertoken"})


def find_marks(text: str) -> list[Mark]:
    """All marks of a text, in order; those in quotation marks are words, not marks."""
    found = [Mark(Kind.NOISE, *match.span()) for match in PLACES.finditer(text)]
    found += [mark for match in _MARK.finditer(text) if (mark := _mark(text, match)) is not None]
    found += [
        Mark(Kind[kind], match.start(), match.end(), name)
        for kind, name, pattern in _PLAIN_MARKS
        for match in pattern.finditer(text)
    ]
    found += [*_passages(text), *_set_apart(text), *_latex_marks(text)]
    start = text.find("<!--")
    while start >= 0 and (end := text.find("-->", start)) >= 0:
        found.append(Mark(Kind.NOISE, start, end + 3))  # a comment of HTML
        start = text.find("<!--", end)
    found.sort(key=lambda mark: (mark.start, -mark.end))
    apart: list[Mark] = []
    for mark in found:
        if not apart or mark.start >= apart[-1].end:
            apart.append(mark)
    closed = {mark.name for mark in apart if mark.kind in (Kind.THOUGHT_CLOSES, Kind.ELEMENT_CLOSES)}
    return [mark for mark in apart if mark.name in closed or not _is_a_word(text, mark)]


def _is_a_word(text: str, mark: Mark) -> bool:
    """Whether a mark that nothing closes is a word in angle brackets, not a mark."""
    if mark.kind is Kind.THOUGHT_OPENS:
        return not _NEVER_A_WORD.match(mark.name) or _is_in_sentence(text, mark.start)
    return mark.kind is Kind.ELEMENT_OPENS


def _mark(text: str, match: re.Match[str]) -> Mark | None:
    is_token, is_bracket = bool(match["before"] or match["after"]), match[0][:1] in "[【〔《〈"
    name, kind = _named(match["name"], bool(match["close"] or match["close2"]), is_token, is_bracket)
    if name == "channel" and match["after"] and not match["before"]:
        kind = Kind.THOUGHT_CLOSES
    is_comparison = name in words().marks["html"] and match[0][1:2] == " "  # "a < b and c > d"
    if kind is None or is_comparison or (match["empty"] and kind is not Kind.NOISE):
        return None
    start, end = match.span()
    if start and text[start - 1] + text[end : end + 1] in ("``", '""', "''", "“”", "‘’", "「」"):
        return None
    return Mark(kind, start, end, name)


@lru_cache(maxsize=4096)
def _named(written: str, is_closing: bool, is_token: bool, is_bracket: bool) -> tuple[str, Kind | None]:
    """The name of a mark in its normal form, without `begin_of` and the like, and what the mark does."""
    name = re.sub(r"[\W_]", "", written.rpartition(":")[2]).casefold()
    for affix, closes in _AFFIXES:
        rest = affix.sub("", name, count=1)
        if rest != name and rest in words().marks["thoughts"] | words().marks["answers"]:
            name, is_closing = rest, is_closing or closes
    return name, _kind(name, is_closing, is_token, is_bracket)


def _kind(name: str, is_closing: bool, is_token: bool, is_bracket: bool) -> Kind | None:
    """What a mark of this name does; None if it is none."""
    names = words().marks
    if name in names["thought_opens"] | names["thought_closes"]:
        return Kind.THOUGHT_CLOSES if is_closing or name in names["thought_closes"] else Kind.THOUGHT_OPENS
    if name == "channel":
        return Kind.CHANNEL
    if name == "inst" or name in names["roles"] or (name in _SPEAKERS and is_token):
        return Kind.ROLE
    if name in names["ends"] or (name == "s" and is_closing):
        return None if is_bracket and name not in ("eos", "endoftext", "end") else Kind.END
    if name in names["thoughts"]:
        return Kind.THOUGHT_CLOSES if is_closing else Kind.THOUGHT_OPENS
    if name in names["answers"]:
        return Kind.ANSWER_CLOSES if is_closing else Kind.ANSWER_OPENS
    if is_token or (name in names["noise"] and not is_bracket):
        return Kind.NOISE
    if is_bracket:
        return None
    if name in names["html"]:
        return Kind.NOISE
    return Kind.ELEMENT_CLOSES if is_closing else Kind.ELEMENT_OPENS


def _passages(text: str) -> list[Mark]:
    """Phrases at a line's start that open thoughts (in the text's first line) or end them."""
    phrases, found = words().passages, []
    lowered = text.lower().replace("’", "'")
    if len(lowered) != len(text):
        return []
    lead = len(lowered) - len(lowered.lstrip())
    opening = next((phrase for phrase in phrases["opens"] if lowered.startswith(phrase, lead)), None)
    if opening is not None:
        name = "thinking" if opening.endswith(("...", "…")) else "passage"
        found.append(Mark(Kind.THOUGHT_OPENS, lead, lead + len(opening), name))
    for phrase in phrases["ends"]:
        place = lowered.rfind(phrase)
        if place > 0 and not lowered[lowered.rfind("\n", 0, place) + 1 : place].strip(" *#_"):
            end = place + len(phrase)
            rest = re.compile(r"[:.*#_ ]{0,20}").match(lowered, end)
            found.append(Mark(Kind.THOUGHT_CLOSES, place, rest.end() if rest else end, "passage"))
    return found


_SET_APART = (
    re.compile(r"\s{0,20}(?:[ ]{0,3}>[^\n]{0,2000}+\n){1,200}+"),
    re.compile(r"\s{0,20}([*_]{1,3})(?=[^\W_])[^*_\n]{1,2000}+\1[ ]{0,9}\n"),
    re.compile(r"\s{0,20}```[^\n`]{1,30}+\n(?:(?!```)[^\n]{0,2000}+\n){1,400}+```[ ]{0,9}\n"),
)
_NAME_OF_PART = re.compile(r"[\s>*_#`]{0,40}([^\W\d_][\w ]{0,30}?)\s?\d{0,2}[*_]{0,3}(?:[:：.…\n]|[*_]{1,3}\n)")


def _set_apart(text: str) -> Iterator[Mark]:
    """Thoughts at the start that a quote, emphasis or a fence sets apart, if they are named ("> Thinking: ...")."""
    for form in _SET_APART:
        found = form.match(text)
        named = None if found is None else _NAME_OF_PART.match(found[0])
        if found is None or named is None or field_kind(named[1]) != "thought":
            continue
        if has_words(found[0], named.end()) and has_words(text, found.end()):
            start, end = len(text) - len(text.lstrip()), len(found[0].rstrip(" \n`>*_"))
            yield Mark(Kind.THOUGHT_OPENS, start, named.end(), "passage")
            yield Mark(Kind.THOUGHT_CLOSES, end, found.end(), "passage")


_FORMATS = (
    r"text(?:bf|it|rm|sf|tt|sc|sl|up|md|normal)?|math(?:bf|it|rm|sf|tt|cal)|emph|underline|uline|mbox|hbox|"
    r"operatorname|boldsymbol|bm|(?:text)?color(?:box)?\s?\{[^{}\n]{1,30}\}"
)
_BRACE = re.compile(
    rf"\\{{1,2}}(?:(?P<box>boxed|fbox|framebox)|(?P<format>{_FORMATS}))\s?\{{|(?<!\\)(?P<open>\{{)|(?<!\\)(?P<close>\}})"
)
_SWITCH = re.compile(
    r"\\{1,2}(?:(?:begin|end)\{[a-z]{2,20}\*?\}"
    r"|(?:q?quad|centering|noindent|displaystyle|bfseries|itshape|[lL]arge|LARGE|[hH]uge)(?![a-zA-Z]))"
)
_WORDS_AS_FORMULA = re.compile(r"(?<![\w$\\])(\$)(?=[^\W\d_])[\w -]{1,30}(?<=\w)(\$)(?![\w$])")
_SIGN_BEFORE = re.compile(r"(?:\${1,2}|\\{1,2}[(\[])\s?\Z")
_SIGN_AFTER = re.compile(r"[.!]?\s?(?:\${1,2}|\\{1,2}[)\]])")


def _latex_marks(text: str) -> Iterator[Mark]:
    r"""Commands that only set words in another way, the braces that close them, and signs of mathematics around those.

    All braces are paired in one walk; the one that closes a box (`\boxed{awe}`) is no mark, because it ends a frame.
    """
    opened: list[re.Match[str]] = []
    for brace in _BRACE.finditer(text) if "\\" in text else ():
        if not brace["close"]:
            opened.append(brace)
            if not brace["open"]:
                yield Mark(Kind.ANSWER_OPENS if brace["box"] else Kind.NOISE, *brace.span(), "box")
                before = _SIGN_BEFORE.search(text, max(0, brace.start() - 4), brace.start())
                if before is not None:
                    yield Mark(Kind.NOISE, *before.span(), "box")
        elif opened:
            command = opened.pop()
            if command["format"]:
                yield Mark(Kind.NOISE, *brace.span(), "box")
            after = None if command["open"] else _SIGN_AFTER.match(text, brace.end())
            if after is not None:
                yield Mark(Kind.NOISE, *after.span(), "box")
    yield from (Mark(Kind.NOISE, *match.span(), "box") for match in _SWITCH.finditer(text))
    yield from (Mark(Kind.NOISE, *m.span(i), "box") for m in _WORDS_AS_FORMULA.finditer(text) for i in (1, 2))


def _without_fields(marks: Sequence[Mark]) -> list[Mark]:
    """The marks but for those that hold a record's fields (`<emotion>`, `<explanation>`), which stay in the text."""
    names = words().marks
    kinds = {name: field_kind(name) for name in {mark.name for mark in marks if mark.kind in _TAGS}}
    labels = {name for name, kind in kinds.items() if kind == "label"}
    reasons = {name for name, kind in kinds.items() if kind in ("reason", "weak reason")}
    own_labels, own_reasons = labels - names["answers"], reasons - names["thoughts"]
    fields: set[str] = set()
    if own_labels:
        places = {name: [mark.start for mark in marks if mark.name == name] for name in reasons | own_labels}
        inner = [place for name in own_labels for place in places[name]]
        holding = {name for name in reasons if any(places[name][0] < place < places[name][-1] for place in inner)}
        fields = own_labels | (own_reasons or reasons - holding)  # what holds the label holds thoughts
    elif own_reasons:
        fields = labels | own_reasons
    fields |= {name for name, kind in kinds.items() if kind == "measure"}
    return [mark for mark in marks if mark.name not in fields or mark.kind not in _TAGS]


_TAGS = frozenset(
    {
        Kind.THOUGHT_OPENS,
        Kind.THOUGHT_CLOSES,
        Kind.ANSWER_OPENS,
        Kind.ANSWER_CLOSES,
        Kind.ELEMENT_OPENS,
        Kind.ELEMENT_CLOSES,
    }
)


# ----------------------------------------------------------------------------------------- the answer


def _end_of_thoughts(plain: str, marks: Sequence[Mark]) -> tuple[int, bool]:
    """Where the last mark ends that ends thoughts (0 if none does), and whether it is set like a word."""
    opened: dict[str, int] = {}
    last: Mark | None = None
    was_opened = False
    last_word = _last_word(plain)
    for mark in marks:
        if mark.kind in (Kind.THOUGHT_OPENS, Kind.ELEMENT_OPENS):
            opened.setdefault(mark.name, mark.start)
        is_preamble = (
            mark.kind is Kind.ELEMENT_CLOSES
            and mark.name in opened
            and not _is_in_sentence(plain, opened[mark.name])
            and mark.end <= last_word
        )
        if mark.kind is Kind.THOUGHT_CLOSES or is_preamble:
            last, was_opened = mark, bool(opened)
    if last is None:
        return 0, False
    return last.end, not was_opened and _is_in_sentence(plain, last.start) and plain[
        last.end : last.end + 2
    ].lstrip().islower()


def _last_word(plain: str) -> int:
    """The place of a text's last letter or digit; -1 if it has none."""
    return next((place for place in range(len(plain) - 1, -1, -1) if plain[place].isalnum()), -1)


def _is_in_sentence(plain: str, place: int) -> bool:
    """Whether a place follows a word on its line, with a blank and without a sentence's end between them."""
    return re.search(r"[\w,]['\"”’)]?[ ]\Z", plain[max(0, place - 4) : place]) is not None


def _own_turn(plain: str, marks: Sequence[Mark], cut: int) -> tuple[int, int, bool]:
    """The part after the thoughts that is the model's own turn; and whether thoughts begin there that never end."""
    start, is_person = cut, False
    last_word = _last_word(plain)
    word = -1  # the place of the first word at or after `start`
    for mark in marks:
        if word < start:
            found = _WORD.search(plain, start)
            word = found.start() if found else len(plain)
        has_answer = not is_person and word < mark.start
        if mark.kind is Kind.THOUGHT_OPENS:
            return start, mark.start, True
        if mark.kind is Kind.END and has_answer:
            return start, mark.start, False
        if mark.kind is Kind.ROLE:
            is_prompt_end = mark.name == "inst" and mark.end <= last_word
            if has_answer and not is_prompt_end:
                return start, mark.start, False
            start, is_person = _after_speaker(plain, mark)
    if is_person:
        return len(plain), len(plain), False
    return (*_spoken_turn(plain, start), False)


def _final_channel(plain: str, marks: Sequence[Mark], cut: int) -> int | None:
    """Where the final channel's text begins; -1 if there are only other channels, None if there are none."""
    channels = [mark for mark in marks if mark.kind is Kind.CHANNEL]
    if channels:
        final = [m for m in channels if plain[m.end : m.end + 20].strip(BLANK + " ").lower().startswith("final")]
        return plain.lower().find("final", final[-1].end) + len("final") if final else -1
    if cut or not re.match(r"\s*(?:assistant\s?)?(?:analysis|commentary|thought|thinking)(?:[A-Z]|[ ]*\n)", plain):
        return None
    leaks = list(
        re.finditer(r"(?:^|(?<=[.!?…\"”*)]))(?:assistant)?final(?:[ ]answer)?(?=[:\n]|[A-Z{*]|[a-z])", plain, re.M)
    )
    return leaks[-1].end() if leaks else -1


def _after_speaker(plain: str, mark: Mark) -> tuple[int, bool]:
    """Where a speaker's turn begins, and whether the speaker is a person."""
    people, model = (words().speakers[kind] for kind in ("people", "model"))
    if mark.name in _SPEAKERS or mark.name == "inst":
        return mark.end, mark.name.startswith(people)
    named = re.compile(rf"[\s{BLANK}]{{0,40}}([^\W\d_]{{1,20}}+)[\s{BLANK}]{{0,40}}").match(plain, mark.end)
    if named is None or named[1].lower() not in (*people, *model):
        return mark.end, False
    return named.end(), named[1].lower() in people


def _spoken_turn(plain: str, start: int) -> tuple[int, int]:
    """Without an echoed prompt (a person's line first, then the model's) and without turns that the model invented."""
    person, own = _speaker_lines()
    first = person.search(plain, start)
    if first is not None and not has_words(plain, start, first.start()):
        begun = own.search(plain, first.end())
        if begun is None:
            return len(plain), len(plain)
    else:
        begun = own.search(plain, start)
        begun = None if begun is None or has_words(plain, start, begun.start()) else begun
    start = start if begun is None else begun.end()
    following = person.search(plain, start)
    return start, len(plain) if following is None else following.start()


@cache
def _speaker_lines() -> tuple[re.Pattern[str], re.Pattern[str]]:
    people, model = ("|".join(map(re.escape, words().speakers[kind])) for kind in ("people", "model"))
    line = rf"^[ \t#*{BLANK}]{{0,20}}"
    person = re.compile(rf"{line}(?:{people})[ *]{{0,3}}[:：]", re.IGNORECASE | re.MULTILINE)
    return person, re.compile(rf"(?:{line}(?i:{model})|(?<=\s)ASSISTANT)[ *]{{0,3}}[:：][ *]{{0,3}}", re.MULTILINE)


def _unframed(plain: str, start: int, marks: Sequence[Mark], found: Reply, depth: int = 0) -> Reply:
    """The content of the answer's frame, if it has one; several with different contents are put together."""
    frames: list[tuple[int, int, int, int]] = []  # outer start, inner start, inner end, outer end
    position = 0
    for index, mark in enumerate(marks):
        if mark.kind is Kind.ANSWER_OPENS and mark.start >= position:
            inner_end, outer_end = _end_of_frame(plain, mark, marks, index + 1)
            if has_words(plain, mark.end, inner_end):
                frames.append((mark.start, mark.end, inner_end, outer_end))
            elif outer_end == len(plain):
                break
            position = outer_end if frames else position
    whole = replace(found, answer=plain[start:], start=start)
    if not frames or depth > 2:
        return whole
    if len({" ".join(plain[a:b].split()).casefold() for _, a, b, _ in frames}) > 1:
        return replace(found, answer="\n".join(plain[a:b] for _, a, b, _ in frames), start=None, whole=whole)
    _, inner, inner_end, _ = frames[-1]
    before, after = plain[start : frames[0][0]], plain[frames[-1][3] :]
    inside = [mark for mark in marks if inner <= mark.start and mark.end <= inner_end]
    content = _unframed(plain[:inner_end], inner, inside, found, depth + 1)
    return replace(content, before=before + content.before, after=content.after + after, whole=whole)


def _end_of_frame(plain: str, mark: Mark, marks: Sequence[Mark], first: int) -> tuple[int, int]:
    """Where a frame's content ends and where the frame does."""
    if mark.name == "box":
        depth = 1
        for brace in re.compile(r"[{}]").finditer(plain, mark.end):
            depth += 1 if brace[0] == "{" else -1
            if depth == 0:
                return brace.start(), brace.end()
        return len(plain), len(plain)
    for index in range(first, len(marks)):
        other = marks[index]
        if mark.name == other.name == "fence" or (mark.name != "fence" and other.kind is Kind.ANSWER_CLOSES):
            return other.start, other.end
    return len(plain), len(plain)
