"""Learning from another model's outcomes: which are usable, which are refused, and what comes of them."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transformers import CLIPVisionConfig, CLIPVisionModel

from harness.store.outcomes import OutcomeLog
from harness.store.teacher import LEAST_SHARE, read_teacher
from harness.types import Annotation, Answer, Example, Failed, Outcome, Refusal, Task, Unparsed, UserError

LABELS = ("joy", "calm", "fear")
TASK = Task("tiny", "jsonl", LABELS)
COLOURS = ("red", "green", "blue", "yellow", "purple", "orange")


def example(identifier: str, image: str, split: str = "train") -> Example:
    return Example(identifier, Path(image), (Annotation("joy", "it is bright"),), {"joy": 1}, split)


TRAIN = [example(f"t{i}", f"pictures/artist_work-{i}.jpg") for i in range(6)]
TEST = [example("x1", "pictures/artist_other-1.jpg", "test"), example("x2", "pictures/artist_other-2.jpg", "test")]


def write(path: Path, *outcomes: tuple[str, Outcome]) -> Path:
    with OutcomeLog(path) as log:
        for identifier, outcome in outcomes:
            log.append(identifier, outcome)
    return path


probabilities = st.none() | st.dictionaries(
    st.sampled_from(LABELS), st.floats(0, allow_nan=False, allow_infinity=False), max_size=3
)
said = st.one_of(
    st.builds(
        Answer,
        st.sampled_from(LABELS),
        st.sampled_from(["the light", "a storm comes", " ", ""]),
        probabilities,
        truncated=st.booleans(),
    ),
    st.just(Answer("", "words alone")),
    st.builds(Refusal, st.text(max_size=5)),
    st.builds(Unparsed, st.text(max_size=5)),
    st.just(Failed("timeout", "late")),
)


@given(st.lists(st.tuples(st.sampled_from(["t0", "t1", "t2", "t3", "elsewhere"]), said), min_size=1, max_size=12))
def test_what_is_usable_is_read_and_the_rest_is_counted(
    tmp_path_factory: pytest.TempPathFactory, outcomes: list[tuple[str, Outcome]]
) -> None:
    path = write(tmp_path_factory.mktemp("teacher") / "large.jsonl", *outcomes)
    last = dict(outcomes)
    usable = {
        identifier: outcome
        for identifier, outcome in last.items()
        if isinstance(outcome, Answer) and identifier != "elsewhere" and outcome.emotion
        if outcome.explanation.strip() and not outcome.truncated
    }
    if not usable:
        with pytest.raises(UserError, match=f"no usable outcome among {len(last)}"):
            read_teacher("large", path, TASK, TRAIN, TEST)
        return
    found = read_teacher("large", path, TASK, TRAIN, TEST)
    assert found.source == {"file": "large.jsonl", "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    assert found.answers.keys() == usable.keys()
    for identifier, wanted in usable.items():
        answer = found.answers[identifier]
        assert (answer.emotion, answer.explanation) == (wanted.emotion, wanted.explanation)
        exact = {label: Fraction(p) for label, p in (wanted.emotion_probs or {}).items() if p}
        if not exact:
            assert answer.emotion_probs is None
            continue
        assert answer.emotion_probs is not None
        assert sum(answer.emotion_probs.values()) == pytest.approx(1)
        for label, share in exact.items():
            shown = answer.emotion_probs.get(label, 0.0)
            assert shown == pytest.approx(float(share / sum(exact.values())), abs=3 * LEAST_SHARE)
            assert not 0 < shown < LEAST_SHARE / len(LABELS)


def test_it_says_what_was_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(
        tmp_path / "large.jsonl",
        ("t0", Answer("joy", "the light")),
        ("t1", Refusal("I would rather not")),
        ("t2", Refusal("no")),
        ("t3", Failed("timeout", "late")),
        ("t4", Answer("fear", "the dark and", truncated=True)),
        ("t5", Unparsed("hm")),
        ("elsewhere", Answer("joy", "the light")),
    )
    read_teacher("large", path, TASK, TRAIN, TEST)
    told = capsys.readouterr().err
    assert told.startswith("teacher large: 1 of 7 outcomes are learned; 2 left out: refusal; ")
    for reason in ("1 left out: failed", "unparsed", "not in the training split", "explanation missing or cut off"):
        assert reason in told
    labels_alone = Task("tiny", "jsonl", LABELS, explanations=False)
    path = write(tmp_path / "labels.jsonl", ("t0", Answer("joy", "")), ("t1", Answer("fear", "the dark")))
    assert read_teacher("labels", path, labels_alone, TRAIN, TEST).answers.keys() == {"t0", "t1"}


@pytest.mark.parametrize(
    ("outcome", "message"),
    [
        (Answer("awe", "the light"), "'t0': emotion 'awe' is no label of task 'tiny'"),
        (Answer("joy", "the light", {"joy": 0.5, "awe": 0.5}), "'t0': emotion 'awe' is no label of task 'tiny'"),
    ],
)
def test_labels_of_another_task_are_refused(tmp_path: Path, outcome: Outcome, message: str) -> None:
    path = write(tmp_path / "large.jsonl", ("t1", Answer("joy", "the light")), ("t0", outcome))
    with pytest.raises(UserError, match=message):
        read_teacher("large", path, TASK, TRAIN, TEST)


@pytest.mark.parametrize(
    "line",
    ["{", '["t1"]', '{"id": 1, "emotion": "joy"}', '{"id": "t1", "emotion": "joy", "emotion_probs": {"joy": -1}}'],
)
def test_a_corrupt_line_is_refused_with_its_number(tmp_path: Path, line: str) -> None:
    path = write(tmp_path / "large.jsonl", ("t0", Answer("joy", "the light")))
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(UserError, match=r"large\.jsonl:2: "):
        read_teacher("large", path, TASK, TRAIN, TEST)


@given(st.integers(1, 400))
def test_a_file_that_is_cut_off_is_refused(tmp_path_factory: pytest.TempPathFactory, missing: int) -> None:
    """Wherever it is cut within its last line, but for the newline alone, without which the line is whole."""
    path = tmp_path_factory.mktemp("teacher") / "large.jsonl"
    write(path, ("t0", Answer("joy", "the light")), ("t1", Answer("fear", "the dark")))
    whole = path.read_bytes()
    last = len(whole.splitlines()[1])
    path.write_bytes(whole[: -min(missing, last)])
    if missing == 1:
        assert read_teacher("large", path, TASK, TRAIN, TEST).answers.keys() == {"t0", "t1"}
        return
    with pytest.raises(UserError, match=r"large\.jsonl:2: the last line is cut off"):
        read_teacher("large", path, TASK, TRAIN, TEST)


@pytest.mark.parametrize("outcome", [Answer("joy", "the light"), Failed("timeout", "late")])
@pytest.mark.parametrize("split", ["test", "val", "rest"])
def test_a_held_out_image_is_refused_by_id(tmp_path: Path, outcome: Outcome, split: str) -> None:
    held_out = [example("x1", "pictures/artist_other-1.jpg", split)]
    path = write(tmp_path / "large.jsonl", ("t0", Answer("joy", "the light")), ("x1", outcome))
    with pytest.raises(
        UserError, match=rf"1 of its 2 outcomes are about images that are not for training: x1 \({split}\)\."
    ):
        read_teacher("large", path, TASK, TRAIN, held_out)


def test_a_held_out_image_is_refused_under_another_id_and_spelling(tmp_path: Path) -> None:
    path = write(tmp_path / "large.jsonl", *((f"t{i}", Answer("joy", "the light")) for i in range(6)))
    held_out = [example(f"x{i}", f"elsewhere/Artist_Work {i}.png", "test") for i in range(5)]
    with pytest.raises(UserError, match=r"5 of its 6 outcomes .* t0 \(test\), t1 \(test\), t2 \(test\) and 2 more\."):
        read_teacher("large", path, TASK, TRAIN, held_out)


def test_a_number_is_no_name(tmp_path: Path) -> None:
    for folder, colour in (("train", "red"), ("test", "blue")):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (8, 8), colour).save(tmp_path / folder / "0001.png")
    train, test = (example(split, str(tmp_path / split / "0001.png"), split) for split in ("train", "test"))
    path = write(tmp_path / "large.jsonl", ("train", Answer("joy", "the light")))
    assert read_teacher("large", path, TASK, [train], [test]).answers.keys() == {"train"}
    (tmp_path / "test" / "0001.png").write_bytes((tmp_path / "train" / "0001.png").read_bytes())
    with pytest.raises(UserError, match=r"train \(test\)"):
        read_teacher("large", path, TASK, [train], [test])


# ------------------------------------------------------------------------------------------- the command


@pytest.fixture
def colours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """Six coloured squares to train on, three of them without annotations; one to test; all that a training needs."""
    folder = tmp_path / "colours"
    folder.mkdir()
    lines = []
    for index, colour in enumerate(COLOURS):
        Image.new("RGB", (40, 36), colour).save(folder / f"{colour}.png")
        notes = [
            {"emotion": "joy", "explanation": f"{colour} glows"},
            {"emotion": "calm", "explanation": "it is plain"},
        ]
        line = {"id": colour, "image": f"{colour}.png", "split": "train", "annotations": notes if index < 3 else []}
        lines.append(json.dumps(line))
    Image.new("RGB", (40, 36), "black").save(folder / "black.png")
    notes = [{"emotion": "fear", "explanation": "nothing is seen"}]
    lines.append(json.dumps({"id": "black", "image": "black.png", "annotations": notes}))
    (folder / "examples.jsonl").write_text("\n".join(lines) + "\n")
    card = f"name: colours\ndataset: jsonl\nemotions: [{', '.join(LABELS)}]\noptions: {{examples: examples.jsonl}}\n"
    (folder / "colours.yaml").write_text(card + "metrics: [accuracy, annotator_mass, unique]\n")
    torch.manual_seed(5)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    CLIPVisionModel(CLIPVisionConfig(image_size=32, patch_size=16, **sizes)).save_pretrained(folder / "tower")
    capsys.readouterr()  # transformers shows its progress
    return folder


def training(folder: Path, *teachers: str, **changes: Any) -> list[str]:
    settings = {"image_encoder": f"clip:{folder / 'tower'}", "image_size": 32, "encoder_dim": 16, "n_embd": 16}
    settings |= {"n_layer": 1, "n_head": 2, "tokenizer": "train:300", "epochs": 80, "learning_rate": "1.0e-2"}
    settings |= {"label_learning_rate": "1.0e-1", "label_weight_decay": "0.0", "dropout": "0.0", "warmup_steps": 2}
    words = ["train", "sevlm", "--task", str(folder / "colours.yaml"), "--config", "small", "--device", "cpu"]
    words += ["--out", str(folder / "out"), *(word for teacher in teachers for word in ("--teacher", teacher))]
    return words + [f"{key}={value}" for key, value in ({"lexicon": "vader"} | settings | changes).items()]


TAUGHT = {"yellow": "fear", "purple": "calm", "orange": "fear"}


@pytest.mark.slow
def test_unannotated_images_are_learned_by_one_command(harness: Any, colours: Path) -> None:
    answers = [(colour, Answer(emotion, "so it is", {emotion: 3.0, "joy": 1.0})) for colour, emotion in TAUGHT.items()]
    path = write(colours / "large.jsonl", *answers, ("red", Failed("timeout", "late")))
    code, _, err = harness(*training(colours, f"gpt={path}"))
    assert code == 0, err
    assert "teacher gpt: 3 of 4 outcomes are learned; 1 left out: failed\n" in err
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    summary = json.loads((colours / "out" / "training.json").read_text(encoding="utf-8"))
    assert summary["teachers"] == [{"name": "gpt", "file": "large.jsonl", "sha256": digest, "outcomes": 3}]
    assert (summary["pictures"], summary["pictures_without_annotations"]) == (6, 3)
    card = (colours / "out" / "README.md").read_text(encoding="utf-8")
    assert f"| learned from `gpt`, another model | 3 outcomes of large.jsonl, sha256 `{digest}` |" in card
    model = f"sevlm:checkpoint={colours / 'out'},lexicon=vader,n_best=1,overlap=allow"
    asked = ["run", "--tasks", str(colours / "colours.yaml"), "--models", model, "--device", "cpu", "--split", "train"]
    code, _, err = harness(*asked, "--out", str(colours / "run"), "--no-report")
    assert code == 0, err
    lines = (colours / "run" / "outcomes" / "colours" / "sevlm.jsonl").read_text(encoding="utf-8").splitlines()
    given = {line["id"]: line for line in map(json.loads, lines)}
    assert {colour: given[colour]["emotion"] for colour in TAUGHT} == TAUGHT
    assert Counter(line["kind"] for line in given.values()) == {"answer": 6}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"mode": "official", "lemmatizer": "simplemma"},
            "need mode improved with soft_emotion_labels; add: mode=improved",
        ),
        ({"teacher_weight": -1}, "teacher_weight must be at least 0"),
    ],
)
def test_mistakes_of_a_training_end_in_one_line(
    harness: Any, colours: Path, changes: dict[str, Any], message: str
) -> None:
    path = write(colours / "large.jsonl", ("yellow", Answer("fear", "so it is")))
    code, _, err = harness(*training(colours, str(path), **changes))
    assert code == 2
    assert message in err
    assert err.splitlines()[0] == "teacher large: 1 of 1 outcomes are learned"
    assert len([line for line in err.splitlines() if line.startswith("harness: ")]) == 1
    assert not (colours / "out").exists()


@pytest.mark.parametrize(
    ("teachers", "message"),
    [
        (["gone.jsonl"], "--teacher gone.jsonl: no such file"),
        (["a b={}"], "teacher name 'a b'"),
        (["{}", "{}"], "two files share a name"),
        (["leak.jsonl"], "1 of its 1 outcomes are about images that are not for training: black (test)."),
    ],
)
def test_mistakes_of_a_file_end_in_one_line(
    harness: Any, colours: Path, tmp_path: Path, teachers: list[str], message: str
) -> None:
    path = write(colours / "large.jsonl", ("yellow", Answer("fear", "so it is")))
    write(tmp_path / "leak.jsonl", ("black", Answer("fear", "so it is")))
    code, out, err = harness(*training(colours, *(teacher.format(path) for teacher in teachers)))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert not (colours / "out").exists()


@pytest.mark.parametrize("model", ["llava", "text-emotion"])
def test_other_models_do_not_pretend_to_learn_from_it(harness: Any, colours: Path, model: str) -> None:
    path = write(colours / "large.jsonl", ("yellow", Answer("fear", "so it is")))
    code, _, err = harness("train", model, "--task", str(colours / "colours.yaml"), "--teacher", str(path))
    assert code == 2
    assert "--teacher has no meaning here" in err
    assert err.count("\n") == 1
