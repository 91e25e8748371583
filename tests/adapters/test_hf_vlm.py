from __future__ import annotations

import dataclasses
import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from adapter_samples import LABELS, Picture, item
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoProcessor, LlavaForConditionalGeneration
from transformers import LlavaNextForConditionalGeneration as LlavaNext

from harness.adapters import hf_vlm
from harness.adapters.hf_checkpoint import CheckpointSettings, load_model, load_processor
from harness.adapters.hf_vlm import HFVisionLanguage
from harness.types import Answer, Failed, Item, Outcome, UserError

FAMILIES = ("llava-taught", "llava-next", "paligemma")


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("checkpoints")
    return {kind: tiny_models.build(kind, folder / kind) for kind in FAMILIES}


@pytest.fixture(scope="module")
def paintings(tmp_path_factory: pytest.TempPathFactory) -> list[Item]:
    """Eight pictures of different shapes, dark ones and bright ones in turn."""
    folder = tmp_path_factory.mktemp("paintings")
    items = []
    for number in range(8):
        path = folder / f"{number}.png"
        noise = Image.effect_noise((40 + 30 * number, 60 + 50 * (number % 3)), 30)
        noise.point([lambda v: v // 4, lambda v: 190 + v // 4][number % 2]).convert("RGB").save(path)
        items.append(item(str(number), path))
    return items


def loaded(checkpoint: Path, **settings: Any) -> HFVisionLanguage:
    adapter = HFVisionLanguage(checkpoint=str(checkpoint), device="cpu", **settings)
    adapter.load()
    return adapter


@pytest.fixture(scope="module")
def taught(checkpoints: dict[str, Path]) -> HFVisionLanguage:
    return loaded(checkpoints["llava-taught"])


def without_latency(outcome: Outcome) -> Outcome:
    return dataclasses.replace(outcome, usage=dataclasses.replace(outcome.usage, latency_s=None))


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


@pytest.mark.parametrize("family", FAMILIES)
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


def test_cut_off_answers(checkpoints: dict[str, Path], paintings: list[Item]) -> None:
    (outcome,) = loaded(checkpoints["llava-taught"], max_new_tokens=2).predict(paintings[:1])
    assert isinstance(outcome, Failed)
    assert outcome.error_type == "truncated"
    assert outcome.raw == "fear because"
    assert outcome.usage.completion_tokens == 2


def test_where_people_gave_labels_alone_a_label_is_an_answer(
    checkpoints: dict[str, Path], paintings: list[Item]
) -> None:
    alone = dataclasses.replace(paintings[0], explanations=False)
    bare, cut_off = loaded(checkpoints["llava-taught"], max_new_tokens=2).predict([alone, paintings[0]])
    assert isinstance(bare, Answer)
    assert (bare.emotion, bare.explanation) == ("fear", "")
    assert isinstance(cut_off, Failed)


def turned_into(kind: type, settings: CheckpointSettings) -> Any:
    """The checkpoint's model with the behaviour of a subclass."""
    model = load_model(settings)
    model.__class__ = kind
    return model


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
    monkeypatch.setattr(hf_vlm, "load_model", lambda settings: turned_into(Cramped, settings))
    adapter = loaded(checkpoints["llava-taught"])
    monkeypatch.setattr(Cramped, "asked", [])
    outcomes = adapter.predict(paintings)
    assert [without_latency(o).raw for o in outcomes] == [o.raw for o in taught.predict(paintings)]
    assert Cramped.asked == [8, 4, 2, 2, 2, 2]
    assert adapter.observed()["batch_limited_to"] == 2
    adapter.predict(paintings[:4])
    assert Cramped.asked[6:] == [2, 2]
    monkeypatch.setattr(Cramped, "limit", 0)
    failed = adapter.predict(paintings[:2])
    assert [type(outcome) for outcome in failed] == [Failed, Failed]
    assert "CUDA out of memory" in failed[0].message if isinstance(failed[0], Failed) else False


def test_a_prompt_without_a_place_for_the_picture_is_refused(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    blind = shutil.copytree(checkpoints["llava-next"], tmp_path / "blind")
    template = (blind / "chat_template.jinja").read_text()
    (blind / "chat_template.jinja").write_text(template.replace("<image>", ""))
    with pytest.raises(UserError, match=r"0 <image> tokens|no place for the picture"):
        loaded(blind)


class Dropping:
    """The processor of a text-only checkpoint: takes the pictures and leaves them out."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    def __getattr__(self, name: str) -> Any:
        return getattr(self.processor, name)

    def __call__(self, images: Any, text: list[str], **settings: Any) -> Any:
        return self.processor(text=[prompt.replace("<image>", "") for prompt in text], **settings)


def test_a_processor_that_drops_the_picture_is_refused(
    checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hf_vlm, "load_processor", lambda settings: Dropping(load_processor(settings)))
    with pytest.raises(UserError, match="no place for the picture"):
        loaded(checkpoints["llava-next"])


def test_a_model_that_ignores_its_pictures_is_refused(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    blind = shutil.copytree(checkpoints["llava-taught"], tmp_path / "blind")
    weights = load_file(blind / "model.safetensors")
    projector = {name: torch.zeros_like(w) for name, w in weights.items() if "multi_modal_projector" in name}
    assert projector
    save_file(weights | projector, blind / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match="does not look at pictures"):
        loaded(blind)


class Shifted(LlavaNext):
    """Counts positions in its own way, which only its generation knows."""

    def prepare_inputs_for_generation(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        pixel_values: Any = None,
        image_sizes: Any = None,
        **known: Any,
    ) -> Any:
        if pixel_values is None and known.get("next_sequence_length") is None:  # not called by generate
            known["position_ids"] = known["position_ids"] + 7
        pictures = {"pixel_values": pixel_values, "image_sizes": image_sizes}
        return super().prepare_inputs_for_generation(input_ids, attention_mask=attention_mask, **pictures, **known)


def test_label_scores_that_disagree_with_generation_are_refused(
    checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hf_vlm, "load_model", lambda settings: turned_into(Shifted, settings))
    with pytest.raises(UserError, match=r"off by .*probabilities=false"):
        loaded(checkpoints["llava-next"])
    assert loaded(checkpoints["llava-next"], probabilities=False).parameters() == 83_200


def test_half_precision_runs(checkpoints: dict[str, Path], paintings: list[Item]) -> None:
    adapter = loaded(checkpoints["llava-taught"], dtype="bf16", attention="eager")
    assert adapter.observed()["dtype"] == "bfloat16"
    assert [o.raw for o in adapter.predict(paintings[:2])] == [tiny_models.DARK, tiny_models.BRIGHT]


def test_the_fingerprint_follows_the_files_not_the_place(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    original = HFVisionLanguage(checkpoint=str(checkpoints["paligemma"]))
    copy = shutil.copytree(checkpoints["paligemma"], tmp_path / "paligemma")
    assert HFVisionLanguage(checkpoint=str(copy)).fingerprint() == original.fingerprint()
    assert HFVisionLanguage(str(copy), max_new_tokens=5).fingerprint() != original.fingerprint()
    config = json.loads((copy / "generation_config.json").read_text())
    changed = shutil.copytree(copy, tmp_path / "changed" / "paligemma")
    (changed / "generation_config.json").write_text(json.dumps(config | {"repetition_penalty": 1.1}))
    assert HFVisionLanguage(checkpoint=str(changed)).fingerprint() != original.fingerprint()
    json.dumps(original.fingerprint())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dtype": "int8"}, "dtype=int8: expected one of fp32, bf16, fp16"),
        ({"quantization": "2bit"}, "expected one of 4bit, 8bit"),
        ({"device": "cpu", "device_map": "auto"}, "exclude each other"),
        ({"checkpoint": "/no/such/folder"}, "llava:checkpoint=PATH"),
        ({"max_new_tokens": 0}, "expected at least 1"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_once(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        HFVisionLanguage(**settings)


@pytest.mark.parametrize("kind", ["hub id", "empty folder", "text only", "bitsandbytes"])
def test_checkpoints_that_cannot_be_loaded(
    kind: str, tmp_path: Path, checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = HFVisionLanguage(checkpoint=str(tmp_path))
    match kind:
        case "hub id":
            adapter = HFVisionLanguage(checkpoint="llava-hf/not-in-the-cache")
        case "text only":
            tiny_models.tokenizer().save_pretrained(tmp_path)
        case "bitsandbytes":
            monkeypatch.setitem(sys.modules, "bitsandbytes", None)  # as if it were not installed
            adapter = HFVisionLanguage(checkpoint=str(checkpoints["paligemma"]), quantization="4bit")
    with pytest.raises(UserError) as raised:
        adapter.load()
    message = str(raised.value)
    assert "\n" not in message
    wanted = {"text only": "checkpoint", "bitsandbytes": "[quantization]"}
    assert wanted.get(kind, "type llava:checkpoint=PATH|HUB_ID") in message


def test_before_loading_nothing_is_answered(picture: Picture) -> None:
    with pytest.raises(UserError, match="after load"):
        HFVisionLanguage().predict([item("a", picture())])
    assert HFVisionLanguage().fingerprint()["checkpoint"] == "llava-hf/llava-1.5-7b-hf"
