"""What a vision-language model answers: alike in every batch size, with label probabilities, one outcome per picture."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from adapter_samples import LABELS, item
from loading_hf import loaded, turned_into, without_latency
from transformers import AutoModelForImageTextToText, AutoProcessor, LlavaForConditionalGeneration

from harness.adapters import hf
from harness.adapters.hf import HFVisionLanguage
from harness.types import Answer, Failed, Item, UserError


def test_it_answers_what_it_sees(taught: HFVisionLanguage, paintings: list[Item]) -> None:
    outcomes = taught.predict(paintings)
    for number, outcome in enumerate(outcomes):
        assert isinstance(outcome, Answer)
        expected = tiny_models.BRIGHT if number % 2 else tiny_models.DARK
        assert f"{outcome.emotion} because {outcome.explanation}" == outcome.raw == expected
        assert outcome.emotion_probs is not None
        assert max(outcome.emotion_probs, key=lambda label: (outcome.emotion_probs or {})[label]) == outcome.emotion
        words = AutoProcessor.from_pretrained(taught.settings.checkpoint).tokenizer
        assert outcome.usage.completion_tokens == len(words(f" {expected}</s>")["input_ids"])
        assert outcome.usage.latency_s is not None
        assert outcome.usage.latency_s > 0


@pytest.mark.parametrize("family", [pytest.param("llava-taught", marks=pytest.mark.slow), "llava-next", "paligemma"])
def test_batch_size_changes_nothing(family: str, checkpoints: dict[str, Path], paintings: list[Item]) -> None:
    adapter = loaded(checkpoints[family], max_new_tokens=6)
    together = adapter.predict(paintings)
    alone = [outcome for one in paintings for outcome in adapter.predict([one])]
    assert [outcome.raw for outcome in together] == [outcome.raw for outcome in alone]
    assert [o.usage.prompt_tokens for o in together] == [o.usage.prompt_tokens for o in alone]
    assert len({outcome.raw for outcome in together}) > 1
    for a, b in zip(together, alone, strict=True):
        assert type(a) is type(b)
        if isinstance(a, Answer) and isinstance(b, Answer):
            assert a.emotion_probs == pytest.approx(b.emotion_probs, abs=1e-4)


def test_label_probabilities_agree_with_whole_passes(taught: HFVisionLanguage, paintings: list[Item]) -> None:
    """The reference runs prompt, picture and label in one pass per label, without any cache."""
    processor = AutoProcessor.from_pretrained(taught.settings.checkpoint)
    model = AutoModelForImageTextToText.from_pretrained(taught.settings.checkpoint).eval()
    for one in paintings[:2]:
        prompt = f"USER: <image>\n{one.prompt} ASSISTANT:"
        scores = []
        for label in LABELS:
            inputs = processor(images=one.open(), text=f"{prompt} {label}", return_tensors="pt")
            length = len(processor.tokenizer(f" {label}")["input_ids"])
            with torch.no_grad():
                log_probs = model(**inputs).logits[0].log_softmax(-1)
            ids = inputs["input_ids"][0, -length:]
            scores.append(sum(float(log_probs[-length - 1 + i, token]) for i, token in enumerate(ids)))
        whole = sum(math.exp(score) for score in scores)
        expected = {label: math.exp(score) / whole for label, score in zip(LABELS, scores, strict=True)}
        (outcome,) = taught.predict([one])
        assert isinstance(outcome, Answer)
        assert outcome.emotion_probs == pytest.approx(expected, rel=1e-3)
        assert sum((outcome.emotion_probs or {}).values()) == pytest.approx(1)


def test_an_answer_in_another_form_is_kept_as_it_is(taught: HFVisionLanguage, paintings: list[Item]) -> None:
    """As a judge's verdict is asked for: no labels, and whoever asks reads the text."""
    asked = dataclasses.replace(paintings[0], labels=(), schema={"type": "object"})
    (outcome,) = taught.predict([asked])
    assert outcome.raw == tiny_models.DARK
    with pytest.raises(UserError, match="image: true"):
        taught.predict([dataclasses.replace(asked, shows_image=False)])


@pytest.mark.slow
def test_probabilities_can_be_turned_off(checkpoints: dict[str, Path], paintings: list[Item]) -> None:
    (outcome,) = loaded(checkpoints["llava-taught"], probabilities=False).predict(paintings[:1])
    assert isinstance(outcome, Answer)
    assert outcome.emotion_probs is None


def test_a_corrupt_picture_costs_its_own_answer_only(
    taught: HFVisionLanguage, paintings: list[Item], corrupt: Path
) -> None:
    outcomes = taught.predict([paintings[0], item("bad", corrupt), paintings[1]])
    assert [type(outcome) for outcome in outcomes] == [Answer, Failed, Answer]
    assert [outcomes[0].raw, outcomes[2].raw] == [tiny_models.DARK, tiny_models.BRIGHT]
    assert "corrupt.jpg" in outcomes[1].message if isinstance(outcomes[1], Failed) else False
    (alone,) = taught.predict([item("bad", corrupt)])
    assert alone == outcomes[1]


def test_items_of_different_prompts_and_labels_share_a_batch(taught: HFVisionLanguage, paintings: list[Item]) -> None:
    other = dataclasses.replace(paintings[1], labels=("awe", "joy"), prompt="Say it in one sentence.")
    first, second, third = taught.predict([paintings[0], other, paintings[2]])
    assert isinstance(second, Answer)
    assert set(second.emotion_probs or {}) == {"awe", "joy"}
    assert [without_latency(first), without_latency(third)] == [
        without_latency(outcome) for one in (paintings[0], paintings[2]) for outcome in taught.predict([one])
    ]


@pytest.mark.slow
def test_cut_off_answers(checkpoints: dict[str, Path], paintings: list[Item]) -> None:
    (outcome,) = loaded(checkpoints["llava-taught"], max_new_tokens=2).predict(paintings[:1])
    assert isinstance(outcome, Failed)
    assert outcome.error_type == "truncated"
    assert outcome.raw == "fear because"
    assert outcome.usage.completion_tokens == 2


@pytest.mark.slow
def test_where_people_gave_labels_alone_a_label_is_an_answer(
    checkpoints: dict[str, Path], paintings: list[Item]
) -> None:
    alone = dataclasses.replace(paintings[0], explanations=False)
    bare, cut_off = loaded(checkpoints["llava-taught"], max_new_tokens=2).predict([alone, paintings[0]])
    assert isinstance(bare, Answer)
    assert (bare.emotion, bare.explanation) == ("fear", "")
    assert isinstance(cut_off, Failed)


class Cramped(LlavaForConditionalGeneration):
    """Runs out of memory above a batch size, as a GPU does."""

    limit = 3
    asked: list[int] = []  # noqa: RUF012

    def generate(self, **inputs: Any) -> Any:
        size = inputs["input_ids"].shape[0]
        self.asked.append(size)
        if size > self.limit:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 ...")
        return super().generate(**inputs)


def test_out_of_memory_halves_the_batch_and_goes_on(
    checkpoints: dict[str, Path], paintings: list[Item], taught: HFVisionLanguage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hf, "load_model", lambda settings: turned_into(Cramped, settings))
    adapter = loaded(checkpoints["llava-taught"])
    monkeypatch.setattr(Cramped, "asked", [])
    outcomes = adapter.predict(paintings)
    assert [without_latency(o).raw for o in outcomes] == [o.raw for o in taught.predict(paintings)]
    assert Cramped.asked == [8, 4, 2, 2, 2, 2]
    assert adapter.runtime_info()["batch_limited_to"] == 2
    adapter.predict(paintings[:4])
    assert Cramped.asked[6:] == [2, 2]
    monkeypatch.setattr(Cramped, "limit", 0)
    failed = adapter.predict(paintings[:2])
    assert [type(outcome) for outcome in failed] == [Failed, Failed]
    assert "CUDA out of memory" in failed[0].message if isinstance(failed[0], Failed) else False
