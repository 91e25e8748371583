"""N-gram scores against pycocoevalcap's own code, bit by bit; worker processes; tokenisers of other scripts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocoevalcap.bleu.bleu_scorer import cook_refs, cook_test
from pycocoevalcap.cider import cider_scorer
from pycocoevalcap.rouge.rouge import Rouge

from harness.tasks.metrics import caption_engine, languages
from harness.tasks.metrics.base import FloatArray
from harness.tasks.metrics.caption_engine import CaptionEngine
from harness.tasks.metrics.caption_scores import DocumentFrequencies, score_pairs

TEXTS = st.lists(st.sampled_from(["a", "b", "c", "d", "the", "sea", "of"]), max_size=9).map(" ".join)
IMAGES = st.lists(st.tuples(TEXTS, st.lists(TEXTS, min_size=1, max_size=10)), min_size=1, max_size=12)


def official(
    candidate: str, references: Sequence[str], frequencies: dict[tuple[str, ...], float], n: int
) -> list[float]:
    """BLEU counts, ROUGE-L and CIDEr-D by pycocoevalcap, one reference at a time for CIDEr."""
    counts = cook_test(candidate, cook_refs(list(references), n=4), eff="closest", n=4)
    values = []
    for reference in references:
        scorer = cider_scorer.CiderScorer()
        scorer.document_frequency = defaultdict(float, frequencies)
        scorer.ctest = [cider_scorer.cook_test(candidate)]
        scorer.crefs = [cider_scorer.cook_refs([reference])] + [[]] * (n - 1)  # their number is the number of images
        values.append(float(scorer.compute_cider()[0]))
    rouge = float(Rouge().calc_score([candidate], list(references)))
    return [counts["testlen"], counts["reflen"], *counts["guess"], *counts["correct"], rouge, float(np.mean(values))]


@settings(max_examples=settings().max_examples * 3 // 5)
@given(IMAGES)
def test_every_number_is_pycocoevalcaps_to_the_last_bit(images: list[tuple[str, list[str]]]) -> None:
    counted = DocumentFrequencies()
    scorer = cider_scorer.CiderScorer()
    for _, references in images:
        counted.add(references)
    counted.close()
    scorer.crefs = [cider_scorer.cook_refs(references) for _, references in images]
    scorer.compute_doc_freq()
    found = score_pairs([(candidate, tuple(references)) for candidate, references in images], counted)
    for (candidate, references), row in zip(images, found, strict=True):
        assert row.tolist() == official(candidate, references, scorer.document_frequency, len(images))


def scores(engine: CaptionEngine, references: list[list[str]]) -> FloatArray:
    with engine:
        return engine.scores([texts[0] for texts in references], references)


def test_worker_processes_give_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    references = [[f"word{i % 7} the sea {i % 5}", f"a wood of {i % 11} trees {i}"] for i in range(60)]
    alone = scores(CaptionEngine("artemis-plain", references, cores=1), references)
    monkeypatch.setattr(caption_engine, "_WORKER_PAIRS", 16)
    together = scores(CaptionEngine("artemis-plain", references, cores=2), references)
    assert alone.tobytes() == together.tobytes()


def test_a_worker_that_dies_is_told_and_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    references = [[f"the sea {i}"] for i in range(40)]
    monkeypatch.setattr(caption_engine, "_WORKER_PAIRS", 16)
    monkeypatch.setattr(caption_engine.caption_scores, "__name__", "no_such_module")
    with pytest.raises(RuntimeError, match="a process that scores captions ended"):
        scores(CaptionEngine("artemis-plain", references, cores=2), references)


@pytest.mark.parametrize(
    ("name", "code"),
    [("English", "en"), ("en-US", "en"), ("eng", "en"), ("EN_gb", "en"), ("Deutsch", "de"), ("zh-Hans", "zh"),
     ("chi", "zh"), ("Arabic", "ar"), ("日本語", "ja"), ("Portuguese (Brazil)", "pt"), ("Klingon", None), ("", None)],
)  # fmt: skip
def test_languages_are_known_by_any_common_name(name: str, code: str | None) -> None:
    assert languages.code(name) == code


def test_scripts_tell_the_language_of_texts_that_are_not_named() -> None:
    texts = {
        "月光下的海": "zh",
        "夜の海はきれい": "ja",
        "밤의 바다": "ko",
        "البحر هادئ": "ar",
        "la mer était calme": "en",
    }
    assert {text: languages.of_text(text) for text in texts} == texts
    assert languages.of_example({"language": "English"}, "月光下的海") == "en"
    assert languages.of_example({"lang": "fr"}, "la mer") == "fr"


def test_chinese_is_split_by_its_own_tokeniser_without_java() -> None:
    """Sacrebleu's `zh` sets every character apart; PTB would take the clause for one word."""
    with CaptionEngine("coco-ptb", []) as engine:
        assert engine.tokens("月光下的海") == "月 光 下 的 海"
        assert engine.tokeniser_name().startswith("ptb3+zh:sacrebleu-")
