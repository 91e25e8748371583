"""Which language a text is in, and how its words are found if Stanford's English tokeniser cannot.

A task's `meta` may name the language of an example under `language` or `lang`, by any common code or name (`en`,
`en-US`, `eng`, `English`, `français`, `zh_Hans`). Without it the script decides: Chinese, Japanese, Korean and Arabic
are recognised, everything else counts as English.

    >>> code("English"), code("en-US"), code("zho"), code("Deutsch"), code("Klingon")
    ('en', 'en', 'zh', 'de', None)
    >>> of_text("月光下的海"), of_text("夜の海"), of_text("the sea")
    ('zh', 'ja', 'en')
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import version

from harness.errors import Unavailable

_NAMES: Mapping[str, str] = {
    "ar": "ara arabic العربية", "cs": "cz ces cze czech čeština", "da": "dan danish dansk",
    "de": "deu ger german deutsch", "en": "eng english", "es": "spa spanish español castellano",
    "fi": "fin finnish suomi", "fr": "fra fre french français", "hu": "hun hungarian magyar",
    "it": "ita italian italiano", "ja": "jp jpn japanese 日本語", "ko": "kor korean 한국어",
    "nl": "nld dut dutch nederlands", "no": "nor nb nob nn norwegian norsk", "pl": "pol polish polski",
    "pt": "por portuguese português", "ro": "ron rum romanian română", "ru": "rus russian русский",
    "sv": "swe swedish svenska", "tr": "tur turkish türkçe", "zh": "zho chi cmn chinese mandarin 中文 汉语 漢語",
}  # fmt: skip
_CODES = {name: tag for tag, names in _NAMES.items() for name in [tag, *names.split()]}

METEOR_LANGUAGES = frozenset(
    ["en", "cs", "fr", "es", "de", "pt", "ru", "da", "ro", "hu", "tr", "fi", "nl", "it", "no", "sv"]
)
"""Languages that the METEOR 1.5 jar has words, stems or parameters for. Its paraphrase tables come for English only."""

_SCRIPTS = (
    ("ja", re.compile(r"[\u3040-\u30ff]")),
    ("ko", re.compile(r"[\uac00-\ud7af\u1100-\u11ff]")),
    ("zh", re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")),
    ("ar", re.compile(r"[\u0600-\u06ff\u0750-\u077f\ufb50-\ufdff\ufe70-\ufeff]")),
)
_LETTER = re.compile(r"[^\W\d_]")


def code(name: str) -> str | None:
    """The two-letter code of a language given by ISO 639 code, BCP 47 tag or name, in any case; None if unknown."""
    whole = name.strip().lower()
    return _CODES.get(whole) or _CODES.get(re.split(r"[-_ (]", whole, maxsplit=1)[0])


def of_text(text: str) -> str:
    """The language that a text's script tells: at least a third of its letters are of that script; else `en`."""
    if text.isascii():
        return "en"
    letters = len(_LETTER.findall(text))
    for tag, script in _SCRIPTS:
        if 3 * len(script.findall(text)) >= max(letters, 1):
            return tag
    # Japanese is written in two scripts: a few kana among Chinese characters
    return "en"


def of_example(meta: Mapping[str, str], text: str) -> str:
    """The language named by an example's `meta`, else the one its text's script tells.

    A name that nobody knows is returned as it is, in lower case.
    """
    named = meta.get("language") or meta.get("lang")
    if not named:
        return of_text(text)
    return code(named) or named.strip().lower()


def meteor_reason(language: str) -> str | None:
    """Why METEOR cannot judge a language; None for English."""
    if language == "en":
        return None
    if language in METEOR_LANGUAGES:
        return (
            f"METEOR's paraphrase table of language {language!r} does not come with pycocoevalcap, the English one does"
        )
    return f"METEOR 1.5 does not know language {language!r}"


_TOKENISERS = {
    "zh": ("sacrebleu.tokenizers.tokenizer_zh", "TokenizerZh"),
    "ja": ("sacrebleu.tokenizers.tokenizer_ja_mecab", "TokenizerJaMecab"),
    "ko": ("sacrebleu.tokenizers.tokenizer_ko_mecab", "TokenizerKoMecab"),
    "ar": ("sacrebleu.tokenizers.tokenizer_intl", "TokenizerV14International"),
}
"""Language -> module and class of sacrebleu's tokeniser; the others go through Stanford's PTB tokeniser."""


def needs_own_tokeniser(text: str) -> str | None:
    """The language whose own tokeniser a text needs; None if PTB tokens will do."""
    language = of_text(text)
    return language if language in _TOKENISERS else None


@cache
def tokeniser(language: str) -> Callable[[str], str]:
    """Sacrebleu's tokeniser of a language: text in, tokens joined by blanks out.

    Raises:
        Unavailable: the package, or the dictionary it needs, is not installed.
    """
    module, name = _TOKENISERS[language]
    try:
        made = getattr(importlib.import_module(module), name)()
    except (ImportError, RuntimeError) as error:
        raise Unavailable(
            f"texts in language {language!r} need sacrebleu's tokeniser; type: pip install 'sevlm-harness[languages]'"
        ) from error

    def tokens(text: str) -> str:
        return " ".join(made(text).lower().split())

    return tokens


@cache
def tokeniser_version() -> str:
    """The version of sacrebleu, for signatures."""
    return f"sacrebleu-{version('sacrebleu')}"
