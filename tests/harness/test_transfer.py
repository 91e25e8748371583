from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from harness.cli import main
from harness.infer.run import mapped
from harness.plan.contamination import image_key, record_training, refuse_overlap, trained_images
from harness.plan.models import parse_models
from harness.types import Answer, Example, Failed, Unparsed, UserError

MAP = {"amusement": "happiness", "contentment": "happiness", "fear": "fear"}


def example(image: str) -> Example:
    return Example(image, Path(image), (), {})


def test_labels_are_mapped_and_probabilities_summed():
    probabilities = {"amusement": 0.2, "contentment": 0.3, "fear": 0.3, "awe": 0.2}
    outcome = mapped(Answer("contentment", "the sun", probabilities, "raw"), MAP)
    assert isinstance(outcome, Answer)
    assert (outcome.emotion, outcome.explanation, outcome.raw) == ("happiness", "the sun", "raw")
    assert outcome.emotion_probs == pytest.approx({"happiness": 0.625, "fear": 0.375})


def test_a_label_without_counterpart_is_no_answer():
    assert mapped(Answer("awe", "the sky"), MAP) == Unparsed("awe because the sky", reason="label outside the task")
    assert mapped(Failed("timeout", "x"), MAP) == Failed("timeout", "x")
    assert mapped(Answer("fear", "x", {"awe": 1.0}), MAP) == Answer("fear", "x", None)


def test_the_same_picture_under_other_spellings():
    names = ["a/ren\u00e9-magritte_la-clef.jpg", "b/rene\u0301-magritte_la-clef.png", "Rene-Magritte_la clef.jpg"]
    assert len({image_key(example(name)) for name in names}) == 1
    assert image_key(example("other.jpg")) != image_key(example(names[0]))


def test_a_checkpoint_remembers_its_pictures(tmp_path):
    assert trained_images(tmp_path) == []
    with record_training(tmp_path, "artemis", [example("x.jpg"), example("y.jpg")]):
        assert trained_images(tmp_path) == []
    ((task, seen),) = trained_images(tmp_path)
    assert task == "artemis"
    refuse_overlap("sevlm", task, seen, "artemis-v2", [example("z.jpg")])
    with pytest.raises(UserError, match=r"trained on 1 of the 2 images of task 'artemis-v2' .*'artemis'\): v2/x.jpg\."):
        refuse_overlap("sevlm", task, seen, "artemis-v2", [example("v2/x.jpg"), example("z.jpg")])
    (tmp_path / "trained_on.json").write_text("{}")
    with pytest.raises(UserError, match="train again"):
        trained_images(tmp_path)


def test_settings_of_every_model():
    plain, moved = parse_models("a,b:trained_on=artemis,overlap=allow,k=1")
    assert (plain.trained_on, plain.overlap_allowed) == (None, False)
    assert (moved.trained_on, moved.overlap_allowed, dict(moved.settings)) == ("artemis", True, {"k": "1"})
    with pytest.raises(UserError, match="expected refuse or allow"):
        parse_models("a:overlap=yes")


@pytest.fixture
def two_tasks(tmp_path):
    """`source` with labels joy, gloom, else; `target` with happy, sad and one training picture of the source."""
    for name, labels, extra in (
        ("source", ["joy", "gloom", "else"], ""),
        ("target", ["happy", "sad"], "label_maps: {source: {joy: happy, gloom: sad}}\nratings: {valence: [1, 7]}\n"),
    ):
        (tmp_path / name).mkdir()
        lines = []
        for i in range(12):
            file = f"{name}-{i}.png" if (name, i) != ("target", 11) else "source-0.png"
            Image.new("RGB", (8, 8), "teal").save(tmp_path / name / file)
            note = {"emotion": labels[0 if i < 6 else 1], "explanation": f"because of {i}"}
            line = {"id": str(i), "image": file, "split": "train" if i < 5 else "test", "annotations": [note]}
            lines.append(json.dumps(line))
        (tmp_path / name / "examples.jsonl").write_text("\n".join(lines))
        card = f"name: {name}\ndataset: jsonl\nemotions: [{', '.join(labels)}]\noptions: {{examples: examples.jsonl}}\n"
        card += "metrics: [accuracy, polarity_accuracy]\n"
        (tmp_path / name / "card.yaml").write_text(card + extra)
    return tmp_path / "source" / "card.yaml", tmp_path / "target" / "card.yaml"


def test_train_on_one_test_on_another_is_one_command(two_tasks, tmp_path, capsys):
    source, target = two_tasks
    command = [
        "run",
        "--tasks",
        str(target),
        "--no-report",
        "--data-root",
        str(tmp_path / "data"),
        "--out",
        str(tmp_path / "run"),
    ]
    assert main([*command, "--models", f"majority:trained_on={source}"]) == 2
    assert "was trained on 1 of the 7 images of task 'target'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert main([*command, "--models", f"majority:trained_on={source},overlap=allow"]) == 0
    lines = [
        json.loads(line)
        for line in (tmp_path / "run" / "outcomes" / "target" / "majority.jsonl").read_text().splitlines()
    ]
    assert {line["emotion"] for line in lines} == {"happy"}
    assert {line["explanation"] for line in lines} == {"because of 0"}


def test_tasks_without_a_shared_label(two_tasks, tmp_path, capsys):
    source, target = two_tasks
    command = [
        "run",
        "--tasks",
        str(source),
        "--models",
        f"majority:trained_on={target}",
        "--out",
        str(tmp_path / "run"),
    ]
    assert main(command) == 2
    assert "shares no label with" in capsys.readouterr().err


def test_a_new_checkpoint_is_never_without_its_record_and_a_refused_one_leaves_nothing(tmp_path):
    with record_training(tmp_path / "new", "artemis", [example("x.jpg")]):
        assert trained_images(tmp_path / "new")  # killed here, the record is there
    with pytest.raises(UserError, match="no lexicon"), record_training(tmp_path / "refused", "artemis", []):
        raise UserError("no lexicon")
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_what_a_checkpoint_started_from_is_remembered_and_refused(two_tasks, tmp_path, capsys):
    _, target = two_tasks
    first, second = tmp_path / "first", tmp_path / "data" / "target" / "checkpoints" / "sevlm"
    with record_training(first, "source", [example("source-0.png")]):
        pass
    with record_training(second, "target", [example("target-6.png")], first):
        pass
    assert [task for task, _ in trained_images(second)] == ["target", "source"]
    command = ["run", "--tasks", str(target), "--data-root", str(tmp_path / "data"), "--out", str(tmp_path / "run")]
    assert main([*command, "--models", "sevlm"]) == 2
    assert "trained on 1 of the 7 images of task 'target' (training split of 'source')" in capsys.readouterr().err


def test_a_checkpoint_without_a_record_is_taken_at_its_word(two_tasks, tmp_path, capsys):
    source, target = two_tasks
    (tmp_path / "converted").mkdir()
    model = f"sevlm:trained_on={source},checkpoint={tmp_path / 'converted'}"
    assert main(["run", "--tasks", str(target), "--models", model, "--out", str(tmp_path / "run")]) == 2
    assert "trained on 1 of the 7 images of task 'target' (training split of 'source')" in capsys.readouterr().err
