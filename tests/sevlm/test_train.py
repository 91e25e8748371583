"""Training through its public function: what it writes, that it resumes exactly, what it refuses."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import random
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny_training import LEXICON, make_examples, save_tower, tiny_recipes, train_tiny
from torch.utils._python_dispatch import TorchDispatchMode
from tqdm import tqdm
from transformers import CLIPVisionConfig, CLIPVisionModel

from sevlm import SEVLM
from sevlm.config import SEVLMError
from sevlm.data import Collator, PairSampler, TrainingExample
from sevlm.recipe import Recipe, prepare
from sevlm.train import Trainer, train
from sevlm.vad import VADLookup, load_lexicon

pytestmark = pytest.mark.slow
aten = torch.ops.aten


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    save_tower(folder / "tower")
    (folder / "lexicon.txt").write_text(LEXICON, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def examples(folder: Path) -> list[TrainingExample]:
    return make_examples(folder)


@pytest.fixture(scope="module")
def recipe(folder: Path) -> Callable[..., Recipe]:
    return tiny_recipes(folder)


def run(recipe: Recipe, examples: list[TrainingExample], out: Path, validation: int = 2) -> dict[str, Any]:
    return train(recipe, examples[validation:], examples[:validation], out, device="cpu", progress=False)


@pytest.fixture(scope="module")
def whole(recipe: Callable[..., Recipe], examples: list[TrainingExample], folder: Path) -> tuple[Path, dict[str, Any]]:
    out = folder / "whole"
    return out, run(recipe(), examples, out)


def log_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "training_log.jsonl").read_text(encoding="utf-8").splitlines()]


def test_the_checkpoint_loads_and_speaks(whole: tuple[Path, dict[str, Any]], folder: Path) -> None:
    model = SEVLM.from_pretrained(whole[0])
    assert model.config.vad_dimensions == ("valence", "arousal", "dominance")
    lookup = VADLookup.from_config(model.config, load_lexicon(folder / "lexicon.txt"))
    answers = model.generate(torch.zeros(2, 4, 16), ["awe", "fear"], lookup)
    assert len(answers) == 2
    assert all(sum(answer.label_probs.values()) == pytest.approx(1) for answer in answers if answer.label_probs)


def test_the_summary_says_what_happened(whole: tuple[Path, dict[str, Any]]) -> None:
    out, summary = whole
    assert json.loads((out / "training.json").read_text(encoding="utf-8")) == json.loads(json.dumps(summary))
    assert (summary["pictures"], summary["captions"], summary["validation_pictures"]) == (6, 15, 2)
    assert summary["updates"] == summary["planned_updates"] == 3 * 2
    assert "compile" not in summary["identity"]["training"]  # nor was it before the setting was there
    assert summary["lexicon"]["name"] == "nrc-vad-bipolar"
    assert 0 < summary["lexicon"]["coverage"] < 0.5
    assert summary["truncated"] == 0
    assert len(summary["evaluations"]) == 3
    assert summary["kept_scores"]["bleu_4"] == max(e["bleu_4"] for e in summary["evaluations"])
    assert {"image_encoder", "causal_vad_encoder", "decoder_init"} <= set(summary["departures_from_published"])
    leftovers = {path.name for path in out.iterdir()} - {"model.safetensors", "config.json", "tokenizer", "README.md"}
    assert leftovers == {"training.json", "training_log.jsonl"}


def test_the_log_holds_every_update(whole: tuple[Path, dict[str, Any]]) -> None:
    losses = [line for line in log_of(whole[0]) if "loss" in line]
    assert [line["update"] for line in losses] == list(range(1, 7))
    for line in losses:
        parts = sum(line[name] for name in ("lm_loss", "contrastive_loss", "vad_loss", "label_loss"))
        assert line["loss"] == pytest.approx(parts, abs=1e-5)


class Interrupted(Trainer):
    """Stops before an update, as a key press would."""

    stop_at = 3

    def _update(self, bar: tqdm[Any]) -> None:
        if self.progress.update == self.stop_at:
            raise KeyboardInterrupt
        super()._update(bar)


@pytest.mark.parametrize("attempt", range(5))
def test_a_training_interrupted_anywhere_resumes_to_the_same_weights(
    attempt: int,
    whole: tuple[Path, dict[str, Any]],
    recipe: Callable[..., Recipe],
    examples: list[TrainingExample],
    tmp_path: Path,
) -> None:
    out = tmp_path / "halves"
    trainer = Interrupted(prepare(recipe(), examples[2:], examples[:2], out, "cpu", False), out, False)
    trainer.stop_at = random.Random(f"stop {attempt}").randrange(6)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    summary = run(recipe(), examples, out)
    expected, found = (load_file(path / "model.safetensors") for path in (whole[0], out))
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert log_of(out) == log_of(whole[0])
    assert summary["evaluations"] == whole[1]["evaluations"]


def test_features_that_go_missing_end_the_training_and_its_thread(
    recipe: Callable[..., Recipe], examples: list[TrainingExample], tmp_path: Path
) -> None:
    setup = prepare(recipe(feature_cache=str(tmp_path / "features")), examples, [], tmp_path / "out", "cpu", False)
    before = set(threading.enumerate())
    for file in (tmp_path / "features").rglob("*.safetensors"):
        file.unlink()
    with pytest.raises(FileNotFoundError, match="safetensors"):
        Trainer(setup, tmp_path / "out", False).run()
    assert set(threading.enumerate()) <= before


class Waits(TorchDispatchMode):
    """Notes what would make the host wait for a GPU: reading a value, counting a mask, sending it a new tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        operation = func.overloadpacket
        masked = operation is aten.index and any(i is not None and i.dtype == torch.bool for i in args[1])
        if masked or operation in (aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.lift_fresh):
            self.found.append(str(operation))
        return func(*args, **(kwargs or {}))


class Watched(Trainer):
    """Watches what the thread of the updates waits for; in the first, some things are sent once."""

    def _update(self, bar: tqdm[Any]) -> None:
        with Waits() as waits:
            super()._update(bar)
        assert not waits.found or self.progress.update == 1


@pytest.mark.parametrize("settings", [{"accumulate": 2}, {"mode": "official", "lemmatizer": "identity"}], ids=str)
def test_an_update_that_is_not_logged_waits_for_nothing(
    settings: dict[str, Any], recipe: Callable[..., Recipe], examples: list[TrainingExample], tmp_path: Path
) -> None:
    long = recipe(log_every=100, batch_pictures=2, max_grad_norm=1.0, **settings)
    Watched(prepare(long, examples, [], tmp_path, "cpu", False), tmp_path, False).run()


def test_a_batch_can_be_copied_as_it_lies(
    recipe: Callable[..., Recipe], examples: list[TrainingExample], tmp_path: Path
) -> None:
    setup = prepare(recipe(), examples, [], tmp_path, "cpu", False)
    pairs = PairSampler(setup.train.examples, "every-caption", seed=0).epoch(0)
    batch = Collator(setup.train, setup.store, "cpu")(pairs, random.Random(0))
    assert batch.input_ids.shape[1] < setup.model.config.max_length
    parts = [getattr(batch, entry.name) for entry in dataclasses.fields(batch)]
    tensors = [one for part in parts for one in ([part] if isinstance(part, torch.Tensor) else part)]
    assert all(tensor.is_contiguous() for tensor in tensors)


def test_another_training_is_not_resumed(
    recipe: Callable[..., Recipe], examples: list[TrainingExample], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    trainer = Interrupted(prepare(recipe(), examples, [], out, "cpu", False), out, False)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    with pytest.raises(SEVLMError, match="interrupted training with other training, training data"):
        train(recipe(learning_rate=0.5), examples[1:], [], out, "cpu", False)
    repainted = tmp_path / examples[0].image_path.name
    Image.new("RGB", (40, 36), "pink").save(repainted)
    other = [dataclasses.replace(examples[0], image_path=repainted), *examples[1:]]
    with pytest.raises(SEVLMError, match="interrupted training with other training data;"):
        train(recipe(), other, [], out, "cpu", False)


def test_a_finished_training_is_left_as_it_is(
    whole: tuple[Path, dict[str, Any]], recipe: Callable[..., Recipe], examples: list[TrainingExample]
) -> None:
    before = {path: path.read_bytes() for path in whole[0].rglob("*") if path.is_file()}
    assert run(recipe(), examples, whole[0]) == whole[1]
    with pytest.raises(SEVLMError, match="a finished training with other training data, validation data"):
        run(recipe(), examples[1:], whole[0])
    assert {path: path.read_bytes() for path in whole[0].rglob("*") if path.is_file()} == before


def test_seeds_decide_the_weights(
    whole: tuple[Path, dict[str, Any]], recipe: Callable[..., Recipe], examples: list[TrainingExample], tmp_path: Path
) -> None:
    run(recipe(seed=0), examples, tmp_path / "same")
    run(recipe(seed=1), examples, tmp_path / "other")
    files = [load_file(path / "model.safetensors") for path in (whole[0], tmp_path / "same", tmp_path / "other")]
    name = "decoder.ln_f.weight"
    assert torch.equal(files[0][name], files[1][name])
    assert not torch.equal(files[0][name], files[2][name])


def test_nothing_gained_stops_early(
    recipe: Callable[..., Recipe], examples: list[TrainingExample], tmp_path: Path
) -> None:
    still = recipe(learning_rate=1.0e-12, vad_learning_rate=1.0e-12, epochs=20, patience=2)
    summary = run(still, examples, tmp_path / "out")
    assert summary["stopped_early"]
    assert summary["epochs"] == 3  # the first evaluation is a gain, two without one follow


def test_the_published_mode_trains_without_validation(
    recipe: Callable[..., Recipe], examples: list[TrainingExample], tmp_path: Path
) -> None:
    official = recipe(mode="official", lemmatizer="identity", sampling="last-caption", precision="bf16", epochs=1)
    summary = run(official, examples, tmp_path / "out", validation=0)
    assert not {"causal_vad_encoder", "lexicon"} & set(summary["departures_from_published"])
    assert summary["kept_update"] == summary["updates"] == 3
    model = SEVLM.from_pretrained(tmp_path / "out")
    assert (model.config.fusion_boundary, model.config.vad_lookup) == ("fixed6", "piece")
    assert all(bool(torch.isfinite(value).all()) for value in model.state_dict().values())


def test_both_best_checkpoints_are_kept(whole: tuple[Path, dict[str, Any]]) -> None:
    out, summary = whole
    kept, chosen = summary["kept_updates"], summary["kept_update"]
    assert kept["bleu_4"] == chosen
    for score in ("accuracy", "bleu_4"):
        best = max(e[score] for e in summary["evaluations"])
        assert next(e["update"] for e in summary["evaluations"] if e[score] == best) == kept[score]
    folders = {path.name for path in out.glob("best-*")}
    assert folders == ({"best-accuracy"} if kept["accuracy"] != chosen else set())


def test_accumulated_batches_equal_one_large_batch(
    recipe: Callable[..., Recipe], examples: list[TrainingExample], tmp_path: Path
) -> None:
    """Unequal numbers of tokens and of known words per batch must not matter."""
    settings = {"dropout": 0.0, "use_contrastive_head": False, "epochs": 2}
    run(recipe(batch_pictures=4, **settings), examples, tmp_path / "large", validation=0)
    run(recipe(batch_pictures=2, accumulate=2, **settings), examples, tmp_path / "small", validation=0)
    large, small = (load_file(tmp_path / name / "model.safetensors") for name in ("large", "small"))
    for name, value in large.items():
        torch.testing.assert_close(small[name], value, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("contrastive", "alone"),
    [(False, {"batch_pictures": 4}), (True, {"batch_pictures": 2, "accumulate": 2})],
    ids=["twice the batch", "the same groups for the contrastive head"],
)
def test_two_processes_equal_one(
    contrastive: bool, alone: dict[str, int], folder: Path, examples: list[TrainingExample], tmp_path: Path
) -> None:
    """Three batches of two pictures for two processes: in the last update the second process has none.

    Negatives are drawn within a batch, so the contrastive loss is compared over batches of the same pictures: one
    process then accumulates what two compute at once, and all losses are divided by the counts of the whole update.
    """
    assert len(examples) == 8  # the pictures are there before three processes read them
    ports = socket.socket()
    ports.bind(("127.0.0.1", 0))
    environment = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(ports.getsockname()[1])}
    environment |= {"WORLD_SIZE": "2", "ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}
    ports.close()
    script = Path(__file__).with_name("tiny_training.py")
    workers = [
        subprocess.Popen(
            [sys.executable, str(script), str(folder), str(tmp_path / "two"), str(contrastive)],
            env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    train_tiny(folder, tmp_path / "one", contrastive=contrastive, **alone)
    assert [worker.wait(timeout=120) for worker in workers] == [0, 0]
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=1e-5, rtol=0)
    assert json.loads((tmp_path / "two" / "training.json").read_text(encoding="utf-8"))["processes"] == 2
    assert [line["update"] for line in log_of(tmp_path / "two")] == [1, 2, 3, 4]
    for line, other in zip(log_of(tmp_path / "one"), log_of(tmp_path / "two"), strict=True):
        assert other == pytest.approx(line, abs=1e-5)
    assert ("contrastive_loss" in log_of(tmp_path / "two")[0]) == contrastive


def test_tensorboard_holds_the_log(
    recipe: Callable[..., Recipe], examples: list[TrainingExample], tmp_path: Path
) -> None:
    pytest.importorskip("tensorboard", reason="extra [tensorboard] is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(recipe(tensorboard=True, epochs=1), examples, tmp_path / "out")
    events = EventAccumulator(str(tmp_path / "out" / "tensorboard"))
    events.Reload()
    written = {event.step: event.value for event in events.Scalars("lm_loss")}
    logged = {line["update"]: line["lm_loss"] for line in log_of(tmp_path / "out") if "lm_loss" in line}
    assert written == pytest.approx(logged)
    assert [event.step for event in events.Scalars("evaluation/accuracy")] == [2]


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_schedule_is_followed(
    schedule: str, recipe: Callable[..., Recipe], examples: list[TrainingExample], tmp_path: Path
) -> None:
    settings = {"schedule": schedule, "learning_rate": 0.1, "vad_learning_rate": 0.1, "warmup_steps": 1}
    run(recipe(**settings, max_grad_norm=1e-3), examples, tmp_path / "out", validation=0)
    rates = [line["learning_rate"] for line in log_of(tmp_path / "out")]
    shares = [(9 - update - 0) / 8 for update in range(1, 10)]  # of the way to the end, after each update
    expected = shares if schedule == "linear" else [0.5 * (1 - math.cos(math.pi * share)) for share in shares]
    assert rates == pytest.approx([0.1 * value for value in expected])


def test_batches_are_accumulated(
    recipe: Callable[..., Recipe], examples: list[TrainingExample], tmp_path: Path
) -> None:
    summary = run(recipe(accumulate=2, batch_pictures=2, epochs=2), examples, tmp_path / "out", validation=0)
    assert summary["updates"] == 2 * 2  # 4 batches per epoch, two per update


def test_training_goes_on_from_a_checkpoint(
    whole: tuple[Path, dict[str, Any]], recipe: Callable[..., Recipe], examples: list[TrainingExample], tmp_path: Path
) -> None:
    tiny_steps = recipe(init_from=str(whole[0]), learning_rate=1.0e-9, vad_learning_rate=1.0e-9, epochs=1)
    run(tiny_steps, examples, tmp_path / "out")
    before, after = (load_file(path / "model.safetensors") for path in (whole[0], tmp_path / "out"))
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, atol=1e-5, rtol=0)


def test_a_lexicon_of_more_dimensions_is_seen_when_training_goes_on(
    recipe: Callable[..., Recipe], examples: list[TrainingExample], folder: Path, tmp_path: Path
) -> None:
    run(recipe(lexicon="vader", epochs=1), examples, tmp_path / "valence")
    further = recipe(init_from=str(tmp_path / "valence"))
    model = prepare(further, examples, [], tmp_path / "out", "cpu", False).model.eval()
    model.save_pretrained(tmp_path / "saved")
    values = torch.rand(1, 5, 3)
    seen, read = model.encode_vad(values), SEVLM.from_pretrained(tmp_path / "saved").encode_vad(values)
    assert seen is not None
    assert read is not None
    assert torch.equal(seen, read)


@pytest.mark.parametrize("inner", ["", "nle_model_best-res"])
def test_training_goes_on_from_a_released_checkpoint(
    inner: str,
    golden: Path,
    official_model: SEVLM,
    recipe: Callable[..., Recipe],
    examples: list[TrainingExample],
    folder: Path,
    tmp_path: Path,
) -> None:
    config = official_model.config
    sizes = {
        "hidden_size": config.encoder_dim,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    tower = CLIPVisionConfig(image_size=config.image_size, patch_size=config.image_size // 2, **sizes)
    CLIPVisionModel(tower).save_pretrained(tmp_path / "tower")
    frozen = {"learning_rate": 1.0e-9, "vad_learning_rate": 1.0e-9, "epochs": 1}
    anew = {"image_encoder": f"clip:{tmp_path / 'tower'}", "lemmatizer": "identity"}
    start = {"init_from": str(golden / inner), **anew}
    run(recipe(**start, **frozen, feature_cache=str(tmp_path / "features")), examples, tmp_path / "out", validation=0)
    trained = SEVLM.from_pretrained(tmp_path / "out")
    lexicon = load_lexicon(folder / "lexicon.txt")
    remembered = {"lexicon_name": lexicon.name, "lexicon_sha256": lexicon.fingerprint()}
    assert trained.config == dataclasses.replace(config, **anew, **remembered)
    for name, value in official_model.state_dict().items():
        torch.testing.assert_close(trained.state_dict()[name], value, atol=1e-5, rtol=0)


def test_unreadable_pictures_are_left_out_and_listed(
    recipe: Callable[..., Recipe], examples: list[TrainingExample], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    bad = [TrainingExample("bad", broken, (("awe", "x"),)), TrainingExample("gone", tmp_path / "gone", (("awe", "x"),))]
    summary = train(recipe(epochs=1), [*examples[:4], *bad], [], tmp_path / "out", "cpu", False)
    assert summary["pictures"] == 4
    assert set(summary["unreadable"]) == {str(broken), str(tmp_path / "gone")}
    with pytest.raises(SEVLMError, match="no training image can be read"):
        train(recipe(), bad, [], tmp_path / "other", "cpu", False)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"lexicon": ""}, "needs a VAD lexicon"),
        ({"lexicon": "/nowhere.txt"}, "no lexicon file"),
        ({"tokenizer": "train:many"}, "train:SIZE"),
        ({"decoder_init": "/nowhere"}, "decoder_init '/nowhere' cannot be loaded"),
        ({"prefix_length": 2}, "set prefix_length to 0"),
        ({"init_from": "/nowhere/at/all"}, "no SEVLM checkpoint"),
        ({"precision": "fp16"}, "fp16 needs a CUDA device"),
        ({"feature_cache_gb": 1.0e-9, "image_resize": "crop"}, "feature_cache_gb allows"),
    ],
)
def test_mistakes_are_told(
    settings: dict[str, Any],
    told: str,
    recipe: Callable[..., Recipe],
    examples: list[TrainingExample],
    tmp_path: Path,
) -> None:
    with pytest.raises(SEVLMError, match=told):
        run(recipe(**settings), examples, tmp_path / "out")


def test_no_examples_are_refused(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    with pytest.raises(SEVLMError, match="no training example"):
        train(recipe(), [], [], tmp_path / "out", "cpu", False)


def test_a_valence_lexicon_is_confessed_in_the_card(
    recipe: Callable[..., Recipe], examples: list[TrainingExample], tmp_path: Path
) -> None:
    summary = run(recipe(lexicon="vader", epochs=1, mode="official", lemmatizer="identity"), examples, tmp_path / "out")
    assert summary["lexicon"]["dimensions"] == ["valence"]
    assert "lexicon" in summary["departures_from_published"]
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "Not the published SEVLM" in card
    assert SEVLM.from_pretrained(tmp_path / "out").config.vad_dimensions == ("valence",)
