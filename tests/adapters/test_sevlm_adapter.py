"""SEVLM in the harness: train on a task, answer its items, fail alone, say what is missing."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from adapter_samples import LABELS, example, item
from PIL import Image
from transformers import CLIPVisionConfig, CLIPVisionModel

from harness.adapters.base import TrainRequest
from harness.adapters.sevlm import SEVLMAdapter, read_answer
from harness.cli import main
from harness.types import Answer, Example, Failed, Task, Unparsed, Usage, UserError
from sevlm import SEVLM
from sevlm.config import SEVLMConfig
from sevlm.generation import Generated

COLOURS = ("red", "green", "blue", "yellow")
SAID = ("fire", "leaves", "the deep sea", "sand")
EMOTIONS = ("fear", "contentment", "awe", "something else")
LEXICON = "fire\t-0.5\t0.9\t0.4\nsea\t0.3\t-0.6\t0.1\nleaf\t0.6\t-0.2\t0.2\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sevlm")
    torch.manual_seed(5)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    CLIPVisionModel(CLIPVisionConfig(image_size=32, patch_size=16, **sizes)).save_pretrained(folder / "tower")
    (folder / "lexicon.txt").write_text(LEXICON, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def paintings(folder: Path) -> list[Example]:
    found = []
    for colour, emotion, said in zip(COLOURS, EMOTIONS, SAID, strict=True):
        path = folder / f"{colour}.png"
        Image.new("RGB", (40, 36), colour).save(path)
        found.append(example(colour, path, (emotion, f"it looks like {said}")))
    return found


def request(folder: Path, paintings: Sequence[Example], out: Path, **changes: Any) -> TrainRequest:
    settings = {"config": "small", "image_encoder": f"clip:{folder / 'tower'}", "image_size": 32, "encoder_dim": 16}
    settings |= {"n_embd": 32, "n_layer": 1, "n_head": 2, "tokenizer": "train:400", "epochs": 120, "dropout": 0.0}
    settings |= {"learning_rate": 1.0e-2, "warmup_steps": 5, "feature_cache": str(folder / "features")}
    values: dict[str, Any] = {"lexicon": folder / "lexicon.txt", "device": "cpu", "settings": settings}
    values |= changes
    task = Task("colours", "jsonl", LABELS, illustrative=values.pop("illustrative", False))
    return TrainRequest(task=task, train=paintings, val=[], out=out, **values)


@pytest.fixture(scope="module")
def trained_sevlm(folder: Path, paintings: list[Example]) -> Path:
    out = folder / "data" / "checkpoint"
    SEVLMAdapter.train(request(folder, paintings, out))
    return out


@pytest.fixture(scope="module")
def adapter(trained_sevlm: Path) -> SEVLMAdapter:
    adapter = SEVLMAdapter(str(trained_sevlm), device="cpu")
    adapter.load()
    return adapter


def test_it_answers_what_it_was_taught_in_order(adapter: SEVLMAdapter, paintings: list[Example]) -> None:
    shown = [paintings[i] for i in (2, 0, 3, 1)]
    outcomes = adapter.predict([item(one.id, one.image) for one in shown])
    assert [(o.emotion, o.explanation) for o in outcomes if isinstance(o, Answer)] == [
        (one.annotations[0].emotion, one.annotations[0].explanation) for one in shown
    ]
    for outcome in outcomes:
        assert isinstance(outcome, Answer)
        assert outcome.emotion_probs is not None
        assert set(outcome.emotion_probs) == set(LABELS)
        assert sum(outcome.emotion_probs.values()) == pytest.approx(1)
        assert max(outcome.emotion_probs, key=lambda label: outcome.emotion_probs[label]) == outcome.emotion
        assert outcome.raw == f"{outcome.emotion} because {outcome.explanation}"
        assert outcome.usage.completion_tokens is not None


def test_the_vad_heads_numbers_are_brought_to_the_tasks_scales(adapter: SEVLMAdapter, paintings: list[Example]) -> None:
    shown = item("a", paintings[0].image)
    scales = {"valence": (1.0, 7.0), "arousal": (0.0, 1.0)}
    rated = [dataclasses.replace(shown, ratings=scales), dataclasses.replace(shown, ratings={"valence": (-1.0, 1.0)})]
    wide, raw, none = adapter.predict([*rated, shown])
    assert isinstance(wide, Answer)
    assert isinstance(raw, Answer)
    assert isinstance(none, Answer)
    assert none.ratings is None
    assert wide.ratings is not None
    assert raw.ratings is not None
    assert wide.ratings["valence"] == pytest.approx(4 + 3 * raw.ratings["valence"], abs=1e-4)
    known = adapter._model.config.vad_dimensions  # type: ignore[union-attr]
    assert set(wide.ratings) == {d for d in scales if d in known}


def test_out_of_memory_halves_the_batch_and_goes_on(
    adapter: SEVLMAdapter, paintings: list[Example], trained_sevlm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [item(one.id, one.image) for one in paintings]
    expected = adapter.predict(asked)
    cramped = SEVLMAdapter(str(trained_sevlm), device="cpu")
    cramped.load()
    generate, sizes, limit = cramped._model.generate, [], 2  # type: ignore[union-attr]

    def out_of_memory_above_two(images: Sequence[Any], *others: Any, **named: Any) -> Any:
        sizes.append(len(images))
        if len(images) > limit:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 ...")
        return generate(images, *others, **named)

    monkeypatch.setattr(cramped._model, "generate", out_of_memory_above_two)
    outcomes = cramped.predict(asked)
    assert sizes == [4, 2, 2]
    assert [o.raw for o in outcomes] == [o.raw for o in expected]
    assert cramped.runtime_info()["batch_limited_to"] == 2
    limit = 0
    assert [type(o) for o in cramped.predict(asked[:2])] == [Failed, Failed]


def test_half_precision_answers_the_same_and_says_so(
    adapter: SEVLMAdapter, paintings: list[Example], trained_sevlm: Path
) -> None:
    half = SEVLMAdapter(str(trained_sevlm), device="cpu", dtype="bf16")
    half.load()
    assert (half.runtime_info()["dtype"], adapter.runtime_info()["dtype"]) == ("bf16", "fp32")
    asked = [item(one.id, one.image) for one in paintings]
    for one, other in zip(half.predict(asked), adapter.predict(asked), strict=True):
        assert isinstance(one, Answer)
        assert isinstance(other, Answer)
        assert one.raw == other.raw
        assert one.emotion_probs == pytest.approx(other.emotion_probs, abs=0.05)
        assert sum(one.emotion_probs.values()) == pytest.approx(1)  # type: ignore[union-attr]


def test_every_run_asks_anew(trained_sevlm: Path, tmp_path: Path) -> None:
    """What the label head sees beside an image is no part of the response cache's keys, nor is SEVLM's code."""
    for name in ("first", "second"):
        what = ["--tasks", "demo", "--models", f"sevlm:checkpoint={trained_sevlm}", "--device", "cpu", "--limit", "2"]
        where = ["--data-root", str(tmp_path), "--out", str(tmp_path / name)]
        assert main(["run", *what, *where, "--no-report"]) == 0
        lines = (tmp_path / name / "outcomes" / "demo" / "sevlm.jsonl").read_text(encoding="utf-8").splitlines()
        assert [json.loads(line)["usage"]["cached"] for line in lines] == [None, None]


def test_images_are_scaled_ahead_and_each_once(
    adapter: SEVLMAdapter, paintings: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [item(one.id, one.image) for one in paintings]
    adapter.prefetch(asked)
    expected = adapter.predict(asked)
    adapter.prefetch(asked)
    for started in adapter._images._started.values():  # type: ignore[union-attr]
        started.result()
    encoder = adapter._model.image_encoder()  # type: ignore[union-attr]
    monkeypatch.setattr(encoder, "preprocess", None)  # nothing is left to scale
    assert [o.raw for o in adapter.predict(asked)] == [o.raw for o in expected]


@pytest.mark.slow
@pytest.mark.parametrize("is_rated", [True, False])
def test_where_people_gave_labels_and_ratings_it_learns_both(
    folder: Path, paintings: list[Example], tmp_path: Path, is_rated: bool
) -> None:
    """The VAD head learns what people felt; without ratings it has nothing to learn from labels alone."""
    felt = [{"valence": 2.0 + i, "arousal": 0.9 - 0.2 * i} if is_rated else {} for i in range(len(paintings))]
    labelled = [
        dataclasses.replace(p, annotations=(dataclasses.replace(p.annotations[0], explanation=""),), ratings=ratings)
        for p, ratings in zip(paintings, felt, strict=True)
    ]
    scales = {"valence": (1.0, 7.0), "arousal": (0.0, 1.0)} if is_rated else {}
    asked = request(folder, labelled, tmp_path / "out")
    task = dataclasses.replace(asked.task, explanations=False, ratings=scales)
    SEVLMAdapter.train(dataclasses.replace(asked, task=task))
    found = SEVLMAdapter(str(tmp_path / "out"), lexicon=str(folder / "lexicon.txt"), device="cpu")
    found.load()
    wanted = {"valence": (1.0, 7.0), "arousal": (0.0, 1.0)}
    items = [dataclasses.replace(item(p.id, p.image), explanations=False, ratings=wanted) for p in paintings]
    for painting, ratings, outcome in zip(paintings, felt, found.predict(items), strict=True):
        assert isinstance(outcome, Answer)
        assert (outcome.emotion, outcome.explanation) == (painting.annotations[0].emotion, "")
        if is_rated:
            assert outcome.ratings == pytest.approx(ratings, abs=0.25)
        else:
            assert outcome.ratings is None


def test_a_corrupt_picture_fails_alone(adapter: SEVLMAdapter, paintings: list[Example], corrupt: Path) -> None:
    pictures = [paintings[0].image, corrupt, paintings[1].image]
    outcomes = adapter.predict([item(str(i), path) for i, path in enumerate(pictures)])
    assert [type(outcome) for outcome in outcomes] == [Answer, Failed, Answer]
    assert isinstance(outcomes[1], Failed)
    assert "corrupt.jpg" in outcomes[1].message
    alone = adapter.predict([item("bad", corrupt)])
    assert isinstance(alone[0], Failed)


def test_labels_come_from_the_task(adapter: SEVLMAdapter, paintings: list[Example]) -> None:
    other = ("joy", "anger")
    items = [item("a", paintings[0].image, other), item("b", paintings[0].image)]
    outcomes = adapter.predict(items)
    assert isinstance(outcomes[0], Unparsed)  # "fear" is no label there
    assert isinstance(outcomes[1], Answer)
    assert outcomes[0].raw == outcomes[1].raw


@pytest.mark.parametrize(
    ("emotion", "explanation", "kind"),
    [("awe", "the sea", Answer), ("awe", "", Unparsed), ("joy", "the sea", Unparsed), ("", "the sea", Unparsed)],
)
def test_only_a_label_and_a_reason_are_an_answer(emotion: str, explanation: str, kind: type) -> None:
    text = f"{emotion} because {explanation}"
    outcome = read_answer(Generated(text, emotion, explanation, True, None, (1, 2)), LABELS, Usage())
    assert type(outcome) is kind
    assert outcome.raw == text


def test_a_caption_is_cut_after_its_last_because() -> None:
    text = "awe because the sea is wide because the wind blows"
    generated = Generated(text, "awe", "the wind blows", False, {"awe": 1.0}, (1, 2))
    outcome = read_answer(generated, LABELS, Usage())
    assert outcome == Answer("awe", "the wind blows", {"awe": 1.0}, text, truncated=True)


def test_the_limit_of_tokens_is_kept(trained_sevlm: Path, paintings: list[Example]) -> None:
    adapter = SEVLMAdapter(str(trained_sevlm), device="cpu", max_new_tokens=1, probabilities=False)
    adapter.load()
    (outcome,) = adapter.predict([item("a", paintings[0].image)])
    assert isinstance(outcome, Unparsed)
    assert outcome.usage.completion_tokens == 1


def test_the_number_of_candidates_is_passed_on(
    trained_sevlm: Path, paintings: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int | None] = []
    generate = SEVLM.generate
    monkeypatch.setattr(
        SEVLM, "generate", lambda *given, **named: (asked.append(named["n_best"]), generate(*given, **named))[1]
    )
    for n_best in (None, 1, 3):
        adapter = SEVLMAdapter(str(trained_sevlm), device="cpu", n_best=n_best)
        adapter.load()
        (outcome,) = adapter.predict([item("a", paintings[0].image)])
        assert isinstance(outcome, Answer)
        assert outcome.explanation == f"it looks like {SAID[0]}"
    assert asked == [None, 1, 3]


def test_parameters_count_the_frozen_encoder(adapter: SEVLMAdapter) -> None:
    tower = sum(
        p.numel()
        for p in CLIPVisionModel(
            CLIPVisionConfig(
                image_size=32,
                patch_size=16,
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=1,
                num_attention_heads=2,
            )
        ).parameters()
    )
    assert adapter.parameters() == adapter.runtime_info()["trained_parameters"] + tower


def test_fingerprint_follows_weights_settings_and_lexicon(
    trained_sevlm: Path, adapter: SEVLMAdapter, tmp_path: Path
) -> None:
    fresh = SEVLMAdapter(str(trained_sevlm))
    assert fresh.fingerprint() == adapter.fingerprint()  # the same before and after loading
    json.dumps(fresh.fingerprint())
    assert SEVLMAdapter(str(trained_sevlm), max_new_tokens=3).fingerprint() != fresh.fingerprint()
    decodings = [SEVLMAdapter(str(trained_sevlm), n_best=n).fingerprint()["decoding"] for n in (None, 1, 4)]
    assert decodings == ["best of 8", "greedy", "best of 4"]
    copy = tmp_path / "copy"
    shutil.copytree(trained_sevlm, copy)
    assert SEVLMAdapter(str(copy)).fingerprint() == fresh.fingerprint()
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert SEVLMAdapter(str(copy)).fingerprint() != fresh.fingerprint()


def test_a_moved_lexicon_is_asked_for_and_another_is_refused(trained_sevlm: Path, folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(trained_sevlm, copy)
    summary = json.loads((copy / "training.json").read_text(encoding="utf-8"))
    summary["lexicon"]["source"] = "/moved/away.txt"
    (copy / "training.json").write_text(json.dumps(summary), encoding="utf-8")
    with pytest.raises(UserError, match=r"needs its VAD lexicon .*--lexicon FILE"):
        SEVLMAdapter(str(copy)).fingerprint()
    with pytest.raises(UserError, match="is not the lexicon that"):
        SEVLMAdapter(str(copy), lexicon="vader").fingerprint()
    SEVLMAdapter(str(copy), lexicon=str(folder / "lexicon.txt")).fingerprint()
    (copy / "training.json").unlink()  # a converted checkpoint has none
    with pytest.raises(UserError, match="--lexicon FILE"):
        SEVLMAdapter(str(copy)).fingerprint()


def test_training_without_a_lexicon_asks_for_one(folder: Path, paintings: list[Example], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="training on colours needs a VAD lexicon; add: --lexicon FILE"):
        SEVLMAdapter.train(request(folder, paintings, tmp_path / "out", lexicon=None))


def test_training_mistakes_are_user_errors(folder: Path, paintings: list[Example], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'epochs'"):
        SEVLMAdapter.train(request(folder, paintings, tmp_path / "out", settings={"epoch": 3}))
    with pytest.raises(UserError, match="expected demo, official, small"):
        SEVLMAdapter.train(request(folder, paintings, tmp_path / "out", settings={"config": "tiny"}))


@pytest.mark.slow
def test_an_illustrative_task_needs_no_lexicon(
    folder: Path, paintings: list[Example], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = dict(request(folder, paintings, tmp_path).settings) | {"epochs": 1, "image_mean": [0.5, 0.5, 0.5]}
    del base["config"]  # the demo recipe
    out = tmp_path / "out"
    SEVLMAdapter.train(request(folder, paintings, out, lexicon=None, illustrative=True, settings=base, seed=3))
    assert "not the published SEVLM" in capsys.readouterr().out
    summary = json.loads((out / "training.json").read_text(encoding="utf-8"))
    assert (summary["lexicon"]["name"], summary["recipe"]["training"]["seed"]) == ("vader", 3)
    adapter = SEVLMAdapter(str(out), device="cpu")
    adapter.load()
    assert "valence-only" in adapter.runtime_info()["note"]


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_is_not_there_is_a_users_mistake(
    device: str, trained_sevlm: Path, folder: Path, paintings: list[Example], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=f"device '{device}' cannot be used here"):
        SEVLMAdapter(str(trained_sevlm), device=device).load()
    with pytest.raises(UserError, match=f"device '{device}' cannot be used here"):
        SEVLMAdapter.train(request(folder, paintings, tmp_path / "out", device=device))


def test_a_mistyped_folder_is_not_taken_for_a_checkpoint_without_lexicon() -> None:
    with pytest.raises(UserError, match="no folder no/where, and the hub does not give it"):
        SEVLMAdapter("no/where").fingerprint()


def test_it_asks_for_meta_if_the_label_head_sees_it_wherever_the_checkpoint_is(
    trained_sevlm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    cached = tmp_path / "models--me--styled"
    (cached / "snapshots" / commit).mkdir(parents=True)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    SEVLMConfig(labels=("awe",), label_meta="style").save(cached / "snapshots" / commit / "config.json")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert SEVLMAdapter("me/styled").needs == {"references"}
    assert SEVLMAdapter(str(cached / "snapshots" / commit)).needs == {"references"}
    assert SEVLMAdapter(str(trained_sevlm)).needs == set()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"checkpoint": "/nowhere/at/all"}, "no checkpoint folder"),
        ({"checkpoint": "nowhere"}, "no checkpoint folder"),
        ({"dtype": "int8"}, "expected one of fp32"),
        ({"max_new_tokens": 0}, "expected at least 1"),
        ({"n_best": 0}, "n_best=0: expected at least 1"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], told: str, trained_sevlm: Path) -> None:
    with pytest.raises(UserError, match=told):
        SEVLMAdapter(**({"checkpoint": str(trained_sevlm)} | settings))
