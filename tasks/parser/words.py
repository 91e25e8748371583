"""The words by which answers are taken apart, read once from `vocabulary.yaml`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

PATH = Path(__file__).with_name("vocabulary.yaml")


@dataclass(frozen=True)
class Words:
    """The vocabulary, ready for matching.

    Attributes:
        date: of the last change.
        marks: kind of mark -> names.
        speakers: `model` and `people` -> their names before a colon.
        passages: `opens` and `ends` -> phrases, in small letters.
        refusals: regular expression source for what a refusal says in any language; see `is_refusal`.
        fields: kind of field -> words.
        other_fields: names of fields in other languages -> kind.
        because: regular expression source for one connective, with the comma and the blanks before it.
        denials: words that deny the label after them.
        prose: kinds of words in sentences.
        offers: how a paragraph begins that offers further help.
    """

    date: str
    marks: dict[str, frozenset[str]]
    speakers: dict[str, tuple[str, ...]]
    passages: dict[str, tuple[str, ...]]
    refusals: str
    fields: dict[str, frozenset[str]]
    other_fields: dict[str, str]
    because: str
    denials: frozenset[str]
    prose: dict[str, frozenset[str]]
    offers: tuple[str, ...]


@cache
def words() -> Words:
    """The vocabulary of this version of the parser."""
    fast = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the first is there where PyYAML was built with libyaml
    given: dict[str, Any] = yaml.load(PATH.read_text(encoding="utf-8"), Loader=fast)
    fields = dict(given["fields"])
    others: dict[str, list[str]] = fields.pop("others")
    return Words(
        date=str(given["date"]),
        marks={kind: frozenset(names) for kind, names in given["marks"].items()},
        speakers={kind: tuple(names) for kind, names in given["speakers"].items()},
        passages={kind: tuple(phrases) for kind, phrases in given["passages"].items()},
        refusals=_refusals(given["refusals"].values(), given["refusal_parts"]),
        fields={kind: frozenset(names) for kind, names in fields.items()},
        other_fields={name: kind for kind, names in others.items() for name in names},
        because=_because([phrase for row in given["connectives"] for phrase in row], given["degrees"]),
        denials=frozenset(given["denials"]),
        offers=tuple(given["offers"]),
        prose={kind: frozenset(found) for kind, found in given["prose"].items()},
    )


def _because(phrases: Iterable[str], degrees: Iterable[str]) -> str:
    """One of the connectives as a whole word, after a degree or none; those of scripts without blanks may touch what
    follows.
    """
    longest_first = sorted(phrases, key=len, reverse=True)
    apart = "|".join(r"\s{1,9}".join(map(re.escape, p.split())) for p in longest_first if not is_unspaced(p))
    apart = apart.replace("|as|", r"|as(?!\s{1,9}(?:well|if|though)\b)|")
    touching = "|".join(map(re.escape, filter(is_unspaced, longest_first)))
    return (
        r"\s{0,9}(?:[,，、;…–—-]|\.{2,3})?\s{0,9}"
        rf"(?:(?<!\w)(?:(?:{'|'.join(degrees)})\s)?(?:{apart})(?:(?<=')|(?!\w))|(?:{touching}))[,:，：]?"
    )


def _refusals(languages: Iterable[list[str]], parts: dict[str, str]) -> str:
    """Any of the phrases; those of alphabets whose words stand apart only at a word's start."""
    apart: list[str] = []
    touching: list[str] = []
    for phrase in chain.from_iterable(languages):
        first = re.search(r"[^\W\d_]", re.sub(r"\\.|<\w+>", "", phrase))
        whole = re.sub(r"<(\w+)>", lambda part: parts[part[1]], phrase)
        (apart if first and first[0] < "\u0530" else touching).append(whole)
    return rf"(?<!\w)(?:{'|'.join(apart)})|{'|'.join(touching)}"


def is_refusal(text: str) -> bool:
    """Whether a text holds a refusal, in any of the languages of the vocabulary.

    >>> is_refusal("I’d **respectfully** decline"), is_refusal("I can't help but smile")
    (True, False)
    """
    plain = re.sub(r"[\s*_`\x1f]+", " ", text.lower().replace("’", "'")).strip()
    for contraction, whole in _CONTRACTIONS:
        plain = contraction.sub(whole, plain)
    return _refusal().search(_ADVERB.sub("", plain)) is not None


@cache
def _refusal() -> re.Pattern[str]:
    return re.compile(words().refusals)  # takes longer than all else here, and few texts need it


_CONTRACTIONS = (
    (re.compile(r"\b(?:can't|can not|cant)\b"), "cannot"),
    (re.compile(r"\bwon't\b"), "will not"),
    (re.compile(r"n't\b"), " not"),
    (re.compile(r"\blet's\b"), "let us"),
    (re.compile(r"\b(it|that|there|here|what|this)'s\b"), r"\1 is"),
    (re.compile(r"'m\b"), " am"),
    (re.compile(r"'d\b"), " would"),
    (re.compile(r"'ll\b"), " will"),
    (re.compile(r"'ve\b"), " have"),
    (re.compile(r"'re\b"), " are"),
)
_ADVERB = re.compile(
    r"\b(?:respectfully|politely|currently|really|actually|just|simply|personally|unfortunately|regretfully|truly|"
    r"very|so|deeply|terribly|honestly|therefore|still|sadly|directly|physically|only|merely|extremely|quite|then|"
    r"afraid (?:that )?(?=i\b)),? "
)


WORD = re.compile(r"\w[\w'’-]*")
_ADJECTIVE = re.compile(r"\w+(?:ly|ing|ous|ic|ive|ful|ant|ent|al|able|ible)")


def is_filler(word: str) -> bool:
    """Whether a word may stand before a label without saying anything ("a deep sense of awe")."""
    lowered = word.lower()
    return lowered in words().prose["fillers"] or _ADJECTIVE.fullmatch(lowered) is not None


def is_unspaced(text: str) -> bool:
    """Whether the text ends in a script that puts no blanks between words (Chinese, Japanese)."""
    return any(first <= text[-1:] <= last for first, last in ("\u3040\u30ff", "\u3400\u9fff", "\uf900\ufaff"))


@lru_cache(maxsize=4096)
def field_kind(name: str) -> str | None:
    """What a field of this name holds.

    Either `label`, `second` (another claim), `aside`, `reason`, `weak reason`, `thought`, `measure` or None.

    >>> field_kind("dominantEmotion"), field_kind("Secondary emotion"), field_kind("emotion of the man")
    ('label', 'second', None)
    """
    plain = re.sub(r"[\W_]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z0-9])", " ", name[:80])).strip().lower()
    others = words().other_fields
    if not plain or plain in others:
        return others.get(plain)
    if plain in ("primary", "dominant", "final", "secondary", "tertiary"):
        return "second" if plain in ("secondary", "tertiary") else "label"
    named, fields = set(plain.split()), words().fields
    if len(plain.split()) > 10:
        return None
    answers = fields["heads"] | fields["modifiers"]
    asides = answers | fields["reasons"] | fields["aside"] | fields["second"] | fields["measures"]
    rules = (
        ("aside", fields["aside"], asides),
        ("measure", fields["measures"], asides),
        ("thought", fields["thoughts"], asides | fields["thoughts"]),
        (
            "reason",
            fields["reasons"],
            answers | fields["reasons"] | {"short", "brief", "detailed", "supporting", "visual", "textual"},
        ),
        ("second", fields["second"], answers | fields["second"]),
        ("label", fields["heads"], answers),
    )
    for kind, needed, allowed in rules:
        if named & needed and named <= allowed and (kind != "second" or named & fields["heads"]):
            return kind
    return "weak reason" if named & fields["weak_reasons"] and len(named) <= 3 else None


def is_reasoning(name: str) -> bool:
    """Whether a reason's name may also be that of thoughts, so that any other reason is the explanation."""
    return bool(re.search(r"reasoning|rationale|interpretation|elaboration|analysis", name, re.IGNORECASE))


def is_final(name: str) -> bool:
    """Whether a field's name says that it outranks the others."""
    return bool(re.search(r"\bfinal\b|最终|最終|endgültig|endantwort|définitive", name.lower().replace("_", " ")))
