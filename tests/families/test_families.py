"""Each family is asked and trained as its makers meant it, and every model card stands for a family that is."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import FAMILIES, build
from PIL import Image
from sixteen import QUICK, asked, write_card
from transformers import AutoModelForImageTextToText, AutoProcessor

from harness.adapters.cards import card_names, find_card
from harness.adapters.hf import HFVisionLanguage
from harness.adapters.hf_model import SCORERS, generate, load_model, load_processor, opening_tokens
from harness.adapters.hf_training import Collator, Pair, lora_layers
from harness.cli import main
from harness.infer.local import predict
from harness.tasks.prompts import DEFAULT_PROMPT, render
from harness.types import Answer, Failed, Item, Outcome

LABELS = ("amusement", "awe", "contentment", "fear", "something else")
PROMPT = render(DEFAULT_PROMPT, LABELS, None)
SHAPES = ((60, 150), (70, 70), (120, 90), (200, 64))
NEW_TOKENS = 12
WITHOUT_TEMPLATE = ("paligemma", "blip2", "instructblip", "kosmos2", "florence2")
ONE_LENGTH = ("instructblip", "kosmos2", "florence2")
"""Padding changes their answers, so that a batch holds equal prompts only."""
FAMILY_OF_CARD = {
    "gemma-3-4b": "gemma3", "gemma-3-12b": "gemma3", "idefics3-8b": "idefics3", "internvl3-8b": "internvl",
    "llama-3.2-11b-vision": "llama-3.2-vision", "llava-1.5-7b": "llava-1.5", "llava-1.5-13b": "llava-1.5",
    "llava-next-7b": "llava-next", "llava-onevision-7b": "llava-onevision", "paligemma2-3b": "paligemma",
    "pixtral-12b": "pixtral", "qwen2.5-vl-3b": "qwen2.5-vl", "qwen2.5-vl-7b": "qwen2.5-vl", "qwen3-vl-8b": "qwen3-vl",
    "smolvlm-256m": "idefics3", "smolvlm-2.2b": "idefics3", "smolvlm2-2.2b": "smolvlm2",
}  # fmt: skip


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Four shapes, each twice."""
    folder = tmp_path_factory.mktemp("images")
    paths = [folder / f"{number}.png" for number in range(2 * len(SHAPES))]
    for number, (path, size) in enumerate(zip(paths, 2 * SHAPES, strict=True)):
        noise = Image.effect_noise(size, 60).point(lambda v, light=25 * number: v // 3 + light)
        noise.convert("RGB").save(path)
    return paths


Made = Callable[[str], Path]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A family's checkpoint, written once per process; whoever changes one copies it."""
    folder = tmp_path_factory.mktemp("families")
    return lambda name: folder / name if (folder / name).exists() else build(name, folder)


def loaded(checkpoint: Path, **settings: Any) -> HFVisionLanguage:
    adapter = HFVisionLanguage(checkpoint=str(checkpoint), device="cpu", **{"max_new_tokens": NEW_TOKENS} | settings)
    adapter.longest_prompt = PROMPT
    adapter.load()
    return adapter


def documented(processor: Any, image: Image.Image, prompt: str) -> Any:
    """Inputs for one image as the family's documentation makes them."""
    if getattr(processor, "chat_template", None):
        content = [{"type": "image", "image": image}, {"type": "text", "text": prompt}]
        switch = {"enable_thinking": False} if "enable_thinking" in processor.chat_template else {}
        return processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=True, return_dict=True,
            return_tensors="pt", **switch,
        )  # fmt: skip
    text = f"<image>{prompt}" if type(processor).__name__ == "PaliGemmaProcessor" else prompt
    inputs = processor(images=image, text=text, return_tensors="pt")
    inputs.pop("labels", None)
    return inputs


def whole_passes(model: Any, inputs: Any, labels: Sequence[Sequence[int]]) -> torch.Tensor:
    """Log-probability of each label after one prompt, by one pass per label without any cache."""
    scores = []
    for label in labels:
        given, tokens = dict(inputs), torch.tensor([list(label)])
        if model.config.is_encoder_decoder:
            start = [model.generation_config.decoder_start_token_id, *opening_tokens(model)]
            given["decoder_input_ids"] = torch.tensor([[*start, *label]])
        else:
            given["input_ids"] = torch.cat([given["input_ids"], tokens], dim=1)
            given["attention_mask"] = torch.cat([given["attention_mask"], torch.ones_like(tokens)], dim=1)
        for name in {"mm_token_type_ids", "token_type_ids", "image_embeds_position_mask"} & given.keys():
            prefix = name == "token_type_ids" and "PaliGemma" in type(model).__name__  # its answers are another segment
            more = torch.ones_like(tokens) if prefix else torch.zeros_like(tokens)
            given[name] = torch.cat([given[name], more], dim=1)
        if "cross_attention_mask" in given:
            seen = given["cross_attention_mask"]
            given["cross_attention_mask"] = torch.cat([seen, seen[:, -1:].expand(-1, len(label), -1, -1)], dim=1)
        with torch.inference_mode():
            logits = model(**given, use_cache=False).logits[:, -len(label) - 1 : -1]
        scores.append(logits.float().log_softmax(-1).gather(2, tokens[:, :, None]).sum())
    return torch.stack(scores).double()


@pytest.mark.parametrize("name", FAMILIES)
def test_prompts_texts_and_labels_are_those_of_plain_transformers(name: str, made: Made, images: list[Path]) -> None:
    """One image at a time in a plain loop is the reference; ours are asked one by one and eight at once.

    Prompts of three lengths make every family pad, also those whose images all take the same number of tokens.
    """
    checkpoint = made(name)
    prompts = [f"{'Look closely. ' * (number % 3)}{PROMPT}" for number in range(len(images))]
    processor = AutoProcessor.from_pretrained(checkpoint)
    model = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=torch.float32).eval()
    opened = [Image.open(path).convert("RGB") for path in images]
    expected = [
        documented(processor, image, prompt).to(model.dtype) for image, prompt in zip(opened, prompts, strict=True)
    ]
    texts = []
    for inputs in expected:
        with torch.inference_mode():
            said = model.generate(**inputs, do_sample=False, max_new_tokens=NEW_TOKENS)
        begin = 0 if model.config.is_encoder_decoder else inputs["input_ids"].shape[1]
        texts.append(processor.tokenizer.decode(said[0, begin:], skip_special_tokens=True).strip())
    adapter = loaded(checkpoint)
    reader = adapter._reader
    assert reader is not None
    together = reader.encode(prompts, opened)
    assert not together["attention_mask"].all()
    rows = [row[mask.bool()] for row, mask in zip(together["input_ids"], together["attention_mask"], strict=True)]
    for row, inputs in zip(rows, expected, strict=True):
        assert torch.equal(row, inputs["input_ids"][0])  # one BOS, and what the template wrote
    items = [Item(path.name, path, LABELS, prompt) for path, prompt in zip(images, prompts, strict=True)]
    assert [outcome.raw for outcome in map(only, map(adapter.predict, [[item] for item in items]))] == texts
    assert [outcome.raw for outcome in adapter.predict(items)] == texts
    if name in ONE_LENGTH:
        prompts = [PROMPT] * len(prompts)
        expected = [documented(processor, image, PROMPT).to(model.dtype) for image in opened]
        together = reader.encode(prompts, opened)
    generated = generate(adapter._model, together, NEW_TOKENS)
    encoder = model.config.is_encoder_decoder
    labels = reader.continuations([[]] if encoder else together["input_ids"].tolist(), LABELS)
    scorer = adapter.runtime_info()["labels_scored_by"]
    scores = SCORERS[scorer](adapter._model, together, generated.cache, labels)
    reference = torch.stack([whole_passes(model, inputs, labels) for inputs in expected])
    assert float((scores - reference).abs().max()) < 1e-4


def only(outcomes: list[Outcome]) -> Outcome:
    (outcome,) = outcomes
    return outcome


@pytest.mark.parametrize("name", FAMILIES)
def test_odd_images_cost_only_themselves(name: str, made: Made, tmp_path: Path, images: list[Path]) -> None:
    sizes = [(2, 300), (900, 8), (8, 900), (1, 1), (8, 8)]
    paths = [tmp_path / f"{width}x{height}.png" for width, height in sizes]
    for path, size in zip(paths, sizes, strict=True):
        Image.effect_noise(size, 90).save(path)
    for mode, end in (("RGBA", "png"), ("P", "png"), ("CMYK", "jpg"), ("L", "png")):
        paths.append(tmp_path / f"{mode}.{end}")
        Image.effect_noise((60, 50), 90).convert("RGB").convert(mode).save(paths[-1])
    adapter = loaded(made(name), max_new_tokens=3)
    items = [Item(path.name, path, LABELS, "Which emotion?") for path in [images[0], *paths, images[1]]]
    alone = [only(predict(adapter, [item])) for item in items]
    together = predict(adapter, items)  # asks one by one if a batch fails as a whole
    assert [outcome.raw for outcome in alone] == [outcome.raw for outcome in together]
    failed = [i.id for i, o in zip(items, alone, strict=True) if isinstance(o, Failed) and o.error_type != "truncated"]
    assert set(failed) <= {path.name for path in paths[:5]}


TRAINED = [name for name in FAMILIES if name not in WITHOUT_TEMPLATE]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", TRAINED)
def test_the_loss_falls_on_the_answer(name: str, side: str, made: Made, images: list[Path]) -> None:
    processor = load_processor(HFVisionLanguage(str(made(name))).settings)
    processor.tokenizer.padding_side = side
    collator = Collator(processor)
    pairs = [
        Pair(images[0], "Which emotion?", "awe because of the sky"),
        Pair(images[3], "Which emotion does it evoke, and why?", "contentment because the people are calm and bright"),
    ]
    collator.check(pairs)
    told = collator.trained_on(collator(pairs))
    assert [text.split() for text in told] == [f"{pair.answer}{collator.end}".split() for pair in pairs]


@pytest.mark.parametrize("name", TRAINED)
def test_lora_reaches_language_and_projector_and_can_be_used(name: str, made: Made, tmp_path: Path) -> None:
    checkpoint, card = made(name), write_card(tmp_path)
    base = load_model(HFVisionLanguage(str(checkpoint)).settings)
    frozen, whole = (set(lora_layers(base, vision=vision)) for vision in (False, True))
    assert frozen < whole
    assert not any("lm_head" in layer for layer in whole)
    linear = {n for n, m in base.named_modules() if isinstance(m, torch.nn.Linear)}
    assert {n for n in linear if "language_model" in n} - {"lm_head"} <= frozen
    out = tmp_path / "lora"
    words = ["train", "llava", "--task", str(card), "--out", str(out), "--device", "cpu", f"checkpoint={checkpoint}"]
    settings = ["max_steps=2", "batch_size=2", "gradient_accumulation=1", "learning_rate=0.01", "rank=4", "vision=lora"]
    assert main([*words, *settings]) == 0
    answers = []
    for merge in (True, False):
        adapter = HFVisionLanguage(lora=str(out), device="cpu", max_new_tokens=6, merge=merge, probabilities=False)
        adapter.load()
        answers.append(asked(adapter, card)[0])
    assert answers[0] == answers[1]


@pytest.mark.parametrize("name", ["internvl", "qwen2.5-vl", "smolvlm2"])
def test_sixteen_paintings_are_learned_by_heart(name: str, tmp_path: Path) -> None:
    """Of random weights every layer has to learn, the last one too, which may be tied to the first."""
    checkpoint, card = build(name, tmp_path), write_card(tmp_path)
    base = load_model(HFVisionLanguage(str(checkpoint)).settings)
    for weights in base.parameters():
        if weights.dim() > 1:
            torch.nn.init.normal_(weights, std=0.08)
    base.save_pretrained(checkpoint)
    layers = "|".join(map(re.escape, [*lora_layers(base, vision=True), "lm_head"]))
    out = tmp_path / "lora"
    words = ["train", "llava", "--task", str(card), "--out", str(out), "--device", "cpu", f"checkpoint={checkpoint}"]
    settings = [*QUICK, "learning_rate=0.01", "max_steps=200", "schedule=linear", "save_every=1000"]
    assert main([*words, f"target_modules={layers}", *settings]) == 0
    adapter = HFVisionLanguage(lora=str(out), device="cpu", max_new_tokens=64, probabilities=False)
    adapter.load()
    answers, said = asked(adapter, card)
    exact = sum(a == s for a, s in zip(answers, said, strict=True))
    print(f"{name}: {exact} of 16 exact")
    assert exact >= 14


def test_thinking_is_off_unless_asked_for(made: Made, images: list[Path]) -> None:
    checkpoint = made("qwen3.5")
    quiet, thinking = loaded(checkpoint), loaded(checkpoint, thinking=True, probabilities=False)
    assert quiet._reader is not None
    assert thinking._reader is not None
    assert quiet._reader.render("Why?").endswith("</think>\n\n")
    assert thinking._reader.render("Why?").endswith("<think>\n")
    assert thinking._reader.thinks_first
    outcome = only(quiet.predict([Item("a", images[0], LABELS, PROMPT)]))
    assert not isinstance(outcome, Answer) or outcome.emotion_probs is not None


@pytest.mark.parametrize("name", [name for name in card_names() if (found := find_card(name)) and found.checkpoint])
def test_every_card_of_local_weights_stands_for_a_family(name: str, made: Made, images: list[Path]) -> None:
    card = find_card(name)
    assert card is not None
    adapter = loaded(made(FAMILY_OF_CARD[name]), **card.settings)
    assert len(adapter.predict([Item("a", images[0], LABELS, PROMPT)])) == 1
    assert adapter.runtime_info()["labels_scored_by"] is not None
