"""Prompts of checkpoints that keep their chat template elsewhere, or have none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoProcessor

from harness.adapters.hf_processor import PromptReader
from harness.types import Item

OF_TEXTS = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + ' ' }}{% endfor %}assistant:"


@pytest.fixture
def processor(checkpoints: dict[str, Path]) -> Any:
    return AutoProcessor.from_pretrained(checkpoints["llava-next"])


def moved(processor: Any, template: str | None) -> Any:
    processor.chat_template, processor.tokenizer.chat_template = None, template
    return processor


def test_a_template_of_the_tokenizer_that_shows_images_is_as_good_as_the_processors(processor: Any) -> None:
    own = PromptReader(processor).render_answered("Why?", "awe because")
    reader = PromptReader(moved(processor, processor.chat_template))
    assert reader.form == "chat template"
    assert reader.render_answered("Why?", "awe because") == own


@pytest.mark.parametrize(
    ("template", "form", "expected"),
    [
        (OF_TEXTS, "template of texts", "user: <image>Why? assistant:"),
        (OF_TEXTS.replace(" + m['content']", " ~ m['content']"), "template of texts", "user: <image>Why? assistant:"),
        (None, "image token", "<image>Why?"),
    ],
)
def test_a_template_that_knows_text_alone_gets_the_image_token(
    template: str | None, form: str, expected: str, processor: Any, paintings: list[Item]
) -> None:
    reader = PromptReader(moved(processor, template))
    assert (reader.form, reader.render("Why?")) == (form, expected)
    inputs = reader.encode(["Why?"] * 3, [one.open() for one in paintings[:3]])
    assert (inputs["input_ids"] == processor.image_token_id).sum(dim=1).min() > 1


def test_padding_stands_before_the_prompt_whatever_the_tokenizer_prefers(processor: Any, paintings: list[Item]) -> None:
    processor.tokenizer.padding_side = "right"
    mask = PromptReader(processor).encode(["Why?", "Why, though?"], [one.open() for one in paintings[:2]])[
        "attention_mask"
    ]
    assert not mask.all()
    assert mask[:, -1].all()
